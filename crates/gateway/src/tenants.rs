//! What the process keeps of each tenant that calls: its ledger behind its own lock, its bytes in
//! flight, its series. Tenants never contend.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base::{Name, TenantId};
use hashbrown::HashMap;
use ledger::TenantLedger;
use parking_lot::{Mutex, RwLock};
use tenancy::{Guardrails, TenantEntry};

use crate::health::TenantHealth;
use crate::in_flight::ByteCap;
use crate::inspect::{GuardSet, TenantTurn};
use crate::lines::Lines;
use crate::metrics::{Metrics, TenantMetrics};
use crate::pipeline::{CompiledPrompts, PendingBodies, PendingResponses, TermsCache};
use crate::prompt::PromptTemplate;
use crate::resilience::{RetryBudget, RetryOptions};
use crate::response_cache::ResponseCache;

/// All tenants that have called since the process began, or have money on the books.
#[derive(Debug, Default)]
pub struct Tenants {
    runtimes: RwLock<HashMap<TenantId, Arc<TenantRuntime>>>,
    /// Ledgers that recovery brought, until their tenant calls.
    recovered: Mutex<HashMap<TenantId, TenantLedger>>,
    /// How many replicas have a part in the budgets; 0 where this process has them to itself.
    replicas: AtomicU32,
    /// Rates are leased from pools that all replicas have together.
    leases_rates: AtomicBool,
}

/// One tenant's part of the process.
#[derive(Debug)]
pub struct TenantRuntime {
    /// Accounts, holds and limits. Never locked across an await.
    pub(crate) ledger: Mutex<TenantLedger>,
    /// Those who wait for others' calls to end.
    pub(crate) lines: Lines,
    pub(crate) in_flight: Arc<ByteCap>,
    pub(crate) metrics: Arc<TenantMetrics>,
    pub(crate) terms: TermsCache,
    /// What the tenant's calls may add to its upstreams' load by being tried again.
    pub(crate) retries: Mutex<RetryBudget>,
    pub(crate) responses: PendingResponses,
    /// What its calls asked and were answered, until that is kept.
    pub(crate) bodies: PendingBodies,
    /// Answers that are given again.
    pub(crate) cache: ResponseCache,
    /// The compiled guardrails, and those that they were compiled from.
    pub(crate) guards: Mutex<Option<(Arc<Guardrails>, Arc<GuardSet>)>>,
    /// Its place among those who look through long texts.
    pub(crate) inspecting: TenantTurn,
    /// The compiled system prompt, and the source that it was compiled from.
    pub(crate) prompt: Mutex<Option<(String, PromptTemplate)>>,
    /// The compiled prompts of its features.
    pub(crate) prompts: Mutex<CompiledPrompts>,
}

impl Tenants {
    /// Tenants with the ledgers that recovery brought.
    pub fn recovered(ledgers: impl IntoIterator<Item = TenantLedger>) -> Self {
        let recovered = ledgers
            .into_iter()
            .map(|ledger| (ledger.tenant(), ledger))
            .collect();
        Self {
            runtimes: RwLock::default(),
            recovered: Mutex::new(recovered),
            replicas: AtomicU32::new(0),
            leases_rates: AtomicBool::new(false),
        }
    }

    /// A tenant's part; made at its first call.
    pub(crate) fn runtime(&self, tenant: &TenantEntry, metrics: &Metrics) -> Arc<TenantRuntime> {
        if let Some(runtime) = self.runtimes.read().get(&tenant.id()) {
            return Arc::clone(runtime);
        }
        let id = tenant.id();
        let mut runtimes = self.runtimes.write();
        let made = runtimes
            .entry(id)
            .or_insert_with(|| self.make(id, &tenant.name, metrics));
        Arc::clone(made)
    }

    fn make(&self, id: TenantId, name: &Name, metrics: &Metrics) -> Arc<TenantRuntime> {
        let recovered = self.recovered.lock().remove(&id);
        let mut ledger = recovered.unwrap_or_else(|| TenantLedger::new(id));
        let replicas = self.replicas.load(Ordering::SeqCst);
        if replicas > 0 {
            ledger.share_with(replicas);
        }
        if self.leases_rates.load(Ordering::SeqCst) {
            ledger.lease_rates(true, Duration::ZERO);
        }
        Arc::new(TenantRuntime {
            ledger: Mutex::new(ledger),
            lines: Lines::default(),
            // Its tier's bound is set at each call: tiers change.
            in_flight: ByteCap::new(0),
            metrics: Arc::new(metrics.tenant(name)),
            terms: TermsCache::default(),
            retries: Mutex::new(RetryBudget::new(RetryOptions::default())),
            responses: PendingResponses::default(),
            bodies: PendingBodies::default(),
            cache: ResponseCache::default(),
            guards: Mutex::default(),
            inspecting: TenantTurn::default(),
            prompt: Mutex::default(),
            prompts: Mutex::default(),
        })
    }

    /// From here on budgets are shared: so many replicas have a part in them.
    pub(crate) fn share_with(&self, replicas: u32) {
        if self.replicas.swap(replicas, Ordering::SeqCst) != replicas {
            self.for_each_ledger(|ledger| ledger.share_with(replicas));
        }
    }

    /// From here on rates are leased from pools, or each replica has its part.
    pub(crate) fn lease_rates(&self, is_leasing: bool, elapsed: Duration) {
        self.leases_rates.store(is_leasing, Ordering::SeqCst);
        self.for_each_ledger(|ledger| ledger.lease_rates(is_leasing, elapsed));
    }

    /// Whoever has a ledger.
    pub(crate) fn ids(&self) -> Vec<TenantId> {
        let mut ids: Vec<_> = self.runtimes.read().keys().copied().collect();
        ids.extend(self.recovered.lock().keys());
        ids
    }

    /// Wakes those of a tenant's calls that wait.
    pub(crate) fn notify(&self, tenant: TenantId) {
        if let Some(runtime) = self.runtimes.read().get(&tenant) {
            runtime.lines.notify();
        }
    }

    /// Does something with every ledger that exists: expiry, sweeps, the return of leases.
    pub(crate) fn for_each_ledger(&self, mut act: impl FnMut(&mut TenantLedger)) {
        let runtimes: Vec<_> = self.runtimes.read().values().cloned().collect();
        for runtime in runtimes {
            act(&mut runtime.ledger.lock());
            runtime.lines.notify();
        }
        for ledger in self.recovered.lock().values_mut() {
            act(ledger);
        }
    }

    /// Does something with the cache of every tenant that has called.
    pub(crate) fn for_each_cache(&self, mut act: impl FnMut(TenantId, &ResponseCache)) {
        let runtimes = self.runtimes.read();
        for (tenant, runtime) in &*runtimes {
            act(*tenant, &runtime.cache);
        }
    }

    /// Does something with one tenant's cache, if it has called.
    pub(crate) fn with_cache<T>(
        &self,
        tenant: TenantId,
        act: impl FnOnce(&ResponseCache) -> T,
    ) -> Option<T> {
        let runtime = self.runtimes.read().get(&tenant).cloned();
        runtime.map(|runtime| act(&runtime.cache))
    }

    /// Does something with the last hour of every tenant that has called.
    pub(crate) fn for_each_health(&self, mut act: impl FnMut(TenantId, &TenantHealth)) {
        let runtimes = self.runtimes.read();
        for (tenant, runtime) in &*runtimes {
            act(*tenant, &runtime.metrics.health);
        }
    }

    /// Does something with one tenant's last hour, if it has called.
    pub(crate) fn with_health<T>(
        &self,
        tenant: TenantId,
        act: impl FnOnce(&TenantHealth) -> T,
    ) -> Option<T> {
        let runtime = self.runtimes.read().get(&tenant).cloned();
        runtime.map(|runtime| act(&runtime.metrics.health))
    }

    /// Does something with one tenant's ledger, if it has one.
    pub(crate) fn with_ledger<T>(
        &self,
        tenant: TenantId,
        act: impl FnOnce(&mut TenantLedger) -> T,
    ) -> Option<T> {
        let runtime = self.runtimes.read().get(&tenant).cloned();
        match runtime {
            Some(runtime) => Some(act(&mut runtime.ledger.lock())),
            None => self.recovered.lock().get_mut(&tenant).map(act),
        }
    }
}
