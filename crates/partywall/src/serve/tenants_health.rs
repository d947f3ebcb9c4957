//! How tenants' calls went, by the gateway.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Name, TenantId, Timestamp};
use control::api::{HealthFigures, Quantiles};
use control::{FleetHealth, HealthHour, HealthReader};
use gateway::{Distribution, Gateway};

/// Reads the last hour from the gateway's memory.
pub(super) struct TenantsHealth {
    pub(super) gateway: Gateway,
    pub(super) clock: Arc<dyn Clock>,
}

impl HealthReader for TenantsHealth {
    fn all(&self) -> FleetHealth {
        let mut sum = gateway::HealthFigures::default();
        let mut tenants = std::collections::HashMap::new();
        for (tenant, hour) in self.gateway.health_of_all() {
            sum.add(&hour.sum);
            tenants.insert(tenant, self.hour(&hour));
        }
        FleetHealth {
            sum: figures(&sum),
            tenants,
        }
    }

    fn tenant(&self, tenant: TenantId) -> Option<HealthHour> {
        let hour = self.gateway.health(tenant)?;
        Some(self.hour(&hour))
    }

    fn pulse(&self) -> u64 {
        self.gateway.pulse()
    }

    fn pulse_of(&self, tenant: TenantId) -> u64 {
        self.gateway.pulse_of(tenant)
    }

    fn open_breakers(&self) -> Vec<(Name, Vec<TenantId>)> {
        self.gateway.open_breakers()
    }
}

impl TenantsHealth {
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
