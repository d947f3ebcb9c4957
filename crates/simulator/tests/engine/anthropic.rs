//! Anthropic's Messages API, as its documentation shows it.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use simulator::EngineConfig;

use crate::harness::{Harness, joined, long_text, names, post_with, with};

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

pub(crate) fn message(text: &str) -> Value {
    json!({
        "model": "sim-small",
        "max_tokens": 4_096,
        "messages": [{"role": "user", "content": text}],
    })
}

pub(crate) fn request(body: &Value) -> Request<Full<bytes::Bytes>> {
    post_with(MESSAGES, &[VERSION, ("x-api-key", "sk-ant-1")], body)
}

fn weather() -> Value {
    json!({"tools": [{
        "name": "get_weather",
        "description": "The weather in a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }]})
}

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = Harness::default().await;
    let reply = harness.exchange(request(&message("[[say:Hello!]]"))).await;
    // `<|user|>[[say:Hello!]]<|assistant|>` has 35 bytes.
    let expected = json!({
        "id": "msg_sim00000000000000000001",
        "type": "message",
        "role": "assistant",
        "model": "sim-small",
        "content": [{"type": "text", "text": "Hello!", "citations": null}],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "stop_details": null,
        "container": null,
        "usage": {
            "input_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
            "server_tool_use": null,
            "service_tier": "standard",
            "inference_geo": null,
        },
    });
    assert_eq!(reply.json(), expected);
    assert!(
        reply.headers["request-id"]
            .to_str()
            .unwrap()
            .starts_with("req_")
    );
    for what in ["requests", "tokens", "input-tokens", "output-tokens"] {
        let header = |part: &str| &reply.headers[format!("anthropic-ratelimit-{what}-{part}")];
        assert!(header("limit").to_str().unwrap().parse::<u64>().unwrap() > 0);
        assert_eq!(header("remaining"), header("limit"));
        assert_eq!(header("reset"), "2023-11-14T22:13:20Z");
    }
}

#[tokio::test]
async fn a_stream_is_of_named_events_and_says_the_same() {
    let harness = Harness::default().await;
    let whole = harness.ok(request(&message("hello"))).await;
    let body = with(&message("hello"), json!({"stream": true}));
    let events = harness.named_events(request(&body)).await;
    assert_eq!(
        names(&events),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert!(events.iter().all(|(name, event)| event["type"] == **name));
    let start = &events[0].1["message"];
    assert_eq!(
        (&start["content"], &start["stop_reason"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(
        start["usage"]["input_tokens"],
        whole["usage"]["input_tokens"]
    );
    assert_eq!(
        events[1].1["content_block"],
        json!({"type": "text", "text": "", "citations": null})
    );
    assert_eq!(joined(&events, "/delta/text"), whole["content"][0]["text"]);
    let end = &events[events.len() - 2].1;
    assert_eq!(
        end["delta"],
        json!({
            "stop_reason": "end_turn", "stop_sequence": null,
            "stop_details": null, "container": null,
        })
    );
    assert_eq!(end["usage"]["output_tokens"], 32);
}

#[tokio::test]
async fn tools_are_called_and_answered() {
    let harness = Harness::default().await;
    let asked = with(
        &message(r#"[[say:Let me see.]][[call:get_weather {"city":"Ulm"}]][[call:get_weather]]"#),
        weather(),
    );
    let answer = harness.ok(request(&asked)).await;
    assert_eq!(answer["stop_reason"], "tool_use");
    assert_eq!(answer["content"][0]["text"], "Let me see.");
    let call = &answer["content"][1];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("tool_use"), &json!("get_weather"))
    );
    assert_eq!(call["input"], json!({"city": "Ulm"}));
    assert!(answer["content"][2]["input"]["city"].is_string());
    assert_ne!(call["id"], answer["content"][2]["id"]);

    let events = harness
        .named_events(request(&with(&asked, json!({"stream": true}))))
        .await;
    let starts: Vec<&Value> = events
        .iter()
        .filter(|(name, _)| name == "content_block_start")
        .map(|(_, event)| &event["content_block"])
        .collect();
    assert_eq!(starts.len(), 3);
    let opened = json!({
        "type": "tool_use", "id": call["id"], "name": "get_weather", "input": {},
        "caller": {"type": "direct"},
    });
    assert_eq!(starts[1], &opened);
    let of_first: Vec<_> = events
        .iter()
        .filter(|(_, event)| event["index"] == 1)
        .cloned()
        .collect();
    assert_eq!(
        joined(&of_first, "/delta/partial_json"),
        r#"{"city":"Ulm"}"#
    );

    let results = json!([
        {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"},
        {"type": "tool_result", "tool_use_id": answer["content"][2]["id"], "is_error": true,
            "content": [{"type": "text", "text": "no such city"}]},
    ]);
    let mut next = asked.clone();
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": answer["content"]}));
    messages.push(json!({"role": "user", "content": results}));
    let end = harness.ok(request(&next)).await;
    assert_eq!(end["stop_reason"], "end_turn", "an agent comes to an end");

    for choice in [
        json!({"type": "any"}),
        json!({"type": "tool", "name": "get_weather"}),
    ] {
        let body = with(&message("hello"), weather());
        let body = with(&body, json!({"tool_choice": choice}));
        assert_eq!(harness.ok(request(&body)).await["stop_reason"], "tool_use");
    }
}

#[tokio::test]
async fn thoughts_are_signed_and_verified_when_they_come_back() {
    let harness = Harness::default().await;
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1_024}});
    let asked = with(&message("[[think:7]]hello"), thinking);
    let answer = harness.ok(request(&asked)).await;
    let thought = &answer["content"][0];
    assert_eq!(thought["type"], "thinking");
    assert_eq!(thought["thinking"].as_str().unwrap().split(' ').count(), 7);
    assert_eq!(answer["usage"]["output_tokens"], 39);

    let events = harness
        .named_events(request(&with(&asked, json!({"stream": true}))))
        .await;
    assert_eq!(joined(&events, "/delta/thinking"), thought["thinking"]);
    assert_eq!(joined(&events, "/delta/signature"), thought["signature"]);

    let mut next = asked.clone();
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": answer["content"]}));
    messages.push(json!({"role": "user", "content": "go on"}));
    harness.ok(request(&next)).await;
    next["messages"][1]["content"][0]["thinking"] = json!("something else");
    let reply = harness.exchange(request(&next)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains("Invalid `signature` in `thinking` block"),
        "{message}"
    );
}

#[tokio::test]
async fn images_documents_and_schemas_are_read() {
    let harness = Harness::default().await;
    let content = json!([
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "document", "title": "Notes",
            "source": {"type": "text", "media_type": "text/plain", "data": "abcdabcd"}},
        {"type": "text", "text": "What is this?"},
    ]);
    let body = with(
        &message(""),
        json!({
            "messages": [{"role": "user", "content": content}],
            "system": [{"type": "text", "text": "Be brief."}],
            "output_config": {"format": {"type": "json_schema", "schema": {
                "type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}},
            }}},
            "metadata": {"user_id": "u"}, "temperature": 0.5, "top_k": 5,
        }),
    );
    let answer = harness.ok(request(&body)).await;
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean());
    // 85 for the image, and 52 bytes of text.
    assert_eq!(answer["usage"]["input_tokens"], 98);

    let mut counted = body.clone();
    for name in ["max_tokens", "metadata", "temperature", "top_k"] {
        counted.as_object_mut().unwrap().remove(name);
    }
    let count = post_with("/v1/messages/count_tokens", &[VERSION], &counted);
    assert_eq!(harness.ok(count).await, json!({"input_tokens": 98}));
}

#[tokio::test]
async fn an_answer_ends_for_its_reason() {
    let harness = Harness::default().await;
    let ends = async |text: &str, fields: Value| {
        let answer = harness.ok(request(&with(&message(text), fields))).await;
        (
            answer["stop_reason"].clone(),
            answer["stop_sequence"].clone(),
        )
    };
    let stops = json!({"stop_sequences": ["never", "END"]});
    assert_eq!(
        ends("[[say:It is END.]]", stops).await,
        (json!("stop_sequence"), json!("END"))
    );
    let short = json!({"max_tokens": 3});
    assert_eq!(
        ends("hello", short).await,
        (json!("max_tokens"), Value::Null)
    );
    assert_eq!(
        ends("[[filter]]", json!({})).await,
        (json!("refusal"), Value::Null)
    );
}

#[tokio::test]
async fn prompts_are_kept_at_marks_for_each_credential_by_itself() {
    let harness = Harness::default().await;
    let body = with(
        &message("hello"),
        json!({"system": [
            {"type": "text", "text": long_text(2_000),
                "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"type": "text", "text": long_text(1_000), "cache_control": {"type": "ephemeral"}},
        ]}),
    );
    let usage = async |key: &str| {
        let request = post_with(MESSAGES, &[VERSION, ("x-api-key", key)], &body);
        let usage = harness.ok(request).await["usage"].clone();
        let count = |name: &str| usage[name].as_u64().unwrap();
        let kept = &usage["cache_creation"];
        [
            count("input_tokens"),
            count("cache_creation_input_tokens"),
            count("cache_read_input_tokens"),
            kept["ephemeral_5m_input_tokens"].as_u64().unwrap(),
            kept["ephemeral_1h_input_tokens"].as_u64().unwrap(),
        ]
    };
    let (written, read) = ([7, 3_000, 0, 1_000, 2_000], [7, 0, 3_000, 0, 0]);
    assert_eq!(usage("ours").await, written);
    assert_eq!(usage("ours").await, read);
    assert_eq!(
        usage("theirs").await,
        written,
        "another credential has nothing"
    );
    assert_eq!(usage("theirs").await, read);
    let bearer = post_with(
        MESSAGES,
        &[VERSION, ("authorization", "Bearer ours")],
        &body,
    );
    let answer = harness.ok(bearer).await;
    assert_eq!(
        answer["usage"]["cache_read_input_tokens"], 3_000,
        "the same credential"
    );
}

#[tokio::test]
async fn a_conversation_that_grows_is_read_from_its_last_mark() {
    let config = EngineConfig {
        provider_cache_tokens_min: 10,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let turn = |text: &str| {
        json!({"role": "user", "content": [
            {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}},
        ]})
    };
    let mut body = message("");
    body["messages"] = json!([turn(&long_text(100))]);
    let first = harness.ok(request(&body)).await;
    assert_eq!(first["usage"]["cache_creation_input_tokens"], 102);
    body["messages"] = json!([
        {"role": "user", "content": long_text(100)},
        {"role": "assistant", "content": "well"},
        turn("go on"),
    ]);
    let second = harness.ok(request(&body)).await;
    assert_eq!(second["usage"]["cache_read_input_tokens"], 102);
    assert!(
        second["usage"]["cache_creation_input_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[tokio::test]
async fn models_have_anthropic_s_shape_where_its_version_is_named() {
    let harness = Harness::default().await;
    let get = |path: &str| {
        let request = Request::get(path).header("host", "engine");
        let request = request.header(VERSION.0, VERSION.1);
        request.body(Full::default()).unwrap()
    };
    let list = harness.ok(get("/v1/models")).await;
    assert_eq!(list["data"][0]["type"], "model");
    assert_eq!(
        (&list["has_more"], &list["first_id"]),
        (&json!(false), &json!("sim-small"))
    );
    assert_eq!(
        harness.ok(get("/v1/models/sim-large")).await["id"],
        "sim-large"
    );
    let reply = harness.exchange(get("/v1/models/absent")).await;
    assert_eq!(reply.json()["error"]["type"], "not_found_error");
}

#[tokio::test(start_paused = true)]
async fn faults_have_anthropic_s_shape() {
    let harness = Harness::default().await;
    let cases = [
        ("status=429;retry-after=2", 429, "rate_limit_error"),
        ("overloaded", 529, "overloaded_error"),
        ("status=503", 529, "overloaded_error"),
        ("status=500", 500, "api_error"),
        ("status=401", 401, "authentication_error"),
        ("status=413", 413, "request_too_large"),
    ];
    for (fault, status, kind) in cases {
        let reply = harness
            .exchange(request(&message(&format!("[[fault:{fault}]]"))))
            .await;
        assert_eq!(reply.status.as_u16(), status, "{fault}");
        let error = reply.json();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!(kind))
        );
        assert_eq!(error["request_id"].as_str().unwrap().len(), 27);
    }
    let body = with(&message("[[fault:error=4]]"), json!({"stream": true}));
    let events = harness.named_events(request(&body)).await;
    assert_eq!(events.len(), 5);
    assert_eq!(events[4].0, "error");
    assert_eq!(events[4].1["error"]["type"], "api_error");
    let counted =
        json!({"model": "sim-small", "messages": message("[[fault:overloaded]]")["messages"]});
    let count = post_with("/v1/messages/count_tokens", &[VERSION], &counted);
    assert_eq!(harness.exchange(count).await.status.as_u16(), 529);
    let body = with(&message("[[fault:nousage]]"), json!({"stream": true}));
    let events = harness.named_events(request(&body)).await;
    let has_usage = |event: &Value| event.to_string().contains("usage");
    assert!(events.iter().all(|(_, event)| !has_usage(event)));
    let start = tokio::time::Instant::now();
    harness.ok(request(&message("[[fault:delay=500ms]]"))).await;
    assert!(start.elapsed() >= Duration::from_millis(500));
}
