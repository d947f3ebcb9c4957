//! OpenAI's Responses from any provider, and what of them is kept: in the tenant, and no further.

use base::PicoUsd;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{secret, upstream, with};
use crate::world::client::Reply;
use crate::world::{Setup, World};

const RESPONSES: &str = "/v1/responses";

fn ask(input: impl Into<Value>) -> Value {
    json!({"model": "sim-small", "input": input.into()})
}

async fn id_of(world: &World, owner: &str, call: &Value) -> String {
    let answer = world.client.post(owner, RESPONSES, call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn delete(world: &World, owner: &str, id: &str) -> Reply {
    let request = Request::delete(format!("{RESPONSES}/{id}"))
        .header("host", "gateway")
        .header("authorization", format!("Bearer {}", secret(owner)));
    let request = request.body(Full::default()).unwrap();
    world.client.exchange(request).await
}

/// The texts that the engine was sent last, in order.
fn sent_texts(world: &World) -> Vec<String> {
    let messages = world.last_body()["messages"].clone();
    let text = |message: &Value| match &message["content"] {
        Value::String(text) => text.clone(),
        content => content[0]["text"].as_str().unwrap().to_owned(),
    };
    messages.as_array().unwrap().iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_is_answered_metered_and_says_its_request_again() {
    let world = World::new().await;
    let call = with(
        ask("What is a party wall?"),
        json!({"instructions": "Be brief.", "metadata": {"a": "b"}, "max_output_tokens": 9}),
    );
    let answer = world.client.post("acme", RESPONSES, &call).await;
    let response = answer.ok();
    assert_eq!(response["object"], "response");
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(response["instructions"], "Be brief.");
    assert_eq!(response["metadata"], json!({"a": "b"}));
    assert_eq!(response["store"], true);
    assert_eq!(response["output"][0]["type"], "message");
    assert!(response["usage"]["output_tokens"].as_u64().unwrap() <= 9);
    assert!(answer.cost() > PicoUsd::ZERO);
    // An upstream keeps nothing of it.
    assert!(
        world
            .last_body()
            .get("store")
            .is_none_or(|store| *store == false)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_goes_on_from_all_before_it() {
    let world = World::new().await;
    let first = world
        .client
        .post("acme", RESPONSES, &ask("One?"))
        .await
        .ok();
    let said = first["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let second = with(ask("Two?"), json!({"previous_response_id": first["id"]}));
    let second = world.client.post("acme", RESPONSES, &second).await.ok();
    assert_eq!(second["previous_response_id"], first["id"]);
    assert_eq!(sent_texts(&world), ["One?", &said, "Two?"]);
    let said_then = second["output"][0]["content"][0]["text"].as_str().unwrap();
    let third = with(ask("Three?"), json!({"previous_response_id": second["id"]}));
    world.client.post("acme", RESPONSES, &third).await.ok();
    assert_eq!(
        sent_texts(&world),
        ["One?", &said, "Two?", said_then, "Three?"]
    );

    // One item of it, by its id.
    let named = first["output"][0]["id"].clone();
    let call = ask(json!([
        {"type": "item_reference", "id": named}, {"role": "user", "content": "And?"}
    ]));
    world.client.post("acme", RESPONSES, &call).await.ok();
    assert_eq!(sent_texts(&world), [&said, "And?"]);
}

/// What is joined is bounded and held for as any other input (invariant 5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_what_a_response_goes_on_from_is_in_its_bound() {
    let world = World::new().await;
    let long = id_of(&world, "acme", &ask("wall ".repeat(400))).await;
    let next = with(ask("And?"), json!({"previous_response_id": long}));
    let answer = world.client.post("acme", RESPONSES, &next).await;
    let used = answer.ok()["usage"]["input_tokens"].as_u64().unwrap();
    world.quiet().await;
    let (records, _, _) = world.end().await;
    let bound = records.iter().rev().find_map(|record| match record {
        ledger::Record::Intent(intent) => Some(intent.input_bound),
        _ => None,
    });
    assert!(bound.unwrap() > 2_000 && bound.unwrap() >= used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_1_responses_are_their_tenants_own() {
    let world = World::new().await;
    let id = id_of(&world, "acme", &ask("A secret of acme's")).await;
    let path = format!("{RESPONSES}/{id}");
    let own = world.client.get("acme", &path).await;
    assert_eq!(own.ok()["id"], *id);
    let absent = world
        .client
        .get("globex", &format!("{RESPONSES}/resp_none"))
        .await;
    absent.refused(404, "response_not_found");
    let foreign = world.client.get("globex", &path).await;
    assert_eq!(foreign.text().replace(&id, "resp_none"), absent.text());
    let items = world
        .client
        .get("globex", &format!("{path}/input_items"))
        .await;
    items.refused(404, "response_not_found");
    assert_eq!(delete(&world, "globex", &id).await.status, 404);
    let next = with(ask("Go on"), json!({"previous_response_id": id}));
    let refused = world.client.post("globex", RESPONSES, &next).await;
    refused.refused(400, "previous_response_not_found");
    let item = format!("msg_{}_0", id.strip_prefix("resp_").unwrap());
    let named = ask(json!([{"type": "item_reference", "id": item}]));
    let refused = world.client.post("globex", RESPONSES, &named).await;
    refused.refused(400, "item_not_found");
    world.client.post("acme", RESPONSES, &named).await.ok();

    assert_eq!(delete(&world, "acme", &id).await.ok()["deleted"], true);
    assert_eq!(delete(&world, "acme", &id).await.status, 404);
    world
        .client
        .get("acme", &path)
        .await
        .refused(404, "response_not_found");
    let refused = world.client.post("acme", RESPONSES, &next).await;
    refused.refused(400, "previous_response_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_to_be_stored_is_not() {
    let world = World::new().await;
    let answer = world
        .client
        .post("acme", RESPONSES, &with(ask("hi"), json!({"store": false})))
        .await
        .ok();
    assert_eq!(answer["store"], false);
    let path = format!("{RESPONSES}/{}", answer["id"].as_str().unwrap());
    world
        .client
        .get("acme", &path)
        .await
        .refused(404, "response_not_found");
    for (more, param) in [
        (json!({"conversation": 1}), "conversation"),
        (json!({"store": "no"}), "store"),
        (json!({"background": true}), "background"),
        (json!({"previous_response_id": 7}), "previous_response_id"),
    ] {
        let refused = world
            .client
            .post("acme", RESPONSES, &with(ask("hi"), more))
            .await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(refused.json()["error"]["param"], param);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_items_of_an_input_are_listed_by_pages() {
    let world = World::new().await;
    let input: Vec<Value> = ["one", "two", "three"]
        .map(|text| json!({"role": "user", "content": text}))
        .into();
    let id = id_of(&world, "acme", &ask(input)).await;
    let path = format!("{RESPONSES}/{id}/input_items");
    let page = world
        .client
        .get("acme", &format!("{path}?limit=2"))
        .await
        .ok();
    let texts = |page: &Value| -> Vec<String> {
        let items = page["data"].as_array().unwrap();
        let text = |item: &Value| item["content"][0]["text"].as_str().unwrap().to_owned();
        items.iter().map(text).collect()
    };
    assert_eq!(texts(&page), ["three", "two"]);
    assert_eq!(page["has_more"], true);
    let last = page["last_id"].as_str().unwrap();
    let rest = world
        .client
        .get("acme", &format!("{path}?after={last}"))
        .await
        .ok();
    assert_eq!(
        (texts(&rest), &rest["has_more"]),
        (vec!["one".to_owned()], &json!(false))
    );
    let ascending = world
        .client
        .get("acme", &format!("{path}?order=asc"))
        .await
        .ok();
    assert_eq!(texts(&ascending), ["one", "two", "three"]);
    for wrong in ["limit=0", "limit=101", "after=x", "before=x"] {
        let refused = world.client.get("acme", &format!("{path}?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
}

/// A stream's response can be gone on from as soon as its client has its last event, from every
/// provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_response_is_stored_when_its_client_has_it() {
    let setup = Setup::new().await;
    let claude = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"engine": "anthropic", "salting": "uncached"}),
    );
    let route = json!({
        "targets": [{"upstream": "claude", "model": "sim-small"}], "output_tokens_max": 64,
    });
    let world = setup
        .put(Kind::Upstream, "claude", claude)
        .put(Kind::Route, "claude", route)
        .start()
        .await;
    for model in ["sim-small", "claude"] {
        let call = with(ask("One?"), json!({"model": model, "stream": true}));
        let text = world.client.post("acme", RESPONSES, &call).await.text();
        let mut datas = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let last: Value = serde_json::from_str(datas.next_back().unwrap()).unwrap();
        assert_eq!(last["type"], "response.completed", "{model}");
        let id = last["response"]["id"].as_str().unwrap();
        let next = json!({"model": model, "input": "Two?", "previous_response_id": id});
        world.client.post("acme", RESPONSES, &next).await.ok();
        let kept = world.client.get("acme", &format!("{RESPONSES}/{id}")).await;
        assert_eq!(kept.ok(), last["response"], "{model}");
    }
}
