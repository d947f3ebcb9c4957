//! Finding an engine's replicas by name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tenancy::catalogue::{DnsEndpoints, EndpointsSpec, split_address};

use super::group::Group;
use crate::upstream::{Reach, permitted_addresses};

/// 5 s: a resolver that is asked twice by its libraries' defaults.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

impl Group {
    /// Looks anew who there is, if it is time to.
    pub(super) fn look_if_due(self: &Arc<Self>, reach: Reach) {
        match &self.source {
            EndpointsSpec::Static(_) => {}
            EndpointsSpec::Dns(dns) => self.resolve_if_due(dns, reach),
            EndpointsSpec::Kubernetes(service) => self.follow(service),
        }
    }

    fn resolve_if_due(self: &Arc<Self>, dns: &DnsEndpoints, reach: Reach) {
        let now = self.parts.clock.elapsed();
        if *self.next_look.lock() > now || self.is_looked_for.swap(true, Ordering::AcqRel) {
            return;
        }
        *self.next_look.lock() = now + Duration::from_millis(dns.every_ms);
        let (group, name) = (Arc::clone(self), dns.name.clone());
        self.parts.supervisor.spawn(async move {
            group.resolve(&name, reach).await;
            group.is_looked_for.store(false, Ordering::Release);
        });
    }

    /// A name that cannot be resolved changes nothing: who was there may still be.
    async fn resolve(&self, name: &str, reach: Reach) {
        let Some((host, port)) = split_address(name) else {
            return; // Publishing refuses such.
        };
        let network = &*self.parts.network;
        let found = permitted_addresses(network, host, port, reach);
        match tokio::time::timeout(RESOLVE_MAX, found).await {
            Ok(Ok(found)) => self.found(found.iter().map(ToString::to_string).collect()),
            Ok(Err(error)) => tracing::warn!(%name, %error, "an upstream's name has no address"),
            Err(_) => tracing::warn!(%name, "an upstream's name was not resolved in time"),
        }
    }
}
