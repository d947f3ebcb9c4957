//! Guardrails in the way of calls: what is refused, replaced, restored and counted, in every
//! dialect, whole and streamed.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, put_in, remove_in, upstream};
use crate::world::client::{CHAT, body, bounded, chat, post};
use crate::world::scripted::{self, Then, event_stream};
use crate::world::{Setup, World};

const CARD: &str = "4111 1111 1111 1111";
const MESSAGES: &str = "/v1/messages";

fn guardrail(looks_at: &str, action: &str, check: Value) -> Value {
    json!({"looks_at": looks_at, "checks": [{"name": "it", "action": action, "check": check}]})
}

fn deny(looks_at: &str, entry: &str) -> Value {
    guardrail(
        looks_at,
        "block",
        json!({"deny-list": {"entries": [entry]}}),
    )
}

fn cards(looks_at: &str) -> Value {
    guardrail(looks_at, "redact", json!({"pii": {"kinds": ["card"]}}))
}

async fn guarded(spec: Value) -> World {
    let setup = Setup::new().await;
    setup
        .put_in(ACME, Kind::Guardrail, "wall", spec)
        .start()
        .await
}

/// A world whose route `scripted` is answered with `script`.
async fn saying(script: &'static str, spec: Value) -> World {
    let supervisor = base::Supervisor::new();
    let address = scripted::upstream(&supervisor, script, Then::Close).await;
    let route = json!({
        "targets": [{"upstream": "scripted", "model": "sim-small"}], "output_tokens_max": 64,
    });
    Setup::new()
        .await
        .put(
            Kind::Upstream,
            "scripted",
            upstream(&format!("http://{address}/v1"), "sim"),
        )
        .put(Kind::Route, "scripted", route)
        .put_in(ACME, Kind::Guardrail, "wall", spec)
        .start()
        .await
}

async fn streamed(world: &World, path: &str, mut call: Value) -> String {
    call["stream"] = json!(true);
    let request = post("acme", path).body(body(&call)).unwrap();
    let read = async {
        let mut answer = world.client.send(request).await;
        assert_eq!(answer.status(), 200);
        let mut text = Vec::new();
        while let Some(Ok(frame)) = answer.frame().await {
            text.extend_from_slice(frame.data_ref().unwrap());
        }
        String::from_utf8(text).unwrap()
    };
    bounded(read).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_request_reaches_no_engine_and_its_text_is_not_said() {
    let world = guarded(deny("input", "blue falcon")).await;
    let refused = world.client.chat("acme", "What is Blue Falcon?").await;
    refused.refused(400, "content_blocked");
    let text = refused.text();
    assert!(text.contains("`wall`") && text.contains("`it`"), "{text}");
    assert!(!text.to_lowercase().contains("falcon"), "{text}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));

    let message = json!({"model": "sim-small", "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "blue falcon"}]}]});
    let refused = world.client.post("acme", MESSAGES, &message).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["type"], "error", "in the client's dialect");
    let completion = json!({"model": "sim-small", "prompt": ["x", "blue falcon"]});
    let refused = world
        .client
        .post("acme", "/v1/completions", &completion)
        .await;
    refused.refused(400, "content_blocked");
    let embedding = json!({"model": "sim-embed", "input": "blue falcon"});
    let refused = world
        .client
        .post("acme", "/v1/embeddings", &embedding)
        .await;
    refused.refused(400, "content_blocked");
    let tool = json!({"model": "sim-small", "messages": [
        {"role": "user", "content": "x"},
        {"role": "tool", "tool_call_id": "1", "content": "blue falcon"}]});
    let refused = world.client.post("acme", CHAT, &tool).await;
    refused.refused(400, "content_blocked");
    assert_eq!(world.engine.observed().recorded.len(), 0);

    let tokens = json!({"model": "sim-small", "prompt": [1, 2, 3]});
    let refused = world.client.post("acme", "/v1/completions", &tokens).await;
    refused.refused(403, "insufficient_permissions");
    world.client.chat("acme", "What is a wall?").await.ok();
    world
        .client
        .chat("globex", "What is Blue Falcon?")
        .await
        .ok();
    assert_eq!(world.gateway.live_holds(), 0);
    let metrics = world.gateway.metrics().text();
    let series = r#"partywall_guardrail_findings_total{tenant="acme",what="blocked"} 5"#;
    assert!(metrics.contains(series), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_redacted_reaches_no_engine_and_comes_back() {
    let mut spec = cards("input");
    spec["checks"][0]["restore"] = json!(true);
    let world = guarded(spec).await;
    let asked = format!("Say \"{CARD}\".\nAgain: {CARD}");
    let mut call = chat("sim-small", &asked);
    call["seed"] = json!(9_007_199_254_740_993_u64);
    let answer = world.client.post("acme", CHAT, &call).await;
    answer.ok();
    let sent = world.last_body();
    assert_eq!(
        sent["messages"][0]["content"],
        "Say \"[CARD_1]\".\nAgain: [CARD_1]"
    );
    assert_eq!(
        sent["seed"],
        json!(9_007_199_254_740_993_u64),
        "the rest is as written"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenants_own_prompt_is_not_looked_through() {
    let world = guarded(deny("input", "blue falcon")).await;
    let config = json!({"system_prompt": "Never speak of blue falcon."});
    world.publish(vec![put_in(ACME, Kind::Config, "config", config)]);
    world.client.chat("acme", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guardrail_is_for_its_features_and_models_and_goes_at_once() {
    let mut spec = deny("input", "falcon");
    spec["models"] = json!(["vendor/sim-large"]);
    let world = guarded(spec.clone()).await;
    world.client.chat("acme", "falcon").await.ok();
    let large = chat("vendor/sim-large", "falcon");
    let refused = world.client.post("acme", CHAT, &large).await;
    refused.refused(400, "content_blocked");
    spec["features"] = json!(["support"]);
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", spec)]);
    world.client.post("acme", CHAT, &large).await.ok();
    world.publish(vec![put_in(
        ACME,
        Kind::Guardrail,
        "wall",
        deny("both", "falcon"),
    )]);
    let refused = world.client.chat("acme", "falcon").await;
    refused.refused(400, "content_blocked");
    world.publish(vec![remove_in(ACME, Kind::Guardrail, "wall")]);
    world.client.chat("acme", "falcon").await.ok();
}

const WHOLE: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
    r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","#,
    r#""logprobs":{"content":[{"token":"4111"}]},"#,
    r#""message":{"role":"assistant","content":"It is 4111 1111 1111 1111.","tool_calls":[{"id":"t","type":"function","#,
    r#""function":{"name":"pay","arguments":"{\"card\":\"4111 1111 1111 1111\"}"}}]}}],"#,
    r#""usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}"#,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_is_redacted_in_the_clients_dialect() {
    let world = saying(WHOLE, cards("output")).await;
    let answer = world
        .client
        .post("acme", CHAT, &chat("scripted", "hi"))
        .await;
    assert_eq!(answer.said(), "It is [CARD_1].");
    let choice = &answer.json()["choices"][0];
    let arguments = &choice["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments, r#"{"card":"[CARD_1]"}"#);
    assert_eq!(choice["logprobs"], Value::Null, "tokens tell the text");
    let message = json!({"model": "scripted", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.client.post("acme", MESSAGES, &message).await.ok();
    assert_eq!(answer["content"][0]["text"], "It is [CARD_1].");
    assert_eq!(answer["content"][1]["input"], json!({"card": "[CARD_1]"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_answer_is_refused_and_paid_for() {
    let world = saying(WHOLE, guardrail("output", "block", json!({"pii": {}}))).await;
    let refused = world
        .client
        .post("acme", CHAT, &chat("scripted", "hi"))
        .await;
    refused.refused(400, "content_blocked");
    assert!(!refused.text().contains("4111"));
    assert_eq!(world.gateway.live_holds(), 0);
    let metrics = world.gateway.metrics().text();
    assert!(
        metrics.contains(
            r#"gen_ai_client_inference_tokens_total{tenant="acme",gen_ai_token_type="output"} 9"#
        ),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_the_shape_that_a_schema_asks_for() {
    let schema = json!({"json-schema": {"schema": {"type": "object"}}});
    let world = saying(WHOLE, guardrail("output", "block", schema)).await;
    let refused = world
        .client
        .post("acme", CHAT, &chat("scripted", "hi"))
        .await;
    refused.refused(400, "content_blocked");
}

const PIECES: &str = event_stream!(
    r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"It is 41"},"finish_reason":null}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"11 1111 11"},"finish_reason":null}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"11 1111"},"finish_reason":null}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}"#,
    "[DONE]",
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_redacted_across_its_pieces_in_every_dialect() {
    let world = saying(PIECES, cards("output")).await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("scripted", "hi"))
        .await;
    assert!(events.is_done && !events.is_broken);
    assert_eq!(events.text(), "It is [CARD_1]");
    let message = json!({"model": "scripted", "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}]});
    let text = streamed(&world, MESSAGES, message).await;
    assert!(!text.contains("1111"), "{text}");
    let said: String = data(&text)
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(said, "It is [CARD_1]");
    assert!(text.contains("event: message_stop"), "{text}");
}

fn data(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_blocked_ends_with_an_error_and_settles() {
    let spec = guardrail("output", "block", json!({"pii": {"kinds": ["card"]}}));
    let world = saying(PIECES, spec).await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("scripted", "hi"))
        .await;
    assert!(!events.is_done);
    assert_eq!(events.error_code().as_deref(), Some("content_blocked"));
    let said = events.frames.concat();
    assert!(!said.contains("41") && said.contains("It is"), "{said}");
    world.quiet().await;
    let metrics = world.gateway.metrics().text();
    assert!(
        metrics.contains(r#"partywall_calls_total{tenant="acme",outcome="content_blocked"} 1"#),
        "{metrics}"
    );
}

const ECHO: &str = event_stream!(
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Your [CA"},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"RD_1] and [CARD_2]"},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"f","arguments":"[\"[CARD_1"}}]},"finish_reason":null}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"]\"]"}}]},"finish_reason":"tool_calls"}]}"#,
    "[DONE]",
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_the_originals_again_where_the_guardrail_says_so() {
    let mut spec = cards("input");
    spec["checks"][0]["restore"] = json!(true);
    let world = saying(ECHO, spec).await;
    let call = chat("scripted", &format!("Mine is {CARD}."));
    let events = world.client.stream("acme", CHAT, &call).await;
    assert_eq!(events.text(), format!("Your {CARD} and [CARD_2]"));
    let arguments: String = events
        .json()
        .iter()
        .filter_map(|chunk| {
            let call = &chunk["choices"][0]["delta"]["tool_calls"][0];
            call["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(arguments, format!("[\"{CARD}\"]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_cannot_be_asked_is_a_failure_and_no_private_address_is() {
    let webhook = json!({"webhook": {"url": "https://127.0.0.1:9/x"}});
    let mut spec = guardrail("input", "flag", webhook);
    let world = guarded(spec.clone()).await;
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(503, "guardrail_failed");
    assert!(!world.network.has_connected(9));
    spec["on_failure"] = json!("open");
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", spec)]);
    world.client.chat("acme", "hi").await.ok();
    assert!(!world.network.has_connected(9));
    let metrics: String = world.gateway.metrics().text();
    let series = r#"partywall_guardrail_findings_total{tenant="acme",what="failed"} 2"#;
    assert!(metrics.contains(series), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_said_at_publication() {
    let world = World::new().await;
    let check = |spec: Value| {
        let current = world.gateway.snapshot();
        let change = put_in(ACME, Kind::Guardrail, "wall", spec);
        let next = current.with(current.version() + 1, vec![change], &|_| None);
        let problems = match next {
            Ok(next) => world.gateway.check(&std::sync::Arc::new(next)).err(),
            Err(problems) => Some(problems),
        };
        let problems = problems.unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<String>()
    };
    assert_eq!(check(cards("both")), "");
    let patterns = json!({"looks_at": "input", "checks": [
        {"name": "a", "action": "flag", "check": {"regex": {"patterns": ["x+"]}}},
        {"name": "b", "action": "flag", "check": {"regex": {"patterns": ["(?=x)"]}}}]});
    let problems = check(patterns);
    assert!(
        problems.contains("`a`") && problems.contains("`b`"),
        "{problems}"
    );
    let judge = |model| json!({"judge": {"model": model, "question": "is it?"}});
    assert_eq!(check(guardrail("both", "flag", judge("sim-small"))), "");
    let problems = check(guardrail("both", "flag", judge("nobody")));
    assert!(problems.contains("no route `nobody`"), "{problems}");
    let wordy =
        json!({"judge": {"model": "sim-small", "question": "is it?", "answer_tokens_max": 5_000}});
    for (looks_at, spec) in [
        ("input", wordy),
        ("output", json!({"webhook": {"url": "http://x.test/"}})),
    ] {
        let problems = check(guardrail(looks_at, "flag", spec.clone()));
        assert!(problems.contains("check `it`"), "{spec}: {problems}");
    }
}
