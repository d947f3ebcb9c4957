//! Hops: calls of models that the gateway makes on the way of a request. Each is a call of the
//! same tenant, admitted, metered and settled like any other.

use base::PicoUsd;
use ledger::{Hop, Intent, Record};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, GLOBEX, key, put_in, upstream};
use crate::world::client::{CHAT, body, bounded, chat, post, until};
use crate::world::scripted::{self, Then};
use crate::world::{Setup, World};

const FLAGGED: &str = "How? [[flag:violence]]";

pub(crate) fn guardrail(looks_at: &str, check: Value) -> Value {
    json!({"looks_at": looks_at, "checks": [{"name": "it", "action": "block", "check": check}]})
}

fn moderation() -> Value {
    json!({"moderation": {"model": "moderator"}})
}

/// A world in which `acme` has this guardrail, and models that guard.
pub(crate) async fn guarded(spec: Value) -> Setup {
    let setup = Setup::new().await;
    let url = setup.engine_url();
    let route = |model: &str| json!({"targets": [{"upstream": "guards", "model": model}], "output_tokens_max": 64});
    let price = json!({"entries": [{
        "version": 1, "effective_from": "2020-01-01T00:00:00Z", "input": "0.000001", "output": "0.000004",
    }]});
    let free = json!({"entries": [{
        "version": 1, "effective_from": "2020-01-01T00:00:00Z", "input": "0", "output": "0", "request": "0.01",
    }]});
    setup
        .put(Kind::Upstream, "guards", upstream(&url, "guards"))
        .put(Kind::Route, "moderator", route("sim-large"))
        .put(Kind::Route, "judge", route("sim-small"))
        .put(Kind::Route, "embedder", route("sim-embed"))
        .put(Kind::Price, "guards/sim-large", free)
        .put(Kind::Price, "guards/sim-small", price.clone())
        .put(Kind::Price, "guards/sim-embed", price)
        .put_in(ACME, Kind::Guardrail, "wall", spec)
}

pub(crate) fn intents(records: &[Record]) -> Vec<&Intent> {
    let intents = records.iter().filter_map(|record| match record {
        Record::Intent(intent) => Some(&**intent),
        _ => None,
    });
    intents.collect()
}

pub(crate) fn settled(records: &[Record]) -> Vec<PicoUsd> {
    let settled = records.iter().filter_map(|record| match record {
        Record::Settled(settled) => Some(settled.cost),
        _ => None,
    });
    settled.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hop_is_a_line_of_its_own_with_its_parent() {
    let setup = guarded(guardrail("input", moderation())).await;
    let world = setup.start().await;
    let answer = world.client.chat("acme", "What is a wall?").await;
    answer.ok();
    let request = answer.header("x-request-id").unwrap().to_owned();
    world.quiet().await;
    let (records, _, report) = world.end().await;
    assert_eq!(report.faults, []);
    let intents = intents(&records);
    let [hop, call] = intents[..] else {
        panic!("{intents:?}")
    };
    assert_eq!((hop.hop, call.hop), (Hop::Guard, Hop::Generate));
    assert_eq!(hop.parent.map(|id| id.to_string()), Some(request.clone()));
    assert_eq!((call.parent, call.request.to_string()), (None, request));
    assert_eq!((hop.tenant, hop.key), (ACME, call.key));
    assert_eq!(hop.feature, call.feature);
    assert_eq!(hop.model.as_str(), "moderator");
    let costs = settled(&records);
    assert_eq!(costs[0], PicoUsd::new(10_000_000_000), "a cent a request");
    assert_eq!(costs.len(), 2);
}

/// So many guardrails of 32 checks, each of which asks a moderation.
async fn asked_often(guardrails: usize) -> Setup {
    let check = |number: usize| {
        json!({"name": format!("c{number}"), "action": "flag",
            "check": {"moderation": {"model": "moderator"}}})
    };
    let checks: Vec<Value> = (0..32).map(check).collect();
    let spec = json!({"looks_at": "input", "checks": checks});
    let mut setup = guarded(spec.clone()).await;
    for number in 1..guardrails {
        setup = setup.put_in(ACME, Kind::Guardrail, &format!("g{number}"), spec.clone());
    }
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_makes_256_hops_and_no_more() {
    for (guardrails, is_answered) in [(8, true), (9, false)] {
        let world = asked_often(guardrails).await.start().await;
        let reply = world.client.chat("acme", "hi").await;
        if is_answered {
            reply.ok();
        } else {
            reply.refused(503, "guardrail_failed");
        }
        // Another request has as many of its own.
        let again = world.client.chat("globex", "hi").await;
        again.ok();
        world.quiet().await;
        let (records, _, report) = world.end().await;
        assert_eq!(report.faults, []);
        let of_acme = intents(&records).into_iter().filter(|it| it.tenant == ACME);
        let hops = of_acme.filter(|it| it.hop == Hop::Guard).count();
        assert_eq!(hops, 256);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_moderation_flags_reaches_no_model() {
    let setup = guarded(guardrail("input", moderation())).await;
    let world = setup.start().await;
    let refused = world.client.chat("acme", FLAGGED).await;
    refused.refused(400, "content_blocked");
    let asked = world.engine.observed().recorded;
    assert_eq!(asked.len(), 1, "the moderation alone");
    assert!(asked[0].path.ends_with("/moderations"));
    world.client.chat("globex", FLAGGED).await.ok();
    let metrics = world.gateway.metrics().text();
    let calls = r#"partywall_calls_total{tenant="acme",outcome="completed"} 1"#;
    assert!(!metrics.contains(calls), "a hop is no call of a client's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_may_call_by_name_does_not_disarm_a_guard() {
    let setup = guarded(guardrail("input", moderation())).await;
    let narrow = key("narrow", json!({"models": ["sim-small"]}));
    let setup = setup.put_in(ACME, Kind::Key, "narrow", narrow);
    let world = setup.start().await;
    let refused = world.client.chat("narrow", FLAGGED).await;
    refused.refused(400, "content_blocked");
    let moderations = json!({"model": "moderator", "input": "x"});
    let path = "/v1/moderations";
    let refused = world.client.post("narrow", path, &moderations).await;
    refused.refused(404, "model_not_found");
    let found = world.client.post("acme", path, &moderations).await;
    assert_eq!(found.ok()["results"][0]["flagged"], false);
    // The tenant's own list holds for its hops, too.
    let config = json!({"models": ["sim-small"]});
    world.publish(vec![put_in(ACME, Kind::Config, "config", config)]);
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(503, "guardrail_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_has_no_room_for_a_hop_says_so() {
    // Less than a moderation costs.
    let budget = json!({"subject": "tenant", "limit": "0.005"});
    let spec = guardrail("input", moderation());
    let setup = guarded(spec.clone()).await;
    let setup = setup.put_in(ACME, Kind::Budget, "month", budget);
    let world = setup.start().await;
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(429, "insufficient_quota");
    assert!(refused.text().contains("`month`"), "{}", refused.text());
    assert_eq!(world.engine.observed().requests, 0);
    let mut open = spec;
    open["on_failure"] = json!("open");
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", open)]);
    world.client.chat("acme", "hi").await.ok();
    assert_eq!(world.engine.observed().requests, 1);
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_down_refuses_or_lets_go_as_its_tenant_chose() {
    let mut spec = guardrail("input", moderation());
    let dead = scripted::dead_address().await;
    let setup = guarded(spec.clone()).await;
    let gone = upstream(&format!("http://{dead}/v1"), "guards");
    let world = setup.put(Kind::Upstream, "guards", gone).start().await;
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(503, "guardrail_failed");
    assert_eq!(world.engine.observed().requests, 0);
    spec["on_failure"] = json!("open");
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", spec)]);
    world.client.chat("acme", "hi").await.ok();
    let metrics = world.gateway.metrics().text();
    let series = r#"partywall_guardrail_findings_total{tenant="acme",what="failed"} 2"#;
    assert!(metrics.contains(series), "{metrics}");
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_judge_is_asked_about_all_texts_at_once_and_obeys_none() {
    let check = json!({"judge": {"model": "judge", "question": "Does it ask for legal advice?"}});
    let world = guarded(guardrail("input", check)).await.start().await;
    // The engine says what the last marker tells it, as a judge does that is talked round.
    for (said, status) in [("yes", 400), (r"no", 200), ("I cannot say", 503)] {
        let text = format!("May I? [[say:{said}]]");
        let answer = world.client.chat("acme", &text).await;
        assert_eq!(answer.status, status, "{said}: {}", answer.text());
    }
    let asked = &world.engine.observed().recorded[0];
    let asked: Value = serde_json::from_slice(&asked.body).unwrap();
    let system = asked["messages"][0]["content"].as_str().unwrap();
    assert!(system.ends_with("Does it ask for legal advice?"));
    let user = asked["messages"][1]["content"].as_str().unwrap();
    let user: Value = serde_json::from_str(user).unwrap();
    assert_eq!(user, json!({"texts": ["May I? [[say:yes]]"]}));
    assert_eq!(asked["max_tokens"], 32, "{asked}");
    world.quiet().await;
    let (records, ..) = world.end().await;
    assert_eq!(intents(&records)[0].hop, Hop::Judge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_embedded_once_and_compared() {
    let topics = json!({"topics": {"model": "embedder", "threshold": 99,
        "denied": [{"name": "birds", "examples": ["blue falcon"]}]}});
    let world = guarded(guardrail("input", topics)).await.start().await;
    let refused = world.client.chat("acme", "blue falcon").await;
    refused.refused(400, "content_blocked");
    world
        .client
        .chat("acme", "What is a party wall?")
        .await
        .ok();
    let asked = world.engine.observed().recorded;
    let embedded = asked.iter().filter(|one| one.path.ends_with("/embeddings"));
    assert_eq!(embedded.count(), 3, "the examples once, and each text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_a_tenants_hops_are_its_own() {
    let spec = guardrail("input", moderation());
    let setup = guarded(spec.clone()).await;
    let setup = setup.put_in(GLOBEX, Kind::Guardrail, "wall", spec);
    let world = setup.start().await;
    world.client.chat("acme", "hi").await.ok();
    world.client.chat("globex", "hi").await.ok();
    let asked = world.engine.observed().recorded;
    let salts: Vec<String> = asked
        .iter()
        .filter(|one| one.path.ends_with("/moderations"))
        .map(|one| {
            let body: Value = serde_json::from_slice(&one.body).unwrap();
            body["cache_salt"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(salts.len(), 2);
    assert_ne!(salts[0], salts[1]);
    world.quiet().await;
    let (records, ..) = world.end().await;
    for intent in intents(&records) {
        let own = intents(&records)
            .into_iter()
            .filter(|other| other.tenant == intent.tenant && other.key == intent.key);
        assert_eq!(own.count(), 2, "{intent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_8_a_client_that_goes_takes_its_hops_with_it() {
    let supervisor = base::Supervisor::new();
    let silent = scripted::upstream(&supervisor, "", Then::Hang).await;
    let setup = guarded(guardrail("input", moderation())).await;
    let hanging = upstream(&format!("http://{silent}/v1"), "guards");
    let world: World = setup.put(Kind::Upstream, "guards", hanging).start().await;
    let request = post("acme", CHAT)
        .body(body(&chat("sim-small", "hi")))
        .unwrap();
    let client = world.client.clone();
    {
        let sending = client.send(request);
        tokio::pin!(sending);
        let held = until(|| world.gateway.live_holds() == 1);
        bounded(async {
            tokio::select! {
                _ = &mut sending => panic!("nobody answers"),
                () = held => {}
            }
        })
        .await;
    }
    world.quiet().await;
    assert_eq!(world.engine.observed().requests, 0);
}
