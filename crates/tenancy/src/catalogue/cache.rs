//! Whether a tenant's answers are kept and given again.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a tenant's answers is kept in memory, and given again to the same request. How much
/// room there is, and what such an answer costs, its tier says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSpec {
    /// Whether anything is.
    pub mode: CacheMode,
    /// How long an answer is given again, in seconds: 1 to 2,592,000 (30 days).
    pub ttl_seconds: u32,
    /// The answers to which requests.
    pub requests: CachedRequests,
    /// The features whose calls it is for; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Name>,
}

impl Default for CacheSpec {
    fn default() -> Self {
        Self {
            mode: CacheMode::Off,
            // An hour: within a working session questions repeat, and yesterday's facts do not.
            ttl_seconds: 3_600,
            requests: CachedRequests::Deterministic,
            features: Vec::new(),
        }
    }
}

impl CacheSpec {
    /// Whether it is for calls of this feature.
    pub fn is_for(&self, feature: &Name) -> bool {
        self.mode != CacheMode::Off && (self.features.is_empty() || self.features.contains(feature))
    }
}

/// How an answer that is kept is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// None is kept.
    #[default]
    Off,
    /// By the very request, however its JSON is spelled.
    Exact,
}

/// The answers to which requests are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CachedRequests {
    /// To those with `temperature` 0, which ask for the same answer each time; to embeddings and
    /// rankings always.
    #[default]
    Deterministic,
    /// To all: also where the model would answer otherwise the next time.
    All,
}
