//! Memory, and the time to ready.

use std::time::Duration;

use base::{Clock, SystemClock};

use super::arms::{ARM_CORE, Arm, ArmKind};
use super::cost::SMALL;
use super::load::closed_loop;
use super::report::{Memory, Report};
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::Start;

/// What the targets are stated for.
const MANY_CONNECTIONS: usize = 512;

/// One second after its start nothing of starting is under way.
const SETTLING: Duration = Duration::from_secs(1);

const MB: f64 = 1_000_000.0;

/// Before any load.
pub(super) async fn measure_idle(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLING).await;
    for arm in &bench.arms {
        report.add_memory(Memory {
            arm: arm.kind,
            when: "idle, before any call".to_owned(),
            megabytes: memory_mb(arm)?,
            megabytes_max: our_target(arm, 40.0),
        });
    }
    Ok(())
}

/// Under load: many connections, then a while of steady load.
pub(super) async fn measure_loaded(
    bench: &Bench,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for arm in &bench.arms {
        tell(&format!("bench: memory of {}", arm.kind.name()));
        let target = SMALL.target_on(arm);
        closed_loop(&target, MANY_CONNECTIONS, options.window(), &arm.tree()?).await?;
        report.add_memory(Memory {
            arm: arm.kind,
            when: format!("after a window at {MANY_CONNECTIONS} connections"),
            megabytes: memory_mb(arm)?,
            megabytes_max: our_target(arm, 64.0),
        });
    }
    let Some(arm) = bench.partywall() else {
        return Ok(());
    };
    tell("bench: growth under steady load");
    let target = SMALL.target_on(arm);
    let clock = SystemClock::new();
    let mut samples = Vec::new();
    while clock.elapsed() < options.soak() {
        closed_loop(&target, 32, options.window(), &arm.tree()?).await?;
        samples.push(memory_mb(arm)?);
    }
    // The first fifth is warm-up: caches fill up to their bounds. Flat means that the rest stays
    // within a twentieth.
    let warm = samples[samples.len() / 5];
    report.add_memory(Memory {
        arm: arm.kind,
        when: format!(
            "growth from {warm:.1} MB in {} s of load",
            options.soak().as_secs()
        ),
        megabytes: samples.last().copied().unwrap_or(warm) - warm,
        megabytes_max: our_target(arm, warm / 20.0),
    });
    Ok(())
}

/// From the start of the process to its first answer of `/readyz`, over the same data folder.
pub(super) fn measure_ready(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let Some(binary) = &bench.binary else {
        return Ok(());
    };
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let product = Start {
            binary,
            data: &bench.folder().join("ready"),
            upstream: bench.upstream,
            core: Some(ARM_CORE),
        }
        .run()?;
        seconds.push(product.ready_time.as_secs_f64());
    }
    // The first start makes the folder and its keys; it counts like the others.
    report.add_number("time to ready, s", median(&seconds), Some(0.3));
    Ok(())
}

fn memory_mb(arm: &Arm) -> anyhow::Result<f64> {
    Ok(arm.tree()?.memory_bytes()? as f64 / MB)
}

fn our_target(arm: &Arm, megabytes_max: f64) -> Option<f64> {
    (arm.kind == ArmKind::Partywall).then_some(megabytes_max)
}
