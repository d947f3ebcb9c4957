//! What of a call's bodies is kept for people to look at: redacted and bounded, whatever is in them.
//!
//! [`Redactor`] rewrites a body; [`streamed`] makes one of what was streamed. Nothing here does I/O,
//! and nothing of it is on the way of a call.

mod flat;
mod streamed;

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base::{ModelName, Name};
use tenancy::Guardrails;
use tenancy::catalogue::{
    Check, CheckSpec, GuardAction, GuardrailSpec, LooksAt, OnFailure, PiiSpec,
};
use zeroize::Zeroizing;

use crate::guard::{Guard, InvalidGuardrail, Side, Vault, Verdict};
use flat::Flat;

pub(crate) use streamed::{STREAM_BYTES_MAX, whole_of_stream};

/// 64 KiB of each body: what somebody reads, and a long conversation's beginning.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;

/// Takes out of bodies whatever nobody is to find there: all personal data and secrets that are known
/// by their form, and all that the tenant's own guardrails look for in texts, whatever they do about
/// it in calls.
#[derive(Debug)]
pub(crate) struct Redactor(Vec<Guard>);

/// What a body has become.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Redacted {
    /// JSON.
    pub(crate) json: Vec<u8>,
    /// Whether it goes on beyond what is kept.
    pub(crate) is_cut: bool,
}

/// What a guardrail has taken out of a call and given back to its client in the answer, with what
/// stood for it meanwhile.
#[derive(Default)]
pub(crate) struct Hidden(Vec<(Zeroizing<String>, String)>);

/// One call's bodies are redacted alike: the same text has the same placeholder in both.
pub(crate) struct Redaction<'r> {
    redactor: &'r Redactor,
    feature: &'r Name,
    model: &'r ModelName,
    hidden: Option<(AhoCorasick, &'r Hidden)>,
    vault: Vault,
}

impl Redactor {
    /// What is taken out for a tenant with these guardrails.
    ///
    /// # Errors
    ///
    /// A guardrail that cannot be used so: then nothing of the tenant's may be kept.
    pub(crate) fn compile(guardrails: Option<&Guardrails>) -> Result<Self, InvalidGuardrail> {
        let mut guards = vec![Guard::compile(&always())?];
        for spec in guardrails.into_iter().flat_map(|all| all.values()) {
            if let Some(spec) = redacting(spec) {
                guards.push(Guard::compile(&spec)?);
            }
        }
        Ok(Self(guards))
    }

    /// For the bodies of one call. None if what is hidden is too much to look for.
    pub(crate) fn of_call<'r>(
        &'r self,
        feature: &'r Name,
        model: &'r ModelName,
        hidden: &'r Hidden,
    ) -> Option<Redaction<'r>> {
        let hidden = match hidden.0.is_empty() {
            true => None,
            false => {
                let originals = hidden.0.iter().map(|(original, _)| original.as_bytes());
                let found = AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(originals);
                Some((found.ok()?, hidden))
            }
        };
        Some(Redaction {
            redactor: self,
            feature,
            model,
            hidden,
            vault: Vault::new(),
        })
    }
}

impl Hidden {
    /// Notes an original and what stood for it, also as it stands inside a string of JSON.
    pub(crate) fn add(&mut self, original: &str, placeholder: &str) {
        let escaped = Zeroizing::new(serde_json::Value::from(original).to_string());
        let inner = &escaped[1..escaped.len() - 1];
        if inner != original {
            let inner = Zeroizing::new(inner.to_owned());
            self.0.push((inner, placeholder.to_owned()));
        }
        let original = Zeroizing::new(original.to_owned());
        self.0.push((original, placeholder.to_owned()));
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hidden({})", self.0.len())
    }
}

impl Redaction<'_> {
    /// The body with everything taken out. None if that cannot be told.
    pub(crate) async fn redact(&mut self, body: &[u8]) -> Option<Redacted> {
        let mut flat = Flat::read(body, BODY_BYTES_MAX);
        if let Some((found, hidden)) = &self.hidden {
            let placeholders: Vec<_> = hidden.0.iter().map(|(_, instead)| instead).collect();
            for (place, text) in flat.texts() {
                if found.is_match(&text) {
                    flat.replace(place, found.replace_all(&text, &placeholders));
                }
            }
        }
        for guard in &self.redactor.0 {
            if !guard.applies_to(Side::Input, Some(self.feature), self.model) {
                continue;
            }
            let texts = flat.texts();
            let looked = texts.iter().map(|(place, text)| (*place, &**text));
            let inspected = guard.inspect_aside(Side::Input, looked, &mut self.vault);
            let inspection = inspected.await;
            if inspection.verdict != Verdict::Pass {
                return None;
            }
            for found in inspection.found {
                if let Some(rewritten) = found.rewritten {
                    flat.replace(found.location, rewritten);
                }
            }
        }
        let (json, is_cut) = flat.write();
        Some(Redacted { json, is_cut })
    }
}

/// Everything that is known by its form: cards and secrets above all.
fn always() -> GuardrailSpec {
    GuardrailSpec {
        description: String::new(),
        looks_at: LooksAt::Both,
        checks: vec![CheckSpec {
            name: "personal-data".parse().expect("the constant is a name"),
            action: GuardAction::Redact,
            check: Check::Pii(PiiSpec::default()),
            restore: false,
        }],
        on_failure: OnFailure::Closed,
        features: Vec::new(),
        models: Vec::new(),
    }
}

/// The same guardrail where all that it finds in texts is taken out for good. None if it finds
/// nothing there: a model or a service that it asks is not asked again.
fn redacting(spec: &Arc<GuardrailSpec>) -> Option<GuardrailSpec> {
    let local = spec.checks.iter();
    let local = local.filter(|check| check.check.has_spans() && !check.check.is_remote());
    let checks: Vec<_> = local
        .map(|check| CheckSpec {
            action: GuardAction::Redact,
            restore: false,
            ..check.clone()
        })
        .collect();
    (!checks.is_empty()).then(|| GuardrailSpec {
        looks_at: LooksAt::Both,
        checks,
        on_failure: OnFailure::Closed,
        ..(**spec).clone()
    })
}

#[cfg(test)]
mod tests;
