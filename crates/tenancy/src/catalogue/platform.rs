//! What all tenants share: tiers, operators, and where secrets are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BudgetSpec, LimitSpec, Placement, RetentionSpec, TierAdapters};
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
    /// How long a call may wait for a limit, for holds to settle or for a place at an upstream,
    /// in milliseconds, before it is refused.
    pub wait_ms_max: u64,
    /// How urgent its calls are where they wait for an upstream. A call may ask for less
    /// (`partywall-priority`), never for more.
    pub priority: Priority,
    /// Its tenants' share where calls wait for an upstream, relative to others': from 1.
    pub weight: u16,
    /// The most places that each of its tenants may hold at one upstream; as many as there are
    /// if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_concurrency_max: Option<u32>,
    /// Places at each upstream of its routes that are kept for each of its tenants. All that are
    /// kept at an upstream are three quarters of its places at most: beyond that they shrink in
    /// proportion.
    pub upstream_concurrency_reserved: u32,
    /// After so many days its tenants' salts are new, and engines begin anew with their prompts; 1
    /// to 3,650. Never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt_days_max: Option<u16>,
    /// The most bytes of answers that are kept for each of its tenants
    /// ([`TenantConfig::cache`](super::TenantConfig::cache)): 0 keeps none.
    pub cache_bytes_max: u64,
    /// What an answer costs that is given again, in percent of what the same answer cost anew: 0
    /// to 100. At 0 it is free.
    pub cache_price_percent: u8,
    /// What its tenants may do with LoRA adapters of their own; they have none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<TierAdapters>,
    /// Where its tenants' data lives unless a tenant says otherwise: `file`, or `pool`, `bridge` or
    /// `silo`, on the emptiest server of the tenant's region or on `:SERVER`. It counts when a
    /// tenant is onboarded; `file` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The price book that its tenants are charged by, unless they name their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_book: Option<Name>,
    /// How long what its tenants' calls leave is kept, unless they say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
}

/// How urgent calls are where they wait for an upstream. The more urgent go first; the others
/// have a guaranteed share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// A program waits for the answer.
    Standard,
    /// Nobody waits: batches, evaluations, ingest.
    Background,
}

/// The text is not a [`Priority`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a priority is `interactive`, `standard` or `background`")]
pub struct ParsePriorityError;

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, ParsePriorityError> {
        match text {
            "interactive" => Ok(Self::Interactive),
            "standard" => Ok(Self::Standard),
            "background" => Ok(Self::Background),
            _ => Err(ParsePriorityError),
        }
    }
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
            priority: Priority::Interactive,
            weight: 1,
            upstream_concurrency_max: None,
            upstream_concurrency_reserved: 0,
            salt_days_max: None,
            // 16 MiB: some ten thousand answers of a page each.
            cache_bytes_max: 16 << 20,
            // No upstream bills it.
            cache_price_percent: 0,
            adapters: None,
            placement: None,
            price_book: None,
            retention: None,
        }
    }
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
