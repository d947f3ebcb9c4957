//! Servers, and moves between placements.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::Placement;

/// Where a tenant is to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// `file`, or `pool`, `bridge` or `silo`: with `:SERVER`, or on the emptiest.
    pub to: Placement,
    /// For how many days the old copy is kept: 7 unless it is said, 365 at most; 0 removes it at
    /// the next sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u16>,
}

/// How far a move is. Another replica than the one that moves says what it knows: that it goes on,
/// and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MoveReply {
    /// Where the tenant was.
    pub from: Placement,
    /// Where it goes.
    pub to: Placement,
    /// When the move began.
    pub began_at: Timestamp,
    /// `preparing`, `copying`, `verifying`, `catching-up`, `cutting-over`, and in the end `moved`
    /// or `failed`.
    pub state: String,
    /// How many rows are copied …
    pub rows: u64,
    /// … of how many.
    pub rows_total: u64,
    /// How many bytes are in them.
    pub bytes: u64,
    /// How many changes were made meanwhile, and made again on the new side. Known in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<u64>,
    /// For how many milliseconds the tenant's store was held in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<u64>,
    /// Why it failed: the tenant is where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The PostgreSQL servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServersReply {
    /// By name.
    pub data: Vec<ServerReply>,
}

/// A PostgreSQL server for tenants' data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerReply {
    /// As placements say it.
    pub name: Name,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Tenants in shared tables.
    pub pool: WallReply,
    /// Tenants with a schema.
    pub bridge: WallReply,
    /// Tenants with a database.
    pub silo: WallReply,
}

/// How full a server is behind one kind of wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WallReply {
    /// How many tenants it has there …
    pub tenants: u32,
    /// … and may have.
    pub tenants_max: u32,
}
