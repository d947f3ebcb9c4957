//! `cargo xtask bench`: what the gateway costs beside nginx and a bare hyper passthrough.
//!
//! What is measured runs on core 0, the engine and the load on core 1. Arms take turns within a
//! round, and a ratio is taken within its round: a machine that is slow for a minute is slow for
//! all of them. The verdict is a median of ratios, never an absolute rate.

mod alarm;
mod arms;
pub(crate) use arms::start_upstream;
mod cost;
mod features;
mod instructions;
mod latency;
mod lines;
mod load;
mod memory;
mod metrics;
pub(crate) mod passthrough;
mod placements;
pub(crate) mod process;
mod report;
mod telemetry;
mod tenants;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::command::{self, Server, disk_folder, run as run_command, target, tell};
use crate::product;
use arms::{Arm, ArmKind};
use report::Report;

/// What to measure, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Three short rounds: to see that it works, not for a verdict.
    #[arg(long)]
    quick: bool,
    /// Fail if a target is missed.
    #[arg(long)]
    check: bool,
    /// The questions to ask; all if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Question>,
    /// What to compare; all if absent.
    #[arg(long, value_delimiter = ',')]
    arms: Vec<ArmKind>,
    /// The gateway to measure; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How many seconds of load to watch the memory for; 600 is what the target is stated for.
    #[arg(long)]
    soak: Option<u64>,
    /// How many tenants the large directory has, with ten keys each.
    #[arg(long, default_value_t = 10_000)]
    tenants: u32,
    /// How many ledger lines the tenant with a year of history has; its targets are stated for
    /// 100,000,000, which take some 15 GB and half an hour.
    #[arg(long, default_value_t = 10_000_000)]
    lines: u64,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Question {
    /// CPU per call.
    Cost,
    /// What a tenant's features add to it.
    Features,
    /// Added latency.
    Latency,
    /// Memory and time to ready.
    Memory,
    /// Ten thousand tenants against two.
    Tenants,
    /// What sending traces, metrics and logs adds to CPU per call.
    Telemetry,
    /// Instructions per call, and what telemetry adds to them; needs valgrind.
    Instructions,
    /// Ten thousand tenants and a million model names thrown at `/metrics`.
    Metrics,
    /// A year of one tenant's ledger lines: how fast they go in, how soon a question is answered.
    Lines,
    /// CPU per call with catalogue and tenant on PostgreSQL, against both in files.
    Placements,
}

impl Options {
    fn asks(&self, question: Question) -> bool {
        self.only.is_empty() || self.only.contains(&question)
    }

    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 9 }
    }

    fn window(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 2_000 })
    }

    fn soak(&self) -> Duration {
        let default = if self.quick { 5 } else { 180 };
        Duration::from_secs(self.soak.unwrap_or(default))
    }
}

/// The running arms and what they stand on.
struct Bench {
    arms: Vec<Arm>,
    upstream: SocketAddr,
    binary: Option<PathBuf>,
    /// Ended with the bench.
    _engine: Server,
    folder: TempDir,
}

/// Runs the bench.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised();
    }
    process::pin_self(arms::LOAD_CORE)?;
    let mut report = Report::new(options.quick);
    if options.only != [Question::Lines] {
        compare(options, &mut report)?;
    }
    if options.asks(Question::Lines) {
        lines::measure(options, &mut report)?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    let missed = report.missed();
    ensure!(
        !options.check || missed == 0,
        "{missed} targets were missed"
    );
    Ok(())
}

/// Asks what is asked of gateways.
fn compare(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let bench = Bench::start(options)?;
    let runtime = product::runtime()?;
    if options.asks(Question::Memory) {
        runtime.block_on(memory::measure_idle(&bench, report))?;
    }
    runtime.block_on(bench.lift_limits())?;
    if options.asks(Question::Cost) {
        runtime.block_on(cost::measure(&bench, options, report))?;
    }
    if options.asks(Question::Features) {
        runtime.block_on(features::measure(&bench, options, report))?;
    }
    if options.asks(Question::Latency) {
        runtime.block_on(latency::measure(&bench, options, report))?;
    }
    if options.asks(Question::Memory) {
        runtime.block_on(memory::measure_loaded(&bench, options, report))?;
        memory::measure_ready(&bench, report)?;
    }
    if options.asks(Question::Tenants) {
        tenants::measure(&bench, options, &runtime, report)?;
    }
    if options.asks(Question::Telemetry) {
        telemetry::measure(&bench, options, &runtime, report)?;
    }
    if options.asks(Question::Instructions) {
        instructions::measure(&bench, options, &runtime, report)?;
    }
    if options.asks(Question::Metrics) {
        metrics::measure(&bench, options, &runtime, report)?;
    }
    if options.asks(Question::Placements) {
        placements::measure(&bench, options, &runtime, report)?;
    }
    Ok(())
}

/// A load generator in a debug build would measure itself: builds everything for release and
/// continues there.
fn run_optimised() -> anyhow::Result<()> {
    run_command(Command::new(env!("CARGO")).args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "xtask",
        "-p",
        "partywall",
    ]))?;
    let mut command = Command::new(target().join("release/xtask"));
    command.args(std::env::args_os().skip(1));
    run_command(&mut command)
}

impl Bench {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let wanted: Vec<ArmKind> = ArmKind::value_variants()
            .iter()
            .copied()
            .filter(|kind| options.arms.is_empty() || options.arms.contains(kind))
            .collect();
        let binary = wanted
            .contains(&ArmKind::Partywall)
            .then(|| match &options.binary {
                Some(binary) => binary.clone(),
                None => command::target().join("release/partywall"),
            });
        let folder = disk_folder()?;
        let (engine, upstream) = arms::start_upstream()?;
        let mut running = Vec::new();
        for kind in wanted {
            if let Some(why) = arms::missing(kind) {
                // Standard output may be for a program.
                tell(&format!("bench: without {}: {why}", kind.name()));
                continue;
            }
            let folder = folder.path().join(kind.name().replace(' ', "-"));
            std::fs::create_dir(&folder).context("making a folder")?;
            running.push(Arm::start(kind, upstream, &folder, binary.as_deref())?);
        }
        ensure!(!running.is_empty(), "there is nothing to compare");
        Ok(Self {
            arms: running,
            upstream,
            binary,
            _engine: engine,
            folder,
        })
    }

    async fn lift_limits(&self) -> anyhow::Result<()> {
        for product in self.arms.iter().filter_map(Arm::product) {
            product.lift_limits("acme").await?;
        }
        Ok(())
    }

    /// The gateway, if it takes part.
    fn partywall(&self) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.kind == ArmKind::Partywall)
    }

    /// The arms in the order of this round: each goes first in its turn.
    fn in_turn(&self, round: usize) -> impl Iterator<Item = &Arm> {
        let start = round % self.arms.len();
        self.arms[start..].iter().chain(&self.arms[..start])
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The middle of some numbers.
fn median(numbers: &[f64]) -> f64 {
    percentile(numbers, 50.0)
}

/// The number below which this share (in per cent) of the others lies.
fn percentile(numbers: &[f64], percent: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length => sorted[((length - 1) as f64 * percent / 100.0).round() as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_numbers() {
        let numbers: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert!((median(&numbers) - 50.0).abs() < 1e-9);
        assert!((percentile(&numbers, 99.0) - 99.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
