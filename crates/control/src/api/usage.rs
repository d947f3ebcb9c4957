//! Usage, budgets and the ledger.

use std::collections::BTreeMap;

use base::{AttemptId, ModelName, Name, PicoUsd, RequestId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of a tenant's usage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsageQuery {
    /// What to tell apart, with commas: of `team`, `user`, `key`, `feature`, `model`, `version`,
    /// `price_version`, `upstream`, `hop`, `session`, and one of `month`, `day` and `hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// From this time on: RFC 3339, or a date (its beginning, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time, itself not included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which usage of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlatformUsageQuery {
    /// What to tell apart, with commas: of `tenant`, `team`, `user`, `key`, `feature`, `model`,
    /// `version`, `price_version`, `upstream`, `hop`, and one of `month`, `day` and `hour`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// From this time on: RFC 3339, or a date (its beginning, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time, itself not included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only this tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What was used, and what it cost. Calls that are not settled count at their upper bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// What was told apart, and its value here: `{"model": "gpt-4o", "day": "2026-01-31"}`.
    pub group: BTreeMap<String, String>,
    /// Calls that no other call caused: clients' requests, each counted again when retried.
    pub requests: u64,
    /// All calls of models.
    pub calls: u64,
    /// Those of them that stand at their upper bound, until they are reconciled.
    pub unsettled: u64,
    /// Those of them that the tenant's own cache answered: no upstream was asked.
    pub cache_hits: u64,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens in that were read from a provider's cache.
    pub cached_tokens: u64,
    /// Tokens in that were written to a provider's cache.
    pub cached_write_tokens: u64,
    /// Of those written, those that stay for an hour.
    pub cached_write_1h_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// What it cost, in dollars.
    pub cost: PicoUsd,
}

/// A budget's state for one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetRow {
    /// The budget's name.
    pub budget: Name,
    /// Whose spending counts: `tenant`, `user:ada`, …
    pub subject: String,
    /// The most that may be spent in the window.
    pub limit: PicoUsd,
    /// What is spent in this window.
    pub spent: PicoUsd,
    /// What is held for calls under way.
    pub held: PicoUsd,
    /// When the window ends; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ends_at: Option<Timestamp>,
}

/// The state of a tenant's budgets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetStatusReply {
    /// Every subject that spent something, budget by budget.
    pub data: Vec<BudgetRow>,
}

/// One call of one model, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineView {
    /// The call.
    pub attempt: AttemptId,
    /// The client's request that it served.
    pub request: RequestId,
    /// The request on whose way it was made, if it is a hop of another: a guardrail's check, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RequestId>,
    /// The team, by name, or by id if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The user, by name, or by id if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The key, by name, or by id if it is gone.
    pub key: String,
    /// The feature.
    pub feature: Name,
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The turn of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<String>,
    /// What the call was for: `generate`, `embed`, …
    pub hop: String,
    /// Which of the tenant's prompts it had, and which version: `support@3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The model, as it is priced.
    pub model: ModelName,
    /// Who served it.
    pub upstream: Name,
    /// What the upstream called the model, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ModelName>,
    /// The version of the price by which it is charged.
    pub price_version: u32,
    /// `settled`, `released`, `unsettled` (it stands at its upper bound) or `reconciled`.
    pub state: String,
    /// How it ended, or why it cost nothing: `completed`, `client-gone`, `refused`, …; `cached`
    /// if no upstream was asked, since the answer had been kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens in that were read from a cache.
    pub cached_read_tokens: u64,
    /// Tokens in that were written to a cache.
    pub cached_write_tokens: u64,
    /// Of those written, those that stay for an hour.
    pub cached_write_1h_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// What was held for it.
    pub held: PicoUsd,
    /// What it cost.
    pub cost: PicoUsd,
    /// When it was dispatched.
    pub started_at: Timestamp,
    /// When its state came about.
    pub ended_at: Timestamp,
}

/// The calls that one request made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestReply {
    /// In the order in which they began.
    pub data: Vec<LineView>,
}

/// What checking the ledger found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerCheck {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Records that were read.
    pub records: u64,
    /// Calls that were dispatched.
    pub attempts: u64,
    /// Of these, settled.
    pub settled: u64,
    /// Released: they cost nothing.
    pub released: u64,
    /// Reconciled afterwards.
    pub reconciled: u64,
    /// Without an end: under way, or to be reconciled.
    pub open: u64,
    /// What was settled and reconciled, in dollars.
    pub cost: PicoUsd,
    /// What was charged beyond what was held, in dollars.
    pub overshoot: PicoUsd,
    /// How much is wrong.
    pub fault_count: u64,
    /// What is wrong: at most 100 findings.
    pub faults: Vec<String>,
}
