//! A route's targets, in order: what cannot be reached is passed over.

use serde_json::json;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, put, upstream, with};
use crate::world::client::{CHAT, chat, until};
use crate::world::{Setup, scripted};

fn two_targets(first: &str) -> serde_json::Value {
    json!({
        "targets": [
            {"upstream": first, "model": "sim-small"},
            {"upstream": "engine", "model": "sim-small"},
        ],
        "output_tokens_max": 64,
    })
}

fn priced() -> serde_json::Value {
    crate::world::catalogue::output_price("0.001")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_upstream_is_passed_over_and_limits_still_count() {
    let dead = scripted::dead_address().await;
    let limits = json!({"subject": "tenant", "requests_per_minute": 3, "concurrency": 2});
    let setup = Setup::new().await;
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .put(
            Kind::Upstream,
            "dead",
            upstream(&format!("http://{dead}/v1"), "dead"),
        )
        .put(Kind::Price, "dead/sim-small", priced())
        .put(Kind::Route, "both", two_targets("dead"))
        .put_in(ACME, Kind::Limit, "rates", limits)
        .start()
        .await;
    for _ in 0..3 {
        world
            .client
            .post("acme", CHAT, &chat("both", "hi"))
            .await
            .ok();
    }
    let fourth = world.client.post("acme", CHAT, &chat("both", "hi")).await;
    fourth.refused(429, "rate_limit_exceeded");
    assert_eq!(world.gateway.live_holds(), 0);
}

/// The first target is another tenant's own: the second is this one's first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_closed_to_the_tenant_is_no_way_around_limits() {
    let setup = Setup::new().await;
    let own = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"salting": "exclusive", "exclusive_to": "globex"}),
    );
    let limits = json!({"subject": "tenant", "requests_per_minute": 1});
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .put(Kind::Upstream, "globex-only", own)
        .put(Kind::Route, "both", two_targets("globex-only"))
        .put_in(ACME, Kind::Limit, "rates", limits)
        .start()
        .await;
    let call = async || world.client.post("acme", CHAT, &chat("both", "hi")).await;
    assert_eq!(call().await.ok()["x_sim"]["salted"], true);
    call().await.refused(429, "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_upstream_is_passed_over_and_a_lone_one_is_told() {
    let setup = Setup::new().await;
    let narrow = with(
        upstream(&setup.engine_url(), "narrow"),
        json!({"concurrency_max": 1}),
    );
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .put(Kind::Upstream, "narrow", narrow)
        .put(Kind::Price, "narrow/sim-small", priced())
        .put(
            Kind::Route,
            "narrow",
            crate::world::catalogue::route("narrow", "sim-small"),
        )
        .put(Kind::Route, "both", two_targets("narrow"))
        .start()
        .await;
    let slow = chat("narrow", "[[fault:delay=1s]]");
    let slow = world.client.post("acme", CHAT, &slow);
    let beside = async {
        until(|| world.engine.observed().running == 1).await;
        let both = world.client.post("acme", CHAT, &chat("both", "hi")).await;
        (
            both,
            world.client.post("acme", CHAT, &chat("narrow", "hi")).await,
        )
    };
    let (slow, (both, narrow)) = tokio::join!(slow, beside);
    slow.ok();
    both.ok();
    narrow.refused(429, "upstream_busy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_address_is_reached_only_where_the_operator_allows_it() {
    let setup = Setup::new().await;
    let closed = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"allow_private_address": false}),
    );
    let world = setup.put(Kind::Upstream, "engine", closed).start().await;
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(502, "upstream_failed");
    assert_eq!(world.engine.observed().requests, 0);
    let open = upstream(&world.engine_url, "sim");
    world.publish(vec![put(Kind::Upstream, "engine", open)]);
    world.client.chat("acme", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_upstream_closed_is_replaced() {
    const ONCE: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 70\r\n\r\n\
        {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},\"choices\":[],\"a\":1}";
    let setup = Setup::new().await;
    let supervisor = base::Supervisor::new();
    let address = scripted::upstream(&supervisor, ONCE, scripted::Then::Close).await;
    let world = setup
        .put(
            Kind::Upstream,
            "once",
            upstream(&format!("http://{address}/v1"), "once"),
        )
        .put(Kind::Price, "once/sim-small", priced())
        .put(
            Kind::Route,
            "once",
            crate::world::catalogue::route("once", "sim-small"),
        )
        .start()
        .await;
    for _ in 0..5 {
        world
            .client
            .post("acme", CHAT, &chat("once", "hi"))
            .await
            .ok();
    }
}
