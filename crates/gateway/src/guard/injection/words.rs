//! Patterns of words: each is a few sets of words that follow one another with little in between.

use memchr::memchr;

use super::super::fold::EDGE;
use super::super::scanner::Window;
use super::Signal;
use super::language::{Pattern, tables};

/// 64 bytes: what is longer is no word.
const WORD_BYTES_MAX: usize = 64;
/// 300 folded bytes from a pattern's first word to its last: what is held back of a stream.
const PATTERN_BYTES_MAX: usize = 300;
/// 64 patterns may have begun at one time; the oldest is given up for another.
const PARTIALS_MAX: usize = 64;

/// A pattern that has begun.
#[derive(Debug, Clone, Copy)]
struct Partial {
    pattern: usize,
    /// The set that is awaited.
    next: usize,
    words_left: u8,
    /// Where it began: in the folded text, and in the text.
    folded_start: usize,
    start: usize,
}

/// How far the words have been read.
#[derive(Default)]
pub(super) struct WordReading {
    cursor: usize,
    is_in_long_word: bool,
    partials: Vec<Partial>,
}

impl WordReading {
    /// Up to where the folded text is not needed any more.
    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// Reads all words that are complete. Returns up to where nothing more can come.
    pub(super) fn read(&mut self, window: &Window, signals: &mut Vec<Signal>) -> usize {
        let folded = window.folded();
        let bytes = folded.bytes();
        let base = folded.base();
        let mut open = window.end();
        loop {
            let rest = &bytes[self.cursor - base..];
            let opening = if self.is_in_long_word {
                Some(0)
            } else {
                memchr(EDGE, rest)
            };
            let Some(opening) = opening else {
                self.cursor = folded.end();
                break;
            };
            let first = opening + usize::from(!self.is_in_long_word);
            match memchr(EDGE, &rest[first..]) {
                Some(length) => {
                    let word = &rest[first..first + length];
                    let start = self.cursor + opening;
                    let end = self.cursor + first + length;
                    self.cursor = end + 1;
                    if !self.is_in_long_word && word.len() <= WORD_BYTES_MAX {
                        let raw = folded.start_of(start)..folded.end_of(end + 1);
                        self.word(word, start, raw, signals);
                    } else {
                        self.pass(end);
                    }
                    self.is_in_long_word = false;
                }
                None if rest.len() - first > WORD_BYTES_MAX => {
                    self.is_in_long_word = true;
                    self.cursor = folded.end();
                    break;
                }
                None => {
                    self.cursor += opening;
                    open = folded.start_of(self.cursor);
                    break;
                }
            }
        }
        let alive = self
            .partials
            .iter()
            .filter(|partial| folded.end() - partial.folded_start <= PATTERN_BYTES_MAX);
        alive.map(|partial| partial.start).fold(open, usize::min)
    }

    /// One more word, which begins at `at` in the folded text.
    fn word(
        &mut self,
        word: &[u8],
        at: usize,
        raw: std::ops::Range<usize>,
        signals: &mut Vec<Signal>,
    ) {
        self.pass(at + word.len());
        let sets = tables().sets_of(word);
        if sets == 0 {
            return;
        }
        let patterns = &tables().patterns;
        let is_in = |pattern: &Pattern, place: usize| sets & pattern.sets[place] != 0;
        for partial in &mut self.partials {
            let pattern = &patterns[partial.pattern];
            if partial.next < pattern.sets.len() && is_in(pattern, partial.next) {
                partial.next += 1;
                partial.words_left = pattern.gap + 1;
                if partial.next == pattern.sets.len() {
                    signals.push(Signal {
                        start: partial.start,
                        end: raw.end,
                        kind: pattern.kind,
                        weight: pattern.weight,
                    });
                }
            }
        }
        self.partials
            .retain(|partial| partial.next < patterns[partial.pattern].sets.len());
        for (place, pattern) in patterns.iter().enumerate() {
            if is_in(pattern, 0) {
                if self.partials.len() == PARTIALS_MAX {
                    self.partials.remove(0);
                }
                self.partials.push(Partial {
                    pattern: place,
                    next: 1,
                    words_left: pattern.gap + 1,
                    folded_start: at,
                    start: raw.start,
                });
            }
        }
    }

    /// A word that ends at `end` has gone by: what waited too long is given up.
    fn pass(&mut self, end: usize) {
        self.partials.retain_mut(|partial| {
            let is_late = partial.words_left == 0 || end - partial.folded_start > PATTERN_BYTES_MAX;
            partial.words_left = partial.words_left.saturating_sub(1);
            !is_late
        });
    }
}
