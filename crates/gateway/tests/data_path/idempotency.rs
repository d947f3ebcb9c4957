//! The same idempotency key has one effect (invariant 9).

use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, key, with};
use crate::world::client::{CHAT, Events, Reply, body, bounded, chat, post, until};
use crate::world::{Setup, World};

async fn call(world: &World, owner: &str, key: &str, value: &Value) -> Reply {
    let request = post(owner, CHAT).header("idempotency-key", key);
    world
        .client
        .exchange(request.body(body(value)).unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_answer_is_given_again() {
    let world = World::new().await;
    let value = chat("sim-small", "hi");
    let first = call(&world, "acme", "k", &value).await;
    first.ok();
    assert!(first.header("idempotency-replayed").is_none());
    for _ in 0..2 {
        let again = call(&world, "acme", "k", &value).await;
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(world.engine.observed().requests, 1);
    assert_eq!(world.account(ACME, "everything").spent, first.cost());
    call(&world, "acme", "other", &value).await.ok();
    assert_eq!(world.engine.observed().requests, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_given_again() {
    let world = World::new().await;
    let value = with(
        chat("sim-small", "[[say:one two three]]"),
        json!({"stream": true}),
    );
    let stream = async || {
        let request = post("acme", CHAT)
            .header("idempotency-key", "s")
            .body(body(&value));
        let response = world.client.send(request.unwrap()).await;
        let status = response.status().as_u16();
        (status, bounded(Events::read(response)).await)
    };
    let (_, first) = stream().await;
    assert!(first.is_done);
    // It is kept once it has been sent.
    let again = bounded(async {
        loop {
            match stream().await {
                (200, again) => return again,
                (status, _) => assert_eq!(status, 409),
            }
        }
    })
    .await;
    assert_eq!(again.frames, first.frames);
    assert!(again.is_done && again.headers.contains_key("idempotency-replayed"));
    assert_eq!(world.engine.observed().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_or_path_with_the_same_key_is_an_error() {
    let world = World::new().await;
    call(&world, "acme", "k", &chat("sim-small", "hi"))
        .await
        .ok();
    let other = call(&world, "acme", "k", &chat("sim-small", "ho")).await;
    other.refused(422, "idempotency_key_reused");
    let request = post("acme", "/v1/completions").header("idempotency-key", "k");
    let value = json!({"model": "sim-small", "prompt": "hi"});
    let other = world
        .client
        .exchange(request.body(body(&value)).unwrap())
        .await;
    other.refused(422, "idempotency_key_reused");
    let value = chat("sim-small", "hi");
    call(&world, "acme", "", &value)
        .await
        .refused(400, "invalid_header");
    call(&world, "acme", &"k".repeat(256), &value)
        .await
        .refused(400, "invalid_header");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_two_api_keys_of_one_tenant_do_not_meet() {
    let setup = Setup::new()
        .await
        .put_in(ACME, Kind::Key, "second", key("acme-2", json!({})));
    let world = setup.start().await;
    let value = chat("sim-small", "hi");
    call(&world, "acme", "k", &value).await.ok();
    assert!(
        call(&world, "acme-2", "k", &value)
            .await
            .header("idempotency-replayed")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_first_is_under_way_there_is_no_second() {
    let world = World::new().await;
    let value = chat("sim-small", "[[fault:delay=1s]]");
    let second = async {
        until(|| world.engine.observed().running == 1).await;
        call(&world, "acme", "k", &value).await
    };
    let (first, second) = tokio::join!(call(&world, "acme", "k", &value), second);
    first.ok();
    second.refused(409, "idempotency_key_in_progress");
    assert_eq!(second.header("retry-after-ms"), Some("1000"));
    assert_eq!(call(&world, "acme", "k", &value).await.body, first.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_failed_without_effect_gives_its_key_up() {
    let world = World::new().await;
    let failing = chat("sim-small", "[[fault:status=500]]");
    call(&world, "acme", "k", &failing)
        .await
        .refused(502, "upstream_failed");
    // The key is given up right after the answer: then another body is no error.
    let good = chat("sim-small", "hi");
    bounded(async { while call(&world, "acme", "k", &good).await.status.as_u16() != 200 {} }).await;
    call(&world, "acme", "k", &failing)
        .await
        .refused(422, "idempotency_key_reused");

    let setup = Setup::new().await;
    let nothing = json!({"subject": "tenant", "limit": "0"});
    let world = setup
        .put_in(ACME, Kind::Budget, "none", nothing.clone())
        .start()
        .await;
    let value = chat("sim-small", "hi");
    call(&world, "acme", "k", &value)
        .await
        .refused(429, "insufficient_quota");
    world.publish(vec![crate::world::catalogue::remove_in(
        ACME,
        Kind::Budget,
        "none",
    )]);
    bounded(async { while call(&world, "acme", "k", &value).await.status.as_u16() != 200 {} })
        .await;
}
