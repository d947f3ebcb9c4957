//! How Anthropic writes an answer: whole, and in named events.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::error;
use crate::beats::Beat;
use crate::dialect::{Dialect, Told, to_json};
use crate::engine::EngineState;
use crate::refusal::Refusal;
use crate::signature::sign;
use crate::stream::{Events, GARBAGE};
use crate::text::{Finish, Output};

/// How a message is written.
#[derive(Debug)]
pub(super) struct MessageDialect {
    /// The engine's seed, which thoughts are signed with.
    seed: u64,
    /// When the limits are whole again: now, since nothing is taken from them.
    now: String,
}

/// The limits that the headers claim: requests, input tokens and output tokens a minute, as the
/// highest usual tier has them.
const LIMITS: [(&str, u64); 4] = [
    ("requests", 4_000),
    ("tokens", 2_400_000),
    ("input-tokens", 2_000_000),
    ("output-tokens", 400_000),
];

impl MessageDialect {
    /// As the engine writes it now.
    pub(super) fn new(state: &EngineState) -> Self {
        Self {
            seed: state.config.seed,
            now: state.clock.now().to_string(),
        }
    }

    fn block(&self, output: &Output) -> Value {
        let text = &output.text;
        match output.tool() {
            Some(name) => json!({
                "type": "tool_use",
                "id": tool_id(output),
                "name": name,
                // Arguments that the limit cut are no JSON, and nothing of them is left.
                "input": serde_json::from_str(text).unwrap_or_else(|_| Value::Object(Map::new())),
                "caller": {"type": "direct"},
            }),
            None if output.is_thought() => json!({
                "type": "thinking",
                "thinking": text,
                "signature": sign(self.seed, text),
            }),
            None => json!({"type": "text", "text": text, "citations": null}),
        }
    }

    fn empty_block(output: &Output) -> Value {
        match output.tool() {
            Some(name) => {
                let caller = json!({"type": "direct"});
                json!({"type": "tool_use", "id": tool_id(output), "name": name, "input": {}, "caller": caller})
            }
            None if output.is_thought() => {
                json!({"type": "thinking", "thinking": "", "signature": ""})
            }
            None => json!({"type": "text", "text": "", "citations": null}),
        }
    }
}

impl Dialect for MessageDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let reply = told.reply();
        let (reason, sequence) = stop(&reply.finish);
        let mut message = message(told);
        message["content"] = reply.parts.iter().map(|part| self.block(part)).collect();
        message["stop_reason"] = reason.into();
        message["stop_sequence"] = sequence.into();
        if told.reports_usage() {
            message["usage"] = usage(told, told.counts.output);
        }
        to_json(&message)
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let reply = told.reply();
        match beat {
            Beat::Start => {
                let mut message = message(told);
                if told.reports_usage() {
                    // By then the first token is there.
                    message["usage"] = usage(told, 1);
                }
                let start = json!({"type": "message_start", "message": message});
                events.named("message_start", &start);
            }
            Beat::Open { part, .. } => {
                let start = json!({
                    "type": "content_block_start",
                    "index": part,
                    "content_block": Self::empty_block(&reply.parts[part]),
                });
                events.named("content_block_start", &start);
                if part == 0 {
                    events.named("ping", &json!({"type": "ping"}));
                }
            }
            Beat::Token { part, token, .. } => {
                let output = &reply.parts[part];
                let text = output.token(token);
                let delta = match output.tool() {
                    Some(_) => json!({"type": "input_json_delta", "partial_json": text}),
                    None if output.is_thought() => {
                        json!({"type": "thinking_delta", "thinking": text})
                    }
                    None => json!({"type": "text_delta", "text": text}),
                };
                events.named("content_block_delta", &block_delta(part, &delta));
            }
            Beat::Close { part, .. } => {
                let output = &reply.parts[part];
                if output.is_thought() {
                    let signature = sign(self.seed, &output.text);
                    let delta = json!({"type": "signature_delta", "signature": signature});
                    events.named("content_block_delta", &block_delta(part, &delta));
                }
                let stop = json!({"type": "content_block_stop", "index": part});
                events.named("content_block_stop", &stop);
            }
            Beat::End { .. } => {
                let (reason, sequence) = stop(&reply.finish);
                let mut delta = json!({
                    "type": "message_delta",
                    "delta": {
                        "stop_reason": reason, "stop_sequence": sequence,
                        "stop_details": null, "container": null,
                    },
                });
                if told.reports_usage() {
                    delta["usage"] = json!({
                        "input_tokens": told.counts.uncached(),
                        "cache_creation_input_tokens": told.counts.written(),
                        "cache_read_input_tokens": told.counts.cached,
                        "output_tokens": told.counts.output,
                        "output_tokens_details": {"thinking_tokens": told.counts.thought},
                        "server_tool_use": null,
                    });
                }
                events.named("message_delta", &delta);
            }
            Beat::Done => events.named("message_stop", &json!({"type": "message_stop"})),
        }
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        events.named("error", &error::event(refusal));
    }

    fn write_garbage(&self, events: &mut Events) {
        let start = b"event: content_block_delta\ndata: ".as_slice();
        events.push([start, GARBAGE, b"\n\n"].concat());
    }

    fn write_headers(&self, _: &Told, headers: &mut HeaderMap) {
        let mut insert = |name: String, value: HeaderValue| {
            let name = HeaderName::try_from(name).expect("the name is lower-case ASCII");
            headers.insert(name, value);
        };
        let now = HeaderValue::try_from(&self.now).expect("a time is ASCII");
        for (what, limit) in LIMITS {
            insert(format!("anthropic-ratelimit-{what}-limit"), limit.into());
            insert(
                format!("anthropic-ratelimit-{what}-remaining"),
                limit.into(),
            );
            insert(format!("anthropic-ratelimit-{what}-reset"), now.clone());
        }
        let organization = HeaderValue::from_static("5f0c1b9e-0000-4000-8000-000000000000");
        insert("anthropic-organization-id".into(), organization);
    }
}

fn block_delta(part: usize, delta: &Value) -> Value {
    json!({"type": "content_block_delta", "index": part, "delta": delta})
}

/// A message without content and end.
fn message(told: &Told) -> Value {
    json!({
        "id": format!("msg_sim{:020}", told.call),
        "type": "message",
        "role": "assistant",
        "model": told.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "container": null,
    })
}

fn usage(told: &Told, output_tokens: u64) -> Value {
    let counts = &told.counts;
    json!({
        "input_tokens": counts.uncached(),
        "cache_creation_input_tokens": counts.written(),
        "cache_read_input_tokens": counts.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": counts.written_5m,
            "ephemeral_1h_input_tokens": counts.written_1h,
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": counts.thought.min(output_tokens)},
        "server_tool_use": null,
        "service_tier": "standard",
        "inference_geo": null,
    })
}

fn tool_id(output: &Output) -> String {
    format!("toolu_sim{:016x}", output.seed)
}

/// `stop_reason` and `stop_sequence`.
fn stop(finish: &Finish) -> (&'static str, Option<&str>) {
    match finish {
        Finish::Stop => ("end_turn", None),
        Finish::Sequence(sequence) => ("stop_sequence", Some(sequence)),
        Finish::Length => ("max_tokens", None),
        Finish::ToolCalls => ("tool_use", None),
        Finish::Filtered => ("refusal", None),
    }
}
