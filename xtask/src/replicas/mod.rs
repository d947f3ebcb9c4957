//! `cargo xtask replicas`: ten times the calls that a budget fits, at once, against three real
//! processes that share it over a real PostgreSQL (invariants 5 and 6).
//!
//! - *ample*: the budget fits all, and a tenth comes at a time: how many
//!   calls wait for the coordinator, after the first tenth, is reported and not judged;
//! - *scarce*: it fits a tenth;
//! - *killed*: the same, and one replica is killed while it is called, and started anew;
//! - *paused*: one stands still for a while (SIGSTOP) and goes on;
//! - *cut off*: PostgreSQL is out of reach for a while.
//!
//! Spent and held together never pass the limit, nothing is held in the end on any replica, each
//! answered call is in the ledger, and almost all of the budget is used once what was held up has
//! been asked for again.

mod fleet;
#[path = "../../../crates/partywall/tests/e2e/relay.rs"]
mod relay;
mod waits;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Clock, PicoUsd, SystemClock};
use serde::Serialize;
use tokio::sync::Notify;

pub(crate) use self::fleet::start_postgres;
use self::fleet::{Fleet, signal};
use self::waits::Waits;
use crate::command::disk_folder;
use crate::overspend::budget::{self, Budget, Watched};
use crate::overspend::clients::{Faults, Plan, Seen, call_all, call_with, open_all};
use crate::overspend::{self, CALLS_PER_FITTING, USED_PERCENT_MIN, descriptors};
use crate::product::{self, Product, runtime};
use crate::wire::{Connection, request};

/// An ample budget fits so many times the calls.
const AMPLE_TIMES: u64 = 1_000;
/// An ample budget's calls come in ten waves; the first tells the replicas what is used.
const WAVES: u64 = 10;
/// 300 ms into the calls: some are answered, and most are not.
const FAULT_AFTER: Duration = Duration::from_millis(300);
/// 5 s: longer than an exchange may take, shorter than a call waits for a budget.
const FAULT_LASTS: Duration = Duration::from_secs(5);
/// A minute: holds end with their calls, lines are posted every second, and a replica that was
/// killed recovers.
const SETTLING_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many calls.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Calls at once in each arm; a scarce budget fits a tenth of them.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(600..=16_000))]
    calls: u64,
    /// The binary to test; the release build, made anew, if absent.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Print what came out as JSON.
    #[arg(long)]
    json: bool,
}

/// What befalls the replicas while they are called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Killed,
    Paused,
    CutOff,
}

struct Arm {
    name: &'static str,
    fault: Fault,
    /// So many calls for each that fits.
    calls_per_fitting: u64,
}

const ARMS: [Arm; 5] = [
    Arm {
        name: "ample",
        fault: Fault::None,
        calls_per_fitting: 1,
    },
    Arm {
        name: "scarce",
        fault: Fault::None,
        calls_per_fitting: CALLS_PER_FITTING,
    },
    Arm {
        name: "killed",
        fault: Fault::Killed,
        calls_per_fitting: CALLS_PER_FITTING,
    },
    Arm {
        name: "paused",
        fault: Fault::Paused,
        calls_per_fitting: CALLS_PER_FITTING,
    },
    Arm {
        name: "cut-off",
        fault: Fault::CutOff,
        calls_per_fitting: CALLS_PER_FITTING,
    },
];

/// What came out of an arm.
#[derive(Debug, Serialize)]
struct Outcome {
    arm: &'static str,
    calls: u64,
    answered: u64,
    refused: u64,
    /// Came to nothing, since the replica or the budget was out of reach.
    unreachable: u64,
    /// Calls that the ledger has.
    recorded: u64,
    limit: PicoUsd,
    spent: PicoUsd,
    /// The most that a replica was seen to know as spent and held.
    spent_and_held_max: PicoUsd,
    /// How often a call waited for the coordinator, where no fault befell …
    waited: u64,
    /// … of so many calls: not of those that told the replicas what is used.
    counted: u64,
    exchanges: u64,
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
            Err(error.context(format!("the data folders are kept in {}", kept.display())))
        }
    }
}

fn run_arms(options: &Options, binary: &Path, folder: &Path) -> anyhow::Result<Vec<Outcome>> {
    let (_engine, upstream) = overspend::start_engine(binary)?;
    let mut fleet = Fleet::start(binary, folder, upstream)?;
    let runtime = runtime()?;
    let price = runtime.block_on(async {
        budget::prepare(fleet.first()).await?;
        overspend::price_of_one(fleet.first()).await
    })?;
    let mut outcomes = Vec::new();
    for arm in &ARMS {
        // Room for what live calls hold beside what they cost: six times their output.
        let limit = match arm.calls_per_fitting {
            1 => price.times(options.calls * AMPLE_TIMES),
            fitting => price.times(options.calls / fitting),
        };
        let outcome = arm
            .run(&mut fleet, &runtime, options.calls, limit)
            .with_context(|| format!("arm `{}`", arm.name))?;
        for replica in &mut fleet.replicas {
            replica.server.ensure_running()?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

impl Arm {
    fn run(
        &self,
        fleet: &mut Fleet,
        runtime: &tokio::runtime::Runtime,
        calls: u64,
        limit: PicoUsd,
    ) -> anyhow::Result<Outcome> {
        let clock = SystemClock::new();
        let (key, mut outcome) = runtime.block_on(async {
            let budget = Budget::declare(fleet.first(), self.name, limit).await?;
            until_known(fleet, &budget.key).await?;
            let gateways = fleet.gateways();
            let plans = |count: u64| anyhow::Ok(vec![Plan::Whole; usize::try_from(count)?]);
            let (warming, waves) = match self.calls_per_fitting {
                1 => (calls / WAVES, vec![calls / WAVES; WAVES as usize - 1]),
                _ => (0, vec![calls]),
            };
            let warm = call_all(&gateways, &budget.key, plans(warming)?, Faults::None).await?;
            let before = Waits::of(fleet).await?;
            let faults = match self.fault {
                Fault::None => Faults::None,
                _ => Faults::Some,
            };
            let counted: u64 = waves.iter().sum();
            let calling = Notify::new();
            let all_waves = async {
                let mut seen = warm;
                for wave in waves {
                    let plans = plans(wave)?;
                    let clients = open_all(&gateways, plans.len(), faults).await?;
                    calling.notify_one();
                    seen.extend(call_with(clients, &budget.key, plans, faults).await?);
                }
                Ok(seen)
            };
            let befallen = async {
                calling.notified().await;
                self.befall(fleet).await
            };
            let calls = async {
                let (seen, ()) = tokio::try_join!(all_waves, befallen)?;
                Ok(seen)
            };
            let (seen, watched) = match self.fault {
                // Nobody can say what others have spent while their database is gone.
                Fault::CutOff => (calls.await?, Watched::default()),
                _ => budget.watch(calls).await?,
            };
            let mut outcome = Outcome {
                arm: self.name,
                calls: warming + counted,
                counted,
                answered: 0,
                refused: 0,
                unreachable: 0,
                recorded: 0,
                limit,
                spent: PicoUsd::ZERO,
                spent_and_held_max: watched.most,
                waited: 0,
                exchanges: 0,
                seconds: 0.0,
            };
            outcome.add(&seen);
            if self.fault == Fault::None {
                let after = Waits::of(fleet).await?;
                outcome.waited = after.waited - before.waited;
                outcome.exchanges = after.exchanges - before.exchanges;
            }
            anyhow::Ok((budget.key.clone(), outcome))
        })?;
        if self.fault == Fault::Killed {
            fleet.restart_last()?;
        }
        outcome.seconds = clock.elapsed().as_secs_f64();
        runtime.block_on(async {
            until_settled(fleet, self.name, limit).await?;
            if self.fault != Fault::None {
                // What was held up while a replica was out of reach is asked for again.
                until_known(fleet, &key).await?;
                let again = vec![Plan::Whole; usize::try_from(calls / self.calls_per_fitting)?];
                outcome.calls += again.len() as u64;
                let seen = call_all(&fleet.gateways(), &key, again, Faults::None).await?;
                outcome.add(&seen);
            }
            outcome.spent = until_settled(fleet, self.name, limit).await?;
            outcome.recorded = recorded(fleet.first(), self.name, outcome.answered).await?;
            for replica in &fleet.replicas {
                budget::verify_ledger(replica).await?;
            }
            outcome.check(self)
        })?;
        Ok(outcome)
    }

    /// Does to the last replica, or to all, what the arm is about.
    async fn befall(&self, fleet: &Fleet) -> anyhow::Result<()> {
        if self.fault == Fault::None {
            return Ok(());
        }
        tokio::time::sleep(FAULT_AFTER).await;
        match self.fault {
            Fault::None => {}
            Fault::Killed => signal(fleet.last_id(), "KILL")?,
            Fault::Paused => {
                signal(fleet.last_id(), "STOP")?;
                tokio::time::sleep(FAULT_LASTS).await;
                signal(fleet.last_id(), "CONT")?;
            }
            Fault::CutOff => {
                fleet.relay.cut();
                tokio::time::sleep(FAULT_LASTS).await;
                fleet.relay.mend();
            }
        }
        Ok(())
    }
}

/// Waits until every replica takes the key.
async fn until_known(fleet: &Fleet, key: &str) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    for replica in &fleet.replicas {
        let models = request("GET", replica.gateway, "/v1/models", key, None);
        loop {
            let mut connection = Connection::open(replica.gateway).await?;
            if connection.call(&clock, &models).await?.status == 200 {
                break;
            }
            ensure!(
                clock.elapsed() < SETTLING_MAX,
                "a replica does not take a new key"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// Waits until no replica holds anything and all say the same of what is spent; says what.
async fn until_settled(fleet: &Fleet, tenant: &str, limit: PicoUsd) -> anyhow::Result<PicoUsd> {
    let clock = SystemClock::new();
    loop {
        let mut standings = Vec::new();
        for replica in &fleet.replicas {
            let standing = budget::standing_of(replica, tenant).await?;
            ensure!(
                standing.spent + standing.held <= limit,
                "of {limit} dollars {} are spent and {} held",
                standing.spent,
                standing.held
            );
            standings.push(standing);
        }
        let agree = standings
            .iter()
            .all(|one| one.held == PicoUsd::ZERO && one.spent == standings[0].spent);
        if agree {
            return Ok(standings[0].spent);
        }
        ensure!(
            clock.elapsed() < SETTLING_MAX,
            "{SETTLING_MAX:?} after the last call the replicas say {standings:?}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the ledger has as many calls as were answered, and says how many it has.
async fn recorded(product: &Product, tenant: &str, answered: u64) -> anyhow::Result<u64> {
    let clock = SystemClock::new();
    loop {
        let recorded = budget::recorded_of(product, tenant).await?;
        if recorded >= answered || clock.elapsed() > SETTLING_MAX {
            return Ok(recorded);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Outcome {
    fn add(&mut self, seen: &[(Plan, Seen)]) {
        for (_, seen) in seen {
            match seen {
                Seen::Answered { .. } => self.answered += 1,
                Seen::Refused { .. } => self.refused += 1,
                Seen::EngineFailed | Seen::Left | Seen::Unreachable => self.unreachable += 1,
            }
        }
    }

    fn check(&self, arm: &Arm) -> anyhow::Result<()> {
        // A call whose client saw nothing of its answer may be in the ledger too.
        let recorded_max = self.answered + self.unreachable;
        ensure!(
            (self.answered..=recorded_max).contains(&self.recorded),
            "the ledger has {} calls: {self:?}",
            self.recorded
        );
        if arm.calls_per_fitting == 1 {
            ensure!(
                self.answered == self.calls,
                "an ample budget refused a call: {self:?}"
            );
            return Ok(());
        }
        ensure!(
            self.refused > 0 && self.answered > 0,
            "the budget was not what decided: {self:?}"
        );
        ensure!(
            self.spent >= self.limit.percent_floor(USED_PERCENT_MIN),
            "less than {USED_PERCENT_MIN}% of the budget is used: {self:?}"
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
        "{:<8} {:>7} {:>9} {:>8} {:>12} {:>9} {:>8} {:>7} {:>10} {:>8}",
        "arm",
        "calls",
        "answered",
        "refused",
        "unreachable",
        "recorded",
        "used",
        "waited",
        "exchanges",
        "seconds"
    );
    for outcome in outcomes {
        println!(
            "{:<8} {:>7} {:>9} {:>8} {:>12} {:>9} {:>7.2}% {:>7} {:>10} {:>8.1}",
            outcome.arm,
            outcome.calls,
            outcome.answered,
            outcome.refused,
            outcome.unreachable,
            outcome.recorded,
            outcome.used_percent(),
            outcome.waited,
            outcome.exchanges,
            outcome.seconds
        );
    }
    println!("\nno overshoot, no hold left, every answered call recorded, on three replicas");
    println!("{} passed, 0 failed", outcomes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arm: &Arm, answered: u64, recorded: u64, waited: u64, spent: i128) -> bool {
        let outcome = Outcome {
            arm: "test",
            calls: 1_000,
            counted: 1_000,
            answered,
            refused: 1_000 - answered,
            unreachable: 5,
            recorded,
            limit: PicoUsd::new(1_000),
            spent: PicoUsd::new(spent),
            spent_and_held_max: PicoUsd::ZERO,
            waited,
            exchanges: 1,
            seconds: 1.0,
        };
        outcome.check(arm).is_ok()
    }

    #[test]
    fn an_outcome_counts_every_answer_and_uses_the_budget() {
        let (ample, scarce) = (&ARMS[0], &ARMS[1]);
        assert!(check(ample, 1_000, 1_000, 51, 10));
        assert!(!check(ample, 999, 999, 0, 10));
        assert!(check(scarce, 100, 105, 999, 970));
        assert!(!check(scarce, 100, 106, 0, 970));
        assert!(!check(scarce, 100, 99, 0, 970));
        assert!(!check(scarce, 100, 100, 0, 969));
        assert!(!check(scarce, 1_000, 1_000, 0, 1_000));
    }
}
