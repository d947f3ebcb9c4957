//! Pools of rates in memory, as several gateways see them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock};
use gateway::{RatePools, RatePoolsError, RatesAnswering};
use ledger::{LimitId, RateAsk, RateGiven, RateKind, RatePool};
use parking_lot::Mutex;

/// A millisecond: a server in the same room.
const ANSWERS_AFTER: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct Pools {
    pools: Mutex<HashMap<(LimitId, RateKind), RatePool>>,
    clock: SystemClock,
    pub(crate) is_down: AtomicBool,
    /// Gives more than was asked for.
    pub(crate) is_mad: AtomicBool,
    /// Exchanges that asked for something.
    pub(crate) exchanges: AtomicU64,
}

impl Pools {
    fn answer(&self, ask: &RateAsk) -> RateGiven {
        let mut pools = self.pools.lock();
        let pool = pools.entry((ask.limit, ask.kind)).or_default();
        let mut given = pool.answer(ask, self.clock.elapsed());
        given.granted += u64::from(self.is_mad.load(Ordering::Relaxed));
        given
    }
}

impl RatePools for Pools {
    fn exchange(&self, asks: Vec<RateAsk>) -> RatesAnswering<'_> {
        Box::pin(async move {
            if self.is_down.load(Ordering::Relaxed) {
                return Err(RatePoolsError("it is down".into()));
            }
            tokio::time::sleep(ANSWERS_AFTER).await;
            if !asks.is_empty() {
                self.exchanges.fetch_add(1, Ordering::Relaxed);
            }
            Ok(asks.iter().map(|ask| self.answer(ask)).collect())
        })
    }
}
