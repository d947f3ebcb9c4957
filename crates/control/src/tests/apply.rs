//! Declared configuration: applied as one version, exported, rolled back.

use axum::http::Method;
use serde_json::{Value, json};

use super::House;

fn declaration() -> Value {
    json!([
        {"kind": "team", "tenant": "acme", "name": "core", "spec": {}},
        {"kind": "key", "tenant": "acme", "name": "prod",
         "spec": {"role": "tenant-admin", "team": "core"}},
        {"kind": "config", "tenant": "acme", "name": "config",
         "spec": {"system_prompt": "Be kind."}},
        {"kind": "tenant", "name": "acme", "spec": {"tier": "team"}},
        {"kind": "tier", "name": "team", "spec": {"description": "For teams"}},
    ])
}

async fn apply(house: &House, resources: Value) -> Value {
    house
        .post("/admin/v1/apply", json!({"resources": resources}))
        .await
        .ok()
}

fn actions(report: &Value) -> Vec<(String, String)> {
    let diff = report["diff"].as_array().unwrap();
    let mut actions: Vec<_> = diff
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("address"), text("action"))
        })
        .collect();
    actions.sort();
    actions
}

fn changed(report: &Value) -> Vec<(String, String)> {
    actions(report)
        .into_iter()
        .filter(|(_, action)| action != "unchanged")
        .collect()
}

#[tokio::test]
async fn a_declaration_is_one_version_and_makes_its_keys() {
    let house = House::new().await;
    let before = house.current().version();
    let dry = json!({"resources": declaration(), "dry_run": true});
    let dry = house.post("/admin/v1/apply", dry).await.ok();
    assert_eq!(
        (&dry["version"], &dry["created_keys"]),
        (&json!(before), &json!([]))
    );
    let report = apply(&house, declaration()).await;
    assert_eq!(report["version"], json!(before + 1));
    let expected = [
        ("acme/configs/config", "create"),
        ("acme/keys/prod", "create"),
        ("acme/teams/core", "create"),
        ("tenants/acme", "create"),
        ("tiers/team", "create"),
    ];
    let expected = expected.map(|(address, action)| (address.to_owned(), action.to_owned()));
    assert_eq!(actions(&report), expected);
    assert_eq!(actions(&dry), expected);
    assert!(!report["diff"].to_string().contains("hash"));
    let created = &report["created_keys"][0];
    assert_eq!(
        (&created["tenant"], &created["name"]),
        (&json!("acme"), &json!("prod"))
    );
    let key = created["key"].as_str().unwrap();
    house
        .call(key, Method::GET, "/admin/v1/tenants/acme", Value::Null)
        .await
        .ok();
    assert_eq!(changed(&apply(&house, declaration()).await), []);
}

#[tokio::test]
async fn what_is_exported_applies_without_a_change_and_survives_a_restart() {
    let house = House::new().await;
    apply(&house, declaration()).await;
    let export = house.get("/admin/v1/export").await.ok();
    let report = apply(&house, export["resources"].clone()).await;
    assert_eq!(changed(&report), []);
    assert_eq!(report["version"], export["version"]);
    let pruned = json!({"resources": export["resources"], "prune": true});
    assert_eq!(
        changed(&house.post("/admin/v1/apply", pruned).await.ok()),
        []
    );
    let root = house.root_key();
    let house = house.restarted(root);
    let again = house.get("/admin/v1/export").await.ok();
    assert_eq!(again, export);
}

#[tokio::test]
async fn pruning_removes_what_is_not_declared_and_spares_who_is_not_mentioned() {
    let house = House::new().await;
    apply(&house, declaration()).await;
    house.onboard("globex").await;
    house
        .put("/admin/v1/tenants/globex/teams/core", json!({}))
        .await
        .ok();
    house.put("/admin/v1/tiers/stale", json!({})).await.ok();
    let mut resources = declaration();
    resources
        .as_array_mut()
        .unwrap()
        .retain(|manifest| manifest["kind"] != "key");
    resources
        .as_array_mut()
        .unwrap()
        .push(json!({"kind": "tier", "name": "free", "spec": {}}));
    let body = json!({"resources": resources, "prune": true});
    let report = house.post("/admin/v1/apply", body).await.ok();
    let gone = ["acme/keys/prod", "tiers/stale"].map(|a| (a.to_owned(), "delete".to_owned()));
    assert_eq!(changed(&report), gone);
    house.get("/admin/v1/tenants/globex/teams/core").await.ok();
}

#[tokio::test]
async fn every_problem_is_listed_and_nothing_is_changed() {
    let house = House::new().await;
    let before = house.current().version();
    let unreadable = json!([
        {"kind": "tier", "name": "Bad Name", "spec": {}},
        {"kind": "tier", "name": "twice", "spec": {}},
        {"kind": "tier", "name": "twice", "spec": {}},
        {"kind": "team", "tenant": "nobody", "name": "core", "spec": {}},
        {"kind": "team", "name": "core", "spec": {}},
        {"kind": "team", "tenant": "acme", "name": "x", "spec": {"id": "tem_00000000000000000000000001"}},
        {"kind": "upstream", "name": "up", "spec": {"base_url": "https://x.test", "provider": "x",
            "credential": "sk-live-7777"}},
        {"kind": "tenant", "name": "acme", "spec": {"tier": "free"}},
    ]);
    let refused = house
        .post("/admin/v1/apply", json!({"resources": unreadable}))
        .await;
    assert_eq!(refused.status, 422);
    let details = refused.json()["error"]["details"]
        .as_array()
        .unwrap()
        .clone();
    let addresses: Vec<&str> = details
        .iter()
        .map(|d| d["address"].as_str().unwrap())
        .collect();
    let expected = [
        "tiers/Bad Name",
        "tiers/twice",
        "nobody/teams/core",
        "teams/core",
        "acme/teams/x",
        "upstreams/up",
    ];
    assert_eq!(addresses, expected);
    assert!(!refused.text.contains("7777"));
    let invalid = json!([
        {"kind": "tenant", "name": "acme", "spec": {"tier": "gold", "zone": "Mars/Olympus"}},
        {"kind": "key", "tenant": "acme", "name": "k", "spec": {"team": "ghosts"}},
    ]);
    let refused = house
        .post("/admin/v1/apply", json!({"resources": invalid}))
        .await
        .json();
    let details = refused["error"]["details"].as_array().unwrap().clone();
    let mut problems: Vec<String> = details
        .iter()
        .map(|d| {
            format!(
                "{}: {}",
                d["address"].as_str().unwrap(),
                d["message"].as_str().unwrap()
            )
        })
        .collect();
    problems.sort();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[0], "acme/keys/k: there is no team `ghosts`");
    assert_eq!(problems[2], "tenants/acme: there is no tier `gold`");
    assert_eq!(house.current().version(), before);
}

#[tokio::test]
async fn going_back_restores_configuration_and_opens_no_door() {
    let house = House::new().await;
    apply(&house, declaration()).await;
    let keys = "/admin/v1/tenants/acme/keys";
    for name in ["lost", "turned", "binned"] {
        house
            .post(keys, json!({"name": name, "role": "service"}))
            .await
            .ok();
    }
    let wanted = house.current().version();
    let old = |name: &str| {
        house.current().tenant_named("acme").unwrap().keys[name]
            .hash
            .clone()
    };
    let turned_before = old("turned");
    house
        .post(&format!("{keys}/lost/revoke"), Value::Null)
        .await
        .ok();
    house
        .post(&format!("{keys}/turned/rotate"), Value::Null)
        .await
        .ok();
    house.delete(&format!("{keys}/binned")).await.ok();
    house
        .put("/admin/v1/tiers/team", json!({"description": "changed"}))
        .await
        .ok();
    house.put("/admin/v1/tiers/newer", json!({})).await.ok();
    house
        .put(
            "/admin/v1/tenants/acme/config",
            json!({"system_prompt": "Be rude."}),
        )
        .await
        .ok();
    house.onboard("globex").await;
    let path = format!("/admin/v1/versions/{wanted}/rollback");
    let reply = house
        .post(&path, json!({"note": "the release went wrong"}))
        .await
        .ok();
    let expected = [
        ("acme/configs/config", "update"),
        ("acme/keys/binned", "create"),
        ("tiers/newer", "delete"),
        ("tiers/team", "update"),
    ];
    assert_eq!(
        changed(&reply),
        expected.map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let kept: Vec<&str> = reply["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| k["address"].as_str().unwrap())
        .collect();
    let expected = [
        "acme/keys/binned",
        "acme/keys/lost",
        "acme/keys/turned",
        "tenants/globex",
    ];
    assert_eq!(kept, expected);
    let acme = house.current().tenant_named("acme").unwrap().clone();
    assert!(acme.keys["lost"].revoked && acme.keys["binned"].revoked);
    assert_ne!(acme.keys["turned"].hash, turned_before);
    assert_eq!(acme.config.system_prompt.as_deref(), Some("Be kind."));
    let versions = house.get("/admin/v1/versions?limit=1").await.ok();
    assert_eq!(versions["data"][0]["note"], "the release went wrong");
    assert_eq!(versions["data"][0]["actor"], "operator:ada");
    house
        .post("/admin/v1/versions/999/rollback", Value::Null)
        .await
        .refused(404);
    house
        .post("/admin/v1/versions/0/rollback", Value::Null)
        .await
        .refused(404);
}

#[tokio::test]
async fn a_tenant_goes_back_by_itself() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let path = "/admin/v1/tenants/acme/config";
    for prompt in ["one", "two"] {
        house
            .call(&acme, Method::PUT, path, json!({"system_prompt": prompt}))
            .await
            .ok();
    }
    let versions = format!("{path}/versions");
    let listed = house
        .call(&acme, Method::GET, &versions, Value::Null)
        .await
        .ok();
    let prompts: Vec<&Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| &v["config"]["system_prompt"])
        .collect();
    assert_eq!(prompts, [&json!("two"), &json!("one")]);
    let first = listed["data"][1]["version"].as_u64().unwrap();
    let back = format!("{versions}/{first}/rollback");
    let reply = house
        .call(&acme, Method::POST, &back, Value::Null)
        .await
        .ok();
    assert_eq!(reply["spec"]["system_prompt"], "one");
    // Before the first there was the default.
    let back = format!("{versions}/{}/rollback", first - 1);
    let reply = house
        .call(&acme, Method::POST, &back, Value::Null)
        .await
        .ok();
    assert_eq!(reply["spec"], json!({}));
}

#[tokio::test]
async fn prices_are_imported_once_and_changed_by_a_new_entry() {
    let house = House::new().await;
    let import = |input: &str| {
        let document = format!(
            r#"{{"source":"litellm","document":{{
                "m":{{"litellm_provider":"openai","mode":"chat",
                     "input_cost_per_token":{input},"output_cost_per_token":1e-05}},
                "odd":{{"litellm_provider":"openai","mode":"chat","cost_per_moon_phase":1}}}}}}"#
        );
        let house = &house;
        async move {
            let body: Value = serde_json::from_str(&document).unwrap();
            house.post("/admin/v1/prices/import", body).await.ok()
        }
    };
    let first = import("2.5e-06").await;
    assert_eq!(
        first["imported"],
        json!([{"name": "openai/m", "version": 1}])
    );
    assert_eq!(first["skipped"][0]["model"], "odd");
    let again = import("2.5e-06").await;
    assert_eq!(
        (&again["unchanged"], &again["version"]),
        (&json!(["openai/m"]), &first["version"])
    );
    house.clock.advance(std::time::Duration::from_secs(1));
    let changed = import("3e-06").await;
    assert_eq!(
        changed["imported"],
        json!([{"name": "openai/m", "version": 2}])
    );
    let price = house.get("/admin/v1/prices/openai%2Fm").await.ok();
    assert_eq!(price["spec"]["entries"][0]["input"], "0.0000025");
    assert_eq!(price["spec"]["entries"][1]["input"], "0.000003");
}

#[tokio::test]
async fn reloading_serves_the_catalogue_anew() {
    let house = House::new().await;
    let before = house.current();
    let reply = house.post("/admin/v1/reload", Value::Null).await.ok();
    assert_eq!(reply["version"], json!(before.version()));
    assert!(!std::sync::Arc::ptr_eq(&before, &house.current()));
    house.refuse("a secret is missing");
    house
        .post("/admin/v1/reload", Value::Null)
        .await
        .refused(422);
    assert!(house.control.publisher.reload().await.is_err());
}
