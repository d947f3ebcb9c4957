//! Streams of upstreams that speak OpenAI's chat dialect.

use super::OF_CONTENT;
use super::answer::{called_for, read_logprobs, read_stop};
use super::message_reader::{Detail, read_detail};
use crate::conversation::{
    AnswerEvent, PartDelta, PartStart, Signature, StopReason, StreamFailure,
};
use crate::dialect::ids::call_id;
use crate::dialect::read::{At, Misread};
use crate::dialect::stream::{PartTracker, SseReader};
use crate::dialect::usage::read_openai;
use crate::dialect::{UnreadableAnswer, checked};
use crate::envelope::Kind;

/// 128: OpenAI's own bound of `n`.
const CANDIDATES_MAX: usize = 128;

/// Reads a stream of `chat.completion.chunk`.
#[derive(Debug, Default)]
pub(in crate::dialect) struct ChatStreamReader {
    has_begun: bool,
    has_ended: bool,
    /// The answer's id, if it has one.
    id: String,
    candidates: Vec<Choice>,
}

/// One choice of a stream.
#[derive(Debug, Default)]
struct Choice {
    parts: PartTracker,
    /// The index that the upstream gave the call being written.
    call_index: Option<u64>,
    /// Calls so far.
    calls: u32,
    /// Whether thoughts came as `reasoning_content`: then `reasoning_details` only sign them.
    has_plain_thoughts: bool,
    has_stopped: bool,
}

impl SseReader for ChatStreamReader {
    fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        let data = data.trim_ascii();
        if self.has_ended || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            return self.end(events);
        }
        let chunk = checked(data)?;
        if let Some(failure) = read_failure(&chunk) {
            self.has_ended = true;
            events.push(AnswerEvent::Error(failure));
            return Ok(());
        }
        if !self.has_begun {
            self.has_begun = true;
            let text = |name: &str| chunk.get(name).and_then(|value| value.text().ok());
            self.id = text("id").unwrap_or_default();
            events.push(AnswerEvent::Begin {
                id: text("id"),
                model: text("model"),
                created: chunk.get("created").and_then(|created| created.u64().ok()),
                service_tier: text("service_tier"),
            });
        }
        if let Some(choices) = chunk.get("choices") {
            choices.array(|choice| self.choice(&choice, events))?;
        }
        let usage = chunk.get("usage").and_then(|usage| read_openai(&usage));
        events.extend(usage.map(AnswerEvent::Usage));
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        let complete = self.candidates.iter().all(|choice| choice.has_stopped);
        match (self.has_ended, complete && !self.candidates.is_empty()) {
            (true, _) => Ok(()),
            // Some engines close without `[DONE]`.
            (false, true) => self.end(events),
            (false, false) => Err(UnreadableAnswer::new("the stream ended early")),
        }
    }
}

impl ChatStreamReader {
    fn end(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        if !self.has_begun {
            return Err(UnreadableAnswer::new("the stream ended before it began"));
        }
        self.has_ended = true;
        for (index, choice) in (0..).zip(&mut self.candidates) {
            choice.stop(index, StopReason::End, events);
        }
        events.push(AnswerEvent::End);
        Ok(())
    }

    fn choice(
        &mut self,
        at: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        let index = at.get("index").map_or(Ok(0), |index| index.u64())?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if index >= CANDIDATES_MAX {
            return Err(UnreadableAnswer::new("a choice has an index above 127"));
        }
        while self.candidates.len() <= index {
            self.candidates.push(Choice::default());
        }
        let choice = &mut self.candidates[index];
        let candidate = u32::try_from(index).expect("an index is below 128");
        if choice.has_stopped {
            return Ok(());
        }
        if let Some(logprobs) = at.get("logprobs") {
            let content = read_logprobs(&logprobs);
            events.extend(content.map(|content| AnswerEvent::Logprobs { candidate, content }));
        }
        // A whole message in a stream is what some engines send for short answers.
        if let Some(delta) = at.get("delta").or_else(|| at.get("message")) {
            choice.delta(&self.id, candidate, &delta, events)?;
        }
        if let Some(stop) = read_stop(at)? {
            choice.stop(candidate, stop, events);
        }
        Ok(())
    }
}

impl Choice {
    fn delta(
        &mut self,
        answer: &str,
        candidate: u32,
        delta: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        let text = |name: &str| {
            let value = delta.get(name).filter(|value| value.kind() == Kind::String);
            let text = value.map(|value| value.text()).transpose()?;
            Ok::<_, Misread>(text.filter(|text| !text.is_empty()))
        };
        let details = delta.get("reasoning_details");
        let thoughts = match text("reasoning_content")? {
            Some(thoughts) => Some(thoughts),
            // OpenRouter says the same in both.
            None if details.is_some() => None,
            None => text("reasoning")?,
        };
        if let Some(thoughts) = thoughts {
            self.has_plain_thoughts = true;
            let start = PartStart::Reasoning;
            self.parts.text(candidate, start, thoughts, events);
        }
        if let Some(details) = details {
            details.array(|detail| {
                if let Some(detail) = read_detail(&detail)? {
                    self.detail(candidate, detail, events);
                }
                Ok::<_, Misread>(())
            })?;
        }
        self.content(candidate, delta, events)?;
        if let Some(refusal) = text("refusal")? {
            let start = PartStart::Refusal;
            self.parts.text(candidate, start, refusal, events);
        }
        if let Some(calls) = delta.get("tool_calls") {
            calls.array(|call| self.call(answer, candidate, &call, events))?;
        }
        Ok(())
    }

    /// A text, or Mistral's parts.
    fn content(
        &mut self,
        candidate: u32,
        delta: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        let Some(content) = delta.get("content") else {
            return Ok(());
        };
        if content.kind() == Kind::String {
            let text = content.text()?;
            if !text.is_empty() {
                self.parts.text(candidate, PartStart::Text, text, events);
            }
            return Ok(());
        }
        content.array(|part| {
            match &*part.need("type")?.text()? {
                "text" => {
                    let text = part.need("text")?.text()?;
                    self.parts.text(candidate, PartStart::Text, text, events);
                }
                "thinking" => part.need("thinking")?.array(|chunk| {
                    if let Some(text) = chunk.get("text") {
                        let start = PartStart::Reasoning;
                        self.parts.text(candidate, start, text.text()?, events);
                    }
                    Ok::<_, Misread>(())
                })?,
                _ => {}
            }
            Ok(())
        })
    }

    fn detail(&mut self, candidate: u32, detail: Detail, events: &mut Vec<AnswerEvent>) {
        let Detail {
            text,
            signature,
            id,
        } = detail;
        match text {
            Some(text) => {
                if !text.is_empty() && !self.has_plain_thoughts {
                    let start = PartStart::Reasoning;
                    self.parts.text(candidate, start, text, events);
                }
                if let Some(signature) = signature {
                    self.sign(candidate, PartStart::Reasoning, signature, events);
                    self.has_plain_thoughts = false;
                }
            }
            None => {
                let Some(signature) = signature else {
                    return;
                };
                let owned = id.is_some_and(|id| match self.parts.open() {
                    Some(PartStart::ToolCall { id: call, .. }) => *call == id,
                    Some(PartStart::Text) => id == OF_CONTENT,
                    _ => false,
                });
                if !owned {
                    self.parts
                        .begin(candidate, PartStart::RedactedReasoning, events);
                }
                self.parts
                    .delta(candidate, PartDelta::Signature(signature), events);
            }
        }
    }

    fn sign(
        &mut self,
        candidate: u32,
        start: PartStart,
        signature: Signature,
        events: &mut Vec<AnswerEvent>,
    ) {
        self.parts.ensure(candidate, start, events);
        self.parts
            .delta(candidate, PartDelta::Signature(signature), events);
        self.parts.end(candidate, events);
    }

    fn call(
        &mut self,
        answer: &str,
        candidate: u32,
        call: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        let function = call.get("function");
        let text = |value: Option<At<'_>>| value.map(|value| value.text()).transpose();
        let id = text(call.get("id"))?.filter(|id| !id.is_empty());
        let index = match call.get("index") {
            Some(index) => index.u64()?,
            // Some services give none: an id then begins a call.
            None if id.is_some() => u64::from(self.calls),
            None => self.call_index.unwrap_or_default(),
        };
        let name = function.as_ref().and_then(|function| function.get("name"));
        let name = text(name)?.filter(|name| !name.is_empty());
        if self.begins_call(index, id.as_deref(), name.as_deref()) {
            if self.call_index.is_some_and(|known| index < known) {
                return Err(UnreadableAnswer::new("a call goes on after the next began"));
            }
            let name = name.ok_or_else(|| UnreadableAnswer::new("a call has no name"))?;
            let id = id.unwrap_or_else(|| call_id(answer, candidate as usize, self.calls as usize));
            let start = PartStart::ToolCall { id, name };
            self.parts.begin(candidate, start, events);
            self.call_index = Some(index);
            self.calls += 1;
            if let Some(signature) = google_signature(call) {
                self.parts
                    .delta(candidate, PartDelta::Signature(signature), events);
            }
        }
        let arguments = function
            .as_ref()
            .and_then(|function| function.get("arguments"));
        let arguments = match arguments {
            // Some engines write the object itself.
            Some(value) if value.kind() == Kind::Object => {
                Some(String::from_utf8_lossy(value.raw.bytes()).into_owned())
            }
            other => text(other)?,
        };
        if let Some(arguments) = arguments.filter(|arguments| !arguments.is_empty()) {
            self.parts
                .delta(candidate, PartDelta::Arguments(arguments), events);
        }
        Ok(())
    }

    /// A call begins with its index. Some engines give all calls the same one, and others say the
    /// id and name again with each piece: another id with a name begins another call.
    fn begins_call(&self, index: u64, id: Option<&str>, name: Option<&str>) -> bool {
        match self.parts.open() {
            Some(PartStart::ToolCall { id: open, .. }) if self.call_index == Some(index) => {
                name.is_some() && id.is_some_and(|id| id != open)
            }
            _ => true,
        }
    }

    fn stop(&mut self, candidate: u32, stop: StopReason, events: &mut Vec<AnswerEvent>) {
        if !std::mem::replace(&mut self.has_stopped, true) {
            self.parts.end(candidate, events);
            let reason = called_for(stop, self.calls > 0);
            events.push(AnswerEvent::Stop { candidate, reason });
        }
    }
}

fn google_signature(call: &At<'_>) -> Option<Signature> {
    let extra = call.get("extra_content")?;
    let google = extra.get("google")?;
    let data = google.get("thought_signature")?.text().ok()?;
    Some(Signature {
        origin: crate::dialect::Dialect::Gemini,
        data,
    })
}

/// `{"error": {"message", "type"}}` or `{"object": "error", "message"}`.
fn read_failure(chunk: &At<'_>) -> Option<StreamFailure> {
    let is_error = |object: &At<'_>| object.raw.bytes() == b"\"error\"";
    let whole = chunk.get("object").filter(is_error).map(|_| *chunk);
    let error = chunk.get("error").or(whole)?;
    let text = |name: &str| error.get(name).and_then(|value| value.text().ok());
    let message = text("message").or_else(|| error.text().ok());
    Some(StreamFailure {
        kind: text("type").unwrap_or_else(|| "server_error".to_owned()),
        message: message.unwrap_or_else(|| "the model's server failed".to_owned()),
    })
}
