//! What really happened: at the upstreams, and before the clients' eyes. No crash forgets it.

use std::collections::{BTreeMap, BTreeSet};

use base::{AttemptId, PicoUsd};
use ledger::Lsn;

/// A call that an upstream saw.
#[derive(Debug)]
pub(crate) struct TrueCall {
    /// Through which replica.
    pub(crate) replica: usize,
    pub(crate) tenant: usize,
    /// The accounts that have to pay for it.
    pub(crate) accounts: Vec<usize>,
    /// What the upstream bills.
    pub(crate) cost: PicoUsd,
    /// A client saw a byte of its answer.
    pub(crate) is_answered: bool,
    /// Where its end stands in the journal, and what that says it cost.
    pub(crate) settled: Option<(Lsn, PicoUsd)>,
    /// A crash came before its intent was durable.
    pub(crate) is_lost: bool,
}

/// An account of a tenant, as one replica keeps it.
pub(crate) type Books = (usize, usize, usize);

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) calls: BTreeMap<AttemptId, TrueCall>,
    /// What the upstreams billed, by replica, tenant and account.
    billed: BTreeMap<Books, PicoUsd>,
    /// Accounts that were forgotten: a crash may bring what they had spent back.
    forgotten: BTreeSet<Books>,
}

impl Truth {
    pub(crate) fn dispatch(&mut self, attempt: AttemptId, call: TrueCall) {
        for account in &call.accounts {
            let books = (call.replica, call.tenant, *account);
            *self.billed.entry(books).or_default() += call.cost;
        }
        self.calls.insert(attempt, call);
    }

    pub(crate) fn billed(&self, books: Books) -> PicoUsd {
        self.billed.get(&books).copied().unwrap_or_default()
    }

    /// What a forgotten session was billed is nobody's business any more.
    pub(crate) fn forget(&mut self, books: Books) {
        self.billed.remove(&books);
        self.forgotten.insert(books);
        let (replica, tenant, account) = books;
        for call in self.calls.values_mut() {
            if (call.replica, call.tenant) == (replica, tenant) {
                call.accounts.retain(|paying| *paying != account);
            }
        }
    }

    /// Whether an account was ever forgotten.
    pub(crate) fn was_forgotten(&self, books: Books) -> bool {
        self.forgotten.contains(&books)
    }

    /// What was billed for calls that the journal never heard of.
    pub(crate) fn lost(&self, (replica, tenant, account): Books) -> PicoUsd {
        let is_lost = |call: &&TrueCall| {
            call.is_lost
                && (call.replica, call.tenant) == (replica, tenant)
                && call.accounts.contains(&account)
        };
        self.calls
            .values()
            .filter(is_lost)
            .map(|call| call.cost)
            .sum()
    }
}
