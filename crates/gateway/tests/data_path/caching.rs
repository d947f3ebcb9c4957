//! Answers that are given again: to whom, for how long, in which form, and at what price.

use base::PicoUsd;
use http::StatusCode;
use ledger::{Consumption, Metering, Record};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::task::JoinSet;

use crate::world::catalogue::{ACME, GLOBEX, key, put, put_in, with};
use crate::world::client::{CHAT, Reply, body, chat, post, until};
use crate::world::{Setup, World};

const MESSAGES: &str = "/v1/messages";
const EMBED: &str = "/v1/embeddings";

fn cache(more: Value) -> Value {
    let exact = json!({"mode": "exact", "requests": "all"});
    json!({"cache": with(exact, more)})
}

/// Both tenants keep their answers.
async fn setup() -> Setup {
    let setup = Setup::new().await;
    setup
        .put_in(ACME, Kind::Config, "config", cache(json!({})))
        .put_in(GLOBEX, Kind::Config, "config", cache(json!({})))
}

async fn world() -> World {
    setup().await.start().await
}

/// What the answer says of the cache.
fn cached(reply: &Reply) -> Option<&str> {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.header("x-partywall-cache")
}

async fn asked(world: &World, cache_control: &'static str, text: &str) -> Reply {
    let request = post("acme", CHAT).header("cache-control", cache_control);
    let call = body(&chat("sim-small", text));
    world.client.exchange(request.body(call).unwrap()).await
}

fn requests(world: &World) -> u64 {
    world.engine.observed().requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_is_answered_once_however_it_is_spelled() {
    let world = world().await;
    let first = world.client.chat("acme", "hi").await;
    assert_eq!(cached(&first), Some("miss"));
    assert_eq!(first.header("cache-control"), Some("private, max-age=3600"));
    let spelled = r#"{ "messages": [{"content": "\u0068i", "role":"user"}],
        "model": "sim-small" , "stream": false }"#;
    let request = post("acme", CHAT).body(spelled.to_owned().into()).unwrap();
    let again = world.client.exchange(request).await;
    assert_eq!(cached(&again), Some("hit"));
    assert_eq!(again.body, first.body);
    assert_eq!(again.cost(), PicoUsd::ZERO);
    assert_eq!(again.header("cache-control"), Some("private, max-age=3600"));
    let age: u64 = again.header("age").unwrap().parse().unwrap();
    assert!(age < 3_600);
    assert!(again.header("x-request-id") != first.header("x-request-id"));
    assert_eq!(requests(&world), 1);
    for other in [
        chat("sim-small", "ho"),
        chat("metered", "hi"),
        with(chat("sim-small", "hi"), json!({"max_tokens": 9})),
        with(chat("sim-small", "hi"), json!({"user": "ada"})),
    ] {
        let reply = world.client.post("acme", CHAT, &other).await;
        assert_eq!(cached(&reply), Some("miss"), "{other}");
    }
    let figures = world.gateway.cache_figures(ACME);
    assert_eq!((figures.entries, figures.hits), (5, 1));
    let text = world.gateway.metrics().text();
    let hits = r#"partywall_cache_total{tenant="acme",result="hit"} 1"#;
    assert!(text.contains(hits), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_no_tenant_is_given_what_another_was_answered() {
    let world = world().await;
    let first = world.client.chat("acme", "our secret plan").await;
    let other = world.client.chat("globex", "our secret plan").await;
    assert_eq!(cached(&other), Some("miss"));
    assert_ne!(first.ok()["x_sim"]["call"], other.ok()["x_sim"]["call"]);
    for (owner, own) in [("acme", &first), ("globex", &other)] {
        let again = world.client.chat(owner, "our secret plan").await;
        assert_eq!((cached(&again), &again.body), (Some("hit"), &own.body));
    }
    // Emptying one leaves the other's.
    world.gateway.clear_cache(ACME);
    let again = world.client.chat("globex", "our secret plan").await;
    assert_eq!(cached(&again), Some("hit"));
    let again = world.client.chat("acme", "our secret plan").await;
    assert_eq!(cached(&again), Some("miss"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_unless_the_tenant_says_so() {
    let world = World::new().await;
    for _ in 0..2 {
        let reply = world.client.chat("acme", "hi").await;
        assert_eq!(cached(&reply), None);
        assert_eq!(reply.header("cache-control"), None);
    }
    assert_eq!(requests(&world), 2);
    assert_eq!(world.gateway.cache_figures(ACME).entries, 0);
    // Nor where its tier has no room for it.
    let tier = json!({"wait_ms_max": 3_000, "cache_bytes_max": 0});
    let on = put_in(ACME, Kind::Config, "config", cache(json!({})));
    world.publish(vec![put(Kind::Tier, "free", tier), on]);
    let reply = world.client.chat("acme", "hi").await;
    assert_eq!(cached(&reply), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_more_only_what_asks_for_the_same_answer_each_time_is_kept() {
    let greedy = json!({"cache": {"mode": "exact", "features": ["search"]}});
    let setup = Setup::new().await;
    let world = setup
        .put_in(ACME, Kind::Config, "config", greedy)
        .start()
        .await;
    let call = async |feature: &str, more: Value| {
        let request = post("acme", CHAT).header("partywall-feature", feature);
        let call = body(&with(chat("sim-small", "hi"), more));
        let reply = world.client.exchange(request.body(call).unwrap()).await;
        cached(&reply).map(str::to_owned)
    };
    let is = |word: &str| Some(word.to_owned());
    assert_eq!(call("search", json!({})).await, is("bypass"));
    assert_eq!(
        call("search", json!({"temperature": 0.1})).await,
        is("bypass")
    );
    assert_eq!(call("search", json!({"temperature": 0})).await, is("miss"));
    assert_eq!(call("search", json!({"temperature": 0})).await, is("hit"));
    assert_eq!(
        call("search", json!({"temperature": 0.0})).await,
        is("miss")
    );
    assert_eq!(call("other", json!({"temperature": 0})).await, None);
    let embed = json!({"model": "sim-embed", "input": ["a", "b"]});
    for expected in ["miss", "hit"] {
        let request = post("acme", EMBED).header("partywall-feature", "search");
        let reply = world.client.exchange(request.body(body(&embed)).unwrap());
        assert_eq!(cached(&reply.await), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_says_what_it_takes_and_what_is_kept() {
    let world = world().await;
    assert_eq!(
        cached(&asked(&world, "no-store", "hi").await),
        Some("bypass")
    );
    assert_eq!(world.gateway.cache_figures(ACME).entries, 0);
    let kept = asked(&world, "no-cache", "hi").await;
    assert_eq!(cached(&kept), Some("miss"));
    assert_eq!(
        cached(&asked(&world, "max-age=600", "hi").await),
        Some("hit")
    );
    // A fresh answer takes the place of the one that was kept.
    let fresh = asked(&world, "max-age=0", "hi").await;
    assert_eq!(cached(&fresh), Some("miss"));
    assert_ne!(fresh.body, kept.body);
    assert_eq!(world.client.chat("acme", "hi").await.body, fresh.body);
    let reply = asked(&world, "max-age=600, no-store", "hi").await;
    assert_eq!(cached(&reply), Some("bypass"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(world.gateway.cache_figures(ACME).entries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_replayed_as_it_is_asked_for() {
    let world = world().await;
    let wanted = json!({"stream_options": {"include_usage": true}});
    let call = chat("sim-small", "tell me");
    let whole = world.client.post("acme", CHAT, &call).await;
    let usage = &whole.ok()["usage"];
    for (more, has_usage) in [(json!({}), false), (wanted.clone(), true)] {
        let call = with(call.clone(), more);
        let events = world.client.stream("acme", CHAT, &call).await;
        assert_eq!(events.headers["x-partywall-cache"], "hit");
        assert!(events.is_done && !events.is_broken);
        assert_eq!(events.text(), whole.said());
        let last = events.json().pop().unwrap();
        match has_usage {
            true => assert_eq!(
                last["usage"]["completion_tokens"],
                usage["completion_tokens"]
            ),
            false => assert!(last["usage"].is_null()),
        }
    }
    // The other way round: what was streamed, without its usage, is given whole, with it.
    let call = chat("sim-small", "tell me more");
    let events = world.client.stream("acme", CHAT, &call).await;
    assert_eq!(events.headers["x-partywall-cache"], "miss");
    let again = world.client.stream("acme", CHAT, &call).await;
    assert_eq!(again.headers["x-partywall-cache"], "hit");
    assert_eq!(again.frames, events.frames);
    let whole = world.client.post("acme", CHAT, &call).await;
    assert_eq!((cached(&whole), whole.said()), (Some("hit"), events.text()));
    assert!(whole.ok()["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    assert_eq!(requests(&world), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_chats_are_kept_apart_and_each_in_both_forms() {
    let world = world().await;
    let call = json!({
        "model": "sim-small", "max_tokens": 32,
        "messages": [{"role": "user", "content": "hi"}],
    });
    let chatted = world.client.post("acme", CHAT, &call).await;
    let message = world.client.post("acme", MESSAGES, &call).await;
    assert_eq!(
        (cached(&chatted), cached(&message)),
        (Some("miss"), Some("miss"))
    );
    let said = message.ok()["content"][0]["text"].clone();
    let request = post("acme", MESSAGES).body(body(&with(call, json!({"stream": true}))));
    let streamed = world.client.exchange(request.unwrap()).await;
    assert_eq!(cached(&streamed), Some("hit"));
    let text = streamed.text();
    let deltas: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(Value::from(deltas), said);
    assert!(text.contains("event: message_stop"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_configuration_makes_another_answer() {
    let world = world().await;
    let call = async || {
        let reply = world.client.chat("acme", "hi").await;
        (cached(&reply).unwrap().to_owned(), reply.body)
    };
    let guardrail = json!({"looks_at": "output", "checks": [
        {"name": "it", "action": "redact", "check": {"regex": {"patterns": ["[aeiou]"]}}}]});
    let route = json!({"targets": [{"upstream": "meter", "model": "sim-small"}],
        "output_tokens_max": 64});
    let (_, first) = call().await;
    assert_eq!(call().await, ("hit".to_owned(), first.clone()));
    for change in [
        put_in(ACME, Kind::Guardrail, "wall", guardrail),
        put_in(
            ACME,
            Kind::Config,
            "config",
            with(cache(json!({})), json!({"system_prompt": "Be brief."})),
        ),
        put_in(
            ACME,
            Kind::Config,
            "config",
            cache(json!({"ttl_seconds": 60})),
        ),
        put(Kind::Route, "sim-small", route),
    ] {
        let address = change.address.to_string();
        world.publish(vec![change]);
        let (word, fresh) = call().await;
        assert_eq!(word, "miss", "{address}");
        assert_eq!(call().await, ("hit".to_owned(), fresh), "{address}");
    }
    // What is nobody's answer's business leaves them.
    let other = json!({"id": GLOBEX, "tier": "free", "display_name": "Globex"});
    world.publish(vec![put(Kind::Tenant, "globex", other)]);
    assert_eq!(call().await.0, "hit");
    let suspended = json!({"id": ACME, "tier": "free", "suspended": true});
    world.publish(vec![put(Kind::Tenant, "acme", suspended)]);
    assert_eq!(world.gateway.cache_figures(ACME).entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_call_is_not_answered_from_memory() {
    let world = world().await;
    world.client.chat("acme", "hi").await.ok();
    let only = key("acme", json!({"models": ["sim-embed"]}));
    world.publish(vec![put_in(ACME, Kind::Key, "main", only)]);
    let refused = world.client.chat("acme", "hi").await;
    assert_eq!(refused.status, 404);
    let revoked = key("acme", json!({"revoked": true}));
    world.publish(vec![put_in(ACME, Kind::Key, "main", revoked)]);
    assert_eq!(world.client.chat("acme", "hi").await.status, 401);
}

/// What stands for a user's data in the request comes back as that user's, and no other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_restored_for_one_is_not_given_to_another() {
    let cards = json!({"looks_at": "input", "checks": [
        {"name": "it", "action": "redact", "restore": true, "check": {"pii": {"kinds": ["card"]}}}]});
    let world = setup()
        .await
        .put_in(ACME, Kind::Guardrail, "wall", cards)
        .start()
        .await;
    for (card, expected) in [
        ("4111 1111 1111 1111", "miss"),
        ("5555 5555 5555 4444", "miss"),
        ("4111 1111 1111 1111", "hit"),
        ("5555 5555 5555 4444", "hit"),
    ] {
        let reply = world
            .client
            .chat("acme", &format!("[[say:it is {card}.]]"))
            .await;
        assert_eq!(cached(&reply), Some(expected));
        assert_eq!(reply.said(), format!("it is {card}."));
    }
    let sent = world.engine.observed().recorded;
    assert!(
        sent.iter()
            .all(|one| !one.body.windows(4).any(|it| it == b"1111"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_blocked_broken_or_cut_is_not_kept() {
    let deny = json!({"looks_at": "output", "checks": [
        {"name": "it", "action": "block", "check": {"deny-list": {"entries": ["falcon"]}}}]});
    let world = setup()
        .await
        .put_in(ACME, Kind::Guardrail, "wall", deny)
        .start()
        .await;
    let blocked = chat("sim-small", "[[say:a falcon]]");
    let failing = chat("sim-small", "[[fault:status=500]]");
    let cut = chat("sim-small", "[[fault:cut=6]]");
    for _ in 0..2 {
        let refused = world.client.post("acme", CHAT, &blocked).await;
        refused.refused(400, "content_blocked");
        let refused = world.client.post("acme", CHAT, &failing).await;
        refused.refused(502, "upstream_failed");
        for call in [&blocked, &cut] {
            let events = world.client.stream("acme", CHAT, call).await;
            assert!(events.is_broken && !events.is_done);
        }
    }
    assert_eq!(world.gateway.cache_figures(ACME).entries, 0);
}

/// A call of `metered` costs 32 cents, and holds 1.92 dollars; a hit holds what it costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_cost_what_the_tier_says_and_no_budget_is_overspent() {
    let tier = json!({"wait_ms_max": 0, "cache_price_percent": 50});
    let world = setup()
        .await
        .put(Kind::Tier, "free", tier)
        .put_in(
            ACME,
            Kind::Budget,
            "month",
            json!({"subject": "tenant", "limit": "2"}),
        )
        .start()
        .await;
    let call = async || {
        world
            .client
            .post("acme", CHAT, &chat("metered", "hi"))
            .await
    };
    assert_eq!(call().await.cost(), PicoUsd::new(320_000_000_000));
    for _ in 0..10 {
        let reply = call().await;
        assert_eq!(cached(&reply), Some("hit"));
        assert_eq!(reply.cost(), PicoUsd::new(160_000_000_000));
    }
    // 1.92 dollars are spent, and another hit costs 16 cents.
    call().await.refused(429, "insufficient_quota");
    let view = world.account(ACME, "month");
    assert_eq!(view.spent, PicoUsd::new(1_920_000_000_000));
    assert_eq!(view.held, PicoUsd::ZERO);
    let (records, _, report) = world.end().await;
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    let given = records.iter().filter(|record| {
        matches!(record, Record::Settled(settled) if matches!(settled.metering, Metering::Cached { .. })
            && settled.consumption == Consumption::default())
    });
    assert_eq!(given.count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_count_against_the_rate_of_requests_and_not_of_tokens() {
    let limit = json!({"subject": "tenant", "requests_per_minute": 3, "tokens_per_minute": 2_000});
    let world = setup()
        .await
        .put(Kind::Tier, "free", json!({"wait_ms_max": 0}))
        .put_in(ACME, Kind::Limit, "slow", limit)
        .start()
        .await;
    for expected in ["miss", "hit", "hit"] {
        let reply = world.client.chat("acme", "hi").await;
        assert_eq!(cached(&reply), Some(expected));
        assert!(reply.header("x-ratelimit-remaining-requests").is_some());
    }
    let refused = world.client.chat("acme", "hi").await;
    refused.refused(429, "rate_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_call_may_be_answered_from_memory_too() {
    let world = world().await;
    let first = world.client.chat("acme", "hi").await;
    let call = async || {
        let request = post("acme", CHAT).header("idempotency-key", "order-1");
        let call = body(&chat("sim-small", "hi"));
        world.client.exchange(request.body(call).unwrap()).await
    };
    let hit = call().await;
    assert_eq!((cached(&hit), &hit.body), (Some("hit"), &first.body));
    world.gateway.clear_cache(ACME);
    let replayed = call().await;
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.body, first.body);
    assert_eq!(requests(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_under_way_does_not_fill_what_was_emptied() {
    let mut setup = setup().await;
    setup.engine.timing = simulator::Timing {
        token_micros: 5_000,
        ..simulator::Timing::default()
    };
    let world = setup.start().await;
    let (client, engine) = (world.client.clone(), world.engine.clone());
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.chat("acme", "hi").await });
    until(|| engine.observed().running == 1).await;
    world.gateway.clear_cache(ACME);
    let reply = calls.join_next().await.unwrap().unwrap();
    assert_eq!(cached(&reply), Some("miss"));
    assert_eq!(world.gateway.cache_figures(ACME).entries, 0);
}

fn semantic(more: Value) -> Value {
    let config = json!({
        "mode": "semantic", "embedding_model": "sim-embed", "similarity_percent": 90,
    });
    cache(with(config, more))
}

/// The simulator's vectors are of the words: the same words in another order are alike.
const QUESTION: &str = "how do I reset the password of my account please";
const ALIKE: &str = "please how do I reset the password of my account";
const UNLIKE: &str = "which trains go from Lyon to Marseille on Sunday";

async fn meaning() -> World {
    setup()
        .await
        .put_in(ACME, Kind::Config, "config", semantic(json!({})))
        .put_in(GLOBEX, Kind::Config, "config", semantic(json!({})))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_of_like_meaning_is_answered_alike_inside_its_tenant() {
    let world = meaning().await;
    let first = world.client.chat("acme", QUESTION).await;
    assert_eq!(cached(&first), Some("miss"));
    let alike = world.client.chat("acme", ALIKE).await;
    assert_eq!(cached(&alike), Some("semantic-hit"));
    assert_eq!(alike.said(), first.said());
    assert_eq!(
        cached(&world.client.chat("acme", QUESTION).await),
        Some("hit")
    );
    assert_eq!(
        cached(&world.client.chat("acme", UNLIKE).await),
        Some("miss")
    );
    let events = world
        .client
        .stream("acme", CHAT, &chat("sim-small", ALIKE))
        .await;
    assert_eq!(events.headers["x-partywall-cache"], "semantic-hit");
    assert_eq!(events.text(), first.said());
    // Another tenant's question has no answer here, whatever it means.
    assert_eq!(
        cached(&world.client.chat("globex", ALIKE).await),
        Some("miss")
    );
    let (records, ..) = world.end().await;
    let embedded = records.iter().filter(|record| {
        matches!(record, Record::Intent(intent) if intent.hop == ledger::Hop::Embed
            && intent.parent.is_some())
    });
    assert_eq!(
        embedded.count(),
        5,
        "each search is a call on the books, but for exact hits"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_in_more_than_meaning_is_another_request() {
    let world = meaning().await;
    let system = json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": ALIKE}]});
    let image = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": ALIKE},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]});
    let function = json!({"name": "f", "parameters": {"type": "object"}});
    let tools = json!({"tools": [{"type": "function", "function": function}]});
    world.client.chat("acme", QUESTION).await.ok();
    for more in [
        json!({"max_tokens": 9}),
        json!({"temperature": 0.5}),
        json!({"n": 2}),
        tools,
        image,
        system,
    ] {
        let call = with(chat("sim-small", ALIKE), more);
        let reply = world.client.post("acme", CHAT, &call).await;
        assert_eq!(cached(&reply), Some("miss"), "{call}");
    }
    let tools = json!({"messages": [{"role": "user", "content": ALIKE}, {"role": "assistant", "content": "?"}]});
    let reply = world
        .client
        .post("acme", CHAT, &with(chat("sim-small", ""), tools))
        .await;
    assert_eq!(cached(&reply), Some("miss"), "no user says the last word");
    // Nor does a call that wants a fresh answer get one of like meaning.
    assert_eq!(
        cached(&asked(&world, "no-cache", ALIKE).await),
        Some("miss")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_whose_embedding_model_embeds_nothing_is_an_exact_one() {
    let reads_alone =
        json!({"targets": [{"upstream": "claude", "model": "m"}], "output_tokens_max": 9});
    let config = semantic(json!({"embedding_model": "no-embeddings"}));
    let setup = setup()
        .await
        .put(
            Kind::Upstream,
            "claude",
            json!({"engine": "anthropic", "salting": "uncached"}),
        )
        .put(Kind::Route, "no-embeddings", reads_alone)
        .put_in(ACME, Kind::Config, "config", config);
    let world = setup.start().await;
    for (text, expected) in [(QUESTION, "miss"), (ALIKE, "miss"), (QUESTION, "hit")] {
        let reply = world.client.chat("acme", text).await;
        assert_eq!(cached(&reply), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_answers_are_given_while_their_upstream_fails() {
    let world = world().await;
    let kept = world.client.chat("acme", QUESTION).await;
    assert_eq!(cached(&kept), Some("miss"));
    for number in 0..5 {
        let failing = format!("{number} [[fault:status=500]]");
        let refused = world.client.chat("acme", &failing).await;
        refused.refused(502, "upstream_failed");
    }
    let down = world.client.chat("acme", UNLIKE).await;
    down.refused(503, "upstream_down");
    assert!(down.header("retry-after").is_some());
    let before = requests(&world);
    let given = world.client.chat("acme", QUESTION).await;
    assert_eq!(cached(&given), Some("hit"));
    assert_eq!(given.said(), kept.said());
    assert_eq!(requests(&world), before, "nobody was asked");
    // Who wants none that is kept is told that there is none.
    let fresh = asked(&world, "no-cache", QUESTION).await;
    fresh.refused(503, "upstream_down");
    // Another tenant has no kept answers, and a breaker of its own.
    world.client.chat("globex", QUESTION).await.ok();
    world.quiet().await;
    assert_eq!(world.gateway.live_holds(), 0);
}

/// Calls of each owner that all ask the same at once.
async fn at_once(world: &World, owners: &[&'static str], text: &'static str) -> Vec<Reply> {
    let mut calls = JoinSet::new();
    for owner in owners {
        let (client, owner) = (world.client.clone(), *owner);
        calls.spawn(async move { client.chat(owner, text).await });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_calls_that_ask_the_same_at_once_one_goes_upstream() {
    let world = world().await;
    let slow = "What is a wall? [[fault:delay=400ms]]";
    let replies = at_once(&world, &["acme"; 12], slow).await;
    let missed = |reply: &&Reply| cached(reply) == Some("miss");
    assert_eq!(replies.iter().filter(missed).count(), 1);
    assert!(
        replies
            .iter()
            .all(|reply| reply.said() == replies[0].said())
    );
    assert_eq!(requests(&world), 1);
    let figures = world.gateway.cache_figures(ACME);
    assert_eq!((figures.hits, figures.misses), (11, 1));
    // Nobody waits for a neighbour's call, or is given its answer.
    let other = "And a roof? [[fault:delay=400ms]]";
    let replies = at_once(&world, &["acme", "globex"], other).await;
    assert!(replies.iter().all(|reply| cached(reply) == Some("miss")));
    assert_eq!(requests(&world), 3);
    world.quiet().await;
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waited_for_a_call_that_failed_asks_for_itself() {
    let world = world().await;
    let failing = "What is a wall? [[fault:delay=200ms,status=500]]";
    let replies = at_once(&world, &["acme"; 3], failing).await;
    for reply in &replies {
        reply.refused(502, "upstream_failed");
    }
    assert_eq!(requests(&world), 3);
    // Nothing is left behind that the next would wait for.
    let next = world.client.chat("acme", "What is a wall?").await;
    assert_eq!(cached(&next), Some("miss"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_a_fresh_answer_waits_for_nobody() {
    let world = world().await;
    let slow = "What is a wall? [[fault:delay=2s]]";
    let mut calls = JoinSet::new();
    for wish in ["max-age=60", "no-cache"] {
        let (client, before) = (world.client.clone(), requests(&world));
        let request = post("acme", CHAT).header("cache-control", wish);
        let request = request.body(body(&chat("sim-small", slow))).unwrap();
        calls.spawn(async move { client.exchange(request).await });
        // Both are at the engine before either is answered.
        until(|| requests(&world) == before + 1).await;
    }
    let replies = calls.join_all().await;
    assert!(replies.iter().all(|reply| cached(reply) == Some("miss")));
}
