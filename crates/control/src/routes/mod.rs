//! The route table: every endpoint of the admin API, a file for each group.

mod adapters;
mod alerts;
mod audit;
mod backups;
mod billing;
mod bodies;
mod cache;
mod calls;
mod costs;
mod crud;
mod health;
mod keys;
mod moves;
mod platform;
mod prices;
mod prompts;
mod provider_bills;
mod publish;
mod reconcile;
mod replicas;
mod shared_costs;
mod tenants;
mod upgrades;
mod upstreams;
mod usage;

use crate::endpoint::{Call, Endpoint};
use crate::error::ApiError;
use crate::options::MetricsAccess;
use crate::publisher::Act;

/// Every endpoint.
pub(crate) fn endpoints(metrics: MetricsAccess) -> Vec<Endpoint> {
    let groups = [
        platform::endpoints(metrics),
        crud::endpoints(),
        adapters::endpoints(),
        tenants::endpoints(),
        moves::endpoints(),
        replicas::endpoints(),
        upgrades::endpoints(),
        keys::endpoints(),
        publish::endpoints(),
        prices::endpoints(),
        prompts::endpoints(),
        upstreams::endpoints(),
        health::endpoints(),
        alerts::endpoints(),
        calls::endpoints(),
        bodies::endpoints(),
        usage::endpoints(),
        costs::endpoints(),
        billing::endpoints(),
        shared_costs::endpoints(),
        provider_bills::endpoints(),
        reconcile::endpoints(),
        cache::endpoints(),
        audit::endpoints(),
        backups::endpoints(),
    ];
    groups.into_iter().flatten().collect()
}

impl<Q, B> Call<Q, B> {
    /// This call as an act on record. What it does inside a tenant stands in that tenant's own
    /// log too.
    fn act(&self, target: impl Into<String>, note: Option<&str>) -> Result<Act, ApiError> {
        let reason = note.or(self.reason.as_deref());
        let act = Act::new(self.caller.actor(), &self.operation_id, target, reason)?;
        Ok(match self.tenant_if_any() {
            Some(tenant) => act.in_log_of(&tenant.unlocked),
            None => act,
        })
    }

    /// Why the caller looks into the tenant, in its own words or in ours.
    fn reason_to_enter(&self) -> String {
        let given = self
            .reason
            .clone()
            .filter(|reason| !reason.trim().is_empty());
        given.unwrap_or_else(|| format!("admin API: {}", self.operation_id))
    }
}
