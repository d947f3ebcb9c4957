//! A coordinator of shared budgets in memory, as several gateways see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, PicoUsd, SystemClock, TenantId};
use gateway::{Answering, Coordinator, CoordinatorError, Exchanged};
use ledger::{AccountId, ShareAsk, ShareRow, allot};
use parking_lot::Mutex;

/// Three milliseconds: a transaction in the same room.
const ANSWERS_AFTER: Duration = Duration::from_millis(3);

#[derive(Debug)]
pub(crate) struct Rows {
    replicas: u32,
    rows: Mutex<BTreeMap<(AccountId, u32), ShareRow>>,
    clock: SystemClock,
    pub(crate) is_down: AtomicBool,
    /// Exchanges that asked for something.
    pub(crate) exchanges: AtomicU64,
}

/// One gateway's way to it.
#[derive(Debug)]
struct Seat {
    rows: Arc<Rows>,
    replica: u32,
}

impl Rows {
    pub(crate) fn new(replicas: u32) -> Arc<Self> {
        Arc::new(Self {
            replicas,
            rows: Mutex::default(),
            clock: SystemClock::new(),
            is_down: AtomicBool::new(false),
            exchanges: AtomicU64::new(0),
        })
    }

    pub(crate) fn seat(self: &Arc<Self>, replica: u32) -> Arc<dyn Coordinator> {
        Arc::new(Seat {
            rows: Arc::clone(self),
            replica,
        })
    }

    /// What this replica may spend and hold, and what it had spent when it was last heard of.
    pub(crate) fn of(&self, account: AccountId, replica: u32) -> Option<(PicoUsd, PicoUsd)> {
        let rows = self.rows.lock();
        let row = rows.get(&(account, replica))?;
        Some((row.share, row.spent))
    }

    /// What all may spend and hold together.
    pub(crate) fn shares(&self, account: AccountId) -> PicoUsd {
        let rows = self.rows.lock();
        let rows = rows.range((account, 0)..=(account, u32::MAX));
        rows.map(|(_, row)| row.share).sum()
    }

    fn exchange(&self, replica: u32, asks: &[ShareAsk]) -> Exchanged {
        let now = self.clock.now();
        let mut rows = self.rows.lock();
        if !asks.is_empty() {
            self.exchanges.fetch_add(1, Ordering::Relaxed);
        }
        let given = asks.iter().map(|ask| {
            let all = rows.range((ask.account, 0)..=(ask.account, u32::MAX));
            let others = all.filter(|((_, owner), _)| *owner != replica);
            let others: Vec<_> = others.map(|(_, row)| *row).collect();
            let (row, given) = allot(ask, &others, self.replicas, now);
            rows.insert((ask.account, replica), row);
            given
        });
        Exchanged {
            given: given.collect(),
            replicas: self.replicas,
        }
    }
}

impl Coordinator for Seat {
    fn exchange(&self, asks: Vec<ShareAsk>) -> Answering<'_, Exchanged> {
        Box::pin(async move {
            tokio::time::sleep(ANSWERS_AFTER).await;
            if self.rows.is_down.load(Ordering::Relaxed) {
                return Err(CoordinatorError::Unreachable("nobody there".into()));
            }
            Ok(self.rows.exchange(self.replica, &asks))
        })
    }

    fn left_behind(&self) -> Answering<'_, Vec<(TenantId, AccountId)>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
