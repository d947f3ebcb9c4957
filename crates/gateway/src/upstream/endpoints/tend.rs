//! What is done for an upstream's places each second: who they are, how they are, what they have
//! to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::Entropy;

use super::load::EngineLoad;
use super::{Endpoint, Endpoints, Reading};
use crate::resilience::Probe;
use crate::upstream::Upstream;

/// 1 MiB: vLLM's page has some hundred kilobytes with every histogram.
const METRICS_BYTES_MAX: usize = 1 << 20;

impl Upstream {
    /// Begins what is due, and says how many calls the places that are fit take together.
    pub(crate) fn tend(self: &Arc<Self>, entropy: &Arc<dyn Entropy>) {
        if let Endpoints::Many(group) = &self.endpoints {
            group.look_if_due(self.reach());
            self.set_places();
        }
        if self.spec.health.is_none() && self.spec.engine_metrics.is_none() {
            return;
        }
        for endpoint in self.endpoints.all() {
            // One question at a time: each ends within its patience.
            if endpoint.is_asked.swap(true, Ordering::AcqRel) {
                continue;
            }
            let (upstream, entropy) = (Arc::clone(self), Arc::clone(entropy));
            self.parts.supervisor.spawn(async move {
                upstream.ask_what_is_due(&endpoint, &*entropy).await;
                endpoint.is_asked.store(false, Ordering::Release);
            });
        }
    }

    async fn ask_what_is_due(&self, endpoint: &Endpoint, entropy: &dyn Entropy) {
        let now = self.parts.clock.elapsed();
        let due = *endpoint.agenda.lock();
        if let Some(metrics) = &self.spec.engine_metrics
            && due.reading <= now
        {
            let every = Duration::from_millis(metrics.every_ms);
            endpoint.agenda.lock().reading = now + jittered(every, entropy);
            let page = self.ask(endpoint, &metrics.path, METRICS_BYTES_MAX).await;
            let page = page.and_then(|page| String::from_utf8(page.into()).ok());
            if let Some(load) = page.as_deref().and_then(EngineLoad::parse) {
                *endpoint.reading.lock() = Some(Reading {
                    load,
                    own: endpoint.own(),
                    at: self.parts.clock.elapsed(),
                });
            }
        }
        if let Some(health) = &self.spec.health
            && due.probe <= now
        {
            let every = Duration::from_millis(health.every_ms);
            endpoint.agenda.lock().probe = now + jittered(every, entropy);
            let is_well = self.ask(endpoint, &health.path, 0).await.is_some();
            self.probed(endpoint, is_well, entropy);
        }
    }

    fn probed(&self, endpoint: &Endpoint, is_well: bool, entropy: &dyn Entropy) {
        if !is_well {
            tracing::warn!(upstream = %self.name, endpoint = %endpoint.address, "a health probe failed");
        }
        let Endpoints::Many(group) = &self.endpoints else {
            return self.gate.probed(is_well, entropy.next_u64());
        };
        let probe = if is_well {
            Probe::Passed
        } else {
            Probe::Failed
        };
        group.probed(endpoint, probe);
        if is_well {
            endpoint.was_reached();
        }
        // The upstream as a whole is down once none of them answers.
        if is_well || !group.has_healthy() {
            self.gate.probed(is_well, entropy.next_u64());
        }
    }
}

/// Nine to eleven tenths of it, so that questions to many engines do not come together.
fn jittered(every: Duration, entropy: &dyn Entropy) -> Duration {
    let share = (entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    every.mul_f64(0.9 + 0.2 * share)
}
