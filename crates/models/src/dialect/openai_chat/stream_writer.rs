//! Streams for clients that speak OpenAI's chat dialect.

use super::answer::{stop_word, write_stop_sequence};
use super::message_writer::write_detail;
use crate::conversation::{
    AnswerEvent, Content, PartDelta, PartStart, Signature, StreamFailure, ToolCall,
};
use crate::dialect::stream::{StreamWriter, data_frame};
use crate::dialect::usage::write_openai;
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{AnswerNames, StreamUsage};
use crate::json::Json;
use crate::usage::Usage;

/// Writes a stream of `chat.completion.chunk`.
#[derive(Debug)]
pub(in crate::dialect) struct ChatStreamWriter {
    names: AnswerNames,
    service_tier: Option<String>,
    usage_wanted: StreamUsage,
    usage: Option<Usage>,
    choices: Vec<Choice>,
}

/// What is known of one choice.
#[derive(Debug, Default)]
struct Choice {
    has_role: bool,
    calls: u32,
    details: usize,
    part: Option<OpenPart>,
    /// For the next chunk that has something in it.
    logprobs: Option<Json>,
}

/// The part being written. Signed thoughts are said again whole when they end, so that a client
/// finds in one place what it has to send back.
#[derive(Debug)]
struct OpenPart {
    content: Content,
    signature: Option<Signature>,
}

impl ChatStreamWriter {
    pub(in crate::dialect) fn new(names: AnswerNames, usage_wanted: StreamUsage) -> Self {
        Self {
            names,
            service_tier: None,
            usage_wanted,
            usage: None,
            choices: Vec::new(),
        }
    }

    fn choice(&mut self, candidate: u32) -> &mut Choice {
        let index = candidate as usize;
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Choice::default);
        }
        &mut self.choices[index]
    }

    /// A chunk of one choice whose delta is what `delta` writes.
    fn chunk(
        &mut self,
        out: &mut Vec<u8>,
        candidate: u32,
        delta: impl FnOnce(&mut ObjectWriter<'_>),
        finish: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        let choice = self.choice(candidate);
        let has_role = std::mem::replace(&mut choice.has_role, true);
        let logprobs = choice.logprobs.take();
        self.frame(out, |to| {
            to.array("choices", |to| {
                to.object(|to| {
                    to.set("index", candidate);
                    to.object("delta", |to| {
                        if !has_role {
                            to.set("role", "assistant");
                        }
                        delta(to);
                    });
                    match &logprobs {
                        Some(content) => to.object("logprobs", |to| {
                            to.json("content", content).null("refusal");
                        }),
                        None => {
                            to.null("logprobs");
                        }
                    }
                    finish(to);
                });
            });
            if self.usage_wanted == StreamUsage::Wanted {
                to.null("usage");
            }
        });
    }

    /// A chunk with what all chunks have.
    fn frame(&self, out: &mut Vec<u8>, rest: impl FnOnce(&mut ObjectWriter<'_>)) {
        data_frame(out, |out| {
            write::object(out, |to| {
                to.set("id", &self.names.id);
                to.set("object", "chat.completion.chunk");
                to.set("created", self.names.created);
                to.set("model", &self.names.model);
                to.maybe("service_tier", self.service_tier.as_deref());
                rest(to);
            });
        });
    }

    fn part_begin(&mut self, out: &mut Vec<u8>, candidate: u32, start: &PartStart) {
        let choice = self.choice(candidate);
        choice.part = Some(OpenPart {
            content: empty(start),
            signature: None,
        });
        if let PartStart::ToolCall { id, name } = start {
            let index = choice.calls;
            choice.calls += 1;
            self.delta(out, candidate, |to| {
                to.array("tool_calls", |to| {
                    to.object(|to| {
                        to.set("index", index).set("id", id).set("type", "function");
                        to.object("function", |to| {
                            to.set("name", name).set("arguments", "");
                        });
                    });
                });
            });
        }
    }

    fn part_delta(&mut self, out: &mut Vec<u8>, candidate: u32, delta: &PartDelta) {
        let choice = self.choice(candidate);
        let Some(part) = &mut choice.part else {
            return;
        };
        match delta {
            PartDelta::Signature(signature) => part.signature = Some(signature.clone()),
            PartDelta::Arguments(arguments) => {
                let index = choice.calls.saturating_sub(1);
                self.delta(out, candidate, |to| {
                    to.array("tool_calls", |to| {
                        to.object(|to| {
                            to.set("index", index);
                            to.object("function", |to| {
                                to.set("arguments", arguments);
                            });
                        });
                    });
                });
            }
            PartDelta::Text(more) => {
                let name = match &mut part.content {
                    Content::Reasoning(thoughts) => {
                        thoughts.push_str(more);
                        "reasoning_content"
                    }
                    Content::Refusal(_) => "refusal",
                    _ => "content",
                };
                self.delta(out, candidate, |to| {
                    to.set(name, more);
                });
            }
        }
    }

    fn part_end(&mut self, out: &mut Vec<u8>, candidate: u32) {
        let choice = self.choice(candidate);
        let Some(OpenPart {
            content,
            signature: Some(signature),
        }) = choice.part.take()
        else {
            return;
        };
        let index = choice.details;
        choice.details += 1;
        self.delta(out, candidate, |to| {
            to.array("reasoning_details", |to| {
                to.object(|to| write_detail(to, &content, Some(&signature), index));
            });
        });
    }

    fn delta(
        &mut self,
        out: &mut Vec<u8>,
        candidate: u32,
        delta: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        self.chunk(out, candidate, delta, |to| {
            to.null("finish_reason");
        });
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let (StreamUsage::Wanted, Some(usage)) = (self.usage_wanted, self.usage) {
            self.frame(out, |to| {
                to.array("choices", |_| ());
                to.object("usage", |to| write_openai(to, &usage));
            });
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

impl StreamWriter for ChatStreamWriter {
    fn write(&mut self, event: &AnswerEvent, out: &mut Vec<u8>) {
        match event {
            AnswerEvent::Begin {
                id,
                model,
                created,
                service_tier,
            } => {
                if let Some(id) = id {
                    self.names.id.clone_from(id);
                }
                if let Some(model) = model {
                    self.names.model.clone_from(model);
                }
                self.names.created = created.unwrap_or(self.names.created);
                self.service_tier.clone_from(service_tier);
            }
            AnswerEvent::PartBegin {
                candidate, start, ..
            } => self.part_begin(out, *candidate, start),
            AnswerEvent::Delta {
                candidate, delta, ..
            } => self.part_delta(out, *candidate, delta),
            AnswerEvent::PartEnd { candidate, .. } => self.part_end(out, *candidate),
            AnswerEvent::Logprobs { candidate, content } => {
                self.choice(*candidate).logprobs = Some(content.clone());
            }
            AnswerEvent::Stop { candidate, reason } => self.chunk(
                out,
                *candidate,
                |_| (),
                |to| {
                    to.set("finish_reason", stop_word(reason));
                    write_stop_sequence(to, Some(reason));
                },
            ),
            AnswerEvent::Usage(usage) => self.usage = Some(*usage),
            AnswerEvent::Error(failure) => write_failure(out, failure),
            AnswerEvent::End => self.end(out),
        }
    }
}

/// A frame that OpenAI's SDKs raise.
fn write_failure(out: &mut Vec<u8>, failure: &StreamFailure) {
    data_frame(out, |out| {
        write::object(out, |to| {
            to.object("error", |to| {
                to.set("message", &failure.message);
                to.set("type", &failure.kind);
                to.null("param").null("code");
            });
        });
    });
}

fn empty(start: &PartStart) -> Content {
    match start {
        PartStart::Text => Content::Text(String::new()),
        PartStart::Reasoning => Content::Reasoning(String::new()),
        PartStart::RedactedReasoning => Content::RedactedReasoning,
        PartStart::Refusal => Content::Refusal(String::new()),
        PartStart::ToolCall { id, name } => Content::ToolCall(ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments: String::new(),
        }),
    }
}
