//! What crashes left on the books, for operators who know better.

use base::{AttemptId, PicoUsd, TenantId};
use control::{Reconciler, Unreported};
use gateway::Gateway;
use ledger::{AccountId, AccountSummary, ReconcileError, Unsettled};

/// The gateway's books.
pub(super) struct Books {
    pub(super) gateway: Gateway,
    /// What crashes before this start left: nothing is added while the process runs. Ledgers know
    /// accounts by their ids; whose they are stands here.
    pub(super) crashed: Vec<AccountSummary>,
}

impl Reconciler for Books {
    fn unsettled(&self, tenant: TenantId) -> Vec<Unsettled> {
        self.gateway.unsettled(tenant)
    }

    fn unreported(&self, tenant: TenantId) -> Vec<Unreported> {
        let own = self.crashed.iter().filter(|it| it.tenant == tenant);
        own.filter_map(|account| {
            let id = AccountId::of(tenant, &account.budget, &account.subject);
            let amount = self.gateway.account(tenant, id)?.unreported;
            (amount > PicoUsd::ZERO).then(|| Unreported {
                budget: account.budget.clone(),
                subject: account.subject.clone(),
                amount,
            })
        })
        .collect()
    }

    fn reconcile(
        &self,
        tenant: TenantId,
        attempt: AttemptId,
        cost: PicoUsd,
    ) -> Result<(), ReconcileError> {
        self.gateway.reconcile(tenant, attempt, cost)
    }

    fn reconcile_lease(&self, tenant: TenantId, lease: &Unreported, unspent: PicoUsd) -> PicoUsd {
        let account = AccountId::of(tenant, &lease.budget, &lease.subject);
        self.gateway.reconcile_lease(tenant, account, unspent)
    }
}
