//! What requests asked and were answered: who reads it, by whose word, and on which record.

use std::time::Duration;

use axum::http::Method;
use base::RequestId;
use serde_json::{Value, json};
use store::{BodyBounds, BodyMarks, CallBodies};
use tenancy::ServicePurpose;

use super::{House, NOW};

const REQUEST: RequestId = RequestId::from_bits(7);
const CONFIG: &str = "/admin/v1/tenants/acme/config";

fn path(tenant: &str) -> String {
    format!("/admin/v1/tenants/{tenant}/requests/{REQUEST}/bodies")
}

fn keep(house: &House, tenant: &str) {
    let current = house.current();
    let keys = &current.tenant_named(tenant).unwrap().unlocked;
    let publisher = &house.control.publisher;
    let scope = publisher.service_scope(keys, ServicePurpose::Compaction);
    let bodies = CallBodies {
        request: REQUEST,
        at: NOW,
        asked: format!(r#"{{"messages":["question of {tenant}"]}}"#).into_bytes(),
        answered: br#"{"content":"<b>answer</b>"}"#.to_vec(),
        marks: BodyMarks {
            asked_cut: true,
            ..BodyMarks::default()
        },
    };
    let store = publisher.stores.open(&scope);
    store
        .keep_bodies(&[bodies], &BodyBounds::default())
        .unwrap();
}

/// Two tenants that have bodies kept, by their own word, and their administrators' keys.
async fn furnished() -> (House, String, String) {
    let house = House::new().await;
    let (acme, globex) = (house.onboard("acme").await, house.onboard("globex").await);
    for (tenant, key) in [("acme", &acme), ("globex", &globex)] {
        let config = format!("/admin/v1/tenants/{tenant}/config");
        let word = json!({"bodies": {}});
        house.call(key, Method::PUT, &config, word).await.ok();
        keep(&house, tenant);
    }
    (house, acme, globex)
}

async fn read(house: &House, key: &str, tenant: &str) -> super::Answered {
    house
        .call(key, Method::GET, &path(tenant), Value::Null)
        .await
}

/// How often the tenant's own log says that its bodies were read, by whom.
async fn readers(house: &House, key: &str) -> Vec<String> {
    let log = "/admin/v1/tenants/acme/audit?limit=1000";
    let log = house.call(key, Method::GET, log, Value::Null).await.ok();
    let entries = log["data"].as_array().unwrap().iter();
    let entries = entries.map(|row| &row["entry"]);
    let reads = entries.filter(|entry| entry["action"] == "get_request_bodies");
    reads
        .map(|entry| {
            assert_eq!(
                entry["target"],
                format!("tenants/acme/requests/{REQUEST}/bodies")
            );
            entry["actor"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn without_the_tenants_word_nobody_reads_and_only_it_can_give_it() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    keep(&house, "acme");
    for key in [&acme, &house.operator] {
        let refused = read(&house, key, "acme").await.refused(409);
        assert!(refused.contains("has no bodies kept"), "{refused}");
    }
    // An operator cannot give it in its place, whichever way.
    let refused = house.put(CONFIG, json!({"bodies": {}})).await.refused(400);
    assert!(
        refused.contains("the tenant's own administrators"),
        "{refused}"
    );
    let apply = json!({"resources": [
        {"kind": "config", "tenant": "acme", "name": "config", "spec": {"bodies": {}}}]});
    for dry_run in [true, false] {
        let mut apply = apply.clone();
        apply["dry_run"] = json!(dry_run);
        let refused = house.post("/admin/v1/apply", apply).await.refused(400);
        let words = "the tenant's own administrators";
        assert!(refused.contains(words), "{refused}");
    }
    assert!(word_of(&house).is_none());

    let word = json!({"bodies": {"features": ["chat"], "days": 5}});
    house.call(&acme, Method::PUT, CONFIG, word).await.ok();
    let given = house.current().version();
    // An operator may leave it as it is, narrow it, and take it back; and not widen it.
    let same = json!({"bodies": {"features": ["chat"], "days": 5}, "system_prompt": "x"});
    house.put(CONFIG, same).await.ok();
    for wider in [
        json!({"days": 5}),
        json!({"features": ["chat", "search"], "days": 5}),
        json!({"features": ["chat"], "days": 6}),
        json!({"features": ["chat"], "days": 5, "operators": true}),
    ] {
        house
            .put(CONFIG, json!({"bodies": wider}))
            .await
            .refused(400);
    }
    let narrower = json!({"bodies": {"features": ["chat"], "days": 2}});
    house.put(CONFIG, narrower).await.ok();
    house.delete(CONFIG).await.ok();
    // What the tenant once said is no word any more, whoever goes back to it.
    let back = format!("{CONFIG}/versions/{given}/rollback");
    house.post(&back, json!({})).await.ok();
    house.call(&acme, Method::POST, &back, json!({})).await.ok();
    let back = format!("/admin/v1/versions/{given}/rollback");
    let done = house.post(&back, json!({})).await.ok();
    assert!(done["kept"].to_string().contains("bodies"), "{done}");
    assert!(word_of(&house).is_none());
}

fn word_of(house: &House) -> Option<tenancy::catalogue::BodiesSpec> {
    let current = house.current();
    current.tenant_named("acme").unwrap().config.bodies.clone()
}

#[tokio::test]
async fn a_tenants_administrator_reads_its_own_on_record() {
    let (house, acme, globex) = furnished().await;
    let found = read(&house, &acme, "acme").await.ok();
    assert_eq!(found["asked"]["messages"][0], "question of acme");
    assert_eq!(found["answered"]["content"], "<b>answer</b>");
    assert_eq!(
        (
            &found["asked_cut"],
            &found["answered_cut"],
            &found["incomplete"]
        ),
        (&json!(true), &json!(false), &json!(false))
    );
    assert_eq!(
        found["kept_until"],
        NOW.plus(Duration::from_secs(7 * 86_400)).to_string()
    );
    assert_eq!(readers(&house, &acme).await, ["key:acme/admin"]);

    // Another tenant, a member, a program and an auditor get nothing, and leave nothing.
    let made = json!({"name": "abe", "role": "auditor"});
    let auditor = house.post("/admin/v1/operators", made).await.ok();
    read(&house, auditor["key"].as_str().unwrap(), "acme")
        .await
        .refused(403);
    for role in ["tenant-member", "service"] {
        let made = json!({"name": role, "role": role});
        let made = house.post("/admin/v1/tenants/acme/keys", made).await.ok();
        read(&house, made["key"].as_str().unwrap(), "acme")
            .await
            .refused(404);
    }
    read(&house, &globex, "acme").await.refused(404);
    let own = read(&house, &globex, "globex").await.ok();
    assert_eq!(own["asked"]["messages"][0], "question of globex");
    assert_eq!(readers(&house, &acme).await.len(), 1);
}

#[tokio::test]
async fn an_operator_reads_by_the_tenants_word_alone_and_on_its_record() {
    let (house, acme, _) = furnished().await;
    let refused = read(&house, &house.operator, "acme").await.refused(409);
    assert!(refused.contains("lets no operator read"), "{refused}");
    assert_eq!(readers(&house, &acme).await, [""; 0]);
    let word = json!({"bodies": {"operators": true}});
    house.call(&acme, Method::PUT, CONFIG, word).await.ok();
    read(&house, &house.operator, "acme").await.ok();
    assert_eq!(readers(&house, &acme).await, ["operator:ada"]);
}

#[tokio::test]
async fn what_is_too_old_or_forgotten_is_gone() {
    let (house, acme, globex) = furnished().await;
    let gone = |key: String, tenant: &'static str| {
        let house = &house;
        async move {
            let path = path(tenant);
            house.call(&key, Method::DELETE, &path, Value::Null).await
        }
    };
    gone(globex.clone(), "acme").await.refused(404);
    house.clock.advance(Duration::from_secs(6 * 86_400));
    read(&house, &acme, "acme").await.ok();
    house.clock.advance(Duration::from_secs(86_400));
    read(&house, &acme, "acme").await.refused(404);
    assert_eq!(gone(globex.clone(), "globex").await.status, 204);
    gone(globex, "globex").await.refused(404);
    // Whoever takes the word back is shown nothing from then on.
    house.call(&acme, Method::PUT, CONFIG, json!({})).await.ok();
    read(&house, &acme, "acme").await.refused(409);
}

#[tokio::test]
async fn the_words_of_a_word_are_checked() {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    for (bodies, status, says) in [
        (json!({"days": 0}), 422, "1 to 90"),
        (json!({"days": 91}), 422, "1 to 90"),
        (json!({"forever": true}), 400, "forever"),
    ] {
        let wrong = json!({"bodies": bodies});
        let refused = house.call(&acme, Method::PUT, CONFIG, wrong).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert!(refused.text.contains(says), "{}", refused.text);
    }
}

#[tokio::test]
async fn the_dashboard_shows_them_to_whom_the_api_does() {
    let (house, acme, globex) = furnished().await;
    let line = super::usage::line(&house, "acme", 0, "a");
    super::usage::post(&house, "acme", std::slice::from_ref(&line));
    let calls = format!("/dashboard/tenants/acme/calls/{}", line.intent.request);
    let bodies = format!("/dashboard/tenants/acme/calls/{REQUEST}/bodies");
    let own = house.sign_in(&acme).await.unwrap();
    let page = house.browse(&calls, Some(&own)).await;
    assert!(page.text.contains("/bodies\""), "{}", page.text);
    let page = house.browse(&bodies, Some(&own)).await;
    assert!(page.text.contains("question of acme"), "{}", page.text);
    // Whatever a model says, it is text.
    assert!(page.text.contains("&lt;b&gt;answer"), "{}", page.text);
    assert!(page.text.contains("the first 64 KiB are kept"));
    let operator = house.sign_in(&house.operator).await.unwrap();
    let page = house.browse(&calls, Some(&operator)).await;
    assert!(
        page.text.contains("for the tenant's own administrators")
            && !page.text.contains("/bodies\""),
        "{}",
        page.text
    );
    let page = house.browse(&bodies, Some(&operator)).await;
    assert!(page.text.contains("lets no operator read"), "{}", page.text);
    assert!(!page.text.contains("question of acme"), "{}", page.text);
    let stranger = house.sign_in(&globex).await.unwrap();
    assert_eq!(house.browse(&bodies, Some(&stranger)).await.status, 404);
    let gone = house.press(&bodies, &own, "").await;
    assert!(
        gone.location().ends_with("?done=forgotten"),
        "{}",
        gone.text
    );
    let page = house.browse(&bodies, Some(&own)).await;
    assert!(page.text.contains("Nothing is kept of this request"));
    // Without the word the page says who can give it.
    house.call(&acme, Method::PUT, CONFIG, json!({})).await.ok();
    let page = house.browse(&calls, Some(&own)).await;
    assert!(page.text.contains("is not kept"), "{}", page.text);
}
