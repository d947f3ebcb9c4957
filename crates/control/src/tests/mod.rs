//! The admin API over its real router and the real store.

mod adapters;
mod alerts;
mod apply;
mod audit;
mod backups;
mod billing;
mod bodies;
mod cache;
mod credentials;
mod dashboard;
mod guardrails;
mod keys;
mod lifecycle;
mod live;
mod oidc;
mod operations;
mod pages;
mod prompts;
mod pushing;
mod reconcile;
mod references;
mod refusals;
mod resources;
mod rotation;
mod scale;
mod sharing;
mod token_keys;
mod upgrades;
mod uploads;
mod upstreams;
mod usage;

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base::{
    AttemptId, Entropy, ManualClock, PicoUsd, SystemDisk, SystemEntropy, TenantId, Timestamp,
};
use http_body_util::BodyExt as _;
use ledger::{ReconcileError, Unsettled, VerifyReport};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Catalogue, Stores, StoresOptions};
use tempfile::TempDir;
use tenancy::catalogue::{Address, PromptText};
use tenancy::{LocalRootKey, PlatformKeys, Problem, Role, RootKey, Snapshot, TenantEntry};
use tower_service::Service as _;

use crate::api::{BudgetRow, CacheReply, RenderRequest, UpstreamStatusReply};
use crate::{
    BudgetReader, Control, ControlParts, DiskPlatformKeyFile, FleetHealth, HealthHour,
    HealthReader, HourOfFleet, LedgerVerifier, LiveUsage, MetricsAccess, MinuteOfFleet,
    PlatformKeyFile, PublishTarget, Publisher, PublisherParts, Reconciler, ResponseCaches,
    TokenKeyring, TokenKeyringParts, Unreported, UpstreamReader, Vitals, load, unlock_platform,
};

/// 2026-03-05T10:00:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_772_704_800_000_000);

/// An installation in a folder, and its admin API.
pub(crate) struct House {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) served: Arc<Served>,
    pub(crate) rest: Arc<Rest>,
    pub(crate) control: Arc<Control>,
    router: axum::Router,
    /// The first operator's key.
    pub(crate) operator: String,
}

/// Serves whatever is published, unless it is told to refuse.
pub(crate) struct Served {
    current: Mutex<Arc<Snapshot>>,
    pub(crate) refusal: Mutex<Option<Problem>>,
}

impl PublishTarget for Served {
    fn check(&self, _: &Snapshot) -> Result<(), Vec<Problem>> {
        self.refusal
            .lock()
            .clone()
            .map_or(Ok(()), |problem| Err(vec![problem]))
    }

    fn render(
        &self,
        tenant: &TenantEntry,
        text: &PromptText,
        asked: RenderRequest,
    ) -> Result<String, String> {
        match asked.variables.get("name").map(String::as_str) {
            Some("") => Err("it is empty".to_owned()),
            name => Ok(format!("{}: {} for {name:?}", tenant.name, text.template)),
        }
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.current.lock() = snapshot;
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.lock())
    }
}

/// Services that the operator named.
type Services = Box<dyn Fn(crate::WebRequest) -> crate::WebAnswer + Send>;

/// The rest of the process.
#[derive(Default)]
pub(crate) struct Rest {
    /// Brings what is in the journal alone into the stores, once.
    pub(crate) compaction: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    pub(crate) budgets: Mutex<Vec<(TenantId, BudgetRow)>>,
    pub(crate) upstreams: Mutex<Vec<UpstreamStatusReply>>,
    pub(crate) report: Mutex<VerifyReport>,
    pub(crate) missing: Mutex<Option<String>>,
    pub(crate) unsettled: Mutex<Vec<(TenantId, Unsettled)>>,
    pub(crate) unreported: Mutex<Vec<(TenantId, Unreported)>>,
    pub(crate) caches: Mutex<Vec<(TenantId, CacheReply)>>,
    pub(crate) hours: Mutex<Vec<(TenantId, HealthHour)>>,
    pub(crate) coverage: Mutex<crate::Coverage>,
    pub(crate) open_breakers: Mutex<Vec<(base::Name, Vec<TenantId>)>>,
    pub(crate) posted: Mutex<Vec<crate::Hook>>,
    pub(crate) mailed: Mutex<Vec<crate::Mail>>,
    /// Answers what services are asked that the operator named.
    /// A bucket: what is in it; none if it takes nothing.
    pub(crate) bucket: Mutex<Option<std::collections::BTreeMap<String, bytes::Bytes>>>,
    pub(crate) services: Mutex<Option<Services>>,
    /// Why hooks do not take what is posted.
    pub(crate) postmans_answer: Mutex<Option<String>>,
}

fn of_fleet(hour: &HealthHour) -> HourOfFleet {
    let minutes = hour.minutes.iter().map(|minute| MinuteOfFleet {
        calls: minute.calls,
        failed: minute.failed,
    });
    HourOfFleet {
        sum: hour.sum,
        minutes: minutes.collect(),
    }
}

impl HealthReader for Rest {
    fn all(&self) -> FleetHealth {
        let hours = self.hours.lock();
        FleetHealth {
            tenants: hours
                .iter()
                .map(|(tenant, hour)| (*tenant, of_fleet(hour)))
                .collect(),
            began: hours
                .first()
                .map_or_else(Vec::new, |(_, hour)| hour.began.clone()),
            ..FleetHealth::default()
        }
    }

    fn tenant(&self, tenant: TenantId) -> Option<HealthHour> {
        let hours = self.hours.lock();
        let hour = hours.iter().rfind(|(of, _)| *of == tenant);
        hour.map(|(_, hour)| hour.clone())
    }

    fn pulse(&self) -> u64 {
        let hours = self.hours.lock();
        hours.iter().map(|(_, hour)| hour.sum.calls).sum()
    }

    fn pulse_of(&self, tenant: TenantId) -> u64 {
        self.tenant(tenant).map_or(0, |hour| hour.sum.calls)
    }

    fn open_breakers(&self) -> Vec<(base::Name, Vec<TenantId>)> {
        self.open_breakers.lock().clone()
    }

    fn coverage(&self) -> crate::Coverage {
        self.coverage.lock().clone()
    }
}

impl crate::Web for Rest {
    fn ask(&self, request: crate::WebRequest) -> crate::Asking<'_> {
        let services = self.services.lock();
        let answer = services.as_ref().map(|answer| answer(request));
        Box::pin(async move { answer.ok_or_else(|| "nobody is there".to_owned()) })
    }
}

impl crate::Postman for Rest {
    fn post(&self, hook: crate::Hook) -> crate::Sending<'_> {
        self.posted.lock().push(hook);
        let answer = self.postmans_answer.lock().clone();
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    }

    fn mail(&self, mail: crate::Mail) -> crate::Sending<'_> {
        self.mailed.lock().push(mail);
        Box::pin(async { Ok(()) })
    }
}

impl ResponseCaches for Rest {
    fn figures(&self, tenant: TenantId) -> CacheReply {
        let all = self.caches.lock();
        let own = all.iter().find(|(whose, _)| *whose == tenant);
        own.map(|(_, figures)| *figures).unwrap_or_default()
    }

    fn clear(&self, tenant: TenantId) {
        self.caches.lock().retain(|(whose, _)| *whose != tenant);
    }
}

impl LiveUsage for Rest {
    fn catch_up(&self) {
        if let Some(compact) = self.compaction.lock().take() {
            compact();
        }
    }
}

impl BudgetReader for Rest {
    fn budgets(&self, tenant: TenantId) -> Vec<BudgetRow> {
        let all = self.budgets.lock();
        all.iter()
            .filter(|(whose, _)| *whose == tenant)
            .map(|(_, row)| row.clone())
            .collect()
    }
}

impl UpstreamReader for Rest {
    fn upstream(&self, name: &str) -> Option<UpstreamStatusReply> {
        let all = self.upstreams.lock();
        all.iter().find(|it| it.name.as_str() == name).cloned()
    }
}

impl LedgerVerifier for Rest {
    fn verify(&self) -> Result<VerifyReport, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.report.lock().clone())
    }
}

impl Reconciler for Rest {
    fn unsettled(&self, tenant: TenantId) -> Vec<Unsettled> {
        let all = self.unsettled.lock();
        let own = all.iter().filter(|(whose, _)| *whose == tenant);
        own.map(|(_, call)| *call).collect()
    }

    fn unreported(&self, tenant: TenantId) -> Vec<Unreported> {
        let all = self.unreported.lock();
        let own = all.iter().filter(|(whose, _)| *whose == tenant);
        own.map(|(_, lease)| lease.clone()).collect()
    }

    fn reconcile(
        &self,
        tenant: TenantId,
        attempt: AttemptId,
        _: PicoUsd,
    ) -> Result<(), ReconcileError> {
        let mut all = self.unsettled.lock();
        let before = all.len();
        all.retain(|(whose, call)| (*whose, call.attempt) != (tenant, attempt));
        if all.len() < before {
            Ok(())
        } else {
            Err(ReconcileError::Unknown)
        }
    }

    fn reconcile_lease(&self, tenant: TenantId, lease: &Unreported, unspent: PicoUsd) -> PicoUsd {
        let mut all = self.unreported.lock();
        let found = all
            .iter_mut()
            .find(|(whose, it)| *whose == tenant && it == lease);
        let (_, found) = found.expect("it was listed");
        let unspent = unspent.min(found.amount);
        found.amount -= unspent;
        unspent
    }
}

impl Vitals for Rest {
    fn ready(&self) -> Result<(), String> {
        self.missing.lock().clone().map_or(Ok(()), Err)
    }

    fn metrics(&self) -> String {
        "partywall_up 1\n".to_owned()
    }

    fn open_metrics(&self) -> String {
        "metrics with exemplars".to_owned()
    }
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The JSON of an answer that is no refusal.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }

    /// The message of a refusal with this status.
    #[track_caller]
    pub(crate) fn refused(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

fn publisher_at(
    folder: &Path,
    clock: &Arc<ManualClock>,
    root: Arc<dyn RootKey>,
    served: &Arc<Served>,
) -> (Arc<Publisher>, PlatformKeys) {
    let file = Arc::new(platform_key_file(folder));
    let platform_keys = unlock_platform(file.as_ref(), root.as_ref()).unwrap();
    let catalogue = Catalogue::open(folder, &platform_keys.catalogue_key()).unwrap();
    let loaded = load(&catalogue, root.as_ref()).unwrap();
    served.publish(Arc::new(loaded.snapshot));
    let again = unlock_platform(file.as_ref(), root.as_ref()).unwrap();
    let catalogue = Arc::new(catalogue);
    let platform_keys = Arc::new(platform_keys);
    let token_keys = TokenKeyring::open(TokenKeyringParts {
        catalogue: Arc::clone(&catalogue),
        platform_keys: Arc::clone(&platform_keys),
        installation: "inst".to_owned(),
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SystemEntropy),
    });
    let publisher = Publisher::new(PublisherParts {
        catalogue,
        token_keys: token_keys.unwrap(),
        stores: Stores::new(folder, Arc::clone(clock) as _, StoresOptions::default()).unwrap(),
        target: Arc::clone(served) as _,
        root,
        platform_keys,
        platform_key_file: file,
        adapters: Some(crate::AdapterFolder::new(
            folder.join("adapters"),
            "/srv/adapters".into(),
            Arc::new(SystemDisk),
        )),
        backups: Some(crate::BackupFolder::new(&folder.join("backups"), "inst")),
        installation: "inst".to_owned(),
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SystemEntropy),
    });
    // It waits for its turn, which no thread of the runtime may do.
    let sweeping = || publisher.sweep(&loaded.orphans).unwrap();
    std::thread::scope(|threads| threads.spawn(sweeping).join().unwrap());
    (publisher, again)
}

pub(crate) fn platform_key_file(folder: &Path) -> DiskPlatformKeyFile {
    DiskPlatformKeyFile::new(Arc::new(SystemDisk), folder.join("platform.key"))
}

impl House {
    /// A new installation with one operator, a tier and two tenants.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(
            LocalRootKey::create(&folder.path().join("root.key"), &SystemEntropy).unwrap(),
        );
        let (_, wrapped) = PlatformKeys::generate(root.as_ref(), &SystemEntropy).unwrap();
        platform_key_file(folder.path())
            .replace(&[wrapped])
            .unwrap();
        let mut house = Self::open(folder, root);
        let ada = house
            .control
            .publisher
            .create_operator("ada".parse().unwrap(), Role::Operator);
        house.operator = ada.await.unwrap().expose().to_owned();
        house.put("/admin/v1/tiers/free", json!({})).await.ok();
        house
    }

    /// The installation in a folder, opened as a process does at start.
    pub(crate) fn open(folder: TempDir, root: Arc<dyn RootKey>) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let served = Arc::new(Served {
            current: Mutex::new(Arc::new(Snapshot::empty())),
            refusal: Mutex::new(None),
        });
        let (publisher, platform) = publisher_at(folder.path(), &clock, root, &served);
        let rest = Arc::new(Rest::default());
        let control = Control::new(ControlParts {
            publisher,
            hasher: platform.key_hasher(),
            live_usage: Arc::clone(&rest) as _,
            budgets: Arc::clone(&rest) as _,
            upstreams: Arc::clone(&rest) as _,
            health: Arc::clone(&rest) as _,
            ledger: Arc::clone(&rest) as _,
            reconciler: Arc::clone(&rest) as _,
            caches: Arc::clone(&rest) as _,
            vitals: Arc::clone(&rest) as _,
            alerts: crate::AlertOptions::default(),
            postman: Arc::clone(&rest) as _,
            web: Arc::clone(&rest) as _,
            oidc: Some(oidc::options()),
            pushing: Some(pushing::options(&rest)),
            metrics_access: MetricsAccess::Operators,
            clock: Arc::clone(&clock) as _,
        });
        Self {
            folder,
            clock,
            served,
            rest,
            router: control.router(),
            control,
            operator: String::new(),
        }
    }

    /// Ends the process and starts it again over the same folder.
    pub(crate) fn restarted(self, root: Arc<dyn RootKey>) -> Self {
        let Self {
            folder,
            clock,
            served,
            rest,
            control,
            router,
            operator,
        } = self;
        drop((clock, served, rest, control, router));
        Self {
            operator,
            ..Self::open(folder, root)
        }
    }

    pub(crate) fn root_key(&self) -> Arc<dyn RootKey> {
        Arc::new(LocalRootKey::open(&self.folder.path().join("root.key")).unwrap())
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answered {
        let mut router = self.router.clone();
        let response = router.call(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answered {
            status,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn call(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Answered {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .body(body)
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.call(&self.operator, Method::GET, path, Value::Null)
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answered {
        self.call(&self.operator, Method::PUT, path, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answered {
        self.call(&self.operator, Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answered {
        self.call(&self.operator, Method::DELETE, path, Value::Null)
            .await
    }

    /// Onboards a tenant and returns the key of its administrator.
    pub(crate) async fn onboard(&self, name: &str) -> String {
        let request = json!({
            "name": name,
            "spec": {"tier": "free"},
            "first_key": {"name": "admin", "role": "tenant-admin"},
        });
        let reply = self.post("/admin/v1/tenants", request).await.ok();
        reply["first_key"]["key"].as_str().unwrap().to_owned()
    }

    /// What is served.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.served.current()
    }

    pub(crate) fn tenant_id(&self, name: &str) -> TenantId {
        self.current().tenant_named(name).unwrap().id()
    }

    /// What the target refuses from now on.
    pub(crate) fn refuse(&self, message: &str) {
        let address = Address::platform(tenancy::catalogue::Kind::Tier, "free");
        *self.served.refusal.lock() = Some(Problem {
            address,
            message: message.to_owned(),
        });
    }
}

/// A key of the right form that nobody has.
pub(crate) fn unknown_key() -> String {
    let entropy: &dyn Entropy = &SystemEntropy;
    tenancy::ApiKey::generate(entropy).expose().to_owned()
}
