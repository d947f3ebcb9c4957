//! What is measured of a ring, and whether it is well. Without I/O.

use serde::{Deserialize, Serialize};

use crate::api::UpgradeRequest;

/// Four buckets to a power of two, up to 2³⁰ µs (18 minutes): a percentile is off by a fifth at
/// most.
const BUCKETS: usize = 120;
/// Of fewer nothing is concluded.
const STORES_MIN: u64 = 10;
const CALLS_MIN: u64 = 100;
/// 50 ms: nobody notices a store that answers within that.
const NOTICED_US: u64 = 50_000;

/// How long something took, each time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durations {
    count: u64,
    /// How many of each bucket; none beyond the last that is not empty.
    buckets: Vec<u32>,
}

impl Durations {
    pub(crate) fn add(&mut self, micros: u64) {
        let bucket = bucket_of(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
    }

    /// The upper edge of the bucket in which the 95th percentile is, in microseconds; 0 of none.
    pub(crate) fn p95_us(&self) -> u64 {
        let rank = (self.count * 95).div_ceil(100);
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank && rank > 0 {
                return upper_edge(bucket);
            }
        }
        0
    }
}

/// Below 4 µs each number has its own.
fn bucket_of(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    ((power - 1) * 4 + quarter).min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (power, quarter) = (bucket / 4 + 1, bucket as u64 % 4);
    ((5 + quarter) << (power - 2)) - 1
}

/// Calls of a ring's tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
}

impl Calls {
    pub(crate) fn failed_permille(self) -> u64 {
        match self.calls {
            0 => 0,
            calls => self.failed * 1_000 / calls,
        }
    }
}

/// A ring, as far as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) stores: u64,
    pub(crate) upgraded: u64,
    pub(crate) current: u64,
    pub(crate) moving: u64,
    pub(crate) failed: u64,
    pub(crate) before: Durations,
    pub(crate) after: Durations,
    pub(crate) calls_before: Calls,
    pub(crate) calls_after: Calls,
}

impl Figures {
    fn tried(&self) -> u64 {
        self.upgraded + self.current + self.moving + self.failed
    }

    /// Why nobody should go on, if nobody should.
    pub(crate) fn trouble(&self, bounds: &UpgradeRequest) -> Option<String> {
        let failed_max = u64::from(bounds.failed_permille_max);
        let tried = self.tried();
        let is_enough = tried >= STORES_MIN || tried >= self.stores;
        if is_enough && self.failed * 1_000 > failed_max * tried {
            return Some(format!(
                "{} of {tried} stores could not be upgraded, or did not answer afterwards",
                self.failed
            ));
        }
        let (before, after) = (self.before.p95_us(), self.after.p95_us());
        let slow = before * (100 + u64::from(bounds.slower_percent_max)) / 100;
        if self.after.count >= STORES_MIN && after > slow.max(NOTICED_US) {
            return Some(format!(
                "stores answer within {after} µs (95th percentile), and did within {before} µs"
            ));
        }
        let (before, after) = (
            self.calls_before.failed_permille(),
            self.calls_after.failed_permille(),
        );
        if self.calls_after.calls >= CALLS_MIN && after > before + failed_max {
            return Some(format!(
                "{after} of 1000 calls fail, and {before} did in the hour before"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_off_by_a_quarter_at_most() {
        for micros in (0..2_000).chain([10_000, 65_536, 1_000_000, 3_600_000_000]) {
            let mut one = Durations::default();
            one.add(micros);
            let told = one.p95_us();
            let most = 1 << 30;
            assert!(told >= micros.min(most - 1), "{micros}: {told}");
            assert!(told <= micros + micros / 4, "{micros}: {told}");
        }
        let mut many = Durations::default();
        (0..95).for_each(|_| many.add(100));
        (0..5).for_each(|_| many.add(1_000_000));
        assert!(many.p95_us() < 128);
        many.add(1_000_000);
        assert!(many.p95_us() >= 1_000_000);
        assert_eq!(Durations::default().p95_us(), 0);
    }

    fn figures(upgraded: u64, failed: u64) -> Figures {
        Figures {
            stores: 1_000,
            upgraded,
            failed,
            ..Figures::default()
        }
    }

    fn is_well(figures: &Figures) -> bool {
        figures.trouble(&UpgradeRequest::default()).is_none()
    }

    #[test]
    fn a_ring_is_halted_by_stores_that_fail() {
        assert!(is_well(&figures(990, 10)));
        assert!(!is_well(&figures(989, 11)));
        // Of nine nothing is concluded, unless they are the whole ring.
        assert!(is_well(&figures(0, 9)));
        let whole = Figures {
            stores: 2,
            ..figures(1, 1)
        };
        assert!(!is_well(&whole));
    }

    #[test]
    fn a_ring_is_halted_by_stores_that_answer_late() {
        let timed = |before: u64, after: u64, times: usize| {
            let mut figures = figures(100, 0);
            (0..times).for_each(|_| figures.before.add(before));
            (0..times).for_each(|_| figures.after.add(after));
            is_well(&figures)
        };
        assert!(timed(40_000, 60_000, 10));
        assert!(!timed(40_000, 120_000, 10));
        assert!(timed(1_000, 40_000, 10), "nobody notices");
        assert!(timed(40_000, 120_000, 9), "too few");
    }

    #[test]
    fn a_ring_is_halted_by_calls_that_fail_more_often_than_before() {
        let called = |before: u64, calls: u64, failed: u64| {
            let calls_before = Calls {
                calls: 1_000,
                failed: before,
            };
            let calls_after = Calls { calls, failed };
            is_well(&Figures {
                calls_before,
                calls_after,
                ..figures(100, 0)
            })
        };
        assert!(called(20, 1_000, 30));
        assert!(!called(20, 1_000, 31));
        assert!(called(0, 99, 99), "too few");
    }
}
