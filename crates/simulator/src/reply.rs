//! One choice of an answer: what is thought, said and called, in this order.

use crate::text::{Bounds, Finish, Output, Script};
use crate::tokens::digest;

/// A choice's parts and how it came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// In the order in which they are made.
    pub(crate) parts: Vec<Output>,
    /// Why it ended.
    pub(crate) finish: Finish,
    /// What its ids follow from.
    pub(crate) seed: u64,
}

impl Reply {
    /// Writes `scripts`, all of them within `bounds`.
    pub(crate) fn write(scripts: Vec<Script>, bounds: &Bounds, seed: u64) -> Self {
        let mut reply = Self {
            parts: Vec::with_capacity(scripts.len()),
            finish: Finish::Stop,
            seed,
        };
        let last = scripts.len().saturating_sub(1);
        let mut left = bounds.limit;
        for (place, script) in scripts.into_iter().enumerate() {
            if left == Some(0) && place > 0 {
                reply.finish = Finish::Length;
                break;
            }
            let is_said = matches!(script, Script::Words(_) | Script::Text(_));
            let part_bounds = Bounds {
                limit: left,
                overrun_tokens: if place == last {
                    bounds.overrun_tokens
                } else {
                    0
                },
                stops: if is_said {
                    bounds.stops.clone()
                } else {
                    Vec::new()
                },
            };
            let part_seed = match place {
                0 => seed,
                place => digest(seed, &place.to_le_bytes()),
            };
            let part = Output::write(script, &part_bounds, part_seed);
            left = left.map(|left| left.saturating_sub(part.tokens));
            reply.finish = part.finish.clone();
            reply.parts.push(part);
            if matches!(reply.finish, Finish::Length | Finish::Sequence(_)) {
                break;
            }
        }
        reply
    }

    /// Tokens that were made.
    pub(crate) fn tokens(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.tokens)).sum()
    }

    /// Tokens of what was thought.
    pub(crate) fn thought_tokens(&self) -> u64 {
        let thoughts = self.parts.iter().filter(|part| part.is_thought());
        thoughts.map(|part| u64::from(part.tokens)).sum()
    }

    /// What is thought, in one text; `None` if nothing is.
    pub(crate) fn thought(&self) -> Option<&Output> {
        self.parts.iter().find(|part| part.is_thought())
    }

    /// What is said; `None` if nothing is.
    pub(crate) fn said(&self) -> Option<&Output> {
        self.parts.iter().find(|part| part.is_said())
    }

    /// The calls of tools, each with its place among the parts.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (usize, &Output)> {
        let parts = self.parts.iter().enumerate();
        parts.filter(|(_, part)| part.tool().is_some())
    }

    /// Which call a part is, counted among the calls alone.
    pub(crate) fn call_place(&self, part: usize) -> usize {
        let before = &self.parts[..part];
        before.iter().filter(|part| part.tool().is_some()).count()
    }
}
