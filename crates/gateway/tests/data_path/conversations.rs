//! Conversations: what is said in them is added to them, in the tenant and no further.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::world::World;
use crate::world::catalogue::{secret, with};
use crate::world::client::Reply;

const CONVERSATIONS: &str = "/v1/conversations";
const RESPONSES: &str = "/v1/responses";

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn ask(conversation: &str, text: &str) -> Value {
    json!({"model": "sim-small", "input": text, "conversation": conversation})
}

async fn create(world: &World, owner: &str, value: &Value) -> String {
    let made = world.client.post(owner, CONVERSATIONS, value).await.ok();
    assert_eq!(made["object"], "conversation");
    made["id"].as_str().unwrap().to_owned()
}

async fn delete(world: &World, owner: &str, path: &str) -> Reply {
    let request = Request::builder()
        .method(Method::DELETE)
        .uri(path)
        .header("host", "gateway")
        .header("authorization", format!("Bearer {}", secret(owner)));
    let request = request.body(Full::default()).unwrap();
    world.client.exchange(request).await
}

/// Who says what in a conversation, the oldest first.
async fn said(world: &World, id: &str) -> Vec<(String, String)> {
    let path = format!("{CONVERSATIONS}/{id}/items?order=asc&limit=100");
    let page = world.client.get("acme", &path).await.ok();
    let text = |item: &Value| {
        let text = item["content"][0]["text"].as_str().unwrap();
        (item["role"].as_str().unwrap().to_owned(), text.to_owned())
    };
    page["data"].as_array().unwrap().iter().map(text).collect()
}

fn text_of(response: &Value) -> String {
    let text = response["output"][0]["content"][0]["text"].as_str();
    text.unwrap().to_owned()
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
async fn a_conversation_is_made_changed_listed_and_removed() {
    let world = World::new().await;
    let call = json!({
        "metadata": {"topic": "walls"},
        "items": [user("one"), {"role": "assistant", "content": "two", "id": "msg_own"}],
    });
    let id = create(&world, "acme", &call).await;
    assert!(id.starts_with("conv_"));
    let path = format!("{CONVERSATIONS}/{id}");
    let found = world.client.get("acme", &path).await.ok();
    assert_eq!(found["metadata"], json!({"topic": "walls"}));
    assert!(found["created_at"].as_i64().unwrap() > 0);
    let changed = json!({"metadata": {"topic": "doors"}});
    let changed = world.client.post("acme", &path, &changed).await.ok();
    assert_eq!(changed["metadata"], json!({"topic": "doors"}));
    assert_eq!(changed["created_at"], found["created_at"]);

    let items = format!("{path}/items");
    let more = json!({"items": [user("three"), user("four")]});
    let added = world.client.post("acme", &items, &more).await.ok();
    assert_eq!(added["data"].as_array().unwrap().len(), 2);
    assert_eq!(added["data"][0]["type"], "message");
    assert_eq!(added["data"][0]["status"], "completed");
    assert_eq!(added["first_id"], added["data"][0]["id"]);
    let page = |query: &str| {
        let path = format!("{items}{query}");
        let client = &world.client;
        async move { client.get("acme", &path).await.ok() }
    };
    let texts = |page: &Value| -> Vec<String> {
        let items = page["data"].as_array().unwrap().iter();
        let text = |item: &Value| item["content"][0]["text"].as_str().unwrap().to_owned();
        items.map(text).collect()
    };
    let newest = page("?limit=3&include[]=message.output_text.logprobs").await;
    assert_eq!(texts(&newest), ["four", "three", "two"]);
    assert_eq!(
        (&newest["has_more"], &newest["last_id"]),
        (&json!(true), &json!("msg_own"))
    );
    let rest = page("?after=msg_own").await;
    assert_eq!(
        (texts(&rest), &rest["has_more"]),
        (vec!["one".to_owned()], &json!(false))
    );
    assert_eq!(texts(&page("?order=asc&limit=2").await), ["one", "two"]);
    let empty = create(&world, "acme", &json!({})).await;
    let nothing = world
        .client
        .get("acme", &format!("{CONVERSATIONS}/{empty}/items"))
        .await;
    assert_eq!(nothing.ok()["data"], json!([]));

    let one = world
        .client
        .get("acme", &format!("{items}/msg_own"))
        .await
        .ok();
    assert_eq!(one["content"][0]["type"], "output_text");
    assert_eq!(
        delete(&world, "acme", &format!("{items}/msg_own"))
            .await
            .ok()["id"],
        *id
    );
    let gone = world.client.get("acme", &format!("{items}/msg_own")).await;
    gone.refused(404, "item_not_found");
    let gone = delete(&world, "acme", &format!("{items}/msg_own")).await;
    gone.refused(404, "item_not_found");
    assert_eq!(texts(&page("?order=asc").await), ["one", "three", "four"]);

    let gone = delete(&world, "acme", &path).await.ok();
    assert_eq!(
        gone,
        json!({"id": id, "object": "conversation.deleted", "deleted": true})
    );
    world
        .client
        .get("acme", &path)
        .await
        .refused(404, "conversation_not_found");
    world
        .client
        .get("acme", &items)
        .await
        .refused(404, "conversation_not_found");
    delete(&world, "acme", &path)
        .await
        .refused(404, "conversation_not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_goes_on_from_its_conversation_and_is_added_to_it() {
    let world = World::new().await;
    let id = create(&world, "acme", &json!({"items": [user("Zero.")]})).await;
    let first = world
        .client
        .post("acme", RESPONSES, &ask(&id, "One?"))
        .await
        .ok();
    assert_eq!(first["conversation"], json!({"id": id}));
    assert_eq!(first["previous_response_id"], Value::Null);
    assert_eq!(sent_texts(&world), ["Zero.", "One?"]);
    let one = text_of(&first);

    // By an object, as a stream, and without keeping the response itself.
    let call = with(
        ask(&id, "Two?"),
        json!({"conversation": {"id": id}, "store": false}),
    );
    let events = world.client.stream("acme", RESPONSES, &call).await;
    let last: Value = serde_json::from_str(events.frames.last().unwrap()).unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["conversation"], json!({"id": id}));
    assert_eq!(sent_texts(&world), ["Zero.", "One?", &one, "Two?"]);
    let two = text_of(&last["response"]);
    let path = format!("{RESPONSES}/{}", last["response"]["id"].as_str().unwrap());
    world
        .client
        .get("acme", &path)
        .await
        .refused(404, "response_not_found");

    // One that was cut short by its own bound belongs to it, too.
    let call = with(ask(&id, "Three?"), json!({"max_output_tokens": 1}));
    let third = world.client.post("acme", RESPONSES, &call).await.ok();
    let expected = [
        ("user", "Zero."),
        ("user", "One?"),
        ("assistant", &one),
        ("user", "Two?"),
        ("assistant", &two),
        ("user", "Three?"),
        ("assistant", &text_of(&third)),
    ];
    let expected = expected.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(said(&world, &id).await, expected);

    // The items have the ids that their clients know them by.
    let item = format!(
        "{CONVERSATIONS}/{id}/items/{}",
        first["output"][0]["id"].as_str().unwrap()
    );
    let item = world.client.get("acme", &item).await.ok();
    assert_eq!(item["content"][0]["text"], *one);
    let path = format!("{RESPONSES}/{}/input_items", first["id"].as_str().unwrap());
    let input = world.client.get("acme", &path).await.ok();
    let path = format!(
        "{CONVERSATIONS}/{id}/items/{}",
        input["data"][0]["id"].as_str().unwrap()
    );
    assert_eq!(world.client.get("acme", &path).await.ok(), input["data"][0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_or_was_refused_is_not_added() {
    let world = World::new().await;
    let id = create(&world, "acme", &json!({})).await;
    for (more, status) in [
        (json!({"input": "[[fault:cut=3]]"}), 502),
        (json!({"input": "[[fault:error=4]]"}), 502),
        (json!({"model": "none"}), 404),
        (json!({"max_output_tokens": 1_000_000}), 400),
        (json!({"previous_response_id": "resp_1"}), 400),
        (json!({"conversation": 7}), 400),
    ] {
        let call = with(with(ask(&id, "hi"), json!({"model": "metered"})), more);
        let reply = world.client.post("acme", RESPONSES, &call).await;
        assert_eq!(reply.status, status, "{call}: {}", reply.text());
    }
    for fault in ["[[fault:cut=6]]", "[[fault:error=4]]", "[[fault:garbage]]"] {
        let call = with(ask(&id, fault), json!({"model": "metered"}));
        let events = world.client.stream("acme", RESPONSES, &call).await;
        let last = events.frames.last().unwrap();
        assert!(!last.contains("response.completed"), "{last}");
    }
    assert_eq!(said(&world, &id).await, []);
    let both = with(ask(&id, "hi"), json!({"previous_response_id": "resp_1"}));
    let refused = world.client.post("acme", RESPONSES, &both).await;
    refused.refused(400, "mutually_exclusive_parameters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_is_in_a_conversation_once() {
    let world = World::new().await;
    let call = json!({"model": "sim-small", "input": "Elsewhere."});
    let other = world.client.post("acme", RESPONSES, &call).await.ok();
    let id = create(
        &world,
        "acme",
        &json!({"items": [{"id": "m1", "role": "user", "content": "a"}]}),
    )
    .await;
    // An item of another response is added as it is.
    let named = json!([{"type": "item_reference", "id": other["output"][0]["id"]}, user("And?")]);
    let call = json!({"model": "sim-small", "input": named, "conversation": id});
    let answer = world.client.post("acme", RESPONSES, &call).await.ok();
    let elsewhere = text_of(&other);
    assert_eq!(sent_texts(&world), ["a", &elsewhere, "And?"]);
    let all = said(&world, &id).await;
    assert_eq!(all[1], ("assistant".to_owned(), elsewhere));
    // What is there already is not said again: neither whole, nor by its name, nor twice at once.
    for input in [
        json!([{"id": "m1", "role": "user", "content": "again"}]),
        json!([{"type": "item_reference", "id": "m1"}, user("?")]),
        named,
        json!([{"id": "m2", "role": "user", "content": "b"}, {"id": "m2", "role": "user", "content": "b"}]),
    ] {
        let call = json!({"model": "sim-small", "input": input, "conversation": id});
        let refused = world.client.post("acme", RESPONSES, &call).await;
        refused.refused(400, "duplicate_item");
    }
    let path = format!("{CONVERSATIONS}/{id}/items");
    let again = json!({"items": [{"id": "m1", "role": "user", "content": "a"}]});
    world
        .client
        .post("acme", &path, &again)
        .await
        .refused(400, "duplicate_item");
    // A response goes on from its whole conversation, and not from the last turn of it alone.
    let next = json!({"model": "sim-small", "input": "hi", "previous_response_id": answer["id"]});
    let refused = world.client.post("acme", RESPONSES, &next).await;
    refused.refused(400, "invalid_value");
    assert_eq!(refused.json()["error"]["param"], "previous_response_id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_at_the_same_time_stay_whole() {
    let world = World::new().await;
    let id = create(&world, "acme", &json!({})).await;
    let turns = (0..8).map(|number| {
        let (world, call) = (&world, ask(&id, &format!("[[tokens:3]] {number}")));
        async move {
            if number % 2 == 0 {
                world.client.stream("acme", RESPONSES, &call).await;
            } else {
                world.client.post("acme", RESPONSES, &call).await.ok();
            }
        }
    });
    futures_of(turns.collect()).await;
    let all = said(&world, &id).await;
    assert_eq!(all.len(), 16);
    let mut asked: Vec<&str> = Vec::new();
    for turn in all.chunks(2) {
        assert_eq!((&*turn[0].0, &*turn[1].0), ("user", "assistant"), "{all:?}");
        asked.push(&turn[0].1);
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 8);
}

/// Runs all of them at the same time.
async fn futures_of(all: Vec<impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        match all.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

/// Nothing of a conversation is there for another tenant, in any way of asking for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_1_conversations_are_their_tenants_own() {
    let world = World::new().await;
    let secret =
        json!({"items": [{"id": "msg_s", "role": "user", "content": "A secret of acme's"}]});
    let id = create(&world, "acme", &secret).await;
    for (own, absent) in [
        (
            format!("{CONVERSATIONS}/{id}"),
            format!("{CONVERSATIONS}/conv_none"),
        ),
        (
            format!("{CONVERSATIONS}/{id}/items"),
            format!("{CONVERSATIONS}/conv_none/items"),
        ),
        (
            format!("{CONVERSATIONS}/{id}/items/msg_s"),
            format!("{CONVERSATIONS}/conv_none/items/msg_s"),
        ),
    ] {
        world.client.get("acme", &own).await.ok();
        let same = |foreign: &Reply, none: &Reply| {
            assert_eq!(foreign.status, 404);
            assert_eq!(foreign.text().replace(&id, "conv_none"), none.text());
        };
        let none = world.client.get("globex", &absent).await;
        same(&world.client.get("globex", &own).await, &none);
        let change = match own.ends_with("/items") {
            true => json!({"items": [user("mine now")]}),
            false => json!({"metadata": {"a": "b"}}),
        };
        if !own.ends_with("msg_s") {
            let none = world.client.post("globex", &absent, &change).await;
            same(&world.client.post("globex", &own, &change).await, &none);
        }
        if !own.ends_with("/items") {
            let none = delete(&world, "globex", &absent).await;
            same(&delete(&world, "globex", &own).await, &none);
        }
    }
    let none = world
        .client
        .post("globex", RESPONSES, &ask("conv_none", "hi"))
        .await;
    none.refused(404, "conversation_not_found");
    let foreign = world
        .client
        .post("globex", RESPONSES, &ask(&id, "hi"))
        .await;
    assert_eq!(foreign.text().replace(&id, "conv_none"), none.text());
    assert_eq!(foreign.status, 404);
    // An item of it has no name elsewhere either.
    let own = create(&world, "globex", &json!({})).await;
    let named = json!([{"type": "item_reference", "id": "msg_s"}]);
    let call = json!({"model": "sim-small", "input": named, "conversation": own});
    let refused = world.client.post("globex", RESPONSES, &call).await;
    refused.refused(400, "item_not_found");
    // And nothing happened to it.
    let kept = world
        .client
        .get("acme", &format!("{CONVERSATIONS}/{id}"))
        .await
        .ok();
    assert_eq!(kept["metadata"], json!({}));
    assert_eq!(
        said(&world, &id).await,
        [("user".to_owned(), "A secret of acme's".to_owned())]
    );
    assert_eq!(world.engine.observed().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_conversation_cannot_hold_is_refused_by_name() {
    let world = World::new().await;
    let id = create(&world, "acme", &json!({})).await;
    let path = format!("{CONVERSATIONS}/{id}");
    let items = format!("{path}/items");
    let many: Vec<Value> = (0..21).map(|_| user("hi")).collect();
    let pairs: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("x"))).collect();
    for (to, call, param) in [
        (&*items, json!({"items": many}), "items"),
        (&*items, json!({}), "items"),
        (&*items, json!({"items": "hi"}), "items"),
        (&*items, json!({"items": [{"role": "user"}]}), "items.0"),
        (
            &*items,
            json!({"items": [{"type": "item_reference", "id": "m"}]}),
            "items.0",
        ),
        (
            &*items,
            json!({"items": [with(user("a"), json!({"id": "a b"}))]}),
            "id",
        ),
        (&*items, json!({"items": [], "metadata": {}}), "metadata"),
        (&*path, json!({}), "metadata"),
        (&*path, json!({"metadata": pairs}), "metadata"),
        (&*path, json!({"metadata": {"a": 1}}), "metadata"),
        (
            &*path,
            json!({"metadata": {"a": "x".repeat(513)}}),
            "metadata",
        ),
        (
            &*path,
            json!({"metadata": {"x".repeat(65): "a"}}),
            "metadata",
        ),
        (CONVERSATIONS, json!({"title": "x"}), "title"),
        (CONVERSATIONS, json!({"items": {}}), "items"),
        // What no request may say is in none that is joined with it.
        (
            CONVERSATIONS,
            json!({"items": [with(user("a"), json!({"cache_salt": "x"}))]}),
            "cache_salt",
        ),
    ] {
        let refused = world.client.post("acme", to, &call).await;
        assert_eq!(refused.status, 400, "{call}: {}", refused.text());
        let named = refused.json()["error"]["param"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(named.ends_with(param), "{call}: {named}");
    }
    for query in [
        "?limit=0",
        "?limit=101",
        "?after=x",
        "?include=x",
        "?before=x",
    ] {
        let refused = world.client.get("acme", &format!("{items}{query}")).await;
        assert_eq!(refused.status, 400, "{query}");
    }
    for path in [format!("{path}?x=1"), format!("{items}/m?limit=1")] {
        assert_eq!(world.client.get("acme", &path).await.status, 400, "{path}");
    }
    assert_eq!(said(&world, &id).await, []);
}

/// What is joined is bounded and held for as any other input (invariant 5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_what_a_conversation_holds_is_in_the_bound() {
    let world = World::new().await;
    let long = json!({"items": [user(&"wall ".repeat(400))]});
    let id = create(&world, "acme", &long).await;
    let answer = world
        .client
        .post("acme", RESPONSES, &ask(&id, "And?"))
        .await;
    let used = answer.ok()["usage"]["input_tokens"].as_u64().unwrap();
    world.quiet().await;
    let (records, _, _) = world.end().await;
    let bound = records.iter().rev().find_map(|record| match record {
        ledger::Record::Intent(intent) => Some(intent.input_bound),
        _ => None,
    });
    assert!(bound.unwrap() > 2_000 && bound.unwrap() >= used);
}
