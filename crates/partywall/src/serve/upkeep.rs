//! What is done now and then: compaction of the journal, closing of idle stores, forgetting of
//! former keys.

use std::sync::Arc;
use std::time::Duration;

use base::Supervisor;
use control::{BackupRound, Control, Publisher, PushRound, TokenKeyring, UpgradeTurn};
use store::{BudgetShares, Stores};

use crate::config::BackupOptions;

use super::compaction::Compaction;
use super::retention::Retention;

/// Half a minute: a tenth of the shortest time after which a store counts as idle by default.
const EVICT_EVERY: Duration = Duration::from_secs(30);

/// Which of the journal's lines are brought into the stores without anybody's asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Those of segments that are full.
    Sealed,
    /// All that are durable.
    Durable,
}

/// Starts the loops. They end when `supervisor` stops.
pub(super) fn start(
    supervisor: &Supervisor,
    (compaction, lines): (Arc<Compaction>, Lines),
    compact_every: Duration,
    stores: Stores,
) {
    repeat(supervisor, compact_every, move || {
        let compacted = match lines {
            Lines::Sealed => compaction.compact_sealed(),
            Lines::Durable => compaction.compact_durable(),
        };
        match compacted {
            Ok(done) if done.segments > 0 => tracing::info!(
                segments = done.segments,
                lines = done.lines,
                tenants = done.tenants,
                "the journal was compacted"
            ),
            Ok(_) => {}
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the journal keeps what could not be compacted");
            }
        }
    });
    repeat(supervisor, EVICT_EVERY, move || {
        let closed = stores.evict();
        if closed > 0 {
            tracing::debug!(closed, "idle stores were closed");
        }
    });
}

/// Half a minute: a tenth of how long the key before stays good anyway.
const RETIRE_EVERY: Duration = Duration::from_secs(30);

/// Forgets keys that signed tokens once, when none of those tokens is good any more.
pub(super) fn retire_token_keys(supervisor: &Supervisor, keyring: Arc<TokenKeyring>) {
    repeat(supervisor, RETIRE_EVERY, move || {
        if let Err(error) = keyring.retire() {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a former key is still published");
        }
    });
}

/// Six hours: what is forgotten is so by whole days.
const FORGET_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Forgets what is older than it is kept.
pub(super) fn forget(supervisor: &Supervisor, retention: Retention) {
    repeat(supervisor, FORGET_EVERY, move || retention.forget());
}

/// Ten minutes: old copies are kept for days.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Removes stores on servers that nobody has any more: at once, what a crash has left, and then
/// every so often.
pub(super) fn sweep_stores(supervisor: &Supervisor, publisher: Arc<Publisher>) {
    let work = move || {
        let swept = publisher.sweep_stores();
        let former = publisher.sweep_former_copies();
        for removed in [swept, former] {
            match removed {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "stores that nobody has any more were removed"),
                Err(error) => {
                    tracing::warn!(%error, "stores that nobody has any more are left for later");
                }
            }
        }
    };
    let (work, later) = {
        let work = Arc::new(work);
        (Arc::clone(&work), work)
    };
    supervisor.spawn(async move {
        if let Err(error) = tokio::task::spawn_blocking(move || work()).await {
            tracing::error!(%error, "a turn of the upkeep failed");
        }
    });
    repeat(supervisor, SWEEP_EVERY, move || later());
}

/// Five seconds: whoever waits for the store of a tenant whose mover is gone waits for this.
const SETTLE_EVERY: Duration = Duration::from_secs(5);

/// Settles moves whose replicas are gone.
pub(super) fn settle_moves(supervisor: &Supervisor, publisher: Arc<Publisher>) {
    repeat(supervisor, SETTLE_EVERY, move || {
        if let Err(error) = publisher.settle_moves() {
            tracing::warn!(%error, "a move that was cut short is settled later");
        }
    });
}

/// Ten minutes: a backup comes so much later than it is due, at most.
const BACK_UP_EVERY: Duration = Duration::from_secs(600);

/// Takes the backups that are due.
pub(super) fn back_up(supervisor: &Supervisor, publisher: Arc<Publisher>, options: &BackupOptions) {
    if options.folder.is_none() || options.every_hours == 0 {
        return;
    }
    let every = Duration::from_secs(u64::from(options.every_hours) * 3600);
    let keep = options.keep as usize;
    repeat(supervisor, BACK_UP_EVERY, move || {
        let round = publisher.back_up_due(every, keep);
        if round != BackupRound::default() {
            tracing::info!(
                taken = round.taken,
                failed = round.failed,
                removed = round.removed,
                "tenants were backed up"
            );
        }
    });
}

/// Two seconds: a turn is 64 stores, so that ten thousand take five minutes and load nobody.
const UPGRADE_EVERY: Duration = Duration::from_secs(2);

/// Goes on with the upgrade of tenants' stores that is under way, if there is one.
pub(super) fn upgrade(supervisor: &Supervisor, control: Arc<Control>) {
    repeat(supervisor, UPGRADE_EVERY, move || {
        match control.upgrade_turn() {
            Ok(UpgradeTurn::Went) => tracing::debug!("the upgrade of stores went a step further"),
            // A halt is logged by whoever halts.
            Ok(UpgradeTurn::Nothing | UpgradeTurn::Halted) => {}
            Err(error) => {
                let error = control::chain(error.as_ref());
                tracing::warn!(%error, "the upgrade of stores goes on later");
            }
        }
    });
}

/// An hour: the rows take little room, and most of them are asked for again before.
const SWEEP_SHARES_EVERY: Duration = Duration::from_secs(3600);

/// Removes what replicas that are gone had of budgets, once it counts no more.
pub(super) fn sweep_shares(supervisor: &Supervisor, shares: Arc<BudgetShares>) {
    repeat(supervisor, SWEEP_SHARES_EVERY, move || {
        match shares.sweep() {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "shares of budgets that count no more are gone"),
            Err(error) => {
                tracing::warn!(%error, "shares of budgets that count no more are left for later");
            }
        }
    });
}

/// An hour: what a bucket did not take is tried again then.
const PUSH_EVERY: Duration = Duration::from_secs(3600);

/// Pushes the costs that are due to the bucket.
pub(super) fn push(supervisor: &Supervisor, control: Arc<Control>) {
    let stopping = supervisor.clone();
    supervisor.spawn(async move {
        loop {
            let round = tokio::select! {
                round = control.push_due() => round,
                () = stopping.stopping() => return,
            };
            if round != PushRound::default() {
                let (pushed, failed) = (round.pushed, round.failed);
                tracing::info!(pushed, failed, "days of costs were pushed to the bucket");
            }
            tokio::select! {
                () = tokio::time::sleep(PUSH_EVERY) => {}
                () = stopping.stopping() => return,
            }
        }
    });
}

/// Does `work` on a thread that may block, every so often, one at a time.
fn repeat(supervisor: &Supervisor, every: Duration, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let stopping = supervisor.clone();
    supervisor.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stopping.stopping() => return,
            }
            let turn = Arc::clone(&work);
            if let Err(error) = tokio::task::spawn_blocking(move || turn()).await {
                tracing::error!(%error, "a turn of the upkeep failed");
            }
        }
    });
}
