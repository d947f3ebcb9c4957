//! The parts of a serving process, put together and taken apart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::serve::ListenerExt as _;
use base::{
    Clock, Entropy, Name, Network, PicoUsd, Supervisor, SystemClock, SystemDisk, SystemEntropy,
    SystemNetwork,
};
use control::{
    AdapterFolder, BackupFolder, Control, ControlParts, MetricsAccess, Publisher, PublisherParts,
    TokenKeyring, TokenKeyringParts,
};
use gateway::{AccessLog, Gateway, GatewayBounds, Parts, ProcessLog};
use ledger::{AccountSummary, Record};
use store::{
    Capacity, Journal, JournalOptions, ServerError, ServerOptions, Servers, Stores, StoresOptions,
};
use tenancy::ServiceIdentity;
use tokio::net::TcpListener;

use super::books::Books;
use super::budgets::LiveBudgets;
use super::compaction::{Compaction, State};
use super::listen::{Face, bind};
use super::ports::{Caches, Health, LiveUpstreams, Served};
use super::rates;
use super::replica::{Followed, Membership};
use super::retention::Retention;
use super::roles::{Role, Roles};
use super::shares::SharedBudgets;
use super::tenants_health::TenantsHealth;
use super::verification::JournalVerifier;
use super::workers::RuntimeWorkers;
use super::{Opened, alerts, blocking, bucket, sign_in, upkeep};
use crate::client::ADMIN_URL_FILE;
use crate::config::{
    AdaptersOptions, BackupOptions, BoundsOptions, CallRecords, CallersTraces, GenAiNames,
    InstallationConfig, LogFormat, MetricsReaders, PostgresOptions, TelemetryOptions,
};
use crate::installation::{Installation, write_private};

/// How long the admin API may take to end its calls.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);

/// What a simulation would own.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) network: Arc<dyn Network>,
    /// What the process logs, where a collector has that, too.
    pub(crate) process_log: Option<Arc<ProcessLog>>,
}

impl World {
    /// The machine's own.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            network: Arc::new(SystemNetwork),
            process_log: None,
        }
    }
}

/// A process that serves.
pub(crate) struct Process {
    gateway: Gateway,
    gateway_address: SocketAddr,
    admin_address: SocketAddr,
    publisher: Arc<Publisher>,
    journal: Arc<Journal>,
    /// The admin API, the loops, and the accepting of clients.
    tasks: Supervisor,
    is_stopping: Arc<AtomicBool>,
    drain_patience: Duration,
    /// Its lock is held until the process is dropped.
    installation: Opened,
    /// Its place among others; none where it is the only one.
    membership: Option<Arc<Membership>>,
    roles: Roles,
}

/// What reading the disk brought.
struct Recovered {
    journal: Arc<Journal>,
    ledgers: Vec<ledger::TenantLedger>,
    /// Accounts on which a crash left something.
    crashed: Vec<AccountSummary>,
    stores: Stores,
    loaded: control::Loaded,
    token_keys: Arc<TokenKeyring>,
    membership: Option<Arc<Membership>>,
}

impl Process {
    /// Takes the addresses, recovers what the disk holds, and serves.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from serving, and what to do.
    pub(crate) async fn start(
        config: &InstallationConfig,
        installation: Installation,
        world: World,
        roles: &Roles,
    ) -> anyhow::Result<Self> {
        let installation = Arc::new(installation);
        // The addresses first: whoever connects meanwhile waits instead of being refused.
        let clients = bind(config.listen.gateway, Face::Gateway).await?;
        let operators = bind(config.listen.admin, Face::Admin).await?;
        let gateway_address = clients.local_addr()?;
        let admin_address = operators.local_addr()?;
        let mut recovered = {
            let (installation, config) = (Arc::clone(&installation), config.clone());
            let (world, roles) = (world.clone(), roles.clone());
            blocking(move || recover(&installation, &config, &world, &roles)).await?
        };
        let membership = recovered.membership.clone();
        let orphans = recovered.loaded.orphans.clone();
        let gateway = start_gateway(config, &installation, &world, &mut recovered)?;
        let publisher = publisher(&installation, &world, &recovered, &gateway, config);
        let tasks = Supervisor::new();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let process = Self {
            gateway,
            gateway_address,
            admin_address,
            publisher,
            journal: Arc::clone(&recovered.journal),
            tasks,
            is_stopping,
            drain_patience: Duration::from_secs(config.bounds.drain_seconds),
            installation,
            membership,
            roles: roles.clone(),
        };
        if roles.has(Role::Gateway) {
            process.serve_clients(clients);
        }
        process.serve_operators(operators, config, &world, recovered)?;
        if roles.has(Role::Worker) {
            process.sweep(orphans);
        }
        process.write_admin_url()?;
        Ok(process)
    }

    /// Where clients find the API: ends in `/v1`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", reachable(self.gateway_address))
    }

    /// Where operators find the admin API.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", reachable(self.admin_address))
    }

    /// Reads secrets and the catalogue again; returns the version that is served.
    ///
    /// # Errors
    ///
    /// What cannot be served; then what was served is served still.
    pub(crate) async fn reload(&self) -> anyhow::Result<u64> {
        Ok(self.publisher.reload().await?)
    }

    /// Waits until another process has taken this one's place.
    pub(crate) async fn replaced(&self) {
        match &self.membership {
            Some(membership) => membership.replaced().await,
            None => std::future::pending().await,
        }
    }

    /// Stops accepting, lets calls finish or cuts them, settles, and makes everything durable.
    ///
    /// # Errors
    ///
    /// If the journal's last records could not be made durable.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        tracing::info!(patience = ?self.drain_patience, "stopping");
        self.is_stopping.store(true, Ordering::Relaxed);
        let cut = self.gateway.drain(self.drain_patience).await;
        let running = self.tasks.drain(ADMIN_PATIENCE).await;
        let journal = Arc::clone(&self.journal);
        let membership = self.membership.clone();
        let gateway = self.gateway.clone();
        blocking(move || {
            journal
                .close()
                .context("the journal's end is not durable")?;
            if let Some(membership) = membership {
                if let Err(error) = membership.told_calls(gateway).tell() {
                    tracing::debug!(%error, "the others do not hear of this process's last calls");
                }
                membership.end();
            }
            Ok(())
        })
        .await?;
        // Another process may have written it since: then it is not ours to remove.
        let path = self.installation.folder.join(ADMIN_URL_FILE);
        if std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == self.admin_url()) {
            drop(std::fs::remove_file(path));
        }
        tracing::info!(cut, running, "stopped");
        Ok(())
    }

    fn serve_clients(&self, listener: TcpListener) {
        let gateway = self.gateway.clone();
        self.tasks
            .spawn(async move { gateway.serve(listener).await });
    }

    fn serve_operators(
        &self,
        listener: TcpListener,
        config: &InstallationConfig,
        world: &World,
        recovered: Recovered,
    ) -> anyhow::Result<()> {
        let Recovered {
            journal, stores, ..
        } = recovered;
        let compaction = Arc::new(Compaction {
            state: parking_lot::Mutex::new(State::new(&journal)),
            journal: Arc::clone(&journal),
            stores: stores.clone(),
            gateway: self.gateway.clone(),
            service: ServiceIdentity::of(&self.installation.platform_keys),
        });
        let compact_every = Duration::from_secs(config.journal.compact_seconds);
        if let Some(membership) = &self.membership {
            let followed = Followed {
                publisher: Arc::clone(&self.publisher),
                token_keys: Arc::clone(&recovered.token_keys),
            };
            membership.keep(&self.tasks, followed);
        }
        let told = self.membership.as_ref();
        let told = told.map(|membership| Arc::new(membership.told_calls(self.gateway.clone())));
        if let Some(told) = &told {
            told.keep(&self.tasks);
        }
        let lines = match &self.membership {
            // Others show its usage too.
            Some(_) => upkeep::Lines::Durable,
            None => upkeep::Lines::Sealed,
        };
        let retention = Retention {
            stores: stores.clone(),
            gateway: self.gateway.clone(),
            service: ServiceIdentity::of(&self.installation.platform_keys),
            clock: Arc::clone(&world.clock),
        };
        upkeep::start(
            &self.tasks,
            (Arc::clone(&compaction), lines),
            compact_every,
            stores,
        );
        if self.roles.has(Role::Worker) {
            upkeep::forget(&self.tasks, retention);
            upkeep::retire_token_keys(&self.tasks, recovered.token_keys);
            upkeep::sweep_stores(&self.tasks, Arc::clone(&self.publisher));
            upkeep::settle_moves(&self.tasks, Arc::clone(&self.publisher));
            upkeep::back_up(&self.tasks, Arc::clone(&self.publisher), &config.backups);
            if let Some(membership) = &self.membership {
                upkeep::sweep_shares(&self.tasks, Arc::clone(membership.shares()));
            }
        }
        let control = Control::new(ControlParts {
            publisher: Arc::clone(&self.publisher),
            hasher: self.installation.platform_keys.key_hasher(),
            live_usage: Arc::clone(&compaction) as Arc<dyn control::LiveUsage>,
            budgets: Arc::new(LiveBudgets {
                gateway: self.gateway.clone(),
                shares: self.membership.as_ref().map(|it| Arc::clone(it.shares())),
                clock: Arc::clone(&world.clock),
            }),
            upstreams: Arc::new(LiveUpstreams(self.gateway.clone())),
            health: Arc::new(TenantsHealth {
                gateway: self.gateway.clone(),
                clock: Arc::clone(&world.clock),
                told,
            }),
            ledger: Arc::new(JournalVerifier {
                folder: self.installation.lock.journal_folder(),
                installation: self.installation.id,
                compaction,
            }),
            reconciler: Arc::new(Books {
                gateway: self.gateway.clone(),
                crashed: recovered.crashed,
            }),
            caches: Arc::new(Caches(self.gateway.clone())),
            vitals: Arc::new(Health {
                gateway: self.gateway.clone(),
                journal,
                is_stopping: Arc::clone(&self.is_stopping),
                membership: self.membership.clone(),
            }),
            alerts: alerts::options(config),
            postman: Arc::new(alerts::Post(
                self.gateway.postman(alerts::mail_server(&config.mail)?),
            )),
            pushing: bucket::pushing(
                &config.exports,
                self.gateway.postman(None),
                Arc::clone(&world.clock),
            )?,
            web: Arc::new(sign_in::OperatorsWeb(self.gateway.postman(None))),
            oidc: sign_in::oidc(&config.dashboard)?,
            metrics_access: match config.telemetry.metrics_readers {
                MetricsReaders::Operators => MetricsAccess::Operators,
                MetricsReaders::Anyone => MetricsAccess::Anybody,
            },
            clock: Arc::clone(&world.clock),
        });
        alerts::start(&self.tasks, &control, &config.alerts, &self.roles);
        if self.roles.has(Role::Worker) {
            upkeep::upgrade(&self.tasks, Arc::clone(&control));
        }
        if self.roles.has(Role::Worker) && config.exports.bucket.is_some() {
            upkeep::push(&self.tasks, Arc::clone(&control));
        }
        let router = match self.roles.has(Role::Control) {
            true => control.router(),
            false => control.vitals_router(),
        };
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "an operator's connection closed before it was served");
            }
        });
        let stopping = self.tasks.clone();
        self.tasks.spawn(async move {
            let serving = axum::serve(listener, service)
                .with_graceful_shutdown(async move { stopping.stopping().await });
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin API ended");
            }
        });
        Ok(())
    }

    /// Finishes, in the background, what a crash cut short.
    fn sweep(&self, orphans: Vec<Arc<tenancy::TenantKeys>>) {
        if orphans.is_empty() {
            return;
        }
        let publisher = Arc::clone(&self.publisher);
        self.tasks.spawn(async move {
            let swept = blocking(move || publisher.sweep(&orphans).map_err(|error| anyhow!(error)));
            match swept.await {
                Ok(count) => tracing::info!(count, "remains of tenants were destroyed"),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(%error, "remains of tenants wait for the next start");
                }
            }
        });
    }

    fn write_admin_url(&self) -> anyhow::Result<()> {
        let path = self.installation.folder.join(ADMIN_URL_FILE);
        write_private(&path, &self.admin_url())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// An address that a client on this machine can use: `0.0.0.0` listens everywhere and is nowhere.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(all) if all.ip().is_unspecified() => {
            (std::net::Ipv4Addr::LOCALHOST, all.port()).into()
        }
        SocketAddr::V6(all) if all.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, all.port()).into()
        }
        other => other,
    }
}

fn recover(
    installation: &Opened,
    config: &InstallationConfig,
    world: &World,
    roles: &Roles,
) -> anyhow::Result<Recovered> {
    // Its place first: whoever had it before must not write any more.
    let membership = Membership::join(
        &config.catalogue,
        installation,
        &roles.to_string(),
        (&world.clock, &world.entropy),
    )?;
    let loaded = control::load(&installation.catalogue, &*installation.root)?;
    let options = JournalOptions {
        segment_bytes_max: config.journal.segment_bytes_max,
        buffer_bytes_max: config.journal.buffer_bytes_max,
        workers: Some(Arc::new(RuntimeWorkers::here(Arc::clone(&world.clock)))),
        ..JournalOptions::new(installation.id)
    };
    let folder = installation.lock.journal_folder();
    let (journal, mut recovered) = Journal::open(Arc::new(SystemDisk), &folder, options)?;
    // From here on, whatever an earlier process left open counts as spent until it is reconciled.
    let started = Record::Started {
        at: world.clock.now(),
    };
    let lsn = journal.append(&started)?;
    recovered.projection.apply(lsn, &started, &mut Vec::new());
    let accounts = recovered.projection.accounts(world.clock.now()).into_iter();
    let crashed = accounts
        .map(|(_, account)| account)
        .filter(|account| account.unreported > PicoUsd::ZERO)
        .collect();
    let ledgers = recovered.projection.ledgers()?.into_values().collect();
    tracing::info!(
        version = loaded.snapshot.version(),
        tenants = loaded.snapshot.tenant_count(),
        replayed = recovered.replayed,
        cut_bytes = recovered.cut_bytes,
        "recovered"
    );
    let stores_options = StoresOptions {
        open_max: config.storage.open_tenants_max.get(),
        idle_max: Duration::from_secs(config.storage.idle_seconds),
        replica: installation.replica,
        ..StoresOptions::default()
    };
    Ok(Recovered {
        journal,
        ledgers,
        crashed,
        stores: stores(
            installation,
            config,
            world,
            stores_options,
            &loaded.snapshot,
        )?,
        loaded,
        token_keys: TokenKeyring::open(TokenKeyringParts {
            catalogue: Arc::clone(&installation.catalogue),
            platform_keys: Arc::clone(&installation.platform_keys),
            installation: installation.id_text(),
            clock: Arc::clone(&world.clock),
            entropy: Arc::clone(&world.entropy),
        })?,
        membership,
    })
}

/// The tenants' stores, wherever each of them is.
fn stores(
    installation: &Opened,
    config: &InstallationConfig,
    world: &World,
    options: StoresOptions,
    snapshot: &tenancy::Snapshot,
) -> anyhow::Result<Stores> {
    let described = config.storage.servers.iter();
    let servers: Vec<ServerOptions> = described
        .map(|(name, server)| server_options(installation, name, server))
        .collect::<anyhow::Result<_>>()?;
    let servers = Servers::new(servers, &world.clock, &world.entropy)?;
    let clock = Arc::clone(&world.clock);
    let stores = Stores::with_servers(&installation.folder, clock, options, servers)?;
    for tenant in snapshot.tenants() {
        stores
            .assign(tenant.id(), tenant.spec.placement())
            .with_context(|| format!("tenant `{}` cannot be served", tenant.name))?;
    }
    match stores.check_pools() {
        // It may come back; whoever needs it meanwhile is told so.
        Err(error @ (ServerError::Unreachable { .. } | ServerError::Down { .. })) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "tenants on it are served without their stores");
        }
        checked => checked?,
    }
    Ok(stores)
}

fn server_options(
    installation: &Opened,
    name: &Name,
    server: &PostgresOptions,
) -> anyhow::Result<ServerOptions> {
    let option = format!("`storage.servers.{name}.url` in partywall.toml");
    let address = rates::read(&server.url).with_context(|| option.clone())?;
    // What is wrong with it is not shown: it holds a password.
    let address = store::postgres_address(&address)
        .with_context(|| format!("{option}: what it leads to is no address"))?;
    Ok(ServerOptions {
        name: name.clone(),
        address,
        pool: Some(installation.platform_keys.pool_secret(name)),
        region: server.region.clone(),
        capacity: Capacity {
            pool: server.pool_tenants_max,
            bridge: server.bridge_tenants_max,
            silo: server.silo_tenants_max,
        },
        sessions_max: server.connections_max.get(),
        authorities: server.ca_file.clone(),
    })
}

fn start_gateway(
    config: &InstallationConfig,
    installation: &Opened,
    world: &World,
    recovered: &mut Recovered,
) -> anyhow::Result<Gateway> {
    let format = match config.log.format {
        LogFormat::Json => gateway::LogFormat::Json,
        LogFormat::Pretty => gateway::LogFormat::Pretty,
    };
    let platform_keys = Arc::clone(&installation.platform_keys);
    let parts = Parts {
        snapshot: Arc::new(recovered.loaded.snapshot.clone()),
        key_hasher: installation.platform_keys.key_hasher(),
        sharing_secret: installation.platform_keys.sharing_secret(),
        token_keys: recovered.token_keys.shared(),
        journal: Arc::clone(&recovered.journal),
        ledgers: std::mem::take(&mut recovered.ledgers),
        stores: recovered.stores.clone(),
        network: Arc::clone(&world.network),
        clock: Arc::clone(&world.clock),
        entropy: Arc::clone(&world.entropy),
        bounds: bounds(&config.bounds),
        access_log: AccessLog::new(format, Box::new(std::io::stderr())),
        webhook_secret: Arc::new(move |tenant| platform_keys.webhook_secret(tenant)),
        telemetry: telemetry(&config.telemetry, world)?,
        fence: recovered.membership.as_ref().map(|it| it.fence()),
        coordinator: recovered.membership.as_ref().map(|it| {
            Arc::new(SharedBudgets(Arc::clone(it.shares()))) as Arc<dyn gateway::Coordinator>
        }),
        rate_pools: rates::rate_pools(&config.rates, installation.id, world)?,
    };
    Gateway::start(parts).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("the catalogue cannot be served:\n  {}", lines.join("\n  "))
    })
}

fn telemetry(
    options: &TelemetryOptions,
    world: &World,
) -> anyhow::Result<Option<gateway::TelemetryOptions>> {
    let Some(endpoint) = &options.otlp_endpoint else {
        return Ok(None);
    };
    let endpoint = endpoint
        .parse()
        .context("`telemetry.otlp_endpoint` in partywall.toml")?;
    let headers = options
        .headers
        .iter()
        .map(|(name, secret)| gateway::CollectorHeader::read(name, secret));
    Ok(Some(gateway::TelemetryOptions {
        headers: headers
            .collect::<Result<_, _>>()
            .context("`telemetry.headers` in partywall.toml")?,
        sample_ratio: gateway::SampleRatio::per_mille(options.traced_per_mille),
        callers_traces: match options.callers_traces {
            CallersTraces::Linked => gateway::CallersTraces::Linked,
            CallersTraces::Joined => gateway::CallersTraces::Joined,
        },
        call_records: match options.call_records {
            CallRecords::Kept => gateway::CallRecords::Kept,
            CallRecords::Sent => gateway::CallRecords::Sent,
        },
        process_log: world.process_log.clone(),
        names: match options.genai_names {
            GenAiNames::Current => gateway::NamesVersion::Current,
            GenAiNames::V1_41 => gateway::NamesVersion::V1_41,
        },
        service_name: options.service_name.clone(),
        interval: Duration::from_secs(options.interval_seconds),
        ..gateway::TelemetryOptions::to(endpoint)
    }))
}

fn bounds(options: &BoundsOptions) -> GatewayBounds {
    GatewayBounds {
        connections_max: options.connections_max,
        header_bytes_max: options.header_bytes_max,
        header_timeout: Duration::from_millis(options.header_timeout_ms),
        body_timeout: Duration::from_millis(options.body_timeout_ms),
        write_timeout: Duration::from_millis(options.write_timeout_ms),
        in_flight_bytes_max: options.in_flight_bytes_max,
        answer_bytes_max: options.answer_bytes_max,
        cache_bytes_max: options.cache_bytes_max,
        ..GatewayBounds::default()
    }
}

fn publisher(
    installation: &Opened,
    world: &World,
    recovered: &Recovered,
    gateway: &Gateway,
    config: &InstallationConfig,
) -> Arc<Publisher> {
    Publisher::new(PublisherParts {
        catalogue: Arc::clone(&installation.catalogue),
        stores: recovered.stores.clone(),
        target: Arc::new(Served {
            gateway: gateway.clone(),
            mails: config.mail.host.is_some(),
        }),
        root: Arc::clone(&installation.root),
        platform_keys: Arc::clone(&installation.platform_keys),
        platform_key_file: Arc::clone(&installation.platform_key_file),
        token_keys: Arc::clone(&recovered.token_keys),
        adapters: adapter_folder(&config.adapters),
        backups: backup_folder(&config.backups, &installation.id_text()),
        installation: installation.id_text(),
        clock: Arc::clone(&world.clock),
        entropy: Arc::clone(&world.entropy),
    })
}

/// Where backups go.
fn backup_folder(options: &BackupOptions, installation: &str) -> Option<BackupFolder> {
    let folder = options.folder.as_ref()?;
    Some(BackupFolder::new(folder, installation))
}

/// Where uploads go. Engines get whole paths, whatever folder this process runs in.
fn adapter_folder(options: &AdaptersOptions) -> Option<AdapterFolder> {
    let folder = std::path::absolute(options.folder.as_ref()?).ok()?;
    let engine_folder = options.engine_folder.clone();
    let engine_folder = engine_folder.unwrap_or_else(|| folder.clone());
    Some(AdapterFolder::new(
        folder,
        engine_folder,
        Arc::new(SystemDisk),
    ))
}
