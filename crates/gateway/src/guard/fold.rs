//! Text as deny lists and injection signals read it: lower case, one kind of space, look-alike
//! letters made equal, invisible characters left out, and a mark at each edge of a word.
//!
//! Folding is done character by character, so that a stream's folded text does not depend on how
//! it was cut. Each folded byte knows the bytes of the text that it stands for.

/// The mark at the edge of a word. A list's entries are folded too, so that finding
/// `mark ass mark` inside `grass` needs no check afterwards.
pub(super) const EDGE: u8 = 1;

/// 16: a run of white space or invisible characters counts as one space or nothing up to here, so
/// that what a match spans is bounded by its folded length.
const SKIPPED_MAX: u8 = 16;

/// What a character counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Word,
    /// A letter of a script that writes without spaces: every character is a word of its own, so
    /// that edges mean nothing.
    Ideograph,
    Space,
    Invisible,
    Other,
}

/// What a byte of ASCII that is part of a word folds to; zero for all others.
const WORD_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let one = byte as u8;
        if one.is_ascii_alphanumeric() || one == b'_' {
            bytes[byte] = one.to_ascii_lowercase();
        }
        byte += 1;
    }
    bytes
};

/// Folded text and where it comes from.
#[derive(Default)]
pub(super) struct Folded {
    bytes: Vec<u8>,
    /// For each byte: where its character begins in the text, and how many bytes it has there. An
    /// edge has none.
    origins: Vec<(usize, u8)>,
    /// How many folded bytes have been dropped before these.
    dropped: usize,
    skipped: u8,
    in_word: bool,
    after_space: bool,
    /// Where the last character that counts ended in the text.
    last_end: usize,
}

impl Folded {
    /// Adds text that begins at byte `at` of the whole.
    pub(super) fn push(&mut self, text: &str, at: usize) {
        // Edges are one byte in some three: room for them, too.
        let room = text.len() + text.len() / 2;
        self.bytes.reserve(room);
        self.origins.reserve(room);
        let bytes = text.as_bytes();
        let mut place = 0;
        while let Some(&byte) = bytes.get(place) {
            // Most of most texts: a letter or digit inside a word.
            let lower = WORD_BYTES[usize::from(byte)];
            if lower != 0 && self.in_word {
                self.skipped = 0;
                self.emit(lower, at + place, 1);
                place += 1;
                self.last_end = at + place;
                continue;
            }
            let character = text[place..]
                .chars()
                .next()
                .expect("a character begins here");
            self.add(character, at + place);
            place += character.len_utf8();
        }
    }

    /// Closes the last word: there is no more text.
    pub(super) fn finish(&mut self) {
        if self.in_word {
            self.emit(EDGE, self.last_end, 0);
            self.in_word = false;
        }
    }

    /// The folded bytes that are kept.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many folded bytes came before these.
    pub(super) fn base(&self) -> usize {
        self.dropped
    }

    /// How many folded bytes there were in all.
    pub(super) fn end(&self) -> usize {
        self.dropped + self.bytes.len()
    }

    /// Where in the text the folded byte at `at` (counted from the beginning) comes from.
    pub(super) fn start_of(&self, at: usize) -> usize {
        self.origins[at - self.dropped].0
    }

    /// Where in the text the folded byte before `end` ends.
    pub(super) fn end_of(&self, end: usize) -> usize {
        let (start, length) = self.origins[end - 1 - self.dropped];
        start + usize::from(length)
    }

    /// Drops what lies before the folded byte `at`.
    pub(super) fn drop_before(&mut self, at: usize) {
        let count = at.saturating_sub(self.dropped).min(self.bytes.len());
        // Moving what is kept costs as much as it is long: wait until half can go.
        if count > self.bytes.len() / 2 {
            self.bytes.drain(..count);
            self.origins.drain(..count);
            self.dropped += count;
        }
    }

    fn emit(&mut self, byte: u8, start: usize, length: u8) {
        self.bytes.push(byte);
        self.origins.push((start, length));
    }

    fn add(&mut self, character: char, start: usize) {
        let length = character.len_utf8();
        let (folded, class) = fold(character);
        match class {
            Class::Invisible | Class::Space if self.skipped >= SKIPPED_MAX => {
                self.skipped = 0;
                self.edge(false, start);
                self.put(char::REPLACEMENT_CHARACTER, start, length);
                self.after_space = false;
            }
            Class::Invisible => {
                self.skipped += 1;
                return;
            }
            Class::Space => {
                self.skipped += 1;
                self.edge(false, start);
                if !self.after_space {
                    self.put(' ', start, length);
                    self.after_space = true;
                }
            }
            Class::Word | Class::Ideograph | Class::Other => {
                self.skipped = 0;
                self.after_space = false;
                self.edge(class == Class::Word, start);
                if folded == character && character.is_uppercase() {
                    for lower in character.to_lowercase() {
                        self.put(lower, start, length);
                    }
                } else {
                    self.put(folded, start, length);
                }
            }
        }
        self.last_end = start + length;
    }

    /// Marks the edge if a word begins at `start` or has ended before it.
    fn edge(&mut self, is_word: bool, start: usize) {
        if is_word != self.in_word {
            let at = if is_word { start } else { self.last_end };
            self.emit(EDGE, at, 0);
            self.in_word = is_word;
        }
    }

    fn put(&mut self, character: char, start: usize, length: usize) {
        let length = u8::try_from(length).expect("a character has four bytes at most");
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            self.emit(byte, start, length);
        }
    }
}

/// The folded form of an entry of a list.
pub(super) fn fold_entry(text: &str) -> Vec<u8> {
    let mut folded = Folded::default();
    folded.push(text.trim(), 0);
    folded.finish();
    folded.bytes
}

fn fold(character: char) -> (char, Class) {
    if character.is_ascii() {
        let class = match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => Class::Word,
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => Class::Space,
            // The mark is ours alone.
            '\x01' => return (char::REPLACEMENT_CHARACTER, Class::Other),
            _ => Class::Other,
        };
        return (character.to_ascii_lowercase(), class);
    }
    fold_wide(character)
}

/// What is not ASCII. Look-alikes are folded in lists and in texts alike, so that a list in
/// Russian still finds Russian.
fn fold_wide(character: char) -> (char, Class) {
    let code = u32::from(character);
    match code {
        // Soft hyphen, combining marks, zero-width and directional characters, variation
        // selectors, tags.
        0xad
        | 0x300..=0x36f
        | 0x180e
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x206f
        | 0xfe00..=0xfe0f
        | 0xfeff
        | 0xe_0000..=0xe_01ef => return (character, Class::Invisible),
        // Full-width forms of ASCII.
        0xff01..=0xff5e => {
            let narrow = char::from_u32(code - 0xfee0).expect("it is in ASCII");
            return fold(narrow);
        }
        // Mathematical letters: 26 capitals and 26 small ones, thirteen times; then digits.
        0x1_d400..=0x1_d6a3 => {
            let place = u8::try_from((code - 0x1_d400) % 26).expect("below 26");
            return (char::from(b'a' + place), Class::Word);
        }
        0x1_d7ce..=0x1_d7ff => {
            let place = u8::try_from((code - 0x1_d7ce) % 10).expect("below 10");
            return (char::from(b'0' + place), Class::Word);
        }
        // Thai, Lao, Burmese, Khmer, kana, CJK; and Hangul, whose words grow endings.
        0xe00..=0xeff
        | 0x1000..=0x109f
        | 0x1780..=0x17ff
        | 0x3040..=0x30ff
        | 0x1100..=0x11ff
        | 0x3130..=0x318f
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xac00..=0xd7af
        | 0xf900..=0xfaff
        | 0x2_0000..=0x3_ffff => return (character, Class::Ideograph),
        _ => {}
    }
    if character.is_whitespace() {
        return (' ', Class::Space);
    }
    if !character.is_alphanumeric() {
        return (character, Class::Other);
    }
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => (look_alike(one), Class::Word),
        // One becomes several (İ): `add` writes them all.
        _ => (character, Class::Word),
    }
}

/// Cyrillic and Greek letters that are drawn as Latin ones are.
fn look_alike(lower: char) -> char {
    match lower {
        'а' | 'α' => 'a',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' => 'e',
        'һ' => 'h',
        'і' | 'ι' => 'i',
        'ј' => 'j',
        'ӏ' => 'l',
        'о' | 'ο' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'υ' => 'u',
        'ν' => 'v',
        'х' => 'x',
        'у' => 'y',
        'ς' => 'σ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(fold_entry(text))
            .unwrap()
            .replace('\x01', "|")
    }

    #[test]
    fn text_is_folded() {
        let table = [
            ("Hello  World", "|hello| |world|"),
            ("C++\tcode", "|c|++ |code|"),
            ("i\u{200b}gn\u{ad}ore", "|ignore|"),
            ("ｉｇｎｏｒｅ", "|ignore|"),
            ("𝐢𝐠𝐧𝐨𝐫𝐞 𝟏", "|ignore| |1|"),
            ("іgnоrе", "|ignore|"),
            ("ПРИВЕТ", "|пpивet|".replace('t', "т").as_str()),
            ("ΣΊΣΥΦΟΣ", "|σίσuφoσ|"),
            ("İ", "|i̇|"),
            ("密码abc", "密码|abc|"),
            ("[CARD_1]", "[|card_1|]"),
            ("z\u{327}\u{301}o", "|zo|"),
            ("a\x01b", "|a|\u{fffd}|b|"),
        ]
        .map(|(text, folded): (&str, &str)| (text.to_owned(), folded.to_owned()));
        for (text, folded) in table {
            assert_eq!(shown(&text), folded, "{text}");
        }
    }

    #[test]
    fn what_is_skipped_is_bounded() {
        let run = "\u{200b}".repeat(1_000);
        let mut folded = Folded::default();
        folded.push(&format!("a{run}b"), 0);
        assert!(folded.bytes().len() > 100);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(pieces in prop::collection::vec("(?s)[ -~\u{200b}\u{3a3}İ中\n]{0,6}", 0..12)) {
            let mut whole = Folded::default();
            let mut cut = Folded::default();
            whole.push(&pieces.concat(), 0);
            let mut at = 0;
            for piece in &pieces {
                cut.push(piece, at);
                at += piece.len();
            }
            whole.finish();
            cut.finish();
            prop_assert_eq!(whole.bytes(), cut.bytes());
            prop_assert_eq!(whole.origins, cut.origins);
        }
    }
}
