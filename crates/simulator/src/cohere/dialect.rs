//! How Cohere writes an answer to a chat: whole, and in named events.

use serde_json::{Value, json};

use crate::beats::Beat;
use crate::dialect::{Dialect, Told, to_json};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::stream::Events;
use crate::text::{Finish, Output};

/// How a chat is written.
#[derive(Debug)]
pub(super) struct CohereDialect;

/// What a part is to Cohere: what is said before calls is a plan.
enum Role {
    Text,
    Thinking,
    Plan,
    Call,
}

fn role(reply: &Reply, part: usize) -> Role {
    let output = &reply.parts[part];
    if output.tool().is_some() {
        Role::Call
    } else if output.is_thought() {
        Role::Thinking
    } else if reply.calls().next().is_some() {
        Role::Plan
    } else {
        Role::Text
    }
}

impl Dialect for CohereDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let reply = told.reply();
        let mut content = Vec::new();
        let mut calls = Vec::new();
        let mut message = json!({"role": "assistant"});
        for (place, output) in reply.parts.iter().enumerate() {
            let text = &output.text;
            match role(reply, place) {
                Role::Text => content.push(json!({"type": "text", "text": text})),
                Role::Thinking => content.push(json!({"type": "thinking", "thinking": text})),
                Role::Plan => message["tool_plan"] = text.as_str().into(),
                Role::Call => calls.push(call(output, text)),
            }
        }
        if !content.is_empty() {
            message["content"] = content.into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let mut answer = json!({
            "id": id(told),
            "finish_reason": finish_reason(&reply.finish),
            "message": message,
        });
        if told.reports_usage() {
            answer["usage"] = usage(told);
        }
        to_json(&answer)
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let reply = told.reply();
        match beat {
            Beat::Start => {
                let message = json!({
                    "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [],
                    "citations": [],
                });
                let start = json!({
                    "type": "message-start", "id": id(told), "delta": {"message": message},
                });
                events.named("message-start", &start);
            }
            Beat::Open { part, .. } => {
                let output = &reply.parts[part];
                let message = match role(reply, part) {
                    Role::Text => json!({"content": {"type": "text", "text": ""}}),
                    Role::Thinking => json!({"content": {"type": "thinking", "thinking": ""}}),
                    Role::Call => json!({"tool_calls": call(output, "")}),
                    Role::Plan => return,
                };
                push(events, reply, part, "start", Some(message));
            }
            Beat::Token { part, token, .. } => {
                let text = reply.parts[part].token(token);
                let message = match role(reply, part) {
                    Role::Text => json!({"content": {"text": text}}),
                    Role::Thinking => json!({"content": {"thinking": text}}),
                    Role::Call => json!({"tool_calls": {"function": {"arguments": text}}}),
                    Role::Plan => {
                        let delta = json!({"message": {"tool_plan": text}});
                        let plan = json!({"type": "tool-plan-delta", "delta": delta});
                        events.named("tool-plan-delta", &plan);
                        return;
                    }
                };
                push(events, reply, part, "delta", Some(message));
            }
            Beat::Close { part, .. } => {
                if !matches!(role(reply, part), Role::Plan) {
                    push(events, reply, part, "end", None);
                }
            }
            Beat::End { .. } => {
                let mut delta = json!({"finish_reason": finish_reason(&reply.finish)});
                if told.reports_usage() {
                    delta["usage"] = usage(told);
                }
                let end = json!({"type": "message-end", "id": id(told), "delta": delta});
                events.named("message-end", &end);
            }
            Beat::Done => {}
        }
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        let delta = json!({"finish_reason": "ERROR", "error": refusal.message});
        events.named(
            "message-end",
            &json!({"type": "message-end", "delta": delta}),
        );
    }
}

/// Appends an event of a part: `content-…` or `tool-call-…`, with its place among its kind.
fn push(events: &mut Events, reply: &Reply, part: usize, step: &str, message: Option<Value>) {
    let is_call = reply.parts[part].tool().is_some();
    let (name, index) = if is_call {
        (format!("tool-call-{step}"), reply.call_place(part))
    } else {
        (format!("content-{step}"), part)
    };
    let mut event = json!({"type": name, "index": index});
    if let Some(message) = message {
        event["delta"] = json!({"message": message});
    }
    events.named(&name, &event);
}

fn call(output: &Output, arguments: &str) -> Value {
    json!({
        "id": format!("{}_sim{:012x}", output.tool().unwrap_or_default(), output.seed >> 16),
        "type": "function",
        "function": {"name": output.tool(), "arguments": arguments},
    })
}

fn id(told: &Told) -> String {
    format!("00000000-0000-4000-8000-{:012x}", told.call)
}

fn usage(told: &Told) -> Value {
    let counts = &told.counts;
    let tokens = json!({"input_tokens": counts.prompt, "output_tokens": counts.output});
    json!({"billed_units": tokens, "tokens": tokens, "cached_tokens": counts.cached})
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "COMPLETE",
        Finish::Sequence(_) => "STOP_SEQUENCE",
        Finish::Length => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
        Finish::Filtered => "ERROR",
    }
}
