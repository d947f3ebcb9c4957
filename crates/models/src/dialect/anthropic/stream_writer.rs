//! Streams for clients that speak Anthropic's dialect.

use super::block_writer::write_caller;
use super::error::{failure_kind, write_error};
use super::{attached, stop_words};
use crate::conversation::{AnswerEvent, PartDelta, PartStart, Signature, StopReason};
use crate::dialect::stream::{StreamWriter, named_frame};
use crate::dialect::usage::write_anthropic;
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{AnswerNames, Dialect};
use crate::usage::Usage;

/// Writes a stream of Messages. Only the first candidate is said: no client of this dialect can
/// ask for more.
#[derive(Debug)]
pub(in crate::dialect) struct MessagesStreamWriter {
    names: AnswerNames,
    /// The number of the next block.
    next: u32,
    part: Option<OpenPart>,
    usage: Usage,
    stop: Option<StopReason>,
}

#[derive(Debug)]
struct OpenPart {
    start: PartStart,
    /// What is said of it once it ends.
    signature: Option<Signature>,
}

impl MessagesStreamWriter {
    pub(in crate::dialect) fn new(names: AnswerNames) -> Self {
        Self {
            names,
            next: 0,
            part: None,
            usage: Usage::default(),
            stop: None,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>, id: Option<&String>, model: Option<&String>) {
        event(out, "message_start", |to| {
            to.object("message", |to| {
                to.set("id", id.unwrap_or(&self.names.id));
                to.set("type", "message").set("role", "assistant");
                to.set("model", model.unwrap_or(&self.names.model));
                to.array("content", |_| ());
                to.null("stop_reason").null("stop_sequence");
                to.null("stop_details").null("container");
                // What is not known yet comes with `message_delta`.
                to.object("usage", |to| write_anthropic(to, &self.usage));
            });
        });
    }

    /// A block begins; of redacted thoughts only once their data is there.
    fn part_begin(&mut self, out: &mut Vec<u8>, start: &PartStart) {
        self.part = Some(OpenPart {
            start: start.clone(),
            signature: None,
        });
        if *start != PartStart::RedactedReasoning {
            self.block_start(out, |to| match start {
                PartStart::Reasoning => {
                    to.set("type", "thinking")
                        .set("thinking", "")
                        .set("signature", "");
                }
                PartStart::ToolCall { id, name } => {
                    to.set("type", "tool_use").set("id", id).set("name", name);
                    to.object("input", |_| ());
                    write_caller(to);
                }
                PartStart::Text | PartStart::Refusal | PartStart::RedactedReasoning => {
                    to.set("type", "text").set("text", "").null("citations");
                }
            });
        }
    }

    fn block_start(&self, out: &mut Vec<u8>, block: impl FnOnce(&mut ObjectWriter<'_>)) {
        event(out, "content_block_start", |to| {
            to.set("index", self.next);
            to.object("content_block", block);
        });
    }

    fn block_stop(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop", |to| {
            to.set("index", self.next);
        });
        self.next += 1;
    }

    fn redacted(&mut self, out: &mut Vec<u8>, data: &str) {
        self.block_start(out, |to| {
            to.set("type", "redacted_thinking").set("data", data);
        });
        self.block_stop(out);
    }

    fn part_delta(&mut self, out: &mut Vec<u8>, delta: &PartDelta) {
        let Some(part) = &mut self.part else {
            return;
        };
        let (kind, name, text) = match (delta, &part.start) {
            (PartDelta::Signature(signature), PartStart::Reasoning) => {
                let carried = signature.carried_in(Dialect::Anthropic);
                return self.block_delta(out, "signature_delta", "signature", &carried);
            }
            (PartDelta::Signature(signature), _) => {
                part.signature = Some(signature.clone());
                return;
            }
            (PartDelta::Text(text), PartStart::Reasoning) => ("thinking_delta", "thinking", text),
            (PartDelta::Text(text), _) => ("text_delta", "text", text),
            (PartDelta::Arguments(text), _) => ("input_json_delta", "partial_json", text),
        };
        self.block_delta(out, kind, name, text);
    }

    fn block_delta(&self, out: &mut Vec<u8>, kind: &str, name: &str, text: &str) {
        event(out, "content_block_delta", |to| {
            to.set("index", self.next);
            to.object("delta", |to| {
                to.set("type", kind).set(name, text);
            });
        });
    }

    fn part_end(&mut self, out: &mut Vec<u8>) {
        let Some(part) = self.part.take() else {
            return;
        };
        if part.start == PartStart::RedactedReasoning {
            let carried = part.signature.map(|own| own.carried_in(Dialect::Anthropic));
            return self.redacted(out, &carried.unwrap_or_default());
        }
        self.block_stop(out);
        if let Some(signature) = part.signature {
            self.redacted(out, &attached(&signature));
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let stop = self.stop.take().unwrap_or(StopReason::End);
        let (reason, sequence) = stop_words(&stop);
        event(out, "message_delta", |to| {
            to.object("delta", |to| {
                to.set("stop_reason", reason).set("stop_sequence", sequence);
                to.null("stop_details").null("container");
            });
            to.object("usage", |to| write_anthropic(to, &self.usage));
        });
        event(out, "message_stop", |_| ());
    }
}

impl StreamWriter for MessagesStreamWriter {
    fn write(&mut self, event: &AnswerEvent, out: &mut Vec<u8>) {
        match event {
            AnswerEvent::Begin { id, model, .. } => self.begin(out, id.as_ref(), model.as_ref()),
            AnswerEvent::PartBegin {
                candidate: 0,
                start,
                ..
            } => self.part_begin(out, start),
            AnswerEvent::Delta {
                candidate: 0,
                delta,
                ..
            } => self.part_delta(out, delta),
            AnswerEvent::PartEnd { candidate: 0, .. } => self.part_end(out),
            AnswerEvent::Stop {
                candidate: 0,
                reason,
            } => self.stop = Some(reason.clone()),
            AnswerEvent::Usage(usage) => self.usage = *usage,
            AnswerEvent::Error(failure) => {
                let kind = failure_kind(&failure.kind);
                named_frame(out, "error", |out| {
                    write_error(out, kind, &failure.message, None);
                });
            }
            AnswerEvent::End => self.end(out),
            AnswerEvent::PartBegin { .. }
            | AnswerEvent::Delta { .. }
            | AnswerEvent::PartEnd { .. }
            | AnswerEvent::Logprobs { .. }
            | AnswerEvent::Stop { .. } => {}
        }
    }
}

/// A named event whose data has its name as `type`.
fn event(out: &mut Vec<u8>, name: &str, data: impl FnOnce(&mut ObjectWriter<'_>)) {
    named_frame(out, name, |out| {
        write::object(out, |to| {
            to.set("type", name);
            data(to);
        });
    });
}
