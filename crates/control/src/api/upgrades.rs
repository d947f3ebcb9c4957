//! Bringing tenants' stores to the newest step of their schema, ring by ring.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of the tenants: rings come one after another.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeRing {
    /// Those that were named.
    Internal,
    /// One in a hundred of the others.
    OnePercent,
    /// As many as make ten in a hundred.
    TenPercent,
    /// Everybody else, and the tables that pooled tenants share.
    All,
}

impl UpgradeRing {
    /// All, in their order.
    pub const ORDER: [Self; 4] = [
        Self::Internal,
        Self::OnePercent,
        Self::TenPercent,
        Self::All,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::OnePercent => "one-percent",
            Self::TenPercent => "ten-percent",
            Self::All => "all",
        }
    }
}

/// What an upgrade is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeState {
    /// Nobody has begun one.
    None,
    /// The ring's stores are brought to the newest step.
    Running,
    /// They are, and are watched for a while.
    Watching,
    /// The ring is well; the next one is begun by hand.
    Waiting,
    /// A ring did not do well, or somebody said so. Stores that are done stay so.
    Halted,
    /// All rings are done.
    Done,
}

impl UpgradeState {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Running => "running",
            Self::Watching => "watching",
            Self::Waiting => "waiting",
            Self::Halted => "halted",
            Self::Done => "done",
        }
    }
}

/// How stores are to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// Tenants of these tiers come first: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal_tiers: Vec<Name>,
    /// These tenants come first: at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal_tenants: Vec<Name>,
    /// For how many seconds a ring is watched before the next begins: 600 unless it is said, a week
    /// at most.
    #[serde(default = "watch_seconds")]
    pub watch_seconds: u32,
    /// Of a thousand stores, or of a thousand calls, at most so many may fail, for calls above those
    /// that failed before: 10 unless it is said.
    #[serde(default = "failed_permille_max")]
    pub failed_permille_max: u16,
    /// By so many percent the stores' 95th percentile may be slower than before: 100 unless it is
    /// said.
    #[serde(default = "slower_percent_max")]
    pub slower_percent_max: u16,
    /// Whether each ring is begun by hand.
    #[serde(default)]
    pub by_hand: bool,
}

impl Default for UpgradeRequest {
    fn default() -> Self {
        Self {
            internal_tiers: Vec::new(),
            internal_tenants: Vec::new(),
            watch_seconds: watch_seconds(),
            failed_permille_max: failed_permille_max(),
            slower_percent_max: slower_percent_max(),
            by_hand: false,
        }
    }
}

/// Ten minutes: a fault that many meet shows by then.
const fn watch_seconds() -> u32 {
    600
}

/// 1%: what an objective of 99% has room for.
const fn failed_permille_max() -> u16 {
    10
}

/// Twice as slow: what a busy disk does is less.
const fn slower_percent_max() -> u16 {
    100
}

/// How an upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeReply {
    /// What it is doing.
    pub state: UpgradeState,
    /// The step of the schema that stores are brought to.
    pub to: u32,
    /// The newest step that the program knows that was asked.
    pub newest: u32,
    /// Which ring it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<UpgradeRing>,
    /// Why it was halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when the ring is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_until: Option<Timestamp>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// The rings that were begun, in their order.
    pub rings: Vec<UpgradeRingReply>,
    /// The first twenty stores of this ring that stayed as they were, and why.
    pub failures: Vec<UpgradeFailure>,
}

/// What became of a ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeRingReply {
    /// Which one.
    pub ring: UpgradeRing,
    /// How many stores are in it; the tables that a server's pooled tenants share are one.
    pub stores: u64,
    /// How many were brought to the newest step …
    pub upgraded: u64,
    /// … had it already …
    pub current: u64,
    /// … are being moved, and have it there …
    pub moving: u64,
    /// … or stayed as they were.
    pub failed: u64,
    /// The 95th percentile of how long a store took to answer before, in microseconds.
    pub before_p95_us: u64,
    /// The same since.
    pub after_p95_us: u64,
    /// Of a thousand calls of its tenants, how many failed in the hour before.
    pub calls_failed_permille_before: u64,
    /// The same since the ring was done.
    pub calls_failed_permille_after: u64,
    /// How many calls that is of.
    pub calls_after: u64,
}

/// A store that was not upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeFailure {
    /// The tenant's name, or `pool:SERVER`.
    pub store: String,
    /// Why.
    pub why: String,
}
