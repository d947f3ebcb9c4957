//! The admin API: onboarding, publishing configuration, usage and audit reads.
//!
//! One route table ([`routes`]) says of each endpoint who may call it, what it reads and writes,
//! and what it does. The router, the OpenAPI document and the refusal matrix of the tests come
//! from it, so that none of them can forget a route.
//!
//! Every change goes through the [`Publisher`]: checked as a whole, put on record, made durable,
//! and then served. Operators are not tenants: what they read of a tenant's data is on record
//! first.

mod alerts;
pub mod api;
mod backups;
mod billing;
mod caller;
mod costs;
mod dashboard;
mod declare;
mod endpoint;
mod error;
mod export;
mod gates;
mod given;
mod health;
mod lines;
mod moves;
mod openapi;
mod options;
mod paging;
mod placing;
mod platform_key;
mod ports;
mod prices;
mod provider_bills;
mod publisher;
mod pushing;
mod resources;
mod rollback;
mod router;
mod routes;
mod token_keys;
mod upgrades;
mod uploads;
mod usage;
mod web;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use base::Clock;
use tenancy::{KeyHasher, TenantEntry, TenantScope, act_for};

pub use alerts::{AddressScope, AlertOptions, Hook, Mail, Postman, Sending, Signed};
pub use backups::{BackupFolder, BackupRound};
pub use dashboard::{OidcOptions, OidcRole, OidcRule, is_safe};
pub use error::chain;
pub use openapi::openapi;
pub use options::MetricsAccess;
pub use platform_key::{DiskPlatformKeyFile, ServerPlatformKeyFile, UnlockError, unlock_platform};
pub use ports::{
    BudgetReader, Coverage, FleetHealth, HealthHour, HealthReader, HourOfFleet, LedgerVerifier,
    LiveUsage, MinuteOfFleet, PlatformKeyFile, PublishTarget, Reconciler, ResponseCaches,
    Unreported, UpstreamReader, Vitals,
};
pub use publisher::{
    CreateOperatorError, LoadError, Loaded, Publisher, PublisherParts, ReloadError, load,
};
pub use pushing::{Bucket, Object, PushFormat, PushOptions, PushRound, Reading, Storing};
pub use token_keys::{TokenKeyring, TokenKeyringError, TokenKeyringParts};
pub use upgrades::UpgradeTurn;
pub use uploads::AdapterFolder;
pub use web::{Asking, Web, WebAnswer, WebRequest};

use alerts::Alerts;
use caller::Caller;
use dashboard::Dashboard;
use error::ApiError;
use gates::Gates;
use health::FleetCache;
use publisher::blocking;

/// 4 exports at a time: each has a thread, and some megabytes.
const EXPORTS_MAX: usize = 4;

/// What the admin API works with.
pub struct ControlParts {
    /// Changes the catalogue.
    pub publisher: Arc<Publisher>,
    /// Hashes keys that are presented.
    pub hasher: KeyHasher,
    /// Brings the calls that are in the journal alone into the stores.
    pub live_usage: Arc<dyn LiveUsage>,
    /// The live state of budgets.
    pub budgets: Arc<dyn BudgetReader>,
    /// How upstreams are.
    pub upstreams: Arc<dyn UpstreamReader>,
    /// How tenants' calls went.
    pub health: Arc<dyn HealthReader>,
    /// Checks the ledger.
    pub ledger: Arc<dyn LedgerVerifier>,
    /// What crashes left unknown.
    pub reconciler: Arc<dyn Reconciler>,
    /// Answers that are given again.
    pub caches: Arc<dyn ResponseCaches>,
    /// How the process is.
    pub vitals: Arc<dyn Vitals>,
    /// How alerts are watched for.
    pub alerts: AlertOptions,
    /// Brings alerts' messages.
    pub postman: Arc<dyn Postman>,
    /// The way to services that the operator named.
    pub web: Arc<dyn Web>,
    /// The identity provider that people sign in by, if there is one.
    pub oidc: Option<OidcOptions>,
    /// The bucket that costs are pushed to, if there is one.
    pub pushing: Option<PushOptions>,
    /// Who may read `/metrics`.
    pub metrics_access: MetricsAccess,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What every process answers, whatever it does.
const VITALS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The admin API.
pub struct Control {
    publisher: Arc<Publisher>,
    hasher: KeyHasher,
    live_usage: Arc<dyn LiveUsage>,
    budgets: Arc<dyn BudgetReader>,
    upstreams: Arc<dyn UpstreamReader>,
    health: Arc<dyn HealthReader>,
    fleet_cache: FleetCache,
    dashboard: Dashboard,
    web: Arc<dyn Web>,
    pushing: Option<Arc<PushOptions>>,
    alerts: Alerts,
    ledger: Arc<dyn LedgerVerifier>,
    reconciler: Arc<dyn Reconciler>,
    caches: Arc<dyn ResponseCaches>,
    vitals: Arc<dyn Vitals>,
    metrics_access: MetricsAccess,
    clock: Arc<dyn Clock>,
    gates: Gates,
    /// Places for exports, which go on after their call was answered.
    exports: Arc<tokio::sync::Semaphore>,
}

impl Control {
    /// The admin API over these parts.
    pub fn new(parts: ControlParts) -> Arc<Self> {
        let dashboard = Dashboard::new(parts.oidc, parts.publisher.mint().entropy);
        Arc::new(Self {
            publisher: parts.publisher,
            hasher: parts.hasher,
            live_usage: parts.live_usage,
            budgets: parts.budgets,
            upstreams: parts.upstreams,
            health: parts.health,
            fleet_cache: FleetCache::default(),
            dashboard,
            web: parts.web,
            pushing: parts.pushing.map(Arc::new),
            alerts: Alerts::new(parts.alerts, parts.postman),
            ledger: parts.ledger,
            reconciler: parts.reconciler,
            caches: parts.caches,
            vitals: parts.vitals,
            metrics_access: parts.metrics_access,
            clock: parts.clock,
            gates: Gates::new(),
            exports: Arc::new(tokio::sync::Semaphore::new(EXPORTS_MAX)),
        })
    }

    /// The router of the admin API and of the dashboard's pages. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: keys
    /// that are bound to addresses are refused without one.
    pub fn router(self: &Arc<Self>) -> axum::Router {
        let api = router::router(self, routes::endpoints(self.metrics_access));
        dashboard::router(self, api)
    }

    /// The part of [`Control::router`] that every process has, whatever it does: health and
    /// metrics.
    pub fn vitals_router(self: &Arc<Self>) -> axum::Router {
        let mut endpoints = routes::endpoints(self.metrics_access);
        endpoints.retain(|endpoint| VITALS.contains(&endpoint.path.as_str()));
        router::router(self, endpoints)
    }

    /// Lets the caller into the tenant's data. An operator's act is on record first.
    async fn enter(
        self: &Arc<Self>,
        caller: Caller,
        tenant: Arc<TenantEntry>,
        reason: String,
    ) -> Result<TenantScope, ApiError> {
        match caller {
            Caller::Anybody => Err(ApiError::NotFound),
            Caller::TenantAdmin(principal) => principal.into_scope().map_err(ApiError::internal),
            Caller::Operator(operator) => {
                let control = Arc::clone(self);
                blocking(move || {
                    let keys = Arc::clone(&tenant.unlocked);
                    let audit = control.publisher.as_ref();
                    act_for(&operator, keys, &reason, audit).map_err(ApiError::from)
                })
                .await
            }
        }
    }
}
