//! JSON as a row of pieces: what has a meaning can be rewritten, and what there is too much of is left
//! out without leaving JSON.

use std::borrow::Cow;
use std::ops::Range;

use models::{Kind, Raw};

/// 100 levels, below the 128 that readers of JSON take: what is deeper is left out.
const DEPTH_MAX: u32 = 100;
/// 8 KiB: the longest secret.
const FINDING_BYTES_MAX: usize = 8 << 10;
/// So much beyond what is kept of a text is looked at too.
const OVERLAP_BYTES: usize = 2 * FINDING_BYTES_MAX;
/// Numbers of nine digits or more may be somebody's: a card has twelve.
const DIGITS_MAX: usize = 8;
/// Whatever is longer than 256 bytes and no text is told by its length.
const BINARY_BYTES_MAX: usize = 256;
/// Fields that hold bytes in base64.
const BINARY: [&str; 4] = ["data", "file_data", "b64_json", "encrypted_content"];
/// What the name of a secret ends with, in lower case without `_` and `-`.
const SECRETS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "accesstoken",
    "refreshtoken",
    "authorization",
];

/// A body, as it stands or as it has become.
pub(super) struct Flat<'b> {
    body: &'b [u8],
    pieces: Vec<Piece>,
    texts: Vec<Text>,
    is_cut: bool,
    /// Bytes that may still be kept.
    left: usize,
}

enum Piece {
    Fixed(&'static str),
    /// A literal or a short number, as written.
    Written(Range<usize>),
    Text(usize),
}

struct Text {
    text: String,
    /// So many bytes of it are kept.
    kept: usize,
    /// Whether it goes on beyond what is looked at: its end may be a part of something.
    is_open: bool,
    /// Where it stands, if it is a number there and stays one unless it is rewritten.
    number: Option<Range<usize>>,
}

impl Text {
    fn shown(&self) -> &str {
        let sure = match self.is_open {
            true => self.text.len().saturating_sub(FINDING_BYTES_MAX),
            false => self.text.len(),
        };
        &self.text[..self.text.floor_char_boundary(self.kept.min(sure))]
    }
}

impl<'b> Flat<'b> {
    /// Reads so many bytes of the body's texts, names and numbers, and what stands between them.
    pub(super) fn read(body: &'b [u8], bytes_max: usize) -> Self {
        let mut flat = Self {
            body,
            pieces: Vec::new(),
            texts: Vec::new(),
            is_cut: false,
            left: bytes_max,
        };
        flat.value(Raw::new(body), "", 0);
        flat
    }

    /// What may be rewritten, and where it goes.
    pub(super) fn texts(&self) -> Vec<(usize, String)> {
        let texts = self.texts.iter().enumerate();
        texts
            .map(|(place, text)| (place, text.text.clone()))
            .collect()
    }

    /// Puts another text in place of one.
    pub(super) fn replace(&mut self, place: usize, text: String) {
        self.texts[place].text = text;
        self.texts[place].number = None;
    }

    /// The JSON, and whether anything was left out.
    pub(super) fn write(self) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Fixed(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Written(place) => out.extend_from_slice(&self.body[place.clone()]),
                Piece::Text(index) => {
                    let text = &self.texts[*index];
                    match &text.number {
                        Some(place) => out.extend_from_slice(&self.body[place.clone()]),
                        None => {
                            serde_json::to_writer(&mut out, text.shown()).expect("a string is JSON")
                        }
                    }
                }
            }
        }
        (out, self.is_cut)
    }

    fn value(&mut self, value: Raw<'b>, key: &str, depth: u32) {
        match value.kind() {
            Some(Kind::String) => match value.as_str() {
                Some(text) => self.string(text, key),
                None => self.leave_out(),
            },
            Some(Kind::Array) if depth < DEPTH_MAX => {
                self.fixed("[");
                for (index, element) in value.elements().enumerate() {
                    if self.left == 0 {
                        self.is_cut = true;
                        break;
                    }
                    if index > 0 {
                        self.fixed(",");
                    }
                    self.value(element, key, depth + 1);
                }
                self.fixed("]");
            }
            Some(Kind::Object) if depth < DEPTH_MAX => self.object(value, depth),
            Some(Kind::Number) => self.number(value),
            Some(Kind::Bool | Kind::Null) => {
                let place = self.place(value);
                self.spend(place.len());
                self.pieces.push(Piece::Written(place));
            }
            Some(Kind::Array | Kind::Object) | None => self.leave_out(),
        }
    }

    fn object(&mut self, object: Raw<'b>, depth: u32) {
        self.fixed("{");
        for (index, (key, value)) in object.fields().enumerate() {
            if self.left == 0 {
                self.is_cut = true;
                break;
            }
            if index > 0 {
                self.fixed(",");
            }
            let key = key.decode();
            self.text(&key, None);
            self.fixed(":");
            self.value(value, &key, depth + 1);
        }
        self.fixed("}");
    }

    fn string(&mut self, text: Cow<'b, str>, key: &str) {
        let is_long = text.len() > BINARY_BYTES_MAX;
        if !text.is_empty() && names_secret(key) {
            return self.fixed("\"[SECRET]\"");
        }
        if is_long && (BINARY.contains(&key) || text.starts_with("data:")) {
            return self.text(&format!("[{} bytes]", text.len()), None);
        }
        self.text(&text, None);
    }

    fn number(&mut self, value: Raw<'b>) {
        let place = self.place(value);
        let digits = value.bytes().iter().filter(|byte| byte.is_ascii_digit());
        if digits.count() <= DIGITS_MAX {
            self.spend(place.len());
            return self.pieces.push(Piece::Written(place));
        }
        let text = String::from_utf8_lossy(value.bytes()).into_owned();
        self.text(&text, Some(place));
    }

    fn text(&mut self, text: &str, number: Option<Range<usize>>) {
        let kept = self.left.min(text.len());
        self.is_cut |= kept < text.len();
        let looked_at = text.floor_char_boundary(kept.saturating_add(OVERLAP_BYTES));
        // With its quotes.
        self.spend(kept + 2);
        self.pieces.push(Piece::Text(self.texts.len()));
        self.texts.push(Text {
            text: text[..looked_at].to_owned(),
            is_open: looked_at < text.len(),
            // What takes the place of a text may be longer.
            kept: match kept < text.len() {
                true => kept,
                false => usize::MAX,
            },
            number,
        });
    }

    fn leave_out(&mut self) {
        self.is_cut = true;
        self.fixed("null");
    }

    fn fixed(&mut self, text: &'static str) {
        self.spend(text.len());
        self.pieces.push(Piece::Fixed(text));
    }

    fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    fn place(&self, value: Raw<'b>) -> Range<usize> {
        let written = value.bytes();
        let start = written.as_ptr().addr() - self.body.as_ptr().addr();
        start..start + written.trim_ascii_end().len()
    }
}

/// Whether what has this name is a secret, whatever it looks like.
fn names_secret(key: &str) -> bool {
    let letters = key.chars().filter(|letter| !matches!(letter, '_' | '-'));
    let name: String = letters.flat_map(char::to_lowercase).take(64).collect();
    SECRETS.iter().any(|secret| name.ends_with(secret))
}
