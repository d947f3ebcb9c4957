//! The response object and its items, as clients read them.

use super::ResponseEcho;
use super::item::carried;
use crate::conversation::{Content, Part, StopReason, StreamFailure};
use crate::dialect::AnswerNames;
use crate::dialect::write::{ArrayWriter, ObjectWriter};
use crate::json::Json;
use crate::usage::Usage;

/// How far an item or a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
        }
    }

    /// Of an answer that ended so.
    pub(super) fn of(stop: Option<&StopReason>) -> Self {
        match reason(stop) {
            Some(_) => Self::Incomplete,
            None => Self::Completed,
        }
    }
}

/// `incomplete_details.reason`
fn reason(stop: Option<&StopReason>) -> Option<&'static str> {
    match stop? {
        StopReason::Length | StopReason::ContextFull => Some("max_output_tokens"),
        StopReason::Refused => Some("content_filter"),
        StopReason::End
        | StopReason::StopSequence(_)
        | StopReason::ToolCalls
        | StopReason::Paused => None,
    }
}

/// All that is known of a response.
pub(super) struct Response<'a> {
    pub(super) names: &'a AnswerNames,
    pub(super) echo: &'a ResponseEcho,
    pub(super) model: &'a str,
    pub(super) status: Status,
    pub(super) stop: Option<&'a StopReason>,
    pub(super) failure: Option<&'a StreamFailure>,
    pub(super) parts: &'a [Part],
    /// Of the last text.
    pub(super) logprobs: Option<&'a Json>,
    pub(super) usage: Option<&'a Usage>,
    pub(super) tier: Option<&'a str>,
}

impl Response<'_> {
    pub(super) fn write(&self, to: &mut ObjectWriter<'_>) {
        to.set("id", &self.names.id).set("object", "response");
        to.set("created_at", self.names.created);
        to.set("status", self.status.as_str());
        match self.failure {
            Some(failure) => to.object("error", |to| {
                to.set("code", "server_error")
                    .set("message", &failure.message);
            }),
            None => {
                to.null("error");
            }
        }
        match reason(self.stop) {
            Some(reason) => to.object("incomplete_details", |to| {
                to.set("reason", reason);
            }),
            None => {
                to.null("incomplete_details");
            }
        }
        to.set("model", self.model);
        to.array("output", |to| self.write_output(to));
        self.echo.write(to, self.tier);
        match self.usage {
            Some(usage) => to.object("usage", |to| write_usage(to, usage)),
            None => {
                to.null("usage");
            }
        }
    }

    fn write_output(&self, to: &mut ArrayWriter<'_>) {
        let mut texts = self.parts.iter();
        let last_text = texts.rposition(|part| matches!(part.content, Content::Text(_)));
        for (index, part) in self.parts.iter().enumerate() {
            let logprobs = self.logprobs.filter(|_| Some(index) == last_text);
            // An answer that was cut is so in its last item.
            let status = match self.status {
                Status::Incomplete if index + 1 == self.parts.len() => Status::Incomplete,
                _ => Status::Completed,
            };
            to.object(|to| {
                write_item(
                    to,
                    part,
                    &item_id(self.names, part, index),
                    status,
                    logprobs,
                )
            });
        }
    }
}

/// Out of the response's id and the item's place.
pub(super) fn item_id(names: &AnswerNames, part: &Part, index: usize) -> String {
    let kind = match part.content {
        Content::Reasoning(_) | Content::RedactedReasoning => "rs",
        Content::ToolCall(_) => "fc",
        _ => "msg",
    };
    let id = names.id.strip_prefix("resp_").unwrap_or(&names.id);
    format!("{kind}_{id}_{index}")
}

/// One whole item.
pub(super) fn write_item(
    to: &mut ObjectWriter<'_>,
    part: &Part,
    id: &str,
    status: Status,
    logprobs: Option<&Json>,
) {
    to.set("id", id);
    match &part.content {
        Content::Reasoning(_) | Content::RedactedReasoning => {
            to.set("type", "reasoning");
            to.array("summary", |to| {
                if let Content::Reasoning(text) = &part.content {
                    to.object(|to| write_summary(to, text));
                }
            });
            to.maybe("encrypted_content", carried(part));
        }
        Content::ToolCall(call) => {
            to.set("type", "function_call");
            to.set("status", status.as_str());
            to.set("arguments", &call.arguments);
            to.set("call_id", &call.id).set("name", &call.name);
            to.maybe("signature", carried(part));
        }
        _ => {
            to.set("type", "message").set("status", status.as_str());
            to.array("content", |to| {
                to.object(|to| write_content(to, part, logprobs))
            });
            to.set("role", "assistant");
        }
    }
}

pub(super) fn write_summary(to: &mut ObjectWriter<'_>, text: &str) {
    to.set("type", "summary_text").set("text", text);
}

/// The one part of a message's content.
pub(super) fn write_content(to: &mut ObjectWriter<'_>, part: &Part, logprobs: Option<&Json>) {
    match &part.content {
        Content::Refusal(text) => {
            to.set("type", "refusal").set("refusal", text);
        }
        Content::Text(text) => {
            to.set("type", "output_text");
            to.array("annotations", |_| ());
            write_logprobs(to, logprobs);
            to.set("text", text);
        }
        // Models answer with nothing else.
        _ => {}
    }
    to.maybe("signature", carried(part));
}

/// Log probabilities; an empty array if there are none.
pub(super) fn write_logprobs(to: &mut ObjectWriter<'_>, logprobs: Option<&Json>) {
    match logprobs {
        Some(logprobs) => {
            to.json("logprobs", logprobs);
        }
        None => to.array("logprobs", |_| ()),
    }
}

fn write_usage(to: &mut ObjectWriter<'_>, usage: &Usage) {
    to.set("input_tokens", usage.input_tokens);
    to.object("input_tokens_details", |to| {
        to.set("cached_tokens", usage.cached_read_tokens);
        if usage.cached_write_tokens > 0 {
            to.set("cache_write_tokens", usage.cached_write_tokens);
        }
        if usage.cached_write_1h_tokens > 0 {
            to.set("cache_write_1h_tokens", usage.cached_write_1h_tokens);
        }
    });
    to.set("output_tokens", usage.output_tokens);
    to.object("output_tokens_details", |to| {
        to.set("reasoning_tokens", usage.reasoning_tokens);
    });
    let total = usage.input_tokens.saturating_add(usage.output_tokens);
    to.set("total_tokens", total);
}
