//! A tenant's own LoRA adapters, and what tiers and upstreams say of them.

use base::ModelName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A LoRA adapter that belongs to a tenant. Its callers name it as they would a model; nobody
/// else's can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub description: Box<str>,
    /// The model that it sits on, as clients name it: a route that leads to an upstream with
    /// `adapters`.
    pub base: ModelName,
    /// Where its weights are.
    pub source: AdapterSource,
    /// The rank of its matrices (`r` in `adapter_config.json`): it goes only to engines that take
    /// so large a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
}

/// Where an adapter's weights are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AdapterSource {
    /// Where the engine finds them by itself.
    Reference(AdapterReference),
    /// Where an upload put them. Given by the server.
    Uploaded(UploadedAdapter),
}

/// Weights that an engine finds by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterReference {
    /// A path or a repository's name, as the engine sees it: `/adapters/acme/tone`, `acme/tone`.
    /// The tier says where it may lead.
    pub location: Box<str>,
    /// Changed, it makes engines load the adapter anew: a version, or a hash of the files.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub revision: Box<str>,
}

/// Weights that were uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadedAdapter {
    /// The folder, as the engine sees it.
    pub location: Box<str>,
    /// The SHA-256 of the files, in hexadecimal.
    pub sha256: Box<str>,
    /// Bytes of the files.
    pub bytes: u64,
}

impl AdapterSpec {
    /// Where an engine finds the weights.
    pub fn location(&self) -> &str {
        match &self.source {
            AdapterSource::Reference(reference) => &reference.location,
            AdapterSource::Uploaded(uploaded) => &uploaded.location,
        }
    }

    /// Which weights these are, of those that were there.
    pub fn revision(&self) -> &str {
        match &self.source {
            AdapterSource::Reference(reference) => &reference.revision,
            AdapterSource::Uploaded(uploaded) => &uploaded.sha256,
        }
    }
}

/// What a tier lets its tenants do with adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TierAdapters {
    /// The most adapters that each tenant may have.
    pub count_max: u32,
    /// Where references may lead: a whole location, or a beginning that ends in `/`. In each,
    /// `{tenant}` stands for the tenant's name. Nowhere if empty.
    pub references: Vec<String>,
    /// The most bytes that one upload may have; 0 allows none.
    pub upload_bytes_max: u64,
}

impl Default for TierAdapters {
    fn default() -> Self {
        Self {
            // 16: a handful of features in a few languages.
            count_max: 16,
            references: Vec::new(),
            upload_bytes_max: 0,
        }
    }
}

impl TierAdapters {
    /// Whether a reference of this tenant's may lead there.
    pub fn allows(&self, tenant: &str, location: &str) -> bool {
        self.references.iter().any(|allowed| {
            let allowed = allowed.replace("{tenant}", tenant);
            match allowed.ends_with('/') {
                true => location.len() > allowed.len() && location.starts_with(&allowed),
                false => location == allowed,
            }
        })
    }
}

/// That an upstream loads adapters, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamAdapters {
    /// How many it has loaded at one time, over all tenants: what vLLM's `--max-cpu-loras` or
    /// LoRAX's `--max-active-adapters` says, or this gateway's part of it.
    pub slots: u32,
    /// How long the engine may take to load one, in milliseconds.
    #[serde(default = "default_load_ms")]
    pub load_ms: u64,
    /// The largest rank that it takes (vLLM's `--max-lora-rank`); any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_max: Option<u32>,
}

/// A minute: a gigabyte from a slow network disk.
fn default_load_ms() -> u64 {
    60_000
}

impl UpstreamAdapters {
    /// Whether an adapter of this rank can be loaded there.
    pub fn takes(&self, rank: Option<u32>) -> bool {
        match (rank, self.rank_max) {
            (Some(rank), Some(most)) => rank <= most,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_where_the_tier_says_and_nowhere_else() {
        let references = ["/adapters/{tenant}/", "hub/shared-tone"].map(str::to_owned);
        let tier = TierAdapters {
            references: references.to_vec(),
            ..TierAdapters::default()
        };
        assert!(tier.allows("acme", "/adapters/acme/tone"));
        assert!(tier.allows("acme", "hub/shared-tone"));
        for foreign in [
            "/adapters/globex/tone",
            "/adapters/acme2/tone",
            "/adapters/acme/",
            "hub/shared-tone-2",
            "/etc/passwd",
        ] {
            assert!(!tier.allows("acme", foreign), "{foreign}");
        }
        assert!(!TierAdapters::default().allows("acme", "anything"));
    }
}
