//! The gateway as the rest of the process sees it: started, published to, asked, drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{AttemptId, Clock, Entropy, Network, PicoUsd, Supervisor, TenantId};
use ledger::{AccountId, AccountView, Lsn, ReconcileError, Record, TenantLedger, Unsettled};
use store::{Journal, Stores};
use tenancy::catalogue::{CacheMode, CacheSpec, PromptText};
use tenancy::{KeyHasher, Problem, SharingSecret, Snapshot, TenantEntry, TokenKeys};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::bounds::GatewayBounds;
use crate::configuration::Configuration;
use crate::fence::Fence;
use crate::in_flight::ByteCap;
use crate::inspect::{GuardServices, Turns};
use crate::metrics::Metrics;
use crate::notices::{Courier, Notices, WebhookSecret};
use crate::pipeline;
use crate::prompt::{PromptTrial, TrialError};
use crate::response_cache::{CacheFigures, Reader, ResponseCache};
use crate::server;
use crate::shared::Shared;
use crate::shares::{Clerk, Coordinator, RateClerk, RatePools};
use crate::telemetry::{Telemetry, TelemetryOptions};
use crate::tenants::Tenants;
use crate::upstream::{MailServer, Postman, UpstreamParts};

/// Every second holds are looked at for their deadline; each costs nothing while none has passed.
const EXPIRY_EVERY: Duration = Duration::from_secs(1);
/// A cut connection's task ends as soon as it is polled.
const CUT_PATIENCE: Duration = Duration::from_secs(5);
/// Five seconds of waiting for a group commit, which takes some milliseconds.
const DURABLE_TURNS_MAX: u32 = 5_000;
const DURABLE_TURN: Duration = Duration::from_millis(1);
/// Every ten minutes idle sessions, turns and limits are forgotten.
const SWEEP_EVERY: u32 = 600;

/// What the gateway is made of.
pub struct Parts {
    /// The first version of the catalogue.
    pub snapshot: Arc<Snapshot>,
    /// Hashes API keys.
    pub key_hasher: KeyHasher,
    /// Signs and verifies tokens; swapped when they rotate.
    pub token_keys: Arc<ArcSwap<TokenKeys>>,
    /// Where money's facts go.
    pub journal: Arc<Journal>,
    /// The ledgers that recovery brought.
    pub ledgers: Vec<TenantLedger>,
    /// The tenants' own stores.
    pub stores: Stores,
    /// Names and connections.
    pub network: Arc<dyn Network>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Bounds of the data listener.
    pub bounds: GatewayBounds,
    /// Where each call leaves a line.
    pub access_log: AccessLog,
    /// Signs webhooks.
    pub webhook_secret: WebhookSecret,
    /// What the salts of sharing groups derive from.
    pub sharing_secret: SharingSecret,
    /// Where traces and metrics are sent, if anywhere.
    pub telemetry: Option<TelemetryOptions>,
    /// Of a replica among several: calls pass while it is open.
    pub fence: Option<Arc<Fence>>,
    /// Who keeps the shares of budgets, if other replicas have a part in them.
    pub coordinator: Option<Arc<dyn Coordinator>>,
    /// Who keeps rates that other replicas have a part in; without, each has a fixed part.
    pub rate_pools: Option<Arc<dyn RatePools>>,
}

/// The data path.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    upstream_parts: UpstreamParts,
    /// Client connections and their calls.
    clients: Supervisor,
    /// Wakes who looks after upstreams: there may be new ones.
    published: Arc<Notify>,
}

/// One budget of one subject, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountState {
    /// Spent, held and the rest.
    pub view: AccountView,
}

impl Gateway {
    /// Compiles the first configuration and starts the background work.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the catalogue.
    pub fn start(parts: Parts) -> Result<Self, Vec<Problem>> {
        let background = Supervisor::new();
        let upstream_parts = UpstreamParts {
            network: parts.network,
            clock: Arc::clone(&parts.clock),
            supervisor: background.clone(),
            tls: tls(),
        };
        let configuration = Configuration::compile(parts.snapshot, None, &upstream_parts)?;
        configuration.reserve_places();
        let courier = Courier {
            parts: upstream_parts.clone(),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            secret: Arc::clone(&parts.webhook_secret),
        };
        let guard_services = GuardServices {
            parts: upstream_parts.clone(),
            secret: parts.webhook_secret,
        };
        let metrics = Metrics::new();
        let telemetry = parts.telemetry.map(|options| {
            let entropy = Arc::clone(&parts.entropy);
            let dropped = metrics.dropped.clone();
            Telemetry::start(options, &upstream_parts, entropy, dropped)
        });
        let tenants = Tenants::recovered(parts.ledgers);
        let clerk = parts.coordinator.map(|coordinator| {
            tenants.share_with(1);
            Arc::new(Clerk::new(coordinator))
        });
        let shared = Arc::new(Shared {
            configuration: ArcSwap::from_pointee(configuration),
            tenants,
            clerk,
            rate_clerk: parts
                .rate_pools
                .map(|pools| Arc::new(RateClerk::new(pools))),
            key_hasher: parts.key_hasher,
            sharing_secret: parts.sharing_secret,
            token_keys: parts.token_keys,
            journal: parts.journal,
            stores: parts.stores,
            clock: parts.clock,
            entropy: parts.entropy,
            in_flight: ByteCap::new(parts.bounds.in_flight_bytes_max),
            cached: ByteCap::new(parts.bounds.cache_bytes_max),
            bodies: ByteCap::new(pipeline::BODIES_WAITING_MAX),
            redacting: Semaphore::new(1),
            bounds: parts.bounds,
            metrics,
            access_log: parts.access_log,
            notices: Notices::start(courier, &background),
            guard_services,
            inspecting: Turns::of_this_machine(),
            telemetry,
            supervisor: background,
            is_draining: AtomicBool::new(false),
            fence: parts.fence,
            cut: CancellationToken::new(),
        });
        let gateway = Self {
            shared,
            upstream_parts,
            clients: Supervisor::new(),
            published: Arc::default(),
        };
        gateway.start_expiry();
        if let Some(clerk) = &gateway.shared.clerk {
            clerk.start(&gateway.shared, &gateway.shared.supervisor);
        }
        if let Some(clerk) = &gateway.shared.rate_clerk {
            clerk.start(&gateway.shared, &gateway.shared.supervisor);
        }
        Ok(gateway)
    }

    /// Serves clients on `listener` until the gateway drains.
    pub async fn serve(&self, listener: TcpListener) {
        server::serve(Arc::clone(&self.shared), listener, self.clients.clone()).await;
    }

    /// The catalogue's version in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.configuration.load().snapshot)
    }

    /// Whether a snapshot could be published. Of the tenants, those are looked into whose
    /// configuration is another than the one in force.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn check(&self, snapshot: &Arc<Snapshot>) -> Result<(), Vec<Problem>> {
        let mut problems = self.compile(snapshot).err().unwrap_or_default();
        let current = self.snapshot();
        let is_changed = |tenant: &&Arc<TenantEntry>| {
            !current.tenant(tenant.id()).is_some_and(|before| {
                let is_config =
                    Arc::ptr_eq(&before.config, &tenant.config) || before.config == tenant.config;
                is_config
                    && before.guardrails == tenant.guardrails
                    && before.prompts == tenant.prompts
            })
        };
        let changed = snapshot.tenants().filter(is_changed);
        problems.extend(changed.flat_map(|tenant| Configuration::check_tenant(tenant)));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// What a model would be told by a version of a tenant's prompt. Nothing is called.
    ///
    /// # Errors
    ///
    /// [`TrialError`]: values that do not fit, a template that does not end.
    pub fn try_prompt(
        &self,
        tenant: &TenantEntry,
        text: &PromptText,
        trial: PromptTrial,
    ) -> Result<String, TrialError> {
        trial.render(tenant, text, self.shared.clock.now())
    }

    /// Puts a snapshot in force for requests that arrive from now on. Requests under way keep
    /// the version that they began with.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; then the old one stays.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) -> Result<(), Vec<Problem>> {
        let next = self.compile(snapshot)?;
        next.reserve_places();
        next.keep_adapters();
        self.shared.configuration.store(Arc::new(next));
        self.follow_with_caches(snapshot);
        self.published.notify_one();
        Ok(())
    }

    /// Forgets the answers of tenants that are gone, suspended or configured otherwise now.
    fn follow_with_caches(&self, snapshot: &Snapshot) {
        let now = self.shared.clock.elapsed();
        let version = snapshot.version();
        self.shared.tenants.for_each_cache(|id, cache| {
            let keeps = |tenant: &&Arc<TenantEntry>| {
                let is_on = |cache: &CacheSpec| cache.mode != CacheMode::Off;
                tenant.config.cache.as_ref().is_some_and(is_on)
                    && !tenant.spec.suspended
                    && snapshot.tier_of(tenant).cache_bytes_max > 0
            };
            let tenant = snapshot.tenant(id).filter(keeps);
            cache.follow(tenant.map(|tenant| Reader {
                tenant,
                version,
                now,
            }));
        });
    }

    /// What is kept of a tenant's answers, and how often that helped.
    pub fn cache_figures(&self, tenant: TenantId) -> CacheFigures {
        let tenants = &self.shared.tenants;
        let figures = tenants.with_cache(tenant, ResponseCache::figures);
        figures.unwrap_or_default()
    }

    /// Forgets a tenant's answers, those of calls under way included.
    pub fn clear_cache(&self, tenant: TenantId) {
        let cleared = self.shared.tenants.with_cache(tenant, ResponseCache::clear);
        // A tenant that has not called has nothing to forget.
        cleared.unwrap_or_default();
    }

    fn compile(&self, snapshot: &Arc<Snapshot>) -> Result<Configuration, Vec<Problem>> {
        let current = self.shared.configuration.load();
        Configuration::compile(Arc::clone(snapshot), Some(&current), &self.upstream_parts)
    }

    /// What brings messages that are no calls, by this mail server if there is one.
    pub fn postman(&self, mail: Option<MailServer>) -> Postman {
        Postman::new(self.upstream_parts.clone(), mail)
    }

    /// The tenants that have called.
    pub(crate) fn tenants(&self) -> &Tenants {
        &self.shared.tenants
    }

    /// How long the process has counted calls.
    pub(crate) fn health_elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// What is in force now.
    pub(crate) fn configuration(&self) -> arc_swap::Guard<Arc<Configuration>> {
        self.shared.configuration.load()
    }

    /// One account of a tenant, if any call has reserved on it.
    pub fn account(&self, tenant: TenantId, account: AccountId) -> Option<AccountView> {
        let now = self.shared.clock.now();
        self.shared
            .tenants
            .with_ledger(tenant, |ledger| ledger.account(account, now))?
    }

    /// A tenant's calls whose cost is not known.
    pub fn unsettled(&self, tenant: TenantId) -> Vec<Unsettled> {
        let found = self
            .shared
            .tenants
            .with_ledger(tenant, |ledger| ledger.unsettled());
        found.unwrap_or_default()
    }

    /// Holds that are live, over all tenants.
    pub fn live_holds(&self) -> usize {
        let mut live = 0;
        self.shared
            .tenants
            .for_each_ledger(|ledger| live += ledger.live_holds());
        live
    }

    /// What a call cost was found out. Blocks until that is on disk.
    ///
    /// # Errors
    ///
    /// [`ReconcileError`] if it is under way, or not unsettled.
    pub fn reconcile(
        &self,
        tenant: TenantId,
        attempt: AttemptId,
        cost: PicoUsd,
    ) -> Result<(), ReconcileError> {
        let at = self.shared.clock.now();
        let reconciled = self.shared.tenants.with_ledger(tenant, |ledger| {
            let _settlement = ledger.reconcile(attempt, cost, at)?;
            Ok(self.journal(&[Record::Reconciled { attempt, cost, at }]))
        });
        let lsn = reconciled.unwrap_or(Err(ReconcileError::Unknown))?;
        self.wait_until_durable(lsn);
        Ok(())
    }

    /// Of what a crash left unreported on an account, `unspent` was found not to be spent: at
    /// most what there is counts. That nothing was is worth noting, too: the rest is known then.
    /// Returns what was given back.
    pub fn reconcile_lease(
        &self,
        tenant: TenantId,
        account: AccountId,
        unspent: PicoUsd,
    ) -> PicoUsd {
        let at = self.shared.clock.now();
        let mut lsn = None;
        let reconciled = self.shared.tenants.with_ledger(tenant, |ledger| {
            let view = ledger.account(account, at);
            let unreported = view.map_or(PicoUsd::ZERO, |view| view.unreported);
            let unspent = unspent.min(unreported);
            if unreported > PicoUsd::ZERO {
                ledger.reconcile_lease(account, unspent, at);
                lsn = self.journal(&[Record::LeaseReconciled {
                    account,
                    unspent,
                    at,
                }]);
            }
            unspent
        });
        self.wait_until_durable(lsn);
        reconciled.unwrap_or(PicoUsd::ZERO)
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Stops accepting, lets calls finish for `patience`, cuts those that have not, settles, and
    /// notes a clean end. The journal is still to be closed. Returns how many connections were
    /// cut.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.shared.is_draining.store(true, Ordering::Relaxed);
        let cut = self.clients.drain(patience).await;
        // Dropping a call settles it by what is known of it.
        self.shared.cut.cancel();
        self.clients.drain(CUT_PATIENCE).await;
        self.shared.configuration.load().close_idle();
        self.shared.supervisor.drain(CUT_PATIENCE).await;
        if let Some(clerk) = &self.shared.clerk {
            clerk.take_leave(&self.shared).await;
        }
        if self.live_holds() == 0 {
            self.journal(&[Record::Closed {
                at: self.shared.clock.now(),
            }]);
        }
        self.shared.access_log.close();
        cut
    }

    /// Looks after holds that nobody ended, and after accounts that are idle.
    fn start_expiry(&self) {
        let gateway = self.clone();
        let supervisor = self.shared.supervisor.clone();
        self.shared.supervisor.spawn(async move {
            gateway.tend();
            let mut turn = 0_u32;
            let mut minute = 0;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(EXPIRY_EVERY) => {
                        turn = turn.wrapping_add(1);
                        gateway.expire(turn.is_multiple_of(SWEEP_EVERY));
                        minute = gateway.turn_minute(minute);
                    }
                    () = gateway.published.notified() => gateway.tend(),
                    () = supervisor.stopping() => return,
                }
            }
        });
    }

    /// Begins what is due at the upstreams: who their replicas are, how they are.
    fn tend(&self) {
        let configuration = self.shared.configuration.load();
        for upstream in configuration.upstreams() {
            upstream.tend(&self.shared.entropy);
        }
    }

    fn expire(&self, sweeps: bool) {
        let configuration = self.shared.configuration.load();
        configuration.sweep_idle();
        let upstreams = configuration.upstreams();
        let views = upstreams.map(|upstream| (&upstream.name, upstream.view()));
        self.shared.metrics.show_upstreams(views);
        let shelves = configuration.upstreams().filter_map(|upstream| {
            // Whoever gave up waiting has told nobody.
            let shelf = upstream.adapters.as_ref()?;
            shelf.drive(upstream);
            Some((&upstream.name, shelf.view()))
        });
        self.shared.metrics.show_adapters(shelves);
        self.tend();
        let now = self.shared.clock.now();
        let elapsed = self.shared.clock.elapsed();
        if sweeps {
            let caches = |_, cache: &ResponseCache| cache.expire(elapsed);
            self.shared.tenants.for_each_cache(caches);
        }
        self.shared.tenants.for_each_ledger(|ledger| {
            let expiry = ledger.expire(now);
            let mut records: Vec<Record> = expiry
                .expired
                .iter()
                .map(|expired| Record::Expired {
                    attempt: expired.attempt,
                    at: now,
                })
                .collect();
            if sweeps {
                for overdue in ledger.overdue(now) {
                    let (attempt, cost) = (overdue.attempt, overdue.amount);
                    if ledger.reconcile(attempt, cost, now).is_ok() {
                        records.push(Record::Reconciled {
                            attempt,
                            cost,
                            at: now,
                        });
                    }
                }
                records.extend(ledger.sweep(now, elapsed));
            }
            self.journal(&records);
            // Of their own: should the journal be too full for them, the ends above still fit.
            self.journal(&ledger.return_idle_leases(now));
        });
    }

    fn journal(&self, records: &[Record]) -> Option<Lsn> {
        if records.is_empty() {
            return None;
        }
        let appended = self.shared.journal.append_all(records);
        appended
            .inspect_err(|error| {
                // What is not written is over-counted after a restart, never under-counted.
                tracing::error!(%error, "what the ledger did could not be journaled");
            })
            .ok()
    }

    /// Blocks until a record is on disk, so that what an operator is told has happened has. For
    /// a disk that fails it gives up: the money then counts again after a restart.
    fn wait_until_durable(&self, lsn: Option<Lsn>) {
        let Some(lsn) = lsn else { return };
        for _ in 0..DURABLE_TURNS_MAX {
            if self.shared.journal.durable_lsn() >= lsn {
                return;
            }
            std::thread::sleep(DURABLE_TURN);
        }
        tracing::error!("a reconciliation is not on disk yet: the journal's disk is failing");
    }
}

/// TLS to upstreams: Mozilla's roots, and one provider of cryptography for the whole process.
pub(crate) fn tls() -> Arc<rustls::ClientConfig> {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
