//! A text that may go on: looking past what is there is noticed.

use std::cell::Cell;

/// Bytes of a text. A look beyond the last one is remembered, unless it is the end: whatever was
/// decided with it may turn out otherwise once there is more.
pub(in crate::guard) struct View<'t> {
    bytes: &'t [u8],
    is_end: bool,
    touched: Cell<bool>,
}

impl<'t> View<'t> {
    pub(in crate::guard) fn new(bytes: &'t [u8], is_end: bool) -> Self {
        Self {
            bytes,
            is_end,
            touched: Cell::new(false),
        }
    }

    /// The byte at `place`; NUL beyond the end.
    pub(super) fn at(&self, place: usize) -> u8 {
        self.bytes.get(place).copied().unwrap_or_else(|| {
            self.touched.set(!self.is_end);
            0
        })
    }

    /// The byte before `place`; NUL before the first.
    pub(super) fn before(&self, place: usize) -> u8 {
        if place == 0 { 0 } else { self.bytes[place - 1] }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes from `start` to `end`, which have been looked at.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'t [u8] {
        &self.bytes[start..end]
    }

    /// Forgets earlier looks beyond the end.
    pub(super) fn begin(&self) {
        self.touched.set(false);
    }

    /// Whether there was a look beyond the end.
    pub(super) fn is_touched(&self) -> bool {
        self.touched.get()
    }

    /// Where the run of bytes that are `wanted` ends, at most `most` after `start`.
    pub(super) fn run(&self, start: usize, most: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let mut end = start;
        while end - start < most && wanted(self.at(end)) && end < self.len() {
            end += 1;
        }
        end
    }

    /// Whether the text has `word` at `start`, whatever its case; `word` is in lower case.
    pub(super) fn has(&self, start: usize, word: &[u8]) -> bool {
        word.iter()
            .enumerate()
            .all(|(place, byte)| self.at(start + place).to_ascii_lowercase() == *byte)
    }

    /// Whether the text has exactly `word` at `start`.
    pub(super) fn has_exactly(&self, start: usize, word: &[u8]) -> bool {
        word.iter()
            .enumerate()
            .all(|(place, byte)| self.at(start + place) == *byte)
    }
}

/// 64 bytes: "my social security number, in case you need it, is" has 51. The scanner keeps as
/// many before what it still looks at.
pub(in crate::guard) const CONTEXT_BYTES: usize = 64;

/// Whether a byte is part of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether an identifier can begin at `start`: not inside a word or a number.
pub(super) fn starts_here(view: &View<'_>, start: usize) -> bool {
    let one = view.before(start);
    if is_word(one) {
        return false;
    }
    let joins = matches!(one, b'-' | b'.' | b'/' | b',');
    !(joins && start >= 2 && view.before(start - 1).is_ascii_digit())
}

/// Whether an identifier can end before `end`: not inside a word or a number.
pub(super) fn ends_here(view: &View<'_>, end: usize) -> bool {
    let one = view.at(end);
    if is_word(one) {
        return false;
    }
    let joins = matches!(one, b'-' | b'.' | b'/' | b',');
    !(joins && view.at(end + 1).is_ascii_digit())
}
