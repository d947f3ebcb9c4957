//! From the model names that clients say to upstreams.

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From the model name that a client says to upstreams, in order. The resource's name is the
/// model name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Where calls go: the first that can be reached, in order. Neighbours that have a `weight`
    /// are one group: which of them comes first is drawn by weight, call by call.
    pub targets: Vec<RouteTarget>,
    /// Where calls of some tenants or tiers go instead: the first that names the tenant applies,
    /// or else the first that names its tier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<RouteVariant>,
    /// The tiers that may use the route; empty means all.
    #[serde(default)]
    pub tiers: Vec<Name>,
    /// The most output tokens that one call may ask for, and what is forced on a call that asks
    /// for no number: without it a call's cost has no bound.
    #[serde(default = "default_output_tokens_max")]
    pub output_tokens_max: u32,
    /// The most input tokens that one image can count as; a call with images is refused under a
    /// budget if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tokens_max: Option<u32>,
}

/// 4,096: what most chat models gave at most before long answers became common; a route says
/// more where it serves more.
fn default_output_tokens_max() -> u32 {
    4_096
}

/// One place where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTarget {
    /// The upstream's name.
    pub upstream: Name,
    /// The model's name there.
    pub model: ModelName,
    /// Its share of the calls among its weighted neighbours: 1 to 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Where the calls of some tenants or tiers go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteVariant {
    /// The tenants that it is for. They need not exist yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Name>,
    /// The tiers that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Name>,
    /// As a route's own.
    pub targets: Vec<RouteTarget>,
}

impl RouteSpec {
    /// All targets, whoever they are for.
    pub fn all_targets(&self) -> impl Iterator<Item = &RouteTarget> {
        let variants = self.variants.iter().flat_map(|variant| &variant.targets);
        self.targets.iter().chain(variants)
    }
}
