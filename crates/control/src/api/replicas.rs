//! The processes that share a catalogue.

use base::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The replicas of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicasReply {
    /// By name. Empty where the catalogue is a file, which one process has.
    pub data: Vec<ReplicaReply>,
}

/// A process that serves, or once did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaReply {
    /// That of its data folder, for good.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// `up`; `silent`, when it has not been heard of for ten seconds; `ended`, when it said so.
    pub state: String,
    /// What it does: `gateway`, `control`, `worker`.
    pub roles: Vec<String>,
    /// Which program it runs.
    pub program: String,
    /// The version of the catalogue that it serves.
    pub version: u64,
    /// Since when it runs, or ran.
    pub started_at: Timestamp,
    /// How many milliseconds ago it was heard of.
    pub seen_ms_ago: u64,
}
