//! Memory, and the time to ready.

use std::time::Duration;

use super::arms::{ARM_CORE, Arm, ArmKind};
use super::cost::SMALL;
use super::load::{Target, closed_loop};
use super::report::{Memory, Report};
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::Start;

/// What the targets are stated for.
const MANY_CONNECTIONS: usize = 512;

/// As many as a call's cost is measured with.
const STEADY_CONNECTIONS: usize = 32;

/// Two turns of what is done every half minute: lines are posted, idle stores closed.
const LASTING: Duration = Duration::from_secs(70);

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
        let lasting = match arm.kind {
            ArmKind::Partywall if !options.quick => LASTING,
            _ => options.window(),
        };
        let peak = peak_mb(arm, &target, MANY_CONNECTIONS, lasting).await?;
        report.add_memory(Memory {
            arm: arm.kind,
            when: format!(
                "the most in {} s at {MANY_CONNECTIONS} connections",
                lasting.as_secs()
            ),
            megabytes: peak,
            megabytes_max: our_target(arm, 64.0),
        });
    }
    let Some(arm) = bench.partywall() else {
        return Ok(());
    };
    tell("bench: growth under steady load");
    let target = SMALL.target_on(arm);
    // The first fifth is warm-up: caches fill up to their bounds. Flat means that the later half of
    // the rest has no more at any time, within a twentieth, than the earlier half had.
    let fifth = options.soak() / 5;
    peak_mb(arm, &target, STEADY_CONNECTIONS, fifth).await?;
    let earlier = peak_mb(arm, &target, STEADY_CONNECTIONS, fifth * 2).await?;
    let later = peak_mb(arm, &target, STEADY_CONNECTIONS, fifth * 2).await?;
    report.add_memory(Memory {
        arm: arm.kind,
        when: format!(
            "growth from a peak of {earlier:.1} MB in {} s of load",
            options.soak().as_secs()
        ),
        megabytes: later - earlier,
        megabytes_max: our_target(arm, earlier / 20.0),
    });
    Ok(())
}

/// The most memory that `arm` has at any time of `load`.
async fn peak_mb(
    arm: &Arm,
    target: &Target,
    connections: usize,
    load: Duration,
) -> anyhow::Result<f64> {
    let tree = arm.tree()?;
    tree.forget_peak()?;
    closed_loop(target, connections, load, &tree).await?;
    Ok(tree.peak_bytes()? as f64 / MB)
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
