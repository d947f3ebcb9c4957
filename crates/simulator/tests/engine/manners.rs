//! The same paths with the manners of OpenAI, Azure and Mistral; tools and thoughts in chats.

use http::StatusCode;
use serde_json::{Value, json};
use simulator::{EngineConfig, Provider};

use crate::harness::{Harness, chat, chat_with, long_text, post, post_with, with};

const CHAT: &str = "/v1/chat/completions";

async fn speaking(provider: Provider) -> Harness {
    Harness::start(EngineConfig {
        provider,
        ..EngineConfig::default()
    })
    .await
}

fn tools() -> Value {
    json!({"tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g"}},
    ]})
}

#[tokio::test]
async fn openai_refuses_what_it_does_not_know() {
    let harness = speaking(Provider::OpenAi).await;
    for name in [
        "cache_salt",
        "extra_key",
        "priority",
        "kv_transfer_params",
        "top_k",
    ] {
        let reply = harness
            .post(CHAT, &chat_with("hello", json!({name: 1})))
            .await;
        let error = &reply.json()["error"];
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert_eq!(error["message"], format!("Unknown parameter: '{name}'."));
        assert_eq!(
            (&error["param"], &error["code"]),
            (&json!(name), &json!("unknown_parameter"))
        );
    }
    let known = json!({"store": false, "user": "u", "prompt_cache_key": "k", "seed": 7});
    harness.chat(&chat_with("hello", known)).await;
    let body = json!({"model": "sim-small", "prompt": "x", "cache_salt": "s"});
    let reply = harness.post("/v1/completions", &body).await;
    assert_eq!(reply.json()["error"]["param"], "cache_salt");
    let body = json!({"model": "sim-embed", "input": "x", "truncate": true});
    let reply = harness.post("/v1/embeddings", &body).await;
    assert_eq!(reply.json()["error"]["param"], "truncate");
}

#[tokio::test]
async fn openai_keeps_prompts_by_credential_and_key() {
    let harness = speaking(Provider::OpenAi).await;
    let text = long_text(1_500);
    let cached = async |credential: &str, key: &str| {
        let credential = format!("Bearer {credential}");
        let body = chat_with(&text, json!({"prompt_cache_key": key}));
        let request = post_with(CHAT, &[("authorization", &credential)], &body);
        let usage = &harness.ok(request).await["usage"];
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("ours", "a").await, 0);
    assert_eq!(cached("ours", "a").await, 1_408, "in steps of 128");
    assert_eq!(
        cached("theirs", "a").await,
        0,
        "another credential has nothing"
    );
    assert_eq!(cached("ours", "b").await, 0, "nor has another key");
    let short = chat(&long_text(900));
    for _ in 0..2 {
        let usage = &harness.chat(&short).await["usage"];
        assert_eq!(
            usage["prompt_tokens_details"]["cached_tokens"], 0,
            "too short"
        );
    }
}

#[tokio::test]
async fn openai_thinks_behind_closed_doors_and_an_engine_shows_it() {
    let body = chat_with(
        "[[think:6]][[say:Hello!]]",
        json!({"reasoning_effort": "low"}),
    );
    let harness = speaking(Provider::OpenAi).await;
    let answer = harness.chat(&body).await;
    assert!(
        answer["choices"][0]["message"]
            .get("reasoning_content")
            .is_none()
    );
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    assert_eq!(
        answer["usage"]["completion_tokens_details"]["reasoning_tokens"],
        6
    );
    let none = with(&body, json!({"reasoning_effort": "none"}));
    assert_eq!(harness.chat(&none).await["usage"]["completion_tokens"], 2);
    let hidden = harness
        .stream(CHAT, &with(&body, json!({"stream": true})))
        .await;
    assert_eq!(hidden.joined("/choices/0/delta/content"), "Hello!");
    assert_eq!(hidden.joined("/choices/0/delta/reasoning_content"), "");

    let harness = Harness::default().await;
    let answer = harness.chat(&body).await;
    let thought = answer["choices"][0]["message"]["reasoning_content"]
        .as_str()
        .unwrap();
    assert_eq!(thought.split(' ').count(), 6);
    let shown = harness
        .stream(CHAT, &with(&body, json!({"stream": true})))
        .await;
    assert_eq!(shown.joined("/choices/0/delta/reasoning_content"), thought);
}

#[tokio::test]
async fn several_tools_are_called_in_one_answer() {
    let harness = Harness::default().await;
    let text = r#"[[say:Both.]][[call:f {"a":1}]][[call:g]][[call:unknown]]"#;
    let body = chat_with(text, tools());
    let answer = harness.chat(&body).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["content"], "Both.");
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let calls = message["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2, "what is not offered is not called");
    assert_eq!(
        calls[0]["function"],
        json!({"name": "f", "arguments": r#"{"a":1}"#})
    );
    let events = harness
        .stream(CHAT, &with(&body, json!({"stream": true})))
        .await;
    let opened: Vec<Value> = events
        .json()
        .iter()
        .filter_map(|frame| frame.pointer("/choices/0/delta/tool_calls/0").cloned())
        .filter(|call| call.get("id").is_some())
        .collect();
    assert_eq!(opened.len(), 2);
    assert_eq!(
        (&opened[1]["index"], &opened[1]["id"]),
        (&json!(1), &calls[1]["id"])
    );
    let filtered = harness.chat(&chat("[[filter]]")).await;
    assert_eq!(filtered["choices"][0]["finish_reason"], "content_filter");
}

#[tokio::test]
async fn openai_wants_calls_and_results_to_match() {
    let harness = speaking(Provider::OpenAi).await;
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]});
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "x"});
    let user = json!({"role": "user", "content": "hello"});
    let status = async |messages: Value| {
        let body = with(&chat("hello"), json!({"messages": messages}));
        harness.post(CHAT, &body).await.status.as_u16()
    };
    assert_eq!(status(json!([user, call, result])).await, 200);
    assert_eq!(status(json!([user, call])).await, 400);
    assert_eq!(status(json!([user, call, user])).await, 400);
    assert_eq!(status(json!([user, result])).await, 400);
    assert_eq!(status(json!([user, call, result, result])).await, 400);
}

#[tokio::test]
async fn openai_wants_strict_schemas_to_be_strict_and_messages_to_be_known() {
    let harness = speaking(Provider::OpenAi).await;
    let strict = |schema: Value| {
        let named = json!({"name": "x", "strict": true, "schema": schema});
        json!({"response_format": {"type": "json_schema", "json_schema": named}})
    };
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let closed = with(&open, json!({"additionalProperties": false}));
    let whole = with(&closed, json!({"required": ["a"]}));
    let nested = json!({"type": "object", "required": ["list"], "additionalProperties": false,
        "properties": {"list": {"type": "array", "items": open}}});
    let message = |fields: Value| json!({"messages": [with(&json!({"role": "user", "content": "x"}), fields)]});
    let cases = [
        (strict(whole), 200),
        (strict(open.clone()), 400),
        (strict(closed), 400),
        (strict(nested), 400),
        (message(json!({"name": "Ada"})), 200),
        (message(json!({"reasoning_content": "hm"})), 400),
        (
            message(json!({"cache_control": {"type": "ephemeral"}})),
            400,
        ),
    ];
    for (fields, status) in cases {
        let reply = harness
            .post(CHAT, &chat_with("hello", fields.clone()))
            .await;
        assert_eq!(reply.status.as_u16(), status, "{fields}");
    }
    let function = json!({"name": "f", "strict": true, "parameters": open});
    let tools = json!({"tools": [{"type": "function", "function": function}]});
    let reply = harness.post(CHAT, &chat_with("hello", tools)).await;
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains("Invalid schema for function 'f'"),
        "{message}"
    );
}

#[tokio::test]
async fn azure_has_deployments_versions_and_a_header_of_its_own() {
    let harness = Harness::start(EngineConfig {
        api_key: Some("azure-key".into()),
        ..EngineConfig::default()
    })
    .await;
    let path = "/openai/deployments/sim-large/chat/completions?api-version=2024-10-21";
    let key = [("api-key", "azure-key")];
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(
        harness.ok(post_with(path, &key, &body)).await["model"],
        "sim-large"
    );
    let bearer = [("authorization", "Bearer azure-key")];
    harness.ok(post_with(path, &bearer, &body)).await;
    let status = async |request| harness.exchange(request).await.status.as_u16();
    assert_eq!(status(post(path, &body)).await, 401);
    let unversioned = path.split_once('?').unwrap().0;
    assert_eq!(status(post_with(unversioned, &key, &body)).await, 404);
    let absent = path.replace("sim-large", "absent");
    assert_eq!(status(post_with(&absent, &key, &body)).await, 404);
    let salted = with(&body, json!({"cache_salt": "s"}));
    assert_eq!(status(post_with(path, &key, &salted)).await, 400);
    let embed = "/openai/deployments/sim-embed/embeddings?api-version=2024-10-21";
    assert_eq!(
        status(post_with(embed, &key, &json!({"input": "x"}))).await,
        200
    );
    let newer = "/openai/v1/chat/completions";
    assert_eq!(
        harness.ok(post_with(newer, &key, &chat("hello"))).await["model"],
        "sim-small"
    );
}

#[tokio::test]
async fn mistral_is_strict_in_its_own_way() {
    let harness = speaking(Provider::Mistral).await;
    let known = json!({"safe_prompt": true, "random_seed": 7, "tool_choice": "any"});
    let answer = harness
        .chat(&with(&chat_with("hello", known), tools()))
        .await;
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    let id = call["id"].as_str().unwrap();
    assert!(
        id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id}"
    );

    for name in [
        "stream_options",
        "seed",
        "max_completion_tokens",
        "user",
        "cache_salt",
    ] {
        let reply = harness
            .post(CHAT, &chat_with("hello", json!({name: 1})))
            .await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        let error = reply.json();
        assert_eq!(error["object"], "error");
        let detail = &error["message"]["detail"][0];
        assert_eq!(detail["type"], "extra_forbidden");
        assert_eq!(
            (&detail["loc"], &detail["input"]),
            (&json!(["body", name]), &json!(1))
        );
    }
    let message = json!({"role": "user", "content": "x", "refusal": "no"});
    let reply = harness
        .post(CHAT, &chat_with("x", json!({"messages": [message]})))
        .await;
    let detail = &reply.json()["message"]["detail"][0];
    assert_eq!(detail["loc"], json!(["body", "messages", 0, "refusal"]));
    let conversation = |id: &str| {
        with(
            &chat("hello"),
            json!({"messages": [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": id, "function": {"name": "f", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": id, "name": "f", "content": "x"},
            ]}),
        )
    };
    harness.chat(&conversation(id)).await;
    let reply = harness.post(CHAT, &conversation("call_123")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["code"].clone()),
        (400, json!("3280"))
    );
    let events = harness
        .stream(CHAT, &chat_with("hello", json!({"stream": true})))
        .await;
    let frames = events.json();
    let last = frames.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        last["usage"]["completion_tokens"], 32,
        "unasked, in the last chunk"
    );
}
