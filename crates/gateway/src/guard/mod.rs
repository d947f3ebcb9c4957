//! Guardrails: what a tenant's calls and answers are looked through for.
//!
//! [`Guard::compile`] turns a [`GuardrailSpec`] into automata, once per version of the catalogue.
//! [`Guard::inspect`] looks through whole texts, [`StreamGuard`] through an answer while it is
//! made: both are one pass of the same scanner, in time linear in the text. Checks that ask
//! somebody else go through [`Remote`], which the pipeline implements. A [`Vault`] holds what was
//! redacted for as long as its request lasts.

mod fold;
mod injection;
mod pattern;
mod phrases;
mod pii;
mod remote;
mod scanner;
mod schema;
mod stream;
mod vault;
mod verdict;

use base::{ModelName, Name};
use tenancy::catalogue::{Check, CheckSpec, GuardAction, GuardrailSpec, LooksAt, OnFailure};

pub use remote::{Moderated, Remote, RemoteFailure, RemoteInspection};
pub use stream::{Flow, StreamGuard};
pub use vault::{Restorer, Vault};
pub use verdict::{Finding, Findings};

use injection::Injection;
use pattern::Patterns;
use phrases::Phrases;
use pii::Pii;
use remote::RemoteCheck;
use scanner::{Detector, LocalCheck, Scanner, Step, Window};
use schema::Schema;
use vault::LABEL_BYTES_MAX;

/// A compiled guardrail. Immutable: share it.
pub struct Guard {
    looks_at: LooksAt,
    on_failure: OnFailure,
    features: Vec<Name>,
    models: Vec<ModelName>,
    local: Vec<LocalCheck>,
    schemas: Vec<SchemaCheck>,
    remote: Vec<RemoteCheck>,
}

/// A compiled `json-schema` check.
struct SchemaCheck {
    name: Name,
    action: GuardAction,
    schema: Schema,
}

/// The guardrail is refused; each sentence names the check and says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct InvalidGuardrail {
    /// What is wrong.
    pub problems: Vec<String>,
}

/// Whose texts are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The caller's.
    Input,
    /// The model's.
    Output,
}

/// Whether schemas say what shape a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shaped {
    Yes,
    No,
}

/// What becomes of the whole call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, with texts replaced where they were rewritten.
    Pass,
    /// It is refused.
    Block {
        /// By this check.
        by: Name,
    },
}

/// What came of looking through texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection<L> {
    /// What becomes of the call.
    pub verdict: Verdict,
    /// The texts in which something was found. After a block, later texts were not looked at.
    pub found: Vec<Inspected<L>>,
}

/// A text in which something was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Inspected<L> {
    /// Where it stood.
    pub location: L,
    /// What was found, without the text itself.
    pub findings: Findings,
    /// What takes its place, if anything was redacted.
    pub rewritten: Option<String>,
}

impl<L: std::fmt::Debug> std::fmt::Debug for Inspected<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspected")
            .field("location", &self.location)
            .field("findings", &self.findings)
            .field("is_rewritten", &self.rewritten.is_some())
            .finish()
    }
}

/// What a finding is called whose check could not be made.
pub(crate) const CHECK_FAILED: &str = "CHECK_FAILED";

/// 8 KiB: a text is scanned in pieces of this size, so that the scanner's own memory is bounded
/// whatever the text's length, and other tasks wait for a few milliseconds even where a check is
/// slowest.
const BLOCK_BYTES: usize = 8 << 10;

impl Guard {
    /// Compiles a guardrail.
    ///
    /// # Errors
    ///
    /// [`InvalidGuardrail`] lists everything that is wrong with it: patterns that are not linear,
    /// have no bound or compile to too much, keywords of schemas that are not known, sizes.
    pub fn compile(spec: &GuardrailSpec) -> Result<Self, InvalidGuardrail> {
        let mut problems = spec.problems();
        let mut guard = Self {
            looks_at: spec.looks_at,
            on_failure: spec.on_failure,
            features: spec.features.clone(),
            models: spec.models.clone(),
            local: Vec::new(),
            schemas: Vec::new(),
            remote: Vec::new(),
        };
        if problems.is_empty() {
            for check in &spec.checks {
                if let Err(problem) = guard.add(check) {
                    problems.push(format!("check `{}`: {problem}", check.name));
                }
            }
        }
        if problems.is_empty() {
            Ok(guard)
        } else {
            Err(InvalidGuardrail { problems })
        }
    }

    /// Whether it looks at this side of a call of this feature and model.
    pub fn applies_to(&self, side: Side, feature: Option<&Name>, model: &ModelName) -> bool {
        let names = |feature: &Name| self.features.contains(feature);
        self.looks_at(side)
            && (self.features.is_empty() || feature.is_some_and(names))
            && (self.models.is_empty() || self.models.contains(model))
    }

    /// Whether it looks at this side at all.
    pub fn looks_at(&self, side: Side) -> bool {
        match side {
            Side::Input => self.looks_at.includes_input(),
            Side::Output => self.looks_at.includes_output(),
        }
    }

    /// Whether it has checks that ask somebody else: then [`Guard::ask`] follows
    /// [`Guard::inspect`].
    pub fn has_remote_checks(&self) -> bool {
        !self.remote.is_empty()
    }

    /// Whether a call is refused whose check could not be made.
    pub fn is_closed(&self) -> bool {
        self.on_failure == OnFailure::Closed
    }

    /// Looks through whole texts with all checks that need nobody else. A text's location is
    /// whatever the caller finds it by. What is redacted goes into `vault`. Between two pieces
    /// of 8 KiB other tasks have their turn.
    pub async fn inspect<'t, L>(
        &self,
        side: Side,
        texts: impl IntoIterator<Item = (L, &'t str)>,
        vault: &mut Vault,
    ) -> Inspection<L> {
        self.inspect_as(side, Shaped::Yes, texts, vault).await
    }

    /// As [`Guard::inspect`], for what is no answer by itself (thoughts, a tool's arguments) or has
    /// been looked at as one: its shape is not checked.
    pub async fn inspect_aside<'t, L>(
        &self,
        side: Side,
        texts: impl IntoIterator<Item = (L, &'t str)>,
        vault: &mut Vault,
    ) -> Inspection<L> {
        self.inspect_as(side, Shaped::No, texts, vault).await
    }

    async fn inspect_as<'t, L>(
        &self,
        side: Side,
        shaped: Shaped,
        texts: impl IntoIterator<Item = (L, &'t str)>,
        vault: &mut Vault,
    ) -> Inspection<L> {
        let mut inspection = Inspection {
            verdict: Verdict::Pass,
            found: Vec::new(),
        };
        if !self.looks_at(side) {
            return inspection;
        }
        let texts: Vec<(L, &str)> = texts.into_iter().collect();
        for (_, text) in &texts {
            vault.reserve(text);
        }
        for (location, text) in texts {
            let (findings, rewritten) = self.inspect_one(side, shaped, text, vault).await;
            let blocking = findings.blocking().map(|finding| finding.check.clone());
            if findings.count() > 0 {
                inspection.found.push(Inspected {
                    location,
                    findings,
                    rewritten,
                });
            }
            if let Some(by) = blocking {
                inspection.verdict = Verdict::Block { by };
                break;
            }
        }
        inspection
    }

    async fn inspect_one(
        &self,
        side: Side,
        shaped: Shaped,
        text: &str,
        vault: &mut Vault,
    ) -> (Findings, Option<String>) {
        let mut scanner = Scanner::new(&self.local);
        let mut rewritten: Option<String> = None;
        let mut step = |_: &Window, step: Step| match step {
            Step::Keep(range) => {
                if let Some(rewritten) = &mut rewritten {
                    rewritten.push_str(&text[range]);
                }
            }
            Step::Replace {
                range,
                check,
                label,
            } => {
                let check = &self.local[check];
                let placeholder = check.placeholder(side, label, &text[range.clone()], vault);
                rewritten
                    .get_or_insert_with(|| text[..range.start].to_owned())
                    .push_str(&placeholder);
            }
        };
        for block in blocks(text) {
            scanner.push(&self.local, block, &mut step);
            if block.len() < text.len() {
                tokio::task::yield_now().await;
            }
        }
        scanner.finish(&self.local, &mut step);
        if side == Side::Output && shaped == Shaped::Yes && !scanner.is_blocked() {
            self.check_schemas(Some(text), scanner.findings_mut());
        }
        (scanner.into_findings(), rewritten)
    }

    /// Checks an answer's shape; none is an answer that was too long to be kept.
    fn check_schemas(&self, answer: Option<&str>, findings: &mut Findings) {
        for check in &self.schemas {
            let met = answer.and_then(|text| check.schema.is_met_by(text).ok());
            let (label, action) = match met {
                Some(true) => continue,
                Some(false) => (None, check.action),
                None => (Some(CHECK_FAILED), self.failure_action()),
            };
            findings.add(whole_finding(&check.name, label, action));
        }
    }

    fn failure_action(&self) -> GuardAction {
        match self.on_failure {
            OnFailure::Closed => GuardAction::Block,
            OnFailure::Open => GuardAction::Flag,
        }
    }

    fn add(&mut self, check: &CheckSpec) -> Result<(), String> {
        let detector = match &check.check {
            Check::DenyList(list) => {
                let entries = list.entries.iter().map(String::as_str);
                let phrases = Phrases::compile(entries).map_err(|error| error.to_string())?;
                Detector::Phrases(Box::new(phrases))
            }
            Check::Regex(patterns) => {
                Detector::Patterns(Patterns::compile(patterns).map_err(|error| error.to_string())?)
            }
            Check::Pii(pii) => Detector::Pii(Pii::compile(pii)),
            Check::PromptInjection(injection) => Detector::Injection(Injection::compile(injection)),
            Check::JsonSchema(schema) => {
                self.schemas.push(SchemaCheck {
                    name: check.name.clone(),
                    action: check.action,
                    schema: Schema::compile(&schema.schema).map_err(|error| error.to_string())?,
                });
                return Ok(());
            }
            Check::Topics(_) | Check::Moderation(_) | Check::Judge(_) | Check::Webhook(_) => {
                self.remote.push(RemoteCheck::new(check));
                return Ok(());
            }
        };
        self.local.push(LocalCheck {
            name: check.name.clone(),
            action: check.action,
            restores: check.restore,
            label: label(check.name.as_str()),
            detector,
        });
        Ok(())
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local = self.local.iter().map(|check| &check.name);
        let schemas = self.schemas.iter().map(|check| &check.name);
        let remote = self.remote.iter().map(RemoteCheck::name);
        f.debug_list()
            .entries(local.chain(schemas).chain(remote))
            .finish()
    }
}

impl LocalCheck {
    fn placeholder(
        &self,
        side: Side,
        label: Option<&'static str>,
        original: &str,
        vault: &mut Vault,
    ) -> String {
        let restores = self.restores && side == Side::Input;
        vault.placeholder(label.unwrap_or(&self.label), original, restores)
    }
}

fn whole_finding(check: &Name, label: Option<&'static str>, action: GuardAction) -> Finding {
    Finding {
        check: check.clone(),
        label,
        action,
        span: 0..0,
        score: 100,
    }
}

/// What placeholders of a check are called: its name in capitals.
fn label(name: &str) -> Box<str> {
    name.bytes()
        .take(LABEL_BYTES_MAX)
        .map(|byte| match byte.to_ascii_uppercase() {
            byte if byte.is_ascii_alphanumeric() => char::from(byte),
            _ => '_',
        })
        .collect::<String>()
        .into()
}

/// The text in pieces of [`BLOCK_BYTES`] at most.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (block, next) = rest.split_at(rest.floor_char_boundary(BLOCK_BYTES));
        rest = next;
        Some(block)
    })
}

#[cfg(test)]
mod tests;
