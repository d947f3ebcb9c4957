//! `cargo xtask scale`: what a tenant costs, as there are more and more of them, on a real PostgreSQL.
//!
//! Tenants are onboarded one by one into a pool, then into schemas, then into databases of one server.
//! At each tenth, and at the end, the same questions are asked: how long one of the last onboardings
//! took, what a fresh replica holds in memory and how long it takes to start, how large the catalogue
//! is, and how long a tenant waits for an answer that it kept. What a tenant costs follows from the
//! first and the last of them, and from that how many cells a million tenants need.
//!
//! `--move-mb` fills one tenant and moves it to a database of its own while it is called.

mod installation;
mod moving;
mod plan;
mod report;

use std::path::{Path, PathBuf};

use anyhow::Context;
use base::SystemClock;

use self::installation::{Installation, Tenant, keep};
use self::report::{Report, Stage};
use crate::command::{disk_folder, tell};
use crate::overspend::start_engine;
use crate::product::{self, runtime};
use crate::wire::{Connection, request};

/// 50 tenants are asked, evenly chosen from all: their connections are kept, and no cache has seen all.
const ASKED_TENANTS: usize = 50;
/// 20 questions to each: of 1,000, ten are slower than the 99th percentile.
const QUESTIONS_EACH: usize = 20;
/// The median of up to 100 onboardings, the last ones before a look.
const ONBOARDINGS_JUDGED: usize = 100;

/// How many tenants.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Tenants in shared tables.
    #[arg(long, default_value_t = 10_000)]
    pool: u32,
    /// Tenants with a schema each.
    #[arg(long, default_value_t = 500)]
    bridge: u32,
    /// Tenants with a database each.
    #[arg(long, default_value_t = 20)]
    silo: u32,
    /// Fill a tenant of the pool with so many megabytes, and move it to a silo while it is called.
    #[arg(long, default_value_t = 0)]
    move_mb: u64,
    /// How many connections the replica may have to PostgreSQL, which has 400.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// The binary to measure; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures, and prints what came out.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => product::build()?,
    };
    let folder = disk_folder()?;
    let report = measure(options, &binary, folder.path())?;
    match options.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(())
}

fn measure(options: &Options, binary: &Path, folder: &Path) -> anyhow::Result<Report> {
    let (_engine, upstream) = start_engine(binary)?;
    let mut installation = Installation::start(binary, folder, upstream, options.connections)?;
    let runtime = runtime()?;
    runtime.block_on(installation.product.lift_limits("acme"))?;
    let mut report = Report::default();
    for (wall, count) in [
        ("pool", options.pool),
        ("bridge", options.bridge),
        ("silo", options.silo),
    ] {
        let mut tenants = Vec::new();
        for target in looks(count) {
            let stage = stage(&mut installation, &runtime, (wall, target), &mut tenants)
                .with_context(|| format!("{target} tenants in {wall}"))?;
            report.stages.push(stage);
        }
    }
    report.plan = plan::plan(&report.stages);
    if options.move_mb > 0 {
        let bytes = options.move_mb * 1_000_000;
        report.moved = Some(runtime.block_on(moving::measure(&installation, bytes))?);
    }
    Ok(report)
}

/// How many tenants there are at each look: the tenths of tenths, and all.
fn looks(count: u32) -> Vec<u32> {
    let mut looks: Vec<u32> = [1_000, 100, 10, 1]
        .map(|part| count / part)
        .into_iter()
        .filter(|count| *count >= 10)
        .collect();
    if looks.is_empty() && count > 0 {
        looks.push(count);
    }
    looks
}

/// Onboards up to so many, and asks.
fn stage(
    installation: &mut Installation,
    runtime: &tokio::runtime::Runtime,
    (wall, target): (&'static str, u32),
    tenants: &mut Vec<Tenant>,
) -> anyhow::Result<Stage> {
    let mut onboarding_ms = Vec::new();
    runtime.block_on(async {
        while tenants.len() < target as usize {
            let name = format!("{wall}-{:06}", tenants.len());
            let (tenant, ms) = installation.onboard(&name, wall).await?;
            tenants.push(tenant);
            onboarding_ms.push(ms);
        }
        anyhow::Ok(())
    })?;
    tell(&format!("scale: {target} tenants in {wall}"));
    let judged = onboarding_ms.len().saturating_sub(ONBOARDINGS_JUDGED);
    installation.restart()?;
    let memory_bytes = installation.memory_bytes()?;
    let sizes = installation.sizes()?;
    let stride = tenants.len().div_ceil(ASKED_TENANTS).max(1);
    let asked: Vec<&Tenant> = tenants.iter().step_by(stride).collect();
    let query_ms = runtime.block_on(query(installation, &asked))?;
    Ok(Stage {
        wall,
        tenants: target,
        tenants_in_all: installation.tenants,
        onboarding_ms_median: report::percentile(&onboarding_ms[judged..], 50.0),
        onboarding_ms_p99: report::percentile(&onboarding_ms[judged..], 99.0),
        start_ms: installation.product.ready_time.as_secs_f64() * 1_000.0,
        memory_bytes,
        catalogue_bytes: sizes.catalogue,
        pool_bytes: sizes.pool,
        system_bytes: sizes.system,
        query_ms_median: report::percentile(&query_ms, 50.0),
        query_ms_p99: report::percentile(&query_ms, 99.0),
    })
}

/// What a tenant waits for an answer that it kept: each tenant has one, and they ask in turn.
async fn query(installation: &Installation, tenants: &[&Tenant]) -> anyhow::Result<Vec<f64>> {
    let gateway = installation.product.gateway;
    let clock = SystemClock::new();
    let mut connection = Connection::open(gateway).await?;
    let mut questions = Vec::new();
    for tenant in tenants {
        let id = keep(gateway, &mut connection, &tenant.key, "hello").await?;
        let path = format!("/v1/responses/{id}");
        questions.push(request("GET", gateway, &path, &tenant.key, None));
    }
    let mut waits_ms = Vec::new();
    for _ in 0..QUESTIONS_EACH {
        for question in &questions {
            let answer = connection.call(&clock, question).await?;
            anyhow::ensure!(answer.status == 200, "{}", answer.status);
            waits_ms.push(answer.total.as_secs_f64() * 1_000.0);
        }
    }
    Ok(waits_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_grow_tenfold_and_end_with_all() {
        assert_eq!(looks(10_000), [10, 100, 1_000, 10_000]);
        assert_eq!(looks(500), [50, 500]);
        assert_eq!(looks(20), [20]);
        assert_eq!(looks(3), [3]);
        assert!(looks(0).is_empty());
    }
}
