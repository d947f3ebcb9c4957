//! "Compile context": the tenant's own prompt and parameters, and what only the gateway may say.

use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::world::catalogue::{ACME, key, put_in, with};
use crate::world::client::{CHAT, chat, post};
use crate::world::{Setup, World};

async fn configured(config: Value) -> World {
    let setup = Setup::new().await;
    setup
        .put_in(ACME, Kind::Config, "config", config)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenants_prompt_comes_first_and_values_are_no_templates() {
    let config = json!({
        "system_prompt": "You serve {{ tenant }}, {{ feature }}, {{ model }}{% if flags.beta %}, beta{% endif %}.",
        "flags": {"beta": true},
    });
    let world = configured(config).await;
    let request = post("acme", CHAT).header("partywall-feature", "support-chat");
    let body = chat("sim-small", "{{ 7 * 7 }}").to_string();
    world
        .client
        .exchange(request.body(body.into()).unwrap())
        .await
        .ok();
    let messages = &world.last_body()["messages"];
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(
        messages[0]["content"],
        "You serve acme, support-chat, sim-small, beta."
    );
    assert_eq!(messages[1]["content"], "{{ 7 * 7 }}");

    world.client.chat("globex", "hello").await.ok();
    assert_eq!(
        world.last_body()["messages"].as_array().unwrap().len(),
        1,
        "another's prompt"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_fill_in_and_forced_parameters_replace() {
    let world = configured(json!({
        "default_parameters": {"temperature": 0.5, "seed": 3},
        "forced_parameters": {"top_p": 0.25},
    }))
    .await;
    let body = with(
        chat("sim-small", "hello"),
        json!({"temperature": 1, "top_p": 0.9}),
    );
    world.client.post("acme", CHAT, &body).await.ok();
    let sent = world.last_body();
    assert_eq!(
        (&sent["temperature"], &sent["seed"], &sent["top_p"]),
        (&json!(1), &json!(3), &json!(0.25))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_bound_on_the_output_holds_by_whichever_name_a_client_calls_it() {
    let world = configured(json!({"forced_parameters": {"max_tokens": 7}})).await;
    for field in ["max_tokens", "max_completion_tokens"] {
        let body = with(chat("sim-small", "hello"), json!({field: 50}));
        let answer = world.client.post("acme", CHAT, &body).await.ok();
        assert_eq!(answer["usage"]["completion_tokens"], 7, "{field}");
    }
    let config = json!({"default_parameters": {"max_tokens": 7}});
    world.publish(vec![put_in(ACME, Kind::Config, "config", config)]);
    let body = with(
        chat("sim-small", "hello"),
        json!({"max_completion_tokens": 9}),
    );
    let answer = world.client.post("acme", CHAT, &body).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 9, "the client's own");
    let answer = world.client.chat("acme", "hello").await.ok();
    assert_eq!(
        answer["usage"]["completion_tokens"], 7,
        "the tenant's default"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_is_always_bounded_upstream() {
    let world = World::new().await;
    world.client.chat("acme", "hello").await.ok();
    assert_eq!(world.last_body()["max_tokens"], 64, "the route's");
    let body = with(
        chat("sim-small", "hello"),
        json!({"max_tokens": 5, "max_completion_tokens": 5}),
    );
    world.client.post("acme", CHAT, &body).await.ok();
    let sent = world.last_body();
    assert_eq!(sent["max_completion_tokens"], 5);
    assert!(sent.get("max_tokens").is_none(), "one of the two");
    let body = with(chat("sim-small", "hello"), json!({"max_tokens": 65}));
    let reply = world.client.post("acme", CHAT, &body).await;
    reply.refused(400, "integer_above_max_value");
    assert_eq!(reply.json()["error"]["param"], "max_tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_that_lead_to_others_are_refused_at_any_depth() {
    let world = World::new().await;
    for name in models::REFUSED_FIELDS {
        let deep = json!({"a": [{"b": {*name: "x"}}]});
        let in_message = json!([{"role": "user", "content": "hello", "extra": {*name: 1}}]);
        for more in [
            json!({*name: "x"}),
            json!({"x_custom": deep}),
            json!({"messages": in_message}),
        ] {
            let body = with(chat("sim-small", "hello"), more);
            let reply = world.client.post("acme", CHAT, &body).await;
            assert_eq!(reply.status.as_u16(), 400, "{body}: {}", reply.text());
            assert!(reply.text().contains(name));
        }
    }
    // However it is spelled.
    let escaped =
        chat("sim-small", "hello")
            .to_string()
            .replacen('{', r#"{"cache\u005fsalt":"x","#, 1);
    let request = post("acme", CHAT).body(escaped.into()).unwrap();
    assert_eq!(world.client.exchange(request).await.status.as_u16(), 400);
    assert_eq!(world.engine.observed().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_own_configuration_cannot_set_them_either() {
    for parameters in ["default_parameters", "forced_parameters"] {
        for (name, value) in [
            ("kv_transfer_params", json!({"x": 1})),
            ("cache_salt", json!("globex")),
            ("extra", json!([{"lora_path": "/other"}])),
        ] {
            let world = configured(json!({parameters: {name: value}})).await;
            let reply = world.client.chat("acme", "hello").await;
            reply.refused(400, "invalid_configuration");
            assert_eq!(world.engine.observed().requests, 0, "{parameters} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_cannot_be_rendered_is_the_administrators_to_mend() {
    let world = configured(json!({"system_prompt": "{{ missing }}"})).await;
    world
        .client
        .chat("acme", "hello")
        .await
        .refused(400, "invalid_configuration");
    world.client.chat("globex", "hello").await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_are_named_by_those_who_may() {
    let service = key(
        "service",
        json!({"features": ["billing"], "default_feature": "billing"}),
    );
    let setup = Setup::new()
        .await
        .put_in(ACME, Kind::Feature, "billing", json!({}));
    let world = setup
        .put_in(ACME, Kind::Key, "service", service)
        .start()
        .await;
    let call = async |feature: &str| {
        let request = post("service", CHAT).header("partywall-feature", feature);
        let body = chat("sim-small", "hello").to_string();
        world
            .client
            .exchange(request.body(body.into()).unwrap())
            .await
    };
    call("billing").await.ok();
    call("support")
        .await
        .refused(403, "insufficient_permissions");
    call("No Name").await.refused(400, "invalid_header");
    world.client.chat("service", "hello").await.ok();
    let turn_alone = post("acme", CHAT).header("partywall-turn", "1");
    let body = chat("sim-small", "hello").to_string();
    let reply = world
        .client
        .exchange(turn_alone.body(body.into()).unwrap())
        .await;
    reply.refused(400, "invalid_header");
}
