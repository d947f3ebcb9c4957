//! What belongs to one tenant.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use base::{ModelName, Name, Timestamp};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tenancy::Role;
use tenancy::catalogue::{Kind, Placement, PromptRef, SecretRef};

use crate::commands::TenantArgs;
use crate::commands::patch::merge;
use crate::commands::resource::{Creation, Fields, OnPlatform, named, stated};
use crate::folder::follow;

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
    /// The region that its calls never leave, as upstreams name theirs
    #[arg(long, value_name = "NAME")]
    region: Option<Name>,
    /// Where its data lives, when it is new: `file`, or `pool`, `bridge` or `silo`, with `:SERVER`
    /// or on the emptiest; as its tier says if absent
    #[arg(long)]
    placement: Option<Placement>,
    /// Where notices are sent
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// The price book that it is charged by; its tier's by default
    #[arg(long, value_name = "NAME")]
    price_book: Option<Name>,
    /// Whether a call must name a feature that is declared
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    requires_known_feature: Option<bool>,
    /// Whether it accepts, on record, upstreams whose prompt cache is shared
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    accepts_shared_cache: Option<bool>,
}

impl Fields for TenantFields {
    const KIND: Kind = Kind::Tenant;
    const COLUMNS: &'static [&'static str] =
        &["tier", "display_name", "placement", "suspended", "id"];
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
    /// The prompt of its calls: `support`, or `support@3` for one version of it
    #[arg(long, value_name = "NAME[@VERSION]")]
    prompt: Option<PromptRef>,
}

impl Fields for FeatureFields {
    const KIND: Kind = Kind::Feature;
    const COLUMNS: &'static [&'static str] = &["description", "prompt"];
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

/// Fields of a credential.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct CredentialFields {
    /// The upstream that it is for
    #[arg(long, value_name = "NAME")]
    upstream: Option<Name>,
    /// Where the secret is on this machine: `env:NAME` or `file:/path`, never the value
    #[arg(long, value_name = "REFERENCE")]
    #[serde(skip)]
    secret: Option<SecretRef>,
}

impl Fields for CredentialFields {
    const KIND: Kind = Kind::Credential;
    const COLUMNS: &'static [&'static str] = &["upstream", "hint"];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        if let Some(reference) = &self.secret {
            let secret =
                follow(reference).with_context(|| format!("{reference} cannot be read"))?;
            spec["secret"] = json!(secret);
        }
        Ok(())
    }
}

/// Fields of a guardrail.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct GuardrailFields {
    /// `input`, `output` or `both`
    #[arg(long, value_name = "SIDE")]
    looks_at: Option<String>,
    /// What happens to a call whose check could not be made: `closed` or `open`
    #[arg(long, value_name = "closed|open")]
    on_failure: Option<String>,
    /// A feature whose calls it is for; may be repeated; none means all
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<Name>,
    /// A model whose calls it is for; may be repeated; none means all
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelName>,
    /// The checks as a JSON list (docs/guardrails.md): the text, or `@FILE`
    #[arg(long, value_name = "JSON|@FILE", value_parser = text_or_file)]
    #[serde(skip)]
    checks: Option<String>,
}

impl Fields for GuardrailFields {
    const KIND: Kind = Kind::Guardrail;
    const COLUMNS: &'static [&'static str] = &["looks_at", "on_failure", "features", "models"];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        if let Some(checks) = &self.checks {
            spec["checks"] = serde_json::from_str(checks).context("`--checks` is not JSON")?;
        }
        Ok(())
    }
}

/// Fields of a LoRA adapter.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct AdapterFields {
    /// The model that it sits on, as clients name it
    #[arg(long, value_name = "MODEL")]
    base: Option<ModelName>,
    /// Where the engine finds it: `/adapters/acme/tone`, `acme/tone`; the tier says what may be
    /// named
    #[arg(long, value_name = "PATH|REPOSITORY")]
    #[serde(skip)]
    location: Option<String>,
    /// Changed, it makes engines load the adapter anew
    #[arg(long, value_name = "TEXT")]
    #[serde(skip)]
    revision: Option<String>,
    /// The rank of its matrices, `r` in `adapter_config.json`
    #[arg(long, value_name = "N")]
    rank: Option<u32>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Fields for AdapterFields {
    const KIND: Kind = Kind::Adapter;
    const COLUMNS: &'static [&'static str] = &["base", "source", "rank", "description"];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        for (field, value) in [("location", &self.location), ("revision", &self.revision)] {
            if let Some(value) = value {
                spec["source"]["reference"][field] = json!(value);
            }
        }
        Ok(())
    }
}

/// Fields of a prompt. Its versions are added one by one: see `commands/prompts.rs`.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct PromptFields {
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The version that calls get which name none
    #[arg(long, value_name = "NUMBER")]
    active: Option<u32>,
}

impl Fields for PromptFields {
    const KIND: Kind = Kind::Prompt;
    const COLUMNS: &'static [&'static str] = &["active", "description"];
    type Place = TenantArgs;
}

/// Fields of a tenant's configuration.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct ConfigFields {
    /// The prompt of calls whose feature has none: `support`, or `support@3`
    #[arg(long, value_name = "NAME[@VERSION]")]
    prompt: Option<PromptRef>,
    /// The system prompt, a minijinja template: the text, or `@FILE`
    #[arg(long, value_name = "TEXT|@FILE", value_parser = text_or_file)]
    system_prompt: Option<String>,
    /// A model that may be called; may be repeated; none means all of the tier's
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<ModelName>,
    /// The group of tenants with whom it shares what engines keep of prompts
    #[arg(long, value_name = "NAME")]
    sharing_group: Option<Name>,
    #[command(flatten)]
    #[serde(skip)]
    cache: CacheFields,
    /// Whether what calls ask and are answered is kept, for people to look at: `on` or `off`. Only a
    /// key of the tenant's switches it on
    #[arg(long, value_name = "ON|OFF", value_parser = ["on", "off"])]
    #[serde(skip)]
    bodies: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    kept: BodiesFields,
}

/// Fields of what is kept of a tenant's calls.
#[derive(Debug, Clone, Args, Serialize)]
struct BodiesFields {
    /// For how many days
    #[arg(long = "bodies-days", value_name = "DAYS")]
    days: Option<u16>,
    /// A feature whose calls are kept; may be repeated; none means all
    #[arg(id = "bodies_features", long = "bodies-feature", value_name = "NAME")]
    features: Vec<Name>,
    /// Whether operators may read them too
    #[arg(
        long = "bodies-operators",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    operators: Option<bool>,
}

/// Fields of a tenant's cache of answers.
#[derive(Debug, Clone, Args, Serialize)]
struct CacheFields {
    /// Whether answers are kept and given again: `off`, `exact` or `semantic`
    #[arg(long = "cache", value_name = "MODE", value_parser = ["off", "exact", "semantic"])]
    mode: Option<String>,
    /// How long an answer is given again
    #[arg(long = "cache-ttl-seconds", value_name = "SECONDS")]
    ttl_seconds: Option<u32>,
    /// The answers to which requests: `deterministic` or `all`
    #[arg(long = "cache-requests", value_name = "WHICH", value_parser = ["deterministic", "all"])]
    requests: Option<String>,
    /// The model that finds questions of like meaning, for `semantic`
    #[arg(long = "cache-embedding-model", value_name = "MODEL")]
    embedding_model: Option<ModelName>,
    /// How alike they have to be
    #[arg(long = "cache-similarity-percent", value_name = "PERCENT")]
    similarity_percent: Option<u8>,
    /// A feature whose answers are kept; may be repeated; none means all
    #[arg(long = "cache-feature", value_name = "NAME")]
    features: Vec<Name>,
}

pub(crate) fn text_or_file(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
        None => Ok(text.to_owned()),
    }
}

impl Fields for ConfigFields {
    const KIND: Kind = Kind::Config;
    const COLUMNS: &'static [&'static str] =
        &["system_prompt", "prompt", "models", "cache", "bodies"];
    type Place = TenantArgs;

    fn merge_into(&self, spec: &mut Value, _now: Timestamp) -> anyhow::Result<()> {
        merge(spec, stated(self)?);
        let cache = stated(&self.cache)?;
        if cache != json!({}) {
            merge(spec, json!({"cache": cache}));
        }
        let kept = stated(&self.kept)?;
        match self.bodies.as_deref() {
            Some("off") if kept != json!({}) => {
                bail!("`--bodies off` goes without the other `--bodies-…`")
            }
            Some("off") => merge(spec, json!({"bodies": null})),
            None if kept == json!({}) => {}
            _ => merge(spec, json!({"bodies": kept})),
        }
        Ok(())
    }
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
