//! Tenants' LoRA adapters: declared within what their tier allows, and what has to stay for them.

use serde_json::{Value, json};

use super::House;

const PATH: &str = "/admin/v1/tenants/acme/adapters/tone";

fn adapter(location: &str) -> Value {
    json!({"base": "llama", "source": {"reference": {"location": location}}})
}

fn engine() -> Value {
    json!({
        "engine": "vllm", "base_url": "http://engine.example:8000/v1", "salting": "derived",
        "adapters": {"slots": 4, "rank_max": 16},
    })
}

fn tier() -> Value {
    json!({"adapters": {
        "references": ["/adapters/{tenant}/"], "count_max": 2, "upload_bytes_max": 100_000,
    }})
}

/// A tenant on a tier with adapters, a model whose engine loads some, and one without.
async fn house() -> House {
    let house = House::new().await;
    house.put("/admin/v1/upstreams/engine", engine()).await.ok();
    let plain =
        json!({"engine": "vllm", "base_url": "http://plain.example:8000/v1", "salting": "derived"});
    house.put("/admin/v1/upstreams/plain", plain).await.ok();
    for (route, upstream) in [("llama", "engine"), ("bare", "plain")] {
        let route_spec = json!({"targets": [{"upstream": upstream, "model": "m"}]});
        let path = format!("/admin/v1/routes/{route}");
        house.put(&path, route_spec).await.ok();
    }
    house.onboard("acme").await;
    let own = house
        .current()
        .tenant_named("acme")
        .expect("there")
        .spec
        .tier
        .clone();
    house
        .put(&format!("/admin/v1/tiers/{own}"), tier())
        .await
        .ok();
    house
}

#[tokio::test]
async fn a_tenant_declares_reads_and_removes_its_adapters() {
    let house = house().await;
    let shown = house.put(PATH, adapter("/adapters/acme/tone")).await.ok();
    assert_eq!(shown["spec"], adapter("/adapters/acme/tone"));
    assert_eq!(house.get(PATH).await.ok(), shown);
    let list = house.get("/admin/v1/tenants/acme/adapters").await.ok();
    assert_eq!(list["data"][0]["name"], "tone");
    let root = house.root_key();
    let house = house.restarted(root);
    assert!(house.get(PATH).await.ok() == shown, "it outlives a restart");
    house.delete(PATH).await.ok();
    house.get(PATH).await.refused(404);
}

#[tokio::test]
async fn an_adapter_leads_where_its_tier_lets_it_and_sits_on_what_loads_it() {
    let house = house().await;
    for (spec, sentence) in [
        (
            adapter("/adapters/globex/tone"),
            "does not let references lead to",
        ),
        (
            adapter("/adapters/acme/../globex/tone"),
            "no `..` between slashes",
        ),
        (adapter("/etc/passwd"), "does not let references lead to"),
        (
            with(&adapter("/adapters/acme/a"), "base", json!("absent")),
            "there is no route `absent`",
        ),
        (
            with(&adapter("/adapters/acme/a"), "base", json!("bare")),
            "no upstream of the route `bare`",
        ),
        (
            with(&adapter("/adapters/acme/a"), "rank", json!(64)),
            "no upstream of the route `llama`",
        ),
    ] {
        let refused = house.put(PATH, spec).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains(sentence), "{}", refused.text);
    }
    let disguised = "/admin/v1/tenants/acme/adapters/pwa-tone";
    let refused = house.put(disguised, adapter("/adapters/acme/a")).await;
    assert!(refused.text.contains("does not begin with `pwa-`"));
    for name in ["a", "b"] {
        let path = format!("/admin/v1/tenants/acme/adapters/{name}");
        house.put(&path, adapter("/adapters/acme/a")).await.ok();
    }
    let third = house.put(PATH, adapter("/adapters/acme/a")).await;
    assert!(
        third.text.contains("allows 2 adapters at most"),
        "{}",
        third.text
    );
}

#[tokio::test]
async fn what_an_adapter_needs_stays_while_it_is_there() {
    let house = house().await;
    house.put(PATH, adapter("/adapters/acme/tone")).await.ok();
    let tier_path = format!(
        "/admin/v1/tiers/{}",
        house
            .current()
            .tenant_named("acme")
            .expect("there")
            .spec
            .tier
    );
    let bare = json!({"targets": [{"upstream": "plain", "model": "m"}]});
    let mut without = engine();
    without
        .as_object_mut()
        .expect("an object")
        .remove("adapters");
    for (path, spec) in [
        (tier_path.as_str(), json!({})),
        ("/admin/v1/routes/llama", bare),
        ("/admin/v1/upstreams/engine", without),
    ] {
        let refused = house.put(path, spec).await;
        assert_eq!(refused.status, 422, "{path}: {}", refused.text);
        assert!(
            refused.text.contains("adapters/tone"),
            "{path}: {}",
            refused.text
        );
    }
    house.delete("/admin/v1/routes/llama").await.refused(422);
}

#[tokio::test]
async fn only_engines_that_load_adapters_have_slots_for_them() {
    let house = house().await;
    for (field, value, sentence) in [
        ("engine", json!("sglang"), "`adapters` is for"),
        (
            "credential_of",
            json!("tenant"),
            "loaded with the installation's credential",
        ),
        (
            "adapters",
            json!({"slots": 0}),
            "`adapters.slots` is from 1",
        ),
    ] {
        let spec = with(&engine(), field, value);
        let refused = house.put("/admin/v1/upstreams/other", spec).await;
        assert!(refused.text.contains(sentence), "{}", refused.text);
    }
    let model = json!({"targets": [{"upstream": "engine", "model": "pwa-x"}]});
    let refused = house.put("/admin/v1/routes/x", model).await;
    assert!(
        refused.text.contains("does not begin with `pwa-`"),
        "{}",
        refused.text
    );
    let everywhere = json!({"adapters": {"references": ["/"]}});
    let refused = house.put("/admin/v1/tiers/wide", everywhere).await;
    assert!(refused.text.contains("is no place"), "{}", refused.text);
}

fn with(spec: &Value, field: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value;
    spec
}
