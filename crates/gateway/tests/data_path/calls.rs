//! What a client of OpenAI's sees when all goes well.

use base::PicoUsd;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, CACHED, INPUT, OUTPUT, REQUEST};
use crate::world::client::{CHAT, Events, chat, post};
use crate::world::{Setup, World};

/// What these tokens cost on `sim-small`.
fn price(usage: &Value) -> PicoUsd {
    let count = |value: &Value| i128::from(value.as_u64().unwrap());
    let cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
    let input = count(&usage["prompt_tokens"]) - cached;
    let output = count(&usage["completion_tokens"]);
    PicoUsd::new(input * INPUT + cached * CACHED + output * OUTPUT + REQUEST)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_answered_and_costs_exactly_its_price() {
    let world = World::new().await;
    let long = "a prompt long enough to fill some blocks of the prefix cache ".repeat(8);
    let mut total = PicoUsd::ZERO;
    for _ in 0..2 {
        let reply = world.client.chat("acme", &long).await;
        let answer = reply.ok();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
        assert_eq!(reply.cost(), price(&answer["usage"]));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
        total += reply.cost();
    }
    assert_eq!(world.account(ACME, "everything").spent, total);
    assert!(
        world.engine.observed().cached_tokens > 0,
        "the second is cheaper"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_and_embeddings_are_answered() {
    let world = World::new().await;
    let body = json!({"model": "sim-small", "prompt": ["one", "two"], "max_tokens": 5});
    let answer = world
        .client
        .post("acme", "/v1/completions", &body)
        .await
        .ok();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(answer["usage"]["completion_tokens"], 10);

    let body = json!({"model": "sim-embed", "input": ["one", "two"], "dimensions": 8});
    let reply = world.client.post("acme", "/v1/embeddings", &body).await;
    let answer = reply.ok();
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert!(reply.cost() > PicoUsd::ZERO);
    let body = json!({"model": "sim-embed", "input": "one", "encoding_format": "base64"});
    let answer = world
        .client
        .post("acme", "/v1/embeddings", &body)
        .await
        .ok();
    assert!(answer["data"][0]["embedding"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_and_found_by_name() {
    let world = World::new().await;
    let list = world.client.get("acme", "/v1/models").await.ok();
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(
        ids,
        ["metered", "sim-embed", "sim-small", "vendor/sim-large"]
    );
    // OpenAI's SDKs escape the slash.
    for path in [
        "/v1/models/vendor/sim-large",
        "/v1/models/vendor%2Fsim-large",
    ] {
        let model = world.client.get("acme", path).await.ok();
        assert_eq!(model["id"], "vendor/sim-large", "{path}");
        assert_eq!(model["object"], "model");
    }
    let body = chat("vendor/sim-large", "hello");
    world.client.post("acme", CHAT, &body).await.ok();
    assert_eq!(
        world.last_body()["model"],
        "sim-large",
        "the upstream's own name"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_a_usage_chunk_for_those_who_ask() {
    let world = World::new().await;
    let mut body = chat("sim-small", "[[say:one two three]]");
    let plain = world.client.stream("acme", CHAT, &body).await;
    assert!(plain.is_done && !plain.is_broken);
    assert_eq!(plain.text(), "one two three");
    let has_usage = |events: &Events| events.json().iter().any(|chunk| chunk["usage"].is_object());
    assert!(!has_usage(&plain));
    assert_eq!(world.last_body()["stream_options"]["include_usage"], true);
    assert!(
        plain.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    assert!(plain.headers.contains_key("x-request-id"));

    body["stream_options"] = json!({"include_usage": true, "other": 1});
    let asked = world.client.stream("acme", CHAT, &body).await;
    assert_eq!(asked.text(), plain.text());
    let last = asked.json().pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(world.last_body()["stream_options"]["other"], 1);
    world.quiet().await;
    let cost = price(&last["usage"]);
    let spent = world.account(ACME, "everything").spent;
    assert_eq!(
        spent,
        cost + cost,
        "both settle by what the upstream reported"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completion_streams_too() {
    let world = World::new().await;
    let body = json!({"model": "sim-small", "prompt": "hello", "max_tokens": 4});
    let events = world.client.stream("acme", "/v1/completions", &body).await;
    assert!(events.is_done);
    let texts = events.json();
    let texts = texts
        .iter()
        .filter(|chunk| chunk["choices"][0]["text"] != "");
    assert!(texts.count() >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_choices_logprobs_and_schemas_pass_through() {
    let world = World::new().await;
    let mut body = chat("sim-small", "what is the weather?");
    body["n"] = json!(3);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let answer = world.client.post("acme", CHAT, &body).await.ok();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    assert!(answer["choices"][0]["logprobs"]["content"].is_array());

    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let mut body = chat("sim-small", "what is the weather?");
    body["tools"] = json!([{
        "type": "function",
        "function": {"name": "weather", "parameters": parameters},
    }]);
    body["tool_choice"] = json!("required");
    let answer = world.client.post("acme", CHAT, &body).await.ok();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");

    let mut body = chat("sim-small", "where is it?");
    let schema = json!({
        "type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}},
    });
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "place", "schema": schema}});
    let said = world.client.post("acme", CHAT, &body).await.said();
    assert!(serde_json::from_str::<Value>(&said).unwrap()["ok"].is_boolean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_pass_both_ways_and_headers_do_not() {
    let world = World::new().await;
    let mut body = chat("sim-small", "hello");
    body["x_custom"] = json!({"deep": [1, {"er": null}], "text": "ü\u{0}"});
    let request = post("acme", CHAT)
        .header("x-sim-fault", "status=500")
        .header("x-forwarded-for", "10.0.0.1")
        .body(Full::from(body.to_string()));
    let reply = world.client.exchange(request.unwrap()).await;
    assert!(reply.ok()["x_sim"]["call"].is_u64());
    assert_eq!(world.last_body()["x_custom"], body["x_custom"]);
    let recorded = world.engine.observed().recorded.pop().unwrap();
    for name in ["x-sim-fault", "x-forwarded-for", "authorization"] {
        assert!(!recorded.headers.contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_in_the_head_of_each_answer() {
    let limit =
        json!({"subject": "tenant", "requests_per_minute": 60, "tokens_per_minute": 60_000});
    let setup = Setup::new().await.put_in(ACME, Kind::Limit, "rates", limit);
    let world = setup.start().await;
    let reply = world.client.chat("acme", "hello").await;
    reply.ok();
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("60"));
    assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("60000"));
    let remaining = reply.header("x-ratelimit-remaining-requests").unwrap();
    assert_eq!(remaining, "59");
    assert!(
        reply
            .header("x-ratelimit-reset-requests")
            .unwrap()
            .ends_with("ms")
    );
    let events = world
        .client
        .stream("acme", CHAT, &chat("sim-small", "hello"))
        .await;
    assert!(events.headers.contains_key("x-ratelimit-remaining-tokens"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_a_request_id_and_no_two_the_same() {
    let world = World::new().await;
    let mut ids = std::collections::BTreeSet::new();
    for (method, path) in [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/v1/models"),
        ("GET", "/nowhere"),
        ("POST", "/oauth/token"),
        ("POST", CHAT),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gateway");
        let reply = world
            .client
            .exchange(request.body(Full::default()).unwrap())
            .await;
        ids.insert(reply.header("x-request-id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 7);
    let reply = world.client.get("acme", "/readyz").await;
    assert_eq!(
        (reply.status, reply.text()),
        (StatusCode::OK, r#"{"status":"ready"}"#.into())
    );
}
