//! Cohere's second API, as its documentation shows it, and ranking in the shape of Jina and vLLM.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Harness, joined, long_text, names, post, post_with, with};

const CHAT: &str = "/v2/chat";

fn chat(text: &str) -> Value {
    json!({"model": "sim-small", "messages": [{"role": "user", "content": text}]})
}

fn weather() -> Value {
    json!({"tools": [{"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}},
        },
    }}]})
}

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = Harness::default().await;
    let expected = json!({
        "id": "00000000-0000-4000-8000-000000000001",
        "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
        "usage": {
            "billed_units": {"input_tokens": 9, "output_tokens": 2},
            "tokens": {"input_tokens": 9, "output_tokens": 2},
            "cached_tokens": 0,
        },
    });
    assert_eq!(
        harness.ok(post(CHAT, &chat("[[say:Hello!]]"))).await,
        expected
    );
}

#[tokio::test]
async fn a_stream_is_of_named_events_and_says_the_same() {
    let harness = Harness::default().await;
    let body = with(
        &chat("[[think:5]]hello"),
        json!({"thinking": {"type": "enabled"}}),
    );
    let whole = harness.ok(post(CHAT, &body)).await;
    let events = harness
        .named_events(post(CHAT, &with(&body, json!({"stream": true}))))
        .await;
    assert_eq!(
        names(&events),
        [
            "message-start",
            "content-start",
            "content-delta",
            "content-end",
            "content-start",
            "content-delta",
            "content-end",
            "message-end",
        ]
    );
    assert!(events.iter().all(|(name, event)| event["type"] == **name));
    let content = &whole["message"]["content"];
    let said = joined(&events, "/delta/message/content/text");
    assert_eq!(content[1], json!({"type": "text", "text": said}));
    let thought = joined(&events, "/delta/message/content/thinking");
    assert_eq!(content[0], json!({"type": "thinking", "thinking": thought}));
    let end = &events.last().unwrap().1["delta"];
    assert_eq!(
        (&end["finish_reason"], &end["usage"]),
        (&json!("COMPLETE"), &whole["usage"])
    );
}

#[tokio::test]
async fn tools_are_planned_called_and_answered() {
    let harness = Harness::default().await;
    let text = r#"[[say:I will look.]][[call:get_weather {"city":"Ulm"}]]"#;
    let asked = with(&chat(text), weather());
    let answer = harness.ok(post(CHAT, &asked)).await;
    assert_eq!(answer["finish_reason"], "TOOL_CALL");
    let message = &answer["message"];
    assert_eq!(message["tool_plan"], "I will look.");
    assert!(message.get("content").is_none());
    let function = json!({"name": "get_weather", "arguments": r#"{"city":"Ulm"}"#});
    assert_eq!(message["tool_calls"][0]["function"], function);

    let events = harness
        .named_events(post(CHAT, &with(&asked, json!({"stream": true}))))
        .await;
    assert_eq!(
        names(&events),
        [
            "message-start",
            "tool-plan-delta",
            "tool-call-start",
            "tool-call-delta",
            "tool-call-end",
            "message-end",
        ]
    );
    assert_eq!(joined(&events, "/delta/message/tool_plan"), "I will look.");
    let arguments = joined(&events, "/delta/message/tool_calls/function/arguments");
    assert_eq!(arguments, r#"{"city":"Ulm"}"#);

    let mut next = asked.clone();
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(message.clone());
    messages.push(json!({
        "role": "tool", "tool_call_id": message["tool_calls"][0]["id"],
        "content": [{"type": "document", "document": {"data": "{\"sky\":\"grey\"}"}}],
    }));
    assert_eq!(
        harness.ok(post(CHAT, &next)).await["finish_reason"],
        "COMPLETE"
    );
    next["messages"][2]["tool_call_id"] = json!("another");
    assert_eq!(
        harness.exchange(post(CHAT, &next)).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn terms_are_kept_and_what_is_unknown_is_refused() {
    let harness = Harness::default().await;
    let schema =
        json!({"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}});
    let format = json!({"response_format": {"type": "json_object", "json_schema": schema}});
    let answer = harness
        .ok(post(CHAT, &with(&chat("hello"), format.clone())))
        .await;
    let text = answer["message"]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean());
    let ends = async |text: &str, fields: Value| {
        harness.ok(post(CHAT, &with(&chat(text), fields))).await["finish_reason"].clone()
    };
    assert_eq!(
        ends("[[say:x END]]", json!({"stop_sequences": ["END"]})).await,
        "STOP_SEQUENCE"
    );
    assert_eq!(
        ends("hello", json!({"max_tokens": 2, "p": 0.9, "k": 5})).await,
        "MAX_TOKENS"
    );
    let cases = [
        (json!({"n": 2}), 422, "parameter 'n' is not a valid field"),
        (json!({"top_p": 0.5}), 422, "parameter 'top_p'"),
        (json!({"temperature": 1.5}), 400, "1.5 is not from 0 to 1"),
        (json!({"messages": []}), 400, "at least one"),
        (json!({"tool_choice": "auto"}), 400, "REQUIRED or NONE"),
        (
            with(&format, weather()),
            400,
            "cannot be specified with tools",
        ),
        (
            json!({"messages": [{"role": "developer", "content": "x"}]}),
            400,
            "role",
        ),
        (json!({"model": "absent"}), 404, "model 'absent' not found"),
    ];
    for (fields, status, words) in cases {
        let reply = harness
            .exchange(post(CHAT, &with(&chat("hello"), fields.clone())))
            .await;
        assert_eq!(reply.status.as_u16(), status, "{fields}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message} does not say {words}");
    }
}

#[tokio::test]
async fn caches_are_the_credential_s_and_faults_are_cohere_s() {
    let harness = Harness::default().await;
    let body = chat(&long_text(2_000));
    let cached = async |key: &str| {
        let key = format!("Bearer {key}");
        let request = post_with(CHAT, &[("authorization", &key)], &body);
        harness.ok(request).await["usage"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("ours").await, 0);
    assert!(cached("ours").await >= 1_920);
    assert_eq!(cached("theirs").await, 0);
    let reply = harness
        .exchange(post(CHAT, &chat("[[fault:status=429;retry-after=3]]")))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["retry-after"]),
        (429, &"3".parse().unwrap())
    );
    assert!(reply.json()["message"].is_string() && reply.json()["id"].is_string());
    let body = with(&chat("[[fault:error=2]]"), json!({"stream": true}));
    let events = harness.named_events(post(CHAT, &body)).await;
    assert_eq!(
        (events.len(), &events[2].1["delta"]["finish_reason"]),
        (3, &json!("ERROR"))
    );
}

#[tokio::test]
async fn texts_are_embedded_by_types() {
    let harness = Harness::default().await;
    let body = json!({
        "model": "sim-embed", "input_type": "search_query", "texts": ["red house", "blue"],
        "embedding_types": ["float", "int8", "base64"], "output_dimension": 256,
    });
    let answer = harness.ok(post("/v2/embed", &body)).await;
    assert_eq!(answer["response_type"], "embeddings_by_type");
    for kind in ["float", "int8"] {
        assert_eq!(answer["embeddings"][kind][1].as_array().unwrap().len(), 256);
    }
    assert!(answer["embeddings"]["base64"][0].is_string());
    assert_eq!(answer["meta"]["billed_units"]["input_tokens"], 4);
    for (fields, words) in [
        (json!({"input_type": null}), "input_type is required"),
        (json!({"texts": []}), "texts is required"),
        (json!({"output_dimension": 300}), "256, 512, 1024 or 1536"),
        (json!({"texts": vec!["x"; 97]}), "at most 96"),
    ] {
        let reply = harness
            .exchange(post("/v2/embed", &with(&body, fields)))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains(words), "{}", reply.text());
    }
}

#[tokio::test]
async fn documents_are_ranked_in_two_shapes() {
    let harness = Harness::default().await;
    let body = json!({
        "model": "sim-embed", "query": "a red house by the river", "top_n": 2,
        "documents": ["invoices need approval", "the red house by the river", "a house"],
    });
    let cohere = harness.ok(post("/v2/rerank", &body)).await;
    let places = |answer: &Value| {
        let results = answer["results"].as_array().unwrap();
        let places = results
            .iter()
            .map(|result| result["index"].as_u64().unwrap());
        places.collect::<Vec<_>>()
    };
    assert_eq!(places(&cohere), [1, 2]);
    let score = |at: usize| cohere["results"][at]["relevance_score"].as_f64().unwrap();
    assert!(score(0) > score(1) && score(0) <= 1.0);
    assert_eq!(cohere["meta"]["billed_units"]["search_units"], 1);
    for path in ["/v1/rerank", "/rerank"] {
        let jina = harness.ok(post(path, &body)).await;
        assert_eq!(places(&jina), [1, 2]);
        assert_eq!(
            jina["results"][0]["document"]["text"],
            "the red house by the river"
        );
        assert!(jina["usage"]["total_tokens"].as_u64().unwrap() > 20);
    }
    let reply = harness
        .exchange(post("/v2/rerank", &with(&body, json!({"top_k": 1}))))
        .await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
}
