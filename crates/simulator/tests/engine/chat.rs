//! Chats that come whole.

use http::StatusCode;
use serde_json::{Value, json};
use simulator::EngineConfig;

use crate::harness::{Harness, chat, chat_with};

#[tokio::test]
async fn an_answer_has_the_shape_that_the_sdk_expects() {
    let harness = Harness::default().await;
    let answer = harness.chat(&chat("hello")).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["created"], 1_700_000_000);
    assert_eq!(answer["model"], "sim-small");
    assert_eq!(answer["system_fingerprint"], "fp_simulator");
    assert_eq!(answer["x_sim"]["salted"], false);
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "stop");
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(text.split(' ').count(), 32);
    // `<|user|>hello<|assistant|>` has 26 bytes.
    let usage = json!({
        "prompt_tokens": 7, "completion_tokens": 32, "total_tokens": 39,
        "prompt_tokens_details": {"cached_tokens": 0},
    });
    assert_eq!(answer["usage"], usage);
}

#[tokio::test]
async fn seed_model_and_prompt_decide_the_text_and_nothing_else_does() {
    async fn text(config: &EngineConfig, body: Value) -> String {
        let harness = Harness::start(config.clone()).await;
        let answer = harness.chat(&body).await;
        answer["choices"][0]["message"]["content"].to_string()
    }
    let config = EngineConfig::default();
    let other_seed = EngineConfig {
        seed: 1,
        ..config.clone()
    };
    let first = text(&config, chat("hello")).await;
    assert_eq!(
        first,
        text(&config, chat_with("hello", json!({"unknown": 1}))).await
    );
    assert_ne!(first, text(&other_seed, chat("hello")).await);
    assert_ne!(first, text(&config, chat("hello!")).await);
    assert_ne!(
        first,
        text(&config, chat_with("hello", json!({"model": "sim-large"}))).await
    );
    let seeded = text(&config, chat_with("hello", json!({"seed": 5}))).await;
    assert_ne!(first, seeded);
    assert_eq!(
        seeded,
        text(&config, chat_with("hello", json!({"seed": 5}))).await
    );
}

#[tokio::test]
async fn markers_set_the_length_and_the_text() {
    let harness = Harness::default().await;
    let answer = harness.chat(&chat("go on [[tokens:200]]")).await;
    assert_eq!(answer["usage"]["completion_tokens"], 200);
    let answer = harness.chat(&chat("[[say:Grüß Gott]]")).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Grüß Gott");
    // A marker in an older message is past.
    let answer = harness
        .chat(&json!({"model": "sim-small", "messages": [
            {"role": "user", "content": "[[tokens:3]]"},
            {"role": "assistant", "content": "well"},
            {"role": "user", "content": [{"type": "text", "text": "[[tokens:5]]"}]},
            {"role": "system", "content": "[[tokens:7]]"},
        ]}))
        .await;
    assert_eq!(answer["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn a_maximum_and_a_stop_end_the_text() {
    let harness = Harness::default().await;
    for name in ["max_tokens", "max_completion_tokens"] {
        let answer = harness.chat(&chat_with("hello", json!({name: 4}))).await;
        assert_eq!(answer["usage"]["completion_tokens"], 4);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    for stop in [json!("THE END"), json!(["never", "THE END"])] {
        let body = chat_with("[[say:It is over. THE END. More.]]", json!({"stop": stop}));
        let choice = &harness.chat(&body).await["choices"][0];
        assert_eq!(choice["message"]["content"], "It is over. ");
        assert_eq!(choice["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn several_choices_differ_and_all_are_counted() {
    let harness = Harness::default().await;
    let answer = harness
        .chat(&chat_with("hello", json!({"n": 3, "max_tokens": 9})))
        .await;
    let choices = answer["choices"].as_array().unwrap();
    let text = |at: usize| &choices[at]["message"]["content"];
    assert_eq!((choices.len(), &choices[2]["index"]), (3, &json!(2)));
    assert_ne!(text(0), text(1));
    assert_ne!(text(1), text(2));
    assert_eq!(answer["usage"]["completion_tokens"], 27);
}

#[tokio::test]
async fn log_probabilities_are_given_for_each_token() {
    let harness = Harness::default().await;
    let fields = json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 5});
    let answer = harness.chat(&chat_with("hello", fields)).await;
    let choice = &answer["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    let joined: String = tokens
        .iter()
        .map(|token| token["token"].as_str().unwrap())
        .collect();
    assert_eq!(choice["message"]["content"], joined);
    for token in tokens {
        let text = token["token"].as_str().unwrap();
        assert_eq!(token["bytes"], json!(text.as_bytes()));
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
    }
    let without = harness.chat(&chat("hello")).await;
    assert_eq!(without["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn an_image_costs_85_tokens() {
    let harness = Harness::default().await;
    let tokens = async |parts: Value| {
        let body = json!({"model": "sim-small", "messages": [{"role": "user", "content": parts}]});
        harness.chat(&body).await["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    let text = json!({"type": "text", "text": "what is this?"});
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K"}});
    let without = tokens(json!([text])).await;
    assert_eq!(tokens(json!([text, image, image])).await, without + 170);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_openai_s_shape() {
    let harness = Harness::default().await;
    let cases = [
        (
            json!({"model": "gpt-9"}),
            StatusCode::NOT_FOUND,
            "model",
            "model_not_found",
        ),
        (json!({"n": 0}), StatusCode::BAD_REQUEST, "n", ""),
        (json!({"n": 129}), StatusCode::BAD_REQUEST, "n", ""),
        (
            json!({"max_tokens": 0}),
            StatusCode::BAD_REQUEST,
            "max_tokens",
            "",
        ),
        (
            json!({"top_logprobs": 21}),
            StatusCode::BAD_REQUEST,
            "top_logprobs",
            "",
        ),
        (json!({"stop": ""}), StatusCode::BAD_REQUEST, "stop", ""),
        (
            json!({"response_format": {"type": "xml"}}),
            StatusCode::BAD_REQUEST,
            "response_format",
            "",
        ),
        (json!({"messages": 7}), StatusCode::BAD_REQUEST, "", ""),
    ];
    for (fields, status, param, code) in cases {
        let body = chat_with("hello", fields);
        let reply = harness.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, status, "{body}");
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "invalid_request_error");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param);
        assert_eq!(error["code"].as_str().unwrap_or_default(), code);
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(harness.engine.observed().running_max, 0);
}
