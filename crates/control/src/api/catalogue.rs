//! Resources, as they are read.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenancy::catalogue::Kind;

/// A resource as it is shown: the hashes of keys are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceView {
    /// What it is.
    pub kind: Kind,
    /// Whose it is; none for the platform's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Its name.
    pub name: String,
    /// Its specification.
    pub spec: Value,
    /// Changes when the specification does. Send it as `if-match` to change only what you saw.
    pub etag: String,
}

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
