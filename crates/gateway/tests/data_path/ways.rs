//! Which of a route's targets a call goes to: by weight, tenant, tier and region.

use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, put, upstream, with};
use crate::world::client::{CHAT, chat};
use crate::world::{Setup, World};

/// The model that answers a call of the route `m`.
async fn model_for(world: &World, owner: &str) -> String {
    let answer = world.client.post(owner, CHAT, &chat("m", "hi")).await.ok();
    answer["model"].as_str().expect("a model").to_owned()
}

fn to(model: &str) -> Value {
    json!([{"upstream": "engine", "model": model}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_shared_out_by_weight() {
    let targets = json!([
        {"upstream": "engine", "model": "sim-small", "weight": 3},
        {"upstream": "engine", "model": "sim-large", "weight": 1},
    ]);
    let route = json!({"targets": targets, "output_tokens_max": 64});
    let world = Setup::new()
        .await
        .put(Kind::Route, "m", route)
        .start()
        .await;
    let mut small = 0;
    for _ in 0..200 {
        small += u32::from(model_for(&world, "acme").await == "sim-small");
    }
    // 150 expected; eight standard deviations (6.1) to either side.
    assert!((100..=199).contains(&small), "{small} of 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weighted_target_that_cannot_be_reached_falls_to_its_neighbour() {
    let dead = crate::world::scripted::dead_address().await;
    let targets = json!([
        {"upstream": "dead", "model": "sim-small", "weight": 1_000_000},
        {"upstream": "engine", "model": "sim-large", "weight": 1},
    ]);
    let dead = upstream(&format!("http://{dead}/v1"), "sim");
    let world = Setup::new()
        .await
        .put(Kind::Upstream, "dead", dead)
        .put(
            Kind::Route,
            "m",
            json!({"targets": targets, "output_tokens_max": 64}),
        )
        .start()
        .await;
    assert_eq!(model_for(&world, "acme").await, "sim-large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variant_for_the_tenant_comes_before_one_for_its_tier() {
    let route = json!({
        "targets": to("sim-embed"),
        "variants": [
            {"tiers": ["free"], "targets": to("sim-small")},
            {"tenants": ["globex", "not-there-yet"], "targets": to("sim-large")},
        ],
        "output_tokens_max": 64,
    });
    let world = Setup::new()
        .await
        .put(Kind::Route, "m", route)
        .start()
        .await;
    assert_eq!(model_for(&world, "acme").await, "sim-small");
    assert_eq!(model_for(&world, "globex").await, "sim-large");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_never_leaves_its_region() {
    let setup = Setup::new().await;
    let eu = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"region": "eu"}),
    );
    let targets = json!([
        {"upstream": "engine", "model": "sim-small"},
        {"upstream": "eu", "model": "sim-large"},
    ]);
    let world = setup
        .put(Kind::Upstream, "eu", eu)
        .put(
            Kind::Route,
            "m",
            json!({"targets": targets, "output_tokens_max": 64}),
        )
        .start()
        .await;
    assert_eq!(model_for(&world, "acme").await, "sim-small");
    let pin = |region: &str| {
        let pinned = json!({"id": ACME, "tier": "free", "region": region});
        world.publish(vec![put(Kind::Tenant, "acme", pinned)]);
    };
    pin("eu");
    assert_eq!(model_for(&world, "acme").await, "sim-large");
    assert_eq!(model_for(&world, "globex").await, "sim-small");
    pin("mars");
    let refused = world.client.post("acme", CHAT, &chat("m", "hi")).await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("in your region"),
        "{}",
        refused.text()
    );
}
