//! What a million tenants need, by what one was seen to cost.

use serde::Serialize;

use super::report::Stage;

/// What is planned for.
const PLANNED_TENANTS: u64 = 1_000_000;
/// 4 GB: a replica of a quarter of a common machine of 16 GB.
const REPLICA_BYTES_MAX: u64 = 4_000_000_000;
/// Two thirds of it for tenants: the rest is for calls under way, caches and connections.
const TENANTS_PERCENT: u64 = 66;

/// Cells: installations of their own, each with its catalogue and its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) tenants: u64,
    /// What another tenant costs …
    pub(super) memory_bytes_per_tenant: u64,
    pub(super) catalogue_bytes_per_tenant: u64,
    pub(super) pool_bytes_per_tenant: u64,
    pub(super) start_us_per_tenant: u64,
    /// … and what there is without any.
    pub(super) memory_bytes_base: u64,
    /// How many tenants a replica has room for.
    pub(super) tenants_per_cell: u64,
    pub(super) cells: u64,
    /// Of each cell.
    pub(super) catalogue_bytes_per_cell: u64,
    pub(super) start_seconds_per_cell: f64,
    /// One after another, in one cell; cells do not wait for each other.
    pub(super) onboarding_hours_per_cell: f64,
}

/// By the first and the last look at the pool; none if there are not two.
pub(super) fn plan(stages: &[Stage]) -> Option<Plan> {
    let pool: Vec<&Stage> = stages.iter().filter(|stage| stage.wall == "pool").collect();
    let (first, last) = (pool.first()?, pool.last()?);
    let more = u64::from(last.tenants.checked_sub(first.tenants)?);
    if more == 0 {
        return None;
    }
    let slope = |of: fn(&Stage) -> u64| of(last).saturating_sub(of(first)).div_ceil(more);
    let memory = slope(|stage| stage.memory_bytes).max(1);
    let base = first
        .memory_bytes
        .saturating_sub(memory * u64::from(first.tenants));
    let room = (REPLICA_BYTES_MAX / 100 * TENANTS_PERCENT).saturating_sub(base);
    let cells = PLANNED_TENANTS.div_ceil((room / memory).max(1));
    let per_cell = PLANNED_TENANTS.div_ceil(cells);
    let catalogue = slope(|stage| stage.catalogue_bytes);
    let start_us = slope(|stage| (stage.start_ms * 1_000.0) as u64);
    Some(Plan {
        tenants: PLANNED_TENANTS,
        memory_bytes_per_tenant: memory,
        catalogue_bytes_per_tenant: catalogue,
        pool_bytes_per_tenant: slope(|stage| stage.pool_bytes),
        start_us_per_tenant: start_us,
        memory_bytes_base: base,
        tenants_per_cell: per_cell,
        cells,
        catalogue_bytes_per_cell: catalogue * per_cell,
        start_seconds_per_cell: (start_us * per_cell) as f64 / 1e6,
        onboarding_hours_per_cell: last.onboarding_ms_median * per_cell as f64 / 3.6e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(tenants: u32, memory_bytes: u64) -> Stage {
        Stage {
            wall: "pool",
            tenants,
            tenants_in_all: tenants,
            onboarding_ms_median: 36.0,
            onboarding_ms_p99: 50.0,
            start_ms: f64::from(tenants) / 10.0,
            memory_bytes,
            catalogue_bytes: u64::from(tenants) * 3_000,
            pool_bytes: 0,
            system_bytes: 0,
            query_ms_median: 1.0,
            query_ms_p99: 2.0,
        }
    }

    #[test]
    fn a_million_is_what_one_costs_by_cells_that_fit() {
        let stages = [stage(10, 40_100_000), stage(1_010, 50_100_000)];
        let plan = plan(&stages).expect("two looks");
        // 10,000 bytes each over 40 MB: 2,600 MB of room are 260,000 tenants.
        assert_eq!(plan.memory_bytes_per_tenant, 10_000);
        assert_eq!(plan.memory_bytes_base, 40_000_000);
        assert_eq!((plan.cells, plan.tenants_per_cell), (4, 250_000));
        assert_eq!(plan.catalogue_bytes_per_cell, 750_000_000);
        assert!((plan.start_seconds_per_cell - 25.0).abs() < 1e-9);
        assert!((plan.onboarding_hours_per_cell - 2.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_planned_by_one_look() {
        assert!(plan(&[stage(10, 40_000_000)]).is_none());
        assert!(plan(&[]).is_none());
    }
}
