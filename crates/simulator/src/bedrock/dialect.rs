//! How Bedrock writes an answer: whole, and in binary frames.

use serde_json::{Map, Value, json};

use super::{error, event_stream};
use crate::beats::Beat;
use crate::dialect::{Dialect, Told, to_json};
use crate::http::ContentType;
use crate::refusal::Refusal;
use crate::signature::sign;
use crate::stream::{Events, GARBAGE};
use crate::text::{Finish, Output};

/// How a conversation is answered.
#[derive(Debug)]
pub(super) struct ConverseDialect {
    /// The engine's seed, which thoughts are signed with.
    pub(super) seed: u64,
}

impl ConverseDialect {
    fn block(&self, output: &Output) -> Value {
        let text = &output.text;
        match output.tool() {
            Some(name) => json!({"toolUse": {
                "toolUseId": tool_id(output),
                "name": name,
                // Arguments that the limit cut are no JSON, and nothing of them is left.
                "input": serde_json::from_str(text).unwrap_or_else(|_| Value::Object(Map::new())),
            }}),
            None if output.is_thought() => json!({"reasoningContent": {"reasoningText": {
                "text": text,
                "signature": sign(self.seed, text),
            }}}),
            None => json!({"text": text}),
        }
    }
}

impl Dialect for ConverseDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let reply = told.reply();
        let content: Vec<Value> = reply.parts.iter().map(|part| self.block(part)).collect();
        let mut answer = json!({
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop_reason(&reply.finish),
            "metrics": {"latencyMs": told.latency_ms},
        });
        if told.reports_usage() {
            answer["usage"] = usage(told);
        }
        to_json(&answer)
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let reply = told.reply();
        match beat {
            Beat::Start => push(events, "messageStart", json!({"role": "assistant"})),
            Beat::Open { part, .. } => {
                let output = &reply.parts[part];
                // Only calls have a start of their own.
                if let Some(name) = output.tool() {
                    let start = json!({"toolUse": {"toolUseId": tool_id(output), "name": name}});
                    let event = json!({"contentBlockIndex": part, "start": start});
                    push(events, "contentBlockStart", event);
                }
            }
            Beat::Token { part, token, .. } => {
                let output = &reply.parts[part];
                let text = output.token(token);
                let delta = match output.tool() {
                    Some(_) => json!({"toolUse": {"input": text}}),
                    None if output.is_thought() => json!({"reasoningContent": {"text": text}}),
                    None => json!({"text": text}),
                };
                push_delta(events, part, delta);
            }
            Beat::Close { part, .. } => {
                let output = &reply.parts[part];
                if output.is_thought() {
                    let signature = sign(self.seed, &output.text);
                    let delta = json!({"reasoningContent": {"signature": signature}});
                    push_delta(events, part, delta);
                }
                push(
                    events,
                    "contentBlockStop",
                    json!({"contentBlockIndex": part}),
                );
            }
            Beat::End { .. } => {
                let stop = json!({"stopReason": stop_reason(&reply.finish)});
                push(events, "messageStop", stop);
            }
            Beat::Done => {
                let mut metadata = json!({"metrics": {"latencyMs": told.latency_ms}});
                if told.reports_usage() {
                    metadata["usage"] = usage(told);
                }
                push(events, "metadata", metadata);
            }
        }
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        // In a stream the kinds begin with a small letter.
        let kind = error::kind(refusal);
        let (initial, rest) = kind.split_at(1);
        let kind = initial.to_ascii_lowercase() + rest;
        events.push(event_stream::exception(
            &kind,
            error::body(refusal).as_bytes(),
        ));
    }

    fn write_garbage(&self, events: &mut Events) {
        events.push(event_stream::event("contentBlockDelta", GARBAGE));
    }

    fn stream_type(&self) -> ContentType {
        ContentType::AwsEventStream
    }
}

fn push_delta(events: &mut Events, part: usize, delta: Value) {
    let event = json!({"contentBlockIndex": part, "delta": delta});
    push(events, "contentBlockDelta", event);
}

/// Appends an event, with the padding that Bedrock adds against guesses from lengths.
fn push(events: &mut Events, kind: &str, mut payload: Value) {
    payload["p"] = "abcdefgh".into();
    events.push(event_stream::event(kind, &to_json(&payload)));
}

fn tool_id(output: &Output) -> String {
    format!("tooluse_sim{:016x}", output.seed)
}

fn usage(told: &Told) -> Value {
    let counts = &told.counts;
    json!({
        "inputTokens": counts.uncached(),
        "outputTokens": counts.output,
        "totalTokens": counts.total(),
        "cacheReadInputTokens": counts.cached,
        "cacheWriteInputTokens": counts.written(),
    })
}

fn stop_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Sequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::Filtered => "content_filtered",
    }
}
