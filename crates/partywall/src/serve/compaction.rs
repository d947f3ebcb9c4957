//! From the journal to the tenants' stores: now and then, and whenever somebody asks for usage.

use std::sync::Arc;
use std::time::Duration;

use control::LiveUsage;
use gateway::Gateway;
use ledger::Lsn;
use parking_lot::Mutex;
use store::{Compacted, CompactionError, Compactor, Journal, Posted, Stores};
use tenancy::{ServiceIdentity, ServicePurpose};

/// 500 turns of 2 ms: a segment takes a group commit to be sealed, on a busy disk a second.
const SEAL_TURNS_MAX: u32 = 500;
const SEAL_TURN: Duration = Duration::from_millis(2);

/// Compacts the journal. One at a time; all methods block.
pub(super) struct Compaction {
    pub(super) journal: Arc<Journal>,
    pub(super) stores: Stores,
    pub(super) gateway: Gateway,
    pub(super) service: ServiceIdentity,
    pub(super) state: Mutex<State>,
}

/// What the last run left.
pub(super) struct State {
    compactor: Compactor,
    /// Everything up to here is in the stores.
    done: Lsn,
}

impl State {
    pub(super) fn new(journal: &Arc<Journal>) -> Self {
        Self {
            compactor: Compactor::new(Arc::clone(journal)),
            done: Lsn::default(),
        }
    }
}

impl Compaction {
    /// Brings segments that are closed into the stores.
    pub(super) fn compact_sealed(&self) -> Result<Compacted, CompactionError> {
        self.compact(&mut self.state.lock())
    }

    /// Brings everything that is durable by now into the stores.
    pub(super) fn compact_durable(&self) -> Result<Compacted, CompactionError> {
        let mut state = self.state.lock();
        let durable = self.journal.durable_lsn();
        if durable == state.done {
            return Ok(Compacted::default());
        }
        // Segments that one tenant's store keeps here do not keep the others' lines.
        self.journal.seal();
        let mut turns = 0;
        while self.journal.sealed_until() < durable {
            turns += 1;
            if turns > SEAL_TURNS_MAX {
                tracing::warn!("the journal's open segment is not closed: usage lacks the newest");
                break;
            }
            std::thread::sleep(SEAL_TURN);
        }
        let compacted = self.compact(&mut state)?;
        if turns <= SEAL_TURNS_MAX {
            state.done = durable;
        }
        Ok(compacted)
    }

    /// Does `work` while nothing is compacted.
    pub(super) fn held<T>(&self, work: impl FnOnce() -> T) -> T {
        let _state = self.state.lock();
        work()
    }

    fn compact(&self, state: &mut State) -> Result<Compacted, CompactionError> {
        let snapshot = self.gateway.snapshot();
        state.compactor.compact_sealed(&mut |tenant, lines| {
            // A tenant that was offboarded is in no snapshot, and nobody may keep its lines.
            let Some(entry) = snapshot.tenant(tenant) else {
                return Ok(Posted::TenantGone);
            };
            let keys = Arc::clone(&entry.unlocked);
            let scope = self.service.scope(keys, ServicePurpose::Compaction);
            self.stores.open(&scope).post_lines(lines)?;
            Ok(Posted::Durable)
        })
    }
}

impl LiveUsage for Compaction {
    fn catch_up(&self) {
        if let Err(error) = self.compact_durable() {
            tracing::warn!(%error, "usage is shown as of the last compaction");
        }
    }
}
