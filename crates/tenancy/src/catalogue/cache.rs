//! Whether a tenant's answers are kept and given again.

use base::{ModelName, Name};
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
    /// The model that finds requests of like meaning, as clients name it; for `semantic`, and
    /// needed there. Each search is a call of it, on the tenant's budgets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<ModelName>,
    /// How alike two questions have to be, in percent: the cosine of their vectors; 50 to 100.
    pub similarity_percent: u8,
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
            embedding_model: None,
            // 95: what common models give two spellings of one question, and not two questions.
            similarity_percent: 95,
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
    /// So, or else by a last user message that means the same, in a request that is the same in
    /// all else. Never with tools, images or several choices.
    Semantic,
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
