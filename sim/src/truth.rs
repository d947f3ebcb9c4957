//! What really happened: at the upstreams, and before the clients' eyes. No crash forgets it.

use std::collections::{BTreeMap, BTreeSet};

use base::{AttemptId, PicoUsd};
use ledger::Lsn;

use crate::tenants::{TENANTS, Tenant};

/// A call that an upstream saw.
#[derive(Debug)]
pub(crate) struct TrueCall {
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

#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) calls: BTreeMap<AttemptId, TrueCall>,
    /// What the upstreams billed, by tenant and account.
    billed: Vec<Vec<PicoUsd>>,
    /// Accounts that were forgotten: a crash may bring what they had spent back.
    forgotten: BTreeSet<(usize, usize)>,
}

impl Truth {
    pub(crate) fn new(tenants: &[Tenant]) -> Self {
        debug_assert_eq!(tenants.len(), TENANTS);
        Self {
            calls: BTreeMap::new(),
            billed: tenants
                .iter()
                .map(|tenant| vec![PicoUsd::ZERO; tenant.budgets.len()])
                .collect(),
            forgotten: BTreeSet::new(),
        }
    }

    pub(crate) fn dispatch(&mut self, attempt: AttemptId, call: TrueCall) {
        for account in &call.accounts {
            self.billed[call.tenant][*account] += call.cost;
        }
        self.calls.insert(attempt, call);
    }

    pub(crate) fn billed(&self, tenant: usize, account: usize) -> PicoUsd {
        self.billed[tenant][account]
    }

    /// What a forgotten session was billed is nobody's business any more.
    pub(crate) fn forget(&mut self, tenant: usize, account: usize) {
        self.billed[tenant][account] = PicoUsd::ZERO;
        self.forgotten.insert((tenant, account));
        for call in self.calls.values_mut() {
            if call.tenant == tenant {
                call.accounts.retain(|paying| *paying != account);
            }
        }
    }

    /// Whether an account was ever forgotten.
    pub(crate) fn was_forgotten(&self, tenant: usize, account: usize) -> bool {
        self.forgotten.contains(&(tenant, account))
    }

    /// What was billed for calls that the journal never heard of.
    pub(crate) fn lost(&self, tenant: usize, account: usize) -> PicoUsd {
        self.calls
            .values()
            .filter(|call| {
                call.is_lost && call.tenant == tenant && call.accounts.contains(&account)
            })
            .map(|call| call.cost)
            .sum()
    }
}
