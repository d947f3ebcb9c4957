//! What is counted at its upper bound because nobody knows what it cost, and how that ends.

use base::{AttemptId, Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Money that counts as spent and may not have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum UnsettledRow {
    /// A call whose end nobody saw. It counts in every budget that it was held on.
    Call {
        /// Which.
        attempt: AttemptId,
        /// Its upper bound, which counts, in dollars.
        amount: PicoUsd,
        /// Since when its cost is unknown.
        since: Timestamp,
    },
    /// What a crashed process was allowed to dispatch on a budget, and did not report.
    Lease {
        /// The budget.
        budget: Name,
        /// Whose spending counts: `tenant`, `user:ada`, …
        subject: String,
        /// What of it still counts, in dollars.
        amount: PicoUsd,
    },
}

/// What a call cost, as its upstream billed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// In dollars.
    pub cost: PicoUsd,
}

/// Why a call is taken to have cost nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOffRequest {
    /// Why: it stands on record.
    pub reason: String,
}

/// That it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileReply {
    /// The call.
    pub attempt: AttemptId,
    /// What it counts as from now on, in dollars.
    pub cost: PicoUsd,
}

/// What of a crashed lease was not spent: either `unspent`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileLeaseRequest {
    /// The budget.
    pub budget: Name,
    /// Whose spending counted. It may be absent if the budget has one crashed lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What no upstream billed, in dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unspent: Option<PicoUsd>,
    /// Nothing of it was billed.
    #[serde(default)]
    pub all: bool,
}

/// That it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileLeaseReply {
    /// The budget.
    pub budget: Name,
    /// Whose spending counted.
    pub subject: String,
    /// What was given back, in dollars.
    pub unspent: PicoUsd,
    /// What still counts, in dollars.
    pub unreported: PicoUsd,
}
