//! Adapters, priorities and salts of an engine of one's own: vLLM's, LoRAX's and SGLang's.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use simulator::{EngineConfig, Scheduling, Timing};
use tokio::sync::mpsc;

use crate::harness::{Harness, chat_with, long_text, names, post, post_with, with};

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

async fn with_slots(slots: usize) -> Harness {
    Harness::start(EngineConfig {
        lora_slots: slots,
        ..EngineConfig::default()
    })
    .await
}

fn adapter(name: &str) -> Value {
    json!({"lora_name": name, "lora_path": format!("/adapters/{name}")})
}

#[tokio::test]
async fn adapters_are_loaded_used_and_unloaded() {
    let harness = with_slots(2).await;
    let chat = chat_with("hello", json!({"model": "ours"}));
    let status = async |harness: &Harness| harness.post("/v1/chat/completions", &chat).await.status;
    assert_eq!(status(&harness).await, StatusCode::NOT_FOUND);
    let reply = harness.post(LOAD, &adapter("ours")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.text(),
        "Success: LoRA adapter 'ours' added successfully."
    );
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(harness.engine.observed().adapters, ["ours"]);
    let answer = harness.chat(&chat).await;
    assert_eq!(answer["model"], "ours");
    let base = harness.chat(&chat_with("hello", json!({}))).await;
    assert_ne!(
        answer["choices"], base["choices"],
        "an adapter says something else"
    );

    let models = harness.get("/v1/models").await.json();
    let last = models["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["id"], &last["root"]),
        (&json!("ours"), &json!("/adapters/ours"))
    );
    assert_eq!(last["parent"], "sim-small");
    let metrics = harness.get("/metrics").await.text();
    let info = "vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"ours\",\
        waiting_lora_adapters=\"\"} 1700000000\n";
    assert!(metrics.contains(info), "{metrics}");

    let reply = harness.post(UNLOAD, &json!({"lora_name": "ours"})).await;
    assert_eq!(
        reply.text(),
        "Success: LoRA adapter 'ours' removed successfully."
    );
    assert_eq!(status(&harness).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn slots_are_bounded_and_mistakes_have_vllm_s_shape() {
    let harness = with_slots(1).await;
    let refused = async |path: &str, body: Value| {
        let reply = harness.post(path, &body).await;
        let error = reply.json()["error"].clone();
        assert_eq!(error["code"], reply.status.as_u16());
        (
            reply.status.as_u16(),
            error["type"].as_str().unwrap().to_owned(),
        )
    };
    let invalid = (400, "InvalidUserInput".to_owned());
    let not_found = (404, "NotFoundError".to_owned());
    assert_eq!(refused(LOAD, json!({"lora_name": "ours"})).await, invalid);
    assert_eq!(refused(UNLOAD, json!({})).await, invalid);
    assert_eq!(refused(UNLOAD, adapter("ours")).await, not_found);
    assert_eq!(refused(LOAD, adapter("missing")).await, not_found);
    assert_eq!(refused(LOAD, adapter("sim-small")).await, invalid);
    assert_eq!(
        harness.post(LOAD, &adapter("ours")).await.status,
        StatusCode::OK
    );
    assert_eq!(refused(LOAD, adapter("ours")).await, invalid);
    let again = with(&adapter("ours"), json!({"load_inplace": true}));
    assert_eq!(harness.post(LOAD, &again).await.status, StatusCode::OK);
    assert_eq!(
        refused(LOAD, adapter("theirs")).await,
        (400, "BadRequestError".to_owned())
    );
    assert_eq!(
        harness.post(UNLOAD, &adapter("ours")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        harness.post(LOAD, &adapter("theirs")).await.status,
        StatusCode::OK
    );

    let faulty = post_with(UNLOAD, &[("x-sim-fault", "status=500")], &adapter("theirs"));
    assert_eq!(
        harness.exchange(faulty).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(harness.engine.observed().adapters, ["theirs"]);

    let without = Harness::default().await;
    assert_eq!(
        without.post(LOAD, &adapter("ours")).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_priority_is_an_error_unless_the_engine_schedules_by_it() {
    let harness = Harness::default().await;
    let chat = |priority: i64| chat_with("hello", json!({"priority": priority}));
    harness.chat(&chat(0)).await;
    let reply = harness.post("/v1/chat/completions", &chat(1)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["param"], "priority");
}

#[tokio::test(start_paused = true)]
async fn a_lower_priority_is_served_earlier() {
    let harness = Harness::start(EngineConfig {
        scheduling: Scheduling::Priority,
        batch_slots: 1,
        timing: Timing {
            token_micros: 1_000,
            ..Timing::default()
        },
        ..EngineConfig::default()
    })
    .await;
    let harness = std::sync::Arc::new(harness);
    let (done, mut order) = mpsc::channel(8);
    for (arrival, priority) in [9, 5, -3, 5, 0].into_iter().enumerate() {
        let (engine, done) = (harness.clone(), done.clone());
        harness.supervisor.spawn(async move {
            tokio::time::sleep(Duration::from_millis(arrival as u64)).await;
            engine
                .chat(&chat_with("hello", json!({"priority": priority})))
                .await;
            done.send((arrival, priority)).await.unwrap();
        });
    }
    drop(done);
    let mut ended = Vec::new();
    while let Some(end) = order.recv().await {
        ended.push(end);
    }
    assert_eq!(ended, [(0, 9), (2, -3), (4, 0), (1, 5), (3, 5)]);
}

#[tokio::test]
async fn sglang_s_extra_key_is_a_salt() {
    let harness = Harness::default().await;
    let text = long_text(100);
    let cached = async |key: &str| {
        let answer = harness
            .chat(&chat_with(&text, json!({"extra_key": key})))
            .await;
        assert_eq!(answer["x_sim"]["salted"], true);
        answer["x_sim"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(cached("ours").await, 0);
    assert!(cached("ours").await > 0);
    assert_eq!(cached("theirs").await, 0);
}

#[tokio::test]
async fn lorax_takes_its_adapter_with_the_call() {
    let harness = Harness::default().await;
    let body = json!({"inputs": "hello", "parameters": {
        "adapter_id": "org/ours", "adapter_source": "hub", "max_new_tokens": 5,
    }});
    let answer = harness.ok(post("/generate", &body)).await;
    assert_eq!(answer["details"]["generated_tokens"], 5);
    assert_eq!(answer["details"]["finish_reason"], "length");
    let other = json!({"inputs": "hello", "parameters": {"max_new_tokens": 5}});
    let base = harness.ok(post("/generate", &other)).await;
    assert_ne!(answer["generated_text"], base["generated_text"]);
    let events = harness.named_events(post("/generate_stream", &body)).await;
    assert_eq!((events.len(), names(&events)), (6, vec![""]));
    assert_eq!(events[5].1["generated_text"], answer["generated_text"]);
    let wrong = json!({"inputs": "hello", "parameters": {"adapter": "x"}});
    let reply = harness.exchange(post("/generate", &wrong)).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.json()["error_type"], "validation");
}
