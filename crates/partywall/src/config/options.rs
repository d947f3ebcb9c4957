//! Every option, its default, and the reason for it. The reference page is made from these
//! comments.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::SecretRef;

use super::alerts::{AlertsOptions, DashboardOptions, MailOptions};
use super::exports::ExportsOptions;

/// The installation: where it listens, where it keeps its data, and what bounds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InstallationConfig {
    /// Where it listens.
    pub(crate) listen: ListenOptions,
    /// Where its data is.
    pub(crate) storage: StorageOptions,
    /// The catalogue of an installation of several replicas.
    pub(crate) catalogue: CatalogueOptions,
    /// Rates that replicas have together.
    pub(crate) rates: RatesOptions,
    /// The key that wraps every other key. One of `file` and `env`.
    pub(crate) root_key: RootKeyOptions,
    /// What it logs, and how.
    pub(crate) log: LogOptions,
    /// Where traces and metrics go.
    pub(crate) telemetry: TelemetryOptions,
    /// What keeps one process within its means.
    pub(crate) bounds: BoundsOptions,
    /// The record of every paid call.
    pub(crate) journal: JournalOptions,
    /// Uploaded LoRA adapters.
    pub(crate) adapters: AdaptersOptions,
    /// Backups of tenants' stores.
    pub(crate) backups: BackupOptions,
    /// Costs that are pushed to an object store.
    pub(crate) exports: ExportsOptions,
    /// How alerts are watched for.
    pub(crate) alerts: AlertsOptions,
    /// The mail server for alerts.
    pub(crate) mail: MailOptions,
    /// The pages for people.
    pub(crate) dashboard: DashboardOptions,
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListenOptions {
    /// The address of the gateway, which tenants call. On loopback by default, so that a first
    /// start exposes nothing; port 0 lets the system choose.
    #[schemars(with = "String")]
    pub(crate) gateway: SocketAddr,
    /// The address of the admin API, health checks and metrics. Apart from the gateway's, so
    /// that a firewall can tell them apart.
    #[schemars(with = "String")]
    pub(crate) admin: SocketAddr,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            gateway: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin: (Ipv4Addr::LOCALHOST, 8081).into(),
        }
    }
}

/// Where its data is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StorageOptions {
    /// The data folder: the catalogue, the journal, and a file per tenant. Relative to this
    /// file. On a disk whose `fsync` tells the truth.
    pub(crate) folder: PathBuf,
    /// How many tenants' files are open at one time, the least recently used being closed first.
    /// 1,000 are below 190 MB.
    pub(crate) open_tenants_max: NonZeroUsize,
    /// A tenant's file is closed when nobody has used it for so many seconds. Five minutes: a
    /// conversation's pause does not close it, a night does.
    pub(crate) idle_seconds: u64,
    /// PostgreSQL servers for tenants that are placed there (`pool`, `bridge`, `silo`), by the
    /// names that placements say. None: every tenant has a file.
    pub(crate) servers: BTreeMap<Name, PostgresOptions>,
}

/// A PostgreSQL server for tenants' data: `[storage.servers.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresOptions {
    /// Its address, by reference: `env:NAME` or `file:/path`, to a text of the form
    /// `postgres://owner:password@host/database`. The role owns the tables and may make roles
    /// (`CREATEROLE`), for silos also databases (`CREATEDB`). Another machine is spoken to in TLS
    /// unless the address says `sslmode=disable`.
    pub(crate) url: SecretRef,
    /// The region that it stands in: tenants that are pinned to a region are placed there alone.
    #[serde(default)]
    pub(crate) region: Option<Name>,
    /// How many tenants may be in its pool. 10,000: as many tenants as a
    /// directory is built for.
    #[serde(default = "pool_tenants_max")]
    pub(crate) pool_tenants_max: u32,
    /// How many may have a schema. 1,000: beyond that each connection's own memory of the
    /// catalogue grows to hundreds of megabytes.
    #[serde(default = "bridge_tenants_max")]
    pub(crate) bridge_tenants_max: u32,
    /// How many may have a database. 100: each has files and connections of its own.
    #[serde(default = "silo_tenants_max")]
    pub(crate) silo_tenants_max: u32,
    /// How many connections each replica has there at most. 32: PostgreSQL allows 100 in all by
    /// default. Behind `bridge` and `silo` each tenant has a role and so a connection of its own:
    /// where more of them call in turn than there are connections, each query opens one anew, which
    /// takes milliseconds. A connection costs the server some megabytes.
    #[serde(default = "connections_max")]
    pub(crate) connections_max: NonZeroUsize,
    /// A PEM file with the authorities that vouch for its certificate. By default those that
    /// browsers trust.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Four: a move has two, and somebody else calls.
const CONNECTIONS_MIN: usize = 4;

fn connections_max() -> NonZeroUsize {
    NonZeroUsize::new(store::SESSIONS_MAX).expect("it is not zero")
}

fn pool_tenants_max() -> u32 {
    store::Capacity::default().pool
}

fn bridge_tenants_max() -> u32 {
    store::Capacity::default().bridge
}

fn silo_tenants_max() -> u32 {
    store::Capacity::default().silo
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            folder: super::DATA_FOLDER.into(),
            open_tenants_max: NonZeroUsize::new(1_000).expect("a thousand is not zero"),
            idle_seconds: 300,
            servers: BTreeMap::new(),
        }
    }
}

/// The catalogue of an installation of several replicas: on a PostgreSQL server that all of them
/// reach. Each replica has a data folder of its own, and all have the same root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CatalogueOptions {
    /// The server's address: `postgres://partywall@host/database`, or by reference, since this
    /// file holds no password: `env:NAME` or `file:/path`. The role makes a schema
    /// there. Without it the catalogue is a file in the data folder, and there is one process.
    pub(crate) url: Option<CatalogueUrl>,
    /// A PEM file with the authorities that vouch for the server's certificate. By default those
    /// that browsers trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// What people call this replica. By default the machine's name.
    pub(crate) replica: Option<Name>,
    /// How often a replica asks for what is new, in milliseconds, besides being told. 500, so that
    /// a revoked key is refused everywhere within a second even where nobody is told.
    pub(crate) poll_ms: NonZeroU64,
    /// For how many seconds a replica serves without the server, from what it knows and what its
    /// budgets' shares cover; then it refuses calls, since it cannot tell who may call any more.
    /// 900: longer than a failover or a restart takes.
    pub(crate) alone_seconds: NonZeroU64,
    /// How many seconds the replica's clock may be off the server's before it refuses calls:
    /// budgets' days and months end by it. 30: a clock that is kept at all is off by far less.
    pub(crate) clock_off_max_seconds: NonZeroU64,
}

impl Default for CatalogueOptions {
    fn default() -> Self {
        let number = |number| NonZeroU64::new(number).expect("it is not zero");
        Self {
            url: None,
            ca_file: None,
            replica: None,
            poll_ms: number(500),
            alone_seconds: number(900),
            clock_off_max_seconds: number(30),
        }
    }
}

const NO_PASSWORD: &str = "this file holds no password: put the address into a file or the environment, and say `file:/path` or `env:NAME`";

/// Where the catalogue's server is: an address without a password, or a reference to one that has
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) enum CatalogueUrl {
    Plain(String),
    Secret(SecretRef),
}

impl TryFrom<String> for CatalogueUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            let reference = text.parse().map(Self::Secret);
            return reference.map_err(|_| {
                "an address begins with `postgres://`, a reference to one with `env:` or `file:`"
                    .to_owned()
            });
        }
        let holds_password = store::postgres_address(&text)
            .map_err(|error| format!("the address cannot be used: {error}"))?
            .get_password()
            .is_some();
        if holds_password {
            return Err(NO_PASSWORD.to_owned());
        }
        Ok(Self::Plain(text))
    }
}

impl From<CatalogueUrl> for String {
    fn from(url: CatalogueUrl) -> Self {
        match url {
            CatalogueUrl::Plain(text) => text,
            CatalogueUrl::Secret(reference) => reference.to_string(),
        }
    }
}

/// Rates that replicas have together: kept by a Valkey or Redis server, so that a tenant has its
/// whole rate on whichever replica it calls. Without one each replica has a fixed part of each rate,
/// as it has while the server cannot be reached. Money is never there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RatesOptions {
    /// The server's address: `valkey://host:6379/0`, in TLS `valkeys://host` (`redis://` and
    /// `rediss://` are the same), or by reference, since this file holds no password: `env:NAME`
    /// or `file:/path`, to a text of the form `valkeys://user:password@host`. For replicas alone:
    /// one process needs no server for its rates.
    pub(crate) url: Option<RatesUrl>,
    /// A PEM file with the authorities that vouch for the server's certificate. By default those
    /// that browsers trust.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where the server of rates is: an address without a password, or a reference to one that has
/// one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) enum RatesUrl {
    Plain(String),
    Secret(SecretRef),
}

impl TryFrom<String> for RatesUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(reference) = text.parse() {
            return Ok(Self::Secret(reference));
        }
        let address = store::ValkeyAddress::parse(&text).map_err(|error| error.to_string())?;
        match address.has_password() {
            true => Err(NO_PASSWORD.to_owned()),
            false => Ok(Self::Plain(text)),
        }
    }
}

impl From<RatesUrl> for String {
    fn from(url: RatesUrl) -> Self {
        match url {
            RatesUrl::Plain(text) => text,
            RatesUrl::Secret(reference) => reference.to_string(),
        }
    }
}

/// Where the root key is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RootKeyOptions {
    /// A file with mode 0600 that holds the base64 of 32 bytes. By default `root.key` in the
    /// data folder, which is convenient; keep it elsewhere, so that a copy of the folder alone
    /// opens nothing.
    pub(crate) file: Option<PathBuf>,
    /// The environment variable that holds it instead, in the same form. For platforms that
    /// hand out secrets so.
    pub(crate) env: Option<String>,
}

/// Where the root key is, one way or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootKeyPlace {
    File(PathBuf),
    Environment(String),
}

impl RootKeyOptions {
    /// Where the root key of the installation in `folder` is.
    pub(crate) fn place(&self, folder: &Path) -> RootKeyPlace {
        match (&self.env, &self.file) {
            (Some(name), _) => RootKeyPlace::Environment(name.clone()),
            (None, Some(file)) => RootKeyPlace::File(file.clone()),
            (None, None) => RootKeyPlace::File(folder.join("root.key")),
        }
    }
}

/// What it logs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogOptions {
    /// `pretty` for people, `json` for machines: one object a line, on standard error.
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`, or by part: `info,gateway=debug`. At `info`
    /// every call is one line. A reload changes it.
    pub(crate) level: String,
    /// Lines that may wait for a slow terminal or disk; further ones are dropped and counted,
    /// since a call never waits for its log line. 8,192: a second at full load.
    pub(crate) queue_lines_max: NonZeroUsize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::Pretty,
            level: "info".to_owned(),
            queue_lines_max: NonZeroUsize::new(8_192).expect("it is not zero"),
        }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Where traces and metrics go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetryOptions {
    /// The OTLP collector's address (OTLP over HTTP): `http://127.0.0.1:4318`. Nothing is sent
    /// by default.
    pub(crate) otlp_endpoint: Option<String>,
    /// Headers of every request to the collector, each by reference: `authorization =
    /// "env:COLLECTOR_AUTHORIZATION"`. The file holds no secret.
    pub(crate) headers: BTreeMap<String, SecretRef>,
    /// How many of a thousand calls are traced. All by default; lower it where the collector
    /// cannot follow. Metrics count every call. No caller can have more of its calls traced.
    pub(crate) traced_per_mille: u16,
    /// What becomes of the trace that a caller names by `traceparent`. `linked`: the call begins a
    /// trace of its own with a link to it. `joined`: it goes on with it, unless another tenant's
    /// calls are in it; for callers who send to the same collector.
    pub(crate) callers_traces: CallersTraces,
    /// Whether each call is `sent` to the collector as a log record, too; else it is `kept` in the
    /// process's log.
    pub(crate) call_records: CallRecords,
    /// Whether what the process itself logs, as far as `log.level` lets it, is `sent` to the collector,
    /// too; else it is `kept` in the process's log.
    pub(crate) process_log: CallRecords,
    /// Which version of OpenTelemetry's GenAI names is sent: `current`, or `v1.41`, which many
    /// dashboards still expect.
    pub(crate) genai_names: GenAiNames,
    /// What the installation calls itself to the collector (`service.name`). Tell several apart
    /// by it.
    pub(crate) service_name: String,
    /// Metrics are sent every so many seconds. Ten: what dashboards commonly resolve.
    pub(crate) interval_seconds: u64,
    /// Who may read `/metrics` on the admin address: `operators`, or `anyone` who reaches it.
    /// Its series name tenants, hence the default.
    pub(crate) metrics_readers: MetricsReaders,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            headers: BTreeMap::new(),
            traced_per_mille: 1_000,
            callers_traces: CallersTraces::Linked,
            call_records: CallRecords::Kept,
            process_log: CallRecords::Kept,
            genai_names: GenAiNames::Current,
            service_name: "partywall".to_owned(),
            interval_seconds: 10,
            metrics_readers: MetricsReaders::Operators,
        }
    }
}

/// What becomes of a caller's trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CallersTraces {
    /// A link leads to it.
    #[default]
    Linked,
    /// The call goes on with it.
    Joined,
}

/// Where records go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CallRecords {
    /// Into the process's log.
    #[default]
    Kept,
    /// To the collector, too.
    Sent,
}

/// A version of OpenTelemetry's GenAI names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum GenAiNames {
    /// The current ones.
    #[default]
    #[serde(rename = "current")]
    Current,
    /// Those of v1.41.
    #[serde(rename = "v1.41")]
    V1_41,
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MetricsReaders {
    /// Who has an operator's or auditor's key.
    #[default]
    Operators,
    /// Whoever reaches the admin address.
    Anyone,
}

/// What keeps one process within its means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BoundsOptions {
    /// The longest head of a request, in bytes. 64 KiB: four times what common servers take, so
    /// that they refuse first.
    pub(crate) header_bytes_max: usize,
    /// How long a request's head may take to arrive, in milliseconds, counted from the end of the
    /// call before. 75 seconds: idle connections are kept as long as nginx keeps them.
    pub(crate) header_timeout_ms: u64,
    /// How long a request's body may take to arrive, in milliseconds. A minute: the largest body
    /// at 1 MB/s takes half of it.
    pub(crate) body_timeout_ms: u64,
    /// How long a client may take to read a piece of its answer, in milliseconds. A minute: a
    /// reader that takes nothing for so long has gone.
    pub(crate) write_timeout_ms: u64,
    /// The most bytes of requests and answers in memory at one time, over all tenants. 256 MiB:
    /// eight of the largest bodies.
    pub(crate) in_flight_bytes_max: u64,
    /// The longest answer that is not streamed, in bytes. 64 MiB: 2,048 large embeddings are
    /// half of it.
    pub(crate) answer_bytes_max: u64,
    /// The most bytes of answers that are kept to be given again, over all tenants; each tier
    /// says how many of one tenant. 64 MiB: four tenants' whole share.
    pub(crate) cache_bytes_max: u64,
    /// Connections of clients at one time; further ones wait to be accepted. 16,384: two
    /// descriptors a call, and the common hard limit of 65,536 allows twice that.
    pub(crate) connections_max: usize,
    /// How long calls may go on once the process was told to stop, in seconds; then they are
    /// cut and settled. 25: below the 30 that Kubernetes waits.
    pub(crate) drain_seconds: u64,
    /// Threads that serve. As many as the machine has processors by default.
    pub(crate) workers: Option<NonZeroUsize>,
}

impl Default for BoundsOptions {
    fn default() -> Self {
        Self {
            header_bytes_max: 64 << 10,
            header_timeout_ms: 75_000,
            body_timeout_ms: 60_000,
            write_timeout_ms: 60_000,
            in_flight_bytes_max: 256 << 20,
            answer_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            connections_max: 16_384,
            drain_seconds: 25,
            workers: None,
        }
    }
}

/// The record of every paid call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JournalOptions {
    /// A segment is closed, and can be compacted, when it has so many bytes. 64 MiB: a quarter of
    /// a million calls, read in a tenth of a second.
    pub(crate) segment_bytes_max: u64,
    /// How many bytes may wait for the disk before calls are refused. 8 MiB: what arrives while
    /// a slow disk stalls ten times.
    pub(crate) buffer_bytes_max: usize,
    /// Every so many seconds closed segments are compacted into the tenants' files.
    pub(crate) compact_seconds: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 << 20,
            buffer_bytes_max: 8 << 20,
            compact_seconds: 60,
        }
    }
}

/// Uploaded LoRA adapters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdaptersOptions {
    /// The folder that engines read too: each upload is put into a folder below it with a name that
    /// nobody guesses. Relative to this file. Without it nothing can be uploaded. The files are not
    /// encrypted: engines read them as they are.
    pub(crate) folder: Option<PathBuf>,
    /// The same folder as engines see it, where that is another path.
    pub(crate) engine_folder: Option<PathBuf>,
}

/// 900: somewhat fewer than are looked at.
const BACKUPS_MAX: u64 = 900;

/// Backups of tenants' stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BackupOptions {
    /// Where they go: another disk, or what is brought to another place from there. Relative to this
    /// file. Without it none are taken. The files are sealed under the tenants' keys.
    pub(crate) folder: Option<PathBuf>,
    /// Each tenant's is taken when its newest is so many hours old; 0 takes none but those that are
    /// asked for.
    pub(crate) every_hours: u32,
    /// So many of each tenant's are kept, the newest.
    pub(crate) keep: u32,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            folder: None,
            every_hours: 24,
            keep: 7,
        }
    }
}

impl InstallationConfig {
    /// What no type can say: the key at fault, and what is wrong.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let Self {
            listen,
            root_key,
            telemetry,
            bounds,
            journal,
            storage,
            backups,
            alerts,
            mail,
            dashboard,
            ..
        } = self;
        let wrong = alerts.problem().or_else(|| mail.problem());
        let wrong = wrong.or_else(|| dashboard.problem());
        if let Some(problem) = wrong.or_else(|| self.exports.problem()) {
            return Some(problem);
        }
        let has_few = |(_, server): &(&Name, &PostgresOptions)| {
            server.connections_max.get() < CONNECTIONS_MIN
        };
        if let Some((name, _)) = storage.servers.iter().find(has_few) {
            let message = format!("`{name}` needs `connections_max` of {CONNECTIONS_MIN} at least");
            return Some(("storage.servers", message));
        }
        if self.rates.url.is_some() && self.catalogue.url.is_none() {
            let message = "one process needs no server for its rates: remove `[rates]`, or set `catalogue.url` to run replicas";
            return Some(("rates.url", message.to_owned()));
        }
        if root_key.file.is_some() && root_key.env.is_some() {
            let message = "give the root key by `file` or by `env`, not by both";
            return Some(("root_key.env", message.to_owned()));
        }
        if listen.gateway == listen.admin && listen.gateway.port() != 0 {
            let message = "the gateway and the admin API cannot share an address";
            return Some(("listen.admin", message.to_owned()));
        }
        if telemetry.traced_per_mille > 1_000 {
            let message = "at most 1000 of a thousand calls can be traced";
            return Some(("telemetry.traced_per_mille", message.to_owned()));
        }
        if let Some(endpoint) = &telemetry.otlp_endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            let message = "an OTLP endpoint begins with http:// or https://";
            return Some(("telemetry.otlp_endpoint", message.to_owned()));
        }
        if u64::from(backups.keep) > BACKUPS_MAX {
            let message = format!("at most {BACKUPS_MAX} backups of a tenant are kept");
            return Some(("backups.keep", message));
        }
        let least = [
            (
                "bounds.header_bytes_max",
                bounds.header_bytes_max as u64,
                8 << 10,
            ),
            ("bounds.header_timeout_ms", bounds.header_timeout_ms, 1),
            ("bounds.body_timeout_ms", bounds.body_timeout_ms, 1),
            ("bounds.write_timeout_ms", bounds.write_timeout_ms, 1),
            (
                "bounds.in_flight_bytes_max",
                bounds.in_flight_bytes_max,
                1 << 20,
            ),
            ("bounds.answer_bytes_max", bounds.answer_bytes_max, 1 << 20),
            ("bounds.connections_max", bounds.connections_max as u64, 1),
            (
                "journal.segment_bytes_max",
                journal.segment_bytes_max,
                64 << 10,
            ),
            (
                "journal.buffer_bytes_max",
                journal.buffer_bytes_max as u64,
                64 << 10,
            ),
            ("journal.compact_seconds", journal.compact_seconds, 1),
            ("backups.keep", u64::from(backups.keep), 1),
            ("storage.idle_seconds", storage.idle_seconds, 1),
            ("telemetry.interval_seconds", telemetry.interval_seconds, 1),
        ];
        least
            .into_iter()
            .find(|(_, value, least)| value < least)
            .map(|(key, _, least)| (key, format!("at least {least} is needed")))
    }

    /// Makes relative paths start at `folder`, where the file is.
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        self.storage.folder = folder.join(&self.storage.folder);
        let paths = [
            &mut self.root_key.file,
            &mut self.adapters.folder,
            &mut self.backups.folder,
            &mut self.mail.ca_file,
            &mut self.catalogue.ca_file,
            &mut self.rates.ca_file,
        ];
        let servers = self.storage.servers.values_mut();
        let paths = paths.into_iter().chain(servers.map(|it| &mut it.ca_file));
        for path in paths.flatten() {
            *path = folder.join(&*path);
        }
    }
}
