//! Salts are rotated, and sharing groups are joined and left on record.

use axum::http::Method;
use serde_json::{Value, json};

use super::House;

const GROUP: &str = "/admin/v1/sharing-groups/owner";

/// Every act of joining or leaving, in the order in which they happened.
async fn acts(house: &House, path: &str) -> Vec<(String, String)> {
    let log = house.get(path).await.ok();
    let text = |act: &Value, field: &str| act["entry"][field].as_str().unwrap().to_owned();
    let all = log["data"].as_array().unwrap().iter();
    let mut found: Vec<_> = all
        .map(|act| {
            (
                act["index"].as_u64(),
                text(act, "action"),
                text(act, "target"),
            )
        })
        .filter(|(_, action, target)| {
            action.ends_with("_sharing_group") && target.starts_with("tenants/")
        })
        .collect();
    found.sort();
    found
        .into_iter()
        .map(|(_, action, target)| (action, target))
        .collect()
}

#[tokio::test]
async fn joining_and_leaving_a_group_stand_in_both_logs() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    let config = |tenant: &str| format!("/admin/v1/tenants/{tenant}/config");
    let opted = json!({"sharing_group": "owner"});
    let refused = house.put(&config("acme"), opted.clone()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("no sharing group `owner`"));
    let members = json!({"members": ["acme", "globex"]});
    house.put(GROUP, members.clone()).await.ok();
    // A tenant's administrator opts in; that of a stranger is none of the group.
    let own = config("acme");
    let own = house.call(&acme, Method::PUT, &own, opted.clone());
    own.await.ok();
    house.put(&config("globex"), opted.clone()).await.ok();
    let refused = house.delete(GROUP).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    for tenant in ["acme", "globex"] {
        assert!(refused.text.contains(tenant), "{}", refused.text);
    }
    house.put(&config("globex"), json!({})).await.ok();
    // The operator's list ends it too.
    house
        .put(GROUP, json!({"members": ["globex", "initech"]}))
        .await
        .ok();
    let target = |tenant: &str| format!("tenants/{tenant}/sharing-groups/owner");
    let act = |verb: &str, tenant: &str| (format!("{verb}_sharing_group"), target(tenant));
    let all = acts(&house, "/admin/v1/audit").await;
    let expected = [
        act("join", "acme"),
        act("join", "globex"),
        act("leave", "globex"),
        act("leave", "acme"),
    ];
    assert_eq!(all, expected);
    let own = acts(&house, "/admin/v1/tenants/acme/audit").await;
    assert_eq!(own, [act("join", "acme"), act("leave", "acme")]);
}

#[tokio::test]
async fn a_group_has_members_and_a_tenant_cannot_declare_one() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    for members in [json!([]), json!(["acme"]), json!(["acme", "acme"])] {
        let refused = house.put(GROUP, json!({"members": members})).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains("2 to 64"), "{}", refused.text);
    }
    let members = json!({"members": ["acme", "globex"]});
    let own = house.call(&acme, Method::PUT, GROUP, members).await;
    own.refused(404);
}

#[tokio::test]
async fn salts_are_rotated_and_never_go_back() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme";
    let before = house.current().version();
    let rotate = format!("{path}/rotate-salt");
    for epoch in [1, 2] {
        let shown = house.call(&acme, Method::POST, &rotate, Value::Null).await;
        assert_eq!(shown.ok()["spec"]["salt_epoch"], epoch);
    }
    // Who puts the tenant without it, or goes back, leaves it as it is.
    house
        .put(path, json!({"tier": "free", "zone": "Europe/Berlin"}))
        .await
        .ok();
    let back = format!("/admin/v1/versions/{before}/rollback");
    house.post(&back, Value::Null).await.ok();
    let epoch = |house: &House| {
        house
            .current()
            .tenant_named("acme")
            .unwrap()
            .spec
            .salt_epoch
    };
    assert_eq!(epoch(&house), 2);
    let chosen = house
        .put(path, json!({"tier": "free", "salt_epoch": 1}))
        .await;
    assert!(chosen.refused(400).contains("given by the server"));
    let refused = house.put("/admin/v1/tiers/free", json!({"salt_days_max": 0}));
    let refused = refused.await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("3650"), "{}", refused.text);
}
