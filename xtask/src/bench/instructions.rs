//! Instructions per call, as callgrind counts them in the gateway's process, without the kernel's: a
//! figure that is the same on a busy machine. What telemetry adds to it is the question.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use base::SystemClock;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::arms::ARM_CORE;
use super::cost::SMALL;
use super::load::{Target, ensure_answered};
use super::report::Report;
use super::telemetry::{RATIO_MAX, all_telemetry};
use super::{Bench, Options, Question};
use crate::command::{is_installed, run_and_read, tell};
use crate::product::{Product, Start};
use crate::wire::Connection;

/// As the bench's other loads.
const CONNECTIONS: usize = 32;
/// Pools are filled, and everything has happened once.
const WARM_UP_CALLS: usize = 10;
/// 100 on each connection: 3,200 calls, some ten seconds under callgrind.
const COUNTED_CALLS: usize = 100;

/// Counts with nothing sent, and with everything.
pub(super) fn measure(
    bench: &Bench,
    options: &Options,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(binary) = &bench.binary else {
        return Ok(());
    };
    if !is_installed("valgrind") {
        ensure!(
            !options.only.contains(&Question::Instructions),
            "counting instructions needs valgrind: install the Debian package `valgrind`"
        );
        tell("bench: no instructions are counted: valgrind is not installed");
        return Ok(());
    }
    let counted = |name: &str, config: Option<String>| {
        tell(&format!("bench: instructions with {name}"));
        let data = bench.folder().join(format!("counted-{name}"));
        std::fs::create_dir(&data).context("making a folder")?;
        if let Some(config) = config {
            std::fs::write(data.join("partywall.toml"), config).context("writing a file")?;
        }
        let start = Start {
            binary,
            data: &data,
            upstream: bench.upstream,
            core: Some(ARM_CORE),
        };
        let counts = bench.folder().join(format!("{name}.callgrind"));
        let gateway = start.run_counted(&counts)?;
        runtime.block_on(count(&gateway, &counts))
    };
    let without = counted("no-telemetry", None)?;
    let with = counted("telemetry", Some(all_telemetry(bench)))?;
    report.add_number("instructions of a 1 KB call", without, None);
    let what = "the same with traces, metrics and logs sent, against none";
    report.add_number(what, with / without, Some(RATIO_MAX));
    Ok(())
}

/// Instructions per call of one gateway.
async fn count(gateway: &Product, counts: &Path) -> anyhow::Result<f64> {
    gateway.lift_limits("acme").await?;
    let target = SMALL.target_at(gateway.gateway, gateway.key_of("acme")?);
    call(&target, WARM_UP_CALLS).await?;
    let process = gateway.server.id().to_string();
    control(&["-i", "on", &process])?;
    call(&target, COUNTED_CALLS).await?;
    control(&["-i", "off", &process])?;
    control(&["-d", &process])?;
    // The first dump that was asked for.
    let dump = counts.with_extension("callgrind.1");
    let dump = std::fs::read_to_string(&dump)
        .with_context(|| format!("reading callgrind's {}", dump.display()))?;
    let total: u64 = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse().ok())
        .context("callgrind's file says no sum")?;
    ensure!(total > 0, "callgrind counted nothing");
    Ok(total as f64 / (CONNECTIONS * COUNTED_CALLS) as f64)
}

fn control(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("callgrind_control");
    let status = run_and_read(command.args(arguments), |_| {})?;
    ensure!(status.success(), "callgrind_control {arguments:?} failed");
    Ok(())
}

/// So many calls on each connection.
async fn call(target: &Target, times: usize) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let target = target.clone();
        clients.spawn(async move {
            let clock = SystemClock::new();
            let mut connection = Connection::open(target.address).await?;
            for _ in 0..times {
                ensure_answered(&connection.call(&clock, &target.request).await?)?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client.context("a client panicked")??;
    }
    Ok(())
}
