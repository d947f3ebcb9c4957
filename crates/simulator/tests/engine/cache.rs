//! The prefix cache, seen through `cached_tokens`.

use http::StatusCode;
use serde_json::{Value, json};
use simulator::EngineConfig;

use crate::harness::{Harness, chat_with};

/// A prompt of about a hundred tokens.
const PROMPT: &str = "The quick brown fox jumps over the lazy dog, and then again over the next \
    dog, and over one more, until the field has no dog left that it did not jump over. After that \
    it sleeps under the tree, where nobody looks for foxes, and dreams of more dogs, larger ones, \
    in rows, as far as the eye can see and a good deal further, up to the hills and beyond them.";

async fn cached(harness: &Harness, text: &str, fields: Value) -> u64 {
    let answer = harness.chat(&chat_with(text, fields)).await;
    answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn the_same_salt_hits_and_another_has_nothing() {
    let harness = Harness::default().await;
    let (ours, theirs) = (
        json!({"cache_salt": "ours"}),
        json!({"cache_salt": "theirs"}),
    );
    assert_eq!(cached(&harness, PROMPT, ours.clone()).await, 0);
    let hit = cached(&harness, PROMPT, ours.clone()).await;
    assert!(hit >= 80 && hit.is_multiple_of(16), "{hit}");
    assert_eq!(cached(&harness, PROMPT, theirs.clone()).await, 0);
    assert_eq!(
        cached(&harness, PROMPT, json!({})).await,
        0,
        "no salt is a namespace too"
    );
    assert_eq!(
        cached(&harness, PROMPT, json!({})).await,
        hit,
        "which all without one share"
    );
    assert_eq!(cached(&harness, PROMPT, theirs).await, hit);
    let other_model = json!({"cache_salt": "ours", "model": "sim-large"});
    assert_eq!(cached(&harness, PROMPT, other_model).await, 0);
}

#[tokio::test]
async fn a_common_beginning_hits_and_a_common_end_does_not() {
    let harness = Harness::default().await;
    let whole = cached(&harness, PROMPT, json!({})).await;
    assert_eq!(whole, 0);
    let longer = cached(&harness, &format!("{PROMPT} And so on and on."), json!({})).await;
    assert!(longer >= 80, "{longer}");
    assert_eq!(
        cached(&harness, &format!("Once: {PROMPT}"), json!({})).await,
        0
    );
}

#[tokio::test]
async fn the_last_token_is_always_worked_on() {
    // A token is 4 bytes and a block 4 tokens; the frame `<|user|>…<|assistant|>` has 21 bytes.
    let config = EngineConfig {
        block_tokens: 4,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let text = "x".repeat(64 - 21);
    cached(&harness, &text, json!({})).await;
    assert_eq!(cached(&harness, &text, json!({})).await, 12, "of 16");
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first() {
    let config = EngineConfig {
        prefix_cache_blocks: 8,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    assert_eq!(
        cached(&harness, PROMPT, json!({"cache_salt": "a"})).await,
        0
    );
    assert!(cached(&harness, PROMPT, json!({"cache_salt": "a"})).await >= 80);
    // Room for 8 blocks, and each of these has 5 or more.
    assert_eq!(
        cached(&harness, PROMPT, json!({"cache_salt": "b"})).await,
        0
    );
    assert_eq!(harness.engine.observed().cached_blocks, 8);
    let left = cached(&harness, PROMPT, json!({"cache_salt": "a"})).await;
    assert!(left < 64, "{left} tokens are more than were left");
    assert_eq!(harness.engine.observed().cached_blocks, 8);
}

#[tokio::test]
async fn a_cache_of_no_blocks_is_off() {
    let config = EngineConfig {
        prefix_cache_blocks: 0,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    for _ in 0..2 {
        assert_eq!(cached(&harness, PROMPT, json!({})).await, 0);
    }
}

#[tokio::test]
async fn salts_follow_vllm_s_rule() {
    let harness = Harness::default().await;
    let status = async |harness: &Harness, salt: Value| {
        let body = chat_with("hello", json!({"cache_salt": salt}));
        let reply = harness.post("/v1/chat/completions", &body).await;
        reply.status
    };
    let long = "x".repeat(129);
    for salt in ["", "a@b", "a/b", "a\\b", "a\0b", &long] {
        assert_eq!(
            status(&harness, json!(salt)).await,
            StatusCode::BAD_REQUEST,
            "{salt:?}"
        );
    }
    assert_eq!(status(&harness, json!(7)).await, StatusCode::BAD_REQUEST);
    assert_eq!(
        status(&harness, json!("é".repeat(128))).await,
        StatusCode::OK
    );
    assert_eq!(status(&harness, Value::Null).await, StatusCode::OK);

    let shared = Harness::start(EngineConfig {
        require_salt: true,
        ..EngineConfig::default()
    })
    .await;
    assert_eq!(status(&shared, Value::Null).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(&shared, json!("ours")).await, StatusCode::OK);
    let body = json!({"model": "sim-small", "prompt": "x"});
    let reply = shared.post("/v1/completions", &body).await;
    assert_eq!(reply.json()["error"]["param"], "cache_salt");
}
