//! Streams of upstreams that speak Responses.

use super::answer::{read_stop, read_usage, signature};
use super::item::{BETWEEN, read_signature};
use crate::conversation::{AnswerEvent, PartDelta, PartStart, StreamFailure};
use crate::dialect::read::{At, Misread};
use crate::dialect::stream::{PartTracker, SseReader};
use crate::dialect::{UnreadableAnswer, checked};
use crate::envelope::Kind;

/// Reads the stream of one answer.
#[derive(Debug, Default)]
pub(in crate::dialect) struct ResponsesStreamReader {
    parts: PartTracker,
    begun: bool,
    called: bool,
    /// Whether arguments of the open call have come.
    argued: bool,
    /// Pieces of the open thought that have begun.
    pieces: u32,
    stopped: bool,
    ended: bool,
}

impl SseReader for ResponsesStreamReader {
    fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        // Some engines end with the chat's word.
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let root = checked(data)?;
        let kind = root.need("type")?.text()?;
        Ok(self.typed(&kind, &root, events)?)
    }

    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        if !self.stopped {
            return Err(UnreadableAnswer::new(
                "its stream ended before the answer did",
            ));
        }
        events.push(AnswerEvent::End);
        Ok(())
    }
}

impl ResponsesStreamReader {
    fn typed(
        &mut self,
        kind: &str,
        root: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                self.begin(&root.need("response")?, events)?;
            }
            "response.output_item.added" => self.item_added(&root.need("item")?, events)?,
            "response.content_part.added" => self.content_added(&root.need("part")?, events)?,
            "response.output_text.delta" => self.text_delta(root, events)?,
            "response.refusal.delta" => {
                let text = root.need("delta")?.text()?;
                self.parts.text(0, PartStart::Refusal, text, events);
            }
            "response.reasoning_summary_part.added" => self.piece(events),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let text = root.need("delta")?.text()?;
                self.parts.text(0, PartStart::Reasoning, text, events);
            }
            "response.function_call_arguments.delta" => {
                let delta = root.need("delta")?;
                if !self.parts.is_call() {
                    return Err(delta.refuse("goes on with a call that has not begun"));
                }
                self.argued = true;
                self.parts
                    .delta(0, PartDelta::Arguments(delta.text()?), events);
            }
            "response.content_part.done" => {
                if let Some(signature) = signature(&root.need("part")?)? {
                    self.parts.delta(0, PartDelta::Signature(signature), events);
                }
                if self.parts.open() != Some(&PartStart::Reasoning) {
                    self.parts.end(0, events);
                }
            }
            "response.output_item.done" => self.item_done(&root.need("item")?, events)?,
            "response.completed" | "response.incomplete" => {
                self.end(&root.need("response")?, events)?;
            }
            "response.failed" => {
                let response = root.need("response")?;
                let failure = read_failure(response.get("error").as_ref())?;
                self.fail(failure, events);
            }
            "error" => self.fail(read_failure(Some(root))?, events),
            // What only says again what was said, and what comes new.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, response: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let text = |name: &str| response.get(name).map(|text| text.text()).transpose();
        events.push(AnswerEvent::Begin {
            id: text("id")?,
            model: text("model")?,
            created: response
                .get("created_at")
                .and_then(|created| created.u64().ok()),
            service_tier: text("service_tier")?,
        });
        Ok(())
    }

    fn item_added(&mut self, item: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        self.parts.end(0, events);
        self.pieces = 0;
        match &*item.need("type")?.text()? {
            "message" | "reasoning" => Ok(()),
            "function_call" => {
                self.called = true;
                self.argued = false;
                let start = PartStart::ToolCall {
                    id: item.need("call_id")?.text()?,
                    name: item.need("name")?.text()?,
                };
                self.parts.begin(0, start, events);
                Ok(())
            }
            _ => Err(item.refuse("is of a type that no client's dialect can carry")),
        }
    }

    fn content_added(
        &mut self,
        part: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        match &*part.need("type")?.text()? {
            "output_text" => self.parts.begin(0, PartStart::Text, events),
            "refusal" => self.parts.begin(0, PartStart::Refusal, events),
            "reasoning_text" => self.piece(events),
            _ => {}
        }
        Ok(())
    }

    /// One more piece of a thought.
    fn piece(&mut self, events: &mut Vec<AnswerEvent>) {
        self.parts.ensure(0, PartStart::Reasoning, events);
        if self.pieces > 0 {
            let between = PartDelta::Text(BETWEEN.to_owned());
            self.parts.delta(0, between, events);
        }
        self.pieces += 1;
    }

    fn text_delta(&mut self, root: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        let text = root.need("delta")?.text()?;
        self.parts.text(0, PartStart::Text, text, events);
        if let Some(content) = root.get("logprobs").filter(|content| !content.is_empty())
            && content.kind() == Kind::Array
        {
            events.push(AnswerEvent::Logprobs {
                candidate: 0,
                content: content.json(),
            });
        }
        Ok(())
    }

    fn item_done(&mut self, item: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        match &*item.need("type")?.text()? {
            "reasoning" => {
                if let Some(encrypted) = item.get("encrypted_content") {
                    if self.parts.open() != Some(&PartStart::Reasoning) {
                        self.parts.begin(0, PartStart::RedactedReasoning, events);
                    }
                    let signature = PartDelta::Signature(read_signature(&encrypted)?);
                    self.parts.delta(0, signature, events);
                }
            }
            "function_call" if self.parts.is_call() => {
                if !std::mem::replace(&mut self.argued, true) {
                    let arguments = item.need("arguments")?.text()?;
                    self.parts.delta(0, PartDelta::Arguments(arguments), events);
                }
                if let Some(signature) = signature(item)? {
                    self.parts.delta(0, PartDelta::Signature(signature), events);
                }
            }
            _ => {}
        }
        self.parts.end(0, events);
        Ok(())
    }

    fn end(&mut self, response: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        self.begin(response, events)?;
        self.parts.end(0, events);
        if let Some(usage) = response.get("usage") {
            events.extend(read_usage(&usage)?.map(AnswerEvent::Usage));
        }
        if let Some(reason) = read_stop(response, self.called)?
            && !std::mem::replace(&mut self.stopped, true)
        {
            let candidate = 0;
            events.push(AnswerEvent::Stop { candidate, reason });
        }
        Ok(())
    }

    fn fail(&mut self, failure: StreamFailure, events: &mut Vec<AnswerEvent>) {
        events.push(AnswerEvent::Error(failure));
        self.ended = true;
    }
}

/// `{"code", "message"}`
fn read_failure(error: Option<&At<'_>>) -> Result<StreamFailure, Misread> {
    let text = |name: &str| {
        let text = error.and_then(|error| error.get(name).map(|text| text.text()));
        text.transpose()
    };
    Ok(StreamFailure {
        kind: text("code")?.unwrap_or_else(|| "error".to_owned()),
        message: text("message")?.unwrap_or_default(),
    })
}
