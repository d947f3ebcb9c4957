//! One upstream, several engines: who gets which call, and what happens when one goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Supervisor, SystemClock};
use gateway::EndpointState;
use serde_json::{Value, json};
use simulator::{Engine, EngineConfig, Timing};
use tenancy::catalogue::Kind;
use tokio::net::TcpListener;

use crate::world::catalogue::{put, route, upstream, with};
use crate::world::client::{CHAT, Reply, chat, until};
use crate::world::{Setup, World, scripted};

/// An engine of the group, apart from the others.
struct Replica {
    engine: Engine,
    address: SocketAddr,
    tasks: Supervisor,
}

impl Replica {
    async fn start(config: EngineConfig) -> Self {
        Self::start_at("127.0.0.1:0", config).await
    }

    async fn start_at(address: &str, config: EngineConfig) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new(config, Arc::new(SystemClock::new()));
        let tasks = Supervisor::new();
        let (serving, connections) = (engine.clone(), tasks.clone());
        tasks.spawn(async move { serving.serve(listener, connections).await });
        Self {
            engine,
            address,
            tasks,
        }
    }

    /// As if its machine had lost power: every connection breaks, and none is taken.
    async fn die(&self) {
        self.tasks.drain(Duration::ZERO).await;
    }

    fn requests(&self) -> u64 {
        self.engine.observed().requests
    }
}

async fn three(config: &EngineConfig) -> [Replica; 3] {
    let start = || Replica::start(config.clone());
    [start().await, start().await, start().await]
}

/// A group without a place of its own: `endpoints` alone says where it is.
fn group(endpoints: Value) -> Value {
    let spec = upstream("http://engine.internal/v1", "sim");
    with(spec, json!({"endpoints": endpoints}))
}

fn addresses(replicas: &[Replica]) -> Value {
    let addresses = replicas.iter().map(|replica| replica.address.to_string());
    json!({"static": addresses.collect::<Vec<_>>()})
}

/// A world whose `m` is served by a group.
async fn world(spec: Value) -> World {
    prepare(spec).await.start().await
}

async fn prepare(spec: Value) -> Setup {
    Setup::new().await.put(Kind::Upstream, "group", spec).put(
        Kind::Route,
        "m",
        route("group", "sim-small"),
    )
}

async fn call(world: &World, text: &str) -> Reply {
    world.client.post("acme", CHAT, &chat("m", text)).await
}

/// The states of the group's endpoints, by address.
fn states(world: &World) -> BTreeMap<String, EndpointState> {
    let status = world.gateway.upstream_status("group").unwrap();
    let all = status.endpoints.into_iter();
    all.map(|it| (it.address, it.state)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_spread_and_the_places_are_the_sum() {
    let replicas = three(&EngineConfig::default()).await;
    let spec = with(group(addresses(&replicas)), json!({"concurrency_max": 7}));
    let world = world(spec).await;
    for _ in 0..30 {
        call(&world, "hi").await.ok();
    }
    assert_eq!(replicas.each_ref().map(Replica::requests), [10; 3]);
    let status = world.gateway.upstream_status("group").unwrap();
    assert_eq!((status.places, status.calls_under_way), (21, 0));
    assert!(status.endpoints.iter().all(|it| it.calls_under_way == 0));
    // The engines see the group's name, not their own address.
    assert_eq!(world.engine.observed().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dies_and_no_call_fails() {
    let replicas = three(&EngineConfig::default()).await;
    let world = world(group(addresses(&replicas))).await;
    for _ in 0..9 {
        call(&world, "hi").await.ok();
    }
    replicas[1].die().await;
    for _ in 0..60 {
        call(&world, "hi").await.ok();
    }
    let dead = replicas[1].address.to_string();
    let series = |state: &str, count: u32| {
        format!("partywall_upstream_endpoints{{upstream=\"group\",state=\"{state}\"}} {count}\n")
    };
    until(|| {
        let metrics = world.gateway.metrics().text();
        metrics.contains(&series("unreachable", 1)) && metrics.contains(&series("healthy", 2))
    })
    .await;
    assert!(states(&world).contains_key(&dead));
    let [first, _, third] = replicas.each_ref().map(Replica::requests);
    assert_eq!(first + third, 6 + 60);
    assert!(first.abs_diff(third) <= 6, "{first} and {third}");
    // Nobody waits in line for the places of the dead one.
    until(|| world.gateway.upstream_status("group").unwrap().places == 2 * 1_024).await;
}

/// Nobody is there any more: an error says so, and a call that comes later is served again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_without_anybody_is_a_clear_failure() {
    let replica = Replica::start(EngineConfig::default()).await;
    replica.die().await;
    let endpoints = json!({"static": [replica.address.to_string()]});
    let world = world(group(endpoints)).await;
    call(&world, "hi").await.refused(502, "upstream_failed");
    let listener = TcpListener::bind(replica.address).await.unwrap();
    let (engine, tasks) = (replica.engine.clone(), Supervisor::new());
    let connections = tasks.clone();
    tasks.spawn(async move { engine.serve(listener, connections).await });
    call(&world, "hi").await.ok();
}

/// A name leads elsewhere: new calls go there, and the one under way goes on to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_followed_and_who_left_finishes_its_calls() {
    let slow = EngineConfig {
        timing: Timing {
            token_micros: 100_000,
            ..Timing::default()
        },
        ..EngineConfig::default()
    };
    let old = Replica::start_at("127.0.0.2:0", slow).await;
    let port = old.address.port();
    let new = Replica::start_at(&format!("127.0.0.3:{port}"), EngineConfig::default()).await;
    let name = format!("engine.internal:{port}");
    let setup = prepare(group(json!({"dns": {"name": name, "every_ms": 1_000}}))).await;
    setup.network.name("engine.internal", &["127.0.0.2"]);
    let world = setup.start().await;
    let long = chat("m", "Count. [[tokens:40]]");
    let client = world.client.clone();
    let (stream, ()) = tokio::join!(client.stream("acme", CHAT, &long), async {
        until(|| old.engine.observed().running == 1).await;
        world.network.name("engine.internal", &["127.0.0.3"]);
        until(|| states(&world).contains_key(&new.address.to_string())).await;
        assert_eq!(states(&world).len(), 1);
        for _ in 0..5 {
            call(&world, "hi").await.ok();
        }
        assert_eq!(old.engine.observed().running, 1, "it is not cut");
    });
    assert!(stream.is_done && !stream.is_broken);
    assert_eq!((old.requests(), new.requests()), (1, 5));
}

/// Private addresses need the operator's word, whoever names them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_not_followed() {
    let replica = Replica::start_at("127.0.0.2:0", EngineConfig::default()).await;
    let port = replica.address.port();
    let names = json!({"dns": {"name": format!("engine.internal:{port}"), "every_ms": 1_000}});
    let listed = json!({"static": [replica.address.to_string()]});
    for endpoints in [names, listed] {
        let spec = with(group(endpoints), json!({"allow_private_address": false}));
        let setup = prepare(spec).await;
        setup.network.name("engine.internal", &["127.0.0.2"]);
        let world = setup.start().await;
        call(&world, "hi").await.refused(502, "upstream_failed");
        assert!(!world.network.has_connected(port));
    }
    assert_eq!(replica.requests(), 0);
}

/// Another replica's list by a new version of the catalogue: who stays keeps its connections, and
/// its calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_list_keeps_who_stays() {
    let replicas = three(&EngineConfig::default()).await;
    let world = world(group(addresses(&replicas[..2]))).await;
    for _ in 0..4 {
        call(&world, "hi").await.ok();
    }
    let first = replicas[0].address.port();
    assert_eq!(world.network.connections(first), 1);
    let next = [&replicas[0], &replicas[2]].map(|it| it.address.to_string());
    let next = group(json!({"static": next}));
    world.publish(vec![put(Kind::Upstream, "group", next)]);
    for _ in 0..4 {
        call(&world, "hi").await.ok();
    }
    assert_eq!(replicas.each_ref().map(Replica::requests), [4, 2, 2]);
    assert_eq!(world.network.connections(first), 1, "the same connection");
}

/// A conversation goes where its beginning is warm; another tenant's with the same words finds
/// nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_where_it_is_warm() {
    let replicas = three(&EngineConfig::default()).await;
    let world = world(group(addresses(&replicas))).await;
    let opening = |number: usize| format!("{number} {}", "Once upon a time. ".repeat(80));
    let turn = async |owner: &str, number: usize, turns: usize| {
        let mut messages = vec![json!({"role": "system", "content": opening(number)})];
        for turn in 0..turns {
            messages.push(json!({"role": "user", "content": format!("What then, {turn}?")}));
            messages.push(json!({"role": "assistant", "content": "They lived."}));
        }
        messages.push(json!({"role": "user", "content": "And?"}));
        let body = json!({"model": "m", "messages": messages});
        let reply = world.client.post(owner, CHAT, &body).await;
        let usage = &reply.ok()["usage"]["prompt_tokens_details"];
        usage["cached_tokens"].as_u64().unwrap()
    };
    for turns in 0..5 {
        for number in 0..7 {
            let cached = turn("acme", number, turns).await;
            assert_eq!(cached > 300, turns > 0, "{cached} of {number} at {turns}");
        }
    }
    let requests = replicas.each_ref().map(Replica::requests);
    assert!(requests.iter().all(|count| *count >= 5), "{requests:?}");
    for number in 0..7 {
        assert_eq!(turn("globex", number, 4).await, 0);
    }
}

/// Warmth is a tie-break: a crowd with one beginning does not stand before one replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_replica_is_not_overrun() {
    let slow = EngineConfig {
        timing: Timing {
            token_micros: 50_000,
            ..Timing::default()
        },
        ..EngineConfig::default()
    };
    let replicas = three(&slow).await;
    let world = Arc::new(world(group(addresses(&replicas))).await);
    let text = format!("{} [[tokens:30]]", "Once upon a time. ".repeat(80));
    let crowd = Supervisor::new();
    for _ in 0..30 {
        let (world, text) = (Arc::clone(&world), text.clone());
        crowd.spawn(async move { drop(call(&world, &text).await.ok()) });
    }
    until(|| replicas.iter().map(Replica::requests).sum::<u64>() == 30).await;
    let requests = replicas.each_ref().map(Replica::requests);
    assert!(
        requests.iter().all(|count| (7..=13).contains(count)),
        "{requests:?}"
    );
    crowd.drain(Duration::from_secs(30)).await;
}

/// What others send an engine is seen in its own figures, and counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_others_keep_busy_gets_less() {
    let slow = EngineConfig {
        timing: Timing {
            token_micros: 1_000_000,
            ..Timing::default()
        },
        ..EngineConfig::default()
    };
    let replicas = [
        Replica::start(slow).await,
        Replica::start(EngineConfig::default()).await,
    ];
    let spec = with(group(addresses(&replicas)), json!({"engine_metrics": {}}));
    // The same engine by a way of its own: for this gateway's group they are others' calls.
    let direct = upstream(&format!("http://{}/v1", replicas[0].address), "sim");
    let setup = prepare(spec)
        .await
        .put(Kind::Upstream, "direct", direct)
        .put(Kind::Route, "direct", route("direct", "sim-small"));
    let world = Arc::new(setup.start().await);
    let others = Supervisor::new();
    for _ in 0..6 {
        let world = Arc::clone(&world);
        others.spawn(async move {
            let body = chat("direct", "Count. [[tokens:60]]");
            drop(world.client.stream("acme", CHAT, &body).await);
        });
    }
    let busy = replicas[0].address.to_string();
    let reading = || {
        let status = world.gateway.upstream_status("group").unwrap();
        let endpoint = status.endpoints.into_iter().find(|it| it.address == busy);
        endpoint.unwrap()
    };
    until(|| reading().running == Some(6)).await;
    assert_eq!((reading().waiting, reading().calls_under_way), (Some(0), 0));
    assert!(reading().kv_use_permille.is_some());
    for _ in 0..10 {
        call(&world, "hi").await.ok();
    }
    assert_eq!(replicas.each_ref().map(Replica::requests), [6, 10]);
    others.drain(Duration::ZERO).await;
}

/// Who does not answer when it is asked how it is gets no calls, though it takes connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_fails_its_probes_is_left_out() {
    const SICK: &str =
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let well = Replica::start(EngineConfig::default()).await;
    let (sick, _) = scripted::sequence(&Supervisor::new(), &[SICK]).await;
    let endpoints = json!({"static": [well.address.to_string(), sick.to_string()]});
    let health = json!({"health": {"path": "/health", "every_ms": 1_000}});
    let world = world(with(group(endpoints), health)).await;
    until(|| states(&world)[&sick.to_string()] == EndpointState::Unhealthy).await;
    let well_address = well.address.to_string();
    assert_eq!(states(&world)[&well_address], EndpointState::Healthy);
    for _ in 0..20 {
        call(&world, "hi").await.ok();
    }
    assert_eq!(
        world.gateway.upstream_status("group").unwrap().open_tenants,
        0
    );
}

/// A tenant whose calls fail everywhere by its own fault takes no replica from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenants_failures_eject_nobody() {
    let replicas = three(&EngineConfig::default()).await;
    let world = world(group(addresses(&replicas))).await;
    for _ in 0..12 {
        let failing = chat("m", "[[fault:status=500]]");
        let reply = world.client.post("acme", CHAT, &failing).await;
        assert!([502, 503].contains(&reply.status.as_u16()));
    }
    for _ in 0..12 {
        let reply = world.client.post("globex", CHAT, &chat("m", "hi")).await;
        reply.ok();
    }
    let all = states(&world);
    assert!(
        all.values().all(|it| *it == EndpointState::Healthy),
        "{all:?}"
    );
}
