//! Streams for clients that speak Responses.

use super::ResponseEcho;
use super::answer::joined;
use super::item::carried;
use super::output::{
    Response, Status, item_id, write_content, write_item, write_logprobs, write_summary,
};
use crate::conversation::{
    AnswerEvent, Content, Part, PartDelta, PartStart, StopReason, StreamFailure, ToolCall,
};
use crate::dialect::AnswerNames;
use crate::dialect::stream::{StreamWriter, named_frame};
use crate::dialect::write::{self, ObjectWriter};
use crate::json::Json;
use crate::usage::Usage;

/// Writes a stream of events, each with its number.
#[derive(Debug)]
pub(in crate::dialect) struct ResponsesStreamWriter {
    names: AnswerNames,
    echo: ResponseEcho,
    tier: Option<String>,
    /// The number of the next event.
    sequence: u64,
    /// All parts that have begun; the last may be open. A part is an item.
    parts: Vec<Part>,
    logprobs: Vec<Json>,
    /// How many of them a delta has said.
    logprobs_said: usize,
    stop: Option<StopReason>,
    usage: Option<Usage>,
}

impl ResponsesStreamWriter {
    pub(in crate::dialect) fn new(names: AnswerNames, echo: ResponseEcho) -> Self {
        Self {
            names,
            echo,
            tier: None,
            sequence: 0,
            parts: Vec::new(),
            logprobs: Vec::new(),
            logprobs_said: 0,
            stop: None,
            usage: None,
        }
    }

    fn event(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        rest: impl FnOnce(&Self, &mut ObjectWriter<'_>),
    ) {
        named_frame(out, kind, |out| {
            write::object(out, |to| {
                to.set("type", kind).set("sequence_number", self.sequence);
                rest(self, to);
            });
        });
        self.sequence += 1;
    }

    /// An event that has the whole response.
    fn response(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        status: Status,
        failure: Option<&StreamFailure>,
    ) {
        self.event(out, kind, |writer, to| {
            let logprobs = joined(&writer.logprobs);
            let response = Response {
                names: &writer.names,
                echo: &writer.echo,
                model: &writer.names.model,
                status,
                stop: writer.stop.as_ref(),
                failure,
                parts: &writer.parts,
                logprobs: logprobs.as_ref(),
                usage: writer.usage.as_ref(),
                tier: writer.tier.as_deref(),
            };
            to.object("response", |to| response.write(to));
        });
    }

    /// An event about the last part.
    fn about(
        &mut self,
        out: &mut Vec<u8>,
        kind: &str,
        rest: impl FnOnce(&Part, &mut ObjectWriter<'_>),
    ) {
        let Some(part) = self.parts.last() else {
            return;
        };
        let index = self.parts.len() - 1;
        let id = item_id(&self.names, part, index);
        self.event(out, kind, |writer, to| {
            to.set("item_id", id).set("output_index", index);
            if let Some(part) = writer.parts.last() {
                match part.content {
                    Content::Text(_) | Content::Refusal(_) => {
                        to.set("content_index", 0);
                    }
                    Content::Reasoning(_) => {
                        to.set("summary_index", 0);
                    }
                    _ => {}
                }
                rest(part, to);
            }
        });
    }

    /// The last item, as far as it is.
    fn item(&mut self, out: &mut Vec<u8>, kind: &str, status: Status) {
        let index = self.parts.len().saturating_sub(1);
        self.event(out, kind, |writer, to| {
            to.set("output_index", index);
            let Some(part) = writer.parts.last() else {
                return;
            };
            let id = item_id(&writer.names, part, index);
            to.object("item", |to| match status {
                Status::InProgress => begun(to, part, &id),
                _ => write_item(to, part, &id, status, joined(&writer.logprobs).as_ref()),
            });
        });
    }

    fn part_begin(&mut self, start: &PartStart, out: &mut Vec<u8>) {
        self.parts.push(Part::from(match start {
            PartStart::Text => Content::Text(String::new()),
            PartStart::Reasoning => Content::Reasoning(String::new()),
            PartStart::RedactedReasoning => Content::RedactedReasoning,
            PartStart::Refusal => Content::Refusal(String::new()),
            PartStart::ToolCall { id, name } => Content::ToolCall(ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
            }),
        }));
        self.item(out, "response.output_item.added", Status::InProgress);
        match start {
            PartStart::Text | PartStart::Refusal => {
                self.about(out, "response.content_part.added", |part, to| {
                    to.object("part", |to| write_content(to, part, None));
                });
            }
            PartStart::Reasoning => {
                self.about(out, "response.reasoning_summary_part.added", |_, to| {
                    to.object("part", |to| write_summary(to, ""));
                });
            }
            PartStart::RedactedReasoning | PartStart::ToolCall { .. } => {}
        }
    }

    fn delta(&mut self, delta: &PartDelta, out: &mut Vec<u8>) {
        let Some(part) = self.parts.last_mut() else {
            return;
        };
        let (kind, more) = match (delta, &mut part.content) {
            (PartDelta::Signature(signature), _) => {
                part.signature = Some(signature.clone());
                return;
            }
            (PartDelta::Text(more), Content::Text(text)) => {
                text.push_str(more);
                ("response.output_text.delta", more)
            }
            (PartDelta::Text(more), Content::Refusal(text)) => {
                text.push_str(more);
                ("response.refusal.delta", more)
            }
            (PartDelta::Text(more), Content::Reasoning(text)) => {
                text.push_str(more);
                ("response.reasoning_summary_text.delta", more)
            }
            (PartDelta::Arguments(more), Content::ToolCall(call)) => {
                call.arguments.push_str(more);
                ("response.function_call_arguments.delta", more)
            }
            _ => return,
        };
        let news = joined(&self.logprobs[self.logprobs_said..]);
        self.logprobs_said = self.logprobs.len();
        self.about(out, kind, |part, to| {
            to.set("delta", more);
            if matches!(part.content, Content::Text(_)) {
                write_logprobs(to, news.as_ref());
            }
        });
    }

    fn part_end(&mut self, out: &mut Vec<u8>) {
        let logprobs = joined(&self.logprobs);
        match self.parts.last().map(|part| &part.content) {
            Some(Content::Text(text)) => {
                let text = text.clone();
                self.about(out, "response.output_text.done", |_, to| {
                    write_logprobs(to, logprobs.as_ref());
                    to.set("text", text);
                });
                self.content_done(out, logprobs.as_ref());
            }
            Some(Content::Refusal(text)) => {
                let text = text.clone();
                self.about(out, "response.refusal.done", |_, to| {
                    to.set("refusal", text);
                });
                self.content_done(out, None);
            }
            Some(Content::Reasoning(text)) => {
                let text = text.clone();
                self.about(out, "response.reasoning_summary_text.done", |_, to| {
                    to.set("text", &text);
                });
                self.about(out, "response.reasoning_summary_part.done", |_, to| {
                    to.object("part", |to| write_summary(to, &text));
                });
            }
            Some(Content::ToolCall(call)) => {
                let call = call.clone();
                self.about(out, "response.function_call_arguments.done", |_, to| {
                    to.set("name", call.name).set("arguments", call.arguments);
                });
            }
            _ => {}
        }
        self.item(out, "response.output_item.done", Status::Completed);
    }

    fn content_done(&mut self, out: &mut Vec<u8>, logprobs: Option<&Json>) {
        self.about(out, "response.content_part.done", |part, to| {
            to.object("part", |to| write_content(to, part, logprobs));
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let status = Status::of(self.stop.as_ref());
        let kind = match status {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        self.response(out, kind, status, None);
    }

    fn fail(&mut self, failure: &StreamFailure, out: &mut Vec<u8>) {
        self.event(out, "error", |_, to| {
            to.set("code", &failure.kind)
                .set("message", &failure.message);
            to.null("param");
        });
        self.response(out, "response.failed", Status::Failed, Some(failure));
    }
}

impl StreamWriter for ResponsesStreamWriter {
    fn write(&mut self, event: &AnswerEvent, out: &mut Vec<u8>) {
        match event {
            AnswerEvent::Begin {
                model,
                created,
                service_tier,
                ..
            } => {
                self.names.created = created.unwrap_or(self.names.created);
                if let Some(model) = model {
                    self.names.model.clone_from(model);
                }
                self.tier.clone_from(service_tier);
                self.response(out, "response.created", Status::InProgress, None);
                self.response(out, "response.in_progress", Status::InProgress, None);
            }
            // A response has one candidate.
            AnswerEvent::PartBegin { candidate: 1.., .. }
            | AnswerEvent::Delta { candidate: 1.., .. }
            | AnswerEvent::PartEnd { candidate: 1.., .. }
            | AnswerEvent::Logprobs { candidate: 1.., .. }
            | AnswerEvent::Stop { candidate: 1.., .. } => {}
            AnswerEvent::PartBegin { start, .. } => self.part_begin(start, out),
            AnswerEvent::Delta { delta, .. } => self.delta(delta, out),
            AnswerEvent::PartEnd { .. } => self.part_end(out),
            AnswerEvent::Logprobs { content, .. } => self.logprobs.push(content.clone()),
            AnswerEvent::Stop { reason, .. } => self.stop = Some(reason.clone()),
            AnswerEvent::Usage(usage) => self.usage = Some(*usage),
            AnswerEvent::End => self.end(out),
            AnswerEvent::Error(failure) => self.fail(failure, out),
        }
    }
}

/// An item of which nothing was said yet.
fn begun(to: &mut ObjectWriter<'_>, part: &Part, id: &str) {
    to.set("id", id);
    match &part.content {
        Content::Reasoning(_) | Content::RedactedReasoning => {
            to.set("type", "reasoning");
            to.array("summary", |_| ());
            to.maybe("encrypted_content", carried(part));
        }
        Content::ToolCall(_) => write_call_begun(to, part),
        _ => {
            to.set("type", "message").set("status", "in_progress");
            to.array("content", |_| ());
            to.set("role", "assistant");
        }
    }
}

fn write_call_begun(to: &mut ObjectWriter<'_>, part: &Part) {
    if let Content::ToolCall(call) = &part.content {
        to.set("type", "function_call").set("status", "in_progress");
        to.set("arguments", "").set("call_id", &call.id);
        to.set("name", &call.name);
    }
}
