//! What crashes left unreported on an account: it counts as spent until an operator knows better.

use base::{PicoUsd, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{PostedMark, Spend};

/// What crashes left, oldest first. What no longer counts is dropped, and what was posted at one
/// place is one remainder, so that there are at most two for each place that still counts: 50 in a
/// rolling window, two in any other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Stranded(Vec<Remainder>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Remainder {
    amount: PicoUsd,
    mark: PostedMark,
    /// Somebody has said what of it was not spent: then the rest was.
    is_known: bool,
}

impl Stranded {
    /// Adds what another crash left and `spend` has at `mark`.
    pub(crate) fn add(&mut self, spend: &Spend, amount: PicoUsd, mark: PostedMark, now: Timestamp) {
        self.0.retain(|rest| spend.still_counts(rest.mark, now));
        self.0.push(Remainder {
            amount,
            mark,
            is_known: false,
        });
        self.merge();
    }

    /// How much of it counts at `now`.
    pub(crate) fn counted(&self, spend: &Spend, now: Timestamp) -> PicoUsd {
        let counts = |rest: &&Remainder| spend.still_counts(rest.mark, now);
        self.0.iter().filter(counts).map(|rest| rest.amount).sum()
    }

    /// Takes `unspent` back from `spend`, and at most what there is: first from what nobody has
    /// said anything of yet, and of that from the oldest. Where it is not known which crash left
    /// it, what remains then counts for too long rather than too short.
    pub(crate) fn reconcile(&mut self, spend: &mut Spend, unspent: PicoUsd, now: Timestamp) {
        self.0.retain(|rest| spend.still_counts(rest.mark, now));
        let mut left = unspent;
        for is_known in [false, true] {
            for rest in self.0.iter_mut().filter(|rest| rest.is_known == is_known) {
                let returned = left.min(rest.amount);
                spend.refund(rest.mark, returned);
                rest.amount -= returned;
                left -= returned;
            }
        }
        self.0.retain(|rest| rest.amount > PicoUsd::ZERO);
        for rest in &mut self.0 {
            rest.is_known = true;
        }
        self.merge();
    }

    fn merge(&mut self) {
        self.0.dedup_by(|later, earlier| {
            let is_same = later.mark == earlier.mark && later.is_known == earlier.is_known;
            if is_same {
                earlier.amount += later.amount;
            }
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RollingHours, Window};

    const HOUR: i64 = 3_600_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * HOUR)
    }

    /// An account of a day that rolls, and what each crash left at an hour of it.
    fn crashed(crashes: &[(i64, i128)]) -> (Spend, Stranded) {
        let hours = RollingHours::try_from(24).unwrap();
        let mut spend = Spend::new(Window::Rolling { hours }, at(0));
        let mut stranded = Stranded::default();
        for (hour, amount) in crashes {
            let amount = PicoUsd::new(*amount);
            let mark = spend.post(at(*hour), amount);
            stranded.add(&spend, amount, mark, at(*hour));
        }
        (spend, stranded)
    }

    fn counted(spend: &Spend, stranded: &Stranded, hour: i64) -> (i128, i128) {
        (
            spend.spent(at(hour)).pico(),
            stranded.counted(spend, at(hour)).pico(),
        )
    }

    #[test]
    fn what_each_crash_left_can_be_taken_back_while_it_counts() {
        let (mut spend, mut stranded) = crashed(&[(1, 10), (2, 20), (2, 5), (20, 40)]);
        assert_eq!(counted(&spend, &stranded, 20), (75, 75));
        // The first has left its window: it can neither be seen nor taken back.
        assert_eq!(counted(&spend, &stranded, 26), (65, 65));
        stranded.reconcile(&mut spend, PicoUsd::new(1_000), at(26));
        assert_eq!(counted(&spend, &stranded, 26), (0, 0));
    }

    #[test]
    fn what_was_said_of_a_crash_stands_when_the_next_one_is_looked_at() {
        let (mut spend, mut stranded) = crashed(&[(1, 10)]);
        stranded.reconcile(&mut spend, PicoUsd::new(6), at(1));
        let mark = spend.post(at(2), PicoUsd::new(20));
        stranded.add(&spend, PicoUsd::new(20), mark, at(2));
        stranded.reconcile(&mut spend, PicoUsd::new(15), at(2));
        // Four of the first hour, which leave with it, and five of the second.
        assert_eq!(counted(&spend, &stranded, 2), (9, 9));
        assert_eq!(counted(&spend, &stranded, 26), (5, 5));
        // Whoever finds out even more can say so.
        stranded.reconcile(&mut spend, PicoUsd::new(3), at(26));
        assert_eq!(counted(&spend, &stranded, 26), (2, 2));
    }

    #[test]
    fn a_remainder_takes_bounded_room() {
        let crashes: Vec<_> = (0..1_000).map(|crash| (crash / 4, 1)).collect();
        let (_, stranded) = crashed(&crashes);
        assert!(stranded.0.len() <= 25, "{}", stranded.0.len());
    }
}
