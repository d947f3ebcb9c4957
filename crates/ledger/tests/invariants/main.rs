//! Random histories of one tenant's ledger, checked after every step against a model that is too
//! simple to be wrong, and against what the journal adds up to.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod world;

use proptest::prelude::*;
use world::World;

#[derive(Debug, Clone)]
enum Step {
    /// Reserve on the accounts of the mask's bits.
    Reserve {
        mask: u8,
        amount: i128,
    },
    /// Send a call that was let through, and journal its intent.
    Dispatch {
        which: u16,
    },
    Settle {
        which: u16,
    },
    Release {
        which: u16,
    },
    Cancel {
        which: u16,
    },
    Reconcile {
        which: u16,
    },
    Advance {
        seconds: i64,
    },
    /// The wall clock alone.
    Jump {
        seconds: i64,
    },
    /// The journal's writer finishes a commit.
    Sync,
    /// The process dies; of what was not synced this part survives, in per cent.
    Crash {
        kept_percent: usize,
    },
    /// The process ends as it should, and starts again.
    Restart,
}

fn steps(crashes: bool) -> impl Strategy<Value = Vec<Step>> {
    let index = any::<u16>;
    let step = prop_oneof![
        12 => (1_u8..16, 0_i128..400).prop_map(|(mask, amount)| Step::Reserve { mask, amount }),
        12 => index().prop_map(|which| Step::Dispatch { which }),
        10 => index().prop_map(|which| Step::Settle { which }),
        2 => index().prop_map(|which| Step::Release { which }),
        2 => index().prop_map(|which| Step::Cancel { which }),
        4 => index().prop_map(|which| Step::Reconcile { which }),
        4 => (0_i64..1_200).prop_map(|seconds| Step::Advance { seconds }),
        1 => (0_i64..2 * 86_400).prop_map(|seconds| Step::Advance { seconds }),
        1 => (-90_000_i64..90_000).prop_map(|seconds| Step::Jump { seconds }),
        3 => Just(Step::Sync),
        2 => (0_usize..=100).prop_map(|kept_percent| Step::Crash { kept_percent }),
        1 => Just(Step::Restart),
    ];
    let step = step.prop_map(move |step| match step {
        Step::Crash { .. } | Step::Restart if !crashes => Step::Sync,
        step => step,
    });
    proptest::collection::vec(step, 1..150)
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.check();
    }
    world.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants 5, 6 and 8, against the exact model.
    #[test]
    fn invariants_5_6_8_hold_after_every_step(steps in steps(false)) {
        run(&steps);
    }

    /// Invariants 5 to 8 with crashes that lose any part of what was not durable.
    #[test]
    fn invariants_5_6_7_8_hold_through_crashes(steps in steps(true)) {
        run(&steps);
    }
}
