//! Load, crashes, and a reconciliation of everything after each crash: then every account has
//! spent exactly what its calls cost, in its own window, however often the process died.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod model;
mod world;

use proptest::prelude::*;
use world::World;

#[derive(Debug, Clone)]
enum Step {
    /// A call on the accounts of the mask's bits, and what it will come to.
    Call {
        mask: u8,
        amount: i128,
        cost_percent: i128,
        /// Whoever asks goes away while its lease is made durable.
        leaves: bool,
    },
    Settle {
        which: u16,
    },
    Release {
        which: u16,
    },
    /// Time goes by: holds expire, idle accounts give up their leases, idle sessions go.
    Pass {
        seconds: i64,
    },
    /// The journal's writer finishes a commit.
    Sync,
    /// An operator changes a budget's window.
    ChangeWindow {
        account: usize,
        window: usize,
    },
    /// The process dies; of what was not durable this part survives, in per cent.
    Crash {
        kept_percent: usize,
    },
    /// The process ends as it should, and starts again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = (1_u8..64, 0_i128..400, 0_i128..=100, 0_u8..8);
    let call = call.prop_map(|(mask, amount, cost_percent, leaves)| Step::Call {
        mask,
        amount,
        cost_percent,
        leaves: leaves == 0,
    });
    let step = prop_oneof![
        24 => call,
        12 => any::<u16>().prop_map(|which| Step::Settle { which }),
        3 => any::<u16>().prop_map(|which| Step::Release { which }),
        4 => (0_i64..900).prop_map(|seconds| Step::Pass { seconds }),
        2 => (0_i64..2 * 86_400).prop_map(|seconds| Step::Pass { seconds }),
        4 => Just(Step::Sync),
        1 => (0_usize..6, 0_usize..4).prop_map(|(account, window)| Step::ChangeWindow { account, window }),
        4 => (0_usize..=100).prop_map(|kept_percent| Step::Crash { kept_percent }),
        1 => Just(Step::Restart),
    ];
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
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_6_7_what_is_reconciled_after_each_crash_adds_up_exactly(steps in steps()) {
        run(&steps);
    }
}

/// A crash loop under load: what is given back each time is all of it, and no budget dries up.
#[test]
fn two_hundred_crashes_of_one_installation_cost_nothing() {
    let mut steps = Vec::new();
    for crash in 0..200_usize {
        for number in 0..12_u8 {
            steps.push(Step::Call {
                mask: 1 + (number * 5) % 63,
                amount: 20 + i128::from(number),
                cost_percent: 10,
                leaves: false,
            });
            if number % 3 > 0 {
                let which = u16::from(number);
                steps.push(Step::Settle { which });
            }
            if usize::from(number) == crash % 12 {
                steps.push(Step::Sync);
            }
        }
        let kept_percent = crash * 7 % 101;
        steps.push(Step::Crash { kept_percent });
        steps.push(Step::Pass { seconds: 1_000 });
    }
    let mut world = World::new();
    for step in &steps {
        world.step(step);
        if matches!(step, Step::Crash { .. }) {
            world.check();
        }
    }
    world.finish();
    assert!(world.lost() > 50, "{} calls were lost", world.lost());
    assert_eq!(world.refused(), 0, "no budget is used up");
}
