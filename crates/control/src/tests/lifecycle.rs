//! A tenant's life: onboarded in one call, suspended, resumed, offboarded for good.

use axum::http::Method;
use serde_json::{Value, json};
use tenancy::ServicePurpose;

use super::House;

fn file_of(house: &House, name: &str) -> std::path::PathBuf {
    house
        .folder
        .path()
        .join("tenants")
        .join(format!("{}.db", house.tenant_id(name)))
}

#[tokio::test]
async fn onboarding_makes_key_file_and_resources_in_one_version() {
    let house = House::new().await;
    let before = house.current().version();
    let request = json!({
        "name": "acme",
        "spec": {"tier": "free", "display_name": "Acme, Inc."},
        "first_key": {"name": "admin", "role": "tenant-admin"},
    });
    let reply = house.post("/admin/v1/tenants", request.clone()).await;
    assert_eq!(reply.status, 201);
    let reply = reply.ok();
    assert_eq!(reply["version"], json!(before + 1));
    assert!(file_of(&house, "acme").exists());
    let key = reply["first_key"]["key"].as_str().unwrap();
    let own = house
        .call(key, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .ok();
    assert_eq!(own["spec"]["display_name"], "Acme, Inc.");
    house.post("/admin/v1/tenants", request).await.refused(409);
    let id = json!({"name": "x", "spec": {"tier": "free", "id": own["spec"]["id"]}});
    house.post("/admin/v1/tenants", id).await.refused(400);
    let tier = json!({"name": "x", "spec": {"tier": "gold"}});
    house.post("/admin/v1/tenants", tier).await.refused(422);
    let root = house.root_key();
    let house = house.restarted(root);
    house
        .call(key, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .ok();
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_until_it_is_resumed() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme";
    house
        .post(&format!("{path}/suspend"), Value::Null)
        .await
        .ok();
    house
        .call(&acme, Method::GET, path, Value::Null)
        .await
        .refused(401);
    // Changing something else does not resume it.
    let kept = house
        .put(path, json!({"tier": "free", "display_name": "A"}))
        .await
        .ok();
    assert_eq!(kept["spec"]["suspended"], json!(true));
    house
        .post(&format!("{path}/resume"), Value::Null)
        .await
        .ok();
    house.call(&acme, Method::GET, path, Value::Null).await.ok();
}

#[tokio::test]
async fn offboarding_destroys_what_the_tenant_had_and_nothing_else() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let globex = house.onboard("globex").await;
    let (id, file) = (house.tenant_id("acme"), file_of(&house, "acme"));
    let secret = json!({"system_prompt": "the canary sings"});
    house
        .put("/admin/v1/tenants/acme/config", secret)
        .await
        .ok();
    let with_acme = house.current().version();
    let refused = house.delete("/admin/v1/tenants/acme").await.refused(400);
    assert!(refused.contains("?confirm=acme"), "{refused}");
    house
        .delete("/admin/v1/tenants/acme?confirm=globex")
        .await
        .refused(400);
    house
        .delete("/admin/v1/tenants/acme?confirm=acme")
        .await
        .ok();
    assert!(!file.exists());
    assert!(house.control.publisher.catalogue.key(id).unwrap().is_none());
    house
        .call(&acme, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .refused(401);
    house
        .call(
            &globex,
            Method::GET,
            "/admin/v1/tenants/globex",
            Value::Null,
        )
        .await
        .ok();
    // Earlier versions cannot bring it back: what was in them is noise now.
    let path = format!("/admin/v1/versions/{with_acme}/rollback");
    let reply = house.post(&path, Value::Null).await.ok();
    assert_eq!(reply["kept"][0]["address"], "tenants/acme");
    assert!(!reply.to_string().contains("canary"));
    house.get("/admin/v1/tenants/acme").await.refused(404);
    let root = house.root_key();
    let house = house.restarted(root);
    house
        .call(
            &globex,
            Method::GET,
            "/admin/v1/tenants/globex",
            Value::Null,
        )
        .await
        .ok();
}

#[tokio::test]
async fn an_onboarding_that_a_crash_cut_short_is_swept_at_the_next_start() {
    let house = House::new().await;
    let id = base::TenantId::from_bits(7);
    let publisher = &house.control.publisher;
    let new = publisher.new_tenant(id).unwrap();
    publisher.catalogue.put_key(&new.stored()).unwrap();
    let scope = publisher.service_scope(&new.keys, ServicePurpose::Onboarding);
    publisher.stores.provision(&scope).unwrap();
    let file = house.folder.path().join("tenants").join(format!("{id}.db"));
    assert!(file.exists());
    let root = house.root_key();
    let house = house.restarted(root);
    assert!(!file.exists());
    assert!(house.control.publisher.catalogue.key(id).unwrap().is_none());
}
