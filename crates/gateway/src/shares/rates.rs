//! Leases rates from the pools that replicas have together, for all tenants: one exchange at a time.
//! Without the pools each replica has a fixed part of each rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Supervisor, TenantId};
use ledger::{RateAsk, RateGiven};
use tokio::time::MissedTickBehavior;

use super::rounds::{NotAnswered, Rounds};
use super::{RatePools, RatePoolsError};
use crate::shared::Shared;

/// 512 rates of one exchange: some 100 KB, and a few milliseconds of the server's.
const ASKS_MAX: usize = 512;
/// Once a second what nobody uses goes back; so often pools that failed are tried again.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// A quarter of a second: an exchange takes a millisecond. Whoever takes longer is not there, and
/// the replica goes on with its part.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// Talks to the pools.
#[derive(Debug)]
pub(crate) struct RateClerk {
    pools: Arc<dyn RatePools>,
    rounds: Rounds,
    is_up: AtomicBool,
    /// Since an exchange was answered: said once, however often it fails.
    has_failed: AtomicBool,
}

impl RateClerk {
    pub(crate) fn new(pools: Arc<dyn RatePools>) -> Self {
        Self {
            pools,
            rounds: Rounds::new(),
            is_up: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    /// What was leased for a tenant runs low.
    pub(crate) fn ask(&self, tenant: TenantId) {
        self.rounds.ask(tenant);
    }

    /// Has what the tenant's ledger noted as needed leased, and waits for the answer: it is
    /// applied then, or rates are no longer leased, and the call tries again.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: what was asked for is given to the tenant all the same.
    pub(crate) async fn answer(&self, tenant: TenantId) -> Result<(), NotAnswered> {
        self.rounds.answer(tenant, ANSWER_MAX * 2).await
    }

    /// Talks until the supervisor stops.
    pub(crate) fn start(self: &Arc<Self>, shared: &Arc<Shared>, supervisor: &Supervisor) {
        let clerk = Arc::clone(self);
        let shared = Arc::clone(shared);
        let stopping = supervisor.clone();
        supervisor.spawn(async move {
            let mut second = tokio::time::interval(LOOKS_EVERY);
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let is_up = clerk.is_up.load(Ordering::Relaxed);
                tokio::select! {
                    () = stopping.stopping() => return,
                    _ = second.tick() => match is_up {
                        true => clerk.talk(&shared, shared.tenants.ids(), true).await,
                        false => clerk.try_again(&shared).await,
                    },
                    () = clerk.rounds.asked(), if is_up => {
                        clerk.talk(&shared, Vec::new(), false).await;
                    }
                }
            }
        });
    }

    /// Whether the pools are there by now: then rates are leased from here on.
    async fn try_again(&self, shared: &Shared) {
        match self.answered(Vec::new()).await {
            Ok(_) => {
                self.is_up.store(true, Ordering::Relaxed);
                shared.metrics.rates_are_shared(true);
                let elapsed = shared.clock.elapsed();
                shared.tenants.lease_rates(true, elapsed);
                if !self.has_failed.load(Ordering::Relaxed) {
                    tracing::info!("rates are shared with the other replicas");
                }
                self.talk(shared, shared.tenants.ids(), true).await;
            }
            Err(error) => self.failed(shared, &error),
        }
    }

    /// Exchanges until nobody needs anything, and these tenants were looked at; with `is_due` once
    /// at least: pools that are gone are found out without a call.
    async fn talk(&self, shared: &Shared, mut due: Vec<TenantId>, is_due: bool) {
        let mut is_first = is_due;
        loop {
            let (number, needing) = self.rounds.begin();
            let asks = self.write(shared, needing, &mut due);
            let is_over = asks.is_empty() && !is_first;
            is_first = false;
            let answered = match is_over {
                true => Ok(Vec::new()),
                false => self.answered(asks.clone()).await,
            };
            let is_answered = match answered {
                Ok(given) => {
                    apply(shared, &asks, &given);
                    if !asks.is_empty() && self.has_failed.swap(false, Ordering::Relaxed) {
                        tracing::info!("rates are shared with the other replicas again");
                    }
                    true
                }
                Err(error) => {
                    for ask in &asks {
                        let ledger =
                            |ledger: &mut ledger::TenantLedger| ledger.rate_unanswered(ask);
                        shared.tenants.with_ledger(ask.tenant, ledger);
                    }
                    self.failed(shared, &error);
                    false
                }
            };
            self.rounds.end(number, is_answered);
            if is_over || !is_answered {
                return;
            }
        }
    }

    /// One exchange's asks: first of those whose calls wait.
    fn write(
        &self,
        shared: &Shared,
        needing: Vec<TenantId>,
        due: &mut Vec<TenantId>,
    ) -> Vec<RateAsk> {
        let mut asks = Vec::new();
        let mut add = |tenant, is_due, room| {
            let elapsed = shared.clock.elapsed();
            let asked = shared
                .tenants
                .with_ledger(tenant, |ledger| ledger.rate_asks(is_due, room, elapsed));
            let (more, has_more) = asked.unwrap_or_default();
            let count = more.len();
            asks.extend(more);
            (count, has_more)
        };
        let mut left = self
            .rounds
            .deal(needing, ASKS_MAX, |tenant, room| add(tenant, false, room));
        while left > 1
            && let Some(tenant) = due.pop()
        {
            let (count, has_more) = add(tenant, true, left);
            left -= count;
            if has_more {
                due.push(tenant);
                break;
            }
        }
        asks
    }

    async fn answered(&self, asks: Vec<RateAsk>) -> Result<Vec<RateGiven>, RatePoolsError> {
        let wants: Vec<_> = asks.iter().map(|ask| ask.want).collect();
        let exchange = self.pools.exchange(asks);
        let given = tokio::time::timeout(ANSWER_MAX, exchange)
            .await
            .map_err(|_| RatePoolsError("it did not answer in time".into()))??;
        // What comes from elsewhere is not believed as it is.
        let fits = |(given, want): (&RateGiven, &u64)| given.granted <= *want;
        if given.len() != wants.len() || !given.iter().zip(&wants).all(fits) {
            return Err(RatePoolsError("it gives what was not asked for".into()));
        }
        Ok(given)
    }

    /// From here on this replica keeps to its part, until the pools are there again.
    fn failed(&self, shared: &Shared, error: &RatePoolsError) {
        shared.metrics.rate_exchange_failed();
        shared.metrics.rates_are_shared(false);
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "rates are not shared: each replica has its part of them");
        }
        if self.is_up.swap(false, Ordering::Relaxed) {
            shared.tenants.lease_rates(false, shared.clock.elapsed());
        }
    }
}

fn apply(shared: &Shared, asks: &[RateAsk], given: &[RateGiven]) {
    if asks.is_empty() {
        return;
    }
    shared.metrics.rate_exchanged();
    let elapsed = shared.clock.elapsed();
    let answers: Vec<_> = asks.iter().zip(given).collect();
    for of_tenant in answers.chunk_by(|one, next| one.0.tenant == next.0.tenant) {
        let tenant = of_tenant[0].0.tenant;
        shared.tenants.with_ledger(tenant, |ledger| {
            for (ask, given) in of_tenant {
                ledger.apply_rate(ask, **given, elapsed);
            }
        });
        shared.tenants.notify(tenant);
    }
}
