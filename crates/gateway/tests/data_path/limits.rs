//! Requests, tokens and concurrency; waiting where it helps, and honest refusals.

use base::UserId;
use http::StatusCode;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, key, put_in};
use crate::world::client::{CHAT, chat, until};
use crate::world::{Setup, World};

async fn limited(limit: Value) -> World {
    let setup = Setup::new().await.put_in(ACME, Kind::Limit, "limit", limit);
    setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_rate_are_told_when_to_come_back() {
    let world = limited(json!({"subject": "tenant", "requests_per_minute": 2})).await;
    world.client.chat("acme", "hi").await.ok();
    world.client.chat("acme", "hi").await.ok();
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(429, "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["type"], "requests");
    let wait: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&wait), "{wait}");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(seconds, wait.div_ceil(1_000));
    assert!(refused.header("x-should-retry").is_none());
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), None);
    world.client.chat("globex", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_count_as_reserved_and_then_as_used() {
    // Room for one bound, and for many answers.
    let world = limited(json!({"subject": "tenant", "tokens_per_minute": 400})).await;
    for _ in 0..3 {
        let reply = world.client.chat("acme", "hi").await;
        reply.ok();
        let remaining = reply.header("x-ratelimit-remaining-tokens").unwrap();
        assert!(remaining.parse::<u64>().unwrap() < 400);
    }
    let slow = world.client.chat("acme", "[[fault:delay=2s]]");
    let beside = async {
        until(|| world.engine.observed().running == 1).await;
        let mut replies = Vec::new();
        for _ in 0..3 {
            replies.push(world.client.chat("acme", "hi").await);
        }
        replies
    };
    let (slow, beside) = tokio::join!(slow, beside);
    slow.ok();
    let refused = beside
        .iter()
        .find(|reply| reply.status != StatusCode::OK)
        .unwrap();
    refused.refused(429, "rate_limit_exceeded");
    assert_eq!(refused.json()["error"]["type"], "tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_fits_is_not_told_to_come_back() {
    let world = limited(json!({"subject": "tenant", "tokens_per_minute": 10})).await;
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(429, "rate_limit_exceeded");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert!(refused.header("retry-after-ms").is_none() && refused.header("retry-after").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_are_apart_for_users_keys_and_models() {
    let user = |bits| json!({"id": UserId::from_bits(bits)});
    let one = |subject: &str| json!({"subject": subject, "requests_per_minute": 1});
    let setup = Setup::new().await;
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .put_in(ACME, Kind::User, "ada", user(1))
        .put_in(ACME, Kind::User, "bob", user(2))
        .put_in(ACME, Kind::Key, "ada", key("ada", json!({"user": "ada"})))
        .put_in(
            ACME,
            Kind::Key,
            "ada-2",
            key("ada-2", json!({"user": "ada"})),
        )
        .put_in(ACME, Kind::Key, "bob", key("bob", json!({"user": "bob"})))
        .put_in(ACME, Kind::Limit, "users", one("each:user"))
        .start()
        .await;
    world.client.chat("ada", "hi").await.ok();
    world
        .client
        .chat("ada-2", "hi")
        .await
        .refused(429, "rate_limit_exceeded");
    world.client.chat("bob", "hi").await.ok();
    world.client.chat("acme", "hi").await.ok();
    world.client.chat("acme", "hi").await.ok();

    world.publish(vec![
        crate::world::catalogue::remove_in(ACME, Kind::Limit, "users"),
        put_in(ACME, Kind::Limit, "keys", one("key:ada")),
    ]);
    world.client.chat("ada", "hi").await.ok();
    world
        .client
        .chat("ada", "hi")
        .await
        .refused(429, "rate_limit_exceeded");
    world.client.chat("ada-2", "hi").await.ok();

    let of_model = json!({"subject": "tenant", "model": "metered", "requests_per_minute": 1});
    world.publish(vec![put_in(ACME, Kind::Limit, "model", of_model)]);
    let metered = async || world.client.post("bob", CHAT, &chat("metered", "hi")).await;
    metered().await.ok();
    metered().await.refused(429, "rate_limit_exceeded");
    world.client.chat("bob", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fits_soon_waits_and_is_let_through() {
    let limit = json!({"subject": "tenant", "concurrency": 1});
    let setup = Setup::new().await.put_in(ACME, Kind::Limit, "one", limit);
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 30_000}))
        .start()
        .await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = world.client.clone();
        calls.spawn(async move { client.chat("acme", "[[fault:delay=5ms]]").await });
    }
    for reply in calls.join_all().await {
        reply.ok();
    }
    assert_eq!(world.engine.observed().running_max, 1);

    // The sixty-first request of a minute waits for a second.
    let rate = json!({"subject": "tenant", "requests_per_minute": 60});
    world.publish(vec![put_in(ACME, Kind::Limit, "one", rate)]);
    for _ in 0..61 {
        world.client.chat("acme", "hi").await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_wait_too_long_is_refused() {
    let world = limited(json!({"subject": "tenant", "concurrency": 1})).await;
    let slow = world.client.chat("acme", "[[fault:delay=1s]]");
    let beside = async {
        until(|| world.engine.observed().running == 1).await;
        world.client.chat("acme", "hi").await
    };
    let (slow, beside) = tokio::join!(slow, beside);
    slow.ok();
    beside.refused(429, "rate_limit_exceeded");
    assert_eq!(beside.json()["error"]["type"], "concurrency");
    assert_eq!(beside.header("retry-after-ms"), Some("1000"));
    world.client.chat("acme", "hi").await.ok();
}

/// Ada's rate needs seconds to come back; Bob only waits for a call of his own to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_long_does_not_hold_up_others_of_the_tenant() {
    let setup = Setup::new().await;
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 10_000}))
        .put_in(ACME, Kind::Key, "ada", key("ada", json!({})))
        .put_in(ACME, Kind::Key, "bob", key("bob", json!({})))
        .put_in(
            ACME,
            Kind::Limit,
            "ada",
            json!({"subject": "key:ada", "requests_per_minute": 7}),
        )
        .put_in(
            ACME,
            Kind::Limit,
            "bob",
            json!({"subject": "key:bob", "concurrency": 1}),
        )
        .start()
        .await;
    for _ in 0..7 {
        world.client.chat("ada", "hi").await.ok();
    }
    let ada = world.client.chat("ada", "hi");
    let bob = async {
        let slow = world.client.chat("bob", "[[fault:delay=300ms]]");
        let quick = async {
            until(|| world.engine.observed().running == 1).await;
            world.client.chat("bob", "hi").await.ok();
        };
        tokio::join!(slow, quick).0.ok();
    };
    let mut ada = std::pin::pin!(ada);
    let mut bob = std::pin::pin!(bob);
    tokio::select! {
        _ = &mut ada => panic!("eight seconds have passed, and Bob still waits"),
        () = &mut bob => {}
    }
}
