//! A gateway on a loopback port before a simulator on another, with two tenants.

pub(crate) mod catalogue;
pub(crate) mod client;
pub(crate) mod coordinator;
pub(crate) mod network;
pub(crate) mod rate_pools;
pub(crate) mod scripted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::{Clock, Disk, Network, SeededEntropy, Supervisor, SystemClock, SystemDisk, TenantId};
use gateway::{
    AccessLog, Coordinator, Fence, Gateway, GatewayBounds, LogFormat, Parts, RatePools,
    TelemetryOptions,
};
use ledger::{AccountId, AccountView, Record, Subject, VerifyReport};
use serde_json::Value;
use simulator::{Engine, EngineConfig};
use store::{Journal, JournalOptions, Recovered, Stores, StoresOptions};
use tempfile::TempDir;
use tenancy::catalogue::Kind;
use tenancy::{
    Change, ServiceIdentity, ServicePurpose, Snapshot, TenantKeys, TokenKeys, TokenSeed,
};
use tokio::net::TcpListener;

use catalogue::{hierarchy, put, put_in};
use client::Client;
pub(crate) use network::WatchedNetwork;

const INSTALLATION: [u8; 16] = [7; 16];

/// What a world begins with.
pub(crate) struct Setup {
    pub(crate) engine_listener: TcpListener,
    pub(crate) gateway_listener: TcpListener,
    pub(crate) changes: Vec<Change>,
    pub(crate) engine: EngineConfig,
    pub(crate) bounds: GatewayBounds,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) network: Arc<WatchedNetwork>,
    pub(crate) telemetry: Option<TelemetryOptions>,
    pub(crate) fence: Option<Arc<Fence>>,
    pub(crate) coordinator: Option<Arc<dyn Coordinator>>,
    pub(crate) rate_pools: Option<Arc<dyn RatePools>>,
}

/// A running gateway, and all that it stands on.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
    pub(crate) engine: Engine,
    pub(crate) engine_url: String,
    pub(crate) network: Arc<WatchedNetwork>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stores: Stores,
    service: ServiceIdentity,
    journal: Arc<Journal>,
    journal_folder: PathBuf,
    disk: Arc<dyn Disk>,
    folder: TempDir,
}

impl Setup {
    /// The base catalogue, an engine that remembers its requests, and a real disk.
    pub(crate) async fn new() -> Self {
        let engine_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut setup = Self {
            engine_listener,
            gateway_listener,
            changes: Vec::new(),
            engine: EngineConfig {
                record_requests: 16,
                ..EngineConfig::default()
            },
            bounds: GatewayBounds::default(),
            disk: Arc::new(SystemDisk),
            network: Arc::default(),
            telemetry: None,
            fence: None,
            coordinator: None,
            rate_pools: None,
        };
        setup.changes = catalogue::base(&setup.engine_url());
        setup
    }

    pub(crate) fn engine_url(&self) -> String {
        format!("http://{}/v1", self.engine_listener.local_addr().unwrap())
    }

    pub(crate) fn put(mut self, kind: Kind, name: &str, spec: Value) -> Self {
        self.changes.push(put(kind, name, spec));
        self
    }

    pub(crate) fn put_in(mut self, tenant: TenantId, kind: Kind, name: &str, spec: Value) -> Self {
        self.changes.push(put_in(tenant, kind, name, spec));
        self
    }

    pub(crate) async fn start(self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let supervisor = Supervisor::new();
        let (root, platform) = hierarchy();
        let entropy = Arc::new(SeededEntropy::new(2));

        let engine_url = self.engine_url();
        let engine = Engine::new(self.engine, Arc::clone(&clock));
        let (serving, tasks) = (engine.clone(), supervisor.clone());
        let listener = self.engine_listener;
        supervisor.spawn(async move { serving.serve(listener, tasks).await });

        let keys = |tenant: TenantId| {
            let entropy = SeededEntropy::new(tenant.bits() as u64);
            let (keys, _) = TenantKeys::generate(&root, tenant, &entropy).unwrap();
            Some(Arc::new(keys))
        };
        let snapshot = Snapshot::empty().with(1, self.changes, &keys);
        let snapshot = Arc::new(snapshot.unwrap_or_else(|problems| panic!("{problems:?}")));
        let stores = Stores::new(folder.path(), Arc::clone(&clock), StoresOptions::default());
        let stores = stores.unwrap();
        let service = ServiceIdentity::of(&platform);
        for tenant in snapshot.tenants() {
            let unlocked = Arc::clone(&tenant.unlocked);
            let scope = service.scope(unlocked, ServicePurpose::Recovery);
            stores.provision(&scope).unwrap();
        }

        let journal_folder = folder.path().join("journal");
        std::fs::create_dir(&journal_folder).unwrap();
        let (journal, recovered) = open_journal(&self.disk, &journal_folder);
        let token_seed = TokenSeed::generate(&*entropy);
        let key_hasher = platform.key_hasher();
        let gateway = Gateway::start(Parts {
            snapshot,
            key_hasher,
            sharing_secret: platform.sharing_secret(),
            token_keys: Arc::new(ArcSwap::from_pointee(TokenKeys::new(
                "https://ai.example",
                &token_seed,
            ))),
            ledgers: begin(&journal, recovered, &*clock),
            journal: Arc::clone(&journal),
            stores: stores.clone(),
            network: Arc::clone(&self.network) as Arc<dyn Network>,
            clock: Arc::clone(&clock),
            entropy,
            bounds: self.bounds,
            access_log: AccessLog::new(LogFormat::Json, Box::new(std::io::sink())),
            webhook_secret: Arc::new(move |tenant| platform.webhook_secret(tenant)),
            telemetry: self.telemetry,
            fence: self.fence,
            coordinator: self.coordinator,
            rate_pools: self.rate_pools,
        });
        let gateway = gateway.unwrap_or_else(|problems| panic!("{problems:?}"));
        let address = self.gateway_listener.local_addr().unwrap();
        let (serving, listener) = (gateway.clone(), self.gateway_listener);
        supervisor.spawn(async move { serving.serve(listener).await });
        World {
            gateway,
            client: Client {
                address,
                supervisor,
            },
            engine,
            engine_url,
            network: self.network,
            clock,
            stores,
            service,
            journal,
            journal_folder,
            disk: self.disk,
            folder,
        }
    }
}

impl World {
    /// The base catalogue and nothing else.
    pub(crate) async fn new() -> Self {
        Setup::new().await.start().await
    }

    /// Publishes changes to the catalogue in force.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        let current = self.gateway.snapshot();
        let next = current.with(current.version() + 1, changes, &|_| None);
        let next = next.unwrap_or_else(|problems| panic!("{problems:?}"));
        let published = self.gateway.publish(&Arc::new(next));
        published.unwrap_or_else(|problems| panic!("{problems:?}"));
    }

    /// The account of a budget that is for the whole tenant.
    pub(crate) fn account(&self, tenant: TenantId, budget: &str) -> AccountView {
        let account = AccountId::of(tenant, &budget.parse().unwrap(), &Subject::Tenant);
        self.gateway.account(tenant, account).unwrap()
    }

    /// Waits until no call holds money.
    pub(crate) async fn quiet(&self) {
        client::until(|| self.gateway.live_holds() == 0).await;
    }

    /// What of a tenant's store is told by somebody.
    pub(crate) fn in_store<T>(
        &self,
        tenant: TenantId,
        read: impl FnOnce(&store::TenantStore<'_>) -> T,
    ) -> T {
        let snapshot = self.gateway.snapshot();
        let unlocked = Arc::clone(&snapshot.tenant(tenant).unwrap().unlocked);
        let scope = self.service.scope(unlocked, ServicePurpose::Recovery);
        read(&self.stores.open(&scope))
    }

    /// Where everything is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Where the journal is.
    pub(crate) fn journal_folder(&self) -> PathBuf {
        self.journal_folder.clone()
    }

    /// The last body that the engine was sent.
    pub(crate) fn last_body(&self) -> Value {
        let recorded = self.engine.observed().recorded;
        serde_json::from_slice(&recorded.last().unwrap().body).unwrap()
    }

    /// Ends the gateway and reads its journal: what is in it, and what it adds up to.
    pub(crate) async fn end(self) -> (Vec<Record>, Recovered, VerifyReport) {
        self.gateway.drain(Duration::from_secs(10)).await;
        self.journal.close().unwrap();
        let mut records = Vec::new();
        let mut verifier = ledger::Verifier::new(ledger::Projection::new());
        store::read_journal(
            &*self.disk,
            &self.journal_folder,
            &INSTALLATION,
            &mut |lsn, record| {
                verifier.record(lsn, record);
                records.push(record.clone());
            },
        )
        .unwrap();
        let (_journal, recovered) = open_journal(&self.disk, &self.journal_folder);
        (records, recovered, verifier.finish())
    }
}

fn open_journal(disk: &Arc<dyn Disk>, folder: &std::path::Path) -> (Arc<Journal>, Recovered) {
    let options = JournalOptions::new(INSTALLATION);
    Journal::open(Arc::clone(disk), folder, options).unwrap()
}

/// Takes the journal over: the ledgers that it adds up to.
fn begin(journal: &Journal, recovered: Recovered, clock: &dyn Clock) -> Vec<ledger::TenantLedger> {
    let mut projection = recovered.projection;
    let started = Record::Started { at: clock.now() };
    let lsn = journal.append(&started).unwrap();
    projection.apply(lsn, &started, &mut Vec::new());
    projection.ledgers().unwrap().into_values().collect()
}

/// How many calls a disk that lost power knows to have been settled, and to have begun.
pub(crate) fn read_after_crash(disk: &base::MemoryDisk, folder: &std::path::Path) -> (u64, u64) {
    let (mut settled, mut intents) = (0, 0);
    store::read_journal(disk, folder, &INSTALLATION, &mut |_, record| match record {
        Record::Settled(_) => settled += 1,
        Record::Intent(_) => intents += 1,
        _ => {}
    })
    .unwrap();
    (settled, intents)
}
