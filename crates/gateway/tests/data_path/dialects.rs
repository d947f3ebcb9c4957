//! One client, any provider: each inbound dialect before each kind of upstream, and what a call
//! costs there.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, put_in, secret, upstream, with};
use crate::world::client::{CHAT, body, bounded, chat, post};
use crate::world::{Setup, World};

const MESSAGES: &str = "/v1/messages";

/// The kinds of engine that are spoken to in another dialect than OpenAI's, and where the
/// simulator has each.
const OTHERS: [(&str, &str); 5] = [
    ("anthropic", "/v1"),
    ("gemini", "/v1beta"),
    ("vertex", "/v1/projects/p/locations/l/publishers/google"),
    ("bedrock", ""),
    ("cohere", "/v2"),
];

/// A world in which the route `m-{engine}` leads to each of them, priced alike.
async fn world() -> World {
    setup().await.start().await
}

async fn setup() -> Setup {
    let mut setup = Setup::new().await;
    let origin = setup.engine_url();
    let origin = origin.strip_suffix("/v1").expect("it ends so").to_owned();
    for (engine, path) in OTHERS {
        let spec = json!({
            "engine": engine,
            "base_url": format!("{origin}{path}"),
            "provider": "sim",
            "salting": "uncached",
            "allow_private_address": true,
        });
        let route = json!({
            "targets": [{"upstream": engine, "model": "sim-small"}],
            "output_tokens_max": 64,
        });
        setup =
            setup
                .put(Kind::Upstream, engine, spec)
                .put(Kind::Route, &format!("m-{engine}"), route);
    }
    setup
}

fn message(model: &str, text: &str) -> Value {
    json!({
        "model": model, "max_tokens": 32,
        "messages": [{"role": "user", "content": text}],
    })
}

/// The whole text of a streamed answer.
async fn streamed(world: &World, path: &str, mut call: Value) -> String {
    call["stream"] = json!(true);
    let request = post("acme", path).body(body(&call)).unwrap();
    let read = async {
        let answer = world.client.send(request).await;
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    };
    bounded(read).await
}

/// The data of a stream's events, but for the end marker.
fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_answered_by_every_provider_alike() {
    let world = world().await;
    for (engine, _) in OTHERS {
        let call = chat(&format!("m-{engine}"), "What is a party wall?");
        let answer = world.client.post("acme", CHAT, &call).await;
        assert!(answer.said().len() > 20, "{engine}: {}", answer.said());
        let answer_json = answer.ok();
        assert_eq!(answer_json["object"], "chat.completion", "{engine}");
        let usage = &answer_json["usage"];
        assert!(
            usage["prompt_tokens"].as_u64() > Some(0),
            "{engine}: {usage}"
        );
        assert!(answer.cost() > base::PicoUsd::ZERO, "{engine}");
    }
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_streams_from_every_provider_alike() {
    let world = world().await;
    for (engine, _) in OTHERS {
        let mut call = chat(&format!("m-{engine}"), "Tell me of walls.");
        call["stream_options"] = json!({"include_usage": true});
        let whole = world
            .client
            .post(
                "acme",
                CHAT,
                &chat(&format!("m-{engine}"), "Tell me of walls."),
            )
            .await;
        let text = streamed(&world, CHAT, call).await;
        assert!(text.ends_with("data: [DONE]\n\n"), "{engine}: {text}");
        let events = events(&text);
        let said: String = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(said, whole.said(), "{engine}");
        let usage = &events.last().unwrap()["usage"];
        assert_eq!(usage, &whole.ok()["usage"], "{engine}");
    }
    world.quiet().await;
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_anthropics_goes_to_every_provider() {
    let world = world().await;
    for model in [
        "sim-small",
        "m-anthropic",
        "m-gemini",
        "m-bedrock",
        "m-cohere",
    ] {
        let call = message(model, "What is a party wall?");
        let answer = world.client.post("acme", MESSAGES, &call).await;
        let answer_json = answer.ok();
        assert_eq!(answer_json["type"], "message", "{model}");
        let said = answer_json["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            answer_json["usage"]["output_tokens"].as_u64() > Some(0),
            "{model}"
        );
        assert!(answer.cost() > base::PicoUsd::ZERO, "{model}");

        let text = streamed(&world, MESSAGES, call).await;
        assert!(
            text.starts_with("event: message_start\n"),
            "{model}: {text}"
        );
        let events = events(&text);
        assert_eq!(events.last().unwrap()["type"], "message_stop", "{model}");
        let streamed: String = events
            .iter()
            .filter_map(|event| event["delta"]["text"].as_str())
            .collect();
        assert_eq!(streamed, said, "{model}");
    }
    world.quiet().await;
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_and_streamed_cost_the_same() {
    let world = world().await;
    for (engine, _) in OTHERS {
        let call = chat(&format!("m-{engine}"), "Count me.");
        world.client.post("acme", CHAT, &call).await.ok();
        streamed(&world, CHAT, call).await;
        world.quiet().await;
    }
    let (records, _, _) = world.end().await;
    let mut costs: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            ledger::Record::Settled(settled) => Some((settled.cost, settled.served.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(costs.len(), 2 * OTHERS.len());
    for ((engine, _), pair) in OTHERS.iter().zip(costs.chunks(2)) {
        // Bedrock's and Cohere's answers name no model.
        let names_it = !["bedrock", "cohere"]
            .iter()
            .any(|other| engine.contains(other));
        assert_eq!(pair[0].1.is_some(), names_it, "{engine}: {:?}", pair[0]);
    }
    for pair in costs.chunks_mut(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_in_the_clients_own_form() {
    let world = world().await;
    let refused = world
        .client
        .post("acme", MESSAGES, &message("nothing-like-it", "hi"))
        .await;
    assert_eq!(refused.status, 404);
    let error = refused.json();
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "not_found_error");
    assert!(error["request_id"].as_str().unwrap().starts_with("req_"));
    let nobody = http::Request::post(MESSAGES)
        .header("host", "gateway")
        .body(body(&message("sim-small", "hi")))
        .unwrap();
    let refused = world.client.exchange(nobody).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_said_there_is_refused_by_name_before_it_costs_anything() {
    let world = world().await;
    let call = with(
        chat("m-anthropic", "hi"),
        json!({"logit_bias": {"50256": -100}}),
    );
    let refused = world.client.post("acme", CHAT, &call).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(refused.json()["error"]["param"], "logit_bias");
    assert_eq!(world.engine.observed().requests, 0);
    let completion = json!({"model": "m-anthropic", "prompt": "hi"});
    let refused = world
        .client
        .post("acme", "/v1/completions", &completion)
        .await;
    refused.refused(400, "unsupported_operation");
}

/// A stream that is cut says so in the client's own way, and is settled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_stream_ends_with_an_error_of_the_clients_dialect() {
    let world = world().await;
    let call = message("m-anthropic", "[[fault:cut=3]] and on");
    let request = with(call, json!({"stream": true}));
    let request = post("acme", MESSAGES).body(body(&request)).unwrap();
    let answer = world.client.send(request).await;
    let mut body = answer.into_body();
    let mut text = String::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                text.push_str(&String::from_utf8_lossy(&data));
            }
        }
    };
    bounded(read).await;
    let events = events(&text);
    assert_eq!(events.last().unwrap()["type"], "error", "{text}");
    world.quiet().await;
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_tenant_is_served_with_its_own_credential_or_not_at_all() {
    let setup = Setup::new().await;
    let claude = json!({
        "engine": "anthropic",
        "base_url": setup.engine_url(),
        "provider": "sim",
        "credential_of": "tenant",
        "allow_private_address": true,
    });
    let route = json!({
        "targets": [{"upstream": "claude", "model": "sim-small"}],
        "output_tokens_max": 64,
    });
    let world = setup
        .put(Kind::Upstream, "claude", claude)
        .put(Kind::Route, "m", route)
        .start()
        .await;
    let call = async |owner: &str| {
        world
            .client
            .post(owner, MESSAGES, &message("m", "hi"))
            .await
    };
    let refused = call("acme").await;
    assert_eq!(refused.status, 403);
    let own = json!({"upstream": "claude", "secret": "sk-acme-1"});
    world.publish(vec![put_in(ACME, Kind::Credential, "own", own)]);
    call("acme").await.ok();
    let recorded = world.engine.observed().recorded;
    let seen = recorded.last().expect("a request");
    assert_eq!(seen.headers["x-api-key"], "sk-acme-1");
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    let own_key = secret("acme");
    assert!(!format!("{:?}", seen.headers).contains(&own_key));
    assert_eq!(call("globex").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_prompt_and_parameters_reach_messages_too() {
    let setup = Setup::new().await;
    let claude = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": "anthropic", "salting": "uncached"}),
    );
    let config = json!({
        "system_prompt": "You are of {{ tenant }}.",
        "forced_parameters": {"max_completion_tokens": 7},
        "default_parameters": {"stop": "END", "temperature": 0.5},
    });
    let world = setup
        .put(Kind::Upstream, "claude", claude)
        .put(
            Kind::Route,
            "m",
            json!({"targets": [{"upstream": "claude", "model": "sim-small"}], "output_tokens_max": 64}),
        )
        .put_in(ACME, Kind::Config, "config", config)
        .start()
        .await;
    let mut call = message("m", "hi");
    call["system"] = json!("Be brief.");
    world.client.post("acme", MESSAGES, &call).await.ok();
    let sent = world.last_body();
    assert_eq!(sent["system"], "You are of acme.\n\nBe brief.");
    assert_eq!(sent["max_tokens"], 7);
    assert_eq!(sent["stop_sequences"], json!(["END"]));
    assert_eq!(sent["temperature"], 0.5);
    call["system"] = json!([{"type": "text", "text": "Be brief."}]);
    world.client.post("acme", MESSAGES, &call).await.ok();
    let sent = world.last_body();
    assert_eq!(sent["system"][0]["text"], "You are of acme.");
    assert_eq!(sent["system"][1]["text"], "Be brief.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_and_limits_are_told_in_anthropics_form_to_its_clients() {
    let rate = json!({
        "subject": "tenant", "requests_per_minute": 60, "tokens_per_minute": 60_000,
    });
    let setup = Setup::new().await;
    let world = setup.put_in(ACME, Kind::Limit, "rate", rate).start().await;
    let get = async |path: &str| {
        let request = http::Request::get(path)
            .header("host", "gateway")
            .header("x-api-key", secret("acme"))
            .header("anthropic-version", "2023-06-01");
        let request = request.body(http_body_util::Full::default()).unwrap();
        world.client.exchange(request).await
    };
    let list = get("/v1/models?limit=1").await.ok();
    assert_eq!(list["data"][0]["type"], "model");
    assert_eq!(list["has_more"], true);
    assert_eq!(list["first_id"], list["data"][0]["id"]);
    let one = get("/v1/models/sim-small").await.ok();
    assert_eq!(one["display_name"], "sim-small");
    let absent = get("/v1/models/none").await;
    assert_eq!(absent.status, 404);
    assert_eq!(absent.json()["error"]["type"], "not_found_error");
    // OpenAI's clients have theirs, as before.
    let list = world.client.get("acme", "/v1/models").await.ok();
    assert_eq!(list["object"], "list");

    let answer = world
        .client
        .post("acme", MESSAGES, &message("sim-small", "hi"))
        .await;
    answer.ok();
    let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("anthropic-ratelimit-requests-limit"), "60");
    assert_eq!(header("anthropic-ratelimit-requests-remaining"), "59");
    assert_eq!(header("anthropic-ratelimit-tokens-limit"), "60000");
    let reset = header("anthropic-ratelimit-requests-reset");
    assert!(reset.parse::<base::Timestamp>().is_ok(), "{reset}");
    assert!(!answer.headers.contains_key("x-ratelimit-limit-requests"));
}

/// Anthropic's SDKs read `request-id`; it is on every answer that they get.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_messages_say_their_request_by_anthropics_name() {
    let world = world().await;
    let call = message("m-anthropic", "hi");
    let whole = world.client.post("acme", MESSAGES, &call).await;
    let count = counting("m-anthropic", "hi");
    let count = world.client.post("acme", COUNT, &count).await;
    let refused = world.client.post("nobody", MESSAGES, &call).await;
    assert_eq!((whole.status.as_u16(), refused.status.as_u16()), (200, 401));
    assert_eq!(count.status.as_u16(), 200, "{}", count.text());
    for reply in [&whole, &count, &refused] {
        let id = reply.header("request-id").unwrap();
        assert!(id.starts_with("req_"), "{id}");
        assert_eq!(Some(id), reply.header("x-request-id"));
    }
    assert_eq!(
        refused.json()["request_id"],
        refused.header("request-id").unwrap()
    );
    let events = world.client.stream("acme", MESSAGES, &call).await;
    assert!(events.headers.contains_key("request-id"));
    let chat = world.client.chat("acme", "hi").await;
    assert_eq!(chat.header("request-id"), None);
}

/// A message with a long system prompt that the provider is to keep for `ttl`.
fn kept_for(ttl: &str, text: &str) -> Value {
    let long = format!(
        "{text} {}",
        "Walls have two sides and one owner. ".repeat(200)
    );
    let mut call = message("m-anthropic", "Whose is it?");
    let cache = json!({"type": "ephemeral", "ttl": ttl});
    call["system"] = json!([{"type": "text", "text": long, "cache_control": cache}]);
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_keeps_for_an_hour_is_priced_apart() {
    let price = json!({"entries": [{
        "version": 9, "effective_from": "2020-01-01T00:00:00Z", "input": "0.000001",
        "output": "0", "cached_read": "0", "cached_write": "0.00000125",
        "cached_write_1h": "0.000002",
    }]});
    let all = json!({"subject": "tenant", "limit": "1000"});
    let setup = setup().await.put(Kind::Price, "sim/sim-small", price);
    let setup = setup.put_in(ACME, Kind::Budget, "all", all);
    let world = setup.start().await;
    for (ttl, micro_cents) in [("5m", 125), ("1h", 200)] {
        for streams in [false, true] {
            let call = kept_for(ttl, &format!("{ttl} {streams}"));
            let (usage, cost) = if streams {
                let before = world.account(ACME, "all").spent;
                let text = streamed(&world, MESSAGES, call).await;
                world.quiet().await;
                let events = events(&text);
                let start = events.iter().find(|event| event["type"] == "message_start");
                let usage = start.expect("it begins")["message"]["usage"].clone();
                (usage, world.account(ACME, "all").spent - before)
            } else {
                let answer = world.client.post("acme", MESSAGES, &call).await;
                (answer.ok()["usage"].clone(), answer.cost())
            };
            let count = |value: &Value| i128::from(value.as_u64().unwrap());
            let written = count(&usage["cache_creation_input_tokens"]);
            let hour = count(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
            assert!(written > 500, "{ttl}: {usage}");
            assert_eq!(hour, if ttl == "1h" { written } else { 0 }, "{usage}");
            let expected = count(&usage["input_tokens"]) * 100 + written * micro_cents;
            assert_eq!(cost.pico(), expected * 10_000, "{ttl}, streams: {streams}");
        }
    }
}

const COUNT: &str = "/v1/messages/count_tokens";

/// A message that is to be counted.
fn counting(model: &str, text: &str) -> Value {
    json!({
        "model": model, "system": "Be brief.",
        "messages": [{"role": "user", "content": text}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_counted_by_every_provider_that_counts() {
    let setup = setup().await;
    let openai = json!({
        "engine": "open-ai", "base_url": setup.engine_url(), "provider": "sim",
        "salting": "uncached", "allow_private_address": true,
    });
    let groq = with(openai.clone(), json!({"engine": "groq"}));
    let route = |upstream| {
        json!({
            "targets": [{"upstream": upstream, "model": "sim-small"}], "output_tokens_max": 64,
        })
    };
    let all = json!({"subject": "tenant", "limit": "1000"});
    let world = setup
        .put(Kind::Upstream, "openai", openai)
        .put(Kind::Upstream, "groq", groq)
        .put(Kind::Route, "m-openai", route("openai"))
        .put(Kind::Route, "m-groq", route("groq"))
        .put_in(ACME, Kind::Budget, "all", all)
        .start()
        .await;
    // `sim-small` is vLLM's.
    let long = "wall ".repeat(500);
    for model in [
        "m-anthropic",
        "m-gemini",
        "m-vertex",
        "m-bedrock",
        "m-openai",
        "sim-small",
    ] {
        let counted = async |text: &str| {
            let answer = world
                .client
                .post("acme", COUNT, &counting(model, text))
                .await;
            let body = answer.ok();
            assert_eq!(answer.cost(), base::PicoUsd::ZERO, "{model}");
            assert_eq!(
                body.as_object().map(serde_json::Map::len),
                Some(1),
                "{body}"
            );
            body["input_tokens"]
                .as_u64()
                .unwrap_or_else(|| panic!("{model}: {body}"))
        };
        let (short, long) = (counted("wall").await, counted(&long).await);
        assert!(short > 3 && long > short + 400, "{model}: {short}, {long}");
        // It is what the message itself is said to have read.
        let call = with(message(model, "wall"), json!({"system": "Be brief."}));
        let sent = world.client.post("acme", MESSAGES, &call).await.ok();
        let usage = &sent["usage"];
        let read: u64 = [
            "input_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ]
        .into_iter()
        .map(|field| usage[field].as_u64().unwrap_or(0))
        .sum();
        assert_eq!(short, read, "{model}");
    }
    for model in ["m-cohere", "m-groq"] {
        let call = counting(model, "wall");
        let refused = world.client.post("acme", COUNT, &call).await;
        assert_eq!(refused.status.as_u16(), 400, "{model}: {}", refused.text());
        assert!(
            refused.text().contains("count_tokens"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(world.gateway.live_holds(), 0);
}
