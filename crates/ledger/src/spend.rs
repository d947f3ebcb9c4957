//! What was spent, in the window that counts.

use base::{PicoUsd, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Window;

/// What was spent in a [`Window`]. Time only moves it forward: when the wall clock jumps back,
/// the latest window that was seen stays the current one, so that nothing is un-spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    window: Window,
    /// How often the window was changed.
    epoch: u32,
    counted: Counted,
    /// The windows before, the latest last: where in the next one their money went.
    carried: Vec<Carried>,
}

/// A window that was changed for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Carried {
    /// Places before this one no longer counted then.
    oldest: i64,
    /// Where the next window has all that counted.
    place: i64,
}

/// Four windows before the one that counts: what was posted before those can no longer be
/// corrected, and leaves with its window.
const CARRIED_MAX: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Counted {
    Total(PicoUsd),
    Calendar {
        start: i64,
        end: i64,
        spent: PicoUsd,
    },
    Rolling(Box<Ring>),
}

/// Where an amount was posted, so that a later correction reaches the same window and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PostedMark {
    epoch: u32,
    place: i64,
}

/// A rolling window of 24 buckets and the one that is filling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    width_micros: i64,
    /// The number of the latest bucket that was seen, counted from 1970.
    newest: i64,
    sum: PicoUsd,
    /// Bucket `n` is at `n` modulo the length.
    buckets: [PicoUsd; BUCKETS],
}

/// 24 whole buckets cover the window; one more is only partly inside, and counts whole.
const BUCKETS: usize = 25;
/// An hour in 24 buckets: 150 seconds each.
const BUCKET_MICROS_PER_HOUR: i64 = 150_000_000;

impl Spend {
    /// Nothing spent yet.
    pub fn new(window: Window, now: Timestamp) -> Self {
        let counted = match (&window, window.calendar(now)) {
            (_, Some((start, end))) => Counted::Calendar {
                start,
                end,
                spent: PicoUsd::ZERO,
            },
            (Window::Rolling { hours }, _) => {
                let width_micros = i64::from(u16::from(*hours)) * BUCKET_MICROS_PER_HOUR;
                Counted::Rolling(Box::new(Ring {
                    width_micros,
                    newest: now.as_micros().div_euclid(width_micros),
                    sum: PicoUsd::ZERO,
                    buckets: [PicoUsd::ZERO; BUCKETS],
                }))
            }
            _ => Counted::Total(PicoUsd::ZERO),
        };
        Self {
            window,
            epoch: 0,
            counted,
            carried: Vec::new(),
        }
    }

    /// The window that counts.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// What counts as spent at `now`.
    pub fn spent(&self, now: Timestamp) -> PicoUsd {
        match &self.counted {
            Counted::Total(spent) => *spent,
            Counted::Calendar { end, spent, .. } if now.as_micros() < *end => *spent,
            Counted::Calendar { .. } => PicoUsd::ZERO,
            Counted::Rolling(ring) => ring.sum_at(now.as_micros()),
        }
    }

    /// Moves on to the window that holds `now`, and never back.
    pub fn advance(&mut self, now: Timestamp) {
        match &mut self.counted {
            Counted::Total(_) => {}
            Counted::Calendar { start, end, spent } => {
                if now.as_micros() >= *end {
                    (*start, *end) = self.window.calendar(now).unwrap_or((*end, i64::MAX));
                    *spent = PicoUsd::ZERO;
                }
            }
            Counted::Rolling(ring) => ring.advance(now.as_micros()),
        }
    }

    /// Counts `amount` as spent at `now`.
    pub fn post(&mut self, now: Timestamp, amount: PicoUsd) -> PostedMark {
        self.advance(now);
        let place = match &mut self.counted {
            Counted::Total(spent) => {
                *spent += amount;
                0
            }
            Counted::Calendar { start, spent, .. } => {
                *spent += amount;
                *start
            }
            Counted::Rolling(ring) => {
                let newest = ring.newest;
                *ring.bucket(newest) += amount;
                ring.sum += amount;
                newest
            }
        };
        let epoch = self.epoch;
        PostedMark { epoch, place }
    }

    /// Takes back `amount` of what was posted at `mark`; nothing if that no longer counts.
    pub fn refund(&mut self, mark: PostedMark, amount: PicoUsd) {
        let Some(place) = self.place(mark) else {
            return;
        };
        match &mut self.counted {
            Counted::Total(spent) => *spent = spent.saturating_sub(amount),
            Counted::Calendar { start, spent, .. } if place == *start => {
                *spent = spent.saturating_sub(amount);
            }
            Counted::Calendar { .. } => {}
            Counted::Rolling(ring) => ring.refund(place, amount),
        }
    }

    /// Whether what was posted at `mark` counts at `now`.
    pub fn still_counts(&self, mark: PostedMark, now: Timestamp) -> bool {
        let Some(place) = self.place(mark) else {
            return false;
        };
        match &self.counted {
            Counted::Total(_) => true,
            Counted::Calendar { start, end, .. } => place == *start && now.as_micros() < *end,
            Counted::Rolling(ring) => place >= ring.oldest_at(now.as_micros()),
        }
    }

    /// Where in the window that counts the money is that was posted at `mark`; none if it
    /// counted no longer when the window was changed.
    fn place(&self, mark: PostedMark) -> Option<i64> {
        let changes = self.epoch.checked_sub(mark.epoch)? as usize;
        let since = self.carried.len().checked_sub(changes)?;
        self.carried[since..]
            .iter()
            .try_fold(mark.place, |place, next| {
                (place >= next.oldest).then_some(next.place)
            })
    }

    /// Counts over another window from `now` on. What counts now is carried along: a change of
    /// configuration un-spends nothing.
    pub fn change_window(&mut self, window: Window, now: Timestamp) {
        self.advance(now);
        let sum = self.spent(now);
        let oldest = match &self.counted {
            Counted::Total(_) => 0,
            Counted::Calendar { start, .. } => *start,
            Counted::Rolling(ring) => ring.oldest_at(now.as_micros()),
        };
        let mut carried = std::mem::take(&mut self.carried);
        let epoch = self.epoch.saturating_add(1);
        *self = Self::new(window, now);
        self.epoch = epoch;
        let place = self.post(now, sum).place;
        carried.push(Carried { oldest, place });
        carried.drain(..carried.len().saturating_sub(CARRIED_MAX));
        self.carried = carried;
    }

    /// The earliest time at which, with nothing more spent, at most `target` counts; none if
    /// that never comes.
    pub fn falls_to(&self, target: PicoUsd, now: Timestamp) -> Option<Timestamp> {
        if target.is_negative() {
            return None;
        }
        if self.spent(now) <= target {
            return Some(now);
        }
        match &self.counted {
            Counted::Total(_) => None,
            Counted::Calendar { end, .. } => Some(Timestamp::from_micros(*end)),
            Counted::Rolling(ring) => Some(ring.falls_to(target)),
        }
    }
}

impl Ring {
    fn bucket(&mut self, number: i64) -> &mut PicoUsd {
        &mut self.buckets[number.rem_euclid(BUCKETS as i64) as usize]
    }

    /// The buckets, oldest first, with their numbers.
    fn oldest_first(&self) -> impl Iterator<Item = (i64, PicoUsd)> {
        (self.newest - BUCKETS as i64 + 1..=self.newest).map(|number| {
            let place = number.rem_euclid(BUCKETS as i64) as usize;
            (number, self.buckets[place])
        })
    }

    /// The number of the oldest bucket that counts.
    fn oldest_at(&self, micros: i64) -> i64 {
        let current = micros.div_euclid(self.width_micros).max(self.newest);
        current - BUCKETS as i64 + 1
    }

    fn sum_at(&self, micros: i64) -> PicoUsd {
        let oldest = self.oldest_at(micros);
        if oldest <= self.newest - BUCKETS as i64 + 1 {
            return self.sum;
        }
        self.oldest_first()
            .filter(|(number, _)| *number >= oldest)
            .map(|(_, spent)| spent)
            .sum()
    }

    fn advance(&mut self, micros: i64) {
        let current = micros.div_euclid(self.width_micros);
        let passed = (current - self.newest).clamp(0, BUCKETS as i64);
        // Of a longer gap only the last buckets exist.
        for number in current - passed + 1..=current {
            let left = std::mem::take(self.bucket(number));
            self.sum -= left;
        }
        self.newest = self.newest.max(current);
    }

    fn refund(&mut self, number: i64, amount: PicoUsd) {
        if number > self.newest - BUCKETS as i64 && number <= self.newest {
            let bucket = self.bucket(number);
            let taken = amount.min(*bucket);
            *bucket -= taken;
            self.sum -= taken;
        }
    }

    /// When enough of the oldest buckets have left; bucket `n` leaves as bucket `n + 25` begins.
    fn falls_to(&self, target: PicoUsd) -> Timestamp {
        let mut left = self.sum;
        let last_needed = self
            .oldest_first()
            .find(|(_, spent)| {
                left -= *spent;
                left <= target
            })
            .map_or(self.newest, |(number, _)| number);
        Timestamp::from_micros((last_needed + BUCKETS as i64).saturating_mul(self.width_micros))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{RollingHours, Zone};

    const HOUR: i64 = 3_600_000_000;

    fn rolling(hours: u16) -> Window {
        Window::Rolling {
            hours: RollingHours::try_from(hours).unwrap(),
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    proptest! {
        /// A bucket counts while any part of it is inside the window: never less than the exact
        /// sum, never more than that of a window one bucket longer.
        #[test]
        fn invariant_5_a_rolling_window_never_counts_less_than_the_exact_sum(
            hours in 1_u16..50,
            posts in proptest::collection::vec((0_i64..3 * HOUR, 0_i128..1_000), 1..60),
        ) {
            let mut spend = Spend::new(rolling(hours), at(0));
            let mut log: Vec<(i64, i128)> = Vec::new();
            let mut now = 0;
            for (gap, amount) in posts {
                now += gap;
                spend.post(at(now), PicoUsd::new(amount));
                log.push((now, amount));
                let in_last = |micros: i64| -> i128 {
                    log.iter().filter(|(time, _)| *time > now - micros).map(|(_, a)| a).sum()
                };
                let span = i64::from(hours) * HOUR;
                let counted = spend.spent(at(now)).pico();
                prop_assert!(counted >= in_last(span));
                prop_assert!(counted <= in_last(span + span / 24));
            }
        }

        #[test]
        fn a_clock_that_jumps_back_never_un_spends(
            daily: bool,
            steps in proptest::collection::vec((-100 * HOUR..100 * HOUR, 1_i128..1_000), 1..40),
        ) {
            let window = if daily { Window::Daily { zone: Zone::UTC } } else { rolling(24) };
            let mut spend = Spend::new(window, at(0));
            let mut now = 0;
            for (step, amount) in steps {
                let before = spend.spent(at(now));
                now += step;
                if step <= 0 {
                    prop_assert!(spend.spent(at(now)) >= before);
                }
                let counted = spend.spent(at(now));
                spend.post(at(now), PicoUsd::new(amount));
                prop_assert_eq!(spend.spent(at(now)), counted + PicoUsd::new(amount));
            }
        }

        /// `falls_to` is honest: at that time it fits, and a moment before it does not.
        #[test]
        fn the_time_to_come_back_is_exact(
            posts in proptest::collection::vec((0_i64..3 * HOUR, 1_i128..1_000), 1..40),
            target in 0_i128..2_000,
        ) {
            let mut spend = Spend::new(rolling(24), at(0));
            let mut now = 0;
            for (gap, amount) in posts {
                now += gap;
                spend.post(at(now), PicoUsd::new(amount));
            }
            let target = PicoUsd::new(target);
            let when = spend.falls_to(target, at(now)).unwrap();
            prop_assert!(spend.spent(when) <= target);
            if when > at(now) {
                prop_assert!(spend.spent(when.minus(Duration::from_micros(1))) > target);
            }
        }
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let mut spend = Spend::new(Window::Daily { zone: Zone::UTC }, at(0));
        let mark = spend.post(at(23 * HOUR), PicoUsd::new(5));
        assert_eq!(spend.spent(at(24 * HOUR - 1)), PicoUsd::new(5));
        assert_eq!(spend.spent(at(24 * HOUR)), PicoUsd::ZERO);
        assert_eq!(
            spend.falls_to(PicoUsd::ZERO, at(23 * HOUR)),
            Some(at(24 * HOUR))
        );
        spend.post(at(25 * HOUR), PicoUsd::new(7));
        spend.refund(mark, PicoUsd::new(5));
        assert_eq!(
            spend.spent(at(25 * HOUR)),
            PicoUsd::new(7),
            "yesterday's correction is not today's"
        );
    }

    #[test]
    fn another_window_carries_what_counts() {
        let mut spend = Spend::new(Window::Daily { zone: Zone::UTC }, at(0));
        let mark = spend.post(at(HOUR), PicoUsd::new(5));
        spend.change_window(rolling(1), at(2 * HOUR));
        assert_eq!(spend.spent(at(2 * HOUR)), PicoUsd::new(5));
        spend.change_window(Window::Total, at(2 * HOUR));
        assert_eq!(spend.spent(at(2 * HOUR)), PicoUsd::new(5));
        spend.refund(mark, PicoUsd::new(3));
        assert_eq!(
            spend.spent(at(2 * HOUR)),
            PicoUsd::new(2),
            "a correction follows the money through the windows"
        );
    }

    #[test]
    fn a_correction_of_what_was_not_carried_changes_nothing() {
        let daily = Window::Daily { zone: Zone::UTC };
        let mut spend = Spend::new(daily.clone(), at(0));
        let yesterday = spend.post(at(HOUR), PicoUsd::new(5));
        let today = spend.post(at(25 * HOUR), PicoUsd::new(7));
        spend.change_window(rolling(24), at(26 * HOUR));
        for _ in 0..CARRIED_MAX {
            assert!(spend.still_counts(today, at(26 * HOUR)));
            assert!(!spend.still_counts(yesterday, at(26 * HOUR)));
            spend.change_window(Window::Total, at(26 * HOUR));
        }
        // Too many changes ago: it stays counted.
        for mark in [yesterday, today] {
            spend.refund(mark, PicoUsd::new(5));
        }
        assert_eq!(spend.spent(at(26 * HOUR)), PicoUsd::new(7));
    }
}
