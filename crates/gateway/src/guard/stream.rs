//! Looking through an answer while it is made.

use std::sync::Arc;

use super::scanner::{Scanner, Step, Window};
use super::vault::Vault;
use super::verdict::Findings;
use super::{Guard, Side, blocks};

/// 4 MiB of an answer that is checked against a schema in the end: the longest answers of today's
/// models have half a MiB. It is kept beside the stream, which goes on.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What becomes of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It ends here: nothing more is released.
    Blocked,
}

/// Looks through one answer (one choice of one call) as its pieces arrive. What is released does
/// not depend on how the answer was cut into pieces. Only what may still become part of a finding
/// is held back: usually the last word, and never more than the longest thing that the guardrail
/// looks for (8 KiB for private keys and web tokens, below 400 bytes for everything else).
pub struct StreamGuard {
    guard: Arc<Guard>,
    scanner: Scanner,
    /// The answer, if a schema awaits it.
    answer: Option<String>,
    is_answer_too_long: bool,
    is_over: bool,
}

impl StreamGuard {
    /// A guard for one answer.
    pub fn new(guard: Arc<Guard>) -> Self {
        let looks = guard.looks_at(Side::Output);
        let has_schemas = looks && !guard.schemas.is_empty();
        Self {
            scanner: Scanner::new(&guard.local),
            answer: has_schemas.then(String::new),
            is_answer_too_long: false,
            is_over: false,
            guard,
        }
    }

    /// A guard for what is no answer by itself, thoughts or a tool's arguments: its shape is not
    /// checked.
    pub fn aside(guard: Arc<Guard>) -> Self {
        Self {
            answer: None,
            ..Self::new(guard)
        }
    }

    /// Takes the next piece and adds to `released` what may be sent now. What is redacted goes
    /// into `vault`.
    pub fn push(&mut self, piece: &str, vault: &mut Vault, released: &mut String) -> Flow {
        if !self.guard.looks_at(Side::Output) {
            released.push_str(piece);
            return Flow::Continue;
        }
        if let Some(answer) = &mut self.answer {
            if answer.len() + piece.len() <= ANSWER_BYTES_MAX {
                answer.push_str(piece);
            } else {
                self.is_answer_too_long = true;
            }
        }
        let guard = &*self.guard;
        let mut step = release(guard, vault, released);
        for block in blocks(piece) {
            self.scanner.push(&guard.local, block, &mut step);
        }
        self.flow()
    }

    /// The answer has ended: releases the rest, and checks its shape. A second call changes
    /// nothing.
    pub fn finish(&mut self, vault: &mut Vault, released: &mut String) -> Flow {
        if self.is_over || !self.guard.looks_at(Side::Output) {
            return self.flow();
        }
        self.is_over = true;
        let guard = &*self.guard;
        let mut step = release(guard, vault, released);
        self.scanner.finish(&guard.local, &mut step);
        if let Some(answer) = self.answer.take()
            && !self.scanner.is_blocked()
        {
            let answer = (!self.is_answer_too_long).then_some(&*answer);
            guard.check_schemas(answer, self.scanner.findings_mut());
        }
        self.flow()
    }

    /// What was found so far. Places are bytes of the answer as the model made it.
    pub fn findings(&self) -> &Findings {
        self.scanner.findings()
    }

    /// How many bytes are held back.
    pub fn held(&self) -> usize {
        self.scanner.held()
    }

    fn flow(&self) -> Flow {
        if self.scanner.findings().blocking().is_some() {
            Flow::Blocked
        } else {
            Flow::Continue
        }
    }
}

fn release<'r>(
    guard: &'r Guard,
    vault: &'r mut Vault,
    released: &'r mut String,
) -> impl FnMut(&Window, Step) + 'r {
    move |window, step| match step {
        Step::Keep(range) => released.push_str(window.slice(range)),
        Step::Replace {
            range,
            check,
            label,
        } => {
            let check = &guard.local[check];
            let original = window.slice(range);
            released.push_str(&check.placeholder(Side::Output, label, original, vault));
        }
    }
}
