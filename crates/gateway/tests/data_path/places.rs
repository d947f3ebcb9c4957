//! Who gets an upstream's places where there are fewer of them than calls.

use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{GLOBEX, put, upstream, with};
use crate::world::client::{CHAT, Reply, body, chat, post, until};
use crate::world::{Setup, World};

/// A world whose engine takes so many calls at once, with these fields of the tier besides.
async fn world(places: u32, tier: Value) -> World {
    let setup = Setup::new().await;
    let narrow = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"concurrency_max": places}),
    );
    let tier = with(json!({"wait_ms_max": 10_000}), tier);
    setup
        .put(Kind::Upstream, "engine", narrow)
        .put(Kind::Tier, "free", tier)
        .start()
        .await
}

async fn say(world: &World, owner: &str, text: &str, priority: &str) -> Reply {
    let request = post(owner, CHAT).header("partywall-priority", priority);
    let request = request.body(body(&chat("sim-small", text))).unwrap();
    world.client.exchange(request).await
}

async fn until_waiting(world: &World, owner: &str, calls: u32) {
    let series = format!("partywall_waiting_calls{{tenant=\"{owner}\"}} {calls}\n");
    until(|| world.gateway.metrics().text().contains(&series)).await;
}

/// What the engine was asked, in its order.
fn asked(world: &World) -> Vec<String> {
    let recorded = world.engine.observed().recorded;
    let text = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let content = body["messages"].as_array().unwrap().last().unwrap()["content"].clone();
        content.as_str().unwrap().to_owned()
    };
    recorded.iter().map(|request| text(&request.body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_later_with_less_does_not_wait_for_all_who_came_before() {
    let world = world(1, json!({})).await;
    let acme = async |text: &'static str| say(&world, "acme", text, "interactive").await.ok();
    let busy = async {
        let rest = async {
            until(|| world.engine.observed().running == 1).await;
            tokio::join!(acme("2"), acme("3"), acme("4"), acme("5"))
        };
        tokio::join!(acme("[[fault:delay=1s]]1"), rest)
    };
    let later = async {
        until_waiting(&world, "acme", 4).await;
        say(&world, "globex", "later", "interactive").await.ok()
    };
    tokio::join!(busy, later);
    let order = asked(&world);
    // Within a call's cost of each other two count as equal: it goes before the last, at least.
    let position = order.iter().position(|text| text == "later").unwrap();
    assert!(order.len() == 6 && position <= 3, "{order:?}");
    assert_eq!(world.engine.observed().running_max, 1);
    let text = world.gateway.metrics().text();
    assert!(text.contains("partywall_queue_wait_seconds_count{tenant=\"acme\"} 4\n"));
    assert!(text.contains("partywall_queue_position_count{tenant=\"globex\"} 1\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_can_lower_its_band_and_go_after_others() {
    let world = world(1, json!({})).await;
    let busy = say(&world, "acme", "[[fault:delay=1s]]1", "interactive");
    let low = async {
        until(|| world.engine.observed().running == 1).await;
        say(&world, "acme", "low", "background").await.ok()
    };
    let high = async {
        until_waiting(&world, "acme", 1).await;
        say(&world, "acme", "high", "interactive").await.ok()
    };
    let (busy, ..) = tokio::join!(busy, low, high);
    busy.ok();
    assert_eq!(asked(&world)[1..], ["high", "low"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_cap_leaves_places_to_others() {
    let world = world(4, json!({"upstream_concurrency_max": 1})).await;
    let slow = async || {
        say(&world, "acme", "[[fault:delay=1s]]", "interactive")
            .await
            .ok()
    };
    let other = async {
        until_waiting(&world, "acme", 1).await;
        say(&world, "globex", "hi", "interactive").await.ok();
        // Two of the four places were free all the while.
        assert_eq!(world.engine.observed().requests, 2);
    };
    tokio::join!(slow(), slow(), other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reserved_place_is_kept_from_before_the_first_call() {
    let world = world(2, json!({})).await;
    world.publish(vec![
        put(
            Kind::Tier,
            "gold",
            json!({"upstream_concurrency_reserved": 1, "weight": 4}),
        ),
        put(
            Kind::Tenant,
            "globex",
            json!({"id": GLOBEX, "tier": "gold"}),
        ),
    ]);
    let slow = async || {
        say(&world, "acme", "[[fault:delay=1s]]", "interactive")
            .await
            .ok()
    };
    let other = async {
        until_waiting(&world, "acme", 1).await;
        // It is on its way there while the second one waits already.
        until(|| world.engine.observed().requests == 1).await;
        say(&world, "globex", "hi", "interactive").await.ok();
        assert_eq!(world.engine.observed().requests, 2);
    };
    tokio::join!(slow(), slow(), other);
    // What is no longer reserved is everybody's.
    let free = json!({"id": GLOBEX, "tier": "free"});
    world.publish(vec![put(Kind::Tenant, "globex", free)]);
    tokio::join!(slow(), slow());
    assert_eq!(world.engine.observed().running_max, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_schedules_is_told_the_band() {
    let mut setup = Setup::new().await;
    setup.engine.scheduling = simulator::Scheduling::Priority;
    let engine = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"priority_scheduling": true}),
    );
    let world = setup.put(Kind::Upstream, "engine", engine).start().await;
    let unknown = say(&world, "acme", "hi", "urgent").await;
    unknown.refused(400, "invalid_header");
    for (tier, said, sent) in [
        ("interactive", "interactive", 0),
        ("interactive", "background", 2),
        ("standard", "interactive", 1),
        ("background", "standard", 2),
    ] {
        world.publish(vec![put(Kind::Tier, "free", json!({"priority": tier}))]);
        say(&world, "acme", "hi", said).await.ok();
        assert_eq!(world.last_body()["priority"], sent, "{tier} {said}");
    }
    let mut message = chat("sim-small", "hi");
    message["max_tokens"] = json!(8);
    let translated = world.client.post("acme", "/v1/messages", &message).await;
    assert_eq!(translated.status, 200, "{}", translated.text());
    assert_eq!(world.last_body()["priority"], 2);
}

/// One tenant's line is full: its next call is refused at once, and a neighbour's still waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_line_has_an_end() {
    /// As many as one tenant may have waiting at an upstream.
    const WAITING: usize = 256;
    let world = std::sync::Arc::new(world(1, json!({"wait_ms_max": 60_000})).await);
    let calls = base::Supervisor::new();
    let begin = |owner: &'static str, text: &'static str| {
        let world = std::sync::Arc::clone(&world);
        calls.spawn(async move { drop(say(&world, owner, text, "interactive").await) });
    };
    begin("acme", "[[fault:hang]]");
    until(|| world.engine.observed().running == 1).await;
    for _ in 0..WAITING {
        begin("acme", "hi");
    }
    until_waiting(&world, "acme", 256).await;
    let refused = say(&world, "acme", "hi", "interactive").await;
    refused.refused(429, "queue_full");
    assert!(refused.header("retry-after").is_some());
    begin("globex", "hi");
    until_waiting(&world, "globex", 1).await;
    world.gateway.drain(std::time::Duration::ZERO).await;
}

/// It begins with sixteen places, and has fewer once the engine says that it has too much to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_refuses_gets_fewer_calls_at_once() {
    let setup = Setup::new().await;
    let adaptive = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"adaptive_concurrency": "on"}),
    );
    let world = setup
        .put(Kind::Upstream, "engine", adaptive)
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .start()
        .await;
    let places = |number: u32| {
        let series = format!("partywall_upstream_places{{upstream=\"engine\"}} {number}\n");
        until({
            let world = &world;
            move || world.gateway.metrics().text().contains(&series)
        })
    };
    places(16).await;
    say(&world, "acme", "[[fault:status=503]]", "interactive")
        .await
        .refused(429, "upstream_busy");
    places(11).await;
}
