//! What is done is on record, before it is acknowledged.

use axum::http::Method;
use serde_json::{Value, json};
use store::{AuditKey, verify_export};

use super::House;

async fn newest(house: &House, path: &str) -> Vec<Value> {
    let page = house.get(path).await.ok();
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["entry"].clone())
        .collect()
}

#[tokio::test]
async fn every_change_is_on_record_with_who_what_and_which_version() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/teams/core";
    house.call(&acme, Method::PUT, path, json!({})).await.ok();
    let version = house.current().version();
    let entry = newest(&house, "/admin/v1/audit").await[0].clone();
    assert_eq!(entry["actor"], "key:acme/admin");
    assert_eq!(entry["action"], "put_team");
    assert_eq!(entry["target"], "acme/teams/core");
    assert_eq!(entry["outcome"], "done");
    assert_eq!(entry["details"]["version"], version.to_string());
    // The same entry stands in the tenant's own log, which begins with the onboarding.
    let own = house
        .call(
            &acme,
            Method::GET,
            "/admin/v1/tenants/acme/audit",
            Value::Null,
        )
        .await;
    let own = own.ok()["data"].as_array().unwrap().clone();
    assert_eq!(own[0]["entry"], entry);
    assert_eq!(own[1]["entry"]["action"], "onboard_tenant");
    assert_eq!(own.len(), 2);
}

#[tokio::test]
async fn a_refused_change_leaves_no_record_of_being_done() {
    let house = House::new().await;
    let before = newest(&house, "/admin/v1/audit").await.len();
    house.refuse("no");
    house
        .put("/admin/v1/tiers/team", json!({}))
        .await
        .refused(422);
    assert_eq!(newest(&house, "/admin/v1/audit").await.len(), before);
}

#[tokio::test]
async fn an_operator_looks_into_a_tenant_on_record_and_an_auditor_not_at_all() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let auditor = house
        .post(
            "/admin/v1/operators",
            json!({"name": "abe", "role": "auditor"}),
        )
        .await;
    let auditor = auditor.ok()["key"].as_str().unwrap().to_owned();
    for path in [
        "usage",
        "audit",
        "config",
        "budgets/status",
        "config/versions",
    ] {
        let path = format!("/admin/v1/tenants/acme/{path}");
        house.get(&path).await.ok();
        let entry = newest(&house, "/admin/v1/audit").await[0].clone();
        assert_eq!(entry["action"], "act_for_tenant", "{path}");
        assert_eq!(entry["actor"], "operator:ada");
        assert_eq!(entry["target"], house.tenant_id("acme").to_string());
        house
            .call(&auditor, Method::GET, &path, Value::Null)
            .await
            .refused(403);
        // The tenant itself is at home there.
        let before = newest(&house, "/admin/v1/audit").await.len();
        house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .ok();
        assert_eq!(newest(&house, "/admin/v1/audit").await.len(), before);
    }
    house
        .call(&auditor, Method::GET, "/admin/v1/audit", Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn an_export_holds_for_the_offline_verifier() {
    let house = House::new().await;
    house.onboard("acme").await;
    for root in ["/admin/v1/audit", "/admin/v1/tenants/acme/audit"] {
        let check = house.get(&format!("{root}/verify")).await.ok();
        assert_eq!(check["ok"], json!(true), "{check}");
        let entries = check["entries"].as_u64().unwrap();
        assert!(entries > 0);
        let key: AuditKey = house
            .get(&format!("{root}/key"))
            .await
            .text
            .parse()
            .unwrap();
        let export = house.get(&format!("{root}/export")).await.text;
        let path = house.folder.path().join("export.jsonl");
        std::fs::write(&path, &export).unwrap();
        let verified = verify_export(&path, &key, None).unwrap();
        assert!(verified.head.size >= entries);
        std::fs::write(&path, export.replacen("operator:ada", "operator:eve", 1)).unwrap();
        assert!(verify_export(&path, &key, None).is_err());
    }
}

#[tokio::test]
async fn a_reason_is_kept_and_bounded() {
    let house = House::new().await;
    let apply = |note: String| json!({"resources": [{"kind": "tier", "name": "t", "spec": {}}], "note": note});
    house
        .post("/admin/v1/apply", apply("x".repeat(501)))
        .await
        .refused(400);
    house
        .post("/admin/v1/apply", apply("a\nb".to_owned()))
        .await
        .refused(400);
    house
        .post("/admin/v1/apply", apply("spring prices".to_owned()))
        .await
        .ok();
    assert_eq!(
        newest(&house, "/admin/v1/audit").await[0]["reason"],
        "spring prices"
    );
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_not_done() {
    let house = House::new().await;
    house.onboard("acme").await;
    let version = house.current().version();
    let file = house
        .folder
        .path()
        .join("tenants")
        .join(format!("{}.db", house.tenant_id("acme")));
    let root = house.root_key();
    let house = house.restarted(root);
    std::fs::remove_file(file).unwrap();
    house
        .put("/admin/v1/tenants/acme/teams/core", json!({}))
        .await
        .refused(500);
    assert_eq!(house.current().version(), version);
    let entries = newest(&house, "/admin/v1/audit").await;
    assert_eq!(
        (&entries[0]["outcome"], &entries[0]["action"]),
        (&json!("failed"), &json!("put_team"))
    );
}
