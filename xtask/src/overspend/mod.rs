//! `cargo xtask overspend`: ten times the calls that a budget fits, at once, against the real
//! binary (invariants 5 and 6).
//!
//! In each of three arms every client says that it may have six times the output that it gets:
//!
//! - whole answers;
//! - streams, of which the engine cuts a third and the clients another third;
//! - a mixture with failures and delays of the engine, and clients that give up.
//!
//! Spent and held together never pass the limit, nothing is held in the end, each answered call
//! is in the ledger, and the ledger adds up. Where every call is answered in full, almost all of
//! the budget is used: a call that would fit but for live holds waits for them to settle.

pub(crate) mod budget;
pub(crate) mod clients;
pub(crate) mod descriptors;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use base::{Clock, PicoUsd, SystemClock};
use serde::{Deserialize, Serialize};

use self::budget::{Budget, Watched};
use self::clients::{Faults, Plan, Seen};
use crate::command::{Server, disk_folder};
use crate::product::{self, Product, Start, runtime};

/// A budget fits a tenth of the calls.
pub(crate) const CALLS_PER_FITTING: u64 = 10;

/// What the statement asks to be used of a budget, in per cent.
pub(crate) const USED_PERCENT_MIN: u32 = 97;

/// 250 calls of each arm, evenly chosen, are looked up one by one; all of them are counted.
const LOOKED_UP_MAX: usize = 250;

/// How many calls.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Calls at once in each arm; the budget fits a tenth of them. With fewer than 2,500 the
    /// last call that no longer fits is more than 3% of the budget.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2_500..=16_000))]
    calls: u64,
    /// The binary to test; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

/// A kind of load.
struct Arm {
    name: &'static str,
    /// What the client of this number does.
    plan: fn(u64) -> Plan,
    /// What of the budget must be used, in per cent.
    used_percent_min: u32,
}

const ARMS: [Arm; 3] = [
    Arm {
        name: "whole",
        plan: |_| Plan::Whole,
        used_percent_min: USED_PERCENT_MIN,
    },
    Arm {
        name: "streams",
        plan: |number| match number % 3 {
            0 => Plan::Stream,
            1 => Plan::CutByEngine,
            _ => Plan::CutByClient,
        },
        used_percent_min: 0,
    },
    Arm {
        name: "failures",
        plan: |number| match number % 8 {
            0..=2 => Plan::Whole,
            3 | 4 => Plan::EngineFails,
            5 | 6 => Plan::Late,
            // Between half a second and two: some go from the line, some from a call under way.
            _ => Plan::EngineHangs {
                patience_ms: 500 + number % 1_500,
            },
        },
        used_percent_min: 0,
    },
];

/// What came out of an arm.
#[derive(Debug, Serialize)]
struct Outcome {
    arm: &'static str,
    calls: u64,
    answered: u64,
    /// Refused calls, by the error's code.
    refused: BTreeMap<String, u64>,
    engine_failed: u64,
    client_left: u64,
    /// Calls that the ledger has.
    recorded: u64,
    limit: PicoUsd,
    spent: PicoUsd,
    /// The most that was seen spent and held together.
    spent_and_held_max: PicoUsd,
    looks: u64,
    seconds: f64,
}

/// Runs the arms and prints what came out of each.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    descriptors::ensure_room(options.calls)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => product::build()?,
    };
    let folder = disk_folder()?;
    match run_arms(options, &binary, folder.path()) {
        Ok(outcomes) => print(&outcomes, options),
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!("the data folder is kept in {}", kept.display())))
        }
    }
}

fn run_arms(options: &Options, binary: &Path, folder: &Path) -> anyhow::Result<Vec<Outcome>> {
    let (_engine, upstream) = start_engine(binary)?;
    let start = Start {
        binary,
        data: &folder.join("data"),
        upstream,
        core: None,
    };
    let mut product = start.run()?;
    let runtime = runtime()?;
    let price = runtime.block_on(async {
        budget::prepare(&product).await?;
        price_of_one(&product).await
    })?;
    let limit = price.times(options.calls / CALLS_PER_FITTING);
    let mut outcomes = Vec::new();
    for arm in &ARMS {
        let outcome = runtime
            .block_on(arm.run(&product, options.calls, limit))
            .with_context(|| format!("arm `{}`", arm.name))?;
        product.server.ensure_running()?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Starts the built-in engine as a process: 50 ms a call, 1 ms a token.
pub(crate) fn start_engine(binary: &Path) -> anyhow::Result<(Server, std::net::SocketAddr)> {
    #[derive(Deserialize)]
    struct Greeting {
        base_url: String,
    }
    let mut command = Command::new(binary);
    command
        .args(["simulate", "--json", "--listen", "127.0.0.1:0"])
        .args(["--base-micros", "50000", "--token-micros", "1000"])
        .args(["--batch-slots", "16384"])
        .stdout(Stdio::piped());
    let mut server = Server::start("the simulator", &mut command)?;
    let output = server.output().context("its output is piped")?;
    let greeting: Greeting = product::read_object(BufReader::new(output))?;
    let address = product::address(&greeting.base_url)?;
    Ok((server, address))
}

/// What a call that is answered in full costs.
pub(crate) async fn price_of_one(product: &Product) -> anyhow::Result<PicoUsd> {
    let budget = Budget::declare(product, "probe", PicoUsd::dollars(1)).await?;
    clients::call_all(
        &[product.gateway],
        &budget.key,
        vec![Plan::Whole],
        Faults::None,
    )
    .await?;
    let price = budget.settled().await?;
    ensure!(price > PicoUsd::ZERO, "a call cost nothing");
    Ok(price)
}

impl Arm {
    async fn run(&self, product: &Product, calls: u64, limit: PicoUsd) -> anyhow::Result<Outcome> {
        let budget = Budget::declare(product, self.name, limit).await?;
        let plans = (0..calls).map(self.plan).collect();
        let clock = SystemClock::new();
        let gateways = [product.gateway];
        let calling = clients::call_all(&gateways, &budget.key, plans, Faults::None);
        let (seen, watched) = budget.watch(calling).await?;
        let seconds = clock.elapsed().as_secs_f64();
        let spent = budget.settled().await?;
        let recorded = budget.recorded_calls().await?;
        let outcome = self.outcome(&seen, limit, spent, recorded, &watched, seconds);
        budget.ensure_recorded(&some_answered(&seen)).await?;
        outcome.check(self.used_percent_min)?;
        budget::verify_ledger(product).await?;
        Ok(outcome)
    }

    fn outcome(
        &self,
        seen: &[(Plan, Seen)],
        limit: PicoUsd,
        spent: PicoUsd,
        recorded: u64,
        watched: &Watched,
        seconds: f64,
    ) -> Outcome {
        let mut outcome = Outcome {
            arm: self.name,
            calls: seen.len() as u64,
            answered: 0,
            refused: BTreeMap::new(),
            engine_failed: 0,
            client_left: 0,
            recorded,
            limit,
            spent,
            spent_and_held_max: watched.most,
            looks: watched.looks,
            seconds,
        };
        for (_, seen) in seen {
            match seen {
                Seen::Answered { .. } => outcome.answered += 1,
                Seen::Refused { code } => *outcome.refused.entry(code.clone()).or_default() += 1,
                Seen::EngineFailed => outcome.engine_failed += 1,
                Seen::Left => outcome.client_left += 1,
                Seen::Unreachable => unreachable!("no fault of a gateway was asked for"),
            }
        }
        outcome
    }
}

/// Some of the calls that were answered, from the first to the last.
fn some_answered(seen: &[(Plan, Seen)]) -> Vec<&str> {
    let answered: Vec<&str> = seen
        .iter()
        .filter_map(|(_, seen)| match seen {
            Seen::Answered { request_id } => Some(&**request_id),
            _ => None,
        })
        .collect();
    let stride = answered.len().div_ceil(LOOKED_UP_MAX).max(1);
    answered.into_iter().step_by(stride).collect()
}

impl Outcome {
    /// Whether the ledger has each answered call, and enough of the budget was used.
    fn check(&self, used_percent_min: u32) -> anyhow::Result<()> {
        // A call that failed, or whose client left while it was under way, may be in it too.
        let recorded_max = self.answered + self.engine_failed + self.client_left;
        ensure!(
            (self.answered..=recorded_max).contains(&self.recorded),
            "the ledger has {} calls: {self:?}",
            self.recorded
        );
        ensure!(
            self.spent >= self.limit.percent_floor(used_percent_min),
            "less than {used_percent_min}% of the budget is used: {self:?}"
        );
        let refused: u64 = self.refused.values().sum();
        ensure!(
            refused > 0 && self.answered > 0,
            "the budget was not what decided: {self:?}"
        );
        Ok(())
    }

    fn used_percent(&self) -> f64 {
        self.spent.pico() as f64 * 100.0 / self.limit.pico() as f64
    }
}

fn print(outcomes: &[Outcome], options: &Options) -> anyhow::Result<()> {
    if options.json {
        let report = serde_json::json!({"calls": options.calls, "arms": outcomes});
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!(
        "{:<10} {:>7} {:>9} {:>8} {:>8} {:>7} {:>6} {:>9} {:>7} {:>6} {:>8}",
        "arm",
        "calls",
        "answered",
        "quota",
        "held by",
        "engine",
        "left",
        "recorded",
        "used",
        "looks",
        "seconds"
    );
    for outcome in outcomes {
        let refused = |code: &str| outcome.refused.get(code).copied().unwrap_or_default();
        println!(
            "{:<10} {:>7} {:>9} {:>8} {:>8} {:>7} {:>6} {:>9} {:>6.2}% {:>6} {:>8.1}",
            outcome.arm,
            outcome.calls,
            outcome.answered,
            refused("insufficient_quota"),
            refused("budget_held_by_live_calls"),
            outcome.engine_failed,
            outcome.client_left,
            outcome.recorded,
            outcome.used_percent(),
            outcome.looks,
            outcome.seconds
        );
    }
    println!("\nno overshoot, no hold left, every answered call recorded");
    println!("{} passed, 0 failed", outcomes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answered: u64, recorded: u64, refused: u64, spent: i128) -> bool {
        let outcome = Outcome {
            arm: "test",
            calls: 10_000,
            answered,
            refused: BTreeMap::from([("insufficient_quota".to_owned(), refused)]),
            engine_failed: 10,
            client_left: 5,
            recorded,
            limit: PicoUsd::new(1_000),
            spent: PicoUsd::new(spent),
            spent_and_held_max: PicoUsd::new(1_000),
            looks: 1,
            seconds: 1.0,
        };
        outcome.check(USED_PERCENT_MIN).is_ok()
    }

    #[test]
    fn an_outcome_counts_every_answer_and_uses_the_budget() {
        for (answered, recorded, refused, spent, expected) in [
            (900, 900, 100, 970, true),
            (900, 915, 100, 1_000, true),
            // An answered call is missing, or one is there that nobody made.
            (900, 899, 100, 970, false),
            (900, 916, 100, 970, false),
            // Too little was used.
            (900, 900, 100, 969, false),
            // Nothing was refused, or nothing answered: the budget was not tried.
            (900, 900, 0, 970, false),
            (0, 0, 100, 970, false),
        ] {
            let case = (answered, recorded, refused, spent);
            assert_eq!(
                check(answered, recorded, refused, spent),
                expected,
                "{case:?}"
            );
        }
    }

    #[test]
    fn the_calls_that_are_looked_up_are_spread_and_few() {
        let seen: Vec<_> = (0..1_001)
            .map(|number| {
                let request_id = format!("r{number}");
                (Plan::Whole, Seen::Answered { request_id })
            })
            .chain([(Plan::Whole, Seen::Left)])
            .collect();
        let some = some_answered(&seen);
        assert!(
            (200..=LOOKED_UP_MAX).contains(&some.len()),
            "{}",
            some.len()
        );
        assert_eq!((some[0], *some.last().expect("some")), ("r0", "r1000"));
        assert!(some_answered(&[]).is_empty());
    }
}
