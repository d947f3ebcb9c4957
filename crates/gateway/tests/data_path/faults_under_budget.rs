//! Whatever goes wrong with a call, its money is accounted for (invariants 5, 6 and 8).

use base::PicoUsd;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::task::JoinSet;

use crate::world::catalogue::{ACME, put, route, upstream, with};
use crate::world::client::{CHAT, Client, body, chat, post};
use crate::world::{Setup, World};

/// The budget is to decide, and no breaker.
async fn with_budget(dollars: &str) -> World {
    let setup = Setup::new().await;
    let mut meter = upstream(&setup.engine_url(), "metered");
    meter["breaker"] = json!({"failures_in_a_row": 0, "failure_percent": 0});
    setup
        .put(Kind::Upstream, "meter", meter)
        .put(Kind::Tier, "free", json!({"wait_ms_max": 50_000}))
        .put_in(
            ACME,
            Kind::Budget,
            "month",
            json!({"subject": "tenant", "limit": dollars}),
        )
        .start()
        .await
}

/// One of ten kinds of trouble.
async fn trouble(client: Client, number: usize) -> bool {
    let (text, streams) = match number % 10 {
        0 => ("[[fault:cut=5]]", true),
        1 => ("[[fault:cut=3]]", false),
        2 => ("[[fault:status=500]]", false),
        3 => ("[[fault:status=429;retry-after=2]]", true),
        4 => ("[[fault:error=4]]", true),
        5 => ("[[fault:garbage]]", false),
        6 => ("[[fault:garbage]]", true),
        7 => ("[[fault:nousage]]", true),
        8 => ("hang up", true),
        _ => ("all is well", false),
    };
    let mut value = chat("metered", text);
    value["stream"] = Value::Bool(streams);
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    let mut response = client.send(request).await;
    let answered = response.status() == StatusCode::OK;
    if number % 10 == 8 {
        // Reads one piece and goes.
        drop(response.frame().await);
    } else {
        while let Some(Ok(_)) = response.frame().await {}
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_8_trouble_leaks_no_hold_and_overshoots_no_budget() {
    let world = with_budget("64").await;
    let mut calls = JoinSet::new();
    for number in 0..600 {
        calls.spawn(trouble(world.client.clone(), number));
    }
    let answered = calls
        .join_all()
        .await
        .into_iter()
        .filter(|answered| *answered)
        .count();
    world.quiet().await;
    let view = world.account(ACME, "month");
    let limit = PicoUsd::dollars(64);
    assert!(view.spent <= limit, "{view:?}");
    assert!(view.spent >= limit.percent_floor(97), "{view:?}");
    assert_eq!(view.held, PicoUsd::ZERO);
    assert!(answered > 30, "{answered}");
    let (_, _, report) = world.end().await;
    assert_eq!(report.faults, []);
    assert_eq!(report.overshoot, PicoUsd::ZERO);
    assert_eq!(
        report.attempts,
        report.settled + report.released + report.open
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_6_a_hung_call_whose_client_left_stands_at_its_bound_until_reconciled() {
    let world = with_budget("64").await;
    for _ in 0..5 {
        let value = chat("metered", "[[fault:hang]]");
        let request = post("acme", CHAT).body(body(&value)).unwrap();
        let before = world.engine.observed().requests;
        tokio::select! {
            _ = world.client.send(request) => panic!("it hangs"),
            () = crate::world::client::until(|| world.engine.observed().requests > before) => {}
        }
    }
    world.quiet().await;
    let bound = PicoUsd::new(1_920_000_000_000);
    assert_eq!(world.account(ACME, "month").spent, bound.times(5));
    let unsettled = world.gateway.unsettled(ACME);
    assert_eq!(unsettled.len(), 5);
    for call in unsettled {
        world
            .gateway
            .reconcile(ACME, call.attempt, PicoUsd::ZERO)
            .unwrap();
        world
            .gateway
            .reconcile(ACME, call.attempt, PicoUsd::ZERO)
            .unwrap_err();
    }
    assert_eq!(world.account(ACME, "month").spent, PicoUsd::ZERO);
    let (_, recovered, report) = world.end().await;
    assert_eq!((report.faults.len(), report.reconciled), (0, 5));
    assert_eq!(recovered.projection.open_attempts(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upstream_refuses_costs_nothing() {
    let world = with_budget("64").await;
    for (fault, status, code) in [
        ("status=500", 502, "upstream_failed"),
        ("status=401", 502, "upstream_failed"),
        ("status=404", 502, "upstream_failed"),
        ("status=503", 429, "upstream_busy"),
        ("status=400", 400, "upstream_refused"),
        ("status=422", 422, "upstream_refused"),
        ("status=504", 504, "upstream_timeout"),
    ] {
        let text = format!("[[fault:{fault}]]");
        let reply = world
            .client
            .post("acme", CHAT, &chat("metered", &text))
            .await;
        reply.refused(status, code);
    }
    let reply = world
        .client
        .post(
            "acme",
            CHAT,
            &chat("metered", "[[fault:status=429;retry-after=2]]"),
        )
        .await;
    reply.refused(429, "upstream_busy");
    assert_eq!(reply.header("retry-after-ms"), Some("2000"));
    assert_eq!(world.account(ACME, "month").spent, PicoUsd::ZERO);
}

/// An upstream that does more than it was told is paid for what it did, and no stream of it goes
/// on beyond what was held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_its_bound_is_cut() {
    let world = with_budget("64").await;
    let tight = with(
        chat("metered", "[[tokens:8]][[fault:overrun=40]]"),
        json!({"max_tokens": 8}),
    );
    let events = world.client.stream("acme", CHAT, &tight).await;
    assert!(events.is_broken && !events.is_done);
    assert_eq!(events.error_code().as_deref(), Some("upstream_failed"));
    world.quiet().await;
    assert_eq!(
        world.account(ACME, "month").spent,
        PicoUsd::new(80_000_000_000)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_too_long_for_others_is_told_to_come_back() {
    let setup = Setup::new().await;
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 50}))
        .put_in(
            ACME,
            Kind::Budget,
            "month",
            json!({"subject": "tenant", "limit": "2"}),
        )
        .start()
        .await;
    let slow = chat("metered", "[[fault:delay=2s]]");
    let first = world.client.post("acme", CHAT, &slow);
    let second = async {
        crate::world::client::until(|| world.gateway.live_holds() == 1).await;
        world
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await
    };
    let (first, second) = tokio::join!(first, second);
    first.ok();
    second.refused(429, "budget_held_by_live_calls");
    assert_eq!(second.header("retry-after-ms"), Some("1000"));
    world.publish(vec![put(
        Kind::Route,
        "metered",
        route("meter", "sim-small"),
    )]);
    world
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await
        .ok();
}
