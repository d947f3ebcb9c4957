//! The breakers of one upstream: one for each tenant, and one for all that no tenant alone opens.

use std::time::Duration;

use base::TenantId;
use hashbrown::HashMap;
use tenancy::catalogue::BreakerSpec;

use super::breaker::{Breaker, BreakerOptions, BreakerState, Permit};
use super::fault::{Fault, RETRY_AFTER_MAX, TenantFault};

/// When an upstream's breakers open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakersOptions {
    /// Each tenant's.
    pub tenant: BreakerOptions,
    /// Tenants that have to fail within the window before the upstream counts as down for all.
    pub tenants_min: u32,
    /// Of the tenants that called within the window, how many per cent.
    pub tenants_percent: u32,
    /// The provider's failures of one tenant in a row from which on it counts as failing.
    pub faults_min: u32,
    /// Health probes in a row that fail before the upstream counts as down.
    pub probes_failed: u32,
    /// Tenants that are remembered.
    pub tenants_max: usize,
}

impl From<&BreakerSpec> for BreakersOptions {
    fn from(spec: &BreakerSpec) -> Self {
        let usual = Self::default();
        Self {
            tenant: BreakerOptions {
                consecutive_failures: spec.failures_in_a_row,
                failure_percent: spec.failure_percent,
                open_min: Duration::from_millis(spec.open_ms),
                open_max: Duration::from_millis(spec.open_ms_max),
                ..usual.tenant
            },
            tenants_min: if spec.is_on() {
                usual.tenants_min
            } else {
                u32::MAX
            },
            ..usual
        }
    }
}

impl Default for BreakersOptions {
    fn default() -> Self {
        Self {
            tenant: BreakerOptions::default(),
            // 3 tenants, and half of those that called: two may share what is wrong with them.
            tenants_min: 3,
            tenants_percent: 50,
            // 3: below the five that open a tenant's own, so that all profit from an outage that
            // many see.
            faults_min: 3,
            // 3: at one probe every few seconds, ten seconds.
            probes_failed: 3,
            // 65,536 tenants: about 25 MB if all of them fail.
            tenants_max: 65_536,
        }
    }
}

/// Whether an upstream works, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderState {
    /// As far as is known.
    Working,
    /// It is not called until then.
    Down {
        /// When tenants may try again.
        until: Duration,
    },
    /// Each tenant may try one call at a time. One success is enough; several tenants have to
    /// fail again before it counts as down again.
    Probation,
}

/// Why a call may not go to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Open {
    /// This tenant's calls of it fail.
    #[error("calls of this upstream fail for this tenant")]
    ForTenant {
        /// When to come back.
        retry_after: Duration,
    },
    /// The upstream is down.
    #[error("the upstream is down")]
    ForAll {
        /// When to come back.
        retry_after: Duration,
    },
}

/// That a call may go. Give it back with what became of the call.
#[derive(Debug)]
#[must_use = "report what became of the call"]
pub struct Guarded {
    tenant: TenantId,
    permit: Permit,
}

/// The breakers of one upstream.
///
/// A tenant's breaker hears of its own calls alone. The one for all opens when several tenants,
/// and at least half of those that call, see the provider fail, or when health probes do; each
/// tenant counts once, however often it fails (invariant 12).
#[derive(Debug)]
pub struct UpstreamBreakers {
    options: BreakersOptions,
    tenants: HashMap<TenantId, Seen>,
    provider: ProviderState,
    /// Times that it was found down since it last worked.
    outages: u32,
    probes_failed: u32,
    sweep_at: usize,
}

#[derive(Debug)]
struct Seen {
    breaker: Breaker,
    /// The provider's failures in a row.
    faults: u32,
    /// When it last heard of the upstream, one way or the other.
    heard: Duration,
    /// Its call during probation: since when.
    trying: Option<Duration>,
}

impl Seen {
    /// Whether its one call of the probation is under way.
    fn is_trying(&self, now: Duration) -> bool {
        self.trying
            .is_some_and(|since| now.saturating_sub(since) < TRY_PATIENCE)
    }
}

/// 60 s: a try whose end nobody reported is taken for lost.
const TRY_PATIENCE: Duration = Duration::from_secs(60);
/// 64: below that, looking for tenants to forget is not worth it.
const SWEEP_MIN: usize = 64;

impl Open {
    /// When to come back.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::ForTenant { retry_after } | Self::ForAll { retry_after } => *retry_after,
        }
    }
}

impl UpstreamBreakers {
    /// Breakers that are all closed.
    pub fn new(options: BreakersOptions) -> Self {
        Self {
            options,
            tenants: HashMap::new(),
            provider: ProviderState::Working,
            outages: 0,
            probes_failed: 0,
            sweep_at: SWEEP_MIN,
        }
    }

    /// Whether the upstream works, over all tenants.
    pub fn provider(&self) -> ProviderState {
        self.provider
    }

    /// The state of a tenant's own breaker.
    pub fn tenant(&self, tenant: TenantId) -> BreakerState {
        self.tenants
            .get(&tenant)
            .map_or(BreakerState::Closed, |seen| seen.breaker.state())
    }

    /// Tenants whose own breaker lets no call, or one at a time, through.
    pub fn open_tenants(&self) -> usize {
        self.open().count()
    }

    /// Those tenants.
    pub fn open(&self) -> impl Iterator<Item = TenantId> {
        let seen = self.tenants.iter();
        let open = seen.filter(|(_, seen)| seen.breaker.state() != BreakerState::Closed);
        open.map(|(tenant, _)| *tenant)
    }

    /// Whether [`UpstreamBreakers::ask`] would let a tenant's call go.
    ///
    /// # Errors
    ///
    /// [`Open`].
    pub fn peek(&self, tenant: TenantId, now: Duration) -> Result<(), Open> {
        if let ProviderState::Down { until } = self.provider
            && now < until
        {
            let retry_after = until - now;
            return Err(Open::ForAll { retry_after });
        }
        let Some(seen) = self.tenants.get(&tenant) else {
            return Ok(());
        };
        if self.provider == ProviderState::Probation && seen.is_trying(now) {
            return Err(Open::ForAll {
                retry_after: self.options.tenant.open_min,
            });
        }
        let peeked = seen.breaker.peek(now);
        peeked.map_err(|retry_after| Open::ForTenant { retry_after })
    }

    /// Asks whether a tenant's call may go.
    ///
    /// # Errors
    ///
    /// [`Open`].
    pub fn ask(&mut self, tenant: TenantId, now: Duration) -> Result<Guarded, Open> {
        if let ProviderState::Down { until } = self.provider {
            if now < until {
                let retry_after = until - now;
                return Err(Open::ForAll { retry_after });
            }
            self.provider = ProviderState::Probation;
        }
        let is_probation = self.provider == ProviderState::Probation;
        let open_min = self.options.tenant.open_min;
        let seen = self.know(tenant, now);
        if is_probation && seen.is_trying(now) {
            return Err(Open::ForAll {
                retry_after: open_min,
            });
        }
        let permit = seen
            .breaker
            .ask(now)
            .map_err(|retry_after| Open::ForTenant { retry_after })?;
        if is_probation {
            seen.trying = Some(now);
        }
        Ok(Guarded { tenant, permit })
    }

    /// What became of a call; how long the upstream asked to be left alone, if it did; and
    /// chance, random over all of `u64`.
    pub fn report(
        &mut self,
        guarded: Guarded,
        fault: Fault,
        retry_after: Option<Duration>,
        now: Duration,
        chance: u64,
    ) {
        let Guarded { tenant, permit } = guarded;
        let seen = self.know(tenant, now);
        seen.trying = None;
        match fault {
            Fault::Unknown => seen.breaker.unknown(&permit),
            // The upstream has said until when: there is nothing to find out.
            Fault::Tenant(TenantFault::Quota) if retry_after.is_some() => {
                seen.breaker.open(now, retry_after, chance);
            }
            fault if fault.will_recur() => seen.breaker.failed(&permit, now, retry_after, chance),
            _ => seen.breaker.succeeded(&permit, now),
        }
        if fault == Fault::Unknown {
            return;
        }
        seen.heard = now;
        if fault.is_providers() {
            seen.faults = seen.faults.saturating_add(1);
            if seen.faults >= self.options.faults_min || self.provider == ProviderState::Probation {
                self.judge(now, chance);
            }
        } else {
            // It answered: that it refused this tenant is not its failure.
            seen.faults = 0;
            if self.provider == ProviderState::Probation {
                self.provider = ProviderState::Working;
                self.outages = 0;
            }
        }
    }

    /// A health probe found the upstream working.
    pub fn probe_succeeded(&mut self) {
        self.probes_failed = 0;
        self.outages = 0;
        self.provider = ProviderState::Working;
        for seen in self.tenants.values_mut() {
            seen.faults = 0;
        }
    }

    /// A health probe found it failing.
    pub fn probe_failed(&mut self, now: Duration, chance: u64) {
        self.probes_failed = self.probes_failed.saturating_add(1);
        if self.probes_failed >= self.options.probes_failed {
            self.go_down(now, chance);
        }
    }

    /// Tenants that are remembered.
    pub fn known(&self) -> usize {
        self.tenants.len()
    }

    fn know(&mut self, tenant: TenantId, now: Duration) -> &mut Seen {
        if self.tenants.len() >= self.sweep_at && !self.tenants.contains_key(&tenant) {
            self.sweep(now);
        }
        let options = self.options.tenant;
        self.tenants.entry(tenant).or_insert_with(|| Seen {
            breaker: Breaker::new(options),
            faults: 0,
            heard: now,
            trying: None,
        })
    }

    /// Forgets who has nothing to be remembered for; if those left are too many, all but those
    /// whose breakers are open.
    fn sweep(&mut self, now: Duration) {
        self.tenants
            .retain(|_, seen| !seen.breaker.is_at_rest(now) || seen.trying.is_some());
        if self.tenants.len() >= self.options.tenants_max {
            self.tenants
                .retain(|_, seen| seen.breaker.state() != BreakerState::Closed);
        }
        if self.tenants.len() >= self.options.tenants_max {
            self.tenants.clear();
        }
        self.sweep_at = (2 * self.tenants.len()).clamp(SWEEP_MIN, self.options.tenants_max);
    }

    /// Counts, each tenant once, who saw the provider fail and who did not. Runs when a tenant
    /// that is failing fails once more, which its own breaker soon ends.
    fn judge(&mut self, now: Duration, chance: u64) {
        let least = match self.provider {
            ProviderState::Working => self.options.faults_min,
            ProviderState::Probation => 1,
            ProviderState::Down { .. } => return,
        };
        let window = self.options.tenant.window;
        let recent = self
            .tenants
            .values()
            .filter(|seen| now.saturating_sub(seen.heard) < window);
        let (failing, all) = recent.fold((0_u64, 0_u64), |(failing, all), seen| {
            (failing + u64::from(seen.faults >= least), all + 1)
        });
        let is_many = failing >= u64::from(self.options.tenants_min);
        if is_many && failing * 100 >= all * u64::from(self.options.tenants_percent) {
            self.go_down(now, chance);
        }
    }

    fn go_down(&mut self, now: Duration, chance: u64) {
        let BreakerOptions {
            open_min, open_max, ..
        } = self.options.tenant;
        let open = (open_min * 2_u32.saturating_pow(self.outages.min(16))).min(open_max);
        // Up to a half more, so that replicas do not all come back at once.
        let jitter = open.mul_f64(0.5 * (chance >> 11) as f64 / (1_u64 << 53) as f64);
        self.outages = self.outages.saturating_add(1);
        let until = now + (open + jitter).min(RETRY_AFTER_MAX);
        self.provider = ProviderState::Down { until };
        for seen in self.tenants.values_mut() {
            seen.faults = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::fault::{CallEnd, Credential, ProviderFault, classify};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DOWN: Fault = Fault::Provider(ProviderFault::Unreachable);

    fn tenant(number: u128) -> TenantId {
        TenantId::from_bits(number)
    }

    fn breakers() -> UpstreamBreakers {
        UpstreamBreakers::new(BreakersOptions::default())
    }

    /// A call of this tenant ends like this; whether it went.
    fn call(breakers: &mut UpstreamBreakers, number: u128, fault: Fault, now: Duration) -> bool {
        match breakers.ask(tenant(number), now) {
            Ok(guarded) => {
                breakers.report(guarded, fault, None, now, 0);
                true
            }
            Err(_) => false,
        }
    }

    #[test]
    fn one_tenants_failures_open_its_own_alone_whatever_they_are() {
        let refused = classify(
            CallEnd::Answered(StatusCode::UNAUTHORIZED),
            Credential::Tenant,
        );
        for fault in [DOWN, refused, Fault::Provider(ProviderFault::Failed)] {
            let mut breakers = breakers();
            for second in 0..1_000 {
                call(&mut breakers, 1, fault, second * SECOND);
                assert!(call(&mut breakers, 2, Fault::None, second * SECOND));
            }
            assert!(matches!(
                breakers.tenant(tenant(1)),
                BreakerState::Open { .. }
            ));
            assert_eq!(breakers.tenant(tenant(2)), BreakerState::Closed);
            assert_eq!(breakers.provider(), ProviderState::Working);
        }
    }

    #[test]
    fn three_tenants_of_four_open_it_for_all_and_one_success_closes_it() {
        let mut breakers = breakers();
        for number in 1..=4 {
            call(&mut breakers, number, Fault::None, SECOND);
        }
        for _ in 0..3 {
            for number in 1..=3 {
                call(&mut breakers, number, DOWN, SECOND);
            }
        }
        assert!(matches!(breakers.provider(), ProviderState::Down { .. }));
        assert!(!call(&mut breakers, 4, Fault::None, SECOND));
        assert!(call(&mut breakers, 4, Fault::None, 3 * SECOND));
        assert_eq!(breakers.provider(), ProviderState::Working);
    }

    #[test]
    fn three_of_many_do_not_open_it_for_the_others() {
        let mut breakers = breakers();
        for number in 1..=10 {
            call(&mut breakers, number, Fault::None, SECOND);
        }
        for _ in 0..10 {
            for number in 1..=3 {
                call(&mut breakers, number, DOWN, SECOND);
            }
        }
        assert_eq!(breakers.provider(), ProviderState::Working);
    }

    #[test]
    fn failures_with_successes_between_them_are_no_outage() {
        let mut breakers = breakers();
        for _ in 0..6 {
            for fault in [DOWN, Fault::None, Fault::None] {
                for number in 1..=4 {
                    assert!(call(&mut breakers, number, fault, SECOND));
                }
            }
        }
        assert_eq!(breakers.provider(), ProviderState::Working);
    }

    #[test]
    fn no_tenant_alone_keeps_it_open() {
        let mut breakers = breakers();
        for _ in 0..3 {
            breakers.probe_failed(SECOND, 0);
        }
        assert!(matches!(breakers.provider(), ProviderState::Down { .. }));
        // In probation one tenant's failures do not close the way for the others.
        assert!(call(&mut breakers, 1, DOWN, 5 * SECOND));
        assert!(call(&mut breakers, 1, DOWN, 5 * SECOND));
        assert_eq!(breakers.provider(), ProviderState::Probation);
        let tried = breakers.ask(tenant(2), 5 * SECOND).expect("a try");
        assert!(matches!(
            breakers.ask(tenant(2), 5 * SECOND),
            Err(Open::ForAll { .. })
        ));
        breakers.report(tried, Fault::None, None, 6 * SECOND, 0);
        assert_eq!(breakers.provider(), ProviderState::Working);
    }

    #[test]
    fn a_quota_says_when_to_come_back() {
        let mut breakers = breakers();
        let guarded = breakers.ask(tenant(1), SECOND).expect("closed");
        let quota = Fault::Tenant(TenantFault::Quota);
        breakers.report(guarded, quota, Some(40 * SECOND), SECOND, 0);
        assert_eq!(
            breakers.ask(tenant(1), SECOND).map(drop),
            Err(Open::ForTenant {
                retry_after: 40 * SECOND
            })
        );
        assert!(breakers.ask(tenant(2), SECOND).is_ok());
    }

    #[test]
    fn tenants_are_forgotten_once_there_is_nothing_to_remember() {
        let mut breakers = breakers();
        for number in 0..10_000_u32 {
            let now = number * SECOND;
            call(&mut breakers, number.into(), Fault::None, now);
        }
        assert!(breakers.known() <= SWEEP_MIN, "{}", breakers.known());
    }
}
