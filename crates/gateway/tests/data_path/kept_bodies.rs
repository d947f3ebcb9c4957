//! What calls ask and are answered is kept where the tenant has that, redacted; and nowhere else.

use std::path::Path;
use std::time::Duration;

use base::{RequestId, TenantId, Timestamp};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use store::CallBodies;
use tenancy::catalogue::Kind;

use crate::hops::guarded;
use crate::world::catalogue::{ACME, GLOBEX, put_in, upstream};
use crate::world::client::{CHAT, Reply, body, chat, post, until};
use crate::world::scripted::{self, Then, event_stream};
use crate::world::{Setup, World};

const CANARY: &str = "canary-5d1c07";
const CARD: &str = "4111 1111 1111 1111";

fn request_of(answer: &Reply) -> RequestId {
    let header = answer
        .header("x-request-id")
        .or_else(|| answer.header("request-id"));
    header.unwrap().parse().unwrap()
}

fn kept(world: &World, tenant: TenantId, request: RequestId) -> Option<CallBodies> {
    let ever = Timestamp::from_micros(0);
    world.in_store(tenant, |store| store.bodies(request, ever).unwrap())
}

/// What was kept of an answered request: question and answer.
fn pair(world: &World, answer: &Reply) -> (Value, Value) {
    let found = kept(world, ACME, request_of(answer)).expect("it is kept");
    assert_eq!(found.marks, store::BodyMarks::default());
    let json = |bytes: &[u8]| match bytes {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).unwrap(),
    };
    (json(&found.asked), json(&found.answered))
}

async fn keeping(bodies: Value) -> World {
    let setup = Setup::new().await;
    let setup = setup.put_in(ACME, Kind::Config, "config", json!({"bodies": bodies}));
    setup.start().await
}

/// Whatever waits is written before the gateway has drained.
async fn drained(world: &World) {
    world.gateway.drain(Duration::from_secs(10)).await;
}

fn files_with(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if memchr::memmem::find(&std::fs::read(&path).unwrap(), needle.as_bytes()).is_some()
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_tenants_word_nothing_is_kept() {
    let world = World::new().await;
    let mut requests = Vec::new();
    for owner in ["acme", "globex"] {
        let answer = world.client.chat(owner, CANARY).await;
        answer.ok();
        requests.push(request_of(&answer));
    }
    drained(&world).await;
    for request in requests {
        assert_eq!(kept(&world, ACME, request), None);
        assert_eq!(kept(&world, GLOBEX, request), None);
    }
    let metrics = world.gateway.metrics().text();
    assert!(!metrics.contains("partywall_bodies_total{"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_is_kept_redacted_and_sealed_in_its_own_tenant() {
    let world = keeping(json!({})).await;
    let text = format!("{CANARY} pays with {CARD}");
    let whole = world.client.chat("acme", &text).await;
    whole.ok();
    let foreign = world.client.chat("globex", &text).await;
    let message = json!({"model": "sim-small", "max_tokens": 9,
        "messages": [{"role": "user", "content": text}]});
    let message = world.client.post("acme", "/v1/messages", &message).await;
    message.ok();
    let response = json!({"model": "sim-small", "input": text});
    let response = world.client.post("acme", "/v1/responses", &response).await;
    response.ok();
    let completion = json!({"model": "sim-small", "prompt": text});
    let completion = world
        .client
        .post("acme", "/v1/completions", &completion)
        .await;
    completion.ok();
    let embedding = json!({"model": "sim-embed", "input": text});
    let embedding = world
        .client
        .post("acme", "/v1/embeddings", &embedding)
        .await;
    embedding.ok();
    let mut streamed = Vec::new();
    for (path, call) in [
        (CHAT, chat("sim-small", &text)),
        (
            "/v1/messages",
            json!({"model": "sim-small", "max_tokens": 9,
            "messages": [{"role": "user", "content": text}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "sim-small", "input": text}),
        ),
        (
            "/v1/completions",
            json!({"model": "sim-small", "prompt": text}),
        ),
    ] {
        let mut call = call;
        call["stream"] = json!(true);
        let request = post("acme", path).body(body(&call)).unwrap();
        streamed.push(world.client.exchange(request).await);
    }
    drained(&world).await;
    let (asked, answered) = pair(&world, &whole);
    assert_eq!(
        asked["messages"][0]["content"],
        format!("{CANARY} pays with [CARD_1]")
    );
    let said = whole.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(answered["choices"][0]["message"]["content"], said);
    let (asked, answered) = pair(&world, &message);
    assert!(asked.to_string().contains("[CARD_1]"), "{asked}");
    assert_eq!(answered["type"], "message");
    let (_, answered) = pair(&world, &response);
    assert_eq!(answered["object"], "response");
    assert_eq!(pair(&world, &completion).1["object"], "text_completion");
    let (asked, answered) = pair(&world, &embedding);
    assert!(asked["input"].as_str().unwrap().starts_with(CANARY));
    assert_eq!(answered, Value::Null, "vectors say nothing to anybody");
    // A stream is kept as the whole that it is.
    let objects = ["object", "type", "object", "parts"];
    for (answer, field) in streamed.iter().zip(objects) {
        let (asked, answered) = pair(&world, answer);
        assert!(asked.to_string().contains(CANARY), "{asked}");
        assert!(answered.get(field).is_some(), "{answered}");
        assert!(!answered.to_string().contains("delta"), "{answered}");
    }
    let (_, answered) = pair(&world, &streamed[0]);
    assert_eq!(answered["choices"][0]["message"]["content"], said);
    // Who has not said the word has nothing kept, and nothing is anybody else's.
    for tenant in [ACME, GLOBEX] {
        assert_eq!(kept(&world, tenant, request_of(&foreign)), None);
    }
    assert_eq!(kept(&world, GLOBEX, request_of(&whole)), None);
    let metrics = world.gateway.metrics().text();
    assert!(
        metrics.contains("partywall_bodies_total{result=\"kept\"} 9"),
        "{metrics}"
    );
    // No file has it as it was said.
    for needle in [CANARY, CARD] {
        assert_eq!(files_with(world.folder(), needle), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_word_names_is_kept_and_only_while_it_stands() {
    let world = keeping(json!({"features": ["support"]})).await;
    let ask = async |feature: &str| {
        let request = post("acme", CHAT).header("partywall-feature", feature);
        let request = request.body(body(&chat("sim-small", CANARY))).unwrap();
        let answer = world.client.exchange(request).await;
        answer.ok();
        request_of(&answer)
    };
    let (named, other) = (ask("support").await, ask("billing").await);
    until(|| kept(&world, ACME, named).is_some()).await;
    world.publish(vec![put_in(ACME, Kind::Config, "config", json!({}))]);
    let late = ask("support").await;
    drained(&world).await;
    assert_eq!(kept(&world, ACME, other), None);
    assert_eq!(kept(&world, ACME, late), None);
}

/// A world that keeps bodies, and whose route `scripted` is answered with `script`.
async fn saying(script: &'static str, then: Then) -> Setup {
    let supervisor = base::Supervisor::new();
    let address = scripted::upstream(&supervisor, script, then).await;
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
        .put_in(ACME, Kind::Config, "config", json!({"bodies": {}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guardrail_took_out_and_gave_back_is_not_kept() {
    let script = concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
        r#"{"id":"a","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"#,
        r#""message":{"role":"assistant","content":"Yes, [PROJECT_1]."},"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#
    );
    let spec = json!({"looks_at": "input", "checks": [{"name": "project", "action": "redact",
        "restore": true, "check": {"deny-list": {"entries": ["blue falcon"]}}}]});
    let setup = saying(script, Then::Close).await;
    let setup = setup.put_in(ACME, Kind::Guardrail, "wall", spec);
    let world = setup.start().await;
    let call = chat("scripted", "Is it Blue Falcon?");
    let answer = world.client.post("acme", CHAT, &call).await;
    assert!(answer.text().contains("Blue Falcon"), "{}", answer.text());
    drained(&world).await;
    let (asked, answered) = pair(&world, &answer);
    let both = format!("{asked} {answered}");
    assert!(!both.to_lowercase().contains("falcon"), "{both}");
    let said = &answered["choices"][0]["message"]["content"];
    assert_eq!(*said, "Yes, [PROJECT_1].");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_is_kept_as_far_as_it_went() {
    let script = event_stream!(
        r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"half of it"},"finish_reason":null}]}"#
    );
    let world = saying(script, Then::Close).await.start().await;
    let mut call = chat("scripted", "?");
    call["stream"] = json!(true);
    let events = world.client.stream("acme", CHAT, &call).await;
    let request = events.headers["x-request-id"].to_str().unwrap();
    let request: RequestId = request.parse().unwrap();
    drained(&world).await;
    let found = kept(&world, ACME, request).expect("it is kept");
    assert!(found.marks.incomplete);
    let answered: Value = serde_json::from_slice(&found.answered).unwrap();
    assert_eq!(answered["parts"][0]["text"], "half of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_given_again_is_kept_again() {
    let setup = Setup::new().await;
    let config = json!({"bodies": {}, "cache": {"mode": "exact"}});
    let tier = json!({"wait_ms_max": 3_000, "cache_bytes_max": 1 << 20});
    let world = setup
        .put(Kind::Tier, "free", tier)
        .put_in(ACME, Kind::Config, "config", config)
        .start()
        .await;
    let mut call = chat("sim-small", CANARY);
    call["temperature"] = json!(0);
    let first = world.client.post("acme", CHAT, &call).await;
    let again = world.client.post("acme", CHAT, &call).await;
    assert_eq!(again.header("x-partywall-cache"), Some("hit"));
    drained(&world).await;
    assert_eq!(pair(&world, &first).0, pair(&world, &again).0);
    let said = |answer: &Reply| pair(&world, answer).1["choices"].clone();
    assert_eq!(said(&first), said(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_is_taken_back_while_a_call_is_under_way_counts() {
    let script = event_stream!(
        r#"{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"half of it"},"finish_reason":null}]}"#
    );
    for word in [json!({"bodies": {}}), json!({})] {
        let world = saying(script, Then::Hang).await.start().await;
        let mut call = chat("scripted", "?");
        call["stream"] = json!(true);
        let request = post("acme", CHAT).body(body(&call)).unwrap();
        let mut answer = world.client.send(request).await;
        let request: RequestId = answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(answer.frame().await.is_some(), "it is under way");
        world.publish(vec![put_in(ACME, Kind::Config, "config", word.clone())]);
        drop(answer);
        until(|| world.gateway.live_holds() == 0).await;
        drained(&world).await;
        let is_kept = kept(&world, ACME, request).is_some();
        assert_eq!(is_kept, word.get("bodies").is_some(), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_guards_own_calls_nor_counts_are_kept() {
    let spec = json!({"looks_at": "input", "checks": [{"name": "wall", "action": "block",
        "check": {"judge": {"model": "judge", "question": "Is it bad?"}}}]});
    let setup = guarded(spec).await;
    let setup = setup.put_in(ACME, Kind::Config, "config", json!({"bodies": {}}));
    let world = setup.start().await;
    world.client.chat("acme", "A wall? [[say:no]]").await.ok();
    let content = "Another? [[say:no]]";
    let count = json!({"model": "sim-small", "messages": [{"role": "user", "content": content}]});
    let path = "/v1/messages/count_tokens";
    world.client.post("acme", path, &count).await.ok();
    drained(&world).await;
    let metrics = world.gateway.metrics().text();
    let kept = "partywall_bodies_total{result=\"kept\"} 1\n";
    assert!(metrics.contains(kept), "{metrics}");
    assert!(!metrics.contains("result=\"dropped\""), "{metrics}");
}

/// A call does not notice that there is no room for what it asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_is_dropped_and_counted_and_answered() {
    let world = keeping(json!({})).await;
    // A tenant has 16 MiB: a byte more is too much.
    let mut call = chat("sim-small", "What is a wall?");
    let filler = (16 << 20) - call.to_string().len();
    call["messages"][0]["content"] = json!(format!("What is a wall?{}", " ".repeat(filler + 1)));
    let answer = world.client.post("acme", CHAT, &call).await;
    answer.ok();
    world.client.chat("acme", "And a door?").await.ok();
    drained(&world).await;
    assert_eq!(kept(&world, ACME, request_of(&answer)), None);
    let metrics = world.gateway.metrics().text();
    for (result, count) in [("dropped", 1), ("kept", 1)] {
        let line = format!("partywall_bodies_total{{result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}
