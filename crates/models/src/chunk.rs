//! What one chunk of an OpenAI stream is, found with as little reading as possible.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::envelope::{Envelope, Kind};
use crate::raw::{self, Raw};
use crate::rebuild::Rebuild;
use crate::scan::Bounds;
use crate::usage::Usage;

/// The kinds of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// `[DONE]`
    Done,
    /// The chunk that carries the usage and no choices: for a client who asked for it.
    Usage(Usage),
    /// Content and usage in one chunk, as some engines send it.
    ContentWithUsage(Usage, Delta),
    /// Content, a role, the reason to finish …
    Content(Delta),
    /// The upstream failed in mid-stream.
    Error,
    /// Not a JSON object.
    Other,
}

/// What one chunk adds to the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delta {
    /// Choices that it adds something to.
    pub choices: u32,
    /// Bytes that it adds, as written in JSON: never fewer than the text has.
    pub content_bytes: u64,
}

/// What was generated so far, counted while it passes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputCount {
    /// Pieces of answers that had something in them.
    pub deltas: u64,
    /// Their bytes.
    pub content_bytes: u64,
}

impl OutputCount {
    /// Adds one chunk.
    pub fn add(&mut self, delta: Delta) {
        self.deltas += u64::from(delta.choices);
        self.content_bytes += delta.content_bytes;
    }

    /// The output tokens to settle when a stream was cut before it said its usage. Engines send
    /// one token a delta, or several at once when they are fast; then their bytes tell, at 4 a
    /// token, which is what English text has. Hidden reasoning is not in it.
    pub fn output_tokens_estimate(&self) -> u64 {
        self.deltas.max(self.content_bytes.div_ceil(4))
    }

    /// No byte-level tokenizer wrote more visible tokens than this.
    pub fn output_tokens_max(&self) -> u64 {
        self.deltas.saturating_add(self.content_bytes)
    }
}

/// Tells what the data of an event is. Most chunks are searched for three words and never parsed.
pub fn classify(data: &[u8]) -> ChunkKind {
    let data = data.trim_ascii();
    if data == b"[DONE]" {
        return ChunkKind::Done;
    }
    if data.first() != Some(&b'{') {
        return ChunkKind::Other;
    }
    if may_have(&USAGE, data) || may_have(&ERROR, data) {
        read(data)
    } else {
        ChunkKind::Content(find_delta(data))
    }
}

/// The frame of a chunk without its `usage`, for a client who did not ask for it. `None` if the
/// data is no JSON object.
pub fn without_usage(data: &Bytes) -> Option<Bytes> {
    let bounds = Bounds {
        refused_keys: &[],
        ..Bounds::default()
    };
    let chunk = Envelope::parse(data.clone(), &bounds).ok()?;
    let mut rebuild = Rebuild::from(&chunk);
    let rebuilt = rebuild.remove("usage").finish();
    let mut frame = Vec::with_capacity(rebuilt.len + 8);
    frame.extend_from_slice(b"data: ");
    rebuilt
        .chunks
        .iter()
        .for_each(|chunk| frame.extend_from_slice(chunk));
    frame.extend_from_slice(b"\n\n");
    Some(frame.into())
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""usage""#));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""error""#));
static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""delta""#));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""text""#));

/// Whether the word stands anywhere but as a key whose value is null: every chunk of a stream
/// with usage has `"usage":null`. Inside a string it cannot stand: its quotes would be escaped.
fn may_have(word: &Finder<'_>, data: &[u8]) -> bool {
    word.find_iter(data).any(|at| {
        let value = value_after(data, at + word.needle().len());
        value.is_none_or(|start| data.get(start) != Some(&b'n'))
    })
}

/// Where the value begins, if a colon follows: then what stands before it was a key.
fn value_after(data: &[u8], key_end: usize) -> Option<usize> {
    let colon = raw::white_space_end(data, key_end);
    let is_key = data.get(colon) == Some(&b':');
    is_key.then(|| raw::white_space_end(data, colon + 1))
}

/// Finds the deltas of a chat, or the texts of a completion, without reading what is around them.
fn find_delta(data: &[u8]) -> Delta {
    let mut delta = Delta::default();
    if !find_values(&DELTA, data, &mut delta) {
        find_values(&TEXT, data, &mut delta);
    }
    delta
}

/// Adds the value of each key that is this word; false if there is none.
fn find_values(word: &Finder<'_>, data: &[u8], delta: &mut Delta) -> bool {
    let mut at = 0;
    let mut found = false;
    while let Some(next) = word.find(&data[at..]) {
        at += next + word.needle().len();
        let Some(start) = value_after(data, at) else {
            continue;
        };
        found = true;
        let end = raw::value_end(data, start).unwrap_or(data.len());
        delta.add(Raw::new(&data[start..end]));
        at = end;
    }
    found
}

impl Delta {
    /// Adds what one choice says.
    fn add(&mut self, said: Raw<'_>) {
        let bytes = content_bytes(said);
        self.choices += u32::from(bytes > 0);
        self.content_bytes += bytes;
    }
}

/// The bytes of a delta: of all strings and structures in it but the role.
fn content_bytes(said: Raw<'_>) -> u64 {
    let written = said.bytes().len() as u64;
    match said.kind() {
        Some(Kind::String) => written.saturating_sub(2),
        Some(Kind::Object) => {
            let fields = said.fields().filter(|(key, _)| !key.is("role"));
            let bytes = fields.map(|(_, value)| match value.kind() {
                Some(Kind::String) => (value.bytes().len() as u64).saturating_sub(2),
                Some(Kind::Array | Kind::Object) if value.bytes().len() > 2 => {
                    value.bytes().len() as u64
                }
                _ => 0,
            });
            bytes.sum()
        }
        _ => 0,
    }
}

/// Reads the top level, where a word was seen that may be the usage or an error.
fn read(data: &[u8]) -> ChunkKind {
    let mut usage = None;
    let mut error = false;
    let mut delta = Delta::default();
    let mut any_choice = false;
    for (key, value) in Raw::new(data).fields() {
        if key.is("usage") {
            usage = Usage::from_object(value);
        } else if key.is("error") {
            error |= value.kind() != Some(Kind::Null);
        } else if key.is("object") {
            error |= value.bytes() == br#""error""#;
        } else if key.is("choices") {
            for choice in value.elements() {
                any_choice = true;
                if let Some(said) = choice.get("delta").or_else(|| choice.get("text")) {
                    delta.add(said);
                }
            }
        }
    }
    match usage {
        _ if error => ChunkKind::Error,
        Some(usage) if any_choice => ChunkKind::ContentWithUsage(usage, delta),
        Some(usage) => ChunkKind::Usage(usage),
        None => ChunkKind::Content(delta),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(choices: u32, content_bytes: u64) -> ChunkKind {
        ChunkKind::Content(Delta {
            choices,
            content_bytes,
        })
    }

    const USED: Usage = Usage {
        input_tokens: 3,
        cached_read_tokens: 0,
        cached_write_tokens: 0,
        cached_write_1h_tokens: 0,
        output_tokens: 2,
        reasoning_tokens: 0,
    };

    #[test]
    fn chunks_are_told_apart() {
        let used = r#""usage":{"prompt_tokens":3,"completion_tokens":2}"#;
        let cases = [
            ("[DONE]", ChunkKind::Done),
            (" [DONE] ", ChunkKind::Done),
            ("hello", ChunkKind::Other),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                content(0, 0),
            ),
            (
                r#"{"choices":[{"index":0,"delta":{"content":"Hel"}}],"usage":null}"#,
                content(1, 3),
            ),
            (
                r#"{"choices":[{"delta" : {"content":"a"}},{"delta":{"reasoning_content":"bc"}}]}"#,
                content(2, 3),
            ),
            (
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]},"finish_reason":null}]}"#,
                content(1, 13),
            ),
            (
                r#"{"object":"text_completion","choices":[{"text":"abc","logprobs":null}]}"#,
                content(1, 3),
            ),
            (
                r#"{"choices":[{"delta":{"content":"delta"}},{"delta":{"content":"usage"}}]}"#,
                content(2, 10),
            ),
            (
                r#"{"choices":[{"delta":{"content":"\"usage\": {}, \"error\": 1"}}]}"#,
                content(1, 27),
            ),
            (r#"{"error":{"message":"x"}}"#, ChunkKind::Error),
            (r#"{"object":"error","message":"x"}"#, ChunkKind::Error),
            (
                r#"{"choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502}}"#,
                ChunkKind::Error,
            ),
            (
                r#"{"choices":[{"delta":{},"finish_reason":"error"}],"error":null}"#,
                content(0, 0),
            ),
        ];
        for (data, expected) in cases {
            assert_eq!(classify(data.as_bytes()), expected, "{data}");
        }
        let alone = format!(r#"{{"choices":[],{used}}}"#);
        assert_eq!(classify(alone.as_bytes()), ChunkKind::Usage(USED));
        let both = format!(r#"{{"choices":[{{"delta":{{"content":"x"}}}}],{used}}}"#);
        let delta = Delta {
            choices: 1,
            content_bytes: 1,
        };
        let expected = ChunkKind::ContentWithUsage(USED, delta);
        assert_eq!(classify(both.as_bytes()), expected);
        let frame = without_usage(&both.into()).unwrap();
        assert_eq!(
            frame,
            "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n"
        );
    }

    #[test]
    fn the_estimate_is_between_the_deltas_and_the_bound() {
        let mut count = OutputCount::default();
        for content_bytes in [1, 2, 30] {
            count.add(Delta {
                choices: 1,
                content_bytes,
            });
        }
        assert_eq!(count.output_tokens_estimate(), 9);
        assert_eq!(count.output_tokens_max(), 36);
    }
}
