use serde_json::{Value, json};

use super::super::testing::{asked, breaks, chat, events, refused, streamed};
use crate::conversation::{AnswerEvent, Content, StopReason};
use crate::dialect::Dialect;

const MODEL: &str = "command-a-03-2025";

fn check(body: Value, expected: Value) {
    assert_eq!(
        asked(Dialect::Cohere, MODEL, &chat(body)).unwrap(),
        expected
    );
}

#[test]
fn a_request_has_messages_tools_and_a_bound() {
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object"}});
    let image = json!({"type": "image_url", "image_url": {"url": "https://x.y/a.png"}});
    check(
        json!({
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, image]},
                {"role": "assistant", "content": "I will call f.", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "2"},
            ],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "temperature": 0.3, "top_p": 0.75, "top_k": 50, "seed": 1, "stop": ["a", "b"],
            "frequency_penalty": 0.5, "stream": true, "reasoning_effort": "medium",
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}}},
        }),
        json!({
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, image]},
                {"role": "assistant", "tool_plan": "I will call f.", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "2"},
            ],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "REQUIRED",
            "citation_options": {"mode": "OFF"},
            "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
            "max_tokens": 4096, "stop_sequences": ["a", "b"], "temperature": 0.3, "seed": 1,
            "frequency_penalty": 0.5, "k": 50, "p": 0.75,
            "thinking": {"type": "enabled", "token_budget": 2048},
            "stream": true,
        }),
    );
}

#[test]
fn what_cohere_cannot_hear_is_refused_by_name() {
    let field = |body: Value| {
        let mut body = body;
        if body.get("messages").is_none() {
            body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        }
        refused(Dialect::Cohere, MODEL, &chat(body))
    };
    assert_eq!(field(json!({"n": 2})), "n");
    assert_eq!(field(json!({"logprobs": true})), "logprobs");
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let one_of_two = json!({"tools": [tool("f"), tool("g")],
        "tool_choice": {"type": "function", "function": {"name": "f"}}});
    assert_eq!(field(one_of_two), "tool_choice");
    let serial = json!({"tools": [tool("f")], "parallel_tool_calls": false});
    assert_eq!(field(serial), "parallel_tool_calls");
    let audio = json!({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}});
    assert_eq!(
        field(json!({"messages": [{"role": "user", "content": [audio]}]})),
        "messages"
    );
}

const WHOLE: &str = r#"{"id":"c1","finish_reason":"TOOL_CALL","message":{"role":"assistant",
    "tool_plan":"I will call f.",
    "tool_calls":[{"id":"f_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},
        {"id":"g_2","type":"function","function":{"name":"g","arguments":"{}"}}],
    "content":[{"type":"thinking","thinking":"Hm, so."}]},
    "usage":{"billed_units":{"input_tokens":17,"output_tokens":12.0},
        "tokens":{"input_tokens":215,"output_tokens":60},"cached_tokens":5}}"#;

fn stream(events: &[Value]) -> Vec<u8> {
    let frames = events.iter().map(|event| {
        let kind = event["type"].as_str().unwrap();
        format!("event: {kind}\ndata: {event}\n\n")
    });
    frames.collect::<String>().into_bytes()
}

fn tool_stream() -> Vec<Value> {
    let message = |kind: &str, message: Value| json!({"type": kind, "index": 0, "delta": {"message": message}});
    vec![
        json!({"type": "message-start", "id": "c1",
            "delta": {"message": {"role": "assistant", "content": [], "tool_plan": ""}}}),
        message(
            "content-start",
            json!({"content": {"type": "thinking", "thinking": ""}}),
        ),
        message("content-delta", json!({"content": {"thinking": "Hm, "}})),
        message("content-delta", json!({"content": {"thinking": "so."}})),
        json!({"type": "content-end", "index": 0}),
        message("tool-plan-delta", json!({"tool_plan": "I will"})),
        message("tool-plan-delta", json!({"tool_plan": " call f."})),
        message(
            "tool-call-start",
            json!({"tool_calls": {"id": "f_1", "type": "function",
            "function": {"name": "f", "arguments": ""}}}),
        ),
        message(
            "tool-call-delta",
            json!({"tool_calls": {"function": {"arguments": "{\"a\""}}}),
        ),
        message(
            "tool-call-delta",
            json!({"tool_calls": {"function": {"arguments": ":1}"}}}),
        ),
        json!({"type": "tool-call-end", "index": 0}),
        message(
            "tool-call-start",
            json!({"tool_calls": {"id": "g_2", "type": "function",
            "function": {"name": "g", "arguments": "{}"}}}),
        ),
        json!({"type": "tool-call-end", "index": 1}),
        json!({"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {
            "billed_units": {"input_tokens": 17, "output_tokens": 12}, "cached_tokens": 5}}}),
    ]
}

#[test]
fn an_answer_is_the_same_whole_and_streamed() {
    let whole = Dialect::Cohere.read_answer(WHOLE.as_bytes()).unwrap();
    let usage = whole.usage.unwrap();
    assert_eq!(
        (
            usage.input_tokens,
            usage.cached_read_tokens,
            usage.output_tokens
        ),
        (17, 5, 12)
    );
    let candidate = &whole.candidates[0];
    assert_eq!(candidate.stop, Some(StopReason::ToolCalls));
    assert_eq!(
        candidate.parts[0].content,
        Content::Reasoning("Hm, so.".into())
    );
    assert_eq!(
        candidate.parts[1].content,
        Content::Text("I will call f.".into())
    );
    assert_eq!(candidate.parts.len(), 4);
    let events = tool_stream();
    assert_eq!(streamed(Dialect::Cohere, &stream(&events)), whole);
    for count in [0, 1, 5, events.len() - 1] {
        breaks(Dialect::Cohere, &stream(&events[..count]));
    }
}

#[test]
fn failures_in_mid_stream_are_told() {
    let mut frames = tool_stream();
    frames.truncate(6);
    frames
        .push(json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "lost"}}));
    let events = events(Dialect::Cohere, &[&stream(&frames)]);
    let Some(AnswerEvent::Error(failure)) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((&*failure.kind, &*failure.message), ("error", "lost"));
    for bad in [
        "",
        "{}",
        r#"{"message":[]}"#,
        r#"{"message":{},"finish_reason":"ERROR"}"#,
    ] {
        assert!(
            Dialect::Cohere.read_answer(bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}
