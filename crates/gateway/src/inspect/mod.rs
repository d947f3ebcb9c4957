//! Guardrails at work: which apply to a call, what they say of its texts and of the answer's, and
//! the bodies that come of it.

mod stream;
mod texts;
mod turns;
mod webhook;

use std::sync::Arc;

use base::{ModelName, Name};
use bytes::Bytes;
use models::{Envelope, Operation};
use tenancy::Guardrails;
use tenancy::catalogue::GuardAction;

use crate::guard::{
    CHECK_FAILED, Finding, Guard, InvalidGuardrail, Remote, RemoteFailure, RemoteInspection,
    Restorer, Side, Vault, Verdict,
};
use crate::refusal::Refusal;

pub(crate) use stream::{InspectedStream, Looked, Reached, StreamEnd};
pub(crate) use turns::{Queue, TenantTurn, Turns};
pub(crate) use webhook::GuardServices;

use texts::{Part, Text};

/// A tenant's guardrails, compiled: once per version of them.
#[derive(Debug)]
pub(crate) struct GuardSet(Vec<Named>);

/// A compiled guardrail and its name.
#[derive(Debug, Clone)]
struct Named {
    name: Name,
    guard: Arc<Guard>,
}

impl GuardSet {
    /// Compiles all of them.
    ///
    /// # Errors
    ///
    /// Each that cannot be used, with everything that is wrong with it.
    pub(crate) fn compile(guardrails: &Guardrails) -> Result<Self, Vec<(Name, InvalidGuardrail)>> {
        let mut set = Vec::with_capacity(guardrails.len());
        let mut refused = Vec::new();
        for (name, spec) in guardrails {
            match Guard::compile(spec) {
                Ok(guard) => set.push(Named {
                    name: name.clone(),
                    guard: Arc::new(guard),
                }),
                Err(error) => refused.push((name.clone(), error)),
            }
        }
        match refused.is_empty() {
            true => Ok(Self(set)),
            false => Err(refused),
        }
    }

    /// Those that apply to a call; none if none does.
    pub(crate) fn for_call(&self, feature: &Name, model: &ModelName) -> Option<Inspector> {
        let of = |side| {
            let applies = move |named: &&Named| named.guard.applies_to(side, Some(feature), model);
            self.0.iter().filter(applies).cloned().collect::<Vec<_>>()
        };
        let (input, output) = (of(Side::Input), of(Side::Output));
        (!input.is_empty() || !output.is_empty()).then(|| Inspector {
            input,
            output,
            vault: Vault::new(),
            noted: Noted::default(),
        })
    }
}

/// How much was found in one call: numbers alone, for its line and the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Findings that were reported and changed nothing.
    pub(crate) flagged: u64,
    /// Findings that a placeholder stands for.
    pub(crate) redacted: u64,
    /// Findings that ended the call.
    pub(crate) blocked: u64,
    /// Checks that could not be made.
    pub(crate) failed: u64,
}

impl Noted {
    /// Each number, and what it is called.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("flagged", self.flagged),
            ("redacted", self.redacted),
            ("blocked", self.blocked),
            ("failed", self.failed),
        ]
    }

    /// Whether nothing was found.
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, finding: &Finding) {
        if finding.label == Some(CHECK_FAILED) {
            self.failed += 1;
        }
        match finding.action {
            GuardAction::Block => self.blocked += 1,
            GuardAction::Redact => self.redacted += 1,
            GuardAction::Flag => self.flagged += 1,
        }
    }
}

/// A guardrail that ends a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    guardrail: Name,
    check: Name,
    side: Side,
}

impl From<Blocked> for Refusal {
    fn from(blocked: Blocked) -> Self {
        Self::ContentBlocked {
            what: match blocked.side {
                Side::Input => "the request",
                Side::Output => "the model's answer",
            },
            guardrail: blocked.guardrail,
            check: blocked.check,
        }
    }
}

/// Whether what is found counts: an answer's last event may repeat what was counted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    First,
    Again,
}

/// The guardrails of one call, and what they have replaced in it.
#[derive(Debug)]
pub(crate) struct Inspector {
    input: Vec<Named>,
    output: Vec<Named>,
    vault: Vault,
    pub(crate) noted: Noted,
}

impl Inspector {
    /// Looks through what the client sends. Returns the body that goes on, if it is another.
    ///
    /// # Errors
    ///
    /// A guardrail refuses it.
    pub(crate) async fn request(
        &mut self,
        operation: Operation,
        envelope: &Envelope,
        remote: Option<&impl Remote>,
        queue: &Queue<'_>,
    ) -> Result<Option<Bytes>, Refusal> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let read = texts::of_request(operation, envelope);
        let mut texts = read.texts;
        for named in self.input.clone() {
            if read.has_tokens && named.guard.is_closed() {
                return Err(Refusal::Forbidden(
                    "a guardrail looks through your requests: send text in place of token ids",
                ));
            }
            {
                let _place = queue.place(envelope.body().len()).await?;
                let counting = Counting::First;
                let inspected = self.inspect(&named, Side::Input, &mut texts, counting);
                inspected.await?;
            }
            if let Some(remote) = remote.filter(|_| named.guard.has_remote_checks()) {
                self.ask(&named, Side::Input, &mut texts, remote).await?;
            }
        }
        Ok(texts::spliced(envelope.body(), &texts, &[]))
    }

    /// Whether any of its checks asks somebody else.
    pub(crate) fn asks(&self) -> bool {
        self.asks_of(Side::Input) || self.asks_of(Side::Output)
    }

    /// Whether any of its checks asks somebody else about this side.
    pub(crate) fn asks_of(&self, side: Side) -> bool {
        let guards = match side {
            Side::Input => &self.input,
            Side::Output => &self.output,
        };
        guards.iter().any(|named| named.guard.has_remote_checks())
    }

    /// Asks with every guardrail that does.
    async fn ask_all(
        &mut self,
        side: Side,
        texts: &mut [Text<'_>],
        remote: &impl Remote,
    ) -> Result<(), Refusal> {
        let guards = match side {
            Side::Input => self.input.clone(),
            Side::Output => self.output.clone(),
        };
        for named in guards {
            if named.guard.has_remote_checks() {
                self.ask(&named, side, texts, remote).await?;
            }
        }
        Ok(())
    }

    /// Counts what was found, and logs what could not be asked.
    fn note(&mut self, named: &Named, inspection: &RemoteInspection) {
        for (check, failure) in &inspection.failed {
            tracing::warn!(guardrail = %named.name, %check, %failure, "a guardrail's check could not be made");
        }
        for (_, finding) in &inspection.found {
            self.noted.add(finding);
        }
    }

    async fn ask(
        &mut self,
        named: &Named,
        side: Side,
        texts: &mut [Text<'_>],
        remote: &impl Remote,
    ) -> Result<(), Refusal> {
        let shown: Vec<&str> = texts.iter().map(|text| &*text.text).collect();
        let asked = named.guard.ask(side, &shown, &mut self.vault, remote);
        let inspection = asked.await;
        self.note(named, &inspection);
        for (place, rewritten) in inspection.rewritten {
            texts[place].replace(rewritten);
        }
        remote_verdict(named, side, inspection.verdict, &inspection.failed)
    }

    /// Looks through a whole answer in the client's dialect. Returns the body that goes on, if it
    /// is another.
    ///
    /// # Errors
    ///
    /// A guardrail refuses it, or cannot tell.
    pub(crate) async fn answer(
        &mut self,
        operation: Operation,
        body: &Bytes,
        remote: Option<&impl Remote>,
        queue: &Queue<'_>,
    ) -> Result<Option<Bytes>, Refusal> {
        if !self.changes_answers() {
            return Ok(None);
        }
        let (mut texts, probabilities) = texts::of_answer(operation, body);
        {
            let _place = queue.place(body.len()).await?;
            self.inspect_answer(&mut texts, Counting::First).await?;
        }
        if let Some(remote) = remote {
            self.ask_all(Side::Output, &mut texts, remote).await?;
        }
        self.restore(&mut texts);
        // The probabilities of tokens tell the tokens.
        let probabilities = match self.output.is_empty() {
            true => Vec::new(),
            false => probabilities,
        };
        Ok(texts::spliced(body, &texts, &probabilities))
    }

    /// What of the request would come back in the answer: placeholder, original.
    pub(crate) fn originals(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vault.originals()
    }

    /// Whether anything of the request would come back in the answer.
    pub(crate) fn restores(&self) -> bool {
        self.vault.restores()
    }

    /// Whether an answer may come out as another, or not at all.
    pub(crate) fn changes_answers(&self) -> bool {
        !self.output.is_empty() || self.vault.restores()
    }

    async fn inspect_answer(
        &mut self,
        texts: &mut [Text<'_>],
        counting: Counting,
    ) -> Result<(), Blocked> {
        for named in self.output.clone() {
            self.inspect(&named, Side::Output, texts, counting).await?;
        }
        Ok(())
    }

    /// Puts originals back where placeholders stand for them.
    fn restore(&self, texts: &mut [Text<'_>]) {
        if self.vault.restores() {
            for text in texts {
                let mut restored = String::with_capacity(text.text.len());
                let mut restorer = restorer_for(text.part);
                restorer.push(&self.vault, &text.text, &mut restored);
                restorer.finish(&mut restored);
                if restored != *text.text {
                    text.replace(restored);
                }
            }
        }
    }

    async fn inspect(
        &mut self,
        named: &Named,
        side: Side,
        texts: &mut [Text<'_>],
        counting: Counting,
    ) -> Result<(), Blocked> {
        let is_whole = |text: &Text<'_>| text.part == Part::Said && counting == Counting::First;
        let of = |wanted: bool| {
            let all = texts.iter().enumerate();
            all.filter(move |(_, text)| is_whole(text) == wanted)
                .map(|(place, text)| (place, &*text.text))
        };
        // What is said may have to have a shape; arguments and thoughts never do.
        let inspected = named.guard.inspect(side, of(true), &mut self.vault);
        let mut inspection = inspected.await;
        if inspection.verdict == Verdict::Pass {
            let aside = named
                .guard
                .inspect_aside(side, of(false), &mut self.vault)
                .await;
            inspection.found.extend(aside.found);
            inspection.verdict = aside.verdict;
        }
        for found in inspection.found {
            if counting == Counting::First {
                for finding in found.findings.list() {
                    self.noted.add(finding);
                }
            }
            if let Some(rewritten) = found.rewritten {
                texts[found.location].replace(rewritten);
            }
        }
        verdict(named, side, inspection.verdict)
    }
}

/// Inside JSON that is a string itself, what comes back is escaped as there.
fn restorer_for(part: Part) -> Restorer {
    match part {
        Part::Arguments => Restorer::into_json(),
        Part::Said | Part::Aside => Restorer::new(),
    }
}

/// What ends a call because nobody could be asked says so: where time or money is what is missing,
/// the client learns that.
fn remote_verdict(
    named: &Named,
    side: Side,
    said: Verdict,
    failed: &[(Name, RemoteFailure)],
) -> Result<(), Refusal> {
    let Verdict::Block { by } = &said else {
        return Ok(());
    };
    match failed.iter().find(|(check, _)| check == by) {
        Some((_, RemoteFailure::Refused(refusal))) if refusal.is_about_room() => {
            Err(refusal.clone())
        }
        Some((check, _)) => Err(Refusal::CheckFailed {
            guardrail: named.name.clone(),
            check: check.clone(),
        }),
        None => Ok(verdict(named, side, said)?),
    }
}

fn verdict(named: &Named, side: Side, verdict: Verdict) -> Result<(), Blocked> {
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Block { by } => Err(Blocked {
            guardrail: named.name.clone(),
            check: by,
            side,
        }),
    }
}
