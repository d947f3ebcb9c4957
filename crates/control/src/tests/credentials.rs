//! Tenants' own credentials: written, kept under the tenant's key, never shown.

use serde_json::{Value, json};

use super::House;

const SECRET: &str = "sk-acme-0123456789-abcd";
const PATH: &str = "/admin/v1/tenants/acme/credentials/own";

async fn house() -> House {
    let house = House::new().await;
    house.onboard("acme").await;
    let upstream = json!({"engine": "anthropic", "credential_of": "tenant"});
    house.put("/admin/v1/upstreams/claude", upstream).await.ok();
    house
}

async fn put(house: &House, spec: Value) -> Value {
    house.put(PATH, spec).await.ok()
}

fn kept(house: &House) -> String {
    let snapshot = house.current();
    let tenant = snapshot.tenant_named("acme").expect("there");
    let upstream = "claude".parse().expect("a name");
    let secret = tenant.credential_for(&upstream).expect("it has one");
    secret.expose().to_owned()
}

#[tokio::test]
async fn a_secret_is_written_and_never_shown() {
    let house = house().await;
    let spec = json!({"upstream": "claude", "secret": SECRET});
    let shown = put(&house, spec).await;
    assert_eq!(
        shown["spec"],
        json!({"upstream": "claude", "hint": "…abcd"})
    );
    assert_eq!(kept(&house), SECRET);
    for path in [
        PATH,
        "/admin/v1/tenants/acme/credentials",
        "/admin/v1/export",
        "/admin/v1/tenants/acme/audit",
    ] {
        let answer = house.get(path).await;
        assert!(
            !answer.text.contains("0123456789"),
            "{path}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn what_is_read_can_be_put_back_and_keeps_the_secret() {
    let house = house().await;
    let read = put(&house, json!({"upstream": "claude", "secret": SECRET})).await;
    let version = house.current().version();
    put(&house, read["spec"].clone()).await;
    assert_eq!(house.current().version(), version, "nothing changed");
    put(&house, json!({"upstream": "claude"})).await;
    assert_eq!(kept(&house), SECRET);
    put(
        &house,
        json!({"upstream": "claude", "secret": "another-secret-of-acme"}),
    )
    .await;
    assert_eq!(kept(&house), "another-secret-of-acme");
    house
        .put(PATH, json!({"upstream": "claude", "hint": "…zzzz"}))
        .await
        .refused(400);
}

#[tokio::test]
async fn a_secret_outlives_a_restart_and_a_rotation_of_its_key() {
    let house = house().await;
    put(&house, json!({"upstream": "claude", "secret": SECRET})).await;
    house
        .post("/admin/v1/tenants/acme/rotate-key", json!({}))
        .await
        .ok();
    let root = house.root_key();
    let house = house.restarted(root);
    assert_eq!(kept(&house), SECRET);
}

#[tokio::test]
async fn a_credential_is_for_an_upstream_that_takes_one() {
    let house = house().await;
    let refused = house.put(PATH, json!({"upstream": "claude"})).await;
    assert!(refused.refused(400).contains("needs its value"));
    let nowhere = json!({"upstream": "nowhere", "secret": SECRET});
    let refused = house.put(PATH, nowhere).await;
    assert!(refused.text.contains("there is no upstream `nowhere`"));
    let shared = json!({"engine": "open-ai"});
    house.put("/admin/v1/upstreams/shared", shared).await.ok();
    let closed = json!({"upstream": "shared", "secret": SECRET});
    let refused = house.put(PATH, closed).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("credential_of") && !refused.text.contains(SECRET));
    put(&house, json!({"upstream": "claude", "secret": SECRET})).await;
    let twin = json!({"upstream": "claude", "secret": SECRET});
    let twice = house
        .put("/admin/v1/tenants/acme/credentials/twin", twin)
        .await;
    assert!(
        twice
            .text
            .contains("there is a credential for `claude` already")
    );
}

#[tokio::test]
async fn a_credential_is_sent_to_its_own_upstream_alone() {
    let house = house().await;
    let upstream = json!({"engine": "open-ai", "credential_of": "tenant-or-installation"});
    house.put("/admin/v1/upstreams/gpt", upstream).await.ok();
    put(&house, json!({"upstream": "claude", "secret": SECRET})).await;
    let for_gpt = |house: &House| {
        let snapshot = house.current();
        let acme = snapshot.tenant_named("acme").expect("there");
        let found = acme.credential_for(&"gpt".parse().expect("a name"));
        found.map(|secret| secret.expose().to_owned())
    };
    assert_eq!(
        for_gpt(&house),
        None,
        "another provider's secret is no answer"
    );
    let other = "/admin/v1/tenants/acme/credentials/another";
    let secret = "sk-gpt-9876543210-wxyz";
    let spec = json!({"upstream": "gpt", "secret": secret});
    house.put(other, spec).await.ok();
    assert_eq!(for_gpt(&house).as_deref(), Some(secret));
    assert_eq!(kept(&house), SECRET);
}
