//! Guards that ask models about answers: whole, and streamed piece by piece.

use http_body_util::BodyExt as _;
use ledger::{Hop, Outcome, Record};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::hops::{guarded, guardrail, intents, settled};
use crate::world::catalogue::{ACME, put_in, upstream};
use crate::world::client::{CHAT, body, bounded, chat, post, until};
use crate::world::scripted::{self, Then};
use crate::world::{Setup, World};

fn moderated() -> Value {
    guardrail("output", json!({"moderation": {"model": "moderator"}}))
}

/// `acme` has this guardrail, and the route `scripted` is answered with `script`.
pub(crate) async fn saying(script: String, spec: Value) -> Setup {
    let supervisor = base::Supervisor::new();
    // A test's few scripts live as long as it does.
    let script: &'static str = Box::leak(script.into_boxed_str());
    let address = scripted::upstream(&supervisor, script, Then::Close).await;
    let route = json!({
        "targets": [{"upstream": "scripted", "model": "sim-small"}], "output_tokens_max": 64,
    });
    let url = format!("http://{address}/v1");
    guarded(spec)
        .await
        .put(Kind::Upstream, "scripted", upstream(&url, "sim"))
        .put(Kind::Route, "scripted", route)
}

pub(crate) fn whole(text: &str) -> String {
    let answer = json!({
        "id": "c", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12},
    });
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    format!("{head}{answer}")
}

pub(crate) fn streamed(pieces: &[&str]) -> String {
    let mut script =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            .to_owned();
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    for piece in pieces {
        script.push_str(&chunk(json!({"content": piece}), Value::Null));
    }
    script.push_str(&chunk(json!({}), json!("stop")));
    script.push_str("data: [DONE]\n\n");
    script
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_that_is_flagged_is_refused_and_both_are_paid_for() {
    let flagged = whole("Do [[flag:violence]] it");
    let world = saying(flagged, moderated()).await.start().await;
    let call = chat("scripted", "hi");
    let refused = world.client.post("acme", CHAT, &call).await;
    refused.refused(400, "content_blocked");
    assert!(!refused.text().contains("Do "), "{}", refused.text());
    world.client.chat("acme", "hi").await.ok();
    world.client.post("globex", CHAT, &call).await.ok();
    world.quiet().await;
    let (records, _, report) = world.end().await;
    assert_eq!(report.faults, []);
    let intents = intents(&records);
    let hops: Vec<Hop> = intents.iter().map(|intent| intent.hop).collect();
    use Hop::{Generate, Guard};
    assert_eq!(hops, [Generate, Guard, Generate, Guard, Generate]);
    assert_eq!(intents[1].parent, Some(intents[0].request));
    assert_eq!(intents[3].parent, Some(intents[2].request));
    assert_eq!(settled(&records).len(), 5);
}

const CALM: &str = "It is quite calm here, and nothing of note happens at all, which is fine. ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_cut_before_what_is_flagged_leaves() {
    let calm = CALM.repeat(4);
    let script = streamed(&[&calm, "Now: [[flag:vio", "lence]] and", " more"]);
    let world = saying(script, moderated()).await.start().await;
    let call = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert!(!events.is_done);
    assert_eq!(events.error_code().as_deref(), Some("content_blocked"));
    assert_eq!(events.text(), calm, "what was looked at first, and no more");
    assert!(!events.frames.concat().contains("Now"));
    world.quiet().await;
    let (records, _, report) = world.end().await;
    assert_eq!(report.faults, []);
    let intents = intents(&records);
    assert_eq!(intents.len(), 3, "the call and two pieces");
    let cut = records.iter().any(|record| {
        matches!(record, Record::Settled(settled)
            if settled.attempt == intents[0].attempt && settled.outcome == Outcome::Cut)
    });
    assert!(cut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nothing_is_wrong_with_is_whole_in_every_dialect() {
    let calm = CALM.repeat(12);
    // Thirty pieces, which break words.
    let pieces = calm.as_bytes().chunks(31).map(std::str::from_utf8);
    let pieces: Vec<&str> = pieces.map(Result::unwrap).collect();
    let world = saying(streamed(&pieces), moderated()).await.start().await;
    let call = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert!(events.is_done && !events.is_broken);
    assert_eq!(events.text(), calm);
    let message = json!({"model": "scripted", "max_tokens": 64, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let request = post("acme", "/v1/messages").body(body(&message)).unwrap();
    let answer = bounded(async {
        let answer = world.client.send(request).await;
        answer.into_body().collect().await.unwrap().to_bytes()
    });
    let text = String::from_utf8(answer.await.to_vec()).unwrap();
    let said: String = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["delta"]["text"].as_str()?.to_owned()))
        .collect();
    assert_eq!(said, calm);
    assert!(text.contains("event: message_stop"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streams_hops_take_no_second_place_of_its_tenant() {
    let script = streamed(&[&CALM.repeat(4), CALM]);
    let one = json!({"subject": "tenant", "concurrency": 1});
    let setup = saying(script, moderated()).await;
    let world = setup.put_in(ACME, Kind::Limit, "one", one).start().await;
    let call = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert!(events.is_done, "{:?}", events.frames);
    assert_eq!(events.text(), CALM.repeat(5));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_guard_is_down_ends_or_goes_on_as_its_tenant_chose() {
    let mut spec = moderated();
    let dead = scripted::dead_address().await;
    let setup = saying(streamed(&[CALM, CALM]), spec.clone()).await;
    let gone = upstream(&format!("http://{dead}/v1"), "guards");
    let world = setup.put(Kind::Upstream, "guards", gone).start().await;
    let call = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert_eq!(events.error_code().as_deref(), Some("guardrail_failed"));
    assert!(!events.frames.concat().contains("calm"));
    spec["on_failure"] = json!("open");
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", spec)]);
    let events = world.client.stream("acme", CHAT, &call).await;
    assert_eq!((events.is_done, events.text()), (true, CALM.repeat(2)));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_ends_under_a_stream_is_said_in_it() {
    // Enough for the call, and for one moderation at a cent.
    let budget = json!({"subject": "tenant", "limit": "0.015"});
    let calm = CALM.repeat(4);
    let setup = saying(streamed(&[&calm, CALM]), moderated()).await;
    let world = setup
        .put_in(ACME, Kind::Budget, "month", budget)
        .start()
        .await;
    let call = chat("scripted", "hi");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert_eq!(events.error_code().as_deref(), Some("insufficient_quota"));
    assert_eq!(events.text(), calm);
    world.quiet().await;
    let view = world.account(ACME, "month");
    assert!(view.spent <= base::PicoUsd::new(15_000_000_000), "{view:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_8_a_client_that_leaves_while_a_guard_is_asked_leaves_nothing() {
    let supervisor = base::Supervisor::new();
    let silent = scripted::upstream(&supervisor, "", Then::Hang).await;
    let setup = saying(streamed(&[&CALM.repeat(4)]), moderated()).await;
    let hanging = upstream(&format!("http://{silent}/v1"), "guards");
    let world: World = setup.put(Kind::Upstream, "guards", hanging).start().await;
    let mut call = chat("scripted", "hi");
    call["stream"] = json!(true);
    let request = post("acme", CHAT).body(body(&call)).unwrap();
    let answer = bounded(world.client.send(request)).await;
    // The call and its hop.
    until(|| world.gateway.live_holds() == 2).await;
    drop(answer);
    world.quiet().await;
    let (_, _, report) = world.end().await;
    assert_eq!(report.faults, []);
}
