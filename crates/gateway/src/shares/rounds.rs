//! Exchanges one after the other, and calls that wait for one that begins after they asked.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::TenantId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// No answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnswered;

/// Who needs an exchange, and which have ended.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Tenants whose calls need more. As many as there are, each once.
    needing: Mutex<HashSet<TenantId>>,
    wake: Notify,
    /// How many exchanges have begun; one begins to be written once this counts it.
    begun: AtomicU64,
    ended: watch::Sender<Ended>,
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
    pub(super) fn put_off(&self, tenant: TenantId) {
        self.needing.lock().insert(tenant);
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
    pub(super) fn begin(&self) -> (u64, HashSet<TenantId>) {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        (number, std::mem::take(&mut *self.needing.lock()))
    }

    pub(super) fn end(&self, number: u64, is_answered: bool) {
        self.ended.send_replace(Ended {
            number,
            is_answered,
        });
    }
}
