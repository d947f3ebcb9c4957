//! Embeddings and rankings, whatever the upstream calls them, and what they cost there.

use base::PicoUsd;
use ledger::{Hop, Metering, Record};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, INPUT, REQUEST, key, put_in, route, upstream, with};
use crate::world::scripted::{self, Then};
use crate::world::{Setup, World};

const EMBED: &str = "/v1/embeddings";
const RERANK: &str = "/v1/rerank";

/// The engines that embed in words of their own, and where the simulator has each.
const EMBED_OTHERWISE: [(&str, &str); 3] = [
    ("cohere", "/v2"),
    ("gemini", "/v1beta"),
    ("vertex", "/v1/projects/p/locations/l/publishers/google"),
];

/// A world with a route to `sim-embed` and one to `sim-rerank` at each engine.
async fn world() -> World {
    let mut setup = Setup::new().await;
    let origin = setup.engine_url();
    let origin = origin.strip_suffix("/v1").expect("it ends so").to_owned();
    let others = EMBED_OTHERWISE.into_iter();
    for (engine, path) in others.chain([("compatible", "/v1"), ("sglang", "/v1")]) {
        let salting = if engine == "sglang" {
            "derived"
        } else {
            "uncached"
        };
        let spec = json!({
            "engine": engine, "base_url": format!("{origin}{path}"), "provider": "sim",
            "salting": salting, "allow_private_address": true,
        });
        setup = setup
            .put(Kind::Upstream, engine, spec)
            .put(
                Kind::Route,
                &format!("e-{engine}"),
                route(engine, "sim-embed"),
            )
            .put(
                Kind::Route,
                &format!("r-{engine}"),
                route(engine, "sim-small"),
            );
    }
    setup.start().await
}

/// An upstream of this engine that answers so, behind the route `m`.
async fn scripted(engine: &str, model: &str, body: &str) -> World {
    let setup = Setup::new().await;
    let script = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let script: &'static str = Box::leak(script.into_boxed_str());
    let supervisor = base::Supervisor::new();
    let address = scripted::upstream(&supervisor, script, Then::Close).await;
    let spec = with(
        upstream(&format!("http://{address}"), "sim"),
        json!({"engine": engine, "salting": "uncached"}),
    );
    let price = json!({"entries": [{
        "version": 1, "effective_from": "2020-01-01T00:00:00Z",
        "input": "0.000001", "output": "0", "request": "0.00001",
    }]});
    setup
        .put(Kind::Upstream, "scripted", spec)
        .put(Kind::Route, "m", route("scripted", model))
        .put(Kind::Price, &format!("sim/{model}"), price)
        .start()
        .await
}

fn ranking(model: &str) -> Value {
    json!({
        "model": model,
        "query": "Who pays for a party wall?",
        "documents": [
            "Nothing of the kind.",
            {"text": "For a party wall pays whoever builds it."},
            "A wall.",
        ],
        "top_n": 2,
        "return_documents": true,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_embedded_by_every_provider_alike() {
    let world = world().await;
    for (engine, _) in EMBED_OTHERWISE {
        let call = json!({
            "model": format!("e-{engine}"), "input": ["a wall", "another wall"], "user": "u-1",
        });
        let answer = world.client.post("acme", EMBED, &call).await;
        let embedded = answer.ok();
        assert_eq!(embedded["object"], "list", "{engine}");
        let data = embedded["data"].as_array().unwrap();
        assert_eq!(data.len(), 2, "{engine}");
        assert_eq!(data[1]["index"], 1, "{engine}");
        let floats: Vec<f64> = serde_json::from_value(data[0]["embedding"].clone()).unwrap();
        assert!(floats.len() > 1 && data[0] != data[1], "{engine}");
        let tokens = embedded["usage"]["prompt_tokens"].as_u64().unwrap();
        assert!(tokens > 0, "{engine}");
        let cost = PicoUsd::new(i128::from(tokens) * INPUT + REQUEST);
        assert_eq!(answer.cost(), cost, "{engine}");

        // What OpenAI's SDKs ask for by themselves.
        let call = with(call, json!({"encoding_format": "base64"}));
        let embedded = world.client.post("acme", EMBED, &call).await.ok();
        let text = embedded["data"][0]["embedding"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(text.len(), (floats.len() * 4).div_ceil(3) * 4, "{engine}");
    }
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_embedded_there_is_refused_by_name() {
    let world = world().await;
    let refused = |more: Value| {
        let call = with(json!({"model": "e-cohere", "input": "hi"}), more);
        let client = world.client.clone();
        async move { client.post("acme", EMBED, &call).await }
    };
    for (more, param) in [
        (json!({"input": [[1, 2, 3]]}), "input"),
        (json!({"input": vec!["x"; 97]}), "input"),
        (json!({"truncate_dim": 7}), "truncate_dim"),
    ] {
        let answer = refused(more).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"], param);
    }
    assert_eq!(world.engine.observed().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_ranked_by_every_engine_alike() {
    let world = world().await;
    for model in ["r-cohere", "r-compatible", "r-sglang", "sim-small"] {
        let answer = world.client.post("acme", RERANK, &ranking(model)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        let ranked = answer.ok();
        let results = ranked["results"].as_array().unwrap();
        assert_eq!(results.len(), 2, "{model}");
        assert_eq!(results[0]["index"], 1, "{model}");
        let text = "For a party wall pays whoever builds it.";
        assert_eq!(results[0]["document"]["text"], text, "{model}");
        let score = |place: usize| results[place]["relevance_score"].as_f64().unwrap();
        assert!(score(0) >= score(1), "{model}");
        assert!(answer.cost() >= PicoUsd::new(REQUEST), "{model}");
        let sent = world.last_body();
        assert_eq!(sent["model"], "sim-small", "{model}");
    }
    world.quiet().await;
    let (records, _, _) = world.end().await;
    let hops: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Intent(intent) => Some(intent.hop),
            _ => None,
        })
        .collect();
    assert_eq!(hops, [Hop::Rerank; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_cache_are_told_the_tenants_salt_with_a_ranking_too() {
    let world = world().await;
    let mut salts = Vec::new();
    for owner in ["acme", "acme", "globex"] {
        world
            .client
            .post(owner, RERANK, &ranking("r-sglang"))
            .await
            .ok();
        salts.push(world.last_body()["extra_key"].as_str().unwrap().to_owned());
    }
    assert_eq!(salts[0], salts[1]);
    assert_ne!(salts[1], salts[2]);
    let own = with(ranking("r-sglang"), json!({"extra_key": salts[2]}));
    let refused = world.client.post("acme", RERANK, &own).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

/// Cohere bills by search units: the hold covers as many as the ranking can take, and the call
/// costs as many as it took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_ranking_costs_the_search_units_that_were_held_for_it() {
    let world = world().await;
    let documents = vec!["a wall"; 250];
    let call = json!({"model": "r-cohere", "query": "wall", "documents": documents, "top_n": 1});
    let answer = world.client.post("acme", RERANK, &call).await;
    assert_eq!(answer.ok()["meta"]["billed_units"]["search_units"], 3);
    world.quiet().await;
    let (records, _, _) = world.end().await;
    let held = records.iter().find_map(|record| match record {
        Record::Intent(intent) => Some(intent.amount),
        _ => None,
    });
    let settled = records.iter().find_map(|record| match record {
        Record::Settled(settled) => Some(settled.clone()),
        _ => None,
    });
    let settled = settled.expect("it was settled");
    assert_eq!(settled.consumption.requests, 3);
    assert!(settled.cost >= PicoUsd::new(3 * REQUEST));
    assert!(held.expect("it was held") >= settled.cost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bedrocks_titan_embeds_one_text_a_call() {
    let answer = r#"{"embedding":[0.25,-1.5],"inputTextTokenCount":3}"#;
    let world = scripted("bedrock", "amazon.titan-embed-text-v2:0", answer).await;
    let call = json!({"model": "m", "input": "a wall", "dimensions": 256});
    let answer = world.client.post("acme", EMBED, &call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.ok()["data"][0]["embedding"], json!([0.25, -1.5]));
    assert_eq!(answer.ok()["usage"]["prompt_tokens"], 3);
    assert_eq!(answer.cost(), PicoUsd::new(3 * INPUT + REQUEST));
    let two = json!({"model": "m", "input": ["a", "b"]});
    let refused = world.client.post("acme", EMBED, &two).await;
    assert_eq!(refused.json()["error"]["param"], "input");
}

/// Cohere's models on Bedrock say no count: what was held is what it costs, marked as such.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_count_is_charged_by_the_bound() {
    let answer = r#"{"embeddings":{"float":[[0.5,1]]},"response_type":"embeddings_by_type"}"#;
    let world = scripted("bedrock", "cohere.embed-v4:0", answer).await;
    let call = json!({"model": "m", "input": "a wall"});
    let answer = world.client.post("acme", EMBED, &call).await;
    let tokens = answer.ok()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens >= 6);
    assert_eq!(
        answer.cost(),
        PicoUsd::new(i128::from(tokens) * INPUT + REQUEST)
    );
    world.quiet().await;
    let (records, _, _) = world.end().await;
    let is_counted = |record: &Record| matches!(record, Record::Settled(settled) if settled.metering == Metering::Counted);
    assert!(records.iter().any(is_counted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_embeddings_inference_ranks_too() {
    let answer = r#"[{"index":1,"score":0.9},{"index":0,"score":0.2},{"index":2,"score":0.1}]"#;
    let world = scripted("tgi", "bge-reranker", answer).await;
    let answer = world.client.post("acme", RERANK, &ranking("m")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.ok()["results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 2);
    assert_eq!(results[0]["index"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ranks_what_was_not_asked_is_no_answer() {
    let answer = r#"{"results":[{"index":7,"relevance_score":1}]}"#;
    let world = scripted("cohere", "rerank-v3.5", answer).await;
    let answer = world.client.post("acme", RERANK, &ranking("m")).await;
    answer.refused(502, "upstream_failed");
    world.quiet().await;
    assert_eq!(world.gateway.unsettled(ACME).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_ranks_or_streams_it_is_said() {
    let world = world().await;
    let refused = world
        .client
        .post("acme", RERANK, &ranking("r-gemini"))
        .await;
    refused.refused(400, "unsupported_operation");
    let streamed = with(ranking("r-cohere"), json!({"stream": true}));
    let refused = world.client.post("acme", RERANK, &streamed).await;
    assert_eq!(refused.json()["error"]["param"], "stream");
    // A key of another model ranks nothing, and learns nothing.
    let only = key("narrow", json!({"models": ["sim-small"]}));
    world.publish(vec![put_in(ACME, Kind::Key, "narrow", only)]);
    let refused = world
        .client
        .post("narrow", RERANK, &ranking("r-cohere"))
        .await;
    refused.refused(404, "model_not_found");
    assert_eq!(world.engine.observed().requests, 0);
}
