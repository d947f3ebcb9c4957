//! Alerts, and the channels that are told of them.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::AlertKind;

pub use crate::alerts::Severity;

/// Which alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsQuery {
    /// Only those that are `open`, or `resolved`; both if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<AlertState>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Whether an alert's condition holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// It does.
    Open,
    /// It did within the last 30 days.
    Resolved,
}

/// Something that is so, or lately was, and that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRow {
    /// The same whenever the same thing is so again.
    pub id: String,
    /// Whether it is so now.
    pub state: AlertState,
    /// What it is about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// Whose it is; none for the platform's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// What tells it from others of its kind: a budget and its subject, an upstream, a key.
    pub subject: String,
    /// What is so, as it was when the alert was opened.
    pub summary: String,
    /// Since when.
    pub opened_at: Timestamp,
    /// When it was last seen to be so, to a few minutes.
    pub seen_at: Timestamp,
    /// When it was so no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// The dashboard's page that shows it.
    pub page: String,
}

/// How a channel's test went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelTestReply {
    /// Whether the receiver took the message.
    pub delivered: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
