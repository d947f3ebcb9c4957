//! What Bedrock streams (`ConverseStream`).

use bytes::Bytes;

use super::answer::{read_stop, read_tier, read_usage, signed};
use crate::conversation::{AnswerEvent, PartDelta, PartStart, StreamFailure};
use crate::dialect::read::{At, Misread};
use crate::dialect::stream::{PartTracker, StreamReader};
use crate::dialect::{UnreadableAnswer, checked};
use crate::event_stream::{EventMessage, EventStreamDecoder};
use crate::sse::EVENT_BYTES_MAX;

/// Reads the stream of one answer.
#[derive(Debug)]
pub(in crate::dialect) struct BedrockStreamReader {
    decoder: EventStreamDecoder,
    parts: PartTracker,
    begun: bool,
    stopped: bool,
    ended: bool,
}

impl Default for BedrockStreamReader {
    fn default() -> Self {
        Self {
            decoder: EventStreamDecoder::new(EVENT_BYTES_MAX),
            parts: PartTracker::default(),
            begun: false,
            stopped: false,
            ended: false,
        }
    }
}

impl StreamReader for BedrockStreamReader {
    fn feed(
        &mut self,
        chunk: Bytes,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        // Collected first, since reading a message needs the rest of `self`: a chunk is small.
        let messages: Vec<_> = self.decoder.feed(&chunk).collect();
        for message in messages {
            let message = message.map_err(|error| UnreadableAnswer::new(error.to_string()))?;
            if !self.ended {
                self.message(&message, events)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        if !self.stopped || !self.decoder.is_between_messages() {
            return Err(UnreadableAnswer::new(
                "its stream ended before the answer did",
            ));
        }
        events.push(AnswerEvent::End);
        Ok(())
    }
}

impl BedrockStreamReader {
    fn message(
        &mut self,
        message: &EventMessage,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        match message.header(":message-type") {
            Some("event") => {}
            Some("exception" | "error") => {
                events.push(AnswerEvent::Error(failure(message)));
                self.ended = true;
                return Ok(());
            }
            _ => return Err(UnreadableAnswer::new("a message of its stream has no type")),
        }
        let payload = checked(&message.payload)?;
        let event = message.header(":event-type").unwrap_or_default();
        Ok(self.event(event, &payload, events)?)
    }

    fn event(
        &mut self,
        event: &str,
        payload: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        if !std::mem::replace(&mut self.begun, true) {
            events.push(AnswerEvent::Begin {
                id: None,
                model: None,
                created: None,
                service_tier: None,
            });
        }
        match event {
            "contentBlockStart" => {
                if let Some(start) = payload.get("start")
                    && let Some(call) = start.get("toolUse")
                {
                    let start = PartStart::ToolCall {
                        id: call.need("toolUseId")?.text()?,
                        name: call.need("name")?.text()?,
                    };
                    self.parts.begin(0, start, events);
                }
            }
            "contentBlockDelta" => self.delta(&payload.need("delta")?, events)?,
            "contentBlockStop" => self.parts.end(0, events),
            "messageStop" => {
                self.parts.end(0, events);
                let reason = read_stop(&payload.need("stopReason")?, payload)?;
                if !std::mem::replace(&mut self.stopped, true) {
                    let candidate = 0;
                    events.push(AnswerEvent::Stop { candidate, reason });
                }
            }
            "metadata" => {
                if let Some(usage) = payload.get("usage") {
                    events.extend(read_usage(&usage)?.map(AnswerEvent::Usage));
                }
                // The tier comes too late to be told: `Begin` has passed.
                read_tier(payload)?;
            }
            // `messageStart`, and what comes new.
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, delta: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        delta.object(|name, value| {
            match name {
                "text" => {
                    let text = value.text()?;
                    self.parts.text(0, PartStart::Text, text, events);
                }
                "toolUse" if self.parts.is_call() => {
                    let arguments = PartDelta::Arguments(value.need("input")?.text()?);
                    self.parts.delta(0, arguments, events);
                }
                "toolUse" => return Err(value.refuse("goes on with a call that has not begun")),
                "reasoningContent" => self.reasoning(&value, events)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn reasoning(&mut self, delta: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        delta.object(|name, value| {
            match name {
                "text" => {
                    let text = value.text()?;
                    self.parts.text(0, PartStart::Reasoning, text, events);
                }
                "signature" => {
                    self.parts.ensure(0, PartStart::Reasoning, events);
                    let signature = PartDelta::Signature(signed(value.text()?));
                    self.parts.delta(0, signature, events);
                }
                "redactedContent" => {
                    self.parts.ensure(0, PartStart::RedactedReasoning, events);
                    let signature = PartDelta::Signature(signed(value.text()?));
                    self.parts.delta(0, signature, events);
                }
                _ => {}
            }
            Ok(())
        })
    }
}

/// An exception is `{"message"}`; an error says all in its headers.
fn failure(message: &EventMessage) -> StreamFailure {
    let kind = message.header(":exception-type");
    let kind = kind
        .or_else(|| message.header(":error-code"))
        .unwrap_or("error");
    let payload = checked(&message.payload).ok();
    let text = payload.and_then(|payload| payload.get("message")?.text().ok());
    let text = text.or_else(|| message.header(":error-message").map(str::to_owned));
    StreamFailure {
        kind: kind.to_owned(),
        message: text.unwrap_or_default(),
    }
}
