//! Services that speak OpenAI's dialect with an accent: what they do not take never reaches them,
//! and is never dropped in silence.

use serde_json::{Value, json};
use simulator::Provider;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{upstream, with};
use crate::world::client::{CHAT, chat};
use crate::world::{Setup, World};

/// A world in which the route `m` leads to an engine of this kind, which has the manners of
/// `provider`.
async fn world(engine: &str, provider: Provider) -> World {
    let mut setup = Setup::new().await;
    setup.engine.provider = provider;
    let spec = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": engine, "salting": "uncached"}),
    );
    let route = json!({
        "targets": [{"upstream": "it", "model": "sim-small"}], "output_tokens_max": 64,
    });
    setup
        .put(Kind::Upstream, "it", spec)
        .put(Kind::Route, "m", route)
        .start()
        .await
}

/// Mistral refuses whatever it does not know, and the simulator does so, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistral_is_asked_in_its_own_words() {
    let world = world("mistral", Provider::Mistral).await;
    let tool = json!({"type": "function", "function": {
        "name": "weather", "parameters": {"type": "object", "properties": {}},
    }});
    let call = json!({
        "model": "m", "max_tokens": 16, "seed": 7, "user": "ada", "tools": [tool],
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "How is it?"},
            {"role": "assistant", "content": null, "tool_calls": [{
                "id": "call_0123456789", "type": "function",
                "function": {"name": "weather", "arguments": "{}"},
            }]},
            {"role": "tool", "tool_call_id": "call_0123456789", "content": "Rain."},
        ],
    });
    let answer = world.client.post("acme", CHAT, &call).await;
    assert!(!answer.said().is_empty(), "{}", answer.text());
    let sent = world.last_body();
    assert_eq!((&sent["random_seed"], sent.get("seed")), (&json!(7), None));
    assert_eq!(sent.get("user"), None);
    assert_eq!(sent["messages"][0]["role"], "system");
    // A stream says its usage unasked, and is not asked.
    let call = with(call, json!({"stream_options": {"include_usage": true}}));
    let events = world.client.stream("acme", CHAT, &call).await;
    assert!(events.is_done && !events.text().is_empty());
    assert!(events.json().last().unwrap()["usage"]["completion_tokens"].as_u64() > Some(0));
    assert_eq!(world.last_body().get("stream_options"), None);
}

/// The same field is refused by the same name, whether the client's own words go on or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_flavour_does_not_take_is_refused_by_name() {
    for (engine, more, param) in [
        ("groq", json!({"n": 2}), "n"),
        ("groq", json!({"logprobs": true}), "logprobs"),
        ("tgi", json!({"logit_bias": {"1": 2}}), "logit_bias"),
        ("ollama", json!({"tool_choice": "required"}), "tool_choice"),
        ("deepseek", json!({"seed": 1}), "seed"),
        ("perplexity", json!({"stop": ["x"]}), "stop"),
        ("mistral", json!({"top_k": 3}), "top_k"),
    ] {
        let world = world(engine, Provider::Vllm).await;
        let call = with(chat("m", "hi"), more);
        let refused = world.client.post("acme", CHAT, &call).await;
        refused.refused(400, "unsupported_parameter");
        assert_eq!(refused.json()["error"]["param"], param, "{engine}");
        assert_eq!(world.engine.observed().requests, 0, "{engine}");
        // What happens anyway is no reason to refuse, and nothing of it is lost.
        let call = with(chat("m", "hi"), json!({"n": 1, "temperature": 0.5}));
        world.client.post("acme", CHAT, &call).await.ok();
        assert_eq!(world.last_body()["temperature"], 0.5, "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_its_usage_unasked_is_not_asked() {
    for (engine, is_asked) in [("perplexity", false), ("groq", true)] {
        let world = world(engine, Provider::Vllm).await;
        let call = with(
            chat("m", "hi"),
            json!({"stream_options": {"include_usage": true}}),
        );
        world.client.stream("acme", CHAT, &call).await;
        let sent: Value = world.last_body();
        assert_eq!(sent.get("stream_options").is_some(), is_asked, "{engine}");
    }
}
