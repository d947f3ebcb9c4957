//! Several gateways that lease the same rates: together they keep them, and one may have all.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;
use tenancy::catalogue::Kind;

use crate::world::client::{CHAT, chat, until};
use crate::world::coordinator::Rows;
use crate::world::rate_pools::Pools;
use crate::world::{Setup, World};

const REPLICAS: u32 = 3;

async fn replicas(pools: &Arc<Pools>, requests_per_minute: u64) -> Vec<World> {
    let rows = Rows::new(REPLICAS);
    let tier = json!({"wait_ms_max": 0, "limits": {
        "calls": {"subject": "tenant", "requests_per_minute": requests_per_minute}
    }});
    let mut worlds = Vec::new();
    for replica in 0..REPLICAS {
        let mut setup = Setup::new().await.put(Kind::Tier, "free", tier.clone());
        setup.coordinator = Some(rows.seat(replica));
        setup.rate_pools = Some(Arc::<Pools>::clone(pools));
        worlds.push(setup.start().await);
    }
    for world in &worlds {
        are_shared(world, true).await;
        // The coordinator says how many replicas there are.
        let heard = || {
            world
                .gateway
                .metrics()
                .text()
                .contains("partywall_share_exchanges_total 1")
        };
        until(heard).await;
    }
    worlds
}

async fn are_shared(world: &World, are_shared: bool) {
    let line = format!("partywall_rates_shared {}\n", u8::from(are_shared));
    until(|| world.gateway.metrics().text().contains(&line)).await;
}

/// How many of so many calls of a tenant are answered; the others are refused for the rate.
async fn answered(world: &World, tenant: &str, calls: u32) -> u32 {
    let mut answered = 0;
    for _ in 0..calls {
        let reply = world
            .client
            .post(tenant, CHAT, &chat("metered", "hi"))
            .await;
        match reply.status {
            StatusCode::OK => answered += 1,
            _ => reply.refused(429, "rate_limit_exceeded"),
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_may_have_the_whole_rate_and_all_together_no_more() {
    let pools = Arc::new(Pools::default());
    let worlds = replicas(&pools, 24).await;
    // It comes back every two and a half seconds.
    let first = answered(&worlds[0], "acme", 30).await;
    assert!((24..=30).contains(&first), "{first} of 24");
    let others = answered(&worlds[1], "acme", 6).await + answered(&worlds[2], "acme", 6).await;
    assert!(others <= 6, "{others} of none");
    // Another tenant has its own.
    assert_eq!(answered(&worlds[1], "globex", 12).await, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_through_all_replicas_keep_the_rate() {
    let pools = Arc::new(Pools::default());
    let worlds = replicas(&pools, 60).await;
    let (one, two, three) = tokio::join!(
        answered(&worlds[0], "acme", 60),
        answered(&worlds[1], "acme", 60),
        answered(&worlds[2], "acme", 60),
    );
    let sum = one + two + three;
    // And what came back meanwhile: one a second.
    assert!((60..=90).contains(&sum), "{one}, {two} and {three}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pools_each_has_its_part_until_they_are_back() {
    let pools = Arc::new(Pools::default());
    let worlds = replicas(&pools, 12).await;
    pools.is_down.store(true, Ordering::Relaxed);
    // The call that finds out is answered all the same.
    assert_eq!(
        answered(&worlds[0], "acme", 4).await,
        4,
        "a third of twelve"
    );
    are_shared(&worlds[0], false).await;
    let refused = worlds[0]
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await;
    refused.refused(429, "rate_limit_exceeded");
    pools.is_down.store(false, Ordering::Relaxed);
    are_shared(&worlds[0], true).await;
    assert!(
        answered(&worlds[0], "acme", 8).await >= 8,
        "the rest of twelve"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_that_give_what_was_not_asked_for_are_not_believed() {
    let pools = Arc::new(Pools::default());
    let worlds = replicas(&pools, 12).await;
    pools.is_mad.store(true, Ordering::Relaxed);
    assert_eq!(answered(&worlds[0], "acme", 4).await, 4);
    assert_eq!(
        answered(&worlds[0], "acme", 1).await,
        0,
        "a third of twelve"
    );
    are_shared(&worlds[0], false).await;
}
