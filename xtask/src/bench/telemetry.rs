//! What all telemetry adds to the cost of a call: traces with exemplars, metrics and a record of each
//! call, sent to a collector on this machine, beside the same gateway that sends nothing.

use anyhow::{Context, ensure};
use base::SystemClock;
use tokio::runtime::Runtime;

use super::arms::ARM_CORE;
use super::cost::SMALL;
use super::load::closed_loop;
use super::process::Tree;
use super::report::Report;
use super::upstream::SIGNALS;
use super::{Bench, Options, median};
use crate::command::tell;
use crate::product::Start;
use crate::wire::{Connection, request};

const CONNECTIONS: usize = 32;
/// 15%: what watching may cost.
pub(super) const RATIO_MAX: f64 = 1.15;

/// A configuration that sends all there is. The engine is the collector, too: both are on the load's core.
pub(super) fn all_telemetry(bench: &Bench) -> String {
    format!(
        "[telemetry]\notlp_endpoint = \"http://{}\"\ncall_records = \"sent\"\ninterval_seconds = 1\n",
        bench.upstream
    )
}

/// Measures in windows that take turns.
pub(super) fn measure(
    bench: &Bench,
    options: &Options,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (Some(silent), Some(binary)) = (bench.partywall(), &bench.binary) else {
        return Ok(());
    };
    tell("bench: cost with all telemetry");
    let data = bench.folder().join("watched");
    std::fs::create_dir(&data).context("making a folder")?;
    std::fs::write(data.join("partywall.toml"), all_telemetry(bench))
        .context("writing the configuration")?;
    let watched = Start {
        binary,
        data: &data,
        upstream: bench.upstream,
        core: Some(ARM_CORE),
    }
    .run()?;
    runtime.block_on(async {
        watched.lift_limits("acme").await?;
        let target = SMALL.target_at(watched.gateway, watched.key_of("acme")?);
        let tree = Tree::of(watched.server.id())?;
        let mut ratios = Vec::new();
        for _ in 0..options.rounds() {
            let plain = SMALL.target_on(silent);
            let without =
                closed_loop(&plain, CONNECTIONS, options.window(), &silent.tree()?).await?;
            let with = closed_loop(&target, CONNECTIONS, options.window(), &tree).await?;
            ratios.push(with.ms_per_call() / without.ms_per_call());
        }
        let signals = signals(bench).await?;
        ensure!(
            signals.iter().all(|count| *count > 0),
            "the collector had {signals:?} requests with traces, metrics and logs"
        );
        let what = "cost of a 1 KB call with traces, metrics and logs sent, against none";
        report.add_number(what, median(&ratios), Some(RATIO_MAX));
        Ok(())
    })
}

/// How many requests with traces, metrics and logs the collector had.
async fn signals(bench: &Bench) -> anyhow::Result<Vec<u64>> {
    let mut connection = Connection::open(bench.upstream).await?;
    let question = request("GET", bench.upstream, SIGNALS, "unused", None);
    let answer = connection.call(&SystemClock::new(), &question).await?;
    Ok(serde_json::from_value(answer.json()?)?)
}
