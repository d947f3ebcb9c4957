//! Costs that go to a bucket by themselves: once a day, whole, and again while they may change.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{House, Rest};
use crate::{Bucket, Object, PushFormat, PushOptions, PushRound, Reading, Storing};

pub(super) fn options(rest: &Arc<Rest>) -> PushOptions {
    PushOptions {
        bucket: Arc::clone(rest) as _,
        prefix: "pw/".to_owned(),
        format: PushFormat::Csv,
    }
}

impl Bucket for Rest {
    fn put(&self, object: Object) -> Storing<'_> {
        Box::pin(async move {
            let mut bucket = self.bucket.lock();
            let objects = bucket.as_mut().ok_or("status 503 (SlowDown)")?;
            objects.insert(object.key, object.body);
            Ok(())
        })
    }

    fn get(&self, key: String) -> Reading<'_> {
        Box::pin(async move {
            let bucket = self.bucket.lock();
            let objects = bucket.as_ref().ok_or("status 503 (SlowDown)")?;
            Ok(objects.get(&key).cloned())
        })
    }
}

fn keys(house: &House) -> Vec<String> {
    let bucket = house.rest.bucket.lock();
    bucket.as_ref().unwrap().keys().cloned().collect()
}

fn object(house: &House, key: &str) -> Bytes {
    house.rest.bucket.lock().as_ref().unwrap()[key].clone()
}

#[tokio::test]
async fn three_days_are_pushed_once_a_day_and_whole() {
    let house = House::new().await;
    house.onboard("acme").await;
    // A bucket that takes nothing is tried again.
    let failed = PushRound {
        pushed: 0,
        failed: 3,
    };
    assert_eq!(house.control.push_due().await, failed);
    *house.rest.bucket.lock() = Some(Default::default());
    let pushed = PushRound {
        pushed: 3,
        failed: 0,
    };
    assert_eq!(house.control.push_due().await, pushed);
    assert_eq!(
        keys(&house),
        [
            "pw/2026-03/2026-03-02/costs-0000.csv",
            "pw/2026-03/2026-03-02/manifest.json",
            "pw/2026-03/2026-03-03/costs-0000.csv",
            "pw/2026-03/2026-03-03/manifest.json",
            "pw/2026-03/2026-03-04/costs-0000.csv",
            "pw/2026-03/2026-03-04/manifest.json",
        ]
    );
    let file = object(&house, "pw/2026-03/2026-03-04/costs-0000.csv");
    assert!(file.starts_with(b"BilledCost,"), "{file:?}");
    let manifest: Value =
        serde_json::from_slice(&object(&house, "pw/2026-03/2026-03-04/manifest.json")).unwrap();
    assert_eq!(
        manifest["files"][0]["key"],
        "pw/2026-03/2026-03-04/costs-0000.csv"
    );
    assert_eq!(manifest["files"][0]["bytes"], file.len());
    // Nobody does it twice on one day, and everybody anew on the next.
    assert_eq!(house.control.push_due().await, PushRound::default());
    house.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(house.control.push_due().await, pushed);
    assert_eq!(keys(&house).len(), 8);
    let audit = house.get("/admin/v1/audit").await.text;
    assert!(audit.contains("push_costs"), "{audit}");
}

#[tokio::test]
async fn days_are_pushed_on_request_and_by_operators_alone() {
    let house = House::new().await;
    *house.rest.bucket.lock() = Some(Default::default());
    let own = house.onboard("acme").await;
    let path = "/admin/v1/costs/push";
    let ask = |from: &str, to: &str| json!({"from": from, "to": to});
    let done = house.post(path, ask("2026-01-31", "2026-02-02")).await.ok();
    assert_eq!(done["days"][1]["day"], "2026-02-01");
    assert_eq!(keys(&house).len(), 4);
    for (from, to) in [
        ("2026-01-31", "2026-01-31"),
        ("2026-02-02", "2026-02-01"),
        ("2026-01-01", "2026-03-01"),
        ("2026-01-01T12:00:00Z", "2026-01-02T12:00:00Z"),
        ("yesterday", "today"),
    ] {
        house.post(path, ask(from, to)).await.refused(400);
    }
    let body = ask("2026-01-31", "2026-02-01");
    let refused = house.call(&own, axum::http::Method::POST, path, body).await;
    refused.refused(404);
    *house.rest.bucket.lock() = None;
    let refused = house
        .post(path, ask("2026-01-31", "2026-02-01"))
        .await
        .refused(409);
    assert!(refused.contains("SlowDown"), "{refused}");
}
