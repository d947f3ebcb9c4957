//! What all tenants share.

use std::str::FromStr;

use base::{ModelName, Name};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::Value;
use tenancy::Role;
use tenancy::catalogue::{Engine, Kind, Placement, Priority, SecretRef};

use crate::commands::resource::{Creation, Fields, OnPlatform, named};

/// Fields of a tier.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct TierFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A model that its tenants may call; may be repeated; none means all
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelName>,
    /// The largest request body, in bytes
    #[arg(long, value_name = "BYTES")]
    body_bytes_max: Option<u64>,
    /// The most bytes of one tenant's requests in memory
    #[arg(long, value_name = "BYTES")]
    in_flight_bytes_max: Option<u64>,
    /// How long a call may wait for a limit or for a place at an upstream, in milliseconds
    #[arg(long, value_name = "MS")]
    wait_ms_max: Option<u64>,
    /// How urgent its calls are where they wait for an upstream: `interactive`, `standard` or
    /// `background`
    #[arg(long)]
    priority: Option<Priority>,
    /// Its tenants' share where calls wait for an upstream, relative to others'
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// The most places that each of its tenants may hold at one upstream
    #[arg(long, value_name = "N")]
    upstream_concurrency_max: Option<u32>,
    /// Places at each upstream of its routes that are kept for each of its tenants
    #[arg(long, value_name = "N")]
    upstream_concurrency_reserved: Option<u32>,
    /// After so many days its tenants' salts are new
    #[arg(long, value_name = "DAYS")]
    salt_days_max: Option<u16>,
    /// The most bytes of answers that are kept for each of its tenants; 0 keeps none
    #[arg(long, value_name = "BYTES")]
    cache_bytes_max: Option<u64>,
    /// What an answer costs that is given again, in percent of its price
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    cache_price_percent: Option<u8>,
    /// Where its tenants' data lives unless they say otherwise: `file`, `pool`, `bridge` or `silo`
    #[arg(long)]
    placement: Option<Placement>,
    /// The price book that its tenants are charged by, unless they name their own
    #[arg(long, value_name = "NAME")]
    price_book: Option<Name>,
}

impl Fields for TierFields {
    const KIND: Kind = Kind::Tier;
    const COLUMNS: &'static [&'static str] =
        &["description", "models", "wait_ms_max", "priority", "weight"];
    type Place = OnPlatform;
}

/// Fields of an upstream.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct UpstreamFields {
    /// What it is: `vllm`, `anthropic`, `groq`, …; `compatible` for an OpenAI-compatible API of
    /// which nothing more is known
    #[arg(long, value_parser = PossibleValuesParser::new(Engine::ALL.map(Engine::as_str)))]
    engine: Option<String>,
    /// Where its API begins, the version included: `https://api.openai.com/v1`; may be left out
    /// where the engine has one address for all
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Whose prices apply: a model's price is named `provider/model`; the engine's by default
    #[arg(long, value_name = "NAME")]
    provider: Option<Name>,
    /// Where it computes: tenants that are pinned to a region go there alone
    #[arg(long, value_name = "NAME")]
    region: Option<Name>,
    /// `derived`, `exclusive`, `uncached` or `sharing-accepted`
    #[arg(long)]
    salting: Option<String>,
    /// The only tenant that may use it, with `exclusive`
    #[arg(long, value_name = "TENANT")]
    exclusive_to: Option<Name>,
    /// Where its credential is: `env:NAME` or `file:/path`, never the value
    #[arg(long, value_name = "REFERENCE")]
    credential: Option<SecretRef>,
    /// Whose credential is sent: `installation`, `tenant` or `tenant-or-installation`
    #[arg(long, value_name = "WHOSE")]
    credential_of: Option<String>,
    /// The version of the API that calls ask for, where the address does not say it
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,
    /// Whether it may be at a private or loopback address
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    allow_private_address: Option<bool>,
    /// The most calls under way at one time
    #[arg(long, value_name = "N")]
    concurrency_max: Option<u32>,
    /// Whether it finds out by itself how many calls the engine takes: `off` or `on`
    #[arg(long, value_parser = ["off", "on"])]
    adaptive_concurrency: Option<String>,
    /// Whether the engine is vLLM with `--scheduling-policy priority`: calls carry their band
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    priority_scheduling: Option<bool>,
    /// Whether it is told the trace of a call: `told` or `withheld`
    #[arg(long, value_parser = ["told", "withheld"])]
    trace_context: Option<String>,
}

impl Fields for UpstreamFields {
    const KIND: Kind = Kind::Upstream;
    const COLUMNS: &'static [&'static str] = &[
        "engine",
        "base_url",
        "endpoints",
        "region",
        "salting",
        "credential",
    ];
    type Place = OnPlatform;
}

/// Fields of a route.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct RouteFields {
    /// Where calls go, in order: `openai=gpt-4o`; may be repeated. Neighbours with a weight
    /// (`a=gpt-4o@3`, `b=gpt-4o@1`) share the calls
    #[arg(long = "target", value_name = "UPSTREAM=MODEL[@WEIGHT]")]
    targets: Vec<Target>,
    /// A tier that may use it; may be repeated; none means all
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<Name>,
    /// The most output tokens of one call
    #[arg(long, value_name = "N")]
    output_tokens_max: Option<u32>,
    /// The most input tokens that one image can count as
    #[arg(long, value_name = "N")]
    image_tokens_max: Option<u32>,
}

impl Fields for RouteFields {
    const KIND: Kind = Kind::Route;
    const COLUMNS: &'static [&'static str] = &["targets", "tiers", "output_tokens_max"];
    type Place = OnPlatform;
}

/// `UPSTREAM=MODEL[@WEIGHT]`. A model's own name may have an `@` in it: only digits after the
/// last one are a weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    upstream: Name,
    model: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (upstream, model) = text
            .split_once('=')
            .ok_or("write UPSTREAM=MODEL or UPSTREAM=MODEL@WEIGHT")?;
        let weighted = model
            .rsplit_once('@')
            .and_then(|(model, weight)| Some((model, weight.parse().ok()?)));
        let (model, weight) = match weighted {
            Some((model, weight)) => (model, Some(weight)),
            None => (model, None),
        };
        Ok(Self {
            upstream: upstream
                .parse()
                .map_err(|error| format!("upstream: {error}"))?,
            model: model.parse().map_err(|error| format!("model: {error}"))?,
            weight,
        })
    }
}

/// Fields of a sharing group.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct SharingGroupFields {
    /// Whose tenants these are, and why they share
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A tenant that may opt in; may be repeated
    #[arg(long = "member", value_name = "TENANT")]
    members: Vec<Name>,
}

impl Fields for SharingGroupFields {
    const KIND: Kind = Kind::SharingGroup;
    const COLUMNS: &'static [&'static str] = &["description", "members"];
    type Place = OnPlatform;
}

/// Fields of an operator.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct OperatorFields {
    /// `operator` or `auditor`
    #[arg(long)]
    role: Option<Role>,
    /// Whether they are refused
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    disabled: Option<bool>,
}

impl Fields for OperatorFields {
    const KIND: Kind = Kind::Operator;
    const COLUMNS: &'static [&'static str] = &["role", "disabled"];
    type Place = OnPlatform;

    fn creation(name: &str, spec: Value) -> Creation {
        Creation::Post(named(name, spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_have_a_weight() {
        let target = |text: &str| text.parse::<Target>().expect("a target");
        assert_eq!(target("up=gpt-4o@3").weight, Some(3));
        assert_eq!(target("up=claude@latest").model.as_str(), "claude@latest");
        assert_eq!(target("up=gpt-4o").weight, None);
        assert!("gpt-4o".parse::<Target>().is_err());
    }
}
