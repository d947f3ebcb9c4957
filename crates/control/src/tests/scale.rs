//! Ten thousand tenants: measured on request, since a machine's speed is no property of ours.

use std::time::Duration;

use base::{Clock, SystemClock};
use serde_json::{Value, json};

use super::House;
use crate::load;

/// `cargo test -p control --release -- --ignored --nocapture scale`.
#[tokio::test]
#[ignore = "a measurement: it takes a minute, and judges nothing"]
async fn scale_of_ten_thousand_tenants_with_a_hundred_thousand_keys() {
    let house = House::new().await;
    let clock = SystemClock::new();
    for batch in 0..10 {
        let resources: Vec<Value> = (0..1_000)
            .flat_map(|n| {
                let name = format!("tenant-{}", batch * 1_000 + n);
                let keys = (0..10).map({
                    let name = name.clone();
                    move |key| json!({"kind": "key", "tenant": name, "name": format!("k{key}"), "spec": {}})
                });
                let tenant = json!({"kind": "tenant", "name": name, "spec": {"tier": "free"}});
                std::iter::once(tenant).chain(keys).collect::<Vec<_>>()
            })
            .collect();
        let started = clock.elapsed();
        let reply = house
            .post("/admin/v1/apply", json!({"resources": resources}))
            .await
            .ok();
        assert_eq!(reply["created_keys"].as_array().unwrap().len(), 10_000);
        println!(
            "apply of 1,000 tenants with 10 keys each: {:?}",
            clock.elapsed() - started
        );
    }
    let mut onboarding: Vec<Duration> = Vec::new();
    for n in 0..50 {
        let started = clock.elapsed();
        house.onboard(&format!("late-{n}")).await;
        onboarding.push(clock.elapsed() - started);
    }
    onboarding.sort_unstable();
    println!(
        "onboarding at 10,000 tenants: median {:?}, most {:?}",
        onboarding[25], onboarding[49]
    );
    let started = clock.elapsed();
    let loaded = load(
        &house.control.publisher.catalogue,
        house.root_key().as_ref(),
    )
    .unwrap();
    println!(
        "loading {} tenants: {:?}",
        loaded.snapshot.tenant_count(),
        clock.elapsed() - started
    );
}
