//! What came out, as tables for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::moving::Moved;
use super::plan::Plan;

const MB: f64 = 1_000_000.0;

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) stages: Vec<Stage>,
    pub(super) plan: Option<Plan>,
    pub(super) moved: Option<Moved>,
}

/// A look, when there were so many tenants.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Stage {
    pub(super) wall: &'static str,
    /// Behind this wall …
    pub(super) tenants: u32,
    /// … and behind all.
    pub(super) tenants_in_all: u32,
    pub(super) onboarding_ms_median: f64,
    pub(super) onboarding_ms_p99: f64,
    /// From a replica's start to its first answer of `/readyz`.
    pub(super) start_ms: f64,
    /// What the replica holds then.
    pub(super) memory_bytes: u64,
    pub(super) catalogue_bytes: u64,
    /// The tables that pooled tenants share.
    pub(super) pool_bytes: u64,
    /// PostgreSQL's own catalogue.
    pub(super) system_bytes: u64,
    /// What a tenant waits for an answer that it kept.
    pub(super) query_ms_median: f64,
    pub(super) query_ms_p99: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| wall | tenants | onboarding, median / p99 ms | start, s | memory, MB | catalogue, MB \
             | pool, MB | PostgreSQL's own, MB | query, median / p99 ms |\n|---|---|---|---|---|---|---|---|---|"
        )?;
        for stage in &self.stages {
            writeln!(
                f,
                "| {} | {} | {:.1} / {:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} / {:.2} |",
                stage.wall,
                stage.tenants,
                stage.onboarding_ms_median,
                stage.onboarding_ms_p99,
                stage.start_ms / 1_000.0,
                stage.memory_bytes as f64 / MB,
                stage.catalogue_bytes as f64 / MB,
                stage.pool_bytes as f64 / MB,
                stage.system_bytes as f64 / MB,
                stage.query_ms_median,
                stage.query_ms_p99,
            )?;
        }
        if let Some(plan) = &self.plan {
            writeln!(
                f,
                "\na tenant: {} bytes of memory, {} of catalogue, {} of the pool, {} µs of starting\n\
                 {} tenants: {} cells of {}; each {:.2} GB of catalogue, {:.0} s to start, {:.1} h to onboard",
                plan.memory_bytes_per_tenant,
                plan.catalogue_bytes_per_tenant,
                plan.pool_bytes_per_tenant,
                plan.start_us_per_tenant,
                plan.tenants,
                plan.cells,
                plan.tenants_per_cell,
                plan.catalogue_bytes_per_cell as f64 / 1e9,
                plan.start_seconds_per_cell,
                plan.onboarding_hours_per_cell,
            )?;
        }
        if let Some(moved) = &self.moved {
            writeln!(
                f,
                "\nmoved {:.0} MB in {} rows and {} changes in {:.1} s, held for {} ms; {} calls and {} looks \
                 meanwhile, {} failed; longest call {:.0} ms, longest look {:.0} ms (before: {:.0} and {:.0})",
                moved.bytes as f64 / MB,
                moved.rows,
                moved.changes,
                moved.seconds,
                moved.held_ms,
                moved.calls,
                moved.looks,
                moved.failed,
                moved.call_ms_max,
                moved.look_ms_max,
                moved.call_ms_max_before,
                moved.look_ms_max_before,
            )?;
        }
        Ok(())
    }
}

/// The number below which this share (in per cent) of the others lies; 0 of none.
pub(super) fn percentile(numbers: &[f64], percent: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1)) as f64 * percent / 100.0;
    sorted.get(at.round() as usize).copied().unwrap_or(0.0)
}
