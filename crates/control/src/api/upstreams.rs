//! Upstreams as they are now.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an upstream is, as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamStatusReply {
    /// Its name.
    pub name: Name,
    /// `working`; `probation`: it failed for many tenants, and each tries one call at a time;
    /// `down`: nobody calls it for now.
    pub state: String,
    /// Calls that may be under way at one time, over all its endpoints.
    pub places: u32,
    /// Calls that are.
    pub calls_under_way: u32,
    /// Calls that wait for a place.
    pub waiting: WaitingCalls,
    /// Tenants whose own calls fail there, so that they are held back.
    pub open_breakers: u64,
    /// Where its calls go: its replicas, or the one place that `base_url` names. Empty while
    /// none is found.
    pub endpoints: Vec<EndpointRow>,
}

/// Calls that wait for a place, by their priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingCalls {
    /// Somebody waits for them.
    pub interactive: u32,
    /// In between.
    pub standard: u32,
    /// Nobody waits for them.
    pub background: u32,
}

/// One endpoint of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointRow {
    /// `host:port`.
    pub address: String,
    /// `healthy`; `unhealthy`: it does not answer when it is asked how it is; `ejected`: it fails
    /// for more tenants than the others do; `unreachable`: it takes no connection.
    pub state: String,
    /// Calls of this process that are under way there.
    pub calls_under_way: u32,
    /// Calls that it works on, by its own figures, if `engine_metrics` asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Calls that wait there, by its own figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// How full its cache of keys and values is, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_use_permille: Option<u32>,
}
