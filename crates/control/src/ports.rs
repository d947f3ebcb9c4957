//! What the admin API asks of the rest of the process: the binary wires these.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use base::{AttemptId, Name, PicoUsd, TenantId, Timestamp};
use ledger::{ReconcileError, Subject, Unsettled, VerifyReport};
use tenancy::catalogue::PromptText;
use tenancy::{Problem, Snapshot, TenantEntry, WrappedKey};

use crate::api::{
    BudgetRow, CacheReply, HealthFigures, RenderRequest, SilentReplica, UpstreamStatusReply,
};

/// Who serves the catalogue: the gateway.
pub trait PublishTarget: Send + Sync + 'static {
    /// Whether it could serve this snapshot: prompts compile, addresses resolve to clients, …
    ///
    /// # Errors
    ///
    /// Everything that it could not serve; then the version is refused whole.
    fn check(&self, snapshot: &Snapshot) -> Result<(), Vec<Problem>>;

    /// What a model would be told by a version of a tenant's prompt.
    ///
    /// # Errors
    ///
    /// A sentence: which value does not fit, or why there is no text.
    fn render(
        &self,
        tenant: &TenantEntry,
        text: &PromptText,
        asked: RenderRequest,
    ) -> Result<String, String>;

    /// Serves it from the next request on. Requests under way end with the one they began with.
    fn publish(&self, snapshot: Arc<Snapshot>);

    /// What it serves.
    fn current(&self) -> Arc<Snapshot>;
}

/// The calls in the journal that are not in the tenants' stores yet. Asked from a thread that may
/// block.
pub trait LiveUsage: Send + Sync + 'static {
    /// Brings what is durable by now into the stores, each call at most once. Whoever reads a
    /// store after this misses none of it, and counts none of it twice.
    ///
    /// What goes wrong is logged: the stores are then as of the last success.
    fn catch_up(&self);
}

/// The live state of budgets.
pub trait BudgetReader: Send + Sync + 'static {
    /// Every subject that has a state, in the order of budgets and subjects: at most 10,000. Asked
    /// from a thread that may block.
    fn budgets(&self, tenant: TenantId) -> Vec<BudgetRow>;
}

/// How upstreams are.
pub trait UpstreamReader: Send + Sync + 'static {
    /// One of them, as it is now; none if the gateway has none of that name.
    fn upstream(&self, name: &str) -> Option<UpstreamStatusReply>;
}

/// The last hour of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthHour {
    /// All of it.
    pub sum: HealthFigures,
    /// Minute by minute, the oldest first; the last one is under way.
    pub minutes: Vec<HealthFigures>,
    /// When each of them began.
    pub began: Vec<Timestamp>,
}

/// The last hour of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetHealth {
    /// Of all of them.
    pub sum: HealthFigures,
    /// Of each one that called in it.
    pub tenants: HashMap<TenantId, HourOfFleet>,
    /// When each of its minutes began.
    pub began: Vec<Timestamp>,
}

/// The last hour of one tenant, beside all others: without the distributions of each minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HourOfFleet {
    /// All of it.
    pub sum: HealthFigures,
    /// Minute by minute, the oldest first; the last one is under way.
    pub minutes: Vec<MinuteOfFleet>,
}

/// The calls of a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinuteOfFleet {
    /// All that ended.
    pub calls: u64,
    /// Those that should have been answered and were not.
    pub failed: u64,
}

/// What the figures of calls cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// When the oldest calls of other replicas were that are in them; none without any.
    pub since: Option<Timestamp>,
    /// From when on other replicas' calls may be missing.
    pub incomplete_since: Option<Timestamp>,
    /// Whose, as far as it is known.
    pub silent: Vec<SilentReplica>,
}

/// How tenants' calls went: the last hour, counted in memory, here and at other replicas.
pub trait HealthReader: Send + Sync + 'static {
    /// Everybody's.
    fn all(&self) -> FleetHealth;

    /// One tenant's; none if it has not called in it.
    fn tenant(&self, tenant: TenantId) -> Option<HealthHour>;

    /// A number that changes with everybody's calls.
    fn pulse(&self) -> u64;

    /// A number that changes with one tenant's calls, and nobody else's.
    fn pulse_of(&self, tenant: TenantId) -> u64;

    /// The tenants whose own calls fail at an upstream, so that they are held back there.
    fn open_breakers(&self) -> Vec<(Name, Vec<TenantId>)>;

    /// What all of this covers.
    fn coverage(&self) -> Coverage;
}

/// Checks that the ledger adds up. Asked from a thread that may block.
pub trait LedgerVerifier: Send + Sync + 'static {
    /// Reads the whole journal, from the last checkpoint on.
    ///
    /// # Errors
    ///
    /// Whatever kept it from being read; it is logged and not shown.
    fn verify(&self) -> Result<VerifyReport, Box<dyn Error + Send + Sync>>;
}

/// What a crash left unreported on one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreported {
    /// The account's budget.
    pub budget: Name,
    /// Whom it is about.
    pub subject: Subject,
    /// What of it still counts as spent.
    pub amount: PicoUsd,
}

/// What counts as spent though nobody knows that it was. Asked from a thread that may block.
pub trait Reconciler: Send + Sync + 'static {
    /// Calls whose end nobody saw, oldest first.
    fn unsettled(&self, tenant: TenantId) -> Vec<Unsettled>;

    /// Accounts on which a crash left something.
    fn unreported(&self, tenant: TenantId) -> Vec<Unreported>;

    /// A call was found to have cost this.
    ///
    /// # Errors
    ///
    /// [`ReconcileError`]; then nothing has changed.
    fn reconcile(
        &self,
        tenant: TenantId,
        attempt: AttemptId,
        cost: PicoUsd,
    ) -> Result<(), ReconcileError>;

    /// Of what a crash left, `unspent` was found not to be spent. Returns what was given back:
    /// at most what there is.
    fn reconcile_lease(&self, tenant: TenantId, lease: &Unreported, unspent: PicoUsd) -> PicoUsd;
}

/// The answers that the data path keeps to give them again.
pub trait ResponseCaches: Send + Sync + 'static {
    /// How many of a tenant's there are.
    fn figures(&self, tenant: TenantId) -> CacheReply;

    /// Forgets a tenant's.
    fn clear(&self, tenant: TenantId);
}

/// How the process is.
pub trait Vitals: Send + Sync + 'static {
    /// Whether it can serve.
    ///
    /// # Errors
    ///
    /// What is missing, in a few words that anybody may read.
    fn ready(&self) -> Result<(), String>;

    /// All metrics, in Prometheus' text form.
    fn metrics(&self) -> String;

    /// The same by OpenMetrics, with exemplars.
    fn open_metrics(&self) -> String;
}

/// Where the installation's own wrapped key is kept. It cannot be in the catalogue, which it
/// opens.
pub trait PlatformKeyFile: Send + Sync + 'static {
    /// Keeps these wrappings of the one platform key, durably and all at once. While the root key
    /// is rotated there are two, and either root key must open the installation.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports; then what was kept stays.
    fn replace(&self, wrappings: &[WrappedKey]) -> std::io::Result<()>;

    /// What is kept.
    ///
    /// # Errors
    ///
    /// Whatever the disk reports.
    fn read(&self) -> std::io::Result<Vec<WrappedKey>>;
}
