//! Walking JSON without a copy and without checking it again.
//!
//! On bytes that [`Envelope::parse`](crate::Envelope::parse) has checked the walk is exact. On
//! others (an upstream's answer) it is safe and bounded by their length: where they are not JSON
//! it ends early.

use std::borrow::Cow;

use memchr::memchr2;

use crate::envelope::Kind;

/// One JSON value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a [u8]);

/// A key as it is written between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a>(&'a [u8]);

/// The elements of an array.
#[derive(Debug, Clone)]
pub struct Elements<'a>(Walk<'a>);

/// The keys and values of an object.
#[derive(Debug, Clone)]
pub struct Fields<'a>(Walk<'a>);

impl<'a> Raw<'a> {
    /// The first value in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(&bytes[white_space_end(bytes, 0)..])
    }

    /// The bytes as written.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The kind, by the first byte.
    pub fn kind(self) -> Option<Kind> {
        Kind::of(self.0.first().copied())
    }

    /// The text of a string, its escapes decoded; copied only if it has some.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        let written = self.0.strip_prefix(b"\"")?;
        let end = string_end(self.0, 1)?;
        let written = &written[..end - 2];
        if written.contains(&b'\\') {
            serde_json::from_slice(&self.0[..end]).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(written).ok().map(Cow::Borrowed)
        }
    }

    /// An integer of 0 or more.
    pub fn as_u64(self) -> Option<u64> {
        let mut number = 0_u64;
        for (place, byte) in self.0.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    number = number
                        .checked_mul(10)?
                        .checked_add(u64::from(byte - b'0'))?;
                }
                b'.' | b'e' | b'E' => return None,
                _ if place == 0 => return None,
                _ => return Some(number),
            }
        }
        (!self.0.is_empty()).then_some(number)
    }

    /// `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.0.first()? {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    /// The elements; none if this is no array.
    pub fn elements(self) -> Elements<'a> {
        Elements(Walk::into(self.0, b'['))
    }

    /// The fields; none if this is no object.
    pub fn fields(self) -> Fields<'a> {
        Fields(Walk::into(self.0, b'{'))
    }

    /// The value of a field; the last, if there are several.
    pub fn get(self, name: &str) -> Option<Raw<'a>> {
        let named = self.fields().filter(|(key, _)| key.is(name));
        named.map(|(_, value)| value).last()
    }
}

impl<'a> Key<'a> {
    /// From a key with its quotes.
    pub(crate) fn quoted(bytes: &'a [u8]) -> Self {
        let written = bytes.strip_prefix(b"\"").unwrap_or(bytes);
        Self(written.strip_suffix(b"\"").unwrap_or(written))
    }

    /// The bytes between the quotes.
    pub(crate) fn written(self) -> &'a [u8] {
        self.0
    }

    /// Whether the key means `name`, however it is spelled.
    pub fn is(self, name: &str) -> bool {
        // An escape is longer than what it means.
        let may_be_escaped = self.0.len() > name.len() && self.0.contains(&b'\\');
        self.0 == name.as_bytes() || may_be_escaped && decode(self.0) == name
    }

    /// The bytes of the text that the key means.
    pub(crate) fn meaning(self) -> Cow<'a, [u8]> {
        match self.0.contains(&b'\\') {
            false => Cow::Borrowed(self.0),
            true => Cow::Owned(decode(self.0).into_owned().into_bytes()),
        }
    }

    /// The text that the key means.
    pub fn decode(self) -> Cow<'a, str> {
        decode(self.0)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        self.0.value()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Key<'a>, Raw<'a>);

    fn next(&mut self) -> Option<(Key<'a>, Raw<'a>)> {
        let key = self.0.value()?;
        let key = key.0.starts_with(b"\"").then(|| Key::quoted(key.0))?;
        Some((key, self.0.value()?))
    }
}

/// The values inside a container, keys counting as values.
#[derive(Debug, Clone)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn into(bytes: &'a [u8], opening: u8) -> Self {
        let inside = bytes.first() == Some(&opening);
        let at = if inside { 1 } else { bytes.len() };
        Self { bytes, at }
    }

    /// Where the next value begins, or the container ends.
    fn start(&self) -> usize {
        let start = white_space_end(self.bytes, self.at);
        match self.bytes.get(start) {
            Some(b',' | b':') => white_space_end(self.bytes, start + 1),
            _ => start,
        }
    }

    fn value(&mut self) -> Option<Raw<'a>> {
        let start = self.start();
        let end = value_end(self.bytes, start);
        self.at = end.unwrap_or(self.bytes.len());
        Some(Raw(&self.bytes[start..end?]))
    }
}

/// The value of the field whose key begins at `start`, and where it ends. None if the key has
/// escapes.
pub(crate) fn field_at(bytes: &[u8], start: usize) -> Option<(Raw<'_>, usize)> {
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let key_end = string_end(bytes, start + 1)?;
    let colon = white_space_end(bytes, key_end);
    if bytes[start..key_end].contains(&b'\\') || bytes.get(colon) != Some(&b':') {
        return None;
    }
    let value = white_space_end(bytes, colon + 1);
    let end = value_end(bytes, value)?;
    Some((Raw(&bytes[value..end]), end))
}

/// Where the value that begins at `start` ends.
pub(crate) fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => string_end(bytes, start + 1),
        b'{' | b'[' => container_end(bytes, start),
        b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
            let scalar = bytes[start..].iter();
            let ends =
                |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
            Some(start + scalar.take_while(|byte| !ends(byte)).count())
        }
        _ => None,
    }
}

/// Where the string ends, its closing quote included; `at` is after the opening one.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn container_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0usize;
    loop {
        at += insignificant_run(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at + 1)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            _ => depth -= 1,
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The bytes before the next quote, brace or bracket; by blocks that the compiler turns into
/// vector instructions, since an answer of embeddings is nearly all numbers.
fn insignificant_run(bytes: &[u8]) -> usize {
    // A bracket and its brace differ by the bit 0x20 alone.
    let significant = |byte: &u8| (*byte == b'"') | (*byte | 0x20 == b'{') | (*byte | 0x20 == b'}');
    let near = bytes.iter().take(16).take_while(|byte| !significant(byte));
    let mut length = near.count();
    if length < 16 {
        return length;
    }
    let (blocks, _) = bytes[length..].as_chunks::<32>();
    for block in blocks {
        if block
            .iter()
            .fold(false, |any, byte| any | significant(byte))
        {
            break;
        }
        length += 32;
    }
    let rest = bytes[length..].iter();
    length + rest.take_while(|byte| !significant(byte)).count()
}

pub(crate) fn white_space_end(bytes: &[u8], start: usize) -> usize {
    if bytes.get(start).is_some_and(|byte| *byte > b' ') {
        return start;
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let rest = bytes.get(start..).unwrap_or_default().iter();
    start + rest.take_while(|byte| space(byte)).count()
}

/// Whether a key as written means `name`.
pub(crate) fn key_is(written: &[u8], escaped: bool, name: &str) -> bool {
    written == name.as_bytes() || escaped && decode(written) == name
}

pub(crate) fn decode_escaped(written: &[u8], escaped: bool) -> Cow<'_, str> {
    if escaped {
        decode(written)
    } else {
        text(written)
    }
}

/// Text as it is written: checked as a whole, which is quicker than the search for what is not.
fn text(written: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(written) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(written),
    }
}

/// The text that is meant by what is written between two quotes. What is not valid is shown with
/// replacement characters; a checked body has none.
pub(crate) fn decode(written: &[u8]) -> Cow<'_, str> {
    if !written.contains(&b'\\') {
        return text(written);
    }
    let mut quoted = Vec::with_capacity(written.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(written);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => String::from_utf8_lossy(written),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_and_arrays_are_walked() {
        let raw = Raw::new(br#" { "a" : [1, "x\"]", {"y":[]} ,true] , "\u0062":{} } "#);
        let fields: Vec<_> = raw.fields().collect();
        assert_eq!(fields.len(), 2);
        assert!(fields[0].0.is("a") && fields[1].0.is("b"));
        let elements: Vec<_> = fields[0].1.elements().map(Raw::bytes).collect();
        let expected: [&[u8]; 4] = [b"1", br#""x\"]""#, br#"{"y":[]}"#, b"true"];
        assert_eq!(elements, expected);
        assert_eq!(raw.get("b").map(Raw::bytes), Some(b"{}".as_slice()));
    }

    #[test]
    fn scalars_are_read() {
        assert_eq!(Raw::new(b"12").as_u64(), Some(12));
        assert_eq!(Raw::new(b"12.0").as_u64(), None);
        assert_eq!(Raw::new(b"-1").as_u64(), None);
        assert_eq!(Raw::new(b"99999999999999999999").as_u64(), None);
        assert_eq!(Raw::new(br#""a\nb""#).as_str().as_deref(), Some("a\nb"));
        assert_eq!(Raw::new(br#""ab"#).as_str(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(bytes in prop::collection::vec(
            prop_oneof![prop::sample::select(b"{}[]\",:\\ 1tn".as_slice()), any::<u8>()], 0..80,
        )) {
            let raw = Raw::new(&bytes);
            prop_assert!(raw.elements().count() <= bytes.len());
            prop_assert!(raw.fields().count() <= bytes.len());
            prop_assert!(raw.as_str().is_none_or(|text| text.len() <= bytes.len()));
            if let Some(end) = value_end(&bytes, 0) {
                prop_assert!(0 < end && end <= bytes.len());
            }
        }

        #[test]
        fn a_long_container_ends_at_its_bracket(numbers in prop::collection::vec(any::<f64>(), 0..100)) {
            let text = format!("{numbers:?}");
            let followed = format!("{text},[]");
            prop_assert_eq!(value_end(followed.as_bytes(), 0), Some(text.len()));
        }
    }
}
