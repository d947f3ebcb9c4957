//! What Cohere streams.

use super::answer::{read_stop, read_usage};
use crate::conversation::{AnswerEvent, PartDelta, PartStart, StreamFailure};
use crate::dialect::read::{At, Misread};
use crate::dialect::stream::{PartTracker, SseReader};
use crate::dialect::{UnreadableAnswer, checked};

/// Reads the stream of one answer.
#[derive(Debug, Default)]
pub(in crate::dialect) struct CohereStreamReader {
    parts: PartTracker,
    begun: bool,
    stopped: bool,
    ended: bool,
}

impl SseReader for CohereStreamReader {
    fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        // Some of Cohere's clouds end with OpenAI's word.
        if self.ended || data.trim_ascii() == b"[DONE]" {
            return Ok(());
        }
        let root = checked(data)?;
        let kind = root.need("type")?.text()?;
        self.begin(&root, events)?;
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

impl CohereStreamReader {
    fn begin(&mut self, root: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        if !std::mem::replace(&mut self.begun, true) {
            let id = root.get("id");
            events.push(AnswerEvent::Begin {
                id: id.map(|id| id.text()).transpose()?,
                model: None,
                created: None,
                service_tier: None,
            });
        }
        Ok(())
    }

    fn typed(
        &mut self,
        kind: &str,
        root: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        match kind {
            "content-start" | "content-delta" => {
                within(root, &["delta", "message", "content"], |content| {
                    self.content(content, events)
                })
            }
            "tool-plan-delta" => within(root, &["delta", "message", "tool_plan"], |plan| {
                self.parts.text(0, PartStart::Text, plan.text()?, events);
                Ok(())
            }),
            "tool-call-start" => within(root, &["delta", "message", "tool_calls"], |call| {
                let function = call.need("function")?;
                let start = PartStart::ToolCall {
                    id: call.need("id")?.text()?,
                    name: function.need("name")?.text()?,
                };
                self.parts.begin(0, start, events);
                self.arguments(&function, events)
            }),
            "tool-call-delta" => within(
                root,
                &["delta", "message", "tool_calls", "function"],
                |function| {
                    if !self.parts.is_call() {
                        return Err(function.refuse("goes on with a call that has not begun"));
                    }
                    self.arguments(function, events)
                },
            ),
            "content-end" | "tool-call-end" => {
                self.parts.end(0, events);
                Ok(())
            }
            "message-end" => within(root, &["delta"], |delta| self.message_end(delta, events)),
            // `message-start`, citations (which are turned off), and what comes new.
            _ => Ok(()),
        }
    }

    fn content(&mut self, content: &At<'_>, events: &mut Vec<AnswerEvent>) -> Result<(), Misread> {
        content.object(|name, value| {
            let start = match name {
                "text" => PartStart::Text,
                "thinking" => PartStart::Reasoning,
                _ => return Ok(()),
            };
            let text = value.text()?;
            if !text.is_empty() {
                self.parts.text(0, start, text, events);
            }
            Ok(())
        })
    }

    fn arguments(
        &mut self,
        function: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        if let Some(arguments) = function.get("arguments") {
            let arguments = arguments.text()?;
            if !arguments.is_empty() {
                self.parts.delta(0, PartDelta::Arguments(arguments), events);
            }
        }
        Ok(())
    }

    fn message_end(
        &mut self,
        delta: &At<'_>,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        self.parts.end(0, events);
        if let Some(usage) = delta.get("usage") {
            events.extend(read_usage(&usage)?.map(AnswerEvent::Usage));
        }
        if let Some(failure) = read_failure(delta)? {
            events.push(AnswerEvent::Error(failure));
            self.ended = true;
            return Ok(());
        }
        let reason = read_stop(&delta.need("finish_reason")?)?;
        if !std::mem::replace(&mut self.stopped, true) {
            let candidate = 0;
            events.push(AnswerEvent::Stop { candidate, reason });
        }
        Ok(())
    }
}

/// Reads the value at the end of a path; nothing if there is none.
fn within(
    at: &At<'_>,
    path: &[&str],
    read: impl FnOnce(&At<'_>) -> Result<(), Misread>,
) -> Result<(), Misread> {
    match path {
        [] => read(at),
        [name, rest @ ..] => match at.get(name) {
            Some(inner) => within(&inner, rest, read),
            None => Ok(()),
        },
    }
}

/// A failure ends the message in mid-stream: `ERROR` or `TIMEOUT`, with an `error` or without.
fn read_failure(delta: &At<'_>) -> Result<Option<StreamFailure>, Misread> {
    let reason = delta.get("finish_reason");
    let reason = reason.map(|reason| reason.text()).transpose()?;
    let Some(kind @ ("ERROR" | "TIMEOUT")) = reason.as_deref() else {
        return Ok(None);
    };
    let message = delta.get("error");
    Ok(Some(StreamFailure {
        kind: kind.to_ascii_lowercase(),
        message: message.map_or(Ok(String::new()), |message| message.text())?,
    }))
}
