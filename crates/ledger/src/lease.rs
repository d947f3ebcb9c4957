//! Leases: what may be dispatched before its intent is durable.
//!
//! An intent is written while its call is under way, so a crash can catch calls that the journal
//! does not know. Each account therefore has an allowance that *is* durable: the sum of upper
//! bounds dispatched never passes it. After a crash the allowance less the intents found is what
//! may have been dispatched unseen, and counts as spent until it is reconciled.

use base::{PicoUsd, TenantId, Timestamp};

use crate::account::Account;
use crate::{AccountOpened, AccountUse, Record};

/// A lease covers this many calls of the size at hand, so that one wait for the disk serves many.
const CALLS_PER_LEASE: u64 = 16;
/// Or one per cent of the budget, if that is more: the most that a crash can strand for long.
const LEASE_PERCENT: u32 = 1;
/// Or, where nothing limits the budget, one part in 64 of all that was dispatched so far.
const UNLIMITED_PARTS: i128 = 64;

/// Leases to be raised: append [`LeaseRequest::records`] to the journal, wait until they are
/// durable, then [`crate::TenantLedger::grant`] and try again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a lease that nobody journals is never granted"]
pub struct LeaseRequest {
    pub(crate) records: Vec<Record>,
}

impl LeaseRequest {
    /// What the journal must hold durably before the lease is granted.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

/// How large a lease on an account is meant to be.
fn chunk(account: Option<&Account>, use_: &AccountUse<'_>, amount: PicoUsd) -> PicoUsd {
    let share = match use_.terms.limit {
        Some(limit) => limit.percent_floor(LEASE_PERCENT),
        None => account.map_or(PicoUsd::ZERO, |account| {
            PicoUsd::new(account.lease.dispatched.pico() / UNLIMITED_PARTS)
        }),
    };
    amount.times(CALLS_PER_LEASE).max(share)
}

/// The records without which `amount` cannot be dispatched on this account; none if it can.
/// `available` is what the budget has to spare.
pub(crate) fn shortfall(
    tenant: TenantId,
    account: Option<&mut Account>,
    use_: &AccountUse<'_>,
    amount: PicoUsd,
    available: PicoUsd,
    at: Timestamp,
    records: &mut Vec<Record>,
) {
    let is_open = account
        .as_ref()
        .is_some_and(|account| account.spend.window() == &use_.terms.window);
    if !is_open {
        records.push(Record::AccountOpened(Box::new(AccountOpened {
            account: use_.account,
            tenant,
            budget: use_.budget.clone(),
            subject: use_.subject.clone(),
            window: use_.terms.window.clone(),
            at,
        })));
    }
    let size = chunk(account.as_deref(), use_, amount);
    let limit = match account {
        None => size.min(available),
        Some(account) if account.lease.left() >= amount => return,
        Some(account) => {
            account.lease.wanted += amount;
            account.lease.dispatched + (account.lease.wanted + size).min(available)
        }
    };
    records.push(raised(use_, limit, at));
}

/// The record that raises a lease ahead of need: once less than half of it is left, none is
/// asked for yet, and the budget has something to give.
pub(crate) fn refill(
    account: &mut Account,
    use_: &AccountUse<'_>,
    amount: PicoUsd,
    at: Timestamp,
) -> Option<Record> {
    let size = chunk(Some(account), use_, amount);
    let lease = &account.lease;
    let is_asked = lease.asked > lease.limit;
    if is_asked || lease.left() + lease.left() >= size {
        return None;
    }
    let available = match use_.terms.limit {
        Some(limit) => limit.saturating_sub(account.spend.spent(at) + account.held),
        None => PicoUsd::UNBOUNDED,
    };
    let limit = lease.dispatched + size.min(available);
    if limit < lease.limit + amount.max(PicoUsd::new(1)) {
        return None;
    }
    account.lease.asked = limit;
    Some(raised(use_, limit, at))
}

fn raised(use_: &AccountUse<'_>, limit: PicoUsd, at: Timestamp) -> Record {
    Record::LeaseRaised {
        account: use_.account,
        limit,
        budget: use_.terms.limit,
        at,
    }
}
