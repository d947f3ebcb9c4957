//! The endpoint before chats.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Harness, merge};

const COMPLETIONS: &str = "/v1/completions";

fn body(fields: Value) -> Value {
    let mut body = json!({"model": "sim-small", "prompt": "Once upon a time"});
    merge(&mut body, fields);
    body
}

#[tokio::test]
async fn a_completion_has_its_shape_and_sixteen_tokens() {
    let harness = Harness::default().await;
    let answer = harness.post(COMPLETIONS, &body(json!({}))).await.json();
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["usage"]["prompt_tokens"], 4);
    assert!(answer["x_sim"].is_object());
    let long = harness
        .post(COMPLETIONS, &body(json!({"max_tokens": 99})))
        .await
        .json();
    assert_eq!(long["choices"][0]["finish_reason"], "stop");
    assert_eq!(long["usage"]["completion_tokens"], 32);
}

#[tokio::test]
async fn each_prompt_has_its_choices() {
    let harness = Harness::default().await;
    let texts = async |fields| {
        let answer = harness.post(COMPLETIONS, &body(fields)).await.json();
        let choices = answer["choices"].as_array().unwrap().clone();
        choices
            .iter()
            .map(|choice| choice["text"].to_string())
            .collect::<Vec<_>>()
    };
    let both = texts(json!({"prompt": ["one", "two"], "n": 2})).await;
    let one = texts(json!({"prompt": "one", "n": 2})).await;
    let two = texts(json!({"prompt": "two", "n": 2})).await;
    assert_eq!(both, [one, two].concat());
    let ids = texts(json!({"prompt": [1, 2, 3]})).await;
    assert_eq!(ids, texts(json!({"prompt": [[1, 2, 3]]})).await);
    for prompt in [json!([]), json!(vec!["x"; 129])] {
        let reply = harness
            .post(COMPLETIONS, &body(json!({"prompt": prompt})))
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_prompt_is_repeated_when_that_is_wanted() {
    let harness = Harness::default().await;
    let echo = body(json!({"echo": true, "max_tokens": 0}));
    let answer = harness.post(COMPLETIONS, &echo).await.json();
    assert_eq!(answer["choices"][0]["text"], "Once upon a time");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let whole = harness
        .post(COMPLETIONS, &body(json!({"echo": true})))
        .await
        .json();
    let streamed = body(json!({"echo": true, "stream": true}));
    let events = harness.stream(COMPLETIONS, &streamed).await;
    assert_eq!(
        whole["choices"][0]["text"],
        events.joined("/choices/0/text")
    );
    assert!(
        events
            .joined("/choices/0/text")
            .starts_with("Once upon a time")
    );
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let harness = Harness::default().await;
    let whole = harness.post(COMPLETIONS, &body(json!({}))).await.json();
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = harness.stream(COMPLETIONS, &body(options)).await;
    let frames = events.json();
    assert_eq!(frames.len(), 16 + 2, "the tokens, the reason, the usage");
    assert_eq!(
        whole["choices"][0]["text"],
        events.joined("/choices/0/text")
    );
    assert_eq!(frames[17]["usage"]["completion_tokens"], 16);
    assert!(events.is_done);
}

#[tokio::test]
async fn log_probabilities_have_the_old_shape() {
    let harness = Harness::default().await;
    let fields = json!({"logprobs": 2, "max_tokens": 3, "echo": true});
    let answer = harness.post(COMPLETIONS, &body(fields)).await.json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["text_offset"][0], "Once upon a time".len());
    assert_eq!(logprobs["top_logprobs"][1].as_object().unwrap().len(), 2);
    let reply = harness
        .post(COMPLETIONS, &body(json!({"logprobs": 6})))
        .await;
    assert_eq!(reply.json()["error"]["param"], "logprobs");
}
