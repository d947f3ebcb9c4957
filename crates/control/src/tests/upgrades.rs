//! Tenants' stores come to the newest step ring by ring, halt where a ring does badly, and go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use serde_json::{Value, json};
use store::NEWEST_STEP;
use tenancy::ServicePurpose;

use super::House;
use crate::api::HealthFigures;
use crate::{HealthHour, UpgradeTurn};

const UPGRADE: &str = "/admin/v1/upgrade";
const TENANTS: [&str; 12] = [
    "acme",
    "initech",
    "hooli",
    "stark",
    "wayne",
    "tyrell",
    "cyberdyne",
    "umbrella",
    "soylent",
    "aperture",
    "weyland",
    "oscorp",
];

include!("../../../store/tests/fixture/step_before.rs");

/// Tenants whose stores are of the step before the newest.
async fn house() -> House {
    let house = House::new().await;
    for tenant in TENANTS {
        house.onboard(tenant).await;
        take_back(&path_of(&house, tenant), &pragma_of(&house, tenant));
    }
    house
}

fn path_of(house: &House, tenant: &str) -> PathBuf {
    let id = house.tenant_id(tenant);
    house.folder.path().join(format!("tenants/{id}.db"))
}

fn pragma_of(house: &House, tenant: &str) -> String {
    let current = house.current();
    let keys = &current.tenant_named(tenant).unwrap().unlocked;
    (*keys.placement_key().sqlcipher_pragma()).to_owned()
}

fn step_of(house: &House, tenant: &str) -> u32 {
    step_at(&path_of(house, tenant), &pragma_of(house, tenant))
}

fn at_newest(house: &House) -> Vec<&'static str> {
    let is_newest = |tenant: &&str| step_of(house, tenant) == NEWEST_STEP;
    TENANTS.into_iter().filter(is_newest).collect()
}

async fn turn(house: &House) -> UpgradeTurn {
    let control = Arc::clone(&house.control);
    let taken = tokio::task::spawn_blocking(move || control.upgrade_turn());
    taken.await.unwrap().unwrap()
}

/// Takes turns until the upgrade is in one of these states, and says how it stands.
async fn until(house: &House, states: &[&str]) -> Value {
    for _ in 0..100 {
        let reply = house.get(UPGRADE).await.ok();
        if states.iter().any(|state| reply["state"] == *state) {
            return reply;
        }
        turn(house).await;
        house.clock.advance(Duration::from_secs(30));
    }
    panic!("{}", house.get(UPGRADE).await.ok());
}

async fn tell(house: &House, verb: &str) -> super::Answered {
    house.post(&format!("{UPGRADE}/{verb}"), json!({})).await
}

#[tokio::test]
async fn rings_follow_each_other_and_in_the_end_everybody_has_the_newest_step() {
    let house = house().await;
    assert_eq!(house.get(UPGRADE).await.ok()["state"], "none");
    assert_eq!(turn(&house).await, UpgradeTurn::Nothing);
    // As if a worker had ended after it upgraded a store and before it said so.
    let current = house.current();
    let publisher = &house.control.publisher;
    let keys = &current.tenant_named("initech").unwrap().unlocked;
    let scope = publisher.service_scope(keys, ServicePurpose::Recovery);
    assert!(publisher.stores.upgrade(&scope).unwrap().is_change());

    let request = json!({"internal_tenants": ["acme"], "watch_seconds": 60});
    house.post(UPGRADE, request).await.ok();
    assert_eq!(turn(&house).await, UpgradeTurn::Went);
    assert_eq!(at_newest(&house), ["acme", "initech"]);
    // It is watched for a minute.
    let watched = house.get(UPGRADE).await.ok();
    assert_eq!(watched["state"], "watching", "{watched}");
    assert_eq!(turn(&house).await, UpgradeTurn::Nothing);
    assert_eq!(at_newest(&house), ["acme", "initech"]);

    let done = until(&house, &["done"]).await;
    assert_eq!(at_newest(&house), TENANTS);
    let count = |what: &str| -> u64 {
        let rings = done["rings"].as_array().unwrap().iter();
        rings.map(|ring| ring[what].as_u64().unwrap()).sum()
    };
    assert_eq!(count("stores"), TENANTS.len() as u64);
    assert_eq!((count("upgraded"), count("current")), (11, 1));
    assert_eq!(count("failed"), 0);
    let record = house.get("/admin/v1/audit").await.ok().to_string();
    for action in ["start_upgrade", "begin_upgrade_ring", "finish_upgrade"] {
        assert!(record.contains(action), "{action}: {record}");
    }
    // It may be begun again, and finds nothing to do.
    house.post(UPGRADE, json!({"watch_seconds": 0})).await.ok();
    let again = until(&house, &["done"]).await;
    let rings = again["rings"].as_array().unwrap().iter();
    assert!(rings.clone().all(|ring| ring["upgraded"] == 0), "{again}");
}

#[tokio::test]
async fn a_store_that_cannot_be_upgraded_halts_it_and_the_others_stay() {
    let house = house().await;
    // Another tenant's file in its place does not open.
    house.clock.advance(Duration::from_secs(3_600));
    house.control.publisher.stores.evict();
    std::fs::copy(path_of(&house, "initech"), path_of(&house, "hooli")).unwrap();
    let request = json!({"internal_tenants": ["hooli"], "watch_seconds": 0});
    house.post(UPGRADE, request).await.ok();
    assert_eq!(turn(&house).await, UpgradeTurn::Halted);
    let halted = house.get(UPGRADE).await.ok();
    assert_eq!(halted["state"], "halted", "{halted}");
    assert_eq!(halted["failures"][0]["store"], "hooli");
    // What is said of it names no path.
    let words = halted["failures"][0]["why"].as_str().unwrap();
    assert!(!words.contains('/'), "{words}");
    assert_eq!(turn(&house).await, UpgradeTurn::Nothing);
    assert_eq!(step_of(&house, "acme"), 8);
    let record = house.get("/admin/v1/audit").await.ok().to_string();
    assert!(record.contains("halt_upgrade"), "{record}");
    assert!(halted["reason"].as_str().unwrap().contains("1 of 1"));
}

#[tokio::test]
async fn calls_that_fail_halt_it_and_it_goes_on_when_told_to() {
    let house = house().await;
    let request = json!({"internal_tenants": ["acme", "stark"], "watch_seconds": 3_600});
    house.post(UPGRADE, request).await.ok();
    assert_eq!(turn(&house).await, UpgradeTurn::Went);
    let minute = |calls, failed| HealthFigures {
        calls,
        failed,
        ..HealthFigures::default()
    };
    let hour = |began: Timestamp, figures: HealthFigures| HealthHour {
        sum: figures,
        minutes: vec![figures],
        began: vec![began],
    };
    let now = base::Clock::now(&*house.clock);
    let (acme, wayne) = (house.tenant_id("acme"), house.tenant_id("wayne"));
    // What failed before, and what fails elsewhere, is not the ring's.
    *house.rest.hours.lock() = vec![
        (
            acme,
            hour(now.minus(Duration::from_secs(60)), minute(500, 500)),
        ),
        (wayne, hour(now, minute(500, 500))),
    ];
    assert_eq!(turn(&house).await, UpgradeTurn::Nothing);
    *house.rest.hours.lock() = vec![(acme, hour(now, minute(500, 50)))];
    assert_eq!(turn(&house).await, UpgradeTurn::Halted);
    let halted = house.get(UPGRADE).await.ok();
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("100 of 1000 calls fail"), "{reason}");
    assert_eq!(at_newest(&house), ["acme", "stark"]);

    house.rest.hours.lock().clear();
    tell(&house, "resume").await.ok();
    assert_eq!(turn(&house).await, UpgradeTurn::Went);
    tell(&house, "advance").await.ok();
    house.clock.advance(Duration::from_secs(3_600));
    // Watched rings are long: each is ended by hand.
    for _ in 0..20 {
        if house.get(UPGRADE).await.ok()["state"] == "watching" {
            tell(&house, "advance").await.ok();
        }
        turn(&house).await;
    }
    assert_eq!(at_newest(&house), TENANTS);
}

#[tokio::test]
async fn by_hand_each_ring_waits_and_whoever_comes_late_changes_nothing() {
    let house = house().await;
    let request = json!({"internal_tenants": ["acme"], "watch_seconds": 0, "by_hand": true});
    house.post(UPGRADE, request).await.ok();
    let waiting = until(&house, &["waiting"]).await;
    assert_eq!(waiting["ring"], "internal");
    assert_eq!(at_newest(&house), ["acme"]);
    // A turn that was taken before somebody halted the upgrade does not undo that.
    tell(&house, "advance").await.ok();
    let late = house.control.publisher.rollout().unwrap().unwrap();
    tell(&house, "halt").await.ok();
    let publisher = Arc::clone(&house.control.publisher);
    let kept = tokio::task::spawn_blocking(move || publisher.keep_turn(late, None));
    assert!(!kept.await.unwrap().unwrap());
    assert_eq!(house.get(UPGRADE).await.ok()["state"], "halted");
    tell(&house, "resume").await.ok();
    // Which rings have anybody is by chance: the last one does not wait.
    until(&house, &["waiting", "done"]).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = house().await;
    for verb in ["advance", "halt", "resume"] {
        let refused = tell(&house, verb).await.refused(409);
        assert!(refused.contains("upgrade start"), "{refused}");
    }
    for wrong in [
        json!({"internal_tiers": ["nobodys"]}),
        json!({"internal_tenants": ["nobody"]}),
        json!({"watch_seconds": 1_000_000}),
        json!({"failed_permille_max": 1_001}),
        json!({"colour": "red"}),
    ] {
        let refused = house.post(UPGRADE, wrong.clone()).await;
        assert!(refused.status.is_client_error(), "{wrong}");
    }
    house.post(UPGRADE, json!({})).await.ok();
    house.post(UPGRADE, json!({})).await.refused(409);
    tell(&house, "advance").await.refused(409);
    tell(&house, "resume").await.refused(409);
    tell(&house, "halt").await.ok();
    tell(&house, "halt").await.refused(409);
    assert_eq!(turn(&house).await, UpgradeTurn::Nothing);
    assert!(at_newest(&house).is_empty());
}

/// Looks for what somebody should know, and says which alerts of upgrades there are.
async fn alerts(house: &House, state: &str) -> Vec<Value> {
    let control = Arc::clone(&house.control);
    tokio::task::spawn_blocking(move || control.watch())
        .await
        .unwrap();
    let path = format!("/admin/v1/alerts?state={state}");
    let rows = house.get(&path).await.ok()["data"].take();
    let rows = rows.as_array().unwrap().iter();
    let halted = rows.filter(|row| row["kind"] == "upgrade-halted");
    halted.cloned().collect()
}

#[tokio::test]
async fn a_halted_upgrade_is_an_alert_until_it_goes_on() {
    let house = house().await;
    assert!(alerts(&house, "open").await.is_empty());
    let request = json!({"internal_tenants": ["acme"], "watch_seconds": 60});
    house.post(UPGRADE, request).await.ok();
    turn(&house).await;
    assert!(alerts(&house, "open").await.is_empty(), "it is going on");
    tell(&house, "halt").await.ok();
    let open = alerts(&house, "open").await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0]["severity"], "critical");
    let summary = open[0]["summary"].as_str().unwrap();
    assert!(summary.contains("ring internal"), "{summary}");
    assert_eq!(alerts(&house, "open").await, open, "it is the same");
    tell(&house, "resume").await.ok();
    house.clock.advance(Duration::from_secs(3_600));
    assert!(alerts(&house, "open").await.is_empty());
    assert_eq!(alerts(&house, "resolved").await.len(), 1);
}
