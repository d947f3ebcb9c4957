//! Checks that ask somebody else: models, as hops of the same call, and services.
//!
//! Everything but the asking is here: what is asked, how an answer is read, and what a failure
//! means. [`Remote`] does the asking; the pipeline implements it, so that a hop is admitted,
//! metered and bounded like any call of the tenant.

mod models;
mod service;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use base::{ModelName, Name};
use serde::Deserialize;
use tenancy::catalogue::{
    Check, CheckSpec, GuardAction, JudgeSpec, ModerationSpec, TopicsSpec, WebhookSpec,
};

use super::vault::Vault;
use super::verdict::Finding;
use super::{CHECK_FAILED, Guard, Side, Verdict, label, whole_finding};
use crate::refusal::Refusal;
use models::{judge, moderation, topics};
use service::webhook;

/// 64 KiB of a text are shown to others: what a moderation or embedding model reads at most.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Who is asked. Each answer arrives within the call's own deadline, or is a failure.
pub trait Remote: Sync {
    /// Embeds texts: as many vectors as texts, in their order.
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the hop, which settles as any cancelled call does.
    fn embed(
        &self,
        model: &ModelName,
        texts: &[&str],
    ) -> impl Future<Output = Result<Vec<Vec<f32>>, RemoteFailure>> + Send;

    /// Moderates texts: as many results as texts, in their order.
    fn moderate(
        &self,
        model: &ModelName,
        texts: &[&str],
    ) -> impl Future<Output = Result<Vec<Moderated>, RemoteFailure>> + Send;

    /// Completes a chat of a system and a user message at temperature zero: the answer's text.
    fn complete(
        &self,
        model: &ModelName,
        system: &str,
        user: &str,
        output_tokens_max: u32,
    ) -> impl Future<Output = Result<String, RemoteFailure>> + Send;

    /// Posts JSON to a service of the tenant's and returns the body of its 200.
    fn post(
        &self,
        url: &str,
        timeout: Duration,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, RemoteFailure>> + Send;
}

/// One result of a moderation model, as OpenAI's endpoint answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Moderated {
    /// Whether the model itself flags the text.
    pub flagged: bool,
    /// Which categories it flags.
    pub categories: std::collections::BTreeMap<String, bool>,
    /// How sure it is, from 0 to 1.
    pub category_scores: std::collections::BTreeMap<String, f32>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteFailure {
    /// Not in time.
    #[error("the check took too long")]
    Late,
    /// The request has asked as often as one may.
    #[error("the request has asked models as often as one may")]
    TooMany,
    /// The call of the check's model was refused: by a limit or budget, by the model's server.
    #[error("the check's call of its model was refused: {}", .0.code())]
    Refused(Refusal),
    /// No connection, or an answer that is an error.
    #[error("the check's model or service failed")]
    Unreachable,
    /// An answer that says nothing.
    #[error("the check's model or service gave an answer that cannot be read")]
    Unreadable,
}

/// What came of asking.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteInspection {
    /// What becomes of the call.
    pub verdict: Verdict,
    /// What was found, by the number of the text.
    pub found: Vec<(usize, Finding)>,
    /// The checks that could not be made, and why. Each is among the findings too, as
    /// `CHECK_FAILED`.
    pub failed: Vec<(Name, RemoteFailure)>,
    /// What takes the place of texts in which something was redacted, by their number.
    pub rewritten: Vec<(usize, String)>,
}

impl std::fmt::Debug for RemoteInspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteInspection")
            .field("verdict", &self.verdict)
            .field("found", &self.found)
            .field("failed", &self.failed)
            .field("rewritten", &self.rewritten.len())
            .finish()
    }
}

/// A check that asks.
pub(super) struct RemoteCheck {
    name: Name,
    action: GuardAction,
    restores: bool,
    ask: Ask,
}

enum Ask {
    Topics {
        spec: TopicsSpec,
        /// The examples' vectors: asked for once.
        examples: OnceLock<Vec<Vec<f32>>>,
    },
    Moderation(ModerationSpec),
    Judge(JudgeSpec),
    Webhook(WebhookSpec),
}

/// Something found in text number `text`; without a span it is the text as a whole.
struct Remark {
    text: usize,
    span: Option<std::ops::Range<usize>>,
    label: Option<String>,
    score: u8,
}

impl RemoteCheck {
    /// The check of a specification that [`Check::is_remote`].
    pub(super) fn new(spec: &CheckSpec) -> Self {
        let ask = match &spec.check {
            Check::Topics(spec) => Ask::Topics {
                spec: spec.clone(),
                examples: OnceLock::new(),
            },
            Check::Moderation(spec) => Ask::Moderation(spec.clone()),
            Check::Judge(spec) => Ask::Judge(spec.clone()),
            Check::Webhook(spec) => Ask::Webhook(spec.clone()),
            Check::DenyList(_)
            | Check::Regex(_)
            | Check::Pii(_)
            | Check::JsonSchema(_)
            | Check::PromptInjection(_) => unreachable!("local checks are compiled elsewhere"),
        };
        Self {
            name: spec.name.clone(),
            action: spec.action,
            restores: spec.restore,
            ask,
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    async fn remarks<R: Remote>(
        &self,
        side: Side,
        texts: &[&str],
        remote: &R,
    ) -> Result<Vec<Remark>, RemoteFailure> {
        match &self.ask {
            Ask::Topics { spec, examples } => topics(spec, examples, texts, remote).await,
            Ask::Moderation(spec) => moderation(spec, texts, remote).await,
            Ask::Judge(spec) => judge(spec, texts, remote).await,
            Ask::Webhook(spec) => webhook(spec, &self.name, side, texts, remote).await,
        }
    }
}

impl Guard {
    /// Asks with all checks that need somebody else, one after the other until one blocks. Texts
    /// are shown as they are after [`Guard::inspect`]: what was redacted is not shown to others.
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the check that is under way; nothing else is lost.
    pub async fn ask<R: Remote>(
        &self,
        side: Side,
        texts: &[&str],
        vault: &mut Vault,
        remote: &R,
    ) -> RemoteInspection {
        self.ask_from(side, texts, 0, vault, remote).await
    }

    /// As [`Guard::ask`], where the first `from` bytes of each text are there to be understood, and
    /// nothing in them is replaced.
    ///
    /// # Cancel safety
    ///
    /// As above.
    pub(crate) async fn ask_from<R: Remote>(
        &self,
        side: Side,
        texts: &[&str],
        from: usize,
        vault: &mut Vault,
        remote: &R,
    ) -> RemoteInspection {
        let mut inspection = RemoteInspection {
            verdict: Verdict::Pass,
            found: Vec::new(),
            failed: Vec::new(),
            rewritten: Vec::new(),
        };
        if !self.looks_at(side) || texts.is_empty() {
            return inspection;
        }
        // What says nothing is nothing to ask about, and many models refuse it.
        let says = |(_, text): &(usize, &&str)| !text.trim().is_empty();
        let (places, shown): (Vec<usize>, Vec<&str>) = texts
            .iter()
            .enumerate()
            .filter(says)
            .map(|(place, text)| (place, shortened(text, TEXT_BYTES_MAX)))
            .unzip();
        if shown.is_empty() {
            return inspection;
        }
        let mut redactions: Vec<(usize, std::ops::Range<usize>, Box<str>, bool)> = Vec::new();
        for check in &self.remote {
            match check.remarks(side, &shown, remote).await {
                Ok(remarks) => {
                    for remark in remarks {
                        let place = places[remark.text];
                        let cut = texts[place].len() - shown[remark.text].len();
                        let mut finding = whole_finding(&check.name, None, check.action);
                        finding.score = remark.score;
                        if let Some(span) = remark.span {
                            let start = (span.start + cut).max(from);
                            let span = start..(span.end + cut).max(start);
                            finding.span = span.clone();
                            if check.action == GuardAction::Redact && !span.is_empty() {
                                let name = remark.label.as_deref().unwrap_or(check.name.as_str());
                                redactions.push((place, span, label(name), check.restores));
                            }
                        }
                        inspection.add(place, finding);
                    }
                }
                Err(failure) => {
                    inspection.failed.push((check.name.clone(), failure));
                    let action = self.failure_action();
                    inspection.add(0, whole_finding(&check.name, Some(CHECK_FAILED), action));
                }
            }
            if inspection.verdict != Verdict::Pass {
                return inspection;
            }
        }
        inspection.rewritten = redact(side, texts, redactions, vault);
        inspection
    }
}

impl RemoteInspection {
    fn add(&mut self, text: usize, finding: Finding) {
        if finding.action == GuardAction::Block && self.verdict == Verdict::Pass {
            self.verdict = Verdict::Block {
                by: finding.check.clone(),
            };
        }
        self.found.push((text, finding));
    }
}

fn redact(
    side: Side,
    texts: &[&str],
    mut redactions: Vec<(usize, std::ops::Range<usize>, Box<str>, bool)>,
    vault: &mut Vault,
) -> Vec<(usize, String)> {
    redactions.sort_by_key(|(text, span, _, _)| (*text, span.start, usize::MAX - span.end));
    for (text, ..) in &redactions {
        vault.reserve(texts[*text]);
    }
    let mut rewritten: Vec<(usize, String)> = Vec::new();
    let mut copied = 0;
    for (text, span, label, restores) in redactions {
        let original = texts[text];
        if rewritten.last().is_none_or(|(last, _)| *last != text) {
            if let Some((last, so_far)) = rewritten.last_mut() {
                so_far.push_str(&texts[*last][copied..]);
            }
            rewritten.push((text, String::new()));
            copied = 0;
        }
        let (_, so_far) = rewritten.last_mut().expect("one was just there or made");
        let start = span.start.max(copied);
        if span.end > start {
            so_far.push_str(&original[copied..start]);
            let restores = restores && side == Side::Input;
            so_far.push_str(&vault.placeholder(&label, &original[start..span.end], restores));
            copied = span.end;
        }
    }
    if let Some((last, so_far)) = rewritten.last_mut() {
        so_far.push_str(&texts[*last][copied..]);
    }
    rewritten
}

/// The end of a text is where orders to a model are: what is too long loses its beginning.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let from = text.len().saturating_sub(bytes_max);
    &text[text.ceil_char_boundary(from)..]
}

fn whole(text: usize, score: f32) -> Remark {
    Remark {
        text,
        span: None,
        label: None,
        score: per_cent(score),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is from 1 to 100"
)]
fn per_cent(score: f32) -> u8 {
    (score * 100.0).clamp(1.0, 100.0) as u8
}

#[cfg(test)]
mod tests;
