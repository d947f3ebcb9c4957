//! What a stream has said of its cost so far, event by event, and which events a client gets.

use bytes::Bytes;
use models::{
    AnthropicMeter, ChunkKind, Dialect, Event, OutputCount, StreamClassifier, Usage, without_usage,
};

/// The count of one stream.
#[derive(Debug)]
pub(super) struct Tally {
    /// What the upstream said that it consumed.
    pub(super) usage: Option<Usage>,
    /// What was counted while it passed by.
    pub(super) counted: OutputCount,
    /// Whether the stream ended as it should.
    pub(super) saw_done: bool,
    /// Whether the client asked for the chunk that says the usage.
    wants_usage: bool,
    output_tokens_max: u64,
    reader: Reader,
}

/// Who reads the events.
#[derive(Debug)]
enum Reader {
    OpenAi(StreamClassifier),
    Anthropic(AnthropicMeter),
}

/// What of an event goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All of it, as it came.
    Whole,
    /// These bytes, or none.
    Instead(Bytes),
}

impl Tally {
    /// The count of a stream that may have so many output tokens.
    pub(super) fn new(dialect: Dialect, wants_usage: bool, output_tokens_max: u64) -> Self {
        let is_anthropic = dialect == Dialect::Anthropic;
        Self {
            usage: None,
            counted: OutputCount::default(),
            saw_done: false,
            // Anthropic's clients always get it.
            wants_usage: wants_usage || is_anthropic,
            output_tokens_max,
            reader: match dialect {
                Dialect::Anthropic => Reader::Anthropic(AnthropicMeter::default()),
                _ => Reader::OpenAi(StreamClassifier::default()),
            },
        }
    }

    /// Counts an event.
    pub(super) fn add(&mut self, event: &Event) -> Kept {
        let kind = match (&event.data, &mut self.reader) {
            (None, _) => ChunkKind::Other,
            (Some(data), Reader::OpenAi(classifier)) => classifier.classify(data),
            (Some(data), Reader::Anthropic(meter)) => meter.classify(data),
        };
        match kind {
            ChunkKind::Content(delta) => self.counted.add(delta),
            ChunkKind::Usage(usage) => {
                self.usage = Some(usage);
                if !self.wants_usage {
                    return Kept::Instead(Bytes::new());
                }
            }
            ChunkKind::ContentWithUsage(usage, delta) => {
                self.usage = Some(usage);
                self.counted.add(delta);
                if !self.wants_usage {
                    let without = event.data.as_ref().and_then(without_usage);
                    return Kept::Instead(without.unwrap_or_default());
                }
            }
            ChunkKind::Done => self.saw_done = true,
            ChunkKind::Error | ChunkKind::Other => {}
        }
        Kept::Whole
    }

    /// More chunks than the output that was reserved: each has a token at least. What the
    /// upstream says of all of them is the last word.
    pub(super) fn has_overrun(&self) -> bool {
        let deltas = self.counted.deltas;
        let is_said = |usage: Usage| usage.output_tokens >= deltas;
        deltas > self.output_tokens_max && !self.usage.is_some_and(is_said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tally: &mut Tally, data: &'static str) -> Kept {
        tally.add(&Event {
            raw: Bytes::from(format!("data: {data}\n\n")),
            data: Some(Bytes::from_static(data.as_bytes())),
        })
    }

    const WORD: &str = r#"{"choices":[{"index":0,"delta":{"content":"word"}}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}"#;

    #[test]
    fn the_chunk_with_the_usage_is_for_who_asked() {
        for (wants_usage, kept) in [(true, Kept::Whole), (false, Kept::Instead(Bytes::new()))] {
            let mut tally = Tally::new(Dialect::OpenAiChat, wants_usage, 10);
            assert_eq!(add(&mut tally, WORD), Kept::Whole);
            assert_eq!(add(&mut tally, USAGE), kept);
            assert_eq!(add(&mut tally, "[DONE]"), Kept::Whole);
            assert!(tally.saw_done);
            assert_eq!(tally.usage.map(|usage| usage.output_tokens), Some(9));
        }
    }

    #[test]
    fn more_pieces_than_were_reserved_are_an_overrun() {
        let mut tally = Tally::new(Dialect::OpenAiChat, true, 2);
        for overrun in [false, false, true] {
            add(&mut tally, WORD);
            assert_eq!(tally.has_overrun(), overrun);
        }
        // What the upstream says itself is the last word.
        add(&mut tally, USAGE);
        assert!(!tally.has_overrun());
    }
}
