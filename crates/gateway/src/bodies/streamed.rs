//! A streamed answer as one body.

use std::collections::BTreeMap;

use bytes::Bytes;
use models::{AnswerNames, EVENT_BYTES_MAX, Operation, Raw, SseSplitter};
use serde_json::json;

use crate::speech::dialect_of;

/// 4 MiB of a stream: 64 KiB of text in pieces of four bytes, each in an event of 250.
pub(crate) const STREAM_BYTES_MAX: usize = 4 << 20;
/// 1,024 texts of one answer, as many as guardrails follow.
const TEXTS_MAX: usize = 1_024;

/// What was streamed as the whole answer that a client would have got who asked for one. Where there
/// is no such answer, because the stream broke off or is of a kind that has none, the texts that
/// were said.
pub(crate) fn whole_of_stream(
    operation: Operation,
    stream: Bytes,
    names: &AnswerNames,
    is_complete: bool,
) -> Bytes {
    let whole = match operation {
        Operation::Chat | Operation::Messages if is_complete => {
            let dialect = dialect_of(operation);
            let answer = dialect.read_stream(stream.clone()).ok();
            answer.and_then(|answer| dialect.write_answer(&answer, names).ok())
        }
        Operation::Responses if is_complete => response_of(&stream),
        _ => None,
    };
    whole.unwrap_or_else(|| said(stream))
}

/// The response in the last event of its stream.
fn response_of(stream: &Bytes) -> Option<Bytes> {
    let mut last = None;
    each_event(stream.clone(), |data| {
        let kind = data.get("type").and_then(Raw::as_str);
        if matches!(
            kind.as_deref(),
            Some("response.completed" | "response.incomplete")
        ) {
            last = data
                .get("response")
                .map(|whole| Bytes::copy_from_slice(whole.bytes()));
        }
    });
    last
}

fn each_event(stream: Bytes, mut see: impl FnMut(Raw<'_>)) {
    let mut splitter = SseSplitter::new(EVENT_BYTES_MAX);
    let events = splitter.feed(stream);
    for event in events.map_while(Result::ok) {
        if let Some(data) = event.data.filter(|data| data.starts_with(b"{")) {
            see(Raw::new(&data));
        }
    }
}

/// Which text of an answer: its choice, block or item, and what it is.
type Place = (u64, String);

/// All that was said, text by text.
fn said(stream: Bytes) -> Bytes {
    let mut texts: BTreeMap<Place, String> = BTreeMap::new();
    each_event(stream, |data| {
        let mut add = |index: u64, field: &str, text: Raw<'_>| {
            let Some(text) = text.as_str().filter(|text| !text.is_empty()) else {
                return;
            };
            let place = (index, field.to_owned());
            if texts.len() < TEXTS_MAX || texts.contains_key(&place) {
                texts.entry(place).or_default().push_str(&text);
            }
        };
        for choice in data.get("choices").into_iter().flat_map(Raw::elements) {
            of_choice(choice, &mut add);
        }
        of_event(data, &mut add);
    });
    let parts = texts
        .into_iter()
        .map(|((index, field), text)| json!({"index": index, "field": field, "text": text}));
    let parts: Vec<_> = parts.collect();
    json!({ "parts": parts }).to_string().into()
}

/// OpenAI's chat and completions.
fn of_choice(choice: Raw<'_>, add: &mut impl FnMut(u64, &str, Raw<'_>)) {
    let index = choice.get("index").and_then(Raw::as_u64).unwrap_or(0);
    if let Some(text) = choice.get("text") {
        add(index, "text", text);
    }
    let Some(delta) = choice.get("delta") else {
        return;
    };
    for field in ["content", "refusal", "reasoning", "reasoning_content"] {
        if let Some(text) = delta.get(field) {
            add(index, field, text);
        }
    }
    for call in delta.get("tool_calls").into_iter().flat_map(Raw::elements) {
        let number = call.get("index").and_then(Raw::as_u64).unwrap_or(0);
        for field in ["name", "arguments"] {
            if let Some(text) = call.get("function").and_then(|it| it.get(field)) {
                add(index, &format!("tool_calls.{number}.{field}"), text);
            }
        }
    }
}

/// Anthropic's messages and OpenAI's responses.
fn of_event(data: Raw<'_>, add: &mut impl FnMut(u64, &str, Raw<'_>)) {
    let number = |field: &str| data.get(field).and_then(Raw::as_u64);
    let Some(delta) = data.get("delta") else {
        return;
    };
    let kind = data.get("type").and_then(Raw::as_str).unwrap_or_default();
    let index = number("output_index").or(number("index")).unwrap_or(0);
    if let Some(kind) = kind
        .strip_prefix("response.")
        .and_then(|kind| kind.strip_suffix(".delta"))
    {
        return add(index, kind, delta);
    }
    for field in ["text", "thinking", "partial_json"] {
        if let Some(text) = delta.get(field) {
            add(index, field, text);
        }
    }
}
