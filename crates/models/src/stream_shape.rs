//! What the chunks of one stream are, by the shape that they have in common.
//!
//! An engine writes every chunk of a stream alike, but for the text of one string. Once a chunk
//! has been read, the next is compared with what stood before and behind that text: three times
//! less to do than to look for words, and most of what a long stream costs to meter.

use memchr::memchr2;

use crate::chunk::{ChunkKind, Delta, classify};
use crate::raw::{Raw, value_end, white_space_end};

/// 4 KiB: the frame around a text is below 1 KiB, and each stream keeps one.
const SHAPE_BYTES_MAX: usize = 4 << 10;
/// After so many shapes that none followed, a stream's chunks have no shape worth learning.
const USELESS_SHAPES_MAX: u32 = 8;

/// A text that is one of these is looked at more closely, as `classify` does.
const WORDS: [&[u8]; 4] = [b"usage", b"error", b"delta", b"text"];

/// Tells what the chunks of one stream are, as [`classify`] does.
#[derive(Debug, Default)]
pub struct StreamClassifier {
    shape: Option<Shape>,
    useless_shapes: u32,
}

/// A chunk of one choice that adds a text, without the text.
#[derive(Debug)]
struct Shape {
    /// All before the text, its opening quote included.
    before: Box<[u8]>,
    /// All behind the text, its closing quote first.
    behind: Box<[u8]>,
    /// What else the chunk adds.
    other_bytes: u64,
    has_matched: bool,
}

impl StreamClassifier {
    /// Tells what the data of the stream's next event is.
    pub fn classify(&mut self, data: &[u8]) -> ChunkKind {
        if let Some(delta) = self.shape.as_mut().and_then(|shape| shape.delta(data)) {
            return ChunkKind::Content(delta);
        }
        let kind = classify(data);
        if let ChunkKind::Content(delta) = kind {
            self.learn(data, delta);
        }
        kind
    }

    fn learn(&mut self, data: &[u8], delta: Delta) {
        if self.useless_shapes == USELESS_SHAPES_MAX {
            return;
        }
        if let Some(shape) = Shape::of(data, delta) {
            let replaced = self.shape.replace(shape);
            self.useless_shapes += u32::from(replaced.is_some_and(|shape| !shape.has_matched));
        }
    }
}

impl Shape {
    /// The shape of a chunk that was read.
    fn of(data: &[u8], delta: Delta) -> Option<Self> {
        if delta.choices != 1 || data.len() > SHAPE_BYTES_MAX {
            return None;
        }
        let text = text(data)?;
        // Where the text is a value indeed, no word in its place is a key.
        let next = white_space_end(data, text.end + 1);
        matches!(data.get(next), Some(b',' | b'}')).then_some(())?;
        let length = text.len() as u64;
        Some(Self {
            before: data[..text.start].into(),
            behind: data[text.end..].into(),
            other_bytes: delta.content_bytes.checked_sub(length)?,
            has_matched: false,
        })
    }

    /// What a chunk of this shape adds; none if it has another.
    ///
    /// The text in between has no quote and no escape, so that the chunk has the same values in
    /// the same places, and what holds of them holds again.
    fn delta(&mut self, data: &[u8]) -> Option<Delta> {
        let text = data
            .strip_prefix(&*self.before)?
            .strip_suffix(&*self.behind)?;
        if memchr2(b'"', b'\\', text).is_some() || WORDS.contains(&text) {
            return None;
        }
        self.has_matched = true;
        let content_bytes = self.other_bytes + text.len() as u64;
        Some(Delta {
            choices: u32::from(content_bytes > 0),
            content_bytes,
        })
    }
}

/// Where the text is that the first delta adds: the last of its strings that counts.
fn text(data: &[u8]) -> Option<std::ops::Range<usize>> {
    const DELTA: &[u8] = br#""delta""#;
    let key = memchr::memmem::find(data, DELTA)?;
    let colon = white_space_end(data, key + DELTA.len());
    (data.get(colon) == Some(&b':')).then_some(())?;
    let start = white_space_end(data, colon + 1);
    let said = Raw::new(&data[start..value_end(data, start)?]);
    let fields = said.fields().filter(|(key, _)| !key.is("role"));
    let texts = fields.filter_map(|(_, value)| {
        let written = value.bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        (!written.is_empty() && memchr2(b'"', b'\\', written).is_none()).then_some(written)
    });
    let last = texts.last()?;
    // Where a slice stands in another is the difference of what follows it.
    let offset = last.as_ptr().addr() - data.as_ptr().addr();
    Some(offset..offset + last.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(delta: &str, rest: &str) -> String {
        format!(r#"{{"id":"c","usage":null,"choices":[{{"index":0,"delta":{delta}}}]{rest}}}"#)
    }

    /// Every event of a stream is told as it is without a memory.
    fn check(stream: &[String]) -> u32 {
        let mut classifier = StreamClassifier::default();
        let mut matched = 0;
        for data in stream {
            let is_match = classifier
                .shape
                .as_mut()
                .is_some_and(|shape| shape.delta(data.as_bytes()).is_some());
            matched += u32::from(is_match);
            let told = classifier.classify(data.as_bytes());
            assert_eq!(told, classify(data.as_bytes()), "{data}");
        }
        matched
    }

    #[test]
    fn chunks_alike_are_told_by_their_shape() {
        let words = [
            "Hello", " there", "", ",", " you", "delta", "usage", "error", "{[:,]}", "é",
        ];
        let mut stream: Vec<_> = words
            .iter()
            .map(|word| chunk(&format!(r#"{{"role":"assistant","content":"{word}"}}"#), ""))
            .collect();
        stream.push("[DONE]".to_owned());
        assert_eq!(check(&stream), 6);
    }

    #[test]
    fn what_differs_is_read() {
        let text = |text: &str| chunk(&format!(r#"{{"content":"{text}"}}"#), "");
        let stream = [
            text("a"),
            text(r#"quoted \"usage\":"#),
            text(r#"a"},"x":{"y":"b"#),
            text("b"),
            text(r#"","content2":""#),
            chunk(r#"{"content":"a"}"#, r#","usage":{"prompt_tokens":1}"#),
            chunk(r#"{"content":"a"}"#, r#","error":{"message":"no"}"#),
            text("c"),
            chunk("{}", ""),
            chunk(
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"x"}}]}"#,
                "",
            ),
            chunk(r#"{"content":"a","refusal":"b"}"#, ""),
            chunk(r#"{"content":"a","refusal":""}"#, ""),
            chunk(r#"{"role":"user"}"#, ""),
            text("d"),
            String::new(),
            "{".to_owned(),
        ];
        // "b" after "a", and nothing else in it is alike.
        assert!(check(&stream) >= 2);
    }

    #[test]
    fn two_choices_in_a_chunk_have_no_shape() {
        let two = |one: &str, other: &str| {
            format!(
                r#"{{"choices":[{{"delta":{{"content":"{one}"}}}},{{"delta":{{"content":"{other}"}}}}]}}"#
            )
        };
        assert_eq!(check(&[two("a", "b"), two("a", "c"), two("b", "c")]), 0);
        // One of them is silent, and begins to speak.
        check(&[
            two("a", ""),
            two("b", ""),
            two("", ""),
            two("", "c"),
            two("a", "c"),
        ]);
    }

    #[test]
    fn what_never_comes_again_is_not_learnt_for_ever() {
        let mut classifier = StreamClassifier::default();
        for number in 0..100 {
            let rest = format!(r#","obfuscation":"{number}""#);
            let data = chunk(r#"{"content":"a"}"#, &rest);
            classifier.classify(data.as_bytes());
        }
        assert_eq!(classifier.useless_shapes, USELESS_SHAPES_MAX);
        let long = chunk(
            &format!(r#"{{"content":"{}"}}"#, "a".repeat(SHAPE_BYTES_MAX)),
            "",
        );
        let mut classifier = StreamClassifier::default();
        classifier.classify(long.as_bytes());
        assert!(classifier.shape.is_none());
    }
}
