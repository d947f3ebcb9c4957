//! Tenants' own LoRA adapters in an engine's few slots.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{
    ACME, GLOBEX, key, output_price, put, put_in, remove_in, upstream, with,
};
use crate::world::client::{CHAT, Client, Reply, body, chat, post, until};
use crate::world::{Setup, World};

const BASE: &str = "sim-small";

fn adapter(owner: &str, name: &str) -> Value {
    let location = format!("/adapters/{owner}/{name}");
    json!({"base": BASE, "source": {"reference": {"location": location, "revision": "1"}}})
}

/// An engine with two slots; `one`, `two` and `three` of acme's, `one` of globex's.
async fn setup() -> Setup {
    let mut setup = Setup::new().await;
    setup.engine.lora_slots = 2;
    setup.engine.record_requests = 512;
    let tuned = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"adapters": {"slots": 2}}),
    );
    let tier = json!({
        "wait_ms_max": 10_000,
        "adapters": {"references": ["/adapters/{tenant}/"]},
    });
    setup
        .put(Kind::Tier, "free", tier)
        .put(Kind::Upstream, "engine", tuned)
        .put_in(ACME, Kind::Adapter, "one", adapter("acme", "one"))
        .put_in(ACME, Kind::Adapter, "two", adapter("acme", "two"))
        .put_in(ACME, Kind::Adapter, "three", adapter("acme", "three"))
        .put_in(GLOBEX, Kind::Adapter, "one", adapter("globex", "one"))
}

async fn world() -> World {
    setup().await.start().await
}

async fn say(world: &World, owner: &str, model: &str, text: &str) -> Reply {
    world.client.post(owner, CHAT, &chat(model, text)).await
}

/// The bodies that the engine was sent at paths that end so, in order.
fn sent(world: &World, path: &str) -> Vec<Value> {
    let recorded = world.engine.observed().recorded;
    let there = recorded
        .iter()
        .filter(|request| request.path.ends_with(path));
    there
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

/// What was loaded, by its path, in order.
fn loads(world: &World) -> Vec<String> {
    let paths = sent(world, "/load_lora_adapter").into_iter();
    let paths = paths.filter(|body| body.get("lora_path").is_some());
    paths
        .map(|body| body["lora_path"].as_str().unwrap().to_owned())
        .collect()
}

/// The engine's name of what was loaded from a path last.
fn engine_name(world: &World, path: &str) -> String {
    let loads = sent(world, "/load_lora_adapter");
    let load = loads.iter().rfind(|body| body["lora_path"] == path);
    load.unwrap()["lora_name"].as_str().unwrap().to_owned()
}

/// Paths of the adapters that the engine has now.
fn loaded(world: &World) -> Vec<String> {
    let names = world.engine.observed().adapters;
    let all = sent(world, "/load_lora_adapter");
    let path = |name: &String| {
        let load = all
            .iter()
            .rfind(|body| body["lora_name"] == **name && body.get("lora_path").is_some());
        load.unwrap()["lora_path"].as_str().unwrap().to_owned()
    };
    let mut paths: Vec<String> = names.iter().map(path).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_is_loaded_when_it_is_called_and_keeps_its_tenants_name() {
    let world = world().await;
    let answer = say(&world, "acme", "one", "hi").await.ok();
    assert_eq!(answer["model"], "one");
    let name = engine_name(&world, "/adapters/acme/one");
    assert!(name.starts_with("pwa-") && name.len() == 47, "{name}");
    let loaded = world.engine.observed().adapters;
    assert_eq!(loaded, std::slice::from_ref(&name));
    assert_eq!(sent(&world, "/chat/completions")[0]["model"], *name);
    // Streamed, and in another dialect, nothing tells the engine's name either.
    let events = world.client.stream("acme", CHAT, &chat("one", "hi")).await;
    assert!(events.is_done && events.json()[0]["model"] == "one");
    assert!(events.frames.iter().all(|frame| !frame.contains("pwa-")));
    let message = json!({
        "model": "one", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}],
    });
    let message = world.client.post("acme", "/v1/messages", &message).await;
    assert_eq!(message.ok()["model"], "one");
    assert_eq!(loads(&world), ["/adapters/acme/one"], "once is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapter_that_was_used_least_recently_makes_room() {
    let world = world().await;
    for model in ["one", "two", "one", "three"] {
        say(&world, "acme", model, "hi").await.ok();
    }
    assert_eq!(
        loaded(&world),
        ["/adapters/acme/one", "/adapters/acme/three"]
    );
    say(&world, "acme", "two", "hi").await.ok();
    assert_eq!(
        loaded(&world),
        ["/adapters/acme/three", "/adapters/acme/two"]
    );
    assert_eq!(loads(&world).len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_with_calls_under_way_is_not_unloaded() {
    let world = world().await;
    let freed = tokio::sync::Notify::new();
    let unending = async |model: &'static str| {
        tokio::select! {
            _ = say(&world, "acme", model, "[[fault:hang]]") => {}
            () = freed.notified() => {}
        }
    };
    let both_run = || until(|| world.engine.observed().running == 2);
    let third = async {
        both_run().await;
        say(&world, "acme", "three", "hi").await.ok();
    };
    let watch = async {
        both_run().await;
        // Time in which a shelf that does not look would unload one of them.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(sent(&world, "/unload_lora_adapter").is_empty());
        freed.notify_one();
    };
    let rest = async {
        tokio::join!(third, watch);
        freed.notify_one();
    };
    tokio::join!(unending("one"), unending("two"), rest);
    assert_eq!(sent(&world, "/unload_lora_adapter").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_together_share_one_load() {
    let world = world().await;
    let call = || say(&world, "acme", "one", "hi");
    let (a, b, c, d) = tokio::join!(call(), call(), call(), call());
    [a, b, c, d].iter().for_each(|reply| drop(reply.ok()));
    assert_eq!(loads(&world).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_asks_for_ever_new_adapters_pushes_out_its_own() {
    let world = world().await;
    say(&world, "globex", "one", "hi").await.ok();
    for _ in 0..4 {
        for model in ["one", "two", "three"] {
            say(&world, "acme", model, "hi").await.ok();
        }
    }
    say(&world, "globex", "one", "hi").await.ok();
    let neighbours = loads(&world);
    let neighbours = neighbours.iter().filter(|path| path.contains("globex"));
    assert_eq!(neighbours.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_never_rests_gives_way_to_a_neighbour() {
    let world = world().await;
    let is_served = std::sync::atomic::AtomicBool::new(false);
    let hog = async |model: &'static str| {
        while !is_served.load(std::sync::atomic::Ordering::SeqCst) {
            say(&world, "acme", model, "[[fault:delay=300ms]]")
                .await
                .ok();
        }
    };
    let neighbour = async {
        until(|| world.engine.observed().running >= 2).await;
        say(&world, "globex", "one", "hi").await.ok();
        is_served.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    // Two of each, so that neither adapter is ever without a call.
    let one = async { tokio::join!(hog("one"), hog("one")) };
    let two = async { tokio::join!(hog("two"), hog("two")) };
    tokio::join!(one, two, neighbour);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_1_anothers_adapter_is_the_404_of_one_that_is_not_there() {
    let world = world().await;
    say(&world, "acme", "two", "hi").await.ok();
    let engines = engine_name(&world, "/adapters/acme/two");
    let absent = say(&world, "globex", "nothing", "hi").await;
    absent.refused(404, "model_not_found");
    for foreign in ["two", engines.as_str(), "/adapters/acme/two"] {
        let refused = say(&world, "globex", foreign, "hi").await;
        assert_eq!(refused.status, absent.status);
        assert_eq!(refused.text(), absent.text().replace("nothing", foreign));
    }
    // Not even its owner says the engine's name.
    say(&world, "acme", &engines, "hi")
        .await
        .refused(404, "model_not_found");
    let names = async |owner: &str| {
        let list = world.client.get(owner, "/v1/models").await.ok();
        let data = list["data"].as_array().unwrap().clone();
        let names: Vec<_> = data.iter().map(|model| model["id"].clone()).collect();
        names
    };
    let (acmes, globexs) = (names("acme").await, names("globex").await);
    assert!(
        ["one", "two", "three"]
            .iter()
            .all(|name| acmes.contains(&json!(name)))
    );
    assert!(globexs.contains(&json!("one")) && !globexs.contains(&json!("two")));
    world.client.get("acme", "/v1/models/two").await.ok();
    let refused = world.client.get("globex", "/v1/models/two").await;
    refused.refused(404, "model_not_found");
    assert!(
        world
            .client
            .get("globex", "/v1/models/one")
            .await
            .status
            .is_success()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_the_same_name_of_two_tenants_is_two_adapters_with_two_salts() {
    let shared = json!({"base": BASE, "source": {"reference": {"location": "hub/tone"}}});
    let tier = json!({"adapters": {"references": ["hub/tone"]}});
    let world = setup()
        .await
        .put(Kind::Tier, "own", tier)
        .put(Kind::Tenant, "acme", json!({"id": ACME, "tier": "own"}))
        .put(Kind::Tenant, "globex", json!({"id": GLOBEX, "tier": "own"}))
        .put_in(ACME, Kind::Adapter, "one", shared.clone())
        .put_in(GLOBEX, Kind::Adapter, "one", shared.clone());
    let world = only(world, &["one"]).start().await;
    say(&world, "acme", "one", "hi").await.ok();
    say(&world, "globex", "one", "hi").await.ok();
    let moved = with(
        shared,
        json!({"source": {"reference": {"location": "hub/tone", "revision": "2"}}}),
    );
    world.publish(vec![put_in(ACME, Kind::Adapter, "one", moved)]);
    say(&world, "acme", "one", "hi").await.ok();
    say(&world, "acme", BASE, "hi").await.ok();
    let calls = sent(&world, "/chat/completions");
    for field in ["model", "cache_salt"] {
        let all: std::collections::BTreeSet<_> = calls
            .iter()
            .map(|call| call[field].as_str().unwrap())
            .collect();
        assert_eq!(all.len(), 4, "{field}: {all:?}");
    }
}

/// Keeps the adapters of these names alone.
fn only(mut setup: Setup, names: &[&str]) -> Setup {
    setup.changes.retain(|change| {
        change.address.kind != Kind::Adapter || names.contains(&change.address.name.as_str())
    });
    let mut seen = std::collections::HashSet::new();
    // The last that was put of each.
    setup.changes.reverse();
    setup.changes.retain(|change| {
        change.address.kind != Kind::Adapter || seen.insert(change.address.clone())
    });
    setup.changes.reverse();
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tenant_no_longer_has_is_unloaded() {
    let world = world().await;
    say(&world, "acme", "one", "hi").await.ok();
    say(&world, "globex", "one", "hi").await.ok();
    world.publish(vec![remove_in(ACME, Kind::Adapter, "one")]);
    until(|| world.engine.observed().adapters.len() == 1).await;
    assert_eq!(loaded(&world), ["/adapters/globex/one"]);
    say(&world, "acme", "one", "hi")
        .await
        .refused(404, "model_not_found");
    let suspended = json!({"id": GLOBEX, "tier": "free", "suspended": true});
    world.publish(vec![put(Kind::Tenant, "globex", suspended)]);
    until(|| world.engine.observed().adapters.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_began_anew_is_told_again() {
    let world = world().await;
    say(&world, "acme", "one", "hi").await.ok();
    say(&world, "acme", "two", "hi").await.ok();
    // As a restart does, nobody having told the gateway.
    for path in ["/adapters/acme/one", "/adapters/acme/two"] {
        let address = world
            .engine_url
            .trim_start_matches("http://")
            .trim_end_matches("/v1");
        let engine = Client {
            address: address.parse().unwrap(),
            supervisor: world.client.supervisor.clone(),
        };
        let name = json!({"lora_name": engine_name(&world, path)});
        let request: Request<Full<Bytes>> = post("nobody", "/v1/unload_lora_adapter")
            .body(body(&name))
            .unwrap();
        assert!(engine.exchange(request).await.status.is_success());
    }
    assert!(world.engine.observed().adapters.is_empty());
    let answer = say(&world, "acme", "one", "hi").await.ok();
    assert_eq!(answer["model"], "one");
    world.client.stream("acme", CHAT, &chat("two", "hi")).await;
    assert_eq!(loads(&world).len(), 4);
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_cannot_be_loaded_harms_nobody_else() {
    let bad =
        json!({"base": BASE, "source": {"reference": {"location": "/adapters/acme/missing"}}});
    let world = setup()
        .await
        .put_in(ACME, Kind::Adapter, "bad", bad)
        .start()
        .await;
    for _ in 0..12 {
        let refused = say(&world, "acme", "bad", "hi").await;
        refused.refused(503, "adapter_failed");
        assert!(refused.header("retry-after").is_some());
        let text = refused.text();
        assert!(
            text.contains("`bad`") && !text.contains("/adapters"),
            "{text}"
        );
    }
    // The first was tried, the others waited for the next time; no breaker heard of any.
    assert_eq!(loads(&world).len(), 1);
    say(&world, "acme", "one", "hi").await.ok();
    say(&world, "acme", BASE, "hi").await.ok();
    say(&world, "globex", "one", "hi").await.ok();
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_can_name_no_adapter_of_their_own() {
    let world = world().await;
    for (field, value) in [
        ("adapter_id", "acme/other"),
        ("adapter_source", "hub"),
        ("lora_path", "/etc"),
        ("lora_name", "pwa-x"),
    ] {
        let call = with(chat("one", "hi"), json!({field: value}));
        let refused = world.client.post("acme", CHAT, &call).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    assert!(sent(&world, "/load_lora_adapter").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_costs_what_its_base_does_unless_it_has_a_price() {
    let price = output_price("0.02");
    let world = setup()
        .await
        .put(Kind::Price, "sim/adapters/acme/two", price)
        .start()
        .await;
    let cost =
        async |owner: &str, model: &str| say(&world, owner, model, "[[tokens:10]]").await.cost();
    assert_eq!(cost("acme", "one").await, cost("acme", BASE).await);
    assert_eq!(cost("acme", "two").await, "0.2".parse().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_name_adapters_and_tiers_name_what_they_sit_on() {
    let tier = json!({
        "models": ["vendor/sim-large"],
        "adapters": {"references": ["/adapters/{tenant}/"]},
    });
    let world = setup()
        .await
        .put_in(
            ACME,
            Kind::Key,
            "narrow",
            key("narrow", json!({"models": [BASE]})),
        )
        .put_in(
            ACME,
            Kind::Key,
            "tuned",
            key("tuned", json!({"models": ["one"]})),
        )
        .put(Kind::Tier, "large", tier)
        .start()
        .await;
    say(&world, "narrow", "one", "hi")
        .await
        .refused(404, "model_not_found");
    say(&world, "tuned", "one", "hi").await.ok();
    say(&world, "tuned", BASE, "hi")
        .await
        .refused(404, "model_not_found");
    // A name of a model that the tier has does not open one that it has not.
    let disguised = adapter("acme", "large");
    world.publish(vec![
        put(Kind::Tenant, "acme", json!({"id": ACME, "tier": "large"})),
        put_in(ACME, Kind::Adapter, "sim-large", disguised),
    ]);
    say(&world, "acme", "sim-large", "hi")
        .await
        .refused(404, "model_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_a_model_holds_for_the_adapters_on_it() {
    let limit = json!({"subject": "tenant", "model": BASE, "requests_per_minute": 1});
    let tier = json!({"wait_ms_max": 0, "adapters": {"references": ["/adapters/{tenant}/"]}});
    let world = setup()
        .await
        .put(Kind::Tier, "strict", tier)
        .put(Kind::Tenant, "acme", json!({"id": ACME, "tier": "strict"}))
        .put_in(ACME, Kind::Limit, "slow", limit)
        .start()
        .await;
    say(&world, "acme", BASE, "hi").await.ok();
    let refused = say(&world, "acme", "one", "hi").await;
    refused.refused(429, "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lorax_is_told_where_the_adapter_is_with_each_call() {
    let mut setup = setup().await;
    setup.engine.lora_by_call = true;
    let lorax = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": "lorax", "salting": "uncached", "adapters": {"slots": 1}}),
    );
    let world = setup.put(Kind::Upstream, "engine", lorax).start().await;
    assert_eq!(say(&world, "acme", "one", "hi").await.ok()["model"], "one");
    let message = json!({
        "model": "two", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}],
    });
    let message = world.client.post("acme", "/v1/messages", &message).await;
    assert_eq!(message.ok()["model"], "two");
    for (call, path) in sent(&world, "/chat/completions").iter().zip(["one", "two"]) {
        assert_eq!(call["model"], format!("/adapters/acme/{path}"));
        assert_eq!(call["adapter_source"], "local");
    }
    assert!(loads(&world).is_empty());
    say(&world, "globex", "two", "hi")
        .await
        .refused(404, "model_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_are_shown_without_names() {
    let world = world().await;
    say(&world, "acme", "one", "hi").await.ok();
    let shown = || world.gateway.metrics().text();
    let series = "partywall_adapter_loads_total{upstream=\"engine\",outcome=\"loaded\"} 1\n";
    until(|| shown().contains(series)).await;
    assert!(shown().contains("partywall_adapter_slots{upstream=\"engine\"} 2\n"));
    assert!(!shown().contains("pwa-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_of_an_earlier_revision_is_not_given_again() {
    let mut setup = setup().await;
    setup.engine.lora_by_call = true;
    let lorax = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": "lorax", "salting": "uncached", "adapters": {"slots": 2}}),
    );
    let keeps = json!({"cache": {"mode": "exact", "requests": "all"}});
    let world = setup
        .put(Kind::Upstream, "engine", lorax)
        .put_in(ACME, Kind::Config, "config", keeps)
        .start()
        .await;
    let cached = async || {
        let reply = say(&world, "acme", "one", "hi").await;
        assert_eq!(reply.ok()["model"], "one");
        reply.header("x-partywall-cache").unwrap().to_owned()
    };
    assert_eq!(cached().await, "miss");
    assert_eq!(cached().await, "hit");
    // LoRAX is told the same as before: the place is the same, and what is there is not.
    let mut moved = adapter("acme", "one");
    moved["source"]["reference"]["revision"] = json!("2");
    world.publish(vec![put_in(ACME, Kind::Adapter, "one", moved)]);
    assert_eq!(cached().await, "miss");
}
