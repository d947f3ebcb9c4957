//! Budgets hold, and are used up (invariants 5 and 8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{PicoUsd, TenantId};
use http::StatusCode;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::task::JoinSet;

use crate::world::catalogue::{ACME, output_price, put, route, with};
use crate::world::client::{CHAT, chat, post, until};
use crate::world::{Setup, World};

/// A call of `metered` has 32 tokens of output at a cent each, and holds 192.
const CALL_COSTS: PicoUsd = PicoUsd::new(320_000_000_000);

fn budget(limit: &str, more: Value) -> Value {
    with(json!({"subject": "tenant", "limit": limit}), more)
}

async fn with_budget(budget: Value) -> World {
    let setup = Setup::new()
        .await
        .put_in(ACME, Kind::Budget, "month", budget);
    setup.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_two_thousand_calls_against_a_budget_for_two_hundred() {
    // 200 × 32 cents.
    let limit = PicoUsd::dollars(64);
    let setup = Setup::new().await;
    let world = setup
        .put(Kind::Tier, "free", json!({"wait_ms_max": 50_000}))
        .put_in(ACME, Kind::Budget, "month", budget("64", json!({})))
        .start()
        .await;
    let world = Arc::new(world);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut calls = JoinSet::new();
    let watched = (Arc::clone(&world), Arc::clone(&is_over));
    let watcher = JoinSet::from_iter([async move {
        let (world, is_over) = watched;
        let account =
            ledger::AccountId::of(ACME, &"month".parse().unwrap(), &ledger::Subject::Tenant);
        while !is_over.load(Ordering::Relaxed) {
            if let Some(view) = world.gateway.account(ACME, account) {
                assert!(view.spent + view.held <= limit, "{view:?}");
            }
            tokio::task::yield_now().await;
        }
    }]);
    for _ in 0..2_000 {
        let client = world.client.clone();
        calls.spawn(async move { client.post("acme", CHAT, &chat("metered", "hi")).await });
    }
    let mut answered = 0;
    while let Some(reply) = calls.join_next().await {
        let reply = reply.unwrap();
        if reply.status == StatusCode::OK {
            assert_eq!(reply.cost(), CALL_COSTS);
            answered += 1;
        } else {
            reply.refused(429, "insufficient_quota");
            assert_eq!(reply.json()["error"]["type"], "insufficient_quota");
            assert_eq!(reply.header("x-should-retry"), Some("false"));
            assert!(reply.header("retry-after-ms").is_none());
        }
    }
    is_over.store(true, Ordering::Relaxed);
    watcher.join_all().await;
    let view = world.account(ACME, "month");
    assert_eq!(view.spent, CALL_COSTS.times(answered));
    assert_eq!((view.held, world.gateway.live_holds()), (PicoUsd::ZERO, 0));
    assert!(view.spent >= limit.percent_floor(97), "{view:?} of {limit}");
    assert_eq!(world.engine.observed().requests, answered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheaper_model_takes_over_once_the_budget_says_so() {
    let setup = Setup::new().await;
    let url = setup.engine_url();
    let spent = budget("2.5", json!({"on_exhausted": {"downgrade": "cheap"}}));
    let world = setup
        .put(
            Kind::Upstream,
            "bargain",
            crate::world::catalogue::upstream(&url, "bargain"),
        )
        .put(Kind::Price, "bargain/sim-large", output_price("0.0001"))
        .put(Kind::Route, "cheap", route("bargain", "sim-large"))
        .put_in(ACME, Kind::Budget, "month", spent)
        .start()
        .await;
    let mut downgraded = 0;
    for _ in 0..6 {
        let reply = world
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await;
        let answer = reply.ok();
        match reply.header("partywall-downgraded-from") {
            None => assert_eq!(
                (answer["model"].as_str(), downgraded),
                (Some("sim-small"), 0)
            ),
            Some(from) => {
                assert_eq!(
                    (from, answer["model"].as_str()),
                    ("metered", Some("sim-large"))
                );
                assert_eq!(reply.cost(), PicoUsd::new(3_200_000_000));
                downgraded += 1;
            }
        }
    }
    assert_eq!(downgraded, 4, "1.92 dollars are held for each call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cheaper_model_that_says_less_is_asked_for_what_it_has() {
    let setup = Setup::new().await;
    let spent = budget("0.5", json!({"on_exhausted": {"downgrade": "cheap"}}));
    let world = setup
        .put(Kind::Route, "cheap", route("engine", "sim-small"))
        .put_in(ACME, Kind::Budget, "month", spent)
        .start()
        .await;
    // A dollar is held for 100 tokens of `metered`; `cheap` gives 64 at most.
    let asked = with(chat("metered", "hi"), json!({"max_tokens": 100}));
    let reply = world.client.post("acme", CHAT, &asked).await;
    reply.ok();
    assert_eq!(reply.header("partywall-downgraded-from"), Some("metered"));
    assert_eq!(world.last_body()["max_tokens"], 64);
    // Who names the model has to know its bound.
    let asked = with(chat("cheap", "hi"), json!({"max_tokens": 100}));
    let reply = world.client.post("acme", CHAT, &asked).await;
    reply.refused(400, "integer_above_max_value");
}

/// `dear` → `mid` by one budget, `mid` → `dear` by the other: nobody goes round for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downgrades_that_go_in_a_circle_end() {
    let setup = Setup::new().await;
    let url = setup.engine_url();
    let to =
        |model: &str, limit: &str| budget(limit, json!({"on_exhausted": {"downgrade": model}}));
    let mut setup = setup;
    for (model, price) in [("first", "0.9"), ("dear", "0.8"), ("mid", "0.1")] {
        setup = setup
            .put(
                Kind::Upstream,
                model,
                crate::world::catalogue::upstream(&url, model),
            )
            .put(
                Kind::Price,
                &format!("{model}/sim-small"),
                output_price(price),
            )
            .put(Kind::Route, model, route(model, "sim-small"));
    }
    let world = setup
        .put_in(ACME, Kind::Budget, "a-loose", to("mid", "10"))
        .put_in(ACME, Kind::Budget, "b-tight", to("dear", "1"))
        .start()
        .await;
    for model in ["first", "dear", "mid"] {
        let reply = world.client.post("acme", CHAT, &chat(model, "hi")).await;
        reply.refused(429, "insufficient_quota");
    }
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_loop_stops_by_session_and_by_turn() {
    let each =
        |what: &str, calls: u32| json!({"subject": what, "limit": "1000", "calls_max": calls});
    let setup = Setup::new()
        .await
        .put_in(ACME, Kind::Budget, "session", each("each:session", 5));
    let world = setup
        .put_in(ACME, Kind::Budget, "turn", each("each:turn", 2))
        .start()
        .await;
    let call = async |session: &str, turn: &str| {
        let request = post("acme", CHAT)
            .header("partywall-session", session)
            .header("partywall-turn", turn);
        let body = chat("sim-small", "hi").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    for turn in ["1", "2"] {
        call("s", turn).await.ok();
        call("s", turn).await.ok();
        let stopped = call("s", turn).await;
        stopped.refused(429, "insufficient_quota");
        assert_eq!(stopped.header("x-should-retry"), Some("false"));
    }
    call("s", "3").await.ok();
    call("s", "4").await.refused(429, "insufficient_quota");
    call("other", "1").await.ok();
    world.client.chat("acme", "hi").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_money_is_its_own() {
    let setup = Setup::new().await;
    let each = json!({"subject": "each:session", "limit": "2"});
    let world = setup
        .put_in(ACME, Kind::Budget, "session", each)
        .start()
        .await;
    let call = async |session: &str| {
        let request = post("acme", CHAT).header("partywall-session", session);
        let body = chat("metered", "hi").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    call("one").await.ok();
    call("one").await.refused(429, "insufficient_quota");
    call("two").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_price_is_refused_and_a_price_of_zero_is_one() {
    let setup = Setup::new().await;
    let url = setup.engine_url();
    let world = setup
        .put(
            Kind::Upstream,
            "new",
            crate::world::catalogue::upstream(&url, "new"),
        )
        .put(Kind::Route, "new", route("new", "sim-small"))
        .start()
        .await;
    let call = async || world.client.post("acme", CHAT, &chat("new", "hi")).await;
    call().await.refused(403, "model_not_priced");
    assert_eq!(world.engine.observed().requests, 0);
    world.publish(vec![put(Kind::Price, "new/sim-small", output_price("0"))]);
    let reply = call().await;
    reply.ok();
    assert_eq!(reply.cost(), PicoUsd::ZERO);
    let future = json!({"entries": [{
        "version": 1, "effective_from": "2099-01-01T00:00:00Z", "input": "1", "output": "1",
    }]});
    world.publish(vec![put(Kind::Price, "new/sim-small", future)]);
    call().await.refused(403, "model_not_priced");
}

fn image() -> Value {
    let part = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    json!([{"role": "user", "content": [{"type": "text", "text": "what is it?"}, part]}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_bounded_is_refused_under_a_budget() {
    let world = with_budget(budget("1000", json!({}))).await;
    let audio = json!([{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]}]);
    for more in [
        json!({"messages": image()}),
        json!({"messages": audio}),
        json!({"web_search_options": {}}),
        json!({"service_tier": "priority"}),
    ] {
        let body = with(chat("sim-small", "hi"), more);
        let reply = world.client.post("acme", CHAT, &body).await;
        reply.refused(400, "cost_unbounded");
    }
    let seen = with(
        route("engine", "sim-small"),
        json!({"image_tokens_max": 100}),
    );
    world.publish(vec![put(Kind::Route, "sim-small", seen)]);
    let body = with(chat("sim-small", "hi"), json!({"messages": image()}));
    world.client.post("acme", CHAT, &body).await.ok();
    let body = with(chat("sim-small", "hi"), json!({"messages": image()}));
    world.client.post("globex", CHAT, &body).await.ok();
}

/// The receiver is at a private address, which no tenant may reach through the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_to_a_private_address_is_never_sent() {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = receiver.local_addr().unwrap().port();
    let hook = format!("https://localhost:{port}/hook");
    let setup = Setup::new().await.put_in(
        ACME,
        Kind::Budget,
        "month",
        budget("2", json!({"soft_percent": 10})),
    );
    let world = setup
        .put(
            Kind::Tenant,
            "acme",
            json!({"id": ACME, "tier": "free", "webhook_url": hook}),
        )
        .start()
        .await;
    world
        .client
        .post("acme", CHAT, &chat("metered", "hi"))
        .await
        .ok();
    until(|| world.network.has_resolved(port)).await;
    // Draining waits for whatever the courier does.
    world.gateway.drain(std::time::Duration::from_secs(5)).await;
    assert!(!world.network.has_connected(port));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_budget_counts_at_once_and_keeps_what_was_spent() {
    let world = with_budget(budget("2", json!({}))).await;
    let call = async || {
        world
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await
    };
    call().await.ok();
    call().await.refused(429, "insufficient_quota");
    let raised =
        crate::world::catalogue::put_in(ACME, Kind::Budget, "month", budget("2.6", json!({})));
    world.publish(vec![raised]);
    call().await.ok();
    call().await.ok();
    call().await.refused(429, "insufficient_quota");
    assert_eq!(world.account(ACME, "month").spent, CALL_COSTS.times(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_count_for_the_key_the_feature_and_all_of_them_together() {
    let setup = Setup::new().await;
    let other = crate::world::catalogue::key("acme-2", json!({}));
    let world = setup
        .put_in(ACME, Kind::Key, "second", other)
        .put_in(
            ACME,
            Kind::Budget,
            "keys",
            json!({"subject": "each:key", "limit": "2"}),
        )
        .put_in(
            ACME,
            Kind::Budget,
            "chat",
            json!({"subject": "each:feature", "limit": "2.6"}),
        )
        .start()
        .await;
    let call = async |owner: &str, feature: &str| {
        let request = post(owner, CHAT).header("partywall-feature", feature);
        let body = chat("metered", "hi").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    call("acme", "x").await.ok();
    call("acme", "y").await.refused(429, "insufficient_quota");
    call("acme-2", "x").await.ok();
    let one = TenantId::from_bits(1);
    let feature = ledger::Subject::Feature("x".parse().unwrap());
    let account = ledger::AccountId::of(one, &"chat".parse().unwrap(), &feature);
    let view = world.gateway.account(ACME, account).unwrap();
    assert_eq!(view.spent, CALL_COSTS.times(2));
    assert_eq!(view.calls, 2, "a refused call took nothing");
}
