//! What the dialects' own tests share. The wire suite compares all dialects; these tests hold
//! what is peculiar to one.

use bytes::Bytes;
use serde_json::Value;

use super::{Dialect, Flavour, Forced, StreamReader, Untranslatable};
use crate::conversation::{Answer, AnswerEvent, Assembler, Conversation};
use crate::envelope::Envelope;
use crate::scan::Bounds;

/// A client's body.
pub(super) fn envelope(body: &Value) -> Envelope {
    let bounds = Bounds::default();
    Envelope::parse(Bytes::from(body.to_string()), &bounds).unwrap()
}

/// A request in OpenAI's chat dialect; `model` is added.
pub(super) fn chat(mut body: Value) -> Conversation {
    body["model"] = "m".into();
    Dialect::OpenAiChat.read_request(&envelope(&body)).unwrap()
}

/// What an upstream is asked, with 4,096 tokens at most.
pub(super) fn asked(
    dialect: Dialect,
    model: &str,
    conversation: &Conversation,
) -> Result<Value, Untranslatable> {
    let forced = Forced {
        model,
        output_tokens: 4_096,
        stream: conversation.stream,
        salt: None,
    };
    let body = dialect.write_request(Flavour::OpenAi, conversation, &forced)?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// The field that is refused.
pub(super) fn refused(dialect: Dialect, model: &str, conversation: &Conversation) -> String {
    asked(dialect, model, conversation).unwrap_err().field
}

/// All events of a stream that comes in these chunks.
pub(super) fn events(dialect: Dialect, chunks: &[&[u8]]) -> Vec<AnswerEvent> {
    let mut reader: Box<dyn StreamReader> = dialect.stream_reader().unwrap();
    let mut events = Vec::new();
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        reader.feed(chunk, &mut events).unwrap();
    }
    reader.finish(&mut events).unwrap();
    events
}

/// Reads a stream whole and in two pieces, cut at each place, and gives the answer.
pub(super) fn streamed(dialect: Dialect, stream: &[u8]) -> Answer {
    let whole = events(dialect, &[stream]);
    // Each cut of a short stream, and 1,000 or more of a long one.
    for cut in (0..stream.len()).step_by(1 + stream.len() / 2_000) {
        let pieces = events(dialect, &[&stream[..cut], &stream[cut..]]);
        assert_eq!(pieces, whole, "cut at {cut}");
    }
    assert_eq!(whole.last(), Some(&AnswerEvent::End));
    let mut assembler = Assembler::default();
    for event in &whole {
        assembler.add(event).unwrap();
    }
    assembler.finish()
}

/// The events of a stream that was cut short fail, and nothing panics.
pub(super) fn breaks(dialect: Dialect, stream: &[u8]) {
    let mut reader = dialect.stream_reader().unwrap();
    let mut events = Vec::new();
    let fed = reader.feed(Bytes::copy_from_slice(stream), &mut events);
    assert!(fed.is_err() || reader.finish(&mut events).is_err());
    assert_ne!(events.last(), Some(&AnswerEvent::End));
}
