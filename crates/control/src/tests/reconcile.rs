//! What crashes left unknown is listed, and ended by operators alone, on record.

use axum::http::Method;
use base::{AttemptId, PicoUsd};
use ledger::{Subject, Unsettled};
use serde_json::{Value, json};

use super::{House, NOW};
use crate::Unreported;

/// Two calls and two crashed leases of acme, and a call of globex.
async fn crashed() -> (House, String) {
    let house = House::new().await;
    let acme = house.onboard("acme").await;
    house.onboard("globex").await;
    let id = house.tenant_id("acme");
    let call = |number: u128| Unsettled {
        attempt: AttemptId::from_bits(number),
        amount: PicoUsd::dollars(2),
        since: NOW,
    };
    let lease = |subject: Subject| Unreported {
        budget: "month".parse().unwrap(),
        subject,
        amount: PicoUsd::dollars(3),
    };
    let key = house.current().tenant_named("acme").unwrap().keys["admin"].id;
    *house.rest.unsettled.lock() = vec![
        (id, call(1)),
        (id, call(2)),
        (house.tenant_id("globex"), call(3)),
    ];
    *house.rest.unreported.lock() =
        vec![(id, lease(Subject::Tenant)), (id, lease(Subject::Key(key)))];
    (house, acme)
}

const UNSETTLED: &str = "/admin/v1/tenants/acme/unsettled";
const LEASES: &str = "/admin/v1/tenants/acme/leases/reconcile";

#[tokio::test]
async fn what_is_open_is_listed_page_by_page_and_at_home_alone() {
    let (house, acme) = crashed().await;
    let mut rows = Vec::new();
    let mut path = format!("{UNSETTLED}?limit=3");
    loop {
        let page = house
            .call(&acme, Method::GET, &path, Value::Null)
            .await
            .ok();
        rows.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("{UNSETTLED}?limit=3&cursor={}", cursor.replace(' ', "%20"));
    }
    let call = |number| {
        let attempt = AttemptId::from_bits(number).to_string();
        json!({"kind": "call", "attempt": attempt, "amount": "2.00", "since": NOW})
    };
    let lease = |subject: &str| json!({"kind": "lease", "budget": "month", "subject": subject, "amount": "3.00"});
    let expected = [call(1), call(2), lease("key:admin"), lease("tenant")];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn an_operator_says_what_a_call_cost_and_it_is_on_record() {
    let (house, acme) = crashed().await;
    let path = |number| {
        let attempt = AttemptId::from_bits(number);
        format!("{UNSETTLED}/{attempt}/reconcile")
    };
    let cost = json!({"cost": "0.50"});
    let first = path(1);
    let own = house.call(&acme, Method::POST, &first, cost.clone());
    own.await.refused(404);
    let done = house.post(&path(1), cost.clone()).await.ok();
    assert_eq!(done["cost"], "0.50");
    // Once: the second time there is nothing; and another tenant's call is not here.
    for number in [1, 3] {
        house.post(&path(number), cost.clone()).await.refused(404);
    }
    let log = house.get("/admin/v1/tenants/acme/audit").await.ok();
    let acts = log["data"].as_array().unwrap().iter();
    let acts: Vec<_> = acts
        .filter(|row| row["entry"]["action"] == "reconcile_call")
        .collect();
    assert_eq!(acts.len(), 1, "{log}");
    let target = format!("unsettled/{}", AttemptId::from_bits(1));
    assert_eq!(acts[0]["entry"]["target"], json!(target));
}

#[tokio::test]
async fn an_operator_gives_a_lease_back_in_part_or_whole() {
    let (house, acme) = crashed().await;
    let all = json!({"budget": "month", "subject": "tenant", "all": true});
    let own = house.call(&acme, Method::POST, LEASES, all.clone());
    own.await.refused(404);
    for (wrong, says) in [
        (json!({"budget": "month", "all": true}), "say which"),
        (json!({"budget": "month", "subject": "tenant"}), "either"),
        (
            json!({"budget": "month", "subject": "tenant", "all": true, "unspent": "1"}),
            "either",
        ),
    ] {
        let refused = house.post(LEASES, wrong).await.refused(400);
        assert!(refused.contains(says), "{refused}");
    }
    let absent = json!({"budget": "month", "subject": "key:nobody", "all": true});
    house.post(LEASES, absent).await.refused(404);
    let part = json!({"budget": "month", "subject": "tenant", "unspent": "1.25"});
    let done = house.post(LEASES, part).await.ok();
    let expected = json!({"budget": "month", "subject": "tenant", "unspent": "1.25",
        "unreported": "1.75"});
    assert_eq!(done, expected);
    let done = house.post(LEASES, all).await.ok();
    assert_eq!(
        (&done["unspent"], &done["unreported"]),
        (&json!("1.75"), &json!("0.00"))
    );
}

#[tokio::test]
async fn a_call_that_nobody_bills_is_written_off_with_a_reason() {
    let (house, acme) = crashed().await;
    let path = |number| {
        let attempt = AttemptId::from_bits(number);
        format!("{UNSETTLED}/{attempt}/write-off")
    };
    let reason = json!({"reason": "not on the bill of March"});
    let first = path(1);
    let own = house.call(&acme, Method::POST, &first, reason.clone());
    own.await.refused(404);
    house
        .post(&first, json!({"reason": " "}))
        .await
        .refused(400);
    let done = house.post(&path(1), reason.clone()).await.ok();
    assert_eq!(done["cost"], "0.00");
    for number in [1, 3] {
        house.post(&path(number), reason.clone()).await.refused(404);
    }
    let log = house.get("/admin/v1/tenants/acme/audit").await.ok();
    let mut acts = log["data"].as_array().unwrap().iter();
    let act = acts.find(|row| row["entry"]["action"] == "write_off_call");
    assert_eq!(
        act.unwrap()["entry"]["reason"],
        "not on the bill of March",
        "{log}"
    );
}
