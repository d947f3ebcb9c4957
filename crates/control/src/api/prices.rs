//! Importing prices.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Prices in a form of somebody else's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceImportRequest {
    /// Whose form it is.
    pub source: PriceSource,
    /// The document itself: an object of models. Its numbers are read as decimals, digit by
    /// digit.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub document: Box<RawValue>,
    /// From when on the prices apply; from now on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<Timestamp>,
    /// Only the models of these providers; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Name>,
    /// What to do about prices that depend on the length of a prompt.
    #[serde(default)]
    pub variants: PriceVariants,
    /// Fields that are never charged here, such as `search_context_cost_per_query`: on the
    /// operator's word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Whether only to say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// Whose form a document of prices has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PriceSource {
    /// LiteLLM's `model_prices_and_context_window.json`.
    Litellm,
}

/// What to do about prices that depend on the length of a prompt or the life of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PriceVariants {
    /// They are charged by the length of the prompt. A model with more than one length at which its
    /// price changes is skipped: a price states one.
    #[default]
    Exact,
    /// The dearest amount stands for all: budgets hold, and short prompts are overcharged.
    Dearest,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceImportReport {
    /// The catalogue's version from now on; of a dry run or if nothing changed, as before.
    pub version: u64,
    /// The prices that are new or changed.
    pub imported: Vec<ImportedPrice>,
    /// The prices that stand as the document has them.
    pub unchanged: Vec<String>,
    /// The models that were not imported, and why.
    pub skipped: Vec<SkippedPrice>,
    /// Fields that were left out of prices that were imported, and of how many.
    pub ignored: Vec<IgnoredField>,
}

/// A price that is new or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportedPrice {
    /// `provider/model`.
    pub name: String,
    /// The new entry's version.
    pub version: u32,
}

/// A model that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedPrice {
    /// Its name in the document.
    pub model: String,
    /// Why, and what to do.
    pub reason: String,
}

/// A field of the document that is in no price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IgnoredField {
    /// Its name.
    pub field: String,
    /// In how many models it was.
    pub models: u64,
}
