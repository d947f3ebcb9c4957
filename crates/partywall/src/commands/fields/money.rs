//! Prices, budgets and limits.

use std::str::FromStr;

use anyhow::bail;
use base::{ModelName, PicoUsd, Timestamp};
use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tenancy::catalogue::{Kind, Subject, WindowSpec};

use crate::commands::TenantArgs;
use crate::commands::resource::{Fields, OnPlatform, stated};

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
    /// Dollars per million input tokens written to the provider's prompt cache for an hour
    #[arg(long, value_name = "DOLLARS")]
    cached_write_1h_per_million: Option<PerMillion>,
    #[command(flatten)]
    #[serde(flatten)]
    long: LongPromptFields,
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

/// What all tokens of a call cost whose prompt is long.
#[derive(Debug, Clone, Args, Serialize)]
struct LongPromptFields {
    /// A prompt of more tokens than this is long, and all tokens of its call cost what follows; 0 for none
    #[arg(long, value_name = "TOKENS")]
    long_above_tokens: Option<u64>,
    /// Dollars per million input tokens of a long prompt
    #[arg(long, value_name = "DOLLARS")]
    long_input_per_million: Option<PerMillion>,
    /// Dollars per million output tokens after a long prompt
    #[arg(long, value_name = "DOLLARS")]
    long_output_per_million: Option<PerMillion>,
    /// Dollars per million tokens of a long prompt read from the provider's cache
    #[arg(long, value_name = "DOLLARS")]
    long_cached_read_per_million: Option<PerMillion>,
    /// Dollars per million tokens of a long prompt written to the provider's cache
    #[arg(long, value_name = "DOLLARS")]
    long_cached_write_per_million: Option<PerMillion>,
    /// Dollars per million tokens of a long prompt written to it for an hour
    #[arg(long, value_name = "DOLLARS")]
    long_cached_write_1h_per_million: Option<PerMillion>,
}

impl LongPromptFields {
    /// Changes what an entry says of long prompts.
    fn merge_into(&self, entry: &mut Value) -> anyhow::Result<()> {
        if self.long_above_tokens == Some(0) {
            if let Value::Object(fields) = entry {
                fields.remove("long_prompts");
            }
            return Ok(());
        }
        let mut long = entry["long_prompts"].clone();
        let stated = json!({
            "above_tokens": self.long_above_tokens,
            "input": self.long_input_per_million,
            "output": self.long_output_per_million,
            "cached_read": self.long_cached_read_per_million,
            "cached_write": self.long_cached_write_per_million,
            "cached_write_1h": self.long_cached_write_1h_per_million,
        });
        if overlay(&mut long, &stated) {
            if ["above_tokens", "input", "output"]
                .iter()
                .any(|field| long[field].is_null())
            {
                bail!(
                    "long prompts need --long-above-tokens, --long-input-per-million and \
                     --long-output-per-million"
                );
            }
            entry["long_prompts"] = long;
        }
        Ok(())
    }
}

/// Puts what is stated over a specification's fields, and says whether anything is.
fn overlay(spec: &mut Value, stated: &Value) -> bool {
    let stated = stated.as_object().into_iter().flatten();
    let mut said = stated.filter(|(_, value)| !value.is_null()).peekable();
    let is_any = said.peek().is_some();
    said.for_each(|(field, value)| spec[field] = value.clone());
    is_any
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
            "cached_write_1h": self.cached_write_1h_per_million,
            "image": self.image,
            "request": self.request,
            "source": self.source,
        });
        overlay(&mut entry, &stated);
        self.long.merge_into(&mut entry)?;
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
