//! Prices, budgets and limits, as they are declared.

use std::fmt;
use std::str::FromStr;

use base::{ModelName, Name, PicoUsd, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a model costs. Named `provider/model`; what applies is the entry with the latest
/// `effective_from` that is not in the future.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceSpec {
    /// In order of `effective_from`; at least one.
    pub entries: Vec<PriceEntry>,
}

/// One effective-dated price. Amounts are US dollars as decimal strings, exact to 10⁻¹².
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// Every ledger line carries the version of the price it was computed with. Unique within
    /// the specification, and never used again for other amounts.
    pub version: u32,
    /// From when on it applies.
    pub effective_from: Timestamp,
    /// Per input token.
    pub input: PicoUsd,
    /// Per output token, reasoning included.
    pub output: PicoUsd,
    /// Per input token read from the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<PicoUsd>,
    /// Per input token written to the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write: Option<PicoUsd>,
    /// Per input token written to the provider's prompt cache for an hour, such as Anthropic's with
    /// `ttl: "1h"`; `cached_write` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write_1h: Option<PicoUsd>,
    /// Per image in the input, beside its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PicoUsd>,
    /// Per request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<PicoUsd>,
    /// What all tokens of a call cost instead if its prompt is long, as with Gemini, GPT and Grok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_prompts: Option<LongPrompts>,
    /// Where the amounts come from, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What each token of a call costs, its answer's too, whose prompt is longer than so many tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LongPrompts {
    /// The longest prompt that is not long, in input tokens, cached ones included: 200,000 with
    /// Gemini.
    pub above_tokens: u64,
    /// Per input token.
    pub input: PicoUsd,
    /// Per output token, reasoning included.
    pub output: PicoUsd,
    /// Per input token read from the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_read: Option<PicoUsd>,
    /// Per input token written to the provider's prompt cache; `input` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write: Option<PicoUsd>,
    /// Per input token written to it for an hour; `cached_write` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_write_1h: Option<PicoUsd>,
}

/// A budget: how much its subject may spend in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Whose spending counts.
    pub subject: Subject,
    /// The most that may be spent in one window, in dollars.
    pub limit: PicoUsd,
    /// When counting starts again.
    #[serde(default)]
    pub window: WindowSpec,
    /// A notice is sent when this share of the limit is spent, in per cent.
    #[serde(default = "default_soft_percent")]
    pub soft_percent: u8,
    /// The most calls in one window; for sessions and turns, so that an agent's loop stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_max: Option<u32>,
    /// What happens to a call that does not fit.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
}

/// 80%: leaves time to act, and is what the field's budget alerts use.
fn default_soft_percent() -> u8 {
    80
}

/// What happens to a call that does not fit its budget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OnExhausted {
    /// It is refused (429, `insufficient_quota`).
    #[default]
    Reject,
    /// It is served by this cheaper model, if that fits.
    Downgrade(ModelName),
}

/// Limits on rates and concurrency. What is absent is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitSpec {
    /// Whose calls count.
    pub subject: Subject,
    /// Only calls of this model, as clients name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Calls under way at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// An axis along which calls are told apart inside a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// A team.
    Team,
    /// A user.
    User,
    /// A key.
    Key,
    /// What the customer's product was doing.
    Feature,
    /// A conversation.
    Session,
    /// One user turn of a conversation.
    Turn,
}

impl Dimension {
    const ALL: [Self; 6] = [
        Self::Team,
        Self::User,
        Self::Key,
        Self::Feature,
        Self::Session,
        Self::Turn,
    ];

    /// The dimension's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::User => "user",
            Self::Key => "key",
            Self::Feature => "feature",
            Self::Session => "session",
            Self::Turn => "turn",
        }
    }
}

/// Whose calls a budget or limit counts, as text: `tenant`, `team:core` (that one) or
/// `each:user` (every one by itself).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The tenant as a whole.
    Tenant,
    /// One team, user, key or feature.
    One(Dimension, Name),
    /// Every team, user, key, feature, session or turn by itself.
    Each(Dimension),
}

/// The text is not a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a subject is `tenant`, `team:NAME`, `user:NAME`, `key:NAME`, `feature:NAME`, or `each:` and \
     one of team, user, key, feature, session, turn"
)]
pub struct ParseSubjectError;

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, ParseSubjectError> {
        if text == "tenant" {
            return Ok(Self::Tenant);
        }
        let dimension = |name: &str| {
            Dimension::ALL
                .into_iter()
                .find(|dimension| dimension.as_str() == name)
                .ok_or(ParseSubjectError)
        };
        match text.split_once(':').ok_or(ParseSubjectError)? {
            ("each", name) => Ok(Self::Each(dimension(name)?)),
            (kind, name) => match dimension(kind)? {
                Dimension::Session | Dimension::Turn => Err(ParseSubjectError),
                kind => Ok(Self::One(
                    kind,
                    name.parse().map_err(|_| ParseSubjectError)?,
                )),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::One(dimension, name) => write!(f, "{}:{name}", dimension.as_str()),
            Self::Each(dimension) => write!(f, "each:{}", dimension.as_str()),
        }
    }
}

/// When a budget starts again, as text: `total` (never), `daily`, `monthly` (by the tenant's
/// calendar) or `rolling:24h` (1 to 744 hours).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowSpec {
    /// Never.
    #[default]
    Total,
    /// At midnight in the tenant's time zone.
    Daily,
    /// At the first of the month in the tenant's time zone.
    Monthly,
    /// Spending leaves the window this many hours after it was made.
    Rolling {
        /// 1 to 744 (31 days).
        hours: u16,
    },
}

/// 31 days.
const ROLLING_HOURS_MAX: u16 = 744;

/// The text is not a [`WindowSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a window is `total`, `daily`, `monthly` or `rolling:Nh` with N from 1 to 744")]
pub struct ParseWindowError;

impl FromStr for WindowSpec {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        match text {
            "total" => Ok(Self::Total),
            "daily" => Ok(Self::Daily),
            "monthly" => Ok(Self::Monthly),
            other => {
                let hours = other
                    .strip_prefix("rolling:")
                    .and_then(|rest| rest.strip_suffix('h'))
                    .and_then(|hours| hours.parse().ok())
                    .filter(|hours| (1..=ROLLING_HOURS_MAX).contains(hours))
                    .ok_or(ParseWindowError)?;
                Ok(Self::Rolling { hours })
            }
        }
    }
}

impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Daily => f.write_str("daily"),
            Self::Monthly => f.write_str("monthly"),
            Self::Rolling { hours } => write!(f, "rolling:{hours}h"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
impl Serialize for WindowSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for WindowSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Subject {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Subject".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Whose calls count: `tenant`, `team:NAME` (that one), `each:user` (every one by itself)",
            "pattern": "^(tenant|(team|user|key|feature):[a-z0-9][a-z0-9._-]{0,63}|each:(team|user|key|feature|session|turn))$",
        })
    }
}
impl JsonSchema for WindowSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "When a budget starts again: `total`, `daily`, `monthly`, `rolling:24h`",
            "pattern": "^(total|daily|monthly|rolling:[1-9][0-9]{0,2}h)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_windows_round_trip() {
        for text in [
            "tenant",
            "team:core",
            "key:a.b",
            "each:user",
            "each:session",
            "each:turn",
        ] {
            assert_eq!(text.parse::<Subject>().expect(text).to_string(), text);
        }
        for text in ["total", "daily", "monthly", "rolling:1h", "rolling:744h"] {
            assert_eq!(text.parse::<WindowSpec>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "team",
            "team:",
            "session:x",
            "each:tenant",
            "each:key:x",
            "user:A",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        for text in ["weekly", "rolling:0h", "rolling:745h", "rolling:5"] {
            assert!(text.parse::<WindowSpec>().is_err(), "{text}");
        }
    }
}
