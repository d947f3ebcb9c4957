//! Prompts: versioned templates with variables, by feature or by name, of one tenant alone.

use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use crate::hops::intents;
use crate::world::catalogue::{ACME, GLOBEX, put_in, remove_in};
use crate::world::client::{CHAT, body, chat, post};
use crate::world::{Setup, World};

fn prompt(active: u32) -> Value {
    json!({"active": active, "versions": {
        "1": {"template": "Serve {{ tenant }}."},
        "2": {"template": "Help {{ name }} with {{ product }}.", "variables": {
            "name": {"required": true, "bytes_max": 16},
            "product": {"default": "the house"},
        }},
    }})
}

async fn world() -> World {
    let setup = Setup::new().await;
    setup
        .put_in(ACME, Kind::Prompt, "support", prompt(2))
        .put_in(GLOBEX, Kind::Prompt, "theirs", prompt(1))
        .start()
        .await
}

fn asking(partywall: Value) -> Value {
    let mut call = chat("sim-small", "hi");
    call["partywall"] = partywall;
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_names_a_prompt_of_its_tenant_and_gives_it_values() {
    let world = world().await;
    let call = asking(json!({"prompt": "support", "variables": {"name": "Ada"}}));
    world.client.post("acme", CHAT, &call).await.ok();
    let sent = world.last_body();
    let system = json!({"role": "system", "content": "Help Ada with the house."});
    assert_eq!(sent["messages"][0], system);
    assert_eq!(sent["messages"][1]["content"], "hi");
    assert!(sent.get("partywall").is_none(), "{sent}");
    let first = asking(json!({"prompt": "support@1"}));
    world.client.post("acme", CHAT, &first).await.ok();
    assert_eq!(world.last_body()["messages"][0]["content"], "Serve acme.");
    world.quiet().await;
    let (records, ..) = world.end().await;
    let used = intents(&records).into_iter().map(|one| one.prompt.clone());
    let used: Vec<Option<Box<str>>> = used.collect();
    assert_eq!(used, [Some("support@2".into()), Some("support@1".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialect_has_it_where_its_system_prompt_is() {
    let world = world().await;
    let ours = json!({"prompt": "support", "variables": {"name": "Ada", "product": 7}});
    let message = json!({"model": "sim-small", "max_tokens": 9, "system": "Mind the gap.",
        "messages": [{"role": "user", "content": "hi"}], "partywall": ours});
    world
        .client
        .post("acme", "/v1/messages", &message)
        .await
        .ok();
    let system = &world.last_body()["messages"][0]["content"];
    assert!(system.to_string().contains("Help Ada with 7."), "{system}");
    assert!(system.to_string().contains("Mind the gap."), "{system}");
    let response = json!({"model": "sim-small", "input": "hi", "store": false, "partywall": ours});
    world
        .client
        .post("acme", "/v1/responses", &response)
        .await
        .ok();
    let sent = world.last_body().to_string();
    assert!(sent.contains("Help Ada with 7."), "{sent}");
    assert!(!sent.contains("partywall"), "{sent}");
    let embedding = json!({"model": "sim-embed", "input": "hi", "partywall": ours});
    let refused = world
        .client
        .post("acme", "/v1/embeddings", &embedding)
        .await;
    refused.refused(400, "invalid_prompt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feature_points_at_its_prompt_and_going_back_is_one_change() {
    let world = world().await;
    let feature = |prompt: &str| put_in(ACME, Kind::Feature, "desk", json!({"prompt": prompt}));
    world.publish(vec![feature("support")]);
    let call = |partywall: Value| {
        let request = post("acme", CHAT).header("partywall-feature", "desk");
        request.body(body(&asking(partywall))).unwrap()
    };
    let given = json!({"variables": {"name": "Ada"}});
    let answer = world.client.exchange(call(given.clone())).await;
    answer.ok();
    assert_eq!(
        world.last_body()["messages"][0]["content"],
        "Help Ada with the house."
    );
    let other = world
        .client
        .exchange(call(json!({"prompt": "support@1"})))
        .await;
    other.refused(400, "invalid_prompt");
    world.publish(vec![put_in(ACME, Kind::Prompt, "support", prompt(1))]);
    world.client.exchange(call(json!({}))).await.ok();
    assert_eq!(world.last_body()["messages"][0]["content"], "Serve acme.");
    // A value for what this version has not.
    let unknown = world.client.exchange(call(given.clone())).await;
    unknown.refused(400, "invalid_prompt");
    world.publish(vec![feature("support@2")]);
    world.client.exchange(call(given)).await.ok();
    // Calls of other features have none.
    world.client.chat("acme", "hi").await.ok();
    assert_eq!(world.last_body()["messages"][0]["content"], "hi");
    // The configuration's is for all that have none of their own, after its own words.
    let config = json!({"prompt": "support@1", "system_prompt": "Be kind."});
    world.publish(vec![put_in(ACME, Kind::Config, "config", config)]);
    world.client.chat("acme", "hi").await.ok();
    let both = &world.last_body()["messages"][0]["content"];
    assert_eq!(both, "Be kind.\n\nServe acme.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_1_another_tenants_prompt_does_not_exist() {
    let world = world().await;
    for name in ["theirs", "theirs@1", "nobodys", "support@3"] {
        let call = asking(json!({"prompt": name, "variables": {}}));
        let refused = world.client.post("acme", CHAT, &call).await;
        refused.refused(404, "prompt_not_found");
        assert!(refused.text().contains(name));
    }
    let own = asking(json!({"prompt": "theirs"}));
    world.client.post("globex", CHAT, &own).await.ok();
    assert_eq!(world.last_body()["messages"][0]["content"], "Serve globex.");
    assert_eq!(world.engine.observed().requests, 1);
    assert_eq!(world.gateway.live_holds(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_bounded_and_stay_values() {
    let world = world().await;
    for wrong in [
        json!({"prompt": "support"}),
        json!({"prompt": "support", "variables": {"name": "a name that is too long"}}),
        json!({"prompt": "support", "variables": {"name": "Ada", "other": 1}}),
        json!({"prompt": "support", "variables": {"name": {"a": 1}}}),
        json!({"prompt": "support", "variables": {"name": null}}),
        json!({"prompt": "Support"}),
        json!({"template": "x"}),
        json!({"variables": {"name": "Ada"}}),
        json!("support"),
    ] {
        let refused = world
            .client
            .post("acme", CHAT, &asking(wrong.clone()))
            .await;
        refused.refused(400, "invalid_prompt");
        assert_eq!(refused.json()["error"]["param"], "partywall", "{wrong}");
    }
    assert_eq!(world.engine.observed().requests, 0);
    for attack in [
        "{{ 7*7 }}",
        "{{ tenant }}",
        "{% raw %}",
        "{{name}}",
        "}}{{user}}{{",
    ] {
        let call = asking(json!({"prompt": "support", "variables": {"name": attack}}));
        world.client.post("acme", CHAT, &call).await.ok();
        let said = format!("Help {attack} with the house.");
        assert_eq!(world.last_body()["messages"][0]["content"], said);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_looked_through_as_all_that_a_client_says_is() {
    let world = world().await;
    let wall = json!({"looks_at": "input", "checks": [
        {"name": "it", "action": "block", "check": {"deny-list": {"entries": ["falcon"]}}}]});
    world.publish(vec![put_in(ACME, Kind::Guardrail, "wall", wall)]);
    let call = asking(json!({"prompt": "support", "variables": {"name": "Falcon"}}));
    let refused = world.client.post("acme", CHAT, &call).await;
    refused.refused(400, "content_blocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_at_publication() {
    let world = world().await;
    let problems = |change| {
        let current = world.gateway.snapshot();
        let next = current.with(current.version() + 1, vec![change], &|_| None);
        let problems = match next {
            Ok(next) => world.gateway.check(&std::sync::Arc::new(next)).err(),
            Err(problems) => Some(problems),
        };
        let problems = problems.unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<String>()
    };
    let put = |name: &str, spec: Value| put_in(ACME, Kind::Prompt, name, spec);
    assert_eq!(problems(put("support", prompt(1))), "");
    let version = |text: Value| json!({"active": 1, "versions": {"1": text}});
    for (change, wanted) in [
        (
            put("new", version(json!({"template": "{% if %}"}))),
            "does not compile",
        ),
        (
            put("new", version(json!({"template": "{{ name }}"}))),
            "`name`",
        ),
        (
            put("support", version(json!({"template": "Other."}))),
            "never changes",
        ),
        (put("support", prompt(3)), "no version 3"),
        (
            put_in(ACME, Kind::Feature, "desk", json!({"prompt": "theirs"})),
            "no prompt `theirs`",
        ),
        (
            put_in(ACME, Kind::Config, "config", json!({"prompt": "support@9"})),
            "`support@9`",
        ),
    ] {
        let said = problems(change);
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // What is pointed at stays.
    world.publish(vec![put_in(
        ACME,
        Kind::Feature,
        "desk",
        json!({"prompt": "support"}),
    )]);
    let gone = crate::world::catalogue::remove_in(ACME, Kind::Prompt, "support");
    assert!(problems(gone).contains("feature `desk`"));
}

/// What was compiled of a prompt that is gone is nobody's, even under the same name and number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_is_made_anew_is_read_anew() {
    let world = world().await;
    let first = asking(json!({"prompt": "support@1"}));
    world.client.post("acme", CHAT, &first).await.ok();
    world.publish(vec![remove_in(ACME, Kind::Prompt, "support")]);
    let gone = world.client.post("acme", CHAT, &first).await;
    gone.refused(404, "prompt_not_found");
    let anew = json!({"active": 1, "versions": {"1": {"template": "Mind {{ tenant }}."}}});
    world.publish(vec![put_in(ACME, Kind::Prompt, "support", anew)]);
    world.client.post("acme", CHAT, &first).await.ok();
    assert_eq!(world.last_body()["messages"][0]["content"], "Mind acme.");
}
