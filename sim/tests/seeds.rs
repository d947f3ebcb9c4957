//! Seeds pass, and mutants do not.

use sim::{Failure, Mutant, run, run_many};

/// Each mutant must be found within this many seeds.
const SEEDS_PER_MUTANT: u64 = 20;

#[test]
fn invariants_5_6_7_8_hold_for_500_seeds() {
    let report = run_many(0, 500).unwrap_or_else(|failure| panic!("{failure}"));
    // A run in which nothing goes wrong proves nothing.
    assert!(report.crashes > 1_000 && report.lost > 100, "{report}");
    assert!(report.torn_bytes > 0 && report.segments > 500, "{report}");
    assert!(
        report.answered > 10_000 && report.refused > 1_000,
        "{report}"
    );
    assert!(report.expired > 100 && report.disk_faults > 500, "{report}");
}

#[test]
fn a_seed_always_leads_to_the_same_run() {
    for seed in 0..5 {
        assert_eq!(run(seed, Mutant::None), run(seed, Mutant::None));
    }
}

fn first_failure(mutant: Mutant) -> Failure {
    (0..SEEDS_PER_MUTANT)
        .find_map(|seed| run(seed, mutant).err())
        .unwrap_or_else(|| panic!("{mutant:?} survived {SEEDS_PER_MUTANT} seeds"))
}

#[test]
fn invariant_8_finds_a_dropped_release() {
    let failure = first_failure(Mutant::DroppedRelease);
    assert!(failure.what.starts_with("invariant 8"), "{failure}");
}

#[test]
fn invariant_7_finds_a_dropped_scope() {
    let failure = first_failure(Mutant::DroppedScope);
    // At once by the invariant, or at the end by what was billed and not counted.
    let is_found = failure.what.starts_with("invariant 7") || failure.what.contains("was billed");
    assert!(is_found, "{failure}");
}

#[test]
fn invariant_7_finds_a_skipped_fsync() {
    let failure = first_failure(Mutant::SkippedFsync);
    assert!(failure.what.starts_with("invariant 7"), "{failure}");
    let command = format!("cargo xtask sim --seed {}", failure.seed);
    assert!(failure.to_string().contains(&command));
}
