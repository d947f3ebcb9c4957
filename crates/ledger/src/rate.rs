//! Rates by GCRA: a bucket fills by what is taken and drains at a constant pace.
//!
//! All arithmetic is exact: a bucket counts in units of one sixty-millionth, so that a pace per
//! minute is a whole number per microsecond.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much may be taken, and how fast it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateTerms {
    per_minute: u64,
    burst: u64,
}

/// 10¹¹ per minute: times a minute's microseconds this fits 64 bits.
pub const RATE_MAX: u64 = 100_000_000_000;
/// Microseconds in a minute: what one unit is divided into.
const PARTS: u64 = 60_000_000;

/// The numbers do not make a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate and its burst are at most {RATE_MAX}")]
pub struct RateTermsError;

impl RateTerms {
    /// `per_minute` units a minute in the long run, and `burst` of them at once. Zero of either
    /// refuses everything.
    ///
    /// # Errors
    ///
    /// [`RateTermsError`] above [`RATE_MAX`].
    pub const fn new(per_minute: u64, burst: u64) -> Result<Self, RateTermsError> {
        if per_minute > RATE_MAX || burst > RATE_MAX {
            return Err(RateTermsError);
        }
        Ok(Self { per_minute, burst })
    }

    /// A minute's worth may be taken at once.
    ///
    /// # Errors
    ///
    /// [`RateTermsError`] above [`RATE_MAX`].
    pub const fn per_minute(per_minute: u64) -> Result<Self, RateTermsError> {
        Self::new(per_minute, per_minute)
    }

    /// A replica's part of it, of so many: pace and burst are divided, and at least one unit is
    /// left of each.
    pub(crate) fn part(self, replicas: u32) -> Self {
        if replicas <= 1 {
            return self;
        }
        let part = |whole: u64| (whole / u64::from(replicas)).max(whole.min(1));
        Self {
            per_minute: part(self.per_minute),
            burst: part(self.burst),
        }
    }

    /// What may be taken at once.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// What comes back in a minute.
    pub const fn pace(&self) -> u64 {
        self.per_minute
    }

    /// How long `parts` take to drain, rounded up to a microsecond.
    const fn drain_time(&self, parts: u64) -> Duration {
        Duration::from_micros(parts.div_ceil(self.per_minute))
    }
}

/// Why units cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Not before this much time has passed.
    Until(Duration),
    /// More than the burst: never.
    Never,
}

/// What is left of a limit, for the `x-ratelimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateView {
    /// What can be taken at once.
    pub limit: u64,
    /// What can be taken now.
    pub remaining: u64,
    /// Until when all of the limit is there again.
    pub reset: Duration,
}

/// The state of one rate: empty to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bucket {
    /// What was taken and has not drained, in parts, at `updated_micros`.
    debt: u64,
    updated_micros: u64,
    /// The pace at the last take; zero if this rate is not limited.
    per_minute: u64,
}

impl Bucket {
    fn debt_at(&self, terms: RateTerms, elapsed: Duration) -> u64 {
        let passed = micros(elapsed).saturating_sub(self.updated_micros);
        self.debt
            .saturating_sub(passed.saturating_mul(terms.per_minute))
    }

    /// Whether `count` can be taken at `elapsed`, which is time since the process began, of this
    /// replica's part. What is more than the part's burst, but not more than the whole one's, can
    /// be where nothing else was taken.
    pub(crate) fn check(
        &self,
        whole: RateTerms,
        replicas: u32,
        count: u64,
        elapsed: Duration,
    ) -> Result<(), NoRoom> {
        let terms = whole.part(replicas);
        if count == 0 {
            return Ok(());
        }
        if count > whole.burst || terms.per_minute == 0 {
            return Err(NoRoom::Never);
        }
        let room = terms.burst.saturating_sub(count) * PARTS;
        let debt = self.debt_at(terms, elapsed);
        match debt.checked_sub(room) {
            None | Some(0) => Ok(()),
            Some(excess) => Err(NoRoom::Until(terms.drain_time(excess))),
        }
    }

    /// Takes `count`, whether there is room or not.
    pub(crate) fn take(&mut self, terms: RateTerms, count: u64, elapsed: Duration) {
        self.debt = self.debt_at(terms, elapsed);
        self.updated_micros = self.updated_micros.max(micros(elapsed));
        self.per_minute = terms.per_minute;
        self.debt = self.debt.saturating_add(count.saturating_mul(PARTS));
    }

    /// Takes `count` more for a call that was counted before; nothing if it was not, since its
    /// rate is not limited.
    pub(crate) fn add(&mut self, count: u64) {
        if self.per_minute > 0 {
            self.debt = self.debt.saturating_add(count.saturating_mul(PARTS));
        }
    }

    /// Gives `count` back.
    pub(crate) fn give_back(&mut self, count: u64) {
        self.debt = self.debt.saturating_sub(count.saturating_mul(PARTS));
    }

    /// A bucket that holds so many units.
    pub(crate) fn holding(terms: RateTerms, debt: u64, elapsed: Duration) -> Self {
        Self {
            debt: debt.saturating_mul(PARTS),
            updated_micros: micros(elapsed),
            per_minute: terms.per_minute,
        }
    }

    /// How many units it holds, rounded up.
    pub(crate) fn held(&self, terms: RateTerms, elapsed: Duration) -> u64 {
        self.debt_at(terms, elapsed).div_ceil(PARTS)
    }

    /// The whole rate that it is one of `replicas` parts of, as far as its pace tells; none if
    /// nothing was taken.
    pub(crate) fn terms(&self, replicas: u32) -> Option<RateTerms> {
        let per_minute = self.per_minute.saturating_mul(u64::from(replicas.max(1)));
        let per_minute = per_minute.min(RATE_MAX);
        (per_minute > 0).then_some(RateTerms {
            per_minute,
            burst: per_minute,
        })
    }

    /// One of `replicas` parts of what it holds.
    pub(crate) fn divide(&mut self, replicas: u32) {
        self.debt = self.debt.div_ceil(u64::from(replicas.max(1)));
    }

    pub(crate) fn view(&self, terms: RateTerms, elapsed: Duration) -> RateView {
        let debt = self.debt_at(terms, elapsed);
        RateView {
            limit: terms.burst,
            remaining: (terms.burst * PARTS).saturating_sub(debt) / PARTS,
            reset: match terms.per_minute {
                0 => Duration::ZERO,
                _ => terms.drain_time(debt),
            },
        }
    }

    /// Whether all that was taken has drained: it is as good as new.
    pub(crate) fn is_drained(&self, elapsed: Duration) -> bool {
        let passed = micros(elapsed).saturating_sub(self.updated_micros);
        self.debt <= passed.saturating_mul(self.per_minute)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over any stretch of time no more is let through than the burst and what came back.
        #[test]
        fn no_stretch_of_time_lets_more_through(
            per_minute in 1_u64..10_000, burst in 1_u64..1_000,
            calls in proptest::collection::vec((0_u64..2_000_000, 1_u64..1_200), 1..60),
        ) {
            let terms = RateTerms::new(per_minute, burst).unwrap();
            let mut bucket = Bucket::default();
            let mut now = 0;
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (gap, count) in calls {
                now += gap;
                let elapsed = Duration::from_micros(now);
                match bucket.check(terms, 1, count, elapsed) {
                    Ok(()) => {
                        bucket.take(terms, count, elapsed);
                        taken.push((now, count));
                    }
                    Err(NoRoom::Never) => prop_assert!(count > burst),
                    Err(NoRoom::Until(wait)) => {
                        // The time to come back is honest, to the microsecond.
                        prop_assert!(bucket.check(terms, 1, count, elapsed + wait).is_ok());
                        let before = elapsed + wait - Duration::from_micros(1);
                        prop_assert!(bucket.check(terms, 1, count, before).is_err());
                    }
                }
            }
            for (from, (start, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, count) in &taken[from..] {
                    sum += u128::from(*count);
                    let came_back = u128::from(end - start) * u128::from(per_minute);
                    prop_assert!(sum * u128::from(PARTS) <= u128::from(burst * PARTS) + came_back);
                }
            }
        }

        #[test]
        fn what_is_given_back_was_never_taken(count in 1_u64..100, later in 0_u64..100_000_000) {
            let terms = RateTerms::new(60, 100).unwrap();
            let mut bucket = Bucket::default();
            bucket.take(terms, count, Duration::ZERO);
            bucket.give_back(count);
            let view = bucket.view(terms, Duration::from_micros(later));
            prop_assert_eq!((view.remaining, view.reset), (100, Duration::ZERO));
        }
    }

    #[test]
    fn headers_say_what_is_left() {
        let terms = RateTerms::per_minute(60).unwrap();
        let mut bucket = Bucket::default();
        bucket.take(terms, 45, Duration::ZERO);
        let view = bucket.view(terms, Duration::from_secs(5));
        let expected = RateView {
            limit: 60,
            remaining: 20,
            reset: Duration::from_secs(40),
        };
        assert_eq!(view, expected);
    }

    #[test]
    fn zero_refuses_everything_and_the_largest_rate_does_not_overflow() {
        let nothing = RateTerms::per_minute(0).unwrap();
        let check = |terms, count| Bucket::default().check(terms, 1, count, Duration::MAX);
        assert_eq!(check(nothing, 1), Err(NoRoom::Never));
        let largest = RateTerms::per_minute(RATE_MAX).unwrap();
        assert_eq!(check(largest, RATE_MAX), Ok(()));
        assert!(RateTerms::per_minute(RATE_MAX + 1).is_err());
    }

    #[test]
    fn replicas_have_a_part_each_and_let_large_calls_through_one_at_a_time() {
        let terms = RateTerms::per_minute(600).unwrap();
        let mut bucket = Bucket::default();
        let now = Duration::ZERO;
        assert_eq!(bucket.check(terms, 3, 601, now), Err(NoRoom::Never));
        assert_eq!(bucket.check(terms, 3, 500, now), Ok(()));
        bucket.take(terms.part(3), 500, now);
        // At 200 a minute.
        let wait = NoRoom::Until(Duration::from_secs(150));
        assert_eq!(bucket.check(terms, 3, 500, now), Err(wait));
        let one = RateTerms::per_minute(1).unwrap();
        assert_eq!(one.part(3), one, "each replica serves somebody");
        let none = RateTerms::per_minute(0).unwrap();
        assert_eq!(none.part(3), none);
    }
}
