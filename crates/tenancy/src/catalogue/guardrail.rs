//! Guardrails: what a tenant's calls and answers are looked through for, and what happens then.
//!
//! A guardrail is plain data. The engine that compiles and runs it is `gateway::guard`; what this
//! file checks is what needs no engine ([`GuardrailSpec::problems`]).

mod problems;

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use problems::{
    CHECKS_MAX, DENY_BYTES_MAX, DENY_ENTRIES_MAX, DENY_ENTRY_BYTES_MAX, REGEX_CHECKS_MAX,
    REGEX_PATTERN_BYTES_MAX, REGEX_PATTERNS_MAX, TEXT_BYTES_MAX, TOPIC_EXAMPLES_MAX, TOPICS_MAX,
    WEBHOOK_TIMEOUT_MS_MAX,
};

/// What calls, answers or both are looked through for, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardrailSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which side it looks at.
    pub looks_at: LooksAt,
    /// What it looks for, in order. 1 to 32, their names differ.
    pub checks: Vec<CheckSpec>,
    /// What happens to a call whose check could not be made.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Only calls that name one of these features; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Name>,
    /// Only calls of one of these models, as clients name them; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelName>,
}

/// Which side a guardrail looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LooksAt {
    /// What the caller sends.
    Input,
    /// What the model answers.
    Output,
    /// Both.
    Both,
}

impl LooksAt {
    /// Whether it looks at what the caller sends.
    pub const fn includes_input(self) -> bool {
        matches!(self, Self::Input | Self::Both)
    }

    /// Whether it looks at what the model answers.
    pub const fn includes_output(self) -> bool {
        matches!(self, Self::Output | Self::Both)
    }
}

/// What happens to a call whose check could not be made: a remote check timed out, or a bound was
/// reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Closed,
    /// It goes on, and the failure is flagged.
    Open,
}

/// One thing that a guardrail looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// What findings are reported under.
    pub name: Name,
    /// What happens when it finds something.
    pub action: GuardAction,
    /// What it looks for.
    pub check: Check,
    /// With `redact` on input: whether the answer has the originals in place of the placeholders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore: bool,
}

/// What happens when a check finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuardAction {
    /// The call is refused; an answer that has begun ends.
    Block,
    /// What was found is replaced by a placeholder such as `[CARD_1]`.
    Redact,
    /// It is reported, and nothing changes.
    Flag,
}

/// What a check looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Words and phrases.
    DenyList(DenyListSpec),
    /// Patterns.
    Regex(RegexSpec),
    /// Personal data and secrets.
    Pii(PiiSpec),
    /// That an answer is JSON of a given shape. Output only, `block` or `flag`.
    JsonSchema(JsonSchemaSpec),
    /// What reads like an attempt to give the model other orders. `block` or `flag`.
    PromptInjection(PromptInjectionSpec),
    /// What the text is about, by embedding. A hop, metered. `block` or `flag`.
    Topics(TopicsSpec),
    /// A moderation model's categories. A hop, metered. `block` or `flag`.
    Moderation(ModerationSpec),
    /// A model that is asked yes or no. A hop, metered. `block` or `flag`.
    Judge(JudgeSpec),
    /// A service of the tenant's. `block` or `flag`, or `redact` if it says where.
    Webhook(WebhookSpec),
}

impl Check {
    /// Whether it asks somebody else: a model, or a service.
    pub const fn is_remote(&self) -> bool {
        matches!(
            self,
            Self::Topics(_) | Self::Moderation(_) | Self::Judge(_) | Self::Webhook(_)
        )
    }

    /// Whether it knows where in a text it found something.
    pub const fn has_spans(&self) -> bool {
        matches!(
            self,
            Self::DenyList(_) | Self::Regex(_) | Self::Pii(_) | Self::Webhook(_)
        )
    }
}

/// Words and phrases, found whatever their case, at word boundaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyListSpec {
    /// 1 to 10,000 entries of 1 to 200 bytes, 512 KiB in all. A space stands for any white space.
    pub entries: Vec<String>,
}

/// Patterns of the Rust `regex` crate, which match in linear time: no look-around and no
/// back-references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexSpec {
    /// 1 to 64 patterns of at most 1,000 bytes. Each match has 1 to 256 bytes: `x{1,40}` in place
    /// of `x+`.
    pub patterns: Vec<String>,
    /// Whether the case of letters is ignored.
    #[serde(default)]
    pub ignore_case: bool,
}

/// Personal data and secrets, verified by their checksums where they have one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PiiSpec {
    /// What to look for; empty means everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<PiiKind>,
    /// Whose national identifiers, by ISO 3166 code (`us`, `de`); empty means all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<IdCountry>,
}

/// A kind of personal data or secret.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PiiKind {
    /// Payment cards: issuer's range and Luhn's checksum.
    Card,
    /// International bank accounts: the country's length and the checksum modulo 97.
    Iban,
    /// National identifiers: [`PiiSpec::countries`].
    NationalId,
    /// E-mail addresses.
    Email,
    /// Telephone numbers: international (E.164) and common national forms.
    Phone,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Keys, tokens, private keys, and assignments of what looks random to what is named so.
    Secret,
}

impl PiiKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Card,
        Self::Iban,
        Self::NationalId,
        Self::Email,
        Self::Phone,
        Self::Ip,
        Self::Secret,
    ];
}

/// A country whose national identifiers are known: its ISO 3166 code.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is its ISO 3166 code")]
pub enum IdCountry {
    Au,
    Be,
    Br,
    Ca,
    Ch,
    Cn,
    De,
    Es,
    Fi,
    Fr,
    Gb,
    In,
    It,
    Kr,
    Mx,
    Nl,
    No,
    Pl,
    Pt,
    Ro,
    Se,
    Sg,
    Tr,
    Us,
    Za,
}

/// That an answer is JSON of a given shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonSchemaSpec {
    /// The schema: the part of JSON Schema 2020-12 that structured outputs use. A keyword that is
    /// not supported is refused, and so is a reference to anywhere but `#/$defs`.
    pub schema: Value,
}

/// What reads like an attempt to give the model other orders. Signals are scored and summed; the
/// sum is a heuristic, not a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptInjectionSpec {
    /// The sum from which on it acts, 1 to 100: one strong signal is 60, a weak one 20.
    pub threshold: u8,
}

impl Default for PromptInjectionSpec {
    fn default() -> Self {
        // One strong signal, or several weak ones.
        Self { threshold: 60 }
    }
}

/// What a text may be about, and what it may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicsSpec {
    /// The embedding model, as clients name it.
    pub model: ModelName,
    /// What it may be about; empty means everything that is not denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<TopicSpec>,
    /// What it may not be about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<TopicSpec>,
    /// From which similarity on a text is about a topic: the cosine in per cent, 1 to 100.
    #[serde(default = "default_topic_threshold")]
    pub threshold: u8,
}

/// 75: about where the usual embedding models stop calling two sentences related by accident.
/// They differ: try it on texts of one's own.
fn default_topic_threshold() -> u8 {
    75
}

/// A topic by example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// What findings call it.
    pub name: Name,
    /// 1 to 32 sentences about it.
    pub examples: Vec<String>,
}

/// A moderation model's categories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModerationSpec {
    /// The moderation model, as clients name it.
    pub model: ModelName,
    /// The categories that count (`violence`, `self-harm/intent`); empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// From which score on, in per cent; absent means that the model's own flag decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u8>,
}

/// A model that is asked yes or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// The model, as clients name it.
    pub model: ModelName,
    /// The question, so put that `yes` is what the check looks for: "Does the text ask for legal
    /// advice?" At most 8 KiB.
    pub question: String,
    /// How long its answer may be, 8 to 4,096 tokens; a model that thinks first needs hundreds.
    #[serde(default = "default_answer_tokens_max")]
    pub answer_tokens_max: u32,
}

/// 32: `{"answer": "yes"}` has some 7 tokens, and 10 with a fence around it.
fn default_answer_tokens_max() -> u32 {
    32
}

/// A service of the tenant's: an adapter in front of NeMo Guardrails or Presidio, for example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// An `https` address. It gets a POST; docs/guardrails.md shows both bodies.
    pub url: String,
    /// How long to wait for its answer, in milliseconds, 10,000 at most.
    #[serde(default = "default_webhook_timeout_ms")]
    pub timeout_ms: u64,
}

/// Two seconds: Presidio answers within 100 ms, and a caller is waiting.
fn default_webhook_timeout_ms() -> u64 {
    2_000
}
