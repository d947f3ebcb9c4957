//! Leases: what may be dispatched before its intent is durable.
//!
//! An intent is written while its call is under way, so a crash can catch calls that the journal
//! does not know. Each account therefore has an allowance that *is* durable: the sum of upper
//! bounds dispatched never passes it. After a crash the allowance less the intents found is what
//! may have been dispatched unseen, and counts as spent until it is reconciled.
//!
//! So a lease is as large as recent use asks for, and no larger: it grows and shrinks with the
//! calls, and what an idle account has left of it is given up.

use std::time::Duration;

use base::{PicoUsd, TenantId, Timestamp};

use crate::account::Account;
use crate::{AccountId, AccountOpened, AccountUse, Record};

/// A lease covers at least this many calls of the size at hand, so that one wait for the disk
/// serves many.
const CALLS_PER_LEASE: u64 = 16;
/// But not more than an eighth of the budget for their sake, so that a crash does not use up the
/// small one of a session or turn.
const SMALL_BUDGET_PARTS: i128 = 8;
/// However busy an account is: one per cent of its budget.
const LEASE_PERCENT_MAX: u32 = 1;
/// Half a lease that was used sooner was too small: the next is twice as large. Thirty times
/// what a group commit takes, so that a lease is there before it is needed.
const TOO_SMALL_BELOW: Duration = Duration::from_millis(125);
/// After a minute without a call an account gives up what is left of its lease. The next call
/// then waits for the disk once.
pub const LEASE_IDLE: Duration = Duration::from_secs(60);

/// What may be dispatched without waiting for the disk. Sums are over the account's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lease {
    /// Upper bounds of what was dispatched, and what was given up.
    pub(crate) dispatched: PicoUsd,
    /// What the journal durably allows.
    pub(crate) limit: PicoUsd,
    /// What was last asked for ahead of need; below `limit` once it was granted.
    asked: PicoUsd,
    /// The most that was ever asked for: what the journal may come to allow.
    asked_max: PicoUsd,
    /// Amounts refused for want of a lease since the last one was granted.
    wanted: PicoUsd,
    /// How large the last lease was.
    size: PicoUsd,
    /// When it was asked for, by the monotonic clock.
    sized_at: Duration,
}

impl Lease {
    /// After a start: all that the journal allowed was dispatched, or counts as if it had been.
    pub(crate) fn at_start(dispatched: PicoUsd, limit: PicoUsd) -> Self {
        Self {
            dispatched,
            limit,
            asked_max: limit,
            ..Self::default()
        }
    }

    pub(crate) fn left(&self) -> PicoUsd {
        self.limit.saturating_sub(self.dispatched)
    }

    /// Whether nothing was ever dispatched under it, nor could be.
    pub(crate) fn is_unused(&self) -> bool {
        self.dispatched == PicoUsd::ZERO && self.limit == PicoUsd::ZERO
    }

    /// What the journal allows, or may come to allow, and was not dispatched: after a crash it
    /// counts as spent.
    pub(crate) fn promised(&self) -> PicoUsd {
        self.asked_max.saturating_sub(self.dispatched)
    }

    /// The journal durably allows `limit`.
    pub(crate) fn grant(&mut self, limit: PicoUsd) {
        if limit > self.limit {
            self.limit = limit;
            self.asked_max = self.asked_max.max(limit);
            self.wanted = PicoUsd::ZERO;
        }
    }

    /// What was asked for is not granted. It stays among what is promised, since the journal
    /// may allow it.
    pub(crate) fn refuse(&mut self) {
        self.asked = PicoUsd::ZERO;
        self.wanted = PicoUsd::ZERO;
    }

    /// What is left, with all that was asked for and may still be granted: nothing of it will be
    /// dispatched. None if there is nothing.
    pub(crate) fn give_up(&mut self) -> Option<PicoUsd> {
        let unused = self.promised();
        // As if it had been dispatched, so that a grant that comes late allows nothing more than
        // the journal does.
        self.dispatched += unused;
        self.asked = PicoUsd::ZERO;
        self.wanted = PicoUsd::ZERO;
        self.size = PicoUsd::ZERO;
        (unused > PicoUsd::ZERO).then_some(unused)
    }

    /// The next lease's size. It covers a quarter to half a second of what the account uses.
    fn next_size(&self, use_: &AccountUse<'_>, amount: PicoUsd, elapsed: Duration) -> PicoUsd {
        let lasted = elapsed.saturating_sub(self.sized_at);
        let size = if lasted < TOO_SMALL_BELOW {
            self.size.pico() * 2
        } else {
            // Halved for each second that half of it lasted.
            self.size.pico() >> lasted.as_secs().min(127)
        };
        let most = match use_.terms.limit {
            Some(limit) => limit.percent_floor(LEASE_PERCENT_MAX),
            None => PicoUsd::UNBOUNDED,
        };
        PicoUsd::new(size).min(most).max(least(use_, amount))
    }
}

/// The least that is worth a record in the journal: some calls of the size at hand.
fn least(use_: &AccountUse<'_>, amount: PicoUsd) -> PicoUsd {
    let some = amount.times(CALLS_PER_LEASE);
    match use_.terms.limit {
        Some(limit) => some
            .min(PicoUsd::new(limit.pico() / SMALL_BUDGET_PARTS))
            .max(amount),
        None => some,
    }
}

/// Leases to be raised: append [`LeaseRequest::records`] to the journal before the ledger's lock
/// is let go, wait until they are durable, then [`crate::TenantLedger::grant`] and try again. If
/// the journal does not take them: [`crate::TenantLedger::not_journaled`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lease that nobody journals is never granted"]
pub struct LeaseRequest {
    pub(crate) records: Vec<Record>,
    /// How often the ledger had forgotten accounts when it asked.
    pub(crate) forgettings: u64,
}

impl LeaseRequest {
    /// What the journal must hold durably before the lease is granted.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

/// A call that asks for leases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) tenant: TenantId,
    /// Its upper bound.
    pub(crate) amount: PicoUsd,
    pub(crate) now: Timestamp,
    pub(crate) elapsed: Duration,
}

/// The records without which a call cannot be dispatched on this account; none if it can.
/// `available` is what the budget has to spare.
pub(crate) fn shortfall(
    call: &Asking,
    account: &mut Account,
    use_: &AccountUse<'_>,
    available: PicoUsd,
    records: &mut Vec<Record>,
) {
    let window = &use_.terms.window;
    if account.spend.window() != window {
        // At once, not once it is durable: what is posted from here on then stands behind the
        // record in the journal, and counts in the same window there.
        account.spend.change_window(window.clone(), call.now);
        account.is_journaled = false;
    }
    if !account.is_journaled {
        account.is_journaled = true;
        records.push(Record::AccountOpened(Box::new(AccountOpened {
            account: use_.account,
            tenant: call.tenant,
            budget: use_.budget.clone(),
            subject: use_.subject.clone(),
            window: window.clone(),
            at: call.now,
        })));
    }
    let lease = &mut account.lease;
    if lease.left() >= call.amount {
        return;
    }
    // Once for all that wait: what is asked for already says nothing of its size yet.
    if lease.asked_max <= lease.limit {
        lease.size = lease.next_size(use_, call.amount, call.elapsed);
        lease.sized_at = call.elapsed;
    }
    lease.wanted += call.amount;
    let limit = lease.dispatched + (lease.wanted + lease.size).min(available);
    lease.asked_max = lease.asked_max.max(limit);
    records.push(raised(use_, limit, call.now));
}

/// The record that raises a lease ahead of need: once less than half of it is left, none is
/// asked for yet, and the budget has something to give. `share` is as far as this replica may go.
pub(crate) fn refill(
    call: &Asking,
    account: &mut Account,
    use_: &AccountUse<'_>,
    share: Option<PicoUsd>,
) -> Option<Record> {
    let lease = &account.lease;
    let is_asked = lease.asked > lease.limit;
    let whole = lease.size.max(least(use_, call.amount));
    if is_asked || lease.left() + lease.left() >= whole {
        return None;
    }
    let available = match share {
        Some(limit) => limit.saturating_sub(account.spend.spent(call.now) + account.held),
        None => PicoUsd::UNBOUNDED,
    };
    let size = lease.next_size(use_, call.amount, call.elapsed);
    let limit = lease.dispatched + size.min(available);
    if limit < lease.limit + call.amount.max(PicoUsd::new(1)) {
        return None;
    }
    let lease = &mut account.lease;
    lease.asked = limit;
    lease.asked_max = lease.asked_max.max(limit);
    lease.size = size;
    lease.sized_at = call.elapsed;
    Some(raised(use_, limit, call.now))
}

/// The record by which an account gives up what is left of its lease; none if nothing is.
pub(crate) fn give_up(account: AccountId, lease: &mut Lease, at: Timestamp) -> Option<Record> {
    let unused = lease.give_up()?;
    Some(Record::LeaseReturned {
        account,
        unused,
        at,
    })
}

fn raised(use_: &AccountUse<'_>, limit: PicoUsd, at: Timestamp) -> Record {
    Record::LeaseRaised {
        account: use_.account,
        limit,
        budget: use_.terms.limit,
        at,
    }
}
