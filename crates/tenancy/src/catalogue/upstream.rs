//! Places that serve models.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndpointsSpec, Engine, EngineMetrics, SecretRef, UpstreamAdapters};

/// A place that serves models: a provider's API or an engine of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// What kind of engine or provider it is: its dialect, its credential's form, how it takes a
    /// tenant's salt.
    #[serde(default)]
    pub engine: Engine,
    /// Where its API begins, up to and including the version: `https://api.openai.com/v1`. May
    /// be left out where the engine has one address for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Where its replicas are, if there are several: calls are spread over them. Without it there
    /// is the one place that `base_url` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Box<EndpointsSpec>>,
    /// Whose prices apply: a model's price is named `provider/model`. The engine's
    /// if absent (`openai`, `anthropic`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Name>,
    /// Where it computes (`eu`, `us-east`): a tenant pinned to a region is served there alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// How tenants are kept out of each other's prompt cache.
    #[serde(default)]
    pub salting: Salting,
    /// The only tenant that may use it; required by `salting = "exclusive"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_to: Option<Name>,
    /// The installation's credential: a reference, never the value. It leads to an API key; for
    /// `vertex` to a service account's JSON or an access token; for `bedrock` to an API key or
    /// to `{"access_key_id", "secret_access_key", "session_token"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretRef>,
    /// Whose credential is sent: the installation's, or that of the tenant who calls.
    #[serde(default)]
    pub credential_of: CredentialOf,
    /// The version of the API that calls ask for, where it is not part of the address
    /// (`api-version` of Azure, `anthropic-version`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Whether it may be at a loopback, private or link-local address: the operator vouches.
    #[serde(default)]
    pub allow_private_address: bool,
    /// The most calls under way at one time, over all tenants; with `endpoints`, at each of them.
    #[serde(default = "default_upstream_concurrency")]
    pub concurrency_max: u32,
    /// Whether it finds out how many calls at once the upstream takes, up to `concurrency_max`,
    /// from the time to the first token and from its 429s. For engines of one's own; a
    /// provider's API is as slow for reasons that fewer calls do not change.
    #[serde(default)]
    pub adaptive_concurrency: AdaptiveConcurrency,
    /// Whether the engine schedules by `priority` (vLLM with `--scheduling-policy priority`):
    /// calls then carry their band.
    #[serde(default)]
    pub priority_scheduling: bool,
    /// Whether it is told the trace of a call (`traceparent`), where telemetry is on. Turn it off
    /// for who has no business with it.
    #[serde(default)]
    pub trace_context: TraceContextTo,
    /// That it loads tenants' LoRA adapters, if it does: for `vllm` and `lorax`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<UpstreamAdapters>,
    /// How it is asked whether it works, if it is. Without it, calls alone tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// When calls of a tenant are held back because its last ones failed.
    #[serde(default)]
    pub breaker: BreakerSpec,
    /// How it is asked for its load, if it is: calls then go to the replica that has least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_metrics: Option<Box<EngineMetrics>>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,
}

impl UpstreamSpec {
    /// Where its API begins: its own address, or the one that its engine has for all.
    pub fn address(&self) -> Option<&str> {
        self.base_url.as_deref().or(self.engine.base_url())
    }

    /// Whose prices apply.
    pub fn provider(&self) -> &str {
        match &self.provider {
            Some(provider) => provider.as_str(),
            None => self.engine.provider(),
        }
    }
}

/// How an upstream is asked whether it works: by a GET with the installation's credential, which
/// it answers with 2xx within 0.9 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The path on its server, from the root: `/health`, `/v1/models`.
    pub path: String,
    /// How often, in milliseconds; from 1,000.
    #[serde(default = "default_health_every")]
    pub every_ms: u64,
}

/// Five seconds: three failures in a row, after which it counts as down, are a quarter of a minute.
fn default_health_every() -> u64 {
    5_000
}

/// When a tenant's breaker opens. Without a number of failures and without a share of them none
/// does, and nobody's failures tell anybody else: for upstreams behind something that does this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// Failures in a row that open it; 0: no number of them does.
    pub failures_in_a_row: u32,
    /// Per cent of failures, among the calls of half a minute and at least twenty, that open it;
    /// 0: no share of them does.
    pub failure_percent: u8,
    /// How long it stays open first, in milliseconds; twice as long each time that a probe fails.
    pub open_ms: u64,
    /// How long it stays open at most, in milliseconds, unless the upstream asks for longer.
    pub open_ms_max: u64,
}

impl BreakerSpec {
    /// Never opens.
    pub const OFF: Self = Self {
        failures_in_a_row: 0,
        failure_percent: 0,
        ..Self::USUAL
    };

    const USUAL: Self = Self {
        // A single lost connection or a rolling restart is no outage.
        failures_in_a_row: 5,
        // Of twenty calls: three standard errors above one in six.
        failure_percent: 50,
        // What restarts take, and what a client waits for at most.
        open_ms: 1_000,
        open_ms_max: 60_000,
    };

    /// Whether failures open it at all.
    pub fn is_on(&self) -> bool {
        self.failures_in_a_row > 0 || self.failure_percent > 0
    }
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self::USUAL
    }
}

/// Who decides how many calls at once an upstream gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdaptiveConcurrency {
    /// The operator: `concurrency_max`.
    #[default]
    Off,
    /// The upstream's answers, up to `concurrency_max`.
    On,
}

/// Whether an upstream is told the trace that a call belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TraceContextTo {
    /// By `traceparent`: the trace and the gateway's span. Never by `tracestate`.
    #[default]
    Told,
    /// It hears nothing of it.
    Withheld,
}

/// Whose credential an upstream is called with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialOf {
    /// The installation's, for everybody.
    #[default]
    Installation,
    /// The calling tenant's own; a tenant without one is not served there. What the provider
    /// caches by account is then the tenant's alone.
    Tenant,
    /// The tenant's own if it has one, the installation's otherwise.
    TenantOrInstallation,
}

/// 1,024: more than one machine's engines batch, and a bound on this process's connections.
fn default_upstream_concurrency() -> u32 {
    1_024
}

/// How tenants are kept out of each other's prompt cache on an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Salting {
    /// Every call carries the tenant's derived salt. Only for engines that honour one.
    Derived,
    /// One tenant alone uses this upstream ([`UpstreamSpec::exclusive_to`]).
    Exclusive,
    /// The upstream keeps no prompt cache, or it is turned off.
    Uncached,
    /// Tenants share the upstream's cache, and each has accepted that on record
    /// ([`super::TenantSpec::accepts_shared_cache`]).
    #[default]
    SharingAccepted,
}

/// How long to wait for an upstream, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection, its encryption included.
    pub connect_ms: u64,
    /// For the head of the answer.
    pub first_byte_ms: u64,
    /// Between two pieces of the answer.
    pub idle_ms: u64,
    /// For the whole call.
    pub total_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        // Five seconds reach any place on earth twice over; a long prompt may take minutes to
        // prefill; OpenAI's SDK gives up after ten minutes.
        Self {
            connect_ms: 5_000,
            first_byte_ms: 300_000,
            idle_ms: 120_000,
            total_ms: 600_000,
        }
    }
}
