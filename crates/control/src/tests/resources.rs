//! Resources, one by one; and the API's own document.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use super::House;
use crate::openapi;

async fn put_if(house: &House, path: &str, etag: &str, body: Value) -> super::Answered {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header("authorization", format!("Bearer {}", house.operator))
        .header("if-match", format!("\"{etag}\""))
        .body(Body::from(body.to_string()))
        .unwrap();
    house.send(request).await
}

#[tokio::test]
async fn a_resource_is_put_read_listed_and_removed() {
    let house = House::new().await;
    let upstream = json!({"base_url": "https://up.test/v1", "provider": "openai"});
    house.put("/admin/v1/upstreams/up", upstream).await.ok();
    let route = json!({"targets": [{"upstream": "up", "model": "gpt-4o"}]});
    let path = "/admin/v1/routes/openai%2Fgpt-4o";
    house.put(path, route).await.ok();
    let read = house.get(path).await.ok();
    assert_eq!(read["name"], "openai/gpt-4o");
    assert_eq!(read["spec"]["output_tokens_max"], 4096);
    let again = house.put(path, read["spec"].clone()).await.ok();
    assert_eq!(again, read);
    let refused = house.delete("/admin/v1/upstreams/up").await;
    let details = refused.json()["error"]["details"].clone();
    assert_eq!(refused.status, 422);
    assert_eq!(details[0]["address"], "upstreams/up");
    house.delete(path).await.ok();
    house.delete("/admin/v1/upstreams/up").await.ok();
    house.get(path).await.refused(404);
}

#[tokio::test]
async fn what_did_not_change_makes_no_version() {
    let house = House::new().await;
    let before = house.current().version();
    house.put("/admin/v1/tiers/free", json!({})).await.ok();
    assert_eq!(house.current().version(), before);
}

#[tokio::test]
async fn a_configuration_that_nobody_put_has_a_state_too() {
    let house = House::new().await;
    house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/config";
    let etag = |shown: &Value| shown["etag"].as_str().unwrap().to_owned();
    let default = etag(&house.get(path).await.ok());
    let own = json!({"system_prompt": "Be brief."});
    put_if(&house, path, "0000000000000000", own.clone())
        .await
        .refused(412);
    let put = put_if(&house, path, &default, own.clone()).await.ok();
    put_if(&house, path, &default, own).await.refused(412);
    house.delete(path).await.ok();
    assert_eq!(etag(&house.get(path).await.ok()), default);
    assert_ne!(etag(&put), default);
}

#[tokio::test]
async fn a_change_may_name_the_state_that_it_changes() {
    let house = House::new().await;
    let path = "/admin/v1/tiers/free";
    let etag = house.get(path).await.ok()["etag"]
        .as_str()
        .unwrap()
        .to_owned();
    put_if(&house, path, &etag, json!({"description": "one"}))
        .await
        .ok();
    put_if(&house, path, &etag, json!({"description": "two"}))
        .await
        .refused(412);
    assert_eq!(house.get(path).await.ok()["spec"]["description"], "one");
}

#[tokio::test]
async fn lists_are_sorted_and_paged() {
    let house = House::new().await;
    for name in ["c", "a", "b"] {
        house
            .put(&format!("/admin/v1/tiers/{name}"), json!({}))
            .await
            .ok();
    }
    let mut names = Vec::new();
    let mut path = "/admin/v1/tiers?limit=3".to_owned();
    loop {
        let page = house.get(&path).await.ok();
        let rows = page["data"].as_array().unwrap().clone();
        names.extend(
            rows.iter()
                .map(|row| row["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/admin/v1/tiers?limit=3&cursor={cursor}");
    }
    assert_eq!(names, ["a", "b", "c", "free"]);
}

#[tokio::test]
async fn a_tenant_runs_its_own_parts_and_only_sees_what_it_may_spend() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let as_tenant = |method, path: &str, body| {
        let path = format!("/admin/v1/tenants/acme{path}");
        let (house, acme) = (&house, acme.clone());
        async move { house.call(&acme, method, &path, body).await }
    };
    let team = as_tenant(Method::PUT, "/teams/core", json!({})).await.ok();
    assert!(team["spec"]["id"].as_str().unwrap().starts_with("tem_"));
    as_tenant(Method::PUT, "/users/ada", json!({"team": "core"}))
        .await
        .ok();
    as_tenant(Method::PUT, "/features/chat", json!({}))
        .await
        .ok();
    as_tenant(Method::PUT, "/config", json!({"system_prompt": "Be kind."}))
        .await
        .ok();
    let read = as_tenant(Method::GET, "/config", Value::Null).await.ok();
    assert_eq!(read["spec"]["system_prompt"], "Be kind.");
    let budget = json!({"subject": "tenant", "limit": "5.00"});
    as_tenant(Method::PUT, "/budgets/all", budget.clone())
        .await
        .refused(404);
    house
        .put("/admin/v1/tenants/acme/budgets/all", budget)
        .await
        .ok();
    let read = as_tenant(Method::GET, "/budgets/all", Value::Null)
        .await
        .ok();
    assert_eq!(read["spec"]["limit"], "5.00");
    as_tenant(Method::DELETE, "/budgets/all", Value::Null)
        .await
        .refused(404);
}

#[tokio::test]
async fn a_bad_version_is_refused_whole_and_the_old_one_stays() {
    let house = House::new().await;
    let before = house.current().version();
    house.refuse("its prompts do not compile");
    let refused = house.put("/admin/v1/tiers/team", json!({})).await;
    assert_eq!(refused.status, 422);
    let problem = refused.json()["error"]["details"][0].clone();
    assert_eq!(
        problem,
        json!({"address": "tiers/free", "message": "its prompts do not compile"})
    );
    *house.served.refusal.lock() = None;
    assert_eq!(house.current().version(), before);
    house.get("/admin/v1/tiers/team").await.refused(404);
    assert_eq!(
        house.control.publisher.catalogue.current_version().unwrap(),
        before
    );
}

#[tokio::test]
async fn the_document_is_served_whole_and_is_the_committed_one() {
    let house = House::new().await;
    let served = house
        .send(Request::get("/openapi.json").body(Body::empty()).unwrap())
        .await
        .ok();
    let document = openapi();
    assert_eq!(served, document);
    let committed = include_str!("../../../../docs/openapi.json");
    let committed: Value = serde_json::from_str(committed).unwrap();
    assert!(
        committed == document,
        "docs/openapi.json is stale: run `cargo xtask openapi`"
    );
}

#[test]
fn the_document_names_each_operation_once_and_every_schema_that_it_refers_to() {
    let document = openapi();
    let mut ids = BTreeSet::new();
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
        }
    }
    assert!(ids.len() > 60);
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(items) => pending.extend(items),
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                pending.extend(fields.values());
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let house = House::new().await;
    let probe = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(
        house.send(probe("/healthz")).await.ok(),
        json!({"status": "ok"})
    );
    assert_eq!(
        house.send(probe("/readyz")).await.ok(),
        json!({"status": "ok"})
    );
    *house.rest.missing.lock() = Some("the journal is full".to_owned());
    let refused = house.send(probe("/readyz")).await.refused(503);
    assert_eq!(refused, "not ready: the journal is full");
    assert_eq!(house.get("/metrics").await.text, "partywall_up 1\n");
    let scrape = Request::get("/metrics")
        .header("authorization", format!("Bearer {}", house.operator))
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        )
        .body(Body::empty())
        .unwrap();
    assert_eq!(house.send(scrape).await.text, "metrics with exemplars");
    let check = house.get("/admin/v1/ledger/verify").await.ok();
    assert_eq!(
        (&check["ok"], &check["fault_count"]),
        (&json!(true), &json!(0))
    );
    house.rest.report.lock().fault_count = 1;
    assert_eq!(
        house.get("/admin/v1/ledger/verify").await.ok()["ok"],
        json!(false)
    );
}

#[tokio::test]
async fn changes_at_the_same_time_are_made_one_after_the_other() {
    let house = House::new().await;
    let before = house.current().version();
    let put = |name: &'static str| {
        let house = &house;
        async move {
            house
                .put(&format!("/admin/v1/tiers/{name}"), json!({}))
                .await
                .ok()
        }
    };
    tokio::join!(put("a"), put("b"), put("c"), put("d"), put("e"));
    assert_eq!(house.current().version(), before + 5);
    assert_eq!(house.current().tiers().len(), 6);
}
