//! Chats that come token by token.

use serde_json::{Value, json};

use crate::harness::{Harness, chat_with};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_stream_says_the_same_a_token_per_chunk() {
    let harness = Harness::default().await;
    let whole = harness
        .chat(&chat_with("hello", json!({"max_tokens": 6})))
        .await;
    let body = chat_with("hello", json!({"max_tokens": 6, "stream": true}));
    let events = harness.stream(CHAT, &body).await;
    assert!(events.is_done && !events.is_broken);
    let frames = events.json();
    assert_eq!(frames.len(), 8, "the role, six tokens, the reason");
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        events.joined("/choices/0/delta/content")
    );
    assert_eq!(
        frames[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(frames[7]["choices"][0]["delta"], json!({}));
    for (at, frame) in frames.iter().enumerate() {
        assert_eq!(frame["object"], "chat.completion.chunk");
        assert_eq!(frame["id"], frames[0]["id"]);
        assert_eq!(frame["system_fingerprint"], "fp_simulator");
        assert!(frame["x_sim"].is_object());
        assert!(frame.get("usage").is_none(), "it was not asked for");
        let reason = &frame["choices"][0]["finish_reason"];
        let expected = if at == 7 {
            json!("length")
        } else {
            Value::Null
        };
        assert_eq!(*reason, expected);
    }
}

#[tokio::test]
async fn usage_comes_last_when_it_is_asked_for() {
    let harness = Harness::default().await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = harness.stream(CHAT, &chat_with("hello", options)).await;
    let frames = events.json();
    let (last, others) = frames.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 32);
    assert_eq!(last["usage"]["total_tokens"], 39);
    assert!(
        others
            .iter()
            .all(|frame| frame["usage"].is_null() && frame.get("usage").is_some())
    );
}

#[tokio::test]
async fn choices_take_turns() {
    let harness = Harness::default().await;
    let body = json!({"stream": true, "n": 2, "max_tokens": 3});
    let events = harness
        .stream(CHAT, &chat_with("hello", body.clone()))
        .await;
    let frames = events.json();
    let turns: Vec<_> = frames
        .iter()
        .map(|frame| frame["choices"][0]["index"].clone())
        .collect();
    assert_eq!(turns, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1].map(Value::from));
    let whole = harness
        .chat(&chat_with("hello", json!({"n": 2, "max_tokens": 3})))
        .await;
    for choice in 0..2 {
        let said: String = frames
            .iter()
            .filter(|frame| frame["choices"][0]["index"] == choice)
            .filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(whole["choices"][choice]["message"]["content"], said);
    }
}

#[tokio::test]
async fn a_stop_ends_a_stream_and_hides_what_was_made() {
    let harness = Harness::default().await;
    let options = json!({
        "stream": true, "stop": "END", "stream_options": {"include_usage": true},
    });
    let events = harness
        .stream(CHAT, &chat_with("[[say:One two END three]]", options))
        .await;
    assert_eq!(events.joined("/choices/0/delta/content"), "One two ");
    let frames = events.json();
    let reason = &frames[frames.len() - 2]["choices"][0]["finish_reason"];
    assert_eq!(reason, "stop");
    // "One ", "two ", "END ": the third is hidden.
    assert_eq!(frames[frames.len() - 1]["usage"]["completion_tokens"], 3);
    assert_eq!(harness.engine.observed().generated_tokens, 3);
}

#[tokio::test]
async fn each_chunk_has_its_own_log_probability() {
    let harness = Harness::default().await;
    let options = json!({"stream": true, "logprobs": true, "top_logprobs": 2, "max_tokens": 4});
    let events = harness.stream(CHAT, &chat_with("hello", options)).await;
    let frames = events.json();
    for frame in &frames[1..5] {
        let choice = &frame["choices"][0];
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens[0]["token"], choice["delta"]["content"]);
        assert_eq!(tokens[0]["top_logprobs"].as_array().unwrap().len(), 2);
    }
}
