//! What all tenants share.

use std::str::FromStr;

use base::{ModelName, Name};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tenancy::Role;
use tenancy::catalogue::{Kind, SecretRef};

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
    /// How long an interactive call may wait for a limit, in milliseconds
    #[arg(long, value_name = "MS")]
    wait_ms_max: Option<u64>,
}

impl Fields for TierFields {
    const KIND: Kind = Kind::Tier;
    const COLUMNS: &'static [&'static str] = &["description", "models", "wait_ms_max"];
    type Place = OnPlatform;
}

/// Fields of an upstream.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct UpstreamFields {
    /// Where its API begins, the version included: `https://api.openai.com/v1`
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Whose prices apply: a model's price is named `provider/model`
    #[arg(long, value_name = "NAME")]
    provider: Option<Name>,
    /// `open-ai`, `vllm` or `compatible`
    #[arg(long)]
    engine: Option<String>,
    /// `derived`, `exclusive`, `uncached` or `sharing-accepted`
    #[arg(long)]
    salting: Option<String>,
    /// The only tenant that may use it, with `exclusive`
    #[arg(long, value_name = "TENANT")]
    exclusive_to: Option<Name>,
    /// Where its credential is: `env:NAME` or `file:/path`, never the value
    #[arg(long, value_name = "REFERENCE")]
    credential: Option<SecretRef>,
    /// Whether it may be at a private or loopback address
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    allow_private_address: Option<bool>,
    /// The most calls under way at one time
    #[arg(long, value_name = "N")]
    concurrency_max: Option<u32>,
}

impl Fields for UpstreamFields {
    const KIND: Kind = Kind::Upstream;
    const COLUMNS: &'static [&'static str] =
        &["base_url", "provider", "engine", "salting", "credential"];
    type Place = OnPlatform;
}

/// Fields of a route.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct RouteFields {
    /// Where calls go, in order: `openai=gpt-4o`; may be repeated
    #[arg(long = "target", value_name = "UPSTREAM=MODEL")]
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

/// `UPSTREAM=MODEL`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    upstream: Name,
    model: ModelName,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (upstream, model) = text.split_once('=').ok_or("write UPSTREAM=MODEL")?;
        Ok(Self {
            upstream: upstream
                .parse()
                .map_err(|error| format!("upstream: {error}"))?,
            model: model.parse().map_err(|error| format!("model: {error}"))?,
        })
    }
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
