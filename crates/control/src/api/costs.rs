//! What was spent, by any cut.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::UsageRow;

/// Which of a tenant's costs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CostsQuery {
    /// What to tell apart, with commas: of `team`, `user`, `key`, `feature`, `model`, `version`
    /// (what the upstream called the model), `price_version`, `upstream`, `hop` and `session`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From this time on: RFC 3339, or a date (its beginning, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time, itself not included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Over which time costs are added up, UTC: `total` if absent.
    pub granularity: Granularity,
    /// In which order rows come: `group` if absent.
    pub sort: CostOrder,
    /// Only this team's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// Only this user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// Only this key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
    /// Only this feature's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Only this model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only what an upstream called this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only this upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Only calls for this: `generate`, `embed`, `rerank`, `guard` or `judge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<String>,
    /// Only this conversation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which costs of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlatformCostsQuery {
    /// What to tell apart, with commas: of `tenant`, `team`, `user`, `key`, `feature`, `model`,
    /// `version`, `price_version`, `upstream` and `hop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// From this time on: RFC 3339, or a date (its beginning, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time, itself not included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Over which time costs are added up, UTC: `total` if absent.
    pub granularity: Granularity,
    /// In which order rows come: `group` if absent.
    pub sort: CostOrder,
    /// Only this feature's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Only this model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only what an upstream called this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only this upstream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Only calls for this: `generate`, `embed`, `rerank`, `guard` or `judge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<String>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Over which time costs are added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// All that was asked for.
    #[default]
    Total,
    /// By UTC month.
    Month,
    /// By UTC day.
    Day,
    /// By UTC hour.
    Hour,
}

/// In which order rows come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostOrder {
    /// By what tells them apart, time first.
    #[default]
    Group,
    /// The dearest first.
    Cost,
}

/// What was spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostsReply {
    /// A row for each group that used anything.
    pub data: Vec<UsageRow>,
    /// All rows of all pages together: exact.
    pub total: UsageRow,
    /// Ask again with `cursor` set to this for what follows; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which days are pushed to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// From this UTC day on.
    pub from: String,
    /// Up to this UTC day, itself not included: 31 days at most.
    pub to: String,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushReply {
    /// Day by day.
    pub days: Vec<PushedDay>,
}

/// A day in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushedDay {
    /// The UTC day.
    pub day: String,
    /// Its files; the manifest beside them names them, too.
    pub files: Vec<PushedFile>,
}

/// A file in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushedFile {
    /// Its key.
    pub key: String,
    /// How long it is.
    pub bytes: u64,
}

/// What is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// In which form.
    pub format: ExportFormat,
    /// From this UTC day on.
    pub from: String,
    /// Up to this UTC day, itself not included: 366 days at most.
    pub to: String,
    /// Who issues the invoices, as FOCUS has it; the installation's id if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the service that bills calls the customer (`cus_…`), in events; the tenant's name if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// FOCUS 1.4, as CSV: a row for each day, combination of axes and meter.
    FocusCsv,
    /// The same, as Parquet.
    FocusParquet,
    /// Calls as CloudEvents, a line each, as OpenMeter ingests them.
    Openmeter,
    /// Calls as Stripe's meter events, a line each.
    Stripe,
}

/// What adding all lines up again found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RebuildReply {
    /// So many lines were read.
    pub lines: u64,
    /// So many sums they have, by hour, day and month.
    pub sums: u64,
    /// So many of these were not what was kept, and are now: anything but 0 is a bug, or a disk's.
    pub corrected: u64,
}
