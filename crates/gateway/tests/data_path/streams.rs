//! Streams that do not end as they should: whichever way, they settle and free what they held.

use std::time::Duration;

use base::PicoUsd;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use simulator::Timing;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, output_price, route, upstream, with};
use crate::world::client::{CHAT, Events, body, bounded, chat, post, until};
use crate::world::scripted::{self, Then, event_stream};
use crate::world::{Setup, World};

/// A cent for each token of output.
const CENT: PicoUsd = PicoUsd::new(10_000_000_000);

async fn slow_engine() -> World {
    let mut setup = Setup::new().await;
    setup.engine.timing = Timing {
        token_micros: 10_000,
        ..Timing::default()
    };
    setup.start().await
}

fn streaming(model: &str, text: &str) -> Value {
    with(chat(model, text), json!({"stream": true}))
}

/// An upstream that says this, behind the route `scripted`, at a cent a token.
async fn scripted_world(script: &'static str, then: Then) -> World {
    let setup = Setup::new().await;
    let supervisor = base::Supervisor::new();
    let address = scripted::upstream(&supervisor, script, then).await;
    let timeouts = json!({"timeouts": {
        "connect_ms": 2_000, "first_byte_ms": 300, "idle_ms": 300, "total_ms": 5_000,
    }});
    setup
        .put(
            Kind::Upstream,
            "scripted",
            with(
                upstream(&format!("http://{address}/v1"), "scripted"),
                timeouts,
            ),
        )
        .put(Kind::Price, "scripted/sim-small", output_price("0.01"))
        .put(Kind::Route, "scripted", route("scripted", "sim-small"))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_in_mid_stream_cancels_the_call() {
    let world = slow_engine().await;
    let value = streaming("metered", "[[tokens:190]]");
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    let mut response = world.client.send(request).await;
    for _ in 0..4 {
        bounded(response.frame()).await.unwrap().unwrap();
    }
    drop(response);
    until(|| world.engine.observed().running == 0).await;
    assert_eq!(world.engine.observed().cancelled, 1);
    world.quiet().await;
    let spent = world.account(ACME, "everything").spent;
    assert!(spent >= CENT.times(3) && spent < CENT.times(190), "{spent}");
    assert!(world.gateway.unsettled(ACME).is_empty(), "it was counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_before_the_answer_cancels_the_call() {
    let world = World::new().await;
    let value = chat("metered", "[[fault:hang]]");
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    tokio::select! {
        _ = world.client.send(request) => panic!("it hangs"),
        () = until(|| world.engine.observed().running == 1) => {}
    }
    until(|| world.engine.observed().running == 0).await;
    world.quiet().await;
    assert_eq!(
        world.gateway.unsettled(ACME).len(),
        1,
        "nobody knows what it cost"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_cuts_is_told_by_an_error_and_a_broken_connection() {
    let world = World::new().await;
    let value = chat("metered", "[[fault:cut=6]]");
    let events = world.client.stream("acme", CHAT, &value).await;
    assert!(events.is_broken && !events.is_done);
    assert_eq!(events.error_code().as_deref(), Some("upstream_failed"));
    assert!(!events.text().is_empty(), "what came before stays");
    world.quiet().await;
    let spent = world.account(ACME, "everything").spent;
    assert!(spent > PicoUsd::ZERO && spent <= CENT.times(12), "{spent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_in_its_middle_is_no_answer() {
    let world = World::new().await;
    let reply = world
        .client
        .post("acme", CHAT, &chat("metered", "[[fault:cut=3]]"))
        .await;
    reply.refused(502, "upstream_failed");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstreams_own_error_passes() {
    let world = World::new().await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("metered", "[[fault:error=4]]"))
        .await;
    assert!(events.json().iter().any(|chunk| chunk["error"].is_object()));
    world.quiet().await;
    assert!(world.account(ACME, "everything").spent <= CENT.times(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_an_answer_times_out() {
    let world = scripted_world("", Then::Hang).await;
    for value in [chat("scripted", "hi"), streaming("scripted", "hi")] {
        let reply = world.client.post("acme", CHAT, &value).await;
        reply.refused(504, "upstream_timeout");
    }
    assert_eq!(world.gateway.live_holds(), 0);
    assert_eq!(
        world.account(ACME, "everything").spent,
        CENT.times(2 * 64),
        "at its bound"
    );
    assert_eq!(world.gateway.unsettled(ACME).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stalls_is_cut() {
    const SCRIPT: &str = event_stream![
        r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"delta":{"content":"one "}}]}"#,
    ];
    let world = scripted_world(SCRIPT, Then::Hang).await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("scripted", "hi"))
        .await;
    assert!(events.is_broken);
    assert_eq!(events.error_code().as_deref(), Some("upstream_timeout"));
    assert_eq!(events.text(), "one ");
    world.quiet().await;
    assert_eq!(world.account(ACME, "everything").spent, CENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_an_end_marker_is_not_taken_for_whole() {
    const SCRIPT: &str = event_stream![
        r#"{"choices":[{"delta":{"content":"one "}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
    ];
    let world = scripted_world(SCRIPT, Then::Close).await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("scripted", "hi"))
        .await;
    assert!(events.is_broken && !events.is_done);
    assert_eq!(events.error_code().as_deref(), Some("upstream_failed"));
    world.quiet().await;
    assert_eq!(
        world.account(ACME, "everything").spent,
        CENT.times(2),
        "it said so"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_in_the_chunk_of_content_is_taken_out_for_who_did_not_ask() {
    const SCRIPT: &str = event_stream![
        r#"{"choices":[{"delta":{"content":"one "}}]}"#,
        r#"{"choices":[{"delta":{"content":"two"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2},"x":1}"#,
        "[DONE]",
    ];
    let world = scripted_world(SCRIPT, Then::Close).await;
    let value = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &value).await;
    assert_eq!((events.is_done, events.text().as_str()), (true, "one two"));
    let last = events.json().pop().unwrap();
    assert!(last.get("usage").is_none() && last["x"] == 1);
    let value = with(value, json!({"stream_options": {"include_usage": true}}));
    let last = world
        .client
        .stream("acme", CHAT, &value)
        .await
        .json()
        .pop()
        .unwrap();
    assert_eq!(last["usage"]["completion_tokens"], 2);
    world.quiet().await;
    assert_eq!(world.account(ACME, "everything").spent, CENT.times(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_settles_and_frees() {
    let world = World::new().await;
    let value = streaming("metered", "[[fault:garbage]]");
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    let response = world.client.send(request).await;
    let events = bounded(Events::read(response)).await;
    assert!(!events.is_done || events.frames.is_empty());
    world
        .client
        .post("acme", CHAT, &chat("metered", "[[fault:garbage]]"))
        .await;
    world.quiet().await;
    let spent = world.account(ACME, "everything").spent;
    assert!(
        spent >= CENT.times(192),
        "what says nothing stands at its bound: {spent}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_never_says_its_usage_is_counted() {
    let world = World::new().await;
    let value = chat("metered", "[[fault:nousage]][[tokens:12]]");
    let events = world.client.stream("acme", CHAT, &value).await;
    assert!(events.is_done);
    world.quiet().await;
    let spent = world.account(ACME, "everything").spent;
    assert!(
        spent >= CENT.times(12) && spent <= CENT.times(24),
        "{spent}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_headers_are_not_passed_on_and_cannot_be_injected() {
    const SCRIPT: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=b\r\n\
        openai-version: 2020\r\nx-request-id: theirs\r\nx-ratelimit-limit-requests: 9\r\n\
        server: secret\r\nconnection: close\r\n\r\n\
        {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"choices\":[]}";
    let world = scripted_world(SCRIPT, Then::Close).await;
    let reply = world
        .client
        .post("acme", CHAT, &chat("scripted", "hi"))
        .await;
    reply.ok();
    assert_eq!(reply.header("openai-version"), Some("2020"));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    for name in ["set-cookie", "server", "x-ratelimit-limit-requests"] {
        assert!(reply.header(name).is_none(), "{name}");
    }
}

/// The client reads one piece and then nothing for a while: the gateway holds a bounded amount,
/// and the rest waits upstream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_the_upstream_and_gets_it_all() {
    let mut setup = Setup::new().await;
    setup.engine.output_tokens = 32;
    let long = with(
        route("meter", "sim-small"),
        json!({"output_tokens_max": 60_000}),
    );
    let world = setup.put(Kind::Route, "long", long).start().await;
    let value = streaming("long", "[[tokens:60000]]");
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    let mut response = world.client.send(request).await;
    bounded(response.frame()).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let events = bounded(Events::read(response)).await;
    assert!(events.is_done && !events.is_broken);
    world.quiet().await;
    assert_eq!(world.account(ACME, "everything").spent, CENT.times(60_000));
}
