//! Single calls, by whatever is asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of a tenant's calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallsQuery {
    /// From this time on: RFC 3339, or a date (its beginning, UTC); 31 days if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time, itself not included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only this feature's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Only this model's, as it is priced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only this upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Only calls for this: `generate`, `embed`, `rerank`, `guard` or `judge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<String>,
    /// Only this team's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Only this user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only this key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only this conversation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only those in this state: `settled`, `released`, `unsettled` or `reconciled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only those that ended so: `completed`, `client-gone`, `refused`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The most rows: 1 to 1,000; 100 if absent. A page may be shorter, and others follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
