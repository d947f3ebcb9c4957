//! OpenAI's Responses API without anything stored, as its documentation shows it.

use http::StatusCode;
use serde_json::{Value, json};
use simulator::{EngineConfig, Provider};

use crate::harness::{Harness, joined, long_text, names, post, post_with, with};

const PATH: &str = "/v1/responses";

async fn openai() -> Harness {
    Harness::start(EngineConfig {
        provider: Provider::OpenAi,
        ..EngineConfig::default()
    })
    .await
}

fn ask(text: &str) -> Value {
    json!({"model": "sim-small", "input": text})
}

fn weather() -> Value {
    json!({"tools": [{
        "type": "function", "name": "get_weather", "strict": true,
        "parameters": {
            "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}},
            "additionalProperties": false,
        },
    }]})
}

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = openai().await;
    let body = with(
        &ask("[[say:Hello!]]"),
        json!({"instructions": "Be brief.", "temperature": 0.5}),
    );
    let answer = harness.ok(post(PATH, &body)).await;
    assert!(answer["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(
        (&answer["object"], &answer["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(answer["created_at"], 1_700_000_000);
    assert_eq!(
        (&answer["error"], &answer["incomplete_details"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&answer["instructions"], &answer["temperature"]),
        (&json!("Be brief."), &json!(0.5))
    );
    let item = &answer["output"][0];
    assert_eq!(
        (&item["type"], &item["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(
        item["content"],
        json!([{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}])
    );
    // `<|developer|>Be brief.<|user|>[[say:Hello!]]<|assistant|>` has 57 bytes.
    assert_eq!(
        answer["usage"],
        json!({
            "input_tokens": 15, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 17,
        })
    );
}

#[tokio::test]
async fn a_stream_is_of_numbered_events_and_says_the_same() {
    let harness = openai().await;
    let body = with(
        &ask("[[think:5]][[say:Well.]][[call:get_weather]]"),
        json!({"reasoning": {"effort": "low", "summary": "auto"}}),
    );
    let body = with(&body, weather());
    let whole = harness.ok(post(PATH, &body)).await;
    let events = harness
        .named_events(post(PATH, &with(&body, json!({"stream": true}))))
        .await;
    for (place, (name, event)) in events.iter().enumerate() {
        assert_eq!(
            (&event["type"], &event["sequence_number"]),
            (&json!(name), &json!(place))
        );
    }
    assert_eq!(
        names(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.reasoning_summary_part.added",
            "response.reasoning_summary_text.delta",
            "response.reasoning_summary_text.done",
            "response.reasoning_summary_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let of = |kind: &str| {
        let chosen = events.iter().filter(|(name, _)| name == kind).cloned();
        joined(&chosen.collect::<Vec<_>>(), "/delta")
    };
    let output = &whole["output"];
    assert_eq!(
        output[0]["summary"][0]["text"],
        of("response.reasoning_summary_text.delta")
    );
    assert_eq!(
        output[1]["content"][0]["text"],
        of("response.output_text.delta")
    );
    assert_eq!(
        output[2]["arguments"],
        of("response.function_call_arguments.delta")
    );
    let last = &events.last().unwrap().1["response"];
    assert_eq!((&last["output"], &last["usage"]), (output, &whole["usage"]));
    assert_eq!(
        last["usage"]["output_tokens_details"]["reasoning_tokens"],
        5
    );
}

#[tokio::test]
async fn a_conversation_is_sent_whole_with_its_calls_and_thoughts() {
    let harness = openai().await;
    let asked = with(
        &ask("[[think:4]]use the tool"),
        json!({"store": false, "include": ["reasoning.encrypted_content"]}),
    );
    let asked = with(&asked, weather());
    let answer = harness.ok(post(PATH, &asked)).await;
    let (thought, call) = (&answer["output"][0], &answer["output"][1]);
    assert!(thought["encrypted_content"].is_string());
    assert_eq!(
        (&call["type"], &call["status"]),
        (&json!("function_call"), &json!("completed"))
    );
    let input = |thought: &Value, id: &Value| {
        with(
            &asked,
            json!({"input": [
                {"role": "user", "content": [
                    {"type": "input_text", "text": "use the tool"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                ]},
                thought,
                call,
                {"type": "function_call_output", "call_id": id, "output": "rain"},
            ]}),
        )
    };
    let next = harness
        .ok(post(PATH, &input(thought, &call["call_id"])))
        .await;
    assert_eq!(next["output"][0]["type"], "message");
    let mut forged = thought.clone();
    forged["encrypted_content"] = json!("AAAA");
    let reply = harness
        .exchange(post(PATH, &input(&forged, &call["call_id"])))
        .await;
    assert!(
        reply.text().contains("could not be verified"),
        "{}",
        reply.text()
    );
    let reply = harness
        .exchange(post(PATH, &input(thought, &json!("call_x"))))
        .await;
    assert!(
        reply.text().contains("No tool call found"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn an_answer_ends_for_its_reason_and_keeps_its_form() {
    let harness = openai().await;
    let short = with(&ask("hello"), json!({"max_output_tokens": 16}));
    let answer = harness.ok(post(PATH, &short)).await;
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(
        answer["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    let events = harness
        .named_events(post(PATH, &with(&short, json!({"stream": true}))))
        .await;
    assert_eq!(events.last().unwrap().0, "response.incomplete");
    let schema = json!({
        "type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}},
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "name": "x", "schema": schema, "strict": true});
    let answer = harness
        .ok(post(
            PATH,
            &with(&ask("hello"), json!({"text": {"format": format}})),
        ))
        .await;
    let text = answer["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["ok"].is_boolean());
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let harness = openai().await;
    let cases = [
        (json!({"messages": []}), "unknown_parameter"),
        (json!({"max_tokens": 5}), "unknown_parameter"),
        (json!({"input": null}), "missing_required_parameter"),
        (
            json!({"input": [{"role": "tool", "content": "x"}]}),
            "invalid_value",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
            "invalid_value",
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "rs_1"}]}),
            "invalid_value",
        ),
        (json!({"max_output_tokens": 1}), "invalid_value"),
        (json!({"stream": 1}), "invalid_type"),
        (json!({"tool_choice": "required"}), "invalid_value"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
            "missing_required_parameter",
        ),
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_not_found",
        ),
    ];
    for (fields, code) in cases {
        let reply = harness
            .exchange(post(PATH, &with(&ask("hello"), fields.clone())))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{fields}");
        assert_eq!(reply.json()["error"]["code"], code, "{fields}");
    }
}

#[tokio::test]
async fn caches_are_the_credential_s_or_the_salt_s_and_faults_are_events() {
    let harness = openai().await;
    let body = ask(&long_text(1_500));
    let cached = async |key: &str| {
        let key = format!("Bearer {key}");
        let answer = harness
            .ok(post_with(PATH, &[("authorization", &key)], &body))
            .await;
        answer["usage"]["input_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("ours").await, 0);
    assert_eq!(cached("ours").await, 1_408);
    assert_eq!(cached("theirs").await, 0);
    let body = with(&ask("[[fault:error=3]]"), json!({"stream": true}));
    let events = harness.named_events(post(PATH, &body)).await;
    assert_eq!((events.len(), &*events[3].0), (4, "error"));

    let engine = Harness::default().await;
    let cached = async |salt: &str| {
        let body = with(&ask(&long_text(100)), json!({"cache_salt": salt}));
        let answer = engine.ok(post(PATH, &body)).await;
        answer["usage"]["input_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached("ours").await, 0);
    assert!(cached("ours").await > 0);
    assert_eq!(cached("theirs").await, 0);
}
