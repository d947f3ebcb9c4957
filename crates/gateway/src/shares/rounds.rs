//! Exchanges one after the other, and calls that wait for one that begins after they asked.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::TenantId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Eight: what one call can need of a tenant's accounts or rates, but for rare ones.
const PART_MIN: usize = 8;

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnswered;

/// Who needs an exchange, and which have ended.
#[derive(Debug)]
pub(super) struct Rounds {
    needing: Mutex<Needing>,
    wake: Notify,
    /// How many exchanges have begun; one begins to be written once this counts it.
    begun: AtomicU64,
    ended: watch::Sender<Ended>,
}

/// Tenants whose calls need more, in the order that they asked: as many as there are, each once.
#[derive(Debug, Default)]
struct Needing {
    order: Vec<TenantId>,
    known: HashSet<TenantId>,
}

/// The last exchange that ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    number: u64,
    is_answered: bool,
}

impl Rounds {
    pub(super) fn new() -> Self {
        let none = Ended {
            number: 0,
            is_answered: true,
        };
        Self {
            needing: Mutex::default(),
            wake: Notify::new(),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(none),
        }
    }

    /// A tenant's calls will need more soon.
    pub(super) fn ask(&self, tenant: TenantId) {
        self.put_off(tenant);
        self.wake.notify_one();
    }

    /// It needs more, and the next exchange is early enough.
    fn put_off(&self, tenant: TenantId) {
        let mut needing = self.needing.lock();
        if needing.known.insert(tenant) {
            needing.order.push(tenant);
        }
    }

    /// Asks, and waits for an exchange that has seen what the tenant's ledger notes now.
    pub(super) async fn answer(
        &self,
        tenant: TenantId,
        within: Duration,
    ) -> Result<(), NotAnswered> {
        let mut ended = self.ended.subscribe();
        // Those that ended before say nothing.
        ended.mark_unchanged();
        self.ask(tenant);
        // The one under way may have passed this ledger already; the next one has not.
        let number = self.begun.load(Ordering::SeqCst) + 1;
        let reached = async {
            while ended.changed().await.is_ok() {
                let ended = *ended.borrow_and_update();
                if ended.number >= number || !ended.is_answered {
                    return ended.is_answered;
                }
            }
            false
        };
        match tokio::time::timeout(within, reached).await {
            Ok(true) => Ok(()),
            _ => Err(NotAnswered),
        }
    }

    /// Waits until somebody asks.
    pub(super) async fn asked(&self) {
        self.wake.notified().await;
    }

    /// Begins an exchange: its number, and who needs it.
    pub(super) fn begin(&self) -> (u64, Vec<TenantId>) {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        (number, std::mem::take(&mut *self.needing.lock()).order)
    }

    /// Deals an exchange's `room` out to those who need it, so that none takes it from the others:
    /// each adds at most its part, and says how much it added and whether it has more. Who has more
    /// is in the next exchange, after those who had nothing in this one. What is left is returned.
    pub(super) fn deal(
        &self,
        needing: Vec<TenantId>,
        room: usize,
        mut add: impl FnMut(TenantId, usize) -> (usize, bool),
    ) -> usize {
        let part = (room / needing.len().max(1)).max(PART_MIN);
        let mut left = room;
        let mut have_more = Vec::new();
        for tenant in needing {
            if left < PART_MIN {
                self.put_off(tenant);
                continue;
            }
            let (added, has_more) = add(tenant, part.min(left));
            left -= added;
            if has_more {
                have_more.push(tenant);
            }
        }
        for tenant in have_more {
            self.put_off(tenant);
        }
        left
    }

    pub(super) fn end(&self, number: u64, is_answered: bool) {
        self.ended.send_replace(Ended {
            number,
            is_answered,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_much_does_not_keep_the_others_waiting() {
        let rounds = Rounds::new();
        let tenant = TenantId::from_bits;
        let mut wanted: Vec<usize> = vec![1_000_000, 3, 20, 1];
        wanted.extend([5; 30]);
        for id in 0..wanted.len() {
            rounds.ask(tenant(id as u128));
        }
        let mut served_in = vec![0; wanted.len()];
        for exchange in 1..=6 {
            let (_, needing) = rounds.begin();
            let mut dealt = 0;
            let left = rounds.deal(needing, 64, |who, part| {
                let id = (0..wanted.len())
                    .find(|id| tenant(*id as u128) == who)
                    .unwrap();
                let added = wanted[id].min(part);
                wanted[id] -= added;
                dealt += added;
                served_in[id] = exchange;
                (added, wanted[id] > 0)
            });
            assert_eq!(dealt + left, 64);
            // It asks again at once, and is still behind those who were put off.
            rounds.ask(tenant(0));
        }
        assert_eq!(wanted[1..], [0; 33], "{served_in:?}");
        assert_eq!(served_in[0], 6, "and it is served all the while");
    }
}
