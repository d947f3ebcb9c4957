//! What can be wrong with a guardrail as plain data, without an engine.

use std::collections::BTreeSet;

use base::Name;

use super::{
    Check, CheckSpec, DenyListSpec, GuardAction, GuardrailSpec, LooksAt, RegexSpec, TopicsSpec,
    WebhookSpec,
};

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
/// 8 to 4,096 tokens of a judge's answer: from a word to a page of thoughts before it.
const ANSWER_TOKENS: std::ops::RangeInclusive<u32> = 8..=4_096;
/// Ten seconds: a caller waits for it in front of the answer.
pub const WEBHOOK_TIMEOUT_MS_MAX: u64 = 10_000;

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
            Check::Judge(spec) => {
                check_text("`question`", &spec.question, found);
                if !ANSWER_TOKENS.contains(&spec.answer_tokens_max) {
                    found.push("`answer_tokens_max` is from 8 to 4,096".to_owned());
                }
            }
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
