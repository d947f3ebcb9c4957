//! The gate in front of one upstream: who goes next, who may not go for now, and what the calls
//! that went have taught.

use std::sync::Arc;

use base::{Clock, ModelName, TenantId};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tenancy::catalogue::{AdaptiveConcurrency, Priority, TierSpec, UpstreamSpec};

use crate::fairness::{
    Band, FairnessOptions, OutputPredictor, PredictorOptions, SchedulerView, TenantTerms,
    Turnstile, Weight,
};
use crate::resilience::{
    AdaptiveLimit, AdaptiveOptions, BreakersOptions, Feedback, Open, ProviderState,
    UpstreamBreakers,
};

/// One upstream's turnstile, breakers and what is known of its answers. Its locks are short and
/// never held across an await.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) turnstile: Arc<Turnstile>,
    pub(super) breakers: Mutex<UpstreamBreakers>,
    pub(super) predictor: Mutex<OutputPredictor>,
    /// None where the operator alone says how many calls it takes.
    adaptive: Option<Mutex<AdaptiveLimit>>,
    /// For whom places are kept, so that those are let go for whom they no longer are.
    reserved: Mutex<HashMap<TenantId, TenantTerms>>,
    pub(super) clock: Arc<dyn Clock>,
}

/// An upstream's gate, as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateView {
    pub(crate) line: SchedulerView,
    pub(crate) provider: ProviderState,
    /// Tenants whose own breaker is open or half open.
    pub(crate) open_tenants: usize,
    /// Replicas by state, as [`EndpointState::ALL`] has them, where there are several.
    pub(crate) endpoints: Option<[u32; 4]>,
}

impl Gate {
    /// A gate that is open to everybody.
    pub(super) fn new(spec: &UpstreamSpec, clock: Arc<dyn Clock>) -> Arc<Self> {
        let options = AdaptiveOptions::up_to(spec.concurrency_max);
        let adaptive = match spec.adaptive_concurrency {
            AdaptiveConcurrency::Off => None,
            AdaptiveConcurrency::On => Some(AdaptiveLimit::new(options)),
        };
        let limit = adaptive
            .as_ref()
            .map_or(spec.concurrency_max, AdaptiveLimit::limit);
        Arc::new(Self {
            turnstile: Turnstile::new(FairnessOptions::default(), limit, Arc::clone(&clock)),
            breakers: Mutex::new(UpstreamBreakers::new(BreakersOptions::from(&spec.breaker))),
            predictor: Mutex::new(OutputPredictor::new(PredictorOptions::default())),
            adaptive: adaptive.map(Mutex::new),
            reserved: Mutex::default(),
            clock,
        })
    }

    /// Whether a tenant's call may go, by what became of earlier ones.
    ///
    /// # Errors
    ///
    /// [`Open`]: not for now.
    pub(crate) fn is_open_to(&self, tenant: TenantId) -> Result<(), Open> {
        self.breakers.lock().peek(tenant, self.clock.elapsed())
    }

    /// Tokens that the answer to a tenant's call will probably have.
    pub(crate) fn predict(&self, tenant: TenantId, model: &ModelName, output_max: u32) -> u32 {
        let predictor = self.predictor.lock();
        predictor.predict(tenant, model, None, output_max)
    }

    /// Keeps places for these tenants from now on, and for no others.
    pub(crate) fn reserve(&self, next: HashMap<TenantId, TenantTerms>) {
        let mut reserved = self.reserved.lock();
        for (tenant, terms) in &*reserved {
            if !next.contains_key(tenant) {
                // What else its tier gives it comes with its next call.
                let none = TenantTerms {
                    reserved: 0,
                    ..*terms
                };
                self.turnstile.set_terms(*tenant, none);
            }
        }
        for (tenant, terms) in &next {
            self.turnstile.set_terms(*tenant, *terms);
        }
        *reserved = next;
    }

    /// What a call says of the load, where that decides how many there may be.
    pub(super) fn learn(&self, feedback: Feedback) {
        let Some(adaptive) = &self.adaptive else {
            return;
        };
        let in_flight = self.turnstile.view().in_flight;
        let now = self.clock.elapsed();
        // Under its lock, so that the last limit found is the last one set.
        let mut adaptive = adaptive.lock();
        if let Some(limit) = adaptive.observe(feedback, in_flight, now) {
            self.turnstile.set_limit(limit);
        }
    }

    /// There may be so many calls at one time from now on; those under way stay.
    pub(super) fn set_places(&self, places: u32) {
        if self.turnstile.view().limit != places {
            self.turnstile.set_limit(places);
        }
    }

    /// What came of asking it; and chance, random over all of `u64`.
    pub(super) fn probed(&self, is_well: bool, chance: u64) {
        let mut breakers = self.breakers.lock();
        match is_well {
            true => breakers.probe_succeeded(),
            false => breakers.probe_failed(self.clock.elapsed(), chance),
        }
    }

    /// The tenants whose own calls fail here.
    pub(crate) fn open_tenants(&self) -> Vec<TenantId> {
        self.breakers.lock().open().collect()
    }

    /// How it is now.
    pub(crate) fn view(&self) -> GateView {
        let line = self.turnstile.view();
        let breakers = self.breakers.lock();
        GateView {
            line,
            provider: breakers.provider(),
            open_tenants: breakers.open_tenants(),
            endpoints: None,
        }
    }
}

/// What a tier gives each of its tenants at an upstream.
pub(crate) fn terms_of(tier: &TierSpec) -> TenantTerms {
    TenantTerms {
        // Publishing refuses zero.
        weight: Weight::new(tier.weight).unwrap_or(Weight::ONE),
        reserved: tier.upstream_concurrency_reserved,
        concurrency_max: tier.upstream_concurrency_max.unwrap_or(u32::MAX),
    }
}

/// The band of a priority.
pub(crate) fn band_of(priority: Priority) -> Band {
    match priority {
        Priority::Interactive => Band::Interactive,
        Priority::Standard => Band::Standard,
        Priority::Background => Band::Background,
    }
}
