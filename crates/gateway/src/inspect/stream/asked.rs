//! What of a streamed text is held back until the checks that ask somebody have answered.
//!
//! A text is asked about in pieces, the first small and each twice as long up to a bound, so that an
//! answer begins soon and a long one is not asked about at every word. A piece is shown with the end
//! of what came before it, so that what stands across two pieces is seen whole, if it is short;
//! what was released before stays released.

use ring::digest::{Context, SHA256};

use super::super::{Inspector, Named, remote_verdict};
use super::{Reached, StreamEnd};
use crate::guard::{Remote, Side};

/// 256 bytes: some fifty words, a second or two of a model's output.
const FIRST_BYTES: usize = 256;
/// 4 KiB: half a page; a reader waits for ten to twenty seconds' output at most.
const PIECE_BYTES_MAX: usize = 4 << 10;
/// 32 KiB of what came at once are asked about at once.
const TOGETHER_BYTES_MAX: usize = 32 << 10;
/// 512 bytes of what came before a piece: a few sentences.
const CONTEXT_BYTES: usize = 512;
/// 1 MiB of one text in which something was replaced: it may be repeated, and then is as it was.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// One text that others are asked about.
pub(super) struct Asked {
    guards: Vec<Named>,
    /// The end of what was asked about.
    context: String,
    held: String,
    /// From how many bytes on the next piece is asked about.
    due: usize,
    /// All that was asked about.
    said: Context,
    /// All that was released, as far as it is kept.
    released: String,
    is_cut: bool,
    /// Whether anything of it is not what was said.
    changed: bool,
}

impl Asked {
    /// By those of these guardrails that ask.
    pub(super) fn by(guards: &[Named]) -> Self {
        let asking = guards
            .iter()
            .filter(|named| named.guard.has_remote_checks());
        Self {
            guards: asking.cloned().collect(),
            context: String::new(),
            held: String::new(),
            due: FIRST_BYTES,
            said: Context::new(&SHA256),
            released: String::new(),
            is_cut: false,
            changed: false,
        }
    }

    /// Takes what the other checks let pass, and gives what may go on.
    pub(super) async fn take<R: Remote>(
        &mut self,
        inspector: &mut Inspector,
        remote: &R,
        passing: &str,
        reached: Reached,
    ) -> Result<String, StreamEnd> {
        self.held.push_str(passing);
        let mut out = String::new();
        while let Some(length) = self.next_piece(reached) {
            let rest = self.held.split_off(length);
            let piece = std::mem::replace(&mut self.held, rest);
            let released = self.ask(inspector, remote, &piece).await?;
            self.keep(&piece, &released)?;
            out.push_str(&released);
            self.due = (self.due * 2).min(PIECE_BYTES_MAX);
        }
        Ok(out)
    }

    /// The length of the piece that is asked about next, if one is due. It ends with a word, if it
    /// can.
    fn next_piece(&self, reached: Reached) -> Option<usize> {
        let length = self.held.len();
        match reached {
            Reached::End if length == 0 => return None,
            Reached::End if length <= TOGETHER_BYTES_MAX => return Some(length),
            Reached::Middle if length < self.due => return None,
            _ => {}
        }
        let most = self
            .held
            .floor_char_boundary(length.min(TOGETHER_BYTES_MAX));
        let second_half = self.held.floor_char_boundary(most / 2);
        let space = self.held[second_half..most]
            .char_indices()
            .rfind(|(_, one)| one.is_whitespace());
        Some(space.map_or(most, |(place, one)| second_half + place + one.len_utf8()))
    }

    async fn ask<R: Remote>(
        &mut self,
        inspector: &mut Inspector,
        remote: &R,
        piece: &str,
    ) -> Result<String, StreamEnd> {
        let from = self.context.len();
        let mut shown = std::mem::take(&mut self.context);
        shown.push_str(piece);
        for named in &self.guards {
            let vault = &mut inspector.vault;
            let texts = [shown.as_str()];
            let asked = named
                .guard
                .ask_from(Side::Output, &texts, from, vault, remote);
            let inspection = asked.await;
            inspector.note(named, &inspection);
            remote_verdict(named, Side::Output, inspection.verdict, &inspection.failed)?;
            if let Some((_, rewritten)) = inspection.rewritten.into_iter().next() {
                shown = rewritten;
            }
        }
        let start = shown.len().saturating_sub(CONTEXT_BYTES);
        self.context = shown[shown.ceil_char_boundary(start)..].to_owned();
        shown.drain(..from);
        Ok(shown)
    }

    /// Remembers what became of the text, for events that say it again.
    fn keep(&mut self, piece: &str, released: &str) -> Result<(), StreamEnd> {
        self.said.update(piece.as_bytes());
        self.changed |= piece != released;
        if self.released.len() + released.len() <= KEPT_BYTES_MAX {
            self.released.push_str(released);
        } else {
            self.is_cut = true;
        }
        // What was changed and is too long to be kept cannot be said again as it was.
        match self.changed && self.is_cut {
            true => Err(StreamEnd::Unreadable),
            false => Ok(()),
        }
    }

    /// What the text became, if it is this one: nothing but itself, or another.
    pub(super) fn became(&self, text: &str) -> Option<Became<'_>> {
        let of_text = ring::digest::digest(&SHA256, text.as_bytes());
        if self.said.clone().finish().as_ref() != of_text.as_ref() {
            return None;
        }
        Some(match self.changed {
            false => Became::Itself,
            true => Became::This(&self.released),
        })
    }
}

/// What became of a text that was asked about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Became<'a> {
    Itself,
    This(&'a str),
}
