//! The audit log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One act on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRow {
    /// Its place in the log, from 0.
    pub index: u64,
    /// What is on record: `at`, `actor`, `action`, `target`, `outcome`, `reason`, `details`.
    pub entry: Value,
}

/// What checking an audit log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditCheck {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// How many entries there are.
    pub entries: u64,
    /// The hash of the whole log, in base64.
    pub root_hash: String,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
