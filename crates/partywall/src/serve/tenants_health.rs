//! How tenants' calls went, by the gateway.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Name, TenantId, Timestamp};
use control::api::{HealthFigures, Quantiles};
use control::{Coverage, FleetHealth, HealthHour, HealthReader, HourOfFleet, MinuteOfFleet};
use gateway::{Distribution, Gateway, MinuteCounts};

use super::told_calls::{ToldCalls, ToldHour};

/// Reads the last hour from the gateway's memory, and what other replicas told of theirs.
pub(super) struct TenantsHealth {
    pub(super) gateway: Gateway,
    pub(super) clock: Arc<dyn Clock>,
    /// None where there is one process.
    pub(super) told: Option<Arc<ToldCalls>>,
}

impl HealthReader for TenantsHealth {
    fn all(&self) -> FleetHealth {
        let mut told = self.told.as_ref().map(|told| told.hour());
        let mut called = self.gateway.tenants_that_called();
        called.extend(told.iter().flat_map(ToldHour::tenants));
        let mut sum = gateway::HealthFigures::default();
        let mut tenants = HashMap::with_capacity(called.len());
        for tenant in called {
            let mut counted = Counted::default();
            let mut add = |place, counts: MinuteCounts<'_>| counted.add(place, counts);
            self.gateway.each_minute_of(tenant, &mut add);
            if let Some(told) = &mut told {
                told.each_minute_of(tenant, &mut add);
            }
            if !counted.sum.is_empty() {
                sum.add(&counted.sum);
                tenants.insert(tenant, counted.hour());
            }
        }
        FleetHealth {
            sum: figures(&sum),
            tenants,
            began: self.beginnings(gateway::HEALTH_MINUTES),
        }
    }

    fn tenant(&self, tenant: TenantId) -> Option<HealthHour> {
        self.counted(tenant).map(|hour| self.hour(&hour))
    }

    fn pulse(&self) -> u64 {
        let told = self.told.as_ref().map_or(0, |told| told.pulse());
        self.gateway.pulse().wrapping_add(told)
    }

    fn pulse_of(&self, tenant: TenantId) -> u64 {
        let told = self.told.as_ref();
        let told = told.map_or(0, |told| told.pulse_of(tenant));
        self.gateway.pulse_of(tenant).wrapping_add(told)
    }

    fn open_breakers(&self) -> Vec<(Name, Vec<TenantId>)> {
        let own = self.gateway.open_breakers();
        let Some(told) = &self.told else {
            return own;
        };
        let mut all: BTreeMap<Name, BTreeSet<TenantId>> = BTreeMap::new();
        for (upstream, tenants) in own.into_iter().chain(told.open_breakers()) {
            all.entry(upstream).or_default().extend(tenants);
        }
        let all = all.into_iter();
        all.map(|(upstream, tenants)| (upstream, tenants.into_iter().collect()))
            .collect()
    }

    fn coverage(&self) -> Coverage {
        let Some(told) = &self.told else {
            return Coverage::default();
        };
        let missing = told.missing();
        Coverage {
            since: told.since(),
            incomplete_since: missing.since,
            silent: missing.silent,
        }
    }
}

/// One tenant's hour, while it is added up: 1.5 KB.
struct Counted {
    sum: gateway::HealthFigures,
    minutes: [MinuteOfFleet; gateway::HEALTH_MINUTES],
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            sum: gateway::HealthFigures::default(),
            minutes: [MinuteOfFleet::default(); gateway::HEALTH_MINUTES],
        }
    }
}

impl Counted {
    fn add(&mut self, place: usize, counts: MinuteCounts<'_>) {
        let (calls, failed) = (self.sum.calls(), self.sum.failed);
        counts.add_to(&mut self.sum);
        if let Some(minute) = self.minutes.get_mut(place) {
            minute.calls += self.sum.calls() - calls;
            minute.failed += self.sum.failed - failed;
        }
    }

    fn hour(&self) -> HourOfFleet {
        HourOfFleet {
            sum: figures(&self.sum),
            minutes: self.minutes.to_vec(),
        }
    }
}

impl TenantsHealth {
    /// The hour of one tenant, over all replicas; none if it has not called in it.
    fn counted(&self, tenant: TenantId) -> Option<gateway::HealthHour> {
        let own = self.gateway.health(tenant);
        let Some(told) = &self.told else {
            return own;
        };
        let mut hour = own.unwrap_or_else(gateway::HealthHour::empty);
        told.add_to(tenant, &mut hour);
        (!hour.is_empty()).then_some(hour)
    }

    fn hour(&self, hour: &gateway::HealthHour) -> HealthHour {
        HealthHour {
            sum: figures(&hour.sum),
            minutes: hour.minutes.iter().map(figures).collect(),
            began: self.beginnings(hour.minutes.len()),
        }
    }

    /// When each minute began: they are counted from the process's own beginning.
    fn beginnings(&self, minutes: usize) -> Vec<Timestamp> {
        let into_minute = Duration::from_micros(
            u64::try_from(self.clock.elapsed().as_micros() % 60_000_000).unwrap_or(0),
        );
        let last = self.clock.now().minus(into_minute);
        let minutes = u32::try_from(minutes).unwrap_or(u32::MAX);
        let before = |minute| Duration::from_secs(60) * (minutes - 1 - minute);
        (0..minutes)
            .map(|minute| last.minus(before(minute)))
            .collect()
    }
}

fn figures(figures: &gateway::HealthFigures) -> HealthFigures {
    HealthFigures {
        calls: figures.calls(),
        failed: figures.failed,
        refused: figures.refused,
        abandoned: figures.abandoned,
        duration: quantiles(&figures.durations),
        first_chunk: quantiles(&figures.first_chunks),
        queue_wait: quantiles(&figures.waits),
    }
}

fn quantiles(of: &Distribution) -> Option<Quantiles> {
    let millis = |permille| {
        let quantile = of.quantile(permille)?;
        u64::try_from(quantile.as_millis()).ok()
    };
    Some(Quantiles {
        p50_ms: millis(500)?,
        p95_ms: millis(950)?,
        p99_ms: millis(990)?,
    })
}
