//! Looking through an answer while it streams, event by event, in the client's dialect.
//!
//! Each text of the answer (a choice's content, a block, a tool's arguments) has a guard of its
//! own. An event goes on with what its guard has released; what is held back comes with a later
//! event, and the rest before the event that ends the text.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use models::{Dialect, EVENT_BYTES_MAX, Event, Raw, SseSplitter};
use serde_json::{Value, json};

use super::texts::{self, Part};
use super::{Blocked, Counting, Inspector, Noted, restorer_for};
use crate::guard::{Flow, Restorer, Side, StreamGuard};

/// 1,024 texts of one answer: 128 choices, the most that providers give, with seven tools each.
const TEXTS_MAX: usize = 1_024;

/// Why a stream ends before its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// A guardrail ends it.
    Blocked(Blocked),
    /// It is not what a stream of this dialect is, so that nobody can tell what it says.
    Unreadable,
}

impl From<Blocked> for StreamEnd {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}

/// A streamed answer that is looked through.
pub(crate) struct InspectedStream {
    dialect: Dialect,
    inspector: Inspector,
    splitter: SseSplitter,
    texts: BTreeMap<Key, Channel>,
    /// The last event of a text, which the rest of the text can be said in.
    template: Option<Value>,
    /// How many events there are more than the upstream sent.
    added: u64,
}

/// Which text of an answer: its choice or item, its part, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64, u64, Field);

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Content,
    Refusal,
    Reasoning,
    /// Another spelling of it, which some engines send beside it.
    ReasoningContent,
    Arguments,
}

impl Field {
    const fn part(self) -> Part {
        match self {
            Self::Content => Part::Said,
            Self::Refusal | Self::Reasoning | Self::ReasoningContent => Part::Aside,
            Self::Arguments => Part::Arguments,
        }
    }
}

/// The guards of one text, in their order, and the way back.
struct Channel {
    guards: Vec<StreamGuard>,
    restorer: Restorer,
    is_over: bool,
}

impl std::fmt::Debug for InspectedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InspectedStream")
            .field("inspector", &self.inspector)
            .field("texts", &self.texts.len())
            .finish_non_exhaustive()
    }
}

impl InspectedStream {
    /// A stream in this dialect; none if nothing would come of looking.
    pub(crate) fn new(dialect: Dialect, inspector: Inspector) -> Option<Self> {
        inspector.changes_answers().then(|| Self {
            dialect,
            inspector,
            splitter: SseSplitter::new(EVENT_BYTES_MAX),
            texts: BTreeMap::new(),
            template: None,
            added: 0,
        })
    }

    /// What was found so far.
    pub(crate) fn noted(&self) -> Noted {
        let mut noted = self.inspector.noted;
        for guard in self.texts.values().flat_map(|text| &text.guards) {
            for finding in guard.findings().list() {
                noted.add(finding);
            }
        }
        noted
    }

    /// Takes the next bytes and adds to `out` what goes on.
    ///
    /// # Errors
    ///
    /// [`StreamEnd`]; then what is in `out` is the last that goes on.
    pub(crate) fn feed(&mut self, piece: Bytes, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let events: Vec<_> = self.splitter.feed(piece).collect();
        for event in events {
            self.event(&event.map_err(|_| StreamEnd::Unreadable)?, out)?;
        }
        Ok(())
    }

    /// The stream came to its end: adds to `out` what is left of it.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn finish(&mut self, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let splitter = std::mem::replace(&mut self.splitter, SseSplitter::new(EVENT_BYTES_MAX));
        if let Some(event) = splitter.finish() {
            self.event(&event, out)?;
        }
        self.flush_all(out)
    }

    fn event(&mut self, event: &Event, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let Some(data) = &event.data else {
            out.extend_from_slice(&event.raw);
            return Ok(());
        };
        if &**data == b"[DONE]" {
            self.flush_all(out)?;
            out.extend_from_slice(&event.raw);
            return Ok(());
        }
        let mut value: Value = serde_json::from_slice(data).map_err(|_| StreamEnd::Unreadable)?;
        if !value.is_object() {
            return Err(StreamEnd::Unreadable);
        }
        match self.dialect {
            Dialect::Anthropic => self.of_messages(&mut value, out)?,
            Dialect::OpenAiResponses => self.of_responses(&mut value, data, out)?,
            _ => self.of_chat(&mut value)?,
        }
        self.put(&value, out);
        Ok(())
    }

    /// Writes an event.
    fn put(&self, value: &Value, out: &mut BytesMut) {
        if self.dialect != Dialect::OpenAiChat
            && let Some(kind) = value["type"].as_str()
        {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(value.to_string().as_bytes());
        out.extend_from_slice(b"\n\n");
    }

    /// Chunks of chats and completions.
    fn of_chat(&mut self, chunk: &mut Value) -> Result<(), StreamEnd> {
        let hides = !self.inspector.output.is_empty();
        let mut template = chunk.clone();
        let Some(choices) = chunk["choices"].as_array_mut() else {
            return Ok(());
        };
        for choice in choices.iter_mut().filter(|choice| choice.is_object()) {
            let index = choice["index"].as_u64().unwrap_or(0);
            if hides && choice["logprobs"].is_object() {
                choice["logprobs"] = Value::Null;
            }
            if let Some(Value::String(text)) = choice.get_mut("text") {
                *text = self.push(Key(index, 0, Field::Content), text)?;
            }
            if let Some(delta) = choice.get_mut("delta") {
                self.delta(index, delta)?;
            }
            if choice
                .get("finish_reason")
                .is_some_and(|reason| !reason.is_null())
            {
                self.end_choice(index, choice)?;
            }
        }
        if let Value::Object(fields) = &mut template {
            fields.remove("usage");
            self.template = Some(template);
        }
        Ok(())
    }

    /// What a chunk adds to one choice.
    fn delta(&mut self, index: u64, delta: &mut Value) -> Result<(), StreamEnd> {
        for (name, field) in [
            ("content", Field::Content),
            ("refusal", Field::Refusal),
            ("reasoning", Field::Reasoning),
            ("reasoning_content", Field::ReasoningContent),
        ] {
            match delta.get_mut(name) {
                Some(Value::String(text)) => *text = self.push(Key(index, 0, field), text)?,
                Some(Value::Array(parts)) => {
                    for part in parts {
                        if let Some(Value::String(text)) = part.get_mut("text") {
                            *text = self.push(Key(index, 0, field), text)?;
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(Value::String(text)) = delta.pointer_mut("/function_call/arguments") {
            *text = self.push(Key(index, u64::MAX, Field::Arguments), text)?;
        }
        for call in delta
            .get_mut("tool_calls")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let place = call["index"].as_u64().unwrap_or(0);
            if let Some(Value::String(text)) = call.pointer_mut("/function/arguments") {
                *text = self.push(Key(index, place, Field::Arguments), text)?;
            }
        }
        Ok(())
    }

    /// The rest of a choice's texts goes with the chunk that ends it.
    fn end_choice(&mut self, index: u64, choice: &mut Value) -> Result<(), StreamEnd> {
        let keys: Vec<Key> = self
            .texts
            .keys()
            .filter(|key| key.0 == index)
            .copied()
            .collect();
        for key in keys {
            let rest = self.flush(key)?;
            if !rest.is_empty() {
                add_rest(choice, key, &rest);
            }
        }
        Ok(())
    }

    /// Events of Anthropic's.
    fn of_messages(&mut self, value: &mut Value, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let index = value["index"].as_u64().unwrap_or(0);
        let of = |name: &str| match name {
            "text" => Field::Content,
            "partial_json" => Field::Arguments,
            _ => Field::Reasoning,
        };
        match value["type"].as_str().unwrap_or_default() {
            kind @ ("content_block_start" | "content_block_delta") => {
                let place = match kind {
                    "content_block_start" => "content_block",
                    _ => "delta",
                };
                for name in ["text", "partial_json", "thinking"] {
                    let key = Key(index, 0, of(name));
                    let block = value.get_mut(place).and_then(|block| block.get_mut(name));
                    if let Some(Value::String(text)) = block {
                        *text = self.push(key, text)?;
                    }
                }
            }
            "content_block_stop" => {
                let keys = self.texts.keys().filter(|key| key.0 == index);
                for key in keys.copied().collect::<Vec<_>>() {
                    let rest = self.flush(key)?;
                    if !rest.is_empty() {
                        self.put(&messages_delta(key, &rest), out);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Events of OpenAI's Responses: deltas, and events that repeat what deltas said.
    fn of_responses(
        &mut self,
        value: &mut Value,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), StreamEnd> {
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let hides = !self.inspector.output.is_empty();
        if let Some(stem) = kind.strip_suffix(".delta") {
            let key = responses_key(stem, value);
            if let Some(Value::String(text)) = value.get_mut("delta") {
                *text = self.push(key, text)?;
            }
            if hides && value.get("logprobs").is_some() {
                value["logprobs"] = json!([]);
            }
            self.renumber(value);
            self.template = Some(value.clone());
            return Ok(());
        }
        if let Some(stem) = kind.strip_suffix(".done") {
            let key = responses_key(stem, value);
            let rest = self.flush(key)?;
            if !rest.is_empty() {
                let mut delta = value.clone();
                if let Value::Object(fields) = &mut delta {
                    for repeated in [
                        "text",
                        "arguments",
                        "refusal",
                        "input",
                        "code",
                        "item",
                        "part",
                    ] {
                        fields.remove(repeated);
                    }
                }
                delta["type"] = json!(format!("{stem}.delta"));
                delta["delta"] = json!(rest);
                self.renumber(&mut delta);
                self.put(&delta, out);
                self.added += 1;
            }
        }
        *value = self.repeated(data)?;
        self.renumber(value);
        Ok(())
    }

    /// An event that says again what was said, looked through again: the same comes of it.
    fn repeated(&mut self, data: &[u8]) -> Result<Value, StreamEnd> {
        const ROOTS: [&str; 8] = [
            "text",
            "arguments",
            "refusal",
            "input",
            "code",
            "item",
            "part",
            "logprobs",
        ];
        let whole = Raw::new(data);
        let (mut found, mut blanks) = texts::of_fields(data, whole, &ROOTS);
        if let Some(response) = whole.get("response") {
            let (more, more_blanks) = texts::of_fields(data, response, &["output"]);
            found.extend(more);
            blanks.extend(more_blanks);
        }
        if self.inspector.output.is_empty() {
            blanks.clear();
        }
        self.inspector.inspect_answer(&mut found, Counting::Again)?;
        let spliced = texts::spliced(data, &found, &blanks);
        let mut value: Value = serde_json::from_slice(spliced.as_deref().unwrap_or(data))
            .map_err(|_| StreamEnd::Unreadable)?;
        if !self.inspector.output.is_empty() && value.get("logprobs").is_some() {
            value["logprobs"] = json!([]);
        }
        Ok(value)
    }

    /// Events that were added move the numbers of those behind them.
    fn renumber(&self, value: &mut Value) {
        if let Some(number) = value["sequence_number"].as_u64() {
            value["sequence_number"] = json!(number + self.added);
        }
    }

    /// What goes on of a text that has come this far.
    fn push(&mut self, key: Key, piece: &str) -> Result<String, StreamEnd> {
        if self.texts.len() >= TEXTS_MAX && !self.texts.contains_key(&key) {
            return Err(StreamEnd::Unreadable);
        }
        let inspector = &mut self.inspector;
        let text = self
            .texts
            .entry(key)
            .or_insert_with(|| Channel::new(inspector, key.2.part()));
        text.take(inspector, Some(piece))
            .map_err(StreamEnd::Blocked)
    }

    /// What is left of a text that has ended.
    fn flush(&mut self, key: Key) -> Result<String, StreamEnd> {
        match self.texts.get_mut(&key) {
            Some(text) if !text.is_over => text
                .take(&mut self.inspector, None)
                .map_err(StreamEnd::Blocked),
            _ => Ok(String::new()),
        }
    }

    /// The stream ends: texts that nothing has ended are said to their end in events of their own.
    fn flush_all(&mut self, out: &mut BytesMut) -> Result<(), StreamEnd> {
        for key in self.texts.keys().copied().collect::<Vec<_>>() {
            let rest = self.flush(key)?;
            if rest.is_empty() {
                continue;
            }
            let event = match self.dialect {
                Dialect::Anthropic => messages_delta(key, &rest),
                Dialect::OpenAiResponses => {
                    let mut delta = self.template.clone().unwrap_or_default();
                    delta["delta"] = json!(rest);
                    delta
                }
                _ => {
                    let is_completion = self
                        .template
                        .as_ref()
                        .is_some_and(|template| template.pointer("/choices/0/text").is_some());
                    let mut choice = json!({"index": key.0, "finish_reason": null});
                    match is_completion {
                        true => choice["text"] = json!(""),
                        false => choice["delta"] = json!({}),
                    }
                    add_rest(&mut choice, key, &rest);
                    let mut chunk = self.template.clone().unwrap_or_default();
                    chunk["choices"] = json!([choice]);
                    chunk
                }
            };
            self.put(&event, out);
        }
        Ok(())
    }
}

impl Channel {
    fn new(inspector: &Inspector, part: Part) -> Self {
        let guards = inspector.output.iter().map(|named| {
            let guard = std::sync::Arc::clone(&named.guard);
            match part {
                Part::Said => StreamGuard::new(guard),
                Part::Aside | Part::Arguments => StreamGuard::aside(guard),
            }
        });
        Self {
            guards: guards.collect(),
            restorer: restorer_for(part),
            is_over: false,
        }
    }

    /// Sends a piece, or the end, through the guards one after the other.
    fn take(&mut self, inspector: &mut Inspector, piece: Option<&str>) -> Result<String, Blocked> {
        self.is_over = piece.is_none();
        let mut passing = piece.unwrap_or_default().to_owned();
        for (guard, named) in self.guards.iter_mut().zip(&inspector.output) {
            let mut released = String::with_capacity(passing.len());
            let mut flow = guard.push(&passing, &mut inspector.vault, &mut released);
            if flow == Flow::Continue && self.is_over {
                flow = guard.finish(&mut inspector.vault, &mut released);
            }
            if flow == Flow::Blocked {
                let by = guard.findings().blocking();
                return Err(Blocked {
                    guardrail: named.name.clone(),
                    check: by.map_or_else(|| named.name.clone(), |by| by.check.clone()),
                    side: Side::Output,
                });
            }
            passing = released;
        }
        let mut restored = String::with_capacity(passing.len());
        self.restorer
            .push(&inspector.vault, &passing, &mut restored);
        if self.is_over {
            self.restorer.finish(&mut restored);
        }
        Ok(restored)
    }
}

/// Puts the rest of a text behind what the choice of a chunk has of it.
fn add_rest(choice: &mut Value, key: Key, rest: &str) {
    let Key(_, place, field) = key;
    if choice.get("text").is_some() {
        append(&mut choice["text"], rest);
        return;
    }
    let delta = object_in(choice, "delta");
    match field {
        Field::Content => append(&mut delta["content"], rest),
        Field::Refusal => append(&mut delta["refusal"], rest),
        Field::Reasoning => append(&mut delta["reasoning"], rest),
        Field::ReasoningContent => append(&mut delta["reasoning_content"], rest),
        Field::Arguments if place == u64::MAX => {
            append(&mut object_in(delta, "function_call")["arguments"], rest);
        }
        Field::Arguments => {
            if !delta["tool_calls"].is_array() {
                delta["tool_calls"] = json!([]);
            }
            let calls = delta["tool_calls"].as_array_mut();
            let calls = calls.expect("it was just made one");
            let is_it = |call: &&mut Value| {
                call.is_object() && call["index"].as_u64().unwrap_or(0) == place
            };
            match calls.iter_mut().find(is_it) {
                Some(call) => append(&mut object_in(call, "function")["arguments"], rest),
                None => calls.push(json!({"index": place, "function": {"arguments": rest}})),
            }
        }
    }
}

/// The object in a field of an object; made if there is none.
fn object_in<'v>(of: &'v mut Value, name: &str) -> &'v mut Value {
    let value = &mut of[name];
    if !value.is_object() {
        *value = json!({});
    }
    value
}

fn append(to: &mut Value, rest: &str) {
    match to {
        Value::String(text) => text.push_str(rest),
        Value::Array(parts) => parts.push(json!({"type": "text", "text": rest})),
        other => *other = json!(rest),
    }
}

fn messages_delta(key: Key, rest: &str) -> Value {
    let delta = match key.2 {
        Field::Arguments => json!({"type": "input_json_delta", "partial_json": rest}),
        Field::Reasoning | Field::ReasoningContent => {
            json!({"type": "thinking_delta", "thinking": rest})
        }
        Field::Content | Field::Refusal => json!({"type": "text_delta", "text": rest}),
    };
    json!({"type": "content_block_delta", "index": key.0, "delta": delta})
}

/// Which text an event of Responses is about.
fn responses_key(stem: &str, value: &Value) -> Key {
    let number = |name: &str| value[name].as_u64();
    let part = number("content_index").or_else(|| number("summary_index"));
    let field = match stem.strip_prefix("response.").unwrap_or(stem) {
        "output_text" => Field::Content,
        "refusal" => Field::Refusal,
        "reasoning_summary_text" => Field::ReasoningContent,
        "function_call_arguments" | "mcp_call_arguments" => Field::Arguments,
        _ => Field::Reasoning,
    };
    Key(
        number("output_index").unwrap_or(0),
        part.unwrap_or(0),
        field,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::GuardSet;

    fn inspector(spec: &str) -> Inspector {
        let spec = serde_json::from_str(spec).expect("a guardrail");
        let name: base::Name = "wall".parse().expect("a name");
        let all = [(name.clone(), std::sync::Arc::new(spec))].into();
        let set = GuardSet::compile(&all).expect("sound");
        let model = "m".parse().expect("a model's name");
        set.for_call(&name, &model).expect("it applies")
    }

    const CARDS: &str = r#"{"looks_at":"output","checks":[
        {"name":"it","action":"redact","check":{"pii":{"kinds":["card"]}}}]}"#;

    fn run(dialect: Dialect, spec: &str, events: &[Value]) -> (Vec<Value>, Noted) {
        let mut stream = InspectedStream::new(dialect, inspector(spec)).expect("it looks");
        let mut out = BytesMut::new();
        for event in events {
            let kind = event["type"].as_str().expect("a type");
            let text = format!("event: {kind}\ndata: {event}\n\n");
            stream.feed(text.into(), &mut out).expect("it goes on");
        }
        stream.finish(&mut out).expect("it ends");
        let text = String::from_utf8(out.to_vec()).expect("text");
        assert!(!text.contains("1111 1111"), "{text}");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = data.map(|data| serde_json::from_str(data).expect("JSON"));
        (events.collect(), stream.noted())
    }

    #[test]
    fn what_responses_repeat_is_what_their_deltas_said() {
        let text = "It is 4111 1111 1111 1111";
        let place = |kind: &str, number: u64, more: Value| {
            let mut event = json!({
                "type": kind, "sequence_number": number, "output_index": 0, "content_index": 0,
            });
            let fields = event.as_object_mut().expect("an object");
            fields.extend(more.as_object().expect("an object").clone());
            event
        };
        let part = json!({"type": "output_text", "text": text});
        let item = json!({"type": "message", "content": [part]});
        let events = [
            place(
                "response.output_text.delta",
                1,
                json!({"delta": "It is 4111 11", "logprobs": [1]}),
            ),
            place(
                "response.output_text.delta",
                2,
                json!({"delta": "11 1111 1111"}),
            ),
            place("response.output_text.done", 3, json!({"text": text})),
            place("response.content_part.done", 4, json!({"part": part})),
            place("response.output_item.done", 5, json!({"item": item})),
            place(
                "response.completed",
                6,
                json!({"response": {"output": [item]}}),
            ),
        ];
        let (events, noted) = run(Dialect::OpenAiResponses, CARDS, &events);
        let said: String = events
            .iter()
            .filter(|event| event["type"] == "response.output_text.delta")
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(said, "It is [CARD_1]");
        assert_eq!(events[0]["logprobs"], json!([]));
        let last = events.last().expect("the end");
        let repeated = &last["response"]["output"][0]["content"][0]["text"];
        assert_eq!(repeated, "It is [CARD_1]");
        let numbers: Vec<_> = events
            .iter()
            .map(|event| &event["sequence_number"])
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(noted.redacted, 1, "what is repeated is counted once");
    }

    #[test]
    fn a_blocks_rest_comes_before_its_end() {
        let delta = |text: &str| {
            json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": text}})
        };
        let events = [
            delta("{\"a\":\"4111 1111 11"),
            delta("11 1111"),
            json!({"type": "content_block_stop", "index": 1}),
        ];
        let (events, _) = run(Dialect::Anthropic, CARDS, &events);
        let said = events
            .iter()
            .filter_map(|event| event["delta"]["partial_json"].as_str());
        assert_eq!(said.collect::<String>(), "{\"a\":\"[CARD_1]");
        assert_eq!(
            events.last().expect("the end")["type"],
            "content_block_stop"
        );
    }

    #[test]
    fn what_no_event_ends_is_said_before_the_marker() {
        let mut stream =
            InspectedStream::new(Dialect::OpenAiChat, inspector(CARDS)).expect("it looks");
        let mut out = BytesMut::new();
        let chunk =
            json!({"id": "c", "choices": [{"index": 0, "text": "a word", "finish_reason": null}]});
        let text = format!("data: {chunk}\n\ndata: [DONE]\n\n");
        stream.feed(text.into(), &mut out).expect("it goes on");
        stream.finish(&mut out).expect("it ends");
        let text = String::from_utf8(out.to_vec()).expect("text");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let said: String = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
            .filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned()))
            .collect();
        assert_eq!(said, "a word");
    }

    #[test]
    fn what_is_no_event_of_the_dialect_ends_it() {
        for data in ["[1]", "{", "\"4111 1111 1111 1111\""] {
            let mut stream =
                InspectedStream::new(Dialect::OpenAiChat, inspector(CARDS)).expect("it looks");
            let mut out = BytesMut::new();
            let fed = stream.feed(format!("data: {data}\n\n").into(), &mut out);
            assert_eq!(fed, Err(StreamEnd::Unreadable), "{data}");
            assert!(out.is_empty());
        }
    }
}
