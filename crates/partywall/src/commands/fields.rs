//! The flags of each kind: the fields that are set most often. All others are `--set PATH=VALUE`.

use std::str::FromStr;

use anyhow::bail;
use base::{ModelName, Name, PicoUsd, Timestamp};
use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tenancy::Role;
use tenancy::catalogue::{Kind, SecretRef, Subject, WindowSpec};

use super::TenantArgs;
use super::patch::merge;
use super::resource::{Creation, Fields, OnPlatform, named, stated};

/// Fields of a tenant.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct TenantFields {
    /// The tier whose limits, budgets and routes apply
    #[arg(long, value_name = "NAME")]
    tier: Option<Name>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The IANA time zone of its calendar: `Europe/Berlin`
    #[arg(long)]
    zone: Option<String>,
    /// Where notices are sent
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Whether a call must name a feature that is declared
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    requires_known_feature: Option<bool>,
    /// Whether it accepts, on record, upstreams whose prompt cache is shared
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    accepts_shared_cache: Option<bool>,
}

impl Fields for TenantFields {
    const KIND: Kind = Kind::Tenant;
    const COLUMNS: &'static [&'static str] = &["tier", "display_name", "zone", "suspended", "id"];
    type Place = OnPlatform;

    fn creation(name: &str, spec: Value) -> Creation {
        Creation::Post(json!({"name": name, "spec": spec}))
    }
}

/// Fields of a team.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct TeamFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
}

impl Fields for TeamFields {
    const KIND: Kind = Kind::Team;
    const COLUMNS: &'static [&'static str] = &["display_name", "id"];
    type Place = TenantArgs;
}

/// Fields of a user.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct UserFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The team they are in
    #[arg(long, value_name = "NAME")]
    team: Option<Name>,
    /// Whether their keys are refused
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    disabled: Option<bool>,
}

impl Fields for UserFields {
    const KIND: Kind = Kind::User;
    const COLUMNS: &'static [&'static str] = &["team", "display_name", "disabled", "id"];
    type Place = TenantArgs;
}

/// Fields of a feature.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct FeatureFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Fields for FeatureFields {
    const KIND: Kind = Kind::Feature;
    const COLUMNS: &'static [&'static str] = &["description"];
    type Place = TenantArgs;
}

/// Fields of a key.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub(crate) struct KeyFields {
    /// `tenant-admin`, `tenant-member` or `service`
    #[arg(long)]
    role: Option<Role>,
    /// The team whose calls these are
    #[arg(long, value_name = "NAME")]
    team: Option<Name>,
    /// The user whose calls these are
    #[arg(long, value_name = "NAME")]
    user: Option<Name>,
    /// When it ends: `30d`, `12h`, or a time such as 2030-01-01T00:00:00Z
    #[arg(long, value_name = "WHEN")]
    #[serde(skip)]
    expires: Option<When>,
    /// A model that it may call; may be repeated; none means all of the tenant's
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelName>,
    /// A feature that it may name; may be repeated; none means all
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<Name>,
    /// The feature of calls that name none
    #[arg(long, value_name = "NAME")]
    default_feature: Option<Name>,
    /// An address range that it may come from: `10.0.0.0/8`; may be repeated; none means all
    #[arg(long = "network", value_name = "RANGE")]
    networks: Vec<String>,
}

impl Fields for KeyFields {
    const KIND: Kind = Kind::Key;
    const COLUMNS: &'static [&'static str] = &[
        "role",
        "team",
        "user",
        "models",
        "expires_at",
        "revoked",
        "id",
    ];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        if let Some(expires) = &self.expires {
            spec["expires_at"] = json!(expires.after(now));
        }
        Ok(())
    }

    fn creation(name: &str, spec: Value) -> Creation {
        Creation::Post(named(name, spec))
    }
}

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

/// Fields of a price: one more entry. Amounts are dollars, as providers print them.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct PriceFields {
    /// Dollars per million input tokens
    #[arg(long, value_name = "DOLLARS")]
    input_per_million: Option<PerMillion>,
    /// Dollars per million output tokens
    #[arg(long, value_name = "DOLLARS")]
    output_per_million: Option<PerMillion>,
    /// Dollars per million input tokens read from the provider's prompt cache
    #[arg(long, value_name = "DOLLARS")]
    cached_read_per_million: Option<PerMillion>,
    /// Dollars per million input tokens written to the provider's prompt cache
    #[arg(long, value_name = "DOLLARS")]
    cached_write_per_million: Option<PerMillion>,
    /// Dollars per image
    #[arg(long, value_name = "DOLLARS")]
    image: Option<PicoUsd>,
    /// Dollars per request
    #[arg(long, value_name = "DOLLARS")]
    request: Option<PicoUsd>,
    /// From when on; from now on by default
    #[arg(long, value_name = "TIME")]
    effective_from: Option<Timestamp>,
    /// Where the amounts come from, for people
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
}

impl Fields for PriceFields {
    const KIND: Kind = Kind::Price;
    const COLUMNS: &'static [&'static str] = &["entries"];
    type Place = OnPlatform;

    /// Appends an entry that begins as a copy of the last one: history is never rewritten.
    fn merge_into(&self, spec: &mut Value, now: Timestamp) -> anyhow::Result<()> {
        if stated(self)? == json!({}) {
            return Ok(());
        }
        let mut entries = spec["entries"].as_array().cloned().unwrap_or_default();
        let newest = entries
            .iter()
            .filter_map(|entry| entry["version"].as_u64())
            .max();
        let mut entry = entries.last().cloned().unwrap_or_else(|| json!({}));
        if entries.is_empty()
            && (self.input_per_million.is_none() || self.output_per_million.is_none())
        {
            bail!("a new price needs --input-per-million and --output-per-million");
        }
        let stated = json!({
            "version": newest.unwrap_or(0) + 1,
            "effective_from": self.effective_from.unwrap_or(now),
            "input": self.input_per_million,
            "output": self.output_per_million,
            "cached_read": self.cached_read_per_million,
            "cached_write": self.cached_write_per_million,
            "image": self.image,
            "request": self.request,
            "source": self.source,
        });
        for (field, value) in stated.as_object().into_iter().flatten() {
            if !value.is_null() {
                entry[field] = value.clone();
            }
        }
        entries.push(entry);
        spec["entries"] = Value::Array(entries);
        Ok(())
    }
}

/// An amount per million tokens, which is exact per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerMillion(PicoUsd);

impl FromStr for PerMillion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const MILLION: i128 = 1_000_000;
        let whole: PicoUsd = text.parse().map_err(|error| format!("{error}"))?;
        if whole.pico() % MILLION != 0 {
            return Err("at most 6 places: a token's price is exact to 10⁻¹² dollars".to_owned());
        }
        Ok(Self(PicoUsd::new(whole.pico() / MILLION)))
    }
}

impl Serialize for PerMillion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Fields of a budget.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct BudgetFields {
    /// Whose spending counts: `tenant`, `team:core`, `each:user`, `each:session`, …
    #[arg(long)]
    subject: Option<Subject>,
    /// The most that may be spent in one window, in dollars: `25.00`
    #[arg(long, value_name = "DOLLARS")]
    limit: Option<PicoUsd>,
    /// When counting starts again: `total`, `daily`, `monthly` or `rolling:24h`
    #[arg(long)]
    window: Option<WindowSpec>,
    /// A notice is sent at this share of the limit
    #[arg(long, value_name = "PER_CENT")]
    soft_percent: Option<u8>,
    /// The most calls in one window
    #[arg(long, value_name = "N")]
    calls_max: Option<u32>,
    /// What does not fit is served by this cheaper model instead of being refused
    #[arg(long, value_name = "MODEL")]
    #[serde(rename = "on_exhausted", serialize_with = "downgrade")]
    downgrade_to: Option<ModelName>,
}

fn downgrade<S: Serializer>(to: &Option<ModelName>, serializer: S) -> Result<S::Ok, S::Error> {
    to.as_ref()
        .map(|model| json!({"downgrade": model}))
        .serialize(serializer)
}

impl Fields for BudgetFields {
    const KIND: Kind = Kind::Budget;
    const COLUMNS: &'static [&'static str] =
        &["subject", "limit", "window", "soft_percent", "calls_max"];
    type Place = TenantArgs;
}

/// Fields of a limit.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct LimitFields {
    /// Whose calls count: `tenant`, `team:core`, `each:user`, …
    #[arg(long)]
    subject: Option<Subject>,
    /// Only calls of this model
    #[arg(long)]
    model: Option<ModelName>,
    /// Requests per minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Calls under way at one time
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
}

impl Fields for LimitFields {
    const KIND: Kind = Kind::Limit;
    const COLUMNS: &'static [&'static str] = &[
        "subject",
        "model",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrency",
    ];
    type Place = TenantArgs;
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

/// Fields of a tenant's configuration.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct ConfigFields {
    /// The system prompt, a minijinja template: the text, or `@FILE`
    #[arg(long, value_name = "TEXT|@FILE", value_parser = text_or_file)]
    system_prompt: Option<String>,
    /// A model that may be called; may be repeated; none means all of the tier's
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelName>,
}

fn text_or_file(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
        None => Ok(text.to_owned()),
    }
}

impl Fields for ConfigFields {
    const KIND: Kind = Kind::Config;
    const COLUMNS: &'static [&'static str] = &["system_prompt", "models"];
    type Place = TenantArgs;
}

/// A time, or how long from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    In(std::time::Duration),
}

impl When {
    /// The time that it is, if it is `now`.
    pub(crate) fn after(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => *time,
            Self::In(duration) => now.plus(*duration),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        seconds(text)
            .map(|seconds| Self::In(std::time::Duration::from_secs(seconds)))
            .ok_or_else(|| {
                "write 30d, 12h, 45m, 90s, or a time such as 2030-01-01T00:00:00Z".into()
            })
    }
}

/// `30d`, `12h`, `45m` or `90s`, as seconds.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let per_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    count.checked_mul(per_unit)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct With<F: Fields> {
        #[command(flatten)]
        fields: F,
    }

    fn spec_of<F: Fields>(line: &str, mut spec: Value) -> Value {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let parsed = With::<F>::try_parse_from(words).expect(line);
        let now = Timestamp::from_micros(0);
        parsed.fields.merge_into(&mut spec, now).expect(line);
        spec
    }

    #[test]
    fn flags_state_their_part_of_a_specification() {
        let key = spec_of::<KeyFields>(
            "--role service --model gpt-4o --model b --expires 30d",
            json!({"team": "core"}),
        );
        let expected = json!({
            "role": "service", "models": ["gpt-4o", "b"], "team": "core",
            "expires_at": "1970-01-31T00:00:00Z",
        });
        assert_eq!(key, expected);
        let budget = spec_of::<BudgetFields>(
            "--subject each:user --limit 25.00 --window monthly --downgrade-to small",
            json!({}),
        );
        let expected = json!({
            "subject": "each:user", "limit": "25.00", "window": "monthly",
            "on_exhausted": {"downgrade": "small"},
        });
        assert_eq!(budget, expected);
        assert_eq!(
            spec_of::<BudgetFields>("--soft-percent 5", json!({})),
            json!({"soft_percent": 5})
        );
        let route = spec_of::<RouteFields>("--target openai=gpt-4o", json!({}));
        assert_eq!(
            route,
            json!({"targets": [{"upstream": "openai", "model": "gpt-4o"}]})
        );
        let user = spec_of::<UserFields>("--disabled", json!({}));
        assert_eq!(user, json!({"disabled": true}));
        assert_eq!(
            spec_of::<UserFields>("--disabled false", json!({})),
            json!({"disabled": false})
        );
    }

    #[test]
    fn a_price_is_appended_and_history_stays() {
        let first = spec_of::<PriceFields>(
            "--input-per-million 2.50 --output-per-million 10 --source list",
            json!({}),
        );
        assert_eq!(first["entries"][0]["input"], "0.0000025");
        assert_eq!(first["entries"][0]["version"], 1);
        let line = "--output-per-million 8 --effective-from 2030-01-01T00:00:00Z";
        let second = spec_of::<PriceFields>(line, first.clone());
        assert_eq!(second["entries"][0], first["entries"][0]);
        let entry = &second["entries"][1];
        assert_eq!(
            (&entry["version"], &entry["input"]),
            (&json!(2), &json!("0.0000025"))
        );
        assert_eq!(entry["output"], "0.000008");
        assert_eq!(spec_of::<PriceFields>("", first.clone()), first);
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        let refused = |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            With::<BudgetFields>::try_parse_from(words).is_err()
        };
        assert!(refused("--subject each:tenant"));
        assert!(refused("--limit 25,00"));
        assert!(refused("--window weekly"));
        assert!("0.0000001".parse::<PerMillion>().is_err());
        assert!("30 days".parse::<When>().is_err());
        assert!("sk-live".parse::<SecretRef>().is_err());
    }
}
