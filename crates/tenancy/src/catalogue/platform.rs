//! What all tenants share: tiers, upstreams, routes, operators.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BudgetSpec, LimitSpec};
use crate::keys::KeyHash;
use crate::roles::Role;

/// A named set of limits, budgets, models and bounds that tenants share by being on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TierSpec {
    /// For people.
    pub description: String,
    /// The models that tenants of this tier may call, as clients name them; empty means all.
    pub models: Vec<ModelName>,
    /// Limits of every tenant of the tier, by name. A tenant's limit of the same name replaces
    /// it.
    pub limits: BTreeMap<Name, LimitSpec>,
    /// Budgets of every tenant of the tier, by name. A tenant's budget of the same name replaces
    /// it.
    pub budgets: BTreeMap<Name, BudgetSpec>,
    /// The largest request body in bytes.
    pub body_bytes_max: u64,
    /// The most bytes of one tenant's requests in memory at one time.
    pub in_flight_bytes_max: u64,
    /// How long an interactive call may wait for a limit or for holds to settle, in
    /// milliseconds, before it is refused.
    pub wait_ms_max: u64,
}

impl Default for TierSpec {
    fn default() -> Self {
        Self {
            description: String::new(),
            models: Vec::new(),
            limits: BTreeMap::new(),
            budgets: BTreeMap::new(),
            // 32 MiB: images travel inside JSON.
            body_bytes_max: 32 << 20,
            // Four of the largest bodies at once.
            in_flight_bytes_max: 128 << 20,
            // Ten seconds: below the shortest time-out that clients commonly set (30 s).
            wait_ms_max: 10_000,
        }
    }
}

/// A place that serves models: a provider's API or an engine of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// Where its API begins, up to and including the version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// Whose prices apply: a model's price is named `provider/model`.
    pub provider: Name,
    /// What kind of engine it is, which decides how a tenant's salt is sent.
    #[serde(default)]
    pub engine: Engine,
    /// How tenants are kept out of each other's prompt cache.
    #[serde(default)]
    pub salting: Salting,
    /// The only tenant that may use it; required by `salting = "exclusive"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive_to: Option<Name>,
    /// The credential that is sent as a bearer token: a reference, never the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretRef>,
    /// Whether it may be at a loopback, private or link-local address: the operator vouches.
    #[serde(default)]
    pub allow_private_address: bool,
    /// The most calls under way at one time, over all tenants.
    #[serde(default = "default_upstream_concurrency")]
    pub concurrency_max: u32,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// 1,024: more than one machine's engines batch, and a bound on this process's connections.
fn default_upstream_concurrency() -> u32 {
    1_024
}

/// What kind of engine an upstream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// OpenAI's own API.
    OpenAi,
    /// vLLM, or an engine that takes `cache_salt` as vLLM does.
    Vllm,
    /// An OpenAI-compatible API of which nothing more is known.
    #[default]
    Compatible,
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

/// From the model name that a client says to upstreams, in order. The resource's name is the
/// model name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Where calls go: the first that can be reached.
    pub targets: Vec<RouteTarget>,
    /// The tiers that may use the route; empty means all.
    #[serde(default)]
    pub tiers: Vec<Name>,
    /// The most output tokens that one call may ask for, and what is forced on a call that asks
    /// for no number: without it a call's cost has no bound.
    #[serde(default = "default_output_tokens_max")]
    pub output_tokens_max: u32,
    /// The most input tokens that one image can count as; a call with images is refused under a
    /// budget if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens_max: Option<u32>,
}

/// 4,096: what most chat models gave at most before long answers became common; a route says
/// more where it serves more.
fn default_output_tokens_max() -> u32 {
    4_096
}

/// One place where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTarget {
    /// The upstream's name.
    pub upstream: Name,
    /// The model's name there.
    pub model: ModelName,
}

/// Somebody who runs the platform. Operators are not tenants: they reach a tenant's data only
/// by an act that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorSpec {
    /// `operator` or `auditor`.
    pub role: Role,
    /// The keyed hash of the operator's key.
    pub hash: KeyHash,
    /// A disabled operator is refused.
    #[serde(default)]
    pub disabled: bool,
}

/// Where a secret is, as text: `env:NAME` or `file:/path`. Never the secret itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// An environment variable of the serving process.
    Env(String),
    /// A file that the serving process can read; trailing white space is cut.
    File(String),
}

/// The text is not a [`SecretRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a secret is given by reference: `env:NAME` or `file:/path`, never as a value")]
pub struct ParseSecretRefError;

impl FromStr for SecretRef {
    type Err = ParseSecretRefError;

    fn from_str(text: &str) -> Result<Self, ParseSecretRefError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            _ => Err(ParseSecretRefError),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not part of the error: it may be a secret pasted by mistake.
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a secret is: `env:NAME` or `file:/path`; never the secret itself",
            "pattern": "^(env|file):.+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_secret_is_refused_and_not_repeated() {
        let refused = serde_json::from_str::<SecretRef>(r#""sk-live-1234""#).expect_err("refused");
        assert!(!refused.to_string().contains("1234"), "{refused}");
        assert_eq!(
            "env:X".parse::<SecretRef>().expect("parses").to_string(),
            "env:X"
        );
    }
}
