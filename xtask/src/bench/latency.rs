//! Added latency at 200 calls a second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::arms::ArmKind;
use super::cost::{SMALL, SMALL_SLOW, STREAM_SLOW, Workload};
use super::load::{Waits, open_loop};
use super::report::{Latency, Report};
use super::{Bench, Options, median, percentile};
use crate::command::tell;

/// 200 calls a second: what the targets are stated for.
const RATE: f64 = 200.0;

/// What must be reached, in milliseconds over direct; none where it is only reported.
struct Targets {
    median_ms_max: Option<f64>,
    p99_ms_max: Option<f64>,
    first_byte_ms_max: Option<f64>,
}

/// Measures direct calls and every arm in turns, each round with its own arrivals.
pub(super) async fn measure(
    bench: &Bench,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let only_report = Targets {
        median_ms_max: None,
        p99_ms_max: None,
        first_byte_ms_max: None,
    };
    let slow = Targets {
        median_ms_max: Some(0.3),
        p99_ms_max: Some(2.0),
        first_byte_ms_max: None,
    };
    let stream = Targets {
        first_byte_ms_max: Some(0.3),
        ..only_report
    };
    measure_one(bench, options, report, &SMALL_SLOW, &slow).await?;
    measure_one(bench, options, report, &STREAM_SLOW, &stream).await?;
    // One group commit more than the engine's time: how long that is, the disk decides.
    measure_one(bench, options, report, &SMALL, &only_report).await
}

async fn measure_one(
    bench: &Bench,
    options: &Options,
    report: &mut Report,
    workload: &Workload,
    targets: &Targets,
) -> anyhow::Result<()> {
    tell(&format!("bench: latency of {}", workload.name));
    let length: Duration = 2 * options.window();
    let mut direct = Waits::default();
    let mut waits: BTreeMap<ArmKind, Waits> = BTreeMap::new();
    for round in 0..options.rounds() {
        let seed = round as u64;
        let engine = workload.target_at(bench.upstream, "unused");
        direct.extend(open_loop(&engine, RATE, length, seed).await?);
        for arm in bench.in_turn(round) {
            let window = open_loop(&workload.target_on(arm), RATE, length, seed).await?;
            waits.entry(arm.kind).or_default().extend(window);
        }
    }
    report.add_latency(summary(workload, None, &direct, &direct, targets));
    for (kind, waits) in &waits {
        report.add_latency(summary(workload, Some(*kind), waits, &direct, targets));
    }
    Ok(())
}

fn summary(
    workload: &Workload,
    arm: Option<ArmKind>,
    waits: &Waits,
    direct: &Waits,
    targets: &Targets,
) -> Latency {
    let ms = |waits: &[Duration]| -> Vec<f64> {
        waits
            .iter()
            .map(|wait| wait.as_secs_f64() * 1000.0)
            .collect()
    };
    let (total, direct_total) = (ms(&waits.total), ms(&direct.total));
    let (first_byte, direct_first_byte) = (ms(&waits.first_byte), ms(&direct.first_byte));
    let is_ours = arm == Some(ArmKind::Partywall);
    let target = |value: Option<f64>| value.filter(|_| is_ours);
    Latency {
        workload: workload.name,
        arm,
        calls: total.len(),
        median_ms: median(&total),
        p99_ms: percentile(&total, 99.0),
        added_median_ms: median(&total) - median(&direct_total),
        added_p99_ms: percentile(&total, 99.0) - percentile(&direct_total, 99.0),
        added_first_byte_ms: median(&first_byte) - median(&direct_first_byte),
        added_median_ms_max: target(targets.median_ms_max),
        added_p99_ms_max: target(targets.p99_ms_max),
        added_first_byte_ms_max: target(targets.first_byte_ms_max),
    }
}
