//! Seeds pass, and mutants do not.

use sim::{Failure, Mutant, run, run_many};

/// Each mutant must be found within this many seeds.
const SEEDS_PER_MUTANT: u64 = 20;

/// 500 seeds in four tests, so that they run side by side.
const SEEDS_PER_TEST: u64 = 125;

fn check_quarter(quarter: u64) {
    let first = quarter * SEEDS_PER_TEST;
    let report = run_many(first, SEEDS_PER_TEST, 1).unwrap_or_else(|failure| panic!("{failure}"));
    // Runs in which nothing goes wrong prove nothing.
    assert!(report.crashes > 300 && report.lost > 50, "{report}");
    assert!(report.torn_bytes > 0 && report.segments > 200, "{report}");
    assert!(report.answered > 5_000 && report.refused > 500, "{report}");
    assert!(report.reconciled > 100 && report.returned > 50, "{report}");
    assert!(report.expired > 100 && report.disk_faults > 50, "{report}");
}

#[test]
fn invariants_5_6_7_8_hold_for_the_first_quarter_of_500_seeds() {
    check_quarter(0);
}

#[test]
fn invariants_5_6_7_8_hold_for_the_second_quarter_of_500_seeds() {
    check_quarter(1);
}

#[test]
fn invariants_5_6_7_8_hold_for_the_third_quarter_of_500_seeds() {
    check_quarter(2);
}

#[test]
fn invariants_5_6_7_8_hold_for_the_last_quarter_of_500_seeds() {
    check_quarter(3);
}

/// Of three replicas that share budgets, which are paused, cut off and off in time.
fn check_replicas(first: u64) {
    let report = run_many(first, 40, 3).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        report.exchanges > 1_500 && report.unanswered > 100,
        "{report}"
    );
    assert!(report.pauses > 30 && report.partitions > 50, "{report}");
    assert!(report.crashes > 200 && report.lost > 20, "{report}");
    assert!(report.answered > 2_000 && report.segments > 500, "{report}");
}

#[test]
fn invariants_5_to_8_hold_over_three_replicas_for_40_seeds() {
    check_replicas(0);
}

#[test]
fn invariants_5_to_8_hold_over_three_replicas_for_40_more_seeds() {
    check_replicas(40);
}

#[test]
fn a_seed_always_leads_to_the_same_run() {
    for (seed, replicas) in [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3)] {
        let once = run(seed, replicas, Mutant::None);
        assert_eq!(once, run(seed, replicas, Mutant::None));
    }
}

fn first_failure(replicas: usize, mutant: Mutant) -> Failure {
    (0..SEEDS_PER_MUTANT)
        .find_map(|seed| run(seed, replicas, mutant).err())
        .unwrap_or_else(|| panic!("{mutant:?} survived {SEEDS_PER_MUTANT} seeds"))
}

#[test]
fn invariant_8_finds_a_dropped_release() {
    let failure = first_failure(1, Mutant::DroppedRelease);
    assert!(failure.what.starts_with("invariant 8"), "{failure}");
}

#[test]
fn invariant_7_finds_a_dropped_scope() {
    let failure = first_failure(1, Mutant::DroppedScope);
    // At once by the invariant, or at the end by what was billed and not counted.
    let is_found = failure.what.starts_with("invariant 7") || failure.what.contains("was billed");
    assert!(is_found, "{failure}");
}

#[test]
fn invariant_7_finds_a_skipped_fsync() {
    let failure = first_failure(1, Mutant::SkippedFsync);
    assert!(failure.what.starts_with("invariant 7"), "{failure}");
    let command = format!("cargo xtask sim --replicas 1 --seed {}", failure.seed);
    assert!(failure.to_string().contains(&command));
}

#[test]
fn invariant_5_finds_what_is_told_before_it_is_durable() {
    let failure = first_failure(3, Mutant::EarlyLetters);
    assert!(failure.what.starts_with("invariant 5"), "{failure}");
}

#[test]
fn invariant_5_finds_letters_that_come_after_later_ones() {
    let failure = first_failure(3, Mutant::LateLetters);
    assert!(failure.what.starts_with("invariant 5"), "{failure}");
    let command = format!("cargo xtask sim --replicas 3 --seed {}", failure.seed);
    assert!(failure.to_string().contains(&command));
}

#[test]
fn invariant_5_finds_shares_that_never_end() {
    let failure = first_failure(3, Mutant::EndlessShares);
    assert!(failure.what.starts_with("invariant 5"), "{failure}");
}
