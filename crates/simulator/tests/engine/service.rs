//! What is around the calls: models, keys, metrics, bounds.

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use simulator::EngineConfig;

use crate::harness::{Harness, chat, chat_with, post};

#[tokio::test]
async fn models_are_listed_and_found() {
    let config = EngineConfig {
        models: vec!["sim-small".into(), "openai/gpt-4o".into()],
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let list = harness.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][1]["id"], "openai/gpt-4o");
    for path in ["/v1/models/openai/gpt-4o", "/v1/models/openai%2Fgpt-4o"] {
        assert_eq!(harness.get(path).await.json()["object"], "model");
    }
    let absent = harness.get("/v1/models/x").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert_eq!(absent.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn a_key_is_needed_where_one_is_set() {
    let config = EngineConfig {
        api_key: Some("sk-sim".into()),
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    let status = async |key: Option<&str>| {
        let mut request = post("/v1/chat/completions", &chat("hello"));
        if let Some(key) = key {
            request
                .headers_mut()
                .insert("authorization", key.parse().unwrap());
        }
        harness.exchange(request).await.status
    };
    assert_eq!(status(Some("Bearer sk-sim")).await, StatusCode::OK);
    for wrong in [
        None,
        Some("sk-sim"),
        Some("Bearer sk-si"),
        Some("Bearer sk-sim2"),
    ] {
        assert_eq!(status(wrong).await, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    assert_eq!(
        harness.get("/v1/models").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(harness.get("/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_have_vllm_s_names_and_the_right_numbers() {
    let harness = Harness::default().await;
    let text = "x".repeat(400 - 21);
    for _ in 0..2 {
        harness
            .chat(&chat_with(&text, json!({"max_tokens": 5})))
            .await;
    }
    let reply = harness.get("/metrics").await;
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    let page = reply.text();
    let value = |name: &str| -> f64 {
        let start = format!("vllm:{name}{{engine=\"0\",model_name=\"sim-small\"}} ");
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(start.as_str()));
        line.unwrap_or_else(|| panic!("{name} in {page}"))
            .parse()
            .unwrap()
    };
    assert!(value("num_requests_running").abs() < 0.5);
    assert!(value("num_requests_waiting").abs() < 0.5);
    assert!((value("prefix_cache_queries_total") - 200.0).abs() < 0.5);
    assert!((value("prefix_cache_hits_total") - 96.0).abs() < 0.5);
    assert!((value("generation_tokens_total") - 10.0).abs() < 0.5);
    let usage = value("kv_cache_usage_perc");
    assert!((usage - 6.0 / 65_536.0).abs() < 1e-9, "{usage}");
}

#[tokio::test]
async fn the_last_requests_are_remembered_where_that_is_wanted() {
    let config = EngineConfig {
        record_requests: 2,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    for text in ["one", "two", "three"] {
        harness.chat(&chat(text)).await;
    }
    let observed = harness.engine.observed();
    assert_eq!((observed.requests, observed.recorded.len()), (3, 2));
    let last = &observed.recorded[1];
    assert_eq!(last.path, "/v1/chat/completions");
    assert_eq!(last.body, chat("three").to_string());
    assert_eq!(last.headers["host"], "engine");
    let quiet = Harness::default().await;
    quiet.chat(&chat("one")).await;
    assert!(quiet.engine.observed().recorded.is_empty());
}

#[tokio::test]
async fn what_is_not_served_is_refused() {
    let config = EngineConfig {
        body_bytes_max: 200,
        ..EngineConfig::default()
    };
    let harness = Harness::start(config).await;
    assert_eq!(
        harness.get("/v1/nothing").await.status,
        StatusCode::NOT_FOUND
    );
    let wrong_method = harness.get("/v1/chat/completions").await;
    assert_eq!(wrong_method.status, StatusCode::METHOD_NOT_ALLOWED);
    let large = harness
        .post("/v1/chat/completions", &chat(&"x".repeat(200)))
        .await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let broken = Request::post("/v1/chat/completions").header("host", "engine");
    let reply = harness
        .exchange(broken.body(Full::from("{not json")).unwrap())
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_large_prompt_is_answered() {
    let harness = Harness::default().await;
    let answer = harness.chat(&chat(&"word ".repeat(200_000))).await;
    assert_eq!(
        answer["usage"]["prompt_tokens"],
        (1_000_000_u64 + 21).div_ceil(4)
    );
}
