//! The task runner. `cargo xtask --help` lists what there is; CI runs the same commands that a
//! person does.
#![expect(
    clippy::print_stdout,
    reason = "a task runner's product is what it prints"
)]

mod bench;
mod ci;
mod command;
mod crash;
mod fairness;
mod fresh;
mod guards;
mod layers;
mod licences;
mod metadata;
mod openapi;
mod overspend;
mod product;
mod replicas;
mod scale;
mod simulation;
mod source;
mod spdx;
mod timing;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Partywall's task runner.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that has to pass: what `./test` runs once it has installed what it needs.
    Ci(ci::Options),
    /// Asserts which crate may depend on which, and what is deliberately absent from each.
    Layers,
    /// Asserts the licences, sources and duplicates of all dependencies by `deny.toml`.
    Licences,
    /// Writes the admin API's document to `docs/openapi.json`, or checks what is there.
    Openapi(openapi::Options),
    /// Runs the whole-system simulation in virtual time, or replays one seed of it.
    Sim(simulation::Options),
    /// Kills the real binary at random points under load and checks that its ledger adds up.
    Crash(crash::Options),
    /// Sends ten times the calls that a budget fits at once, and checks that it is not overspent.
    Overspend(overspend::Options),
    /// The same against three replicas, which are killed, paused and cut off from PostgreSQL.
    Replicas(replicas::Options),
    /// Measures what a tenant costs as there are more of them, and moves a large one under load.
    Scale(scale::Options),
    /// Measures the scheduler's fairness and how far failures reach, in virtual time.
    Fairness(fairness::Options),
    /// Asks by timing whether a tenant can tell what another has sent to an engine that both share.
    Timing(timing::Options),
    /// Compares the gateway with nginx and a bare hyper passthrough in interleaved windows.
    Bench(bench::Options),
    /// Measures what the guardrails find, on corpora of PyPI, and how fast they are at worst.
    Guards(guards::Options),
    /// Clones HEAD into an empty folder and runs the README's first command.
    Fresh(fresh::Options),
    /// The bench's engine: answers at once or after a delay.
    #[command(hide = true)]
    Upstream(bench::upstream::Options),
    /// The bench's lower bound: hyper in, hyper out, nothing between.
    #[command(hide = true)]
    Passthrough(bench::passthrough::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Ci(options) => ci::run(&options),
        Task::Layers => layers::run(),
        Task::Licences => licences::run(),
        Task::Openapi(options) => openapi::run(&options),
        Task::Sim(options) => simulation::run(&options),
        Task::Crash(options) => crash::run(&options),
        Task::Overspend(options) => overspend::run(&options),
        Task::Replicas(options) => replicas::run(&options),
        Task::Scale(options) => scale::run(&options),
        Task::Fairness(options) => fairness::run(&options),
        Task::Timing(options) => timing::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fresh(options) => fresh::run(&options),
        Task::Guards(options) => guards::run(&options),
        Task::Upstream(options) => bench::upstream::run(&options),
        Task::Passthrough(options) => bench::passthrough::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::tell(&format!("xtask: {error:#}"));
            match error.is::<timing::Void>() {
                // Neither a success nor a failure, nor clap's 2.
                true => ExitCode::from(3),
                false => ExitCode::FAILURE,
            }
        }
    }
}
