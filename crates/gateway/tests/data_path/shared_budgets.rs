//! Several gateways with a part in the same budgets: together they hold, and are used up
//! (invariants 5, 6 and 8).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::PicoUsd;
use http::StatusCode;
use ledger::{AccountId, Subject};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::task::JoinSet;

use crate::world::catalogue::ACME;
use crate::world::client::{CHAT, chat, until};
use crate::world::coordinator::Rows;
use crate::world::{Setup, World};

/// A call of `metered` has 32 tokens of output at a cent each, and holds 192.
const CALL_COSTS: PicoUsd = PicoUsd::new(320_000_000_000);
const REPLICAS: u32 = 3;

async fn replicas(rows: &Arc<Rows>, limit: &str, tier: Value) -> Vec<World> {
    let mut worlds = Vec::new();
    for replica in 0..REPLICAS {
        let mut setup = Setup::new()
            .await
            .put(Kind::Tier, "free", tier.clone())
            .put_in(
                ACME,
                Kind::Budget,
                "month",
                json!({"subject": "tenant", "limit": limit}),
            );
        setup.coordinator = Some(rows.seat(replica));
        worlds.push(setup.start().await);
    }
    worlds
}

fn account() -> AccountId {
    AccountId::of(ACME, &"month".parse().unwrap(), &Subject::Tenant)
}

/// What all gateways have spent and held.
fn used(worlds: &[World]) -> (PicoUsd, PicoUsd) {
    let views = worlds
        .iter()
        .filter_map(|world| world.gateway.account(ACME, account()));
    views.fold((PicoUsd::ZERO, PicoUsd::ZERO), |(spent, held), view| {
        (spent + view.spent, held + view.held)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_three_replicas_two_thousand_calls_against_a_budget_for_two_hundred() {
    // 200 × 32 cents.
    let limit = PicoUsd::dollars(64);
    let rows = Rows::new(REPLICAS);
    let worlds = replicas(&rows, "64", json!({"wait_ms_max": 50_000})).await;
    let mut calls = JoinSet::new();
    for number in 0..2_100_usize {
        let client = worlds[number % worlds.len()].client.clone();
        calls.spawn(async move { client.post("acme", CHAT, &chat("metered", "hi")).await });
    }
    let mut answered = 0;
    while let Some(reply) = calls.join_next().await {
        let (spent, held) = used(&worlds);
        assert!(spent + held <= limit, "{spent} spent, {held} held");
        assert!(rows.shares(account()) <= limit);
        let reply = reply.unwrap();
        if reply.status == StatusCode::OK {
            answered += 1;
        } else {
            reply.refused(429, "insufficient_quota");
        }
    }
    for world in &worlds {
        world.quiet().await;
    }
    let (spent, held) = used(&worlds);
    println!(
        "{answered} calls, {spent} of {limit} spent, {} exchanges",
        rows.exchanges.load(Ordering::Relaxed)
    );
    assert_eq!((spent, held), (CALL_COSTS.times(answered), PicoUsd::ZERO));
    assert!(spent >= limit.percent_floor(97), "{spent} of {limit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ample_budget_is_asked_for_by_hardly_any_call() {
    let rows = Rows::new(REPLICAS);
    let worlds = replicas(&rows, "100000", json!({})).await;
    let mut calls = JoinSet::new();
    for number in 0..1_500_usize {
        let client = worlds[number % worlds.len()].client.clone();
        calls.spawn(async move { client.post("acme", CHAT, &chat("metered", "hi")).await });
    }
    while let Some(reply) = calls.join_next().await {
        reply.unwrap().ok();
    }
    let exchanges = rows.exchanges.load(Ordering::Relaxed);
    println!("1500 calls, {exchanges} exchanges");
    assert!(exchanges * 20 <= 1_500, "{exchanges} exchanges");
    // What was to spare goes back once the calls are over, and what is spent is known.
    let all_back = || {
        (0..REPLICAS).all(|replica| {
            let row = rows.of(account(), replica);
            row.is_some_and(|(share, spent)| share < spent + CALL_COSTS.times(2_000))
        })
    };
    until(all_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_coordinator_a_replica_goes_on_within_its_share() {
    let rows = Rows::new(REPLICAS);
    let worlds = replicas(&rows, "1000", json!({"wait_ms_max": 300})).await;
    let world = &worlds[0];
    let body = chat("metered", "hi");
    let call = || world.client.post("acme", CHAT, &body);
    call().await.ok();
    let (share, _) = rows.of(account(), 0).unwrap();
    rows.is_down.store(true, Ordering::Relaxed);
    let mut answered = 1_u64;
    let refused = loop {
        let reply = call().await;
        let (spent, held) = used(&worlds);
        assert!(
            spent + held <= share,
            "{spent} spent, {held} held of {share}"
        );
        if reply.status != StatusCode::OK {
            break reply;
        }
        answered += 1;
    };
    assert!(answered > 5, "{answered} calls went on");
    refused.refused(503, "budget_unreachable");
    assert_eq!(refused.header("retry-after-ms"), Some("2000"));
    rows.is_down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    call().await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_does_not_need_another_gets() {
    // Room for six holds of 1.92 dollars; each call costs 32 cents.
    let rows = Rows::new(REPLICAS);
    let worlds = replicas(&rows, "12", json!({"wait_ms_max": 20_000})).await;
    let slow = chat("metered", "[[fault:delay=500ms]]");
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let (client, slow) = (worlds[0].client.clone(), slow.clone());
        calls.spawn(async move { client.post("acme", CHAT, &slow).await });
    }
    until(|| worlds[0].gateway.live_holds() >= 5).await;
    let waited = worlds[1]
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await;
    waited.ok();
    while let Some(reply) = calls.join_next().await {
        reply.unwrap().ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_replica_enforces_its_part_of_a_rate() {
    let rows = Rows::new(REPLICAS);
    let tier = json!({"wait_ms_max": 0, "limits": {
        "calls": {"subject": "tenant", "requests_per_minute": 12}
    }});
    let worlds = replicas(&rows, "1000", tier).await;
    // Once the coordinator has said how many there are.
    worlds[0]
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await
        .ok();
    let mut answered = 1;
    for _ in 0..6 {
        let reply = worlds[0]
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await;
        match reply.status {
            StatusCode::OK => answered += 1,
            _ => reply.refused(429, "rate_limit_exceeded"),
        }
    }
    assert_eq!(answered, 4, "a third of twelve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_ends_keeps_what_it_spent_and_no_more() {
    let rows = Rows::new(REPLICAS);
    let worlds = replicas(&rows, "1000", json!({})).await;
    worlds[0]
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await
        .ok();
    worlds[0].quiet().await;
    worlds[0].gateway.drain(Duration::from_secs(1)).await;
    assert_eq!(rows.of(account(), 0), Some((CALL_COSTS, CALL_COSTS)));
}
