//! Ten thousand tenants with a hundred thousand keys against the quickstart's two.

use anyhow::Context;
use base::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::arms::{ARM_CORE, Arm};
use super::cost::SMALL;
use super::load::{Target, closed_loop};
use super::process::Tree;
use super::report::Report;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::{Product, Start};

const KEYS_PER_TENANT: u32 = 10;

/// A hundred onboardings give a steady median.
const ONBOARDED: u32 = 100;

/// A hundred tenants and their thousand keys are one request of a second or two.
const TENANTS_PER_APPLY: u32 = 100;

/// Fills a directory, starts over it again, and compares a call's cost with the small one's.
pub(super) fn measure(
    bench: &Bench,
    options: &Options,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (Some(small), Some(binary)) = (bench.partywall(), &bench.binary) else {
        return Ok(());
    };
    let data = bench.folder().join("large");
    let start = Start {
        binary,
        data: &data,
        upstream: bench.upstream,
        core: Some(ARM_CORE),
    };
    let mut filling = start.run()?;
    let before = Tree::of(filling.server.id())?.memory_bytes()?;
    runtime.block_on(fill(&filling, options.tenants))?;
    filling
        .server
        .terminate(std::time::Duration::from_secs(30))?;
    drop(filling);

    let large = start.run()?;
    report.add_number(
        "start with the large directory, s",
        large.ready_time.as_secs_f64(),
        Some(2.0),
    );
    let after = Tree::of(large.server.id())?.memory_bytes()?;
    let per_tenant = after.saturating_sub(before) as f64 / f64::from(options.tenants);
    report.add_number(
        "memory per idle tenant, KB",
        per_tenant / 1000.0,
        Some(4.096),
    );
    runtime.block_on(async {
        let onboarding_ms = onboard(&large).await?;
        report.add_number("onboarding, median ms", median(&onboarding_ms), Some(50.0));
        large.lift_limits("acme").await?;
        compare(small, &large, options, report).await
    })
}

async fn fill(product: &Product, tenants: u32) -> anyhow::Result<()> {
    let tier = quickstart_tier(product).await?;
    let mut next = 0;
    while next < tenants {
        let end = tenants.min(next + TENANTS_PER_APPLY);
        let resources: Vec<Value> = (next..end)
            .flat_map(|tenant| resources_of(tenant, &tier))
            .collect();
        let body = json!({
            "resources": resources, "prune": false, "dry_run": false, "note": "bench",
        });
        product
            .admin("POST", "/admin/v1/apply", Some(&body))
            .await?;
        next = end;
        tell(&format!("bench: {next} tenants"));
    }
    Ok(())
}

fn resources_of(tenant: u32, tier: &str) -> Vec<Value> {
    let name = format!("bench-{tenant:06}");
    let mut resources = vec![json!({"kind": "tenant", "name": name, "spec": {"tier": tier}})];
    resources.extend((0..KEYS_PER_TENANT).map(
        |key| json!({"kind": "key", "tenant": name, "name": format!("key-{key}"), "spec": {}}),
    ));
    resources
}

async fn quickstart_tier(product: &Product) -> anyhow::Result<String> {
    let acme = product.admin("GET", "/admin/v1/tenants/acme", None).await?;
    let tier = acme["spec"]["tier"].as_str().context("acme has a tier")?;
    Ok(tier.to_owned())
}

async fn onboard(product: &Product) -> anyhow::Result<Vec<f64>> {
    let tier = quickstart_tier(product).await?;
    let clock = SystemClock::new();
    let mut times_ms = Vec::new();
    for tenant in 0..ONBOARDED {
        let body = json!({
            "name": format!("onboarded-{tenant:04}"),
            "spec": {"tier": tier},
            "first_key": {"name": "first"},
        });
        let start = clock.elapsed();
        product
            .admin("POST", "/admin/v1/tenants", Some(&body))
            .await?;
        times_ms.push((clock.elapsed() - start).as_secs_f64() * 1000.0);
    }
    Ok(times_ms)
}

async fn compare(
    small: &Arm,
    large: &Product,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let target: Target = SMALL.target_at(large.gateway, large.key_of("acme")?);
    let tree = Tree::of(large.server.id())?;
    let mut ratios = Vec::new();
    for _ in 0..options.rounds() {
        let few = closed_loop(
            &SMALL.target_on(small),
            32,
            options.window(),
            &small.tree()?,
        )
        .await?;
        let many = closed_loop(&target, 32, options.window(), &tree).await?;
        ratios.push(many.ms_per_call() / few.ms_per_call());
    }
    report.add_number(
        &format!("cost per call, {} tenants against two", options.tenants),
        median(&ratios),
        Some(1.1),
    );
    Ok(())
}
