//! `cargo xtask sim`: the whole-system simulation, seed by seed.

use std::thread;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use sim::{Mutant, Report};

/// Which seeds to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Replay this seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many replicas share the tenants' budgets, through a database that comes and goes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: u8,
    /// A fault to plant, to see that it is found.
    #[arg(long, default_value = "none")]
    mutant: Planted,
}

/// The command line's names of [`Mutant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Planted {
    None,
    DroppedRelease,
    DroppedScope,
    SkippedFsync,
    EarlyLetters,
    LateLetters,
    EndlessShares,
}

impl From<Planted> for Mutant {
    fn from(planted: Planted) -> Self {
        match planted {
            Planted::None => Self::None,
            Planted::DroppedRelease => Self::DroppedRelease,
            Planted::DroppedScope => Self::DroppedScope,
            Planted::SkippedFsync => Self::SkippedFsync,
            Planted::EarlyLetters => Self::EarlyLetters,
            Planted::LateLetters => Self::LateLetters,
            Planted::EndlessShares => Self::EndlessShares,
        }
    }
}

/// Runs the seeds. Fails at one that breaks an invariant; with a mutant, fails if none does.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (from, count) = match options.seed {
        Some(seed) => (seed, 1),
        None => (options.from, options.seeds),
    };
    ensure!(count > 0, "no seeds were asked for");
    let replicas = usize::from(options.replicas);
    if options.mutant != Planted::None {
        return hunt(from, count, replicas, options.mutant);
    }
    for report in run_shares(from, count, replicas)? {
        println!("{report}");
    }
    println!("{count} passed, 0 failed");
    Ok(())
}

/// Runs a share of the seeds on each core.
fn run_shares(from: u64, count: u64, replicas: usize) -> anyhow::Result<Vec<Report>> {
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = count.div_ceil(cores);
    let starts = (0..count).step_by(share as usize);
    thread::scope(|scope| {
        let shares: Vec<_> = starts
            .map(|start| {
                let seeds = share.min(count - start);
                scope.spawn(move || sim::run_many(from + start, seeds, replicas))
            })
            .collect();
        shares
            .into_iter()
            .map(|share| share.join().expect("a seed that panics has said why"))
            .map(|report| report.map_err(anyhow::Error::new))
            .collect()
    })
}

/// Plants a fault and looks for the first seed that finds it.
fn hunt(from: u64, count: u64, replicas: usize, planted: Planted) -> anyhow::Result<()> {
    for seed in from..from.saturating_add(count) {
        if let Err(failure) = sim::run(seed, replicas, planted.into()) {
            println!("{planted:?} is caught by seed {seed}: {}", failure.what);
            return Ok(());
        }
    }
    bail!("{planted:?} lived through {count} seeds")
}
