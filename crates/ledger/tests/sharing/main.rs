//! Several replicas with a part in the same budgets: whatever happens to them and to what they
//! say to each other, together they never spend and hold more than the limit.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod coordinator;
mod replica;
mod ungranted;
mod use_up;

use base::{PicoUsd, Timestamp};
use ledger::{RollingHours, Window, Zone};
use proptest::prelude::*;

use crate::coordinator::Coordinator;
use crate::replica::{Budget, Replica};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// Eleven in the morning: an hour before noon, thirteen before midnight.
const START: i64 = 20_000 * 24 * HOUR + 11 * HOUR;
const REPLICAS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// A call that names these budgets.
    Call {
        replica: usize,
        mask: u8,
        amount: i128,
    },
    Dispatch {
        replica: usize,
        which: u16,
    },
    End {
        replica: usize,
        which: u16,
        end: End,
    },
    /// The replica talks to the coordinator.
    Talk {
        replica: usize,
        fate: Fate,
    },
    /// What was held up arrives.
    Arrive,
    Advance {
        seconds: i64,
    },
    /// Only what is durable is left, and of the rest this much.
    Crash {
        replica: usize,
        kept_percent: u8,
    },
}

#[derive(Debug, Clone, Copy)]
enum End {
    Settle,
    Release,
    Cancel,
}

/// What becomes of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    LostOnTheWay,
    /// The coordinator has it, and the replica does not know.
    AnswerLost,
    /// It comes to the coordinator after others, and the answer to nobody.
    HeldUp,
}

fn step() -> impl Strategy<Value = Step> {
    let replica = || 0..REPLICAS;
    let fate = prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::LostOnTheWay),
        1 => Just(Fate::AnswerLost),
        2 => Just(Fate::HeldUp),
    ];
    let end = prop_oneof![4 => Just(End::Settle), 1 => Just(End::Release), 1 => Just(End::Cancel)];
    let seconds = prop_oneof![
        6 => 0_i64..3,
        3 => 3_i64..60,
        2 => 60_i64..4_000,
        1 => 4_000_i64..90_000,
    ];
    prop_oneof![
        12 => (replica(), 1_u8..16, 1_i128..120).prop_map(|(replica, mask, amount)| Step::Call {
            replica,
            mask,
            amount
        }),
        6 => (replica(), any::<u16>()).prop_map(|(replica, which)| Step::Dispatch { replica, which }),
        8 => (replica(), any::<u16>(), end).prop_map(|(replica, which, end)| Step::End {
            replica,
            which,
            end
        }),
        8 => (replica(), fate).prop_map(|(replica, fate)| Step::Talk { replica, fate }),
        2 => Just(Step::Arrive),
        4 => seconds.prop_map(|seconds| Step::Advance { seconds }),
        1 => (replica(), 0_u8..=100).prop_map(|(replica, kept_percent)| Step::Crash {
            replica,
            kept_percent
        }),
    ]
}

struct World {
    budgets: Vec<Budget>,
    replicas: Vec<Replica>,
    coordinator: Coordinator,
    held_up: Vec<coordinator::Letter>,
    now: i64,
}

fn budgets() -> Vec<Budget> {
    let hours = RollingHours::try_from(24).unwrap();
    vec![
        Budget::new("total", Window::Total, 1_000),
        Budget::new("daily", Window::Daily { zone: Zone::UTC }, 500),
        Budget::new("rolling", Window::Rolling { hours }, 700),
        Budget::session("session", 900, 15),
    ]
}

impl World {
    fn new(skews: &[i64]) -> Self {
        let now = Timestamp::from_micros(START);
        let replica = |(id, skew): (usize, &i64)| Replica::new(id, *skew, now);
        Self {
            budgets: budgets(),
            replicas: skews.iter().enumerate().map(replica).collect(),
            coordinator: Coordinator::new(REPLICAS as u32),
            held_up: Vec::new(),
            now: START,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn step(&mut self, step: &Step) {
        let now = self.now();
        match *step {
            Step::Call {
                replica,
                mask,
                amount,
            } => {
                let chosen = self.budgets.iter().enumerate();
                let chosen: Vec<_> = chosen
                    .filter(|(place, _)| mask & (1 << place) != 0)
                    .map(|(_, budget)| budget.clone())
                    .collect();
                let _came = self.replicas[replica].call(&chosen, amount, now);
            }
            Step::Dispatch { replica, which } => self.replicas[replica].dispatch(which, now),
            Step::End {
                replica,
                which,
                end,
            } => self.replicas[replica].end(which, end, now),
            Step::Talk { replica, fate } => self.talk(replica, fate),
            Step::Arrive => {
                for letter in std::mem::take(&mut self.held_up) {
                    let _nobody = self.coordinator.exchange(&letter, now);
                }
            }
            Step::Advance { seconds } => self.advance(seconds),
            Step::Crash {
                replica,
                kept_percent,
            } => {
                self.replicas[replica].crash(kept_percent, now);
                // It tells what its journal says before it serves.
                let letter = self.replicas[replica].letter_at_start(now);
                let answers = self.coordinator.exchange(&letter, now);
                self.coordinator.forget_before(replica, letter.epoch);
                self.replicas[replica].hear(&answers, now);
            }
        }
        let now = self.now();
        for replica in &mut self.replicas {
            replica.tick(now);
        }
    }

    /// Each half minute at least, holds are looked at for their deadline, and the disk catches up.
    fn advance(&mut self, seconds: i64) {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(30);
            self.now += step * SECOND;
            left -= step;
            let now = self.now();
            for replica in &mut self.replicas {
                replica.tick(now);
                replica.sync();
            }
        }
    }

    fn talk(&mut self, replica: usize, fate: Fate) {
        let now = self.now();
        let letter = self.replicas[replica].letter(now);
        match fate {
            Fate::Answered => {
                let answers = self.coordinator.exchange(&letter, now);
                self.replicas[replica].hear(&answers, now);
            }
            Fate::LostOnTheWay => self.replicas[replica].hear_nothing(&letter),
            Fate::AnswerLost => {
                let _lost = self.coordinator.exchange(&letter, now);
                self.replicas[replica].hear_nothing(&letter);
            }
            Fate::HeldUp => {
                self.replicas[replica].hear_nothing(&letter);
                self.held_up.push(letter);
            }
        }
    }

    fn check(&self) {
        let now = self.now();
        for budget in &self.budgets {
            let books = |replica: &Replica| replica.used(budget.id, now);
            let used: PicoUsd = self.replicas.iter().map(books).sum();
            let limit = budget.terms.limit.unwrap();
            assert!(
                used <= limit,
                "{}: {used} of {limit}: {:?}",
                budget.name,
                self.replicas.iter().map(books).collect::<Vec<_>>()
            );
            if let Some(max) = budget.terms.calls_max {
                let calls = |replica: &Replica| replica.calls_of(budget.id, now);
                let calls: u32 = self.replicas.iter().map(calls).sum();
                assert!(calls <= max, "{}: {calls} calls of {max}", budget.name);
            }
            let shares = self.coordinator.shares(budget.id, now);
            assert!(shares <= limit, "{}: shares of {shares}", budget.name);
        }
    }
}

fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.and_then(|cases| cases.parse().ok()).unwrap_or(250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariant_5_replicas_together_never_pass_a_limit(
        steps in prop::collection::vec(step(), 1..250),
        skews in prop::collection::vec(-50_i64..50, REPLICAS),
    ) {
        let mut world = World::new(&skews);
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
