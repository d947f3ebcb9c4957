//! Providers' bills beside the ledger.

use std::collections::BTreeMap;

use base::{Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A provider's bill, to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BillImportRequest {
    /// Whose export it is.
    pub provider: BillProvider,
    /// The upstreams whose calls are on it; those of the provider's engine if it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Name>,
    /// What the bill calls models, and what their upstreams do, where names do not meet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// The file: CSV, 100,000 rows of 366 days at most.
    pub csv: String,
}

/// Whose export a bill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BillProvider {
    /// OpenAI's export of costs.
    Openai,
    /// The export of costs of Anthropic's console.
    Anthropic,
    /// The columns `day`, `model` and `cost`.
    Generic,
}

impl BillProvider {
    /// Its name: `openai`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Generic => "generic",
        }
    }
}

/// A bill, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BillImportReply {
    /// The comparison's number.
    pub id: u64,
    /// Whose export it was.
    pub provider: BillProvider,
    /// Whose calls it was compared with.
    pub upstreams: Vec<Name>,
    /// From this UTC day on …
    pub from: Timestamp,
    /// … and before this one.
    pub until: Timestamp,
    /// When it was compared.
    pub imported_at: Timestamp,
    /// By whom.
    pub imported_by: String,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub file_sha256: String,
    /// What was billed.
    pub billed: PicoUsd,
    /// What the ledger has.
    pub ledger: PicoUsd,
    /// What was billed less what the ledger has.
    pub difference: PicoUsd,
    /// By day and model.
    pub differences: Vec<BillDifference>,
}

/// A day and a model of a bill and of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BillDifference {
    /// The UTC day.
    pub day: String,
    /// The model, in small letters and without its version's date.
    pub model: String,
    /// What was billed.
    pub billed: PicoUsd,
    /// What the ledger has.
    pub ledger: PicoUsd,
    /// What was billed less what the ledger has.
    pub difference: PicoUsd,
}

/// A comparison, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BillRow {
    /// Its number.
    pub id: u64,
    /// Whose export it was.
    pub provider: BillProvider,
    /// From this UTC day on …
    pub from: Timestamp,
    /// … and before this one.
    pub until: Timestamp,
    /// When it was compared.
    pub imported_at: Timestamp,
    /// By whom.
    pub imported_by: String,
    /// What was billed.
    pub billed: PicoUsd,
    /// What the ledger has.
    pub ledger: PicoUsd,
    /// What was billed less what the ledger has.
    pub difference: PicoUsd,
}
