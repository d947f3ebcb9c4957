//! Metering a stream of Anthropic's that is passed on as it is.

use crate::chunk::{ChunkKind, Delta};
use crate::dialect::read::At;
use crate::dialect::usage::AnthropicUsage;
use crate::envelope::Kind;
use crate::raw::Raw;
use crate::usage::Usage;

/// Tells what each event of one stream is, as [`classify`](crate::classify) does for OpenAI's.
/// It remembers the usage: Anthropic says the input first and the output last.
#[derive(Debug, Default)]
pub struct AnthropicMeter {
    usage: AnthropicUsage,
}

impl AnthropicMeter {
    /// Tells what an event's data is. `message_start` and `message_delta` give all the usage that
    /// is known by then, as `ContentWithUsage`; `message_stop` is `Done`.
    pub fn classify(&mut self, data: &[u8]) -> ChunkKind {
        let event = Raw::new(data);
        if event.kind() != Some(Kind::Object) {
            return ChunkKind::Other;
        }
        let kind = event.get("type").and_then(Raw::as_str);
        match kind.as_deref() {
            Some("content_block_delta") => ChunkKind::Content(delta(event.get("delta"))),
            Some("content_block_start") => {
                // A call's name, and what a redacted thought holds, are output too.
                ChunkKind::Content(delta(event.get("content_block")))
            }
            Some("message_start") => self.counted(
                event
                    .get("message")
                    .and_then(|message| message.get("usage")),
            ),
            Some("message_delta") => self.counted(event.get("usage")),
            Some("message_stop") => ChunkKind::Done,
            Some("error") => ChunkKind::Error,
            _ => ChunkKind::Content(Delta::default()),
        }
    }

    /// All that is known of what the answer costs; `None` if nothing is.
    pub fn usage(&self) -> Option<Usage> {
        self.usage.tokens()
    }

    fn counted(&mut self, usage: Option<Raw<'_>>) -> ChunkKind {
        if let Some(usage) = usage {
            // What is no count is as if it were not there: the rest was taken.
            drop(self.usage.read(&At::root(usage)));
        }
        match self.usage() {
            Some(usage) => ChunkKind::ContentWithUsage(usage, Delta::default()),
            None => ChunkKind::Content(Delta::default()),
        }
    }
}

/// The bytes of all strings in a delta or block but its type and id, as written in JSON.
fn delta(said: Option<Raw<'_>>) -> Delta {
    let fields = said.into_iter().flat_map(Raw::fields);
    let said = fields.filter(|(key, value)| {
        value.kind() == Some(Kind::String) && !key.is("type") && !key.is("id")
    });
    let bytes = said.map(|(_, value)| (value.bytes().len() as u64).saturating_sub(2));
    let content_bytes = bytes.sum();
    Delta {
        choices: u32::from(content_bytes > 0),
        content_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_counted_as_it_passes() {
        let mut meter = AnthropicMeter::default();
        let start = br#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":10,
            "cache_read_input_tokens":90,"cache_creation_input_tokens":0,"output_tokens":1}}}"#;
        let first = Usage {
            input_tokens: 100,
            cached_read_tokens: 90,
            output_tokens: 1,
            ..Usage::default()
        };
        let counted = ChunkKind::ContentWithUsage(first, Delta::default());
        assert_eq!(meter.classify(start), counted);
        let content = |choices, content_bytes| {
            ChunkKind::Content(Delta {
                choices,
                content_bytes,
            })
        };
        for (data, expected) in [
            (r#"{"type":"ping"}"#, content(0, 0)),
            (
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                content(0, 0),
            ),
            (
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
                content(1, 3),
            ),
            (
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"add","input":{}}}"#,
                content(1, 3),
            ),
            (
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#,
                content(1, 6),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                ChunkKind::Error,
            ),
            (r#"{"type":"message_stop"}"#, ChunkKind::Done),
            ("x", ChunkKind::Other),
        ] {
            assert_eq!(meter.classify(data.as_bytes()), expected, "{data}");
        }
        let end = br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},
            "usage":{"output_tokens":25}}"#;
        let last = Usage {
            output_tokens: 25,
            ..first
        };
        let counted = ChunkKind::ContentWithUsage(last, Delta::default());
        assert_eq!(meter.classify(end), counted);
        assert_eq!(meter.usage(), Some(last));
    }
}
