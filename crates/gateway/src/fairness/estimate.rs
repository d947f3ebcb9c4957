//! What a call is told of its wait: honest, and early.

use std::time::Duration;

use super::line::Order;
use super::options::FairnessOptions;
use super::rate::{Load, ServiceRate};
use super::tenant::Tenant;
use super::ticket::{Band, Refused, Ticket};

/// Where a waiting call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceInLine {
    /// Calls of the same tenant and band that go first.
    pub own_ahead: u32,
    /// Calls of everybody that are likely to go first.
    pub ahead: u32,
    /// How long it will probably wait; `None` before any call of the upstream ended.
    pub expected: Option<Duration>,
}

/// A second: shorter would have clients spin.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Ten minutes: beyond that an estimate says nothing, and SDKs give up at two.
const ESTIMATE_MAX: Duration = Duration::from_secs(600);

/// What an estimate is made from.
pub(super) struct Outlook<'a> {
    pub(super) options: &'a FairnessOptions,
    pub(super) orders: &'a [Order; 3],
    pub(super) rate: &'a ServiceRate,
    /// Places of the upstream.
    pub(super) places: u32,
    /// Calls that wait, of all tenants.
    pub(super) waiting: u32,
    pub(super) load: Load,
    pub(super) now: Duration,
}

impl Outlook<'_> {
    /// Whether a call may wait.
    pub(super) fn check(&self, tenant: &Tenant, ticket: &Ticket) -> Result<(), Refused> {
        let own_ahead = tenant.lines[ticket.band.index()].waiting.len() as u32;
        let expected = self.place(tenant, ticket.band, own_ahead).expected;
        let expected = expected.unwrap_or_default();
        let retry_after = expected
            .saturating_sub(ticket.patience)
            .max(RETRY_AFTER_MIN);
        let room = self.options.waiting_max.saturating_sub(self.waiting);
        if room == 0 {
            return Err(Refused::QueueFull { retry_after });
        }
        if tenant.waiting >= self.options.waiting_per_tenant_max.min(room) {
            return Err(Refused::TenantQueueFull { retry_after });
        }
        if expected > ticket.patience {
            return Err(Refused::TooLong {
                expected,
                retry_after,
            });
        }
        Ok(())
    }

    /// Before a call with `own_ahead` of its tenant's in front of it, others in its band go as
    /// their weights say, as far as they wait; those of more urgent bands go too, unless this
    /// band's share brings it forward. At the rate at which places are freed, or, for a tenant
    /// with a cap, at which its own are.
    pub(super) fn place(&self, tenant: &Tenant, band: Band, own_ahead: u32) -> PlaceInLine {
        let order = &self.orders[band.index()];
        let line = &tenant.lines[band.index()];
        let turns = u64::from(own_ahead) + 1;
        let weight = u64::from(tenant.terms.weight.get());
        let own_weight = if line.is_ready() { weight } else { 0 };
        let weights_of_others = order.weights().saturating_sub(own_weight);
        let others_waiting = u64::from(order.waiting) - line.waiting.len() as u64;
        let others = others_waiting.min((turns * weights_of_others).div_ceil(weight));
        let in_band = u64::from(own_ahead) + others;
        let more_urgent: u64 = self.orders[..band.index()]
            .iter()
            .map(|order| u64::from(order.waiting))
            .sum();
        let by_share = (in_band + 1) * 1_000 / u64::from(self.options.share(band));
        let ahead = (in_band + more_urgent).min(by_share);
        let rate = self.rate.per_second(self.places, self.now, self.load);
        let expected = rate.map(|rate| {
            let by_rate = (ahead + 1) as f64 / rate.max(f64::MIN_POSITIVE);
            seconds(by_rate.max(self.seconds_at_cap(tenant, turns)))
        });
        PlaceInLine {
            own_ahead,
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
            expected,
        }
    }

    /// How long so many turns of a tenant take that its cap holds back; nothing without a cap.
    fn seconds_at_cap(&self, tenant: &Tenant, turns: u64) -> f64 {
        let cap = tenant.terms.concurrency_max.max(1);
        if cap >= self.places {
            return 0.0;
        }
        let hold = self.rate.hold_seconds().unwrap_or_default();
        turns as f64 * hold / f64::from(cap)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(ESTIMATE_MAX)
        .min(ESTIMATE_MAX)
}
