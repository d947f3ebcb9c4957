//! `cargo xtask ci`: everything that has to pass, in the order in which it is cheapest to fail.

use std::process::Command;

use anyhow::{Context, ensure};
use base::{Clock, SystemClock};

use crate::command::{is_installed, run_and_read, shown, target};

/// Which steps to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Stop at the first step that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Run these steps alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these steps out.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
}

/// One step.
struct Step {
    name: &'static str,
    /// A command line without quoting: no argument has a space.
    command: String,
}

fn step(name: &'static str, command: impl Into<String>) -> Step {
    Step {
        name,
        command: command.into(),
    }
}

/// How many of each seed, kill and concurrent call the product's own statement asks for.
const SEEDS: u32 = 500;
const KILLS: u32 = 200;
const CALLS: u32 = 10_000;

fn steps() -> anyhow::Result<Vec<Step>> {
    let this = std::env::current_exe().context("finding this program")?;
    let this = this.to_str().context("this program's path is text")?;
    // As the step `release` leaves it: without this they would build their own.
    let binary = target().join("release/partywall");
    let binary = format!("--binary {}", binary.display());
    let tests = if is_installed("cargo-nextest") {
        "tests/postgres.sh run cargo nextest run --workspace --locked --no-fail-fast"
    } else {
        "tests/postgres.sh run cargo test --workspace --locked --no-fail-fast --lib --bins --tests"
    };
    Ok(vec![
        step("format", "cargo fmt --all --check"),
        step("licences", format!("{this} licences")),
        step("layers", format!("{this} layers")),
        step(
            "lints",
            "cargo clippy --workspace --all-targets --locked --quiet -- -D warnings",
        ),
        step("tests", tests),
        step("postgres-18", "tests/postgres-18"),
        step("doc-tests", "cargo test --workspace --locked --doc"),
        step("openapi", format!("{this} openapi --check")),
        step("simulation", format!("{this} sim --seeds {SEEDS}")),
        step("fairness", format!("{this} fairness")),
        // The same code as the release has, in half the time.
        step(
            "release",
            "cargo build --release --locked -p partywall --config profile.release.lto=\"off\"",
        ),
        step("clients", "tests/clients/run"),
        step("dashboard", "tests/dashboard/run"),
        step("open-webui", "tests/clients/open-webui"),
        step("schema", "tests/clients/schema"),
        step("focus", "tests/clients/focus"),
        step("engine", "tests/clients/engine"),
        step("declared", "examples/declarative/run"),
        step("adapters", "examples/adapters/run"),
        step("replicas", "examples/replicas/run"),
        step("deployment", "deploy/check"),
        step("prometheus", "tests/prometheus/run"),
        step("timing", format!("{this} timing --quick {binary}")),
        step("crash", format!("{this} crash --runs {KILLS} {binary}")),
        step(
            "overspend",
            format!("{this} overspend --calls {CALLS} {binary}"),
        ),
    ])
}

/// What came out of a step.
struct Outcome {
    name: &'static str,
    passed: u64,
    failed: u64,
    seconds: f64,
}

/// Runs the steps and prints what came out of each, then one line with the sum.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let steps = steps()?;
    for name in options.only.iter().chain(&options.without) {
        ensure!(
            steps.iter().any(|step| step.name == name),
            "there is no step `{name}`; there are: {}",
            steps
                .iter()
                .map(|step| step.name)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let mut outcomes = Vec::new();
    for step in steps {
        let is_named = |names: &[String]| names.iter().any(|name| name == step.name);
        if is_named(&options.without) || (!options.only.is_empty() && !is_named(&options.only)) {
            continue;
        }
        let outcome = run_step(&step)?;
        let has_failed = outcome.failed > 0;
        outcomes.push(outcome);
        if has_failed && options.fail_fast {
            break;
        }
    }
    summarise(&outcomes)
}

fn run_step(step: &Step) -> anyhow::Result<Outcome> {
    let mut words = step.command.split_whitespace();
    let mut command = Command::new(words.next().context("a command has words")?);
    command.args(words);
    println!("\n── {}: {}", step.name, shown(&command));
    let clock = SystemClock::new();
    let mut counted = Counts::default();
    let status = run_and_read(&mut command, |line| counted.add(line))?;
    // A step without tests of its own is one test: it passes or it does not.
    if counted.passed + counted.failed == 0 && status.success() {
        counted.passed = 1;
    }
    if !status.success() && counted.failed == 0 {
        counted.failed = 1;
    }
    Ok(Outcome {
        name: step.name,
        passed: counted.passed,
        failed: counted.failed,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

fn summarise(outcomes: &[Outcome]) -> anyhow::Result<()> {
    println!(
        "\n{:<12} {:>8} {:>8} {:>9}",
        "step", "passed", "failed", "seconds"
    );
    for Outcome {
        name,
        passed,
        failed,
        seconds,
    } in outcomes
    {
        println!("{name:<12} {passed:>8} {failed:>8} {seconds:>9.1}");
    }
    let passed: u64 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    ensure!(failed == 0, "not everything passed");
    Ok(())
}

/// What a step's own summary lines say.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    /// nextest has summed up. It shows what a failed test printed, in which cargo's summary of
    /// that one test stands: it is counted already.
    has_sum: bool,
}

impl Counts {
    /// Adds a summary line's counts: nextest's (`Summary [1.2s] 5 tests run: 4 passed, 1 failed`),
    /// cargo's (`test result: ok. 4 passed; 0 failed; …`) and our own (`4 passed, 0 failed`).
    fn add(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        let is_sum = line.starts_with("Summary [") && line.contains("run:");
        let is_ours = line.ends_with(" failed") && line.split(' ').count() == 4;
        let is_part = is_ours || line.starts_with("test result:");
        let passed = count_before(line, "passed");
        let failed = count_before(line, "failed") + count_before(line, "timed");
        if is_sum {
            *self = Self {
                passed,
                failed,
                has_sum: true,
            };
        } else if is_part && !self.has_sum {
            self.passed += passed;
            self.failed += failed;
        }
    }
}

/// The number in front of a word: 4 in `4 passed`.
fn count_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line
        .split([' ', ',', ';', '('])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

/// A line without its ANSI escapes.
fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            // `ESC [ … m`
            rest.by_ref().find(|end| end.is_ascii_alphabetic());
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> (u64, u64) {
        let mut counts = Counts::default();
        counts.add(line);
        (counts.passed, counts.failed)
    }

    #[test]
    fn a_failed_test_that_is_shown_is_counted_once() {
        let mut counts = Counts::default();
        for line in [
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
            "     Summary [ 9.0s] 9 tests run: 8 passed, 1 failed",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
        ] {
            counts.add(line);
        }
        assert_eq!((counts.passed, counts.failed), (8, 1));
    }

    #[test]
    fn summary_lines_are_counted_and_others_are_not() {
        for (line, expected) in [
            (
                "     Summary [   0.031s] 5 tests run: 4 passed, 1 failed, 2 skipped",
                (4, 1),
            ),
            (
                "     Summary [ 9.0s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out",
                (7, 2),
            ),
            (
                "\u{1b}[32;1m     Summary\u{1b}[0m [ 1s] \u{1b}[1m3\u{1b}[0m tests run: \u{1b}[1m3\u{1b}[0m passed, 0 skipped",
                (3, 0),
            ),
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
                (12, 0),
            ),
            (
                "test result: FAILED. 11 passed; 3 failed; 0 ignored",
                (11, 3),
            ),
            ("18 passed, 0 failed", (18, 0)),
            ("the request failed", (0, 0)),
            ("2 passed", (0, 0)),
        ] {
            assert_eq!(check(line), expected, "{line}");
        }
    }

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let steps = steps().expect("this program has a path");
        let names: std::collections::BTreeSet<_> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), steps.len());
    }
}
