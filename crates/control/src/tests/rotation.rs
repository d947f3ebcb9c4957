//! Keys are rotated while serving, and nothing is lost.

use std::sync::Arc;

use axum::http::Method;
use base::SystemEntropy;
use serde_json::{Value, json};
use tenancy::{LocalRootKey, RootKey};

use super::House;
use crate::{load, unlock_platform};

async fn prompt(house: &House) -> Value {
    house.get("/admin/v1/tenants/acme/config").await.ok()["spec"]["system_prompt"].clone()
}

#[tokio::test]
async fn a_tenants_key_is_rotated_and_everything_still_opens() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/config";
    house
        .put(path, json!({"system_prompt": "first"}))
        .await
        .ok();
    let first = house.current().version();
    house
        .put(path, json!({"system_prompt": "second"}))
        .await
        .ok();
    let audit_before = house.get("/admin/v1/tenants/acme/audit").await.ok();
    for generation in ["2", "3"] {
        let reply = house
            .post("/admin/v1/tenants/acme/rotate-key", Value::Null)
            .await
            .ok();
        assert_eq!(reply["current"], generation);
        assert_eq!(prompt(&house).await, "second");
        house
            .call(&acme, Method::GET, "/admin/v1/tenants/acme", Value::Null)
            .await
            .ok();
    }
    let audit = house.get("/admin/v1/tenants/acme/audit").await.ok();
    let count = |audit: &Value| audit["data"].as_array().unwrap().len();
    assert!(count(&audit) > count(&audit_before));
    assert_eq!(
        house.get("/admin/v1/tenants/acme/audit/verify").await.ok()["ok"],
        json!(true)
    );
    // Two keys ago: that version is noise, and going back says so.
    let back = format!("/admin/v1/versions/{first}/rollback");
    let kept = house.post(&back, Value::Null).await.ok()["kept"].clone();
    assert!(kept.to_string().contains("rotated away"), "{kept}");
    assert_eq!(prompt(&house).await, "second");
    let root = house.root_key();
    let house = house.restarted(root);
    assert_eq!(prompt(&house).await, "second");
    house
        .call(&acme, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn the_version_before_a_rotation_can_be_gone_back_to() {
    let house = House::new().await;
    house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/config";
    house
        .put(path, json!({"system_prompt": "first"}))
        .await
        .ok();
    let first = house.current().version();
    house
        .put(path, json!({"system_prompt": "second"}))
        .await
        .ok();
    house
        .post("/admin/v1/tenants/acme/rotate-key", Value::Null)
        .await
        .ok();
    let root = house.root_key();
    let house = house.restarted(root);
    house
        .post(&format!("/admin/v1/versions/{first}/rollback"), Value::Null)
        .await
        .ok();
    assert_eq!(prompt(&house).await, "first");
}

#[tokio::test]
async fn the_root_key_is_rotated_and_the_old_one_opens_nothing() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house
        .put(
            "/admin/v1/tenants/acme/config",
            json!({"system_prompt": "kept"}),
        )
        .await
        .ok();
    let before_rotation = house.current().version();
    house
        .post("/admin/v1/tenants/acme/rotate-key", Value::Null)
        .await
        .ok();
    let old_root = house.root_key();
    let new_path = house.folder.path().join("new-root.key");
    let body = json!({"root_key": format!("file:{}", new_path.display())});
    house
        .post("/admin/v1/root-key/rotate", body.clone())
        .await
        .refused(400);
    let new_root: Arc<dyn RootKey> =
        Arc::new(LocalRootKey::create(&new_path, &SystemEntropy).unwrap());
    let reply = house
        .post("/admin/v1/root-key/rotate", body.clone())
        .await
        .ok();
    assert_eq!(reply["current"], new_root.id().as_str());
    assert_eq!(reply["renewed"], json!(2));
    house
        .post("/admin/v1/root-key/rotate", body)
        .await
        .refused(400);
    // Served without a restart, also for what comes next.
    let globex = house.onboard("globex").await;
    let file = super::platform_key_file(house.folder.path());
    assert!(unlock_platform(&file, old_root.as_ref()).is_err());
    let catalogue = &house.control.publisher.catalogue;
    assert!(load(catalogue, old_root.as_ref()).is_err());
    let house = house.restarted(new_root);
    assert_eq!(prompt(&house).await, "kept");
    // The key before the tenant's last rotation moved along: that version can be read.
    let path = "/admin/v1/tenants/acme/config";
    house
        .put(path, json!({"system_prompt": "later"}))
        .await
        .ok();
    let back = format!("/admin/v1/versions/{before_rotation}/rollback");
    house.post(&back, Value::Null).await.ok();
    assert_eq!(prompt(&house).await, "kept");
    for (key, tenant) in [(acme, "acme"), (globex, "globex")] {
        let path = format!("/admin/v1/tenants/{tenant}");
        house.call(&key, Method::GET, &path, Value::Null).await.ok();
    }
}

#[tokio::test]
async fn a_pasted_root_key_is_refused_and_not_repeated() {
    let house = House::new().await;
    let refused = house
        .post("/admin/v1/root-key/rotate", json!({"root_key": "c2VjcmV0"}))
        .await;
    assert!(!refused.text.contains("c2VjcmV0"));
    refused.refused(400);
}
