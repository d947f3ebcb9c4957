//! The tokens of JSON, each checked to the letter of RFC 8259, without a copy.

use crate::scan::BodyError;

/// A place in a JSON text. Every method either consumes one whole valid token or fails.
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What stands between the quotes of a valid string.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    /// Offset of the first byte after the opening quote.
    pub(crate) start: usize,
    /// The bytes as written, escapes and all.
    pub(crate) written: &'a [u8],
    /// Whether `written` has escapes, so that it is not yet the text it means.
    pub(crate) escaped: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The bytes between two offsets that an earlier token reported.
    pub(crate) fn slice(&self, start: u32, end: u32) -> &'a [u8] {
        &self.bytes[start as usize..end as usize]
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Consumes `byte` if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    pub(crate) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), BodyError> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(self.syntax(expected))
        }
    }

    pub(crate) fn literal(&mut self, word: &'static [u8]) -> Result<(), BodyError> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.syntax("a value"))
        }
    }

    /// Consumes a string, from its opening quote on. UTF-8 is checked here, and only where there
    /// is something beside ASCII: outside strings the grammar admits ASCII alone.
    pub(crate) fn string(&mut self, expected: &'static str) -> Result<Text<'a>, BodyError> {
        self.expect(b'"', expected)?;
        let start = self.at;
        let mut escaped = false;
        let mut ascii = true;
        loop {
            let run = plain_run(&self.bytes[self.at..]);
            self.at += run.length;
            ascii &= run.ascii;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.syntax("no unescaped control character in a string")),
                None => return Err(self.syntax("the closing quote of a string")),
            }
        }
        let written = &self.bytes[start..self.at];
        self.at += 1;
        if !ascii && let Err(error) = std::str::from_utf8(written) {
            let offset = start + error.valid_up_to();
            return Err(BodyError::NotUtf8 { offset });
        }
        Ok(Text {
            start,
            written,
            escaped,
        })
    }

    /// Consumes one escape, from its backslash on; a surrogate only with its other half.
    fn escape(&mut self) -> Result<(), BodyError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                return Ok(());
            }
            Some(b'u') => {}
            _ => return Err(self.syntax("a valid escape after the backslash")),
        }
        let length = match self.hex(self.at + 2) {
            Some(0xD800..=0xDBFF) => {
                let second = self.bytes.get(self.at + 6..self.at + 8) == Some(br"\u");
                let low = self.hex(self.at + 8);
                if !second || !matches!(low, Some(0xDC00..=0xDFFF)) {
                    return Err(self.syntax("both halves of a surrogate pair"));
                }
                12
            }
            Some(0xDC00..=0xDFFF) => {
                return Err(self.syntax("the first half of a surrogate pair before the second"));
            }
            Some(_) => 6,
            None => return Err(self.syntax("four hexadecimal digits after \\u")),
        };
        self.at += length;
        Ok(())
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 4)?;
        digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        })
    }

    /// Consumes a number. One that no 64-bit float can hold is refused: an engine would read it
    /// as infinity.
    pub(crate) fn number(&mut self) -> Result<(), BodyError> {
        /// Shorter integers and fractions are below the largest float, 1.8 × 10³⁰⁸.
        const CERTAINLY_FINITE_BYTES: usize = 300;

        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        let exponent = self.eat(b'e') || self.eat(b'E');
        if exponent {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        if exponent || self.at - start > CERTAINLY_FINITE_BYTES {
            let finite = std::str::from_utf8(&self.bytes[start..self.at])
                .is_ok_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite));
            if !finite {
                return Err(BodyError::Syntax {
                    offset: start,
                    expected: "a number that fits a 64-bit float",
                });
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), BodyError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.syntax("a digit"));
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn syntax(&self, expected: &'static str) -> BodyError {
        BodyError::Syntax {
            offset: self.at,
            expected,
        }
    }
}

/// The bytes up to the next quote, backslash or control character.
struct PlainRun {
    length: usize,
    /// False if there may be something else than ASCII in the run.
    ascii: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = ONES << 7;

/// Finds the end of the plain bytes: by words of eight at first, since most strings are keys and
/// roles, then by blocks that the compiler turns into vector instructions, since nearly all bytes
/// are in long prompts.
fn plain_run(bytes: &[u8]) -> PlainRun {
    /// 32: where the set-up of the block loop has paid for itself.
    const SHORT_BYTES: usize = 32;

    let short = &bytes[..bytes.len().min(SHORT_BYTES)];
    let mut run = plain_words(short);
    if run.length < SHORT_BYTES {
        return run;
    }
    let (blocks, _) = bytes[SHORT_BYTES..].as_chunks::<32>();
    for block in blocks {
        let mut stop = false;
        let mut bits = 0;
        for byte in block {
            stop |= (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20);
            bits |= byte;
        }
        if stop {
            break;
        }
        run.ascii &= bits < 0x80;
        run.length += 32;
    }
    let rest = plain_words(&bytes[run.length..]);
    PlainRun {
        length: run.length + rest.length,
        ascii: run.ascii & rest.ascii,
    }
}

fn plain_words(bytes: &[u8]) -> PlainRun {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut bits = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        bits |= word;
        let stops = zero_bytes(word ^ (ONES * u64::from(b'"')))
            | zero_bytes(word ^ (ONES * u64::from(b'\\')))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS);
        if stops != 0 {
            return PlainRun {
                // The lowest flag of such a mask is exact; a borrow can only spoil those above.
                length: index * 8 + stops.trailing_zeros() as usize / 8,
                ascii: bits & HIGH_BITS == 0,
            };
        }
    }
    let mut length = words.len() * 8;
    for byte in tail {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        bits |= u64::from(*byte);
        length += 1;
    }
    PlainRun {
        length,
        ascii: bits & HIGH_BITS == 0,
    }
}

fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_run_ends_where_a_byte_wise_search_ends(
            mut bytes in prop::collection::vec(0x20u8..=0xff, 0..200),
            stops in prop::collection::vec((0usize..200, prop::sample::select(b"\"\\\n\0\x1f".as_slice())), 0..3),
        ) {
            bytes.iter_mut().filter(|byte| b"\"\\".contains(byte)).for_each(|byte| *byte = b'x');
            for (index, stop) in stops {
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = stop;
                }
            }
            let end = bytes
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
                .unwrap_or(bytes.len());
            let run = plain_run(&bytes);
            prop_assert_eq!(run.length, end);
            prop_assert!(!run.ascii || bytes[..end].is_ascii());
        }
    }

    #[test]
    fn ascii_is_seen_as_such() {
        assert!(plain_run(&[b'a'; 300]).ascii);
    }
}
