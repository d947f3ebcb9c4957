//! What comes after a call that an upstream did not take: once more, elsewhere, or not; and whom
//! it concerns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Supervisor;
use ledger::Record;
use serde_json::json;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{output_price, put, route, upstream, with};
use crate::world::client::{CHAT, Reply, chat};
use crate::world::{Setup, World, scripted};

const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const FAILED: &str =
    "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A world in which the route `m` leads to an upstream that says these things, and `both` there
/// and to the engine.
async fn world(scripts: &'static [&'static str]) -> (World, Arc<AtomicUsize>) {
    let (address, calls) = scripted::sequence(&Supervisor::new(), scripts).await;
    (prepare(address).await.start().await, calls)
}

async fn prepare(address: SocketAddr) -> Setup {
    let first = upstream(&format!("http://{address}/v1"), "first");
    let both = json!({
        "targets": [
            {"upstream": "first", "model": "sim-small"},
            {"upstream": "engine", "model": "sim-small"},
        ],
        "output_tokens_max": 64,
    });
    Setup::new()
        .await
        .put(Kind::Upstream, "first", first)
        .put(Kind::Price, "first/sim-small", output_price("0.001"))
        .put(Kind::Route, "m", route("first", "sim-small"))
        .put(Kind::Route, "both", both)
}

async fn call(world: &World, owner: &str, model: &str) -> Reply {
    world.client.post(owner, CHAT, &chat(model, "hi")).await
}

fn count(calls: &AtomicUsize) -> usize {
    calls.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_nobody_worked_on_is_made_again_and_paid_for_once() {
    let (world, calls) = world(&[BUSY, scripted::ANSWER]).await;
    call(&world, "acme", "m").await.ok();
    assert_eq!(count(&calls), 2);
    let (records, ..) = world.end().await;
    let number = |of: fn(&Record) -> bool| records.iter().filter(|record| of(record)).count();
    assert_eq!(number(|record| matches!(record, Record::Intent(_))), 2);
    assert_eq!(
        number(|record| matches!(record, Record::Released { .. })),
        1
    );
    assert_eq!(number(|record| matches!(record, Record::Settled(_))), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_beyond_the_callers_patience_is_passed_on() {
    let (world, calls) = world(&[LATER]).await;
    let refused = call(&world, "acme", "m").await;
    refused.refused(429, "upstream_busy");
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(count(&calls), 1);
}

/// It may have been worked on: nothing is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_not_answered_is_not_made_again() {
    for script in ["", FAILED] {
        let scripts: &'static [&'static str] = match script {
            "" => &[""],
            _ => &[FAILED],
        };
        let (world, calls) = world(scripts).await;
        call(&world, "acme", "both")
            .await
            .refused(502, "upstream_failed");
        assert_eq!((count(&calls), world.engine.observed().requests), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refuses_is_passed_over_and_soon_not_asked_first() {
    let (world, calls) = world(&[BUSY]).await;
    for _ in 0..30 {
        call(&world, "acme", "both").await.ok();
    }
    assert_eq!(world.engine.observed().requests, 30);
    // Five open the breaker; what is more are its probes.
    assert!((5..15).contains(&count(&calls)), "{}", count(&calls));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_is_one_tenants_and_says_when_to_come_back() {
    let (world, calls) = world(&[FAILED]).await;
    for _ in 0..5 {
        call(&world, "acme", "m")
            .await
            .refused(502, "upstream_failed");
    }
    let held_back = call(&world, "acme", "m").await;
    held_back.refused(503, "upstream_down");
    assert!(
        ["1", "2"]
            .map(Some)
            .contains(&held_back.header("retry-after"))
    );
    assert_eq!(count(&calls), 5);
    call(&world, "globex", "m")
        .await
        .refused(502, "upstream_failed");
    assert_eq!(count(&calls), 6);
}

/// What calls have taught of a place holds for as long as it is that place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_outlives_changes_of_other_things() {
    let (world, calls) = world(&[FAILED]).await;
    for _ in 0..5 {
        call(&world, "acme", "m")
            .await
            .refused(502, "upstream_failed");
    }
    let current = world.gateway.snapshot();
    let before = serde_json::to_value(&**current.upstreams().get("first").unwrap()).unwrap();
    let change = |more: serde_json::Value| put(Kind::Upstream, "first", with(before.clone(), more));
    world.publish(vec![change(
        json!({"concurrency_max": 9, "timeouts": {"idle_ms": 5_000}}),
    )]);
    call(&world, "acme", "m")
        .await
        .refused(503, "upstream_down");
    assert_eq!(count(&calls), 5);
    let status = world.gateway.upstream_status("first").unwrap();
    assert_eq!((status.places, status.open_tenants), (9, 1));
    // Another place is another matter.
    world.publish(vec![change(json!({"base_url": world.engine_url.clone()}))]);
    call(&world, "acme", "m").await.ok();
}

/// Its own bad requests are not the upstream's failures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_open_no_breaker() {
    const BAD: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (world, calls) = world(&[BAD]).await;
    for _ in 0..12 {
        call(&world, "acme", "m")
            .await
            .refused(400, "upstream_refused");
    }
    assert_eq!(count(&calls), 12);
}

/// One tenant's upstream is dead and its clients storm; its neighbour's calls all succeed, and the
/// upstream sees hardly more than what the clients sent (invariant 12).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_upstream_and_a_storm_are_one_tenants_affair() {
    const STORM: usize = 400;
    let (world, calls) = world(&[BUSY]).await;
    let world = Arc::new(world);
    let storm = Supervisor::new();
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..20 {
        let (world, refused) = (Arc::clone(&world), Arc::clone(&refused));
        storm.spawn(async move {
            for _ in 0..STORM / 20 {
                let reply = call(&world, "acme", "m").await;
                assert!([429, 503].contains(&reply.status.as_u16()));
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..100 {
        call(&world, "globex", "sim-small").await.ok();
    }
    crate::world::client::until(|| count(&refused) == STORM).await;
    assert!(10 * count(&calls) <= 11 * STORM, "{}", count(&calls));
    call(&world, "globex", "sim-small").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_cannot_be_made_is_tried_elsewhere() {
    let dead = scripted::dead_address().await;
    let world = prepare(dead).await.start().await;
    for _ in 0..20 {
        call(&world, "acme", "both").await.ok();
    }
}

/// Nobody has called it, and everybody's calls go elsewhere; once it is back they return.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_not_well_is_passed_over_before_anybody_calls_it() {
    const SCRIPTS: &[&str] = &[
        FAILED,
        FAILED,
        FAILED,
        FAILED,
        FAILED,
        FAILED,
        FAILED,
        scripted::ANSWER,
    ];
    let (address, asked) = scripted::sequence(&Supervisor::new(), SCRIPTS).await;
    let checked = with(
        upstream(&format!("http://{address}/v1"), "first"),
        json!({"health": {"path": "/health", "every_ms": 1_000}}),
    );
    let setup = prepare(address).await;
    let world = setup.put(Kind::Upstream, "first", checked).start().await;
    let down = |state: u8| {
        let series = format!("partywall_upstream_down{{upstream=\"first\"}} {state}\n");
        let world = &world;
        crate::world::client::until(move || world.gateway.metrics().text().contains(&series))
    };
    // Three are enough; from the fifth on it stays down for longer than the calls below take.
    crate::world::client::until(|| count(&asked) >= 5).await;
    down(2).await;
    call(&world, "acme", "both").await.ok();
    call(&world, "acme", "m")
        .await
        .refused(503, "upstream_down");
    assert_eq!(world.engine.observed().requests, 1);
    down(0).await;
    call(&world, "acme", "m").await.ok();
}
