//! A tenant's guardrails: written by its own administrators, refused where they could not work.

use serde_json::{Value, json};

use super::House;

const PATH: &str = "/admin/v1/tenants/acme/guardrails/wall";

fn spec(looks_at: &str, check: Value) -> Value {
    json!({"looks_at": looks_at, "checks": [{"name": "it", "action": "flag", "check": check}]})
}

#[tokio::test]
async fn a_guardrail_is_written_read_listed_exported_and_removed() {
    let house = House::new().await;
    house.onboard("acme").await;
    let wall = spec("both", json!({"deny-list": {"entries": ["falcon"]}}));
    house.put(PATH, wall.clone()).await.ok();
    let read = house.get(PATH).await.ok();
    assert_eq!(read["spec"]["checks"], wall["checks"]);
    let listed = house.get("/admin/v1/tenants/acme/guardrails").await;
    assert!(listed.text.contains("wall"), "{}", listed.text);
    let exported = house.get("/admin/v1/export").await;
    assert!(exported.text.contains("falcon"), "{}", exported.text);
    let root = house.root_key();
    let house = house.restarted(root);
    let snapshot = house.current();
    let acme = snapshot.tenant_named("acme").expect("there");
    assert!(acme.guardrails.as_ref().is_some_and(|all| all.len() == 1));
    house.delete(PATH).await.ok();
    let snapshot = house.current();
    let acme = snapshot.tenant_named("acme").expect("there");
    assert!(acme.guardrails.is_none());
}

#[tokio::test]
async fn every_check_is_taken_for_both_sides() {
    let house = House::new().await;
    house.onboard("acme").await;
    let engine = json!({"engine": "open-ai"});
    house.put("/admin/v1/upstreams/u", engine).await.ok();
    let route = json!({"targets": [{"upstream": "u", "model": "m"}], "output_tokens_max": 64});
    house.put("/admin/v1/routes/m", route).await.ok();
    for check in [
        json!({"judge": {"model": "m", "question": "is it?", "answer_tokens_max": 64}}),
        json!({"moderation": {"model": "m"}}),
        json!({"webhook": {"url": "https://x.test/"}}),
        json!({"topics": {"model": "m", "denied": [{"name": "law", "examples": ["May I sue?"]}]}}),
    ] {
        house.put(PATH, spec("both", check)).await.ok();
    }
    let unknown = house.put(PATH, spec("both", json!({"oracle": {}}))).await;
    assert_eq!(unknown.status, 400, "{}", unknown.text);
}
