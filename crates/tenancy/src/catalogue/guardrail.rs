//! Guardrails: what a tenant's calls and answers are looked through for, and what happens then.
//!
//! A guardrail is plain data. The engine that compiles and runs it is `gateway::guard`; what this
//! file checks is what needs no engine ([`GuardrailSpec::problems`]).

use std::collections::BTreeSet;

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// 32: each check passes over the whole text, so their number bounds the time of a call.
pub const CHECKS_MAX: usize = 32;
/// 10,000 entries of a deny list and 512 KiB of their text compile to a few MiB.
pub const DENY_ENTRIES_MAX: usize = 10_000;
/// 512 KiB, as above.
pub const DENY_BYTES_MAX: usize = 512 << 10;
/// 200 bytes: a long sentence; it is also what a stream may have to hold back.
pub const DENY_ENTRY_BYTES_MAX: usize = 200;
/// 8 checks with patterns: each compiles to 6 MiB at most, 48 MiB in all.
pub const REGEX_CHECKS_MAX: usize = 8;
/// 64 patterns of one check become one automaton.
pub const REGEX_PATTERNS_MAX: usize = 64;
/// 1,000 bytes of one pattern's text: the longest published patterns for identifiers have 400.
pub const REGEX_PATTERN_BYTES_MAX: usize = 1_000;
/// 32 topics of 32 examples each: all are embedded whenever a version is published.
pub const TOPICS_MAX: usize = 32;
/// 32, as above.
pub const TOPIC_EXAMPLES_MAX: usize = 32;
/// 8 KiB of a judge's instruction or a topic's example.
pub const TEXT_BYTES_MAX: usize = 8 << 10;
/// Ten seconds: a caller waits for it in front of the answer.
pub const WEBHOOK_TIMEOUT_MS_MAX: u64 = 10_000;

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

impl GuardrailSpec {
    /// What is wrong with it as plain data; each sentence says what would be right. Empty if
    /// nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.checks.is_empty() || self.checks.len() > CHECKS_MAX {
            found.push(format!("a guardrail has 1 to {CHECKS_MAX} checks"));
        }
        let names: BTreeSet<&Name> = self.checks.iter().map(|check| &check.name).collect();
        if names.len() < self.checks.len() {
            found.push("two checks have the same name".to_owned());
        }
        let with_patterns = self
            .checks
            .iter()
            .filter(|check| matches!(check.check, Check::Regex(_)));
        if with_patterns.count() > REGEX_CHECKS_MAX {
            found.push(format!(
                "at most {REGEX_CHECKS_MAX} checks are `regex`: one takes {REGEX_PATTERNS_MAX} patterns"
            ));
        }
        for check in &self.checks {
            let mut of_check = Vec::new();
            check.problems(self.looks_at, &mut of_check);
            found.extend(
                of_check
                    .into_iter()
                    .map(|problem| format!("check `{}`: {problem}", check.name)),
            );
        }
        found
    }
}

impl CheckSpec {
    fn problems(&self, looks_at: LooksAt, found: &mut Vec<String>) {
        if self.action == GuardAction::Redact && !self.check.has_spans() {
            found.push("it cannot `redact`: it does not know where; `block` or `flag`".to_owned());
        }
        if self.restore && (self.action != GuardAction::Redact || !looks_at.includes_input()) {
            found.push("`restore` goes with `redact` on input".to_owned());
        }
        match &self.check {
            Check::DenyList(spec) => spec.problems(found),
            Check::Regex(spec) => spec.problems(found),
            Check::Pii(_) => {}
            Check::JsonSchema(_) => {
                if looks_at != LooksAt::Output {
                    found.push("a schema is for `looks_at = \"output\"`".to_owned());
                }
            }
            Check::PromptInjection(spec) => check_per_cent(spec.threshold, found),
            Check::Topics(spec) => spec.problems(found),
            Check::Moderation(spec) => {
                if let Some(threshold) = spec.threshold {
                    check_per_cent(threshold, found);
                }
            }
            Check::Judge(spec) => check_text("`question`", &spec.question, found),
            Check::Webhook(spec) => spec.problems(found),
        }
    }
}

impl DenyListSpec {
    fn problems(&self, found: &mut Vec<String>) {
        if self.entries.is_empty() || self.entries.len() > DENY_ENTRIES_MAX {
            found.push(format!("a deny list has 1 to {DENY_ENTRIES_MAX} entries"));
        }
        let is_sized =
            |entry: &String| !entry.trim().is_empty() && entry.len() <= DENY_ENTRY_BYTES_MAX;
        if let Some(place) = self.entries.iter().position(|entry| !is_sized(entry)) {
            found.push(format!(
                "entry {place} is empty or longer than {DENY_ENTRY_BYTES_MAX} bytes"
            ));
        }
        if self.entries.iter().map(String::len).sum::<usize>() > DENY_BYTES_MAX {
            found.push(format!("a deny list has at most {DENY_BYTES_MAX} bytes"));
        }
    }
}

impl RegexSpec {
    fn problems(&self, found: &mut Vec<String>) {
        if self.patterns.is_empty() || self.patterns.len() > REGEX_PATTERNS_MAX {
            found.push(format!("it has 1 to {REGEX_PATTERNS_MAX} patterns"));
        }
        let is_sized =
            |pattern: &String| !pattern.is_empty() && pattern.len() <= REGEX_PATTERN_BYTES_MAX;
        if let Some(place) = self.patterns.iter().position(|pattern| !is_sized(pattern)) {
            found.push(format!(
                "pattern {place} is empty or longer than {REGEX_PATTERN_BYTES_MAX} bytes"
            ));
        }
    }
}

impl TopicsSpec {
    fn problems(&self, found: &mut Vec<String>) {
        check_per_cent(self.threshold, found);
        let topics = self.allowed.len() + self.denied.len();
        if topics == 0 || topics > TOPICS_MAX {
            found.push(format!("it has 1 to {TOPICS_MAX} topics"));
        }
        for topic in self.allowed.iter().chain(&self.denied) {
            if topic.examples.is_empty() || topic.examples.len() > TOPIC_EXAMPLES_MAX {
                found.push(format!(
                    "topic `{}` has 1 to {TOPIC_EXAMPLES_MAX} examples",
                    topic.name
                ));
            }
            for example in &topic.examples {
                check_text("an example", example, found);
            }
        }
    }
}

impl WebhookSpec {
    fn problems(&self, found: &mut Vec<String>) {
        match url::Url::parse(&self.url) {
            Ok(url) if url.scheme() == "https" && url.has_host() => {
                if !url.username().is_empty() || url.password().is_some() {
                    found.push("`url` carries a secret".to_owned());
                }
            }
            _ => found.push("`url` begins with https://".to_owned()),
        }
        if !(1..=WEBHOOK_TIMEOUT_MS_MAX).contains(&self.timeout_ms) {
            found.push(format!(
                "`timeout_ms` is from 1 to {WEBHOOK_TIMEOUT_MS_MAX}"
            ));
        }
    }
}

fn check_per_cent(threshold: u8, found: &mut Vec<String>) {
    if !(1..=100).contains(&threshold) {
        found.push("`threshold` is from 1 to 100".to_owned());
    }
}

fn check_text(what: &str, text: &str, found: &mut Vec<String>) {
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        found.push(format!("{what} has 1 to {TEXT_BYTES_MAX} bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(looks_at: &str, check: &str) -> GuardrailSpec {
        serde_json::from_str(&format!(
            r#"{{"looks_at":"{looks_at}","checks":[{check}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            (
                "input",
                r#"{"name":"a","action":"redact","check":{"pii":{}}}"#,
                None,
            ),
            (
                "both",
                r#"{"name":"a","action":"redact","restore":true,"check":{"pii":{"kinds":["card"]}}}"#,
                None,
            ),
            (
                "output",
                r#"{"name":"a","action":"redact","restore":true,"check":{"pii":{}}}"#,
                Some("`restore`"),
            ),
            (
                "input",
                r#"{"name":"a","action":"redact","check":{"prompt-injection":{}}}"#,
                Some("cannot `redact`"),
            ),
            (
                "input",
                r#"{"name":"a","action":"flag","check":{"prompt-injection":{"threshold":0}}}"#,
                Some("1 to 100"),
            ),
            (
                "input",
                r#"{"name":"a","action":"flag","check":{"deny-list":{"entries":["a"," "]}}}"#,
                Some("entry 1"),
            ),
            (
                "both",
                r#"{"name":"a","action":"block","check":{"json-schema":{"schema":{}}}}"#,
                Some("output"),
            ),
            (
                "input",
                r#"{"name":"a","action":"block","check":{"webhook":{"url":"http://x"}}}"#,
                Some("https://"),
            ),
            (
                "input",
                r#"{"name":"a","action":"block","check":{"regex":{"patterns":[]}}}"#,
                Some("patterns"),
            ),
            (
                "input",
                r#"{"name":"a","action":"flag","check":{"pii":{}}},{"name":"a","action":"flag","check":{"pii":{}}}"#,
                Some("same name"),
            ),
            (
                "input",
                r#"{"name":"a","action":"flag","check":{"topics":{"model":"m"}}}"#,
                Some("topics"),
            ),
        ];
        for (looks_at, check, wanted) in table {
            let problems = spec(looks_at, check).problems();
            match wanted {
                None => assert!(problems.is_empty(), "{check}: {problems:?}"),
                Some(wanted) => assert!(
                    problems.iter().any(|problem| problem.contains(wanted)),
                    "{check}: {problems:?}"
                ),
            }
        }
    }

    #[test]
    fn json_goes_both_ways_and_knows_its_fields() {
        let one = spec(
            "both",
            r#"{"name":"ids","action":"flag","check":{"pii":{"kinds":["national-id"],"countries":["us","de"]}}}"#,
        );
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<GuardrailSpec>(&json).unwrap(), one);
        for wrong in [
            r#"{"looks_at":"both","checks":[],"colour":1}"#,
            r#"{"looks_at":"both","checks":[{"name":"a","action":"flag","check":{"pii":{"kind":[]}}}]}"#,
            r#"{"looks_at":"both","checks":[{"name":"a","action":"flag","check":{"magic":{}}}]}"#,
        ] {
            assert!(serde_json::from_str::<GuardrailSpec>(wrong).is_err());
        }
    }
}
