//! What can be done besides: every change that the admin API makes has a form, and forms do what they
//! say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::House;
use crate::MetricsAccess;
use crate::api::CacheReply;
use crate::dashboard;
use crate::endpoint::Verb;
use crate::routes::endpoints;

/// What the dashboard does not do, and why.
const NOT_IN_THE_DASHBOARD: [(&str, &str); 3] = [
    ("create_sign_in_link", "whoever reads this is signed in"),
    (
        "create_tenant_sign_in_link",
        "whoever reads this is signed in",
    ),
    (
        "put_adapter_files",
        "an archive of gigabytes that is made while it is sent: `partywall adapter upload`",
    ),
];

#[test]
fn every_change_that_the_api_makes_has_a_form_or_a_reason() {
    let reasons = BTreeMap::from(NOT_IN_THE_DASHBOARD);
    let does = dashboard::does();
    let all: BTreeSet<String> = endpoints(MetricsAccess::Operators)
        .into_iter()
        .filter(|endpoint| endpoint.verb != Verb::Get)
        .map(|endpoint| endpoint.operation_id)
        .collect();
    for id in &all {
        let (has_form, has_reason) = (does.contains(id), reasons.contains_key(id.as_str()));
        assert!(
            has_form != has_reason,
            "{id}: form {has_form}, reason {has_reason}"
        );
    }
    // Neither says anything of what is not there. Reading has no side.
    let reading: BTreeSet<String> = endpoints(MetricsAccess::Operators)
        .into_iter()
        .filter(|endpoint| endpoint.verb == Verb::Get)
        .map(|endpoint| endpoint.operation_id)
        .collect();
    for id in does.iter().map(String::as_str).chain(reasons.into_keys()) {
        assert!(all.contains(id) || reading.contains(id), "{id}");
    }
}

#[tokio::test]
async fn an_operators_forms_do_what_they_say() {
    let house = House::new().await;
    house.onboard("acme").await;
    let session = house.sign_in(&house.operator).await.unwrap();
    let root = "/dashboard/operations";
    let page = house.browse(root, Some(&session)).await;
    for words in [
        "Import prices",
        "Read secrets and configuration again",
        "Verify the ledger",
    ] {
        assert!(page.text.contains(words), "{words}");
    }
    // A declared catalogue is compared first, and then put in place.
    let resources = "resources=%5B%7B%22kind%22%3A%22tier%22%2C%22name%22%3A%22team%22%2C%22spec%22%3A%7B%7D%7D%5D";
    let version = house.current().version();
    let dry = house
        .press(
            &format!("{root}/apply"),
            &session,
            &format!("{resources}&dry_run=yes"),
        )
        .await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    assert_eq!(house.current().version(), version);
    assert!(dry.text.contains("Nothing was changed."), "{}", dry.text);
    assert!(!dry.text.contains("Done."), "{}", dry.text);
    let done = house
        .press(&format!("{root}/apply"), &session, resources)
        .await;
    assert!(done.text.contains("Done."), "{}", done.text);
    house.get("/admin/v1/tiers/team").await.ok();
    // What is wrong is said, and changes nothing.
    for (operation, form, says) in [
        ("apply", "resources=%5B", "no JSON"),
        ("apply", "", "is missing"),
        ("push_costs", "from=2026-01-01", "is missing"),
        (
            "import_prices",
            "source=litellm&variants=skip&document=%7B%22m%22%3A1%7D&effective_from=soon",
            "Nothing was changed",
        ),
    ] {
        let wrong = house
            .press(&format!("{root}/{operation}"), &session, form)
            .await;
        assert_eq!(wrong.status, 400, "{operation} {form}: {}", wrong.text);
        assert!(
            wrong.text.contains(says),
            "{operation} {form}: {}",
            wrong.text
        );
    }
    // A key is shown once, and it is the one that is good from then on.
    let made = json!({"name": "eve", "role": "auditor"});
    let old = house.post("/admin/v1/operators", made).await.ok();
    let rotated = house
        .press(&format!("{root}/rotate_operator"), &session, "name=eve")
        .await;
    assert!(rotated.text.contains("Copy it now"), "{}", rotated.text);
    assert!(house.sign_in(old["key"].as_str().unwrap()).await.is_none());
    // The catalogue comes as a file.
    let file = house
        .browse(&format!("{root}/export"), Some(&session))
        .await;
    assert_eq!(file.status, 200);
    let disposition = file.headers["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"export.json\"");
    assert!(file.headers.contains_key("content-security-policy"));
    let exported: serde_json::Value = serde_json::from_str(&file.text).unwrap();
    assert!(exported.to_string().contains("\"team\""));
    // What changes something is not done by a link.
    let by_link = house
        .browse(&format!("{root}/reload"), Some(&session))
        .await;
    assert_eq!(by_link.status, 404);
    let absent = house.press(&format!("{root}/nothing"), &session, "").await;
    assert_eq!(absent.status, 404);
}

#[tokio::test]
async fn a_tenants_administrator_does_what_its_key_may_and_no_more() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    let globex = house.onboard("globex").await;
    for tenant in ["acme", "globex"] {
        let figures = CacheReply {
            entries: 3,
            bytes: 100,
            hits: 7,
            misses: 9,
        };
        let id = house.tenant_id(tenant);
        house.rest.caches.lock().push((id, figures));
    }
    let own = house.sign_in(&acme).await.unwrap();
    let other = house.sign_in(&globex).await.unwrap();
    let operator = house.sign_in(&house.operator).await.unwrap();
    let root = "/dashboard/tenants/acme/operations";
    let page = house.browse(root, Some(&own)).await;
    assert!(
        page.text.contains("Clear the cache") && !page.text.contains("Change the tenant itself")
    );
    let page = house.browse(root, Some(&operator)).await;
    assert!(
        page.text.contains("Change the tenant itself"),
        "{}",
        page.text
    );
    let clear = format!("{root}/clear_cache");
    assert_eq!(house.press(&clear, &other, "").await.status, 404);
    let kept = house.browse(&format!("{root}/get_cache"), Some(&own)).await;
    assert!(
        kept.text.contains("<dt>entries</dt><dd>3</dd>"),
        "{}",
        kept.text
    );
    let cleared = house.press(&clear, &own, "").await;
    assert!(cleared.text.contains("Done."), "{}", cleared.text);
    let entries = |tenant: &'static str| {
        let house = &house;
        async move {
            let path = format!("/admin/v1/tenants/{tenant}/cache");
            house.get(&path).await.ok()["entries"].clone()
        }
    };
    assert_eq!(
        (entries("acme").await, entries("globex").await),
        (json!(0), json!(3))
    );
    // What it may spend, and where it is, is the platform's to say.
    for operation in [
        "put_tenant",
        "rotate_tenant_key",
        "credit_invoice",
        "write_off_call",
    ] {
        let version = house.current().version();
        let path = format!("{root}/{operation}");
        let refused = house
            .press(
                &path,
                &own,
                "id=x&reason=x&amount=1&reference=1&spec=%7B%7D",
            )
            .await;
        assert_eq!(refused.status, 404, "{operation}: {}", refused.text);
        assert_eq!(house.current().version(), version);
    }
    let auditor = house.sign_in(&house.auditor().await).await.unwrap();
    let refused = house.press(&clear, &auditor, "").await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    // An operator changes the tenant itself, as it is shown.
    let spec = house.get("/admin/v1/tenants/acme").await.ok()["spec"].clone();
    let mut changed = spec.clone();
    changed["display_name"] = json!("Acme & Sons");
    let form: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("spec", &changed.to_string())
        .finish();
    let done = house
        .press(&format!("{root}/put_tenant"), &operator, &form)
        .await;
    assert!(done.text.contains("Done."), "{}", done.text);
    let now = house.get("/admin/v1/tenants/acme").await.ok();
    assert_eq!(now["spec"]["display_name"], "Acme & Sons");
    let log = format!("{root}/export_tenant_audit");
    let file = house.browse(&log, Some(&own)).await;
    assert!(file.text.contains("put_tenant"), "{}", file.text);
    assert_eq!(house.browse(&log, Some(&other)).await.status, 404);
}
