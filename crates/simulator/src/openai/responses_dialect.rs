//! How a response is written: whole, and in named events that are numbered.

use serde_json::{Value, json};

use crate::beats::Beat;
use crate::dialect::{Dialect, Told, to_json};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::signature::sign;
use crate::stream::Events;
use crate::text::{Finish, Output};

/// How a response is written.
#[derive(Debug)]
pub(super) struct ResponsesDialect {
    seed: u64,
    /// The fields that repeat the request's.
    echo: Value,
    reasoning: ReasoningShown,
    /// The number of the next event.
    sequence: u64,
}

/// What of a thought a client gets.
#[derive(Debug, Clone, Copy)]
struct ReasoningShown {
    summary: bool,
    encrypted: bool,
}

impl ResponsesDialect {
    /// As the request wants it.
    pub(super) fn new(seed: u64, echo: Value, summary: bool, encrypted: bool) -> Self {
        Self {
            seed,
            echo,
            reasoning: ReasoningShown { summary, encrypted },
            sequence: 0,
        }
    }

    fn event(&mut self, events: &mut Events, name: &str, mut fields: Value) {
        fields["type"] = name.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        events.named(name, &fields);
    }

    /// The response as it stands with these items.
    fn response(&self, told: &Told, status: &str, output: Vec<Value>) -> Value {
        let mut response = self.echo.clone();
        response["id"] = format!("resp_sim{:020}", told.call).into();
        response["object"] = "response".into();
        response["created_at"] = told.created.into();
        response["model"] = told.model.as_str().into();
        response["status"] = status.into();
        response["incomplete_details"] = Value::Null;
        response["output"] = output.into();
        response["usage"] = Value::Null;
        response
    }

    fn completed(&self, told: &Told) -> Value {
        let reply = told.reply();
        let (status, reason) = status(&reply.finish);
        let items = (0..reply.parts.len()).map(|place| self.item(reply, place, status));
        let mut response = self.response(told, status, items.collect());
        if let Some(reason) = reason {
            response["incomplete_details"] = json!({"reason": reason});
        }
        if told.reports_usage() {
            let counts = &told.counts;
            response["usage"] = json!({
                "input_tokens": counts.prompt,
                "input_tokens_details": {"cached_tokens": counts.cached},
                "output_tokens": counts.output,
                "output_tokens_details": {"reasoning_tokens": counts.thought},
                "total_tokens": counts.total(),
            });
        }
        response
    }

    /// A part as an item, whole.
    fn item(&self, reply: &Reply, place: usize, status: &str) -> Value {
        let output = &reply.parts[place];
        let is_last = place + 1 == reply.parts.len();
        let status = if is_last { status } else { "completed" };
        let mut item = empty_item(output);
        if output.is_thought() {
            if self.reasoning.summary {
                item["summary"] = json!([{"type": "summary_text", "text": output.text}]);
            }
            if self.reasoning.encrypted {
                item["encrypted_content"] = sign(self.seed, &item_id(output)).into();
            }
            return item;
        }
        item["status"] = status.into();
        if output.tool().is_some() {
            item["arguments"] = output.text.as_str().into();
        } else {
            item["content"] = json!([text_part(&output.text)]);
        }
        item
    }

    fn open(&mut self, output: &Output, place: usize, events: &mut Events) {
        let mut item = empty_item(output);
        if !output.is_thought() {
            item["status"] = "in_progress".into();
        }
        let added = json!({"output_index": place, "item": item});
        self.event(events, "response.output_item.added", added);
        if output.is_thought() && self.reasoning.summary {
            let part = json!({"type": "summary_text", "text": ""});
            let added = at(output, place, "summary_index", json!({"part": part}));
            self.event(events, "response.reasoning_summary_part.added", added);
        } else if output.is_said() {
            let added = at(
                output,
                place,
                "content_index",
                json!({"part": text_part("")}),
            );
            self.event(events, "response.content_part.added", added);
        }
    }

    fn token(&mut self, output: &Output, place: usize, text: &str, events: &mut Events) {
        if output.tool().is_some() {
            let delta = json!({"item_id": item_id(output), "output_index": place, "delta": text});
            self.event(events, "response.function_call_arguments.delta", delta);
        } else if output.is_said() {
            let delta = json!({"delta": text, "logprobs": []});
            let delta = at(output, place, "content_index", delta);
            self.event(events, "response.output_text.delta", delta);
        } else if self.reasoning.summary {
            let delta = at(output, place, "summary_index", json!({"delta": text}));
            self.event(events, "response.reasoning_summary_text.delta", delta);
        }
    }

    fn close(&mut self, told: &Told, place: usize, events: &mut Events) {
        let reply = told.reply();
        let output = &reply.parts[place];
        let text = &output.text;
        if output.tool().is_some() {
            let done = json!({
                "item_id": item_id(output), "output_index": place, "arguments": text,
                "name": output.tool(),
            });
            self.event(events, "response.function_call_arguments.done", done);
        } else if output.is_said() {
            let done = json!({"text": text, "logprobs": []});
            let done = at(output, place, "content_index", done);
            self.event(events, "response.output_text.done", done);
            let done = at(
                output,
                place,
                "content_index",
                json!({"part": text_part(text)}),
            );
            self.event(events, "response.content_part.done", done);
        } else if self.reasoning.summary {
            let done = at(output, place, "summary_index", json!({"text": text}));
            self.event(events, "response.reasoning_summary_text.done", done);
            let part = json!({"type": "summary_text", "text": text});
            let done = at(output, place, "summary_index", json!({"part": part}));
            self.event(events, "response.reasoning_summary_part.done", done);
        }
        let item = self.item(reply, place, status(&reply.finish).0);
        let done = json!({"output_index": place, "item": item});
        self.event(events, "response.output_item.done", done);
    }
}

impl Dialect for ResponsesDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        to_json(&self.completed(told))
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let reply = told.reply();
        match beat {
            Beat::Start => {
                for name in ["response.created", "response.in_progress"] {
                    let response = self.response(told, "in_progress", Vec::new());
                    self.event(events, name, json!({"response": response}));
                }
            }
            Beat::Open { part, .. } => self.open(&reply.parts[part], part, events),
            Beat::Token { part, token, .. } => {
                let output = &reply.parts[part];
                self.token(output, part, output.token(token), events);
            }
            Beat::Close { part, .. } => self.close(told, part, events),
            Beat::End { .. } => {
                let response = self.completed(told);
                let name = match status(&reply.finish).0 {
                    "completed" => "response.completed",
                    _ => "response.incomplete",
                };
                self.event(events, name, json!({"response": response}));
            }
            Beat::Done => {}
        }
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        let error = json!({
            "type": "error",
            "sequence_number": self.sequence,
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
        });
        events.named("error", &error);
    }
}

/// An item without what grows in it.
fn empty_item(output: &Output) -> Value {
    let id = item_id(output);
    match output.tool() {
        Some(name) => json!({
            "id": id, "type": "function_call", "name": name, "arguments": "",
            "call_id": format!("call_{:016x}", output.seed),
        }),
        None if output.is_thought() => json!({"id": id, "type": "reasoning", "summary": []}),
        None => json!({"id": id, "type": "message", "role": "assistant", "content": []}),
    }
}

fn item_id(output: &Output) -> String {
    let prefix = match output.tool() {
        Some(_) => "fc",
        None if output.is_thought() => "rs",
        None => "msg",
    };
    format!("{prefix}_sim{:016x}", output.seed)
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// `fields`, with where they belong: the item, and the first of its parts.
fn at(output: &Output, place: usize, index: &str, mut fields: Value) -> Value {
    fields["item_id"] = item_id(output).into();
    fields["output_index"] = place.into();
    fields[index] = 0.into();
    fields
}

/// The status, and why it is not `completed`.
fn status(finish: &Finish) -> (&'static str, Option<&'static str>) {
    match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::ToolCalls => ("completed", None),
        Finish::Length => ("incomplete", Some("max_output_tokens")),
        Finish::Filtered => ("incomplete", Some("content_filter")),
    }
}
