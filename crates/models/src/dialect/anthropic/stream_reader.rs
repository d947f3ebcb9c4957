//! Streams of upstreams that speak Anthropic's dialect.

use super::block_reader::read_signature;
use super::read_stop;
use crate::conversation::{
    AnswerEvent, PartDelta, PartStart, Signature, StopReason, StreamFailure,
};
use crate::dialect::read::At;
use crate::dialect::stream::{PartTracker, SseReader};
use crate::dialect::usage::AnthropicUsage;
use crate::dialect::{Dialect, UnreadableAnswer, checked};

/// Reads a stream of Messages. There is one candidate, and one block at a time.
#[derive(Debug, Default)]
pub(in crate::dialect) struct MessagesStreamReader {
    phase: Phase,
    parts: PartTracker,
    /// The block being read is of a kind that is passed over.
    passes_over: bool,
    usage: AnthropicUsage,
    stop: Option<StopReason>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Within,
    After,
}

impl SseReader for MessagesStreamReader {
    fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        if self.phase == Phase::After || data.trim_ascii().is_empty() {
            return Ok(());
        }
        let event = checked(data)?;
        match (&*event.need("type")?.text()?, &self.phase) {
            ("error", _) => {
                self.phase = Phase::After;
                events.push(AnswerEvent::Error(read_failure(&event)));
            }
            ("message_start", Phase::Before) => self.begin(&event, events)?,
            ("ping", _) => {}
            (_, Phase::Before) => {
                return Err(UnreadableAnswer::new(
                    "the stream begins without its message",
                ));
            }
            ("content_block_start", _) => self.block(&event.need("content_block")?, events)?,
            ("content_block_delta", _) => self.delta(&event.need("delta")?, events)?,
            ("content_block_stop", _) => self.parts.end(0, events),
            ("message_delta", _) => self.message_delta(&event, events)?,
            ("message_stop", _) => self.end(events),
            // What comes new is passed over, as Anthropic asks of clients.
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        match self.phase {
            Phase::After => Ok(()),
            Phase::Before | Phase::Within => Err(UnreadableAnswer::new("the stream ended early")),
        }
    }
}

impl MessagesStreamReader {
    fn begin(
        &mut self,
        event: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        self.phase = Phase::Within;
        let message = event.need("message")?;
        let text = |name: &str| message.get(name).and_then(|value| value.text().ok());
        events.push(AnswerEvent::Begin {
            id: text("id"),
            model: text("model"),
            created: None,
            service_tier: None,
        });
        self.read_usage(&message, events)
    }

    fn read_usage(
        &mut self,
        at: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        if let Some(usage) = at.get("usage") {
            self.usage.read(&usage)?;
            events.extend(self.usage.tokens().map(AnswerEvent::Usage));
        }
        Ok(())
    }

    fn block(
        &mut self,
        block: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        let start = match &*block.need("type")?.text()? {
            "text" => PartStart::Text,
            "thinking" => PartStart::Reasoning,
            "redacted_thinking" => PartStart::RedactedReasoning,
            "tool_use" => PartStart::ToolCall {
                id: block.need("id")?.text()?,
                name: block.need("name")?.text()?,
            },
            _ => {
                self.passes_over = true;
                return Ok(());
            }
        };
        self.passes_over = false;
        self.parts.begin(0, start, events);
        let text = block.get("text").or_else(|| block.get("thinking"));
        if let Some(text) = text.map(|text| text.text()).transpose()? {
            self.add(PartDelta::Text(text), events);
        }
        if let Some(signature) = read_signature(block)? {
            self.parts.delta(0, PartDelta::Signature(signature), events);
        }
        // Whole in some servers' streams; an empty object says nothing, the deltas do.
        if let Some(input) = block.get("input").filter(|input| !input.is_empty()) {
            let whole = String::from_utf8_lossy(input.raw.bytes()).into_owned();
            self.add(PartDelta::Arguments(whole), events);
        }
        Ok(())
    }

    fn add(&mut self, delta: PartDelta, events: &mut Vec<AnswerEvent>) {
        let empty = match &delta {
            PartDelta::Text(text) | PartDelta::Arguments(text) => text.is_empty(),
            PartDelta::Signature(_) => false,
        };
        if !empty {
            self.parts.delta(0, delta, events);
        }
    }

    fn delta(
        &mut self,
        delta: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        if self.passes_over {
            return Ok(());
        }
        let text = |name: &str| delta.need(name)?.text();
        let delta = match &*text("type")? {
            "text_delta" => PartDelta::Text(text("text")?),
            "thinking_delta" => PartDelta::Text(text("thinking")?),
            "input_json_delta" => PartDelta::Arguments(text("partial_json")?),
            "signature_delta" => {
                let signature = text("signature")?;
                let origin_or_own = Signature::from_carried(&signature, Dialect::Anthropic);
                PartDelta::Signature(origin_or_own)
            }
            _ => return Ok(()),
        };
        let fits = matches!(
            (&delta, self.parts.open()),
            (PartDelta::Signature(_), Some(_))
                | (PartDelta::Arguments(_), Some(PartStart::ToolCall { .. }))
                | (
                    PartDelta::Text(_),
                    Some(PartStart::Text | PartStart::Reasoning)
                )
        );
        if !fits {
            return Err(UnreadableAnswer::new("a block goes on as what it is not"));
        }
        self.add(delta, events);
        Ok(())
    }

    fn message_delta(
        &mut self,
        event: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        if let Some(delta) = event.get("delta")
            && let Some(reason) = delta.get("stop_reason")
        {
            let sequence = delta.get("stop_sequence").map(|sequence| sequence.text());
            self.stop = Some(read_stop(&reason.text()?, sequence.transpose()?));
        }
        self.read_usage(event, events)
    }

    fn end(&mut self, events: &mut Vec<AnswerEvent>) {
        self.phase = Phase::After;
        self.parts.end(0, events);
        events.push(AnswerEvent::Stop {
            candidate: 0,
            reason: self.stop.take().unwrap_or(StopReason::End),
        });
        events.push(AnswerEvent::End);
    }
}

/// `{"type": "error", "error": {"type", "message"}}`
fn read_failure(event: &At<'_>) -> StreamFailure {
    let error = event.get("error");
    let text = |name: &str| error.as_ref()?.get(name)?.text().ok();
    StreamFailure {
        kind: text("type").unwrap_or_else(|| "api_error".to_owned()),
        message: text("message").unwrap_or_else(|| "the model's server failed".to_owned()),
    }
}
