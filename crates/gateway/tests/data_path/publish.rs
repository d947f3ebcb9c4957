//! A request sees one version of the configuration from beginning to end (invariant 14).

use std::sync::Arc;

use http_body_util::BodyExt as _;
use serde_json::json;
use simulator::Timing;
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, key, put, put_in, remove, remove_in, upstream, with};
use crate::world::client::{CHAT, Events, body, bounded, chat, post};
use crate::world::{Setup, World, scripted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_14_a_stream_keeps_the_version_that_it_began_with() {
    let mut setup = Setup::new().await;
    setup.engine.timing = Timing {
        token_micros: 10_000,
        ..Timing::default()
    };
    let world = setup.start().await;
    let value = with(chat("metered", "[[tokens:60]]"), json!({"stream": true}));
    let request = post("acme", CHAT).body(body(&value)).unwrap();
    let mut response = world.client.send(request).await;
    bounded(response.frame()).await.unwrap().unwrap();
    // Its route, its upstream, its price, its key: all gone.
    world.publish(vec![
        remove(Kind::Route, "metered"),
        remove(Kind::Upstream, "meter"),
        remove(Kind::Price, "metered/sim-small"),
        remove_in(ACME, Kind::Key, "main"),
    ]);
    world
        .client
        .post("acme", CHAT, &value)
        .await
        .refused(401, "invalid_api_key");
    let events = bounded(Events::read(response)).await;
    assert!(events.is_done && !events.is_broken);
    world.quiet().await;
    let spent = world.account(ACME, "everything").spent;
    assert_eq!(
        spent,
        "0.6".parse().unwrap(),
        "by the price that it began with"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_count_from_the_next_request_on() {
    let world = World::new().await;
    world.client.chat("acme", "hi").await.ok();
    let revoked = with(key("acme", json!({})), json!({"revoked": true}));
    world.publish(vec![put_in(ACME, Kind::Key, "main", revoked)]);
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(401, "invalid_api_key");
    world.publish(vec![put_in(
        ACME,
        Kind::Key,
        "main",
        key("acme", json!({})),
    )]);
    world.client.chat("acme", "hi").await.ok();
    world.publish(vec![put_in(
        ACME,
        Kind::Limit,
        "none",
        json!({"subject": "tenant", "tokens_per_minute": 1}),
    )]);
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(429, "rate_limit_exceeded");
    world.publish(vec![remove_in(ACME, Kind::Limit, "none")]);
    world.client.chat("acme", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_be_used_leaves_the_old_one() {
    let world = World::new().await;
    let missing = json!({"credential": "file:/nowhere/at/all"});
    let broken = with(upstream("http://127.0.0.1:9/v1", "sim"), missing);
    let current = world.gateway.snapshot();
    let next = current.with(2, vec![put(Kind::Upstream, "engine", broken)], &|_| None);
    let next = Arc::new(next.unwrap());
    let problems = world.gateway.check(&next).unwrap_err();
    assert_eq!(problems[0].address.to_string(), "upstreams/engine");
    assert!(
        problems[0].message.contains("file:/nowhere/at/all"),
        "{problems:?}"
    );
    world.gateway.publish(&next).unwrap_err();
    assert_eq!(world.gateway.snapshot().version(), 1);
    world.client.chat("acme", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_moves_while_calls_come_in() {
    let world = World::new().await;
    let dead = scripted::dead_address().await;
    let elsewhere = upstream(&format!("http://{dead}/v1"), "sim");
    world.client.chat("acme", "hi").await.ok();
    world.publish(vec![put(Kind::Upstream, "engine", elsewhere)]);
    world
        .client
        .chat("acme", "hi")
        .await
        .refused(502, "upstream_failed");
    world.publish(vec![put(
        Kind::Upstream,
        "engine",
        upstream(&world.engine_url, "sim"),
    )]);
    world.client.chat("acme", "hi").await.ok();
}
