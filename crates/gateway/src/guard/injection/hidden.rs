//! What is hidden in a text: invisible characters in a row, and sentences in base64 or hexadecimal.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memchr3;

use super::super::scanner::Window;
use super::{Depth, Signal, inner_score};

/// Kinds of signals; phrases and patterns have the numbers below.
const TAGS: u16 = 60_000;
const ZERO_WIDTH: u16 = 60_001;
const OVERRIDE: u16 = 60_002;
const ENCODED_TEXT: u16 = 60_003;
const ENCODED_ORDER: u16 = 60_004;

/// 8 in a row: an English flag has six tags, and no script needs more joiners than one.
const RUN_MIN: u32 = 8;
/// 32 characters of base64 are 24 bytes: a sentence. 1,024 are read of a longer run.
const ENCODED_MIN: usize = 32;
const ENCODED_MAX: usize = 1_024;

/// A row of characters of one kind.
#[derive(Default)]
struct Row {
    kind: u16,
    count: u32,
    start: usize,
    end: usize,
}

/// How far the text has been read.
#[derive(Default)]
pub(super) struct HiddenReading {
    encoded_cursor: usize,
    invisible_cursor: usize,
    row: Row,
}

impl HiddenReading {
    /// Reads on. Returns up to where nothing more can come.
    pub(super) fn read(
        &mut self,
        window: &Window,
        depth: Depth,
        signals: &mut Vec<Signal>,
    ) -> usize {
        let invisible = self.read_invisible(window, signals);
        match depth {
            Depth::Outer => invisible.min(self.read_encoded(window, signals)),
            Depth::Inner => invisible,
        }
    }

    fn read_invisible(&mut self, window: &Window, signals: &mut Vec<Signal>) -> usize {
        let text = window.raw();
        let mut at = self.invisible_cursor.max(window.base()) - window.base();
        // All of them begin with one of three bytes.
        while let Some(found) = memchr3(0xe2, 0xef, 0xf3, &text.as_bytes()[at..]) {
            let place = at + found;
            let character = text[place..]
                .chars()
                .next()
                .expect("a character begins here");
            at = place + character.len_utf8();
            let start = window.base() + place;
            let kind = match u32::from(character) {
                0xe_0000..=0xe_01ef => TAGS,
                0x200b..=0x200f | 0x2060..=0x2064 | 0xfeff => ZERO_WIDTH,
                0x202d | 0x202e => {
                    signals.push(signal(OVERRIDE, start, window.base() + at));
                    continue;
                }
                _ => continue,
            };
            if self.row.kind == kind && self.row.end == start {
                self.row.count += 1;
            } else {
                self.row = Row {
                    kind,
                    count: 1,
                    start,
                    end: 0,
                };
            }
            self.row.end = window.base() + at;
            if self.row.count == RUN_MIN {
                signals.push(signal(kind, self.row.start, self.row.end));
            }
        }
        self.invisible_cursor = window.end();
        let may_go_on = self.row.end == window.end() && (1..RUN_MIN).contains(&self.row.count);
        if may_go_on {
            self.row.start
        } else {
            window.end()
        }
    }

    fn read_encoded(&mut self, window: &Window, signals: &mut Vec<Signal>) -> usize {
        let bytes = window.raw().as_bytes();
        let mut at = self.encoded_cursor.max(window.base()) - window.base();
        while at < bytes.len() {
            let is_inside = at > 0 && is_encoded(bytes[at - 1]);
            if is_inside || !is_encoded(bytes[at]) {
                at += 1;
                continue;
            }
            let rest = &bytes[at..bytes.len().min(at + ENCODED_MAX)];
            let length = rest.iter().position(|byte| !is_encoded(*byte));
            if length.is_none() && rest.len() < ENCODED_MAX && !window.is_end() {
                self.encoded_cursor = window.base() + at;
                return self.encoded_cursor;
            }
            let length = length.unwrap_or(rest.len());
            if length >= ENCODED_MIN
                && let Some(text) = decode(&rest[..length])
            {
                let kind = if inner_score(&text) > 0 {
                    ENCODED_ORDER
                } else {
                    ENCODED_TEXT
                };
                let start = window.base() + at;
                signals.push(signal(kind, start, start + length));
            }
            at += length;
        }
        self.encoded_cursor = window.end();
        window.end()
    }
}

fn signal(kind: u16, start: usize, end: usize) -> Signal {
    let weight = match kind {
        TAGS | ENCODED_ORDER => 80,
        ZERO_WIDTH => 40,
        ENCODED_TEXT => 30,
        _ => 25,
    };
    Signal {
        start,
        end,
        kind,
        weight,
    }
}

fn is_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// The sentence that is encoded here, in hexadecimal or in either alphabet of base64.
fn decode(encoded: &[u8]) -> Option<String> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .ok()
            .filter(|text| is_sentence(text))
    };
    // A run that was cut short ends within a group of four.
    let whole = &encoded[..encoded.len() - usize::from(encoded.len() % 4 == 1)];
    from_hex(encoded)
        .and_then(text)
        .or_else(|| STANDARD.decode(whole).ok().and_then(text))
        .or_else(|| URL_SAFE.decode(whole).ok().and_then(text))
}

fn from_hex(encoded: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|one| u8::try_from(one).ok())
    };
    encoded
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(value(*high)? << 4 | value(*low)?),
            _ => None,
        })
        .collect()
}

/// Words with spaces between them, and nothing that cannot be printed.
fn is_sentence(text: &str) -> bool {
    let spaces = text.chars().filter(|one| *one == ' ').count();
    spaces >= 2
        && !text
            .chars()
            .any(|one| one.is_control() && one != '\n' && one != '\t')
}
