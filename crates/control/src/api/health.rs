//! How tenants are doing: the last hour of each, as its gateway counted it.

use base::{Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which tenants of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FleetQuery {
    /// Only those whose names contain this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those of this tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Name>,
    /// Only those that need somebody to look at least this urgently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concern: Option<Concern>,
    /// What the first one has most of: `concern` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<FleetOrder>,
    /// The most rows: 1 to 1,000; 100 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// In which order tenants come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FleetOrder {
    /// The one that most needs somebody to look first.
    #[default]
    Concern,
    /// By name.
    Name,
    /// The most calls first.
    Calls,
    /// The fullest budget first.
    Budget,
    /// The largest part of failed calls first.
    Failures,
    /// The slowest first, by the 95th percentile.
    Duration,
}

/// How much a tenant needs somebody to look.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// Nothing is wrong.
    Well,
    /// Something comes near its bound.
    Watch,
    /// Its calls fail, or its money is gone.
    Urgent,
}

/// The middle of many durations, and their tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Half of them are shorter, in milliseconds.
    pub p50_ms: u64,
    /// 95% are shorter.
    pub p95_ms: u64,
    /// 99% are shorter.
    pub p99_ms: u64,
}

/// What was counted in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthFigures {
    /// Calls that ended.
    pub calls: u64,
    /// Of these, those that should have been answered and were not.
    pub failed: u64,
    /// Those that were refused: for what they were, for a limit, for a budget.
    pub refused: u64,
    /// Those whose clients went away.
    pub abandoned: u64,
    /// From arrival to end, but for refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Quantiles>,
    /// From arrival to the first byte of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_chunk: Option<Quantiles>,
    /// How long those waited for a place at an upstream that had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_wait: Option<Quantiles>,
}

/// The fullest of a tenant's budgets that count all that it spends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetUse {
    /// The budget.
    pub budget: Name,
    /// The most that may be spent in the window.
    pub limit: PicoUsd,
    /// What is spent in this window.
    pub spent: PicoUsd,
    /// What is held for calls under way.
    pub held: PicoUsd,
    /// Spent and held, in thousandths of the limit, rounded down.
    pub used_permille: u32,
}

/// A tenant of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetRow {
    /// The tenant.
    pub tenant: Name,
    /// Its tier.
    pub tier: Name,
    /// Whether all its calls are refused on purpose.
    pub suspended: bool,
    /// How much it needs somebody to look.
    pub concern: Concern,
    /// Why, the gravest first, in a few words each.
    pub reasons: Vec<String>,
    /// Its fullest budget, if any that counts all of it has a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetUse>,
    /// The last hour.
    pub health: HealthFigures,
    /// Calls in twelve steps of five minutes, the oldest first; the last one is under way.
    pub trend: Vec<u64>,
    /// The upstreams at which its own calls fail, so that they are held back.
    pub open_breakers: Vec<Name>,
}

/// A replica that has fallen silent: what it served since then is not in the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilentReplica {
    /// What people call it.
    pub replica: String,
    /// When it was last heard of.
    pub since: Timestamp,
}

/// How all tenants are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetReply {
    /// The tenants that were asked for.
    pub data: Vec<FleetRow>,
    /// Ask again with `cursor` set to this for what follows; nothing follows if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How many there are that fit what was asked for.
    pub matching: u64,
    /// How many tenants there are.
    pub tenants: u64,
    /// Of all tenants, those with something urgent.
    pub urgent: u64,
    /// Of all tenants, those to watch.
    pub watch: u64,
    /// Of all tenants, those whose calls are refused on purpose.
    pub suspended: u64,
    /// All tenants' last hour.
    pub health: HealthFigures,
    /// When counting began: with the process, with what other replicas told of theirs, or an hour
    /// ago.
    pub since: Timestamp,
    /// From when on calls of other replicas may be missing; all are there if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_since: Option<Timestamp>,
    /// The replicas that fell silent within the hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent_replicas: Vec<SilentReplica>,
    /// When these figures were read: at most some seconds ago.
    pub as_of: Timestamp,
}

/// One minute of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthMinute {
    /// When it began.
    pub at: Timestamp,
    /// What was counted in it.
    #[serde(flatten)]
    pub figures: HealthFigures,
}

/// How one tenant is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantHealthReply {
    /// How much it needs somebody to look.
    pub concern: Concern,
    /// Why, the gravest first.
    pub reasons: Vec<String>,
    /// The last hour.
    pub health: HealthFigures,
    /// Minute by minute, the oldest first; the last one is under way. Empty if it has not called.
    pub minutes: Vec<HealthMinute>,
    /// The upstreams at which its own calls fail, so that they are held back.
    pub open_breakers: Vec<Name>,
    /// When counting began: with the process, with what other replicas told of theirs, or an hour
    /// ago.
    pub since: Timestamp,
    /// From when on calls of some replicas may be missing; all are there if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_since: Option<Timestamp>,
}

/// A link that signs its caller in to the dashboard, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignInLinkReply {
    /// What follows the admin API's address.
    pub path: String,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for SignInLinkReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInLinkReply([redacted])")
    }
}
