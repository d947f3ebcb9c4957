//! What Anthropic refuses: each case is a request that it would not answer.

use http::StatusCode;
use serde_json::{Value, json};
use simulator::EngineConfig;

use crate::anthropic::{MESSAGES, VERSION, message, request};
use crate::harness::{Harness, post, post_with, with};

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_its_words() {
    let harness = Harness::default().await;
    let tool = json!({"name": "f", "input_schema": {"type": "object"}});
    let mark = json!({"type": "ephemeral"});
    let hour = json!({"type": "ephemeral", "ttl": "1h"});
    let text = |mark: &Value| json!({"type": "text", "text": "x", "cache_control": mark});
    let call = json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}});
    let user = |content: Value| json!({"role": "user", "content": content});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let messages = |messages: Value| json!({"messages": messages});
    let cases: Vec<(Value, &str)> = vec![
        (json!({"max_tokens": null}), "max_tokens: Field required"),
        (json!({"max_tokens": 0}), "max_tokens: 0 is not"),
        (json!({"n": 2}), "n: Extra inputs are not permitted"),
        (
            json!({"frequency_penalty": 0.5}),
            "frequency_penalty: Extra inputs",
        ),
        (
            json!({"stream": "yes"}),
            "stream: Input should be a valid boolean",
        ),
        (json!({"temperature": 1.5}), "temperature: 1.5 is not"),
        (
            json!({"stop_sequences": ["\n"]}),
            "must contain non-whitespace",
        ),
        (messages(json!([])), "messages: at least one"),
        (
            messages(json!([assistant(json!("hi"))])),
            "first message must use",
        ),
        (
            messages(json!([{"role": "system", "content": "x"}])),
            "messages.0.role: Input should be 'user' or 'assistant'",
        ),
        (
            messages(json!([user(json!(""))])),
            "must have non-empty content",
        ),
        (
            messages(json!([user(json!([{"type": "text", "text": ""}]))])),
            "text content blocks must be non-empty",
        ),
        (
            messages(json!([user(
                json!([{"type": "text", "text": "x", "name": "y"}])
            )])),
            "messages.0.content.0.name: Extra inputs",
        ),
        (
            messages(json!([user(json!("x")), assistant(json!("trailing "))])),
            "cannot end with trailing whitespace",
        ),
        (
            messages(json!([
                user(json!("x")),
                assistant(json!([call])),
                user(json!("y"))
            ])),
            "`tool_use` ids were found without `tool_result` blocks immediately after: t1",
        ),
        (
            messages(json!([user(
                json!([{"type": "tool_result", "tool_use_id": "t9", "content": "x"}])
            ),])),
            "unexpected `tool_use_id` found in `tool_result` blocks: t9",
        ),
        (
            messages(json!([user(json!([{"type": "image", "source": {
                "type": "base64", "media_type": "image/tiff", "data": "AA",
            }}]))])),
            "media_type",
        ),
        (
            json!({"tools": [{"name": "f g", "input_schema": {"type": "object"}}]}),
            "tools.0.name",
        ),
        (
            json!({"tools": [{"name": "f"}]}),
            "tools.0.input_schema: Field required",
        ),
        (json!({"tools": [tool, tool]}), "Tool names must be unique"),
        (
            json!({"tools": [{"type": "function", "function": tool}]}),
            "tools.0.type",
        ),
        (
            json!({"tool_choice": "auto"}),
            "tool_choice: Input should be a valid object",
        ),
        (
            json!({"tools": [tool], "tool_choice": {"type": "tool", "name": "g"}}),
            "not among the tools",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 100}}),
            "thinking.budget_tokens",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 5_000}}),
            "must be greater than `thinking.budget_tokens`",
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "temperature": 0.2}),
            "may only be set to 1 when thinking is enabled",
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "tools": [tool], "tool_choice": {"type": "any"}}),
            "Thinking may not be enabled when tool_choice forces tool use",
        ),
        (
            with(
                &messages(json!([
                    user(json!("x")),
                    assistant(json!([call])),
                    user(json!([{"type": "tool_result", "tool_use_id": "t1"}])),
                ])),
                json!({"thinking": {"type": "adaptive"}}),
            ),
            "Expected `thinking` or `redacted_thinking`, but found `tool_use`",
        ),
        (
            json!({"system": [text(&mark), text(&mark), text(&mark), text(&mark), text(&mark)]}),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            json!({"system": [text(&mark), text(&hour)]}),
            "must not come after a ttl='5m'",
        ),
        (
            json!({"system": [text(&json!({"type": "forever"}))]}),
            "cache_control.type",
        ),
        (
            json!({"system": [text(&json!({"type": "ephemeral", "ttl": "2h"}))]}),
            "cache_control.ttl: Input should be '5m' or '1h'",
        ),
    ];
    for (fields, words) in cases {
        let body = with(&message("hello"), fields.clone());
        let reply = harness.exchange(request(&body)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}");
        let error = reply.json();
        assert_eq!(error["error"]["type"], "invalid_request_error");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message} does not say {words}");
    }
}

#[tokio::test]
async fn a_version_a_key_and_a_model_are_needed() {
    let config = EngineConfig {
        api_key: Some("sk-ant-1".into()),
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let error = async |request| {
        let reply = harness.exchange(request).await;
        (reply.status.as_u16(), reply.json()["error"]["type"].clone())
    };
    let body = message("hello");
    harness.ok(request(&body)).await;
    let wrong = post_with(MESSAGES, &[VERSION, ("x-api-key", "sk-ant-2")], &body);
    assert_eq!(error(wrong).await, (401, json!("authentication_error")));
    assert_eq!(
        error(post(MESSAGES, &body)).await,
        (401, json!("authentication_error"))
    );
    let unversioned = post_with(MESSAGES, &[("x-api-key", "sk-ant-1")], &body);
    assert_eq!(
        error(unversioned).await,
        (400, json!("invalid_request_error"))
    );
    let absent = request(&with(&body, json!({"model": "absent"})));
    assert_eq!(error(absent).await, (404, json!("not_found_error")));
}
