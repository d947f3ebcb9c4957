//! Backups over the API, in a folder, over time.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use base::Timestamp;
use serde_json::{Value, json};
use store::{ResponseBounds, StoredResponse, Stores};
use tenancy::{ServicePurpose, TenantScope};

use super::{House, NOW};

const BACKUPS: &str = "/admin/v1/tenants/acme/backups";
const RESTORE: &str = "/admin/v1/tenants/acme/restore";
const HOUR: Duration = Duration::from_secs(3600);

async fn house() -> House {
    let house = House::new().await;
    house.onboard("acme").await;
    house.onboard("initech").await;
    house
}

fn folder_of(house: &House, tenant: &str) -> PathBuf {
    let id = house.tenant_id(tenant).to_string();
    house.folder.path().join("backups/inst").join(id)
}

/// Does something in the tenant's place.
fn within<T>(house: &House, tenant: &str, act: impl FnOnce(&Stores, &TenantScope) -> T) -> T {
    let entry = house.current();
    let keys = &entry.tenant_named(tenant).unwrap().unlocked;
    let publisher = &house.control.publisher;
    let scope = publisher.service_scope(keys, ServicePurpose::Recovery);
    act(&publisher.stores, &scope)
}

/// Stores a response of this id for the tenant.
fn store_response(house: &House, tenant: &str, id: &str) {
    let response = StoredResponse {
        id: id.to_owned(),
        previous: String::new(),
        input: b"a secret question".to_vec(),
        body: b"{}".to_vec(),
    };
    let bounds = ResponseBounds::default();
    within(house, tenant, |stores, scope| {
        let store = stores.open(scope);
        store.keep_response(&response, NOW, &bounds).unwrap();
    });
}

fn has_response(house: &House, tenant: &str, id: &str) -> bool {
    let found = within(house, tenant, |stores, scope| {
        stores.open(scope).response(id, NOW)
    });
    found.unwrap().is_some()
}

fn remove_response(house: &House, tenant: &str, id: &str) {
    let removed = within(house, tenant, |stores, scope| {
        stores.open(scope).remove_response(id, NOW)
    });
    assert!(removed.unwrap());
}

#[tokio::test]
async fn what_a_tenant_lost_comes_back_and_others_keep_theirs() {
    let house = house().await;
    store_response(&house, "acme", "resp_1");
    let taken = house.post(BACKUPS, json!({})).await.ok();
    store_response(&house, "initech", "resp_2");
    remove_response(&house, "acme", "resp_1");
    let reply = house.post(RESTORE, json!({"what": "content"})).await.ok();
    assert_eq!(reply["backup"], taken["name"]);
    assert!(has_response(&house, "acme", "resp_1"));
    assert!(has_response(&house, "initech", "resp_2"));
    // Who did it stands in both logs.
    for log in ["/admin/v1/audit", "/admin/v1/tenants/acme/audit"] {
        let entries = house.get(log).await.ok().to_string();
        assert!(entries.contains("back_up_tenant"), "{log}: {entries}");
        assert!(entries.contains("restore_tenant"), "{log}: {entries}");
    }
}

#[tokio::test]
async fn a_store_that_is_gone_comes_back_whole() {
    let house = house().await;
    store_response(&house, "acme", "resp_1");
    house.post(BACKUPS, json!({})).await.ok();
    within(&house, "acme", Stores::remove).unwrap();
    let reply = house.post(RESTORE, json!({"what": "everything"})).await;
    reply.ok();
    assert!(has_response(&house, "acme", "resp_1"));
    // What is there is not put back to what it was.
    store_response(&house, "acme", "resp_2");
    house
        .put("/admin/v1/tenants/acme/users/eve", json!({}))
        .await
        .ok();
    let again = house.post(RESTORE, json!({"what": "everything"})).await;
    let message = again.refused(409);
    assert!(message.contains("`content`"), "{message}");
    assert!(has_response(&house, "acme", "resp_2"));
}

#[tokio::test]
async fn the_newest_before_a_time_or_one_by_name_is_put_back() {
    let house = house().await;
    let mut names = Vec::new();
    for number in 0..3 {
        store_response(&house, "acme", &format!("resp_{number}"));
        let taken = house.post(BACKUPS, json!({})).await.ok();
        names.push(taken["name"].as_str().unwrap().to_owned());
        house.clock.advance(HOUR);
    }
    let listed = house.get(BACKUPS).await.ok();
    let data = listed["data"].as_array().unwrap().clone();
    let listed: Vec<&str> = data
        .iter()
        .map(|view| view["name"].as_str().unwrap())
        .collect();
    assert_eq!(listed, names);
    let before = NOW.plus(HOUR + HOUR / 2);
    for (which, is_there) in [
        (
            json!({"what": "content", "before": before}),
            [true, true, false],
        ),
        (
            json!({"what": "content", "backup": names[0]}),
            [true, false, false],
        ),
        (json!({"what": "content"}), [true, true, true]),
    ] {
        house.post(RESTORE, which.clone()).await.ok();
        for (number, is_there) in is_there.into_iter().enumerate() {
            let id = format!("resp_{number}");
            assert_eq!(has_response(&house, "acme", &id), is_there, "{which} {id}");
        }
    }
    for wrong in [
        json!({"what": "content", "backup": "x"}),
        json!({"what": "content", "before": Timestamp::from_micros(0)}),
        json!({"what": "content", "before": before, "backup": names[0]}),
    ] {
        house.post(RESTORE, wrong).await.refused(400);
    }
    let first = format!("{BACKUPS}/{}", names[0]);
    assert!(house.delete(&first).await.status.is_success());
    house.delete(&first).await.refused(404);
    assert_eq!(
        house.get(BACKUPS).await.ok()["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn invariant_1_another_tenants_backup_is_never_put_back() {
    let house = House::new().await;
    let key = house.onboard("acme").await;
    house.onboard("initech").await;
    let taken = house.post(BACKUPS, json!({})).await.ok();
    let name = taken["name"].as_str().unwrap();
    // By its name, from the other's address.
    let others = "/admin/v1/tenants/initech/restore";
    let request = json!({"what": "content", "backup": name});
    house.post(others, request.clone()).await.refused(400);
    // Copied into the other's folder, and there named as one of its own.
    let file = format!("{name}.pwbackup");
    let to = folder_of(&house, "initech");
    std::fs::create_dir_all(&to).unwrap();
    let from = folder_of(&house, "acme").join(&file);
    std::fs::copy(&from, to.join(&file)).unwrap();
    house.post(others, request.clone()).await.refused(400);
    // With a header that says it is.
    let text = |tenant: &str| house.tenant_id(tenant).to_string().into_bytes();
    let (mut bytes, own, other) = (std::fs::read(&from).unwrap(), text("acme"), text("initech"));
    let at = bytes
        .windows(own.len())
        .position(|part| part == own)
        .unwrap();
    bytes[at..at + own.len()].copy_from_slice(&other);
    std::fs::write(to.join(&file), bytes).unwrap();
    let message = house.post(others, request).await.refused(400);
    assert!(message.contains("damaged"), "{message}");
    // A tenant's own administrator sees that there are some of its own.
    let listed = house
        .call(&key, Method::GET, BACKUPS, Value::Null)
        .await
        .ok();
    assert_eq!(listed["data"][0]["name"], name);
    let theirs = "/admin/v1/tenants/initech/backups";
    house
        .call(&key, Method::GET, theirs, Value::Null)
        .await
        .refused(404);
    for path in [BACKUPS, RESTORE] {
        let refused = house
            .call(&key, Method::POST, path, json!({"what": "content"}))
            .await;
        assert!(matches!(refused.status.as_u16(), 403 | 404), "{refused:?}");
    }
}

#[tokio::test]
async fn a_backup_shows_nothing_of_what_is_in_it() {
    let house = house().await;
    store_response(&house, "acme", "resp_1");
    let taken = house.post(BACKUPS, json!({})).await.ok();
    let name = taken["name"].as_str().unwrap();
    let bytes = std::fs::read(folder_of(&house, "acme").join(format!("{name}.pwbackup"))).unwrap();
    let shows = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(!shows(b"secret question") && !shows(b"resp_1") && !shows(b"acme"));
    assert_eq!(taken["bytes"], bytes.len());
}

#[tokio::test]
async fn backups_are_taken_when_due_and_the_newest_are_kept() {
    let house = house().await;
    let round = |house: &House| {
        let publisher = std::sync::Arc::clone(&house.control.publisher);
        tokio::task::spawn_blocking(move || publisher.back_up_due(HOUR, 2))
    };
    let first = round(&house).await.unwrap();
    assert_eq!((first.taken, first.failed, first.removed), (2, 0, 0));
    // Nothing is due.
    assert_eq!(round(&house).await.unwrap(), crate::BackupRound::default());
    for hour in 1..4 {
        house.clock.advance(HOUR);
        let done = round(&house).await.unwrap();
        assert_eq!(
            (done.taken, done.removed),
            (2, if hour < 2 { 0 } else { 2 }),
            "{hour}"
        );
    }
    let kept: Value = house.get(BACKUPS).await.ok()["data"].clone();
    let taken: Vec<&str> = kept
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["taken_at"].as_str().unwrap())
        .collect();
    assert_eq!(
        taken,
        [
            NOW.plus(HOUR * 2).to_string(),
            NOW.plus(HOUR * 3).to_string()
        ]
    );
    // Whoever is gone has no backups, and others keep theirs.
    let gone = folder_of(&house, "initech");
    assert!(gone.is_dir());
    house
        .delete("/admin/v1/tenants/initech?confirm=initech")
        .await
        .ok();
    assert_eq!(round(&house).await.unwrap().removed, 1);
    assert!(!gone.exists() && folder_of(&house, "acme").is_dir());
}

#[tokio::test]
async fn more_files_than_are_looked_at_are_refused() {
    let house = house().await;
    let folder = folder_of(&house, "acme");
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..1_000 {
        std::fs::write(folder.join(format!("{number}.pwbackup")), b"").unwrap();
    }
    let message = house.post(BACKUPS, json!({})).await.refused(409);
    assert!(message.contains("remove some"), "{message}");
}
