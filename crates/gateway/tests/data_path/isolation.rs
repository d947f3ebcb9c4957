//! Walls between tenants, by the number of the invariant that each test guards.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, GLOBEX, put, put_in, route, upstream, with};
use crate::world::client::{CHAT, chat, post};
use crate::world::{Setup, World};

fn cached(answer: &Value) -> u64 {
    let reported = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(answer["x_sim"]["cached_tokens"], reported);
    assert_eq!(answer["x_sim"]["salted"], true);
    reported
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_no_tenant_finds_another_ones_prefix() {
    let world = World::new().await;
    let prompt = "You are a careful assistant of a company that likes prefixes. ".repeat(16);
    assert_eq!(cached(&world.client.chat("acme", &prompt).await.ok()), 0);
    assert!(
        cached(&world.client.chat("acme", &prompt).await.ok()) > 100,
        "its own"
    );
    for _ in 0..3 {
        let answer = world.client.chat("globex", &prompt).await;
        let first = cached(&answer.ok());
        assert!(
            first == 0 || world.engine.observed().requests > 3,
            "another's"
        );
    }
    let salts: Vec<Value> = world
        .engine
        .observed()
        .recorded
        .iter()
        .map(|request| {
            serde_json::from_slice::<Value>(&request.body).unwrap()["cache_salt"].clone()
        })
        .collect();
    assert_eq!(salts[0], salts[1]);
    assert_ne!(salts[1], salts[2]);
    assert_eq!(salts[2].as_str().unwrap().len(), 43);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_salts_differ_by_tenant_model_and_deployment() {
    let world = World::new().await;
    let mut salts = std::collections::BTreeSet::new();
    for owner in ["acme", "globex"] {
        for model in ["sim-small", "vendor/sim-large", "metered"] {
            world
                .client
                .post(owner, CHAT, &chat(model, "hi"))
                .await
                .ok();
            salts.insert(world.last_body()["cache_salt"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(salts.len(), 6);
}

/// A route to a shared engine without salts comes first for who accepts it, and is closed to who
/// does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_shared_cache_is_for_those_who_accept_it() {
    let setup = Setup::new().await;
    let shared = json!({
        "base_url": setup.engine_url(), "provider": "sim", "salting": "sharing-accepted",
        "allow_private_address": true,
    });
    let world = setup
        .put(Kind::Upstream, "shared", shared)
        .put(Kind::Route, "shared", route("shared", "sim-small"))
        .put(
            Kind::Tenant,
            "acme",
            json!({"id": ACME, "tier": "free", "accepts_shared_cache": true}),
        )
        .start()
        .await;
    world
        .client
        .post("acme", CHAT, &chat("shared", "hi"))
        .await
        .ok();
    assert!(world.last_body().get("cache_salt").is_none());
    let reply = world
        .client
        .post("globex", CHAT, &chat("shared", "hi"))
        .await;
    reply.refused(403, "insufficient_permissions");
    assert_eq!(world.engine.observed().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_an_exclusive_upstream_serves_one_tenant() {
    let setup = Setup::new().await;
    let own = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"salting": "exclusive", "exclusive_to": "acme"}),
    );
    let world = setup
        .put(Kind::Upstream, "own", own)
        .put(Kind::Route, "own", route("own", "sim-small"))
        .start()
        .await;
    world
        .client
        .post("acme", CHAT, &chat("own", "hi"))
        .await
        .ok();
    let reply = world.client.post("globex", CHAT, &chat("own", "hi")).await;
    reply.refused(403, "insufficient_permissions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_cheaper_model_is_no_way_around_a_wall() {
    let setup = Setup::new().await;
    let own = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"salting": "exclusive", "exclusive_to": "globex"}),
    );
    let nothing_left = json!({
        "subject": "tenant", "limit": "0.1", "on_exhausted": {"downgrade": "cheap"},
    });
    let world = setup
        .put(Kind::Upstream, "globex-only", own)
        .put(Kind::Route, "cheap", route("globex-only", "sim-small"))
        .put_in(ACME, Kind::Budget, "month", nothing_left)
        .start()
        .await;
    let reply = world
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await;
    reply.refused(403, "insufficient_permissions");
    assert_eq!(
        world.engine.observed().requests,
        0,
        "acme's prompt in globex's own cache"
    );

    let both = json!({
        "targets": [
            {"upstream": "globex-only", "model": "sim-small"},
            {"upstream": "engine", "model": "sim-small"},
        ],
        "output_tokens_max": 64,
    });
    world.publish(vec![put(Kind::Route, "cheap", both)]);
    let reply = world
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await;
    assert_eq!(reply.ok()["x_sim"]["salted"], true);
    assert_eq!(reply.header("partywall-downgraded-from"), Some("metered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_the_same_idempotency_key_of_two_tenants_is_two_keys() {
    let world = World::new().await;
    let call = async |owner: &str| {
        let request = post(owner, CHAT).header("idempotency-key", "order-1");
        let body = chat("sim-small", "hi").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    let first = call("acme").await;
    let other = call("globex").await;
    assert_eq!(other.status, StatusCode::OK);
    assert!(other.header("idempotency-replayed").is_none());
    assert_ne!(first.ok()["x_sim"]["call"], other.ok()["x_sim"]["call"]);
    assert_eq!(call("acme").await.body, first.body);
    assert_eq!(call("globex").await.body, other.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_the_same_session_of_two_tenants_is_two_sessions() {
    let one_call = json!({"subject": "each:session", "limit": "100", "calls_max": 1});
    let setup = Setup::new().await;
    let world = setup
        .put_in(ACME, Kind::Budget, "conversation", one_call.clone())
        .put_in(GLOBEX, Kind::Budget, "conversation", one_call)
        .start()
        .await;
    let call = async |owner: &str| {
        let request = post(owner, CHAT).header("partywall-session", "same");
        let body = chat("sim-small", "hi").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    call("acme").await.ok();
    call("globex").await.ok();
    call("acme").await.refused(429, "insufficient_quota");
    call("globex").await.refused(429, "insufficient_quota");
}

/// A tenant that fills all that is its own leaves the other's calls as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_a_tenant_at_its_limits_does_not_use_up_anothers() {
    let one = json!({"subject": "tenant", "concurrency": 1, "requests_per_minute": 5});
    let setup = Setup::new().await.put_in(ACME, Kind::Limit, "slow", one);
    let tier = json!({"wait_ms_max": 0});
    let world = setup.put(Kind::Tier, "free", tier).start().await;
    let refused = AtomicUsize::new(0);
    for _ in 0..10 {
        let reply = world.client.chat("acme", "hi").await;
        refused.fetch_add(
            usize::from(reply.status != StatusCode::OK),
            Ordering::Relaxed,
        );
        world.client.chat("globex", "hi").await.ok();
    }
    assert_eq!(refused.into_inner(), 5);
}

/// Tenants of one owner share an engine's prefixes while both say so, and the owner's tenants
/// alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_prefix_is_shared_while_both_have_opted_in() {
    let group = json!({"members": ["acme", "globex"]});
    let opted = || json!({"sharing_group": "owner"});
    let setup = Setup::new()
        .await
        .put(Kind::SharingGroup, "owner", group)
        .put_in(ACME, Kind::Config, "config", opted());
    let world = setup.start().await;
    let prompt = "You are a careful assistant of a company that likes prefixes. ".repeat(16);
    let call = async |owner: &str| {
        let answer = world.client.chat(owner, &prompt).await.ok();
        let salt = world.last_body()["cache_salt"].as_str().unwrap().to_owned();
        (cached(&answer) > 100, salt)
    };
    let (_, own) = call("acme").await;
    let (is_found, other) = call("globex").await;
    assert!(
        !is_found && own != other,
        "one has opted in, and one has not"
    );
    world.publish(vec![put_in(GLOBEX, Kind::Config, "config", opted())]);
    let (is_found, shared) = call("acme").await;
    assert!(!is_found && shared != own, "what it had alone stays alone");
    assert_eq!(call("globex").await, (true, shared.clone()));
    // Who leaves finds its own, and leaves nothing behind that the other could find.
    world.publish(vec![put_in(GLOBEX, Kind::Config, "config", json!({}))]);
    assert_eq!(call("globex").await, (true, other));
    assert_eq!(call("acme").await, (true, own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_finds_nothing_again() {
    let world = World::new().await;
    let prompt = "You are a careful assistant of a company that likes prefixes. ".repeat(16);
    let call = async || cached(&world.client.chat("acme", &prompt).await.ok());
    assert_eq!(call().await, 0);
    assert!(call().await > 100);
    let next = json!({"id": ACME, "tier": "free", "salt_epoch": 1});
    world.publish(vec![put(Kind::Tenant, "acme", next)]);
    assert_eq!(call().await, 0);
    assert!(call().await > 100);
}
