//! Distributions with the bounds that the conventions advise.

use std::marker::PhantomData;

/// 14 bounds make 15 buckets, for durations and for tokens.
pub(super) const BOUNDS: usize = 14;

/// What a distribution is of.
pub(super) trait Measure {
    /// The upper bound of a bucket, in whole units.
    fn bound(bucket: usize) -> u64;
    /// Whole units in an exported one.
    const PER_EXPORTED: f64;
}

/// Durations in microseconds, exported in seconds: 0.01, 0.02, 0.04 … 81.92 s.
#[derive(Debug, Clone)]
pub(super) enum Seconds {}

/// Tokens: 1, 4, 16 … 4^13.
#[derive(Debug, Clone)]
pub(super) enum Tokens {}

impl Measure for Seconds {
    fn bound(bucket: usize) -> u64 {
        10_000 << bucket
    }
    const PER_EXPORTED: f64 = 1e6;
}

impl Measure for Tokens {
    fn bound(bucket: usize) -> u64 {
        1 << (2 * bucket)
    }
    const PER_EXPORTED: f64 = 1.0;
}

/// A distribution.
#[derive(Debug, Clone)]
pub(super) struct Histogram<M> {
    pub(super) counts: [u64; BOUNDS + 1],
    /// In whole units.
    pub(super) sum: u64,
    of: PhantomData<M>,
}

impl<M> Default for Histogram<M> {
    fn default() -> Self {
        Self {
            counts: [0; BOUNDS + 1],
            sum: 0,
            of: PhantomData,
        }
    }
}

impl<M: Measure> Histogram<M> {
    /// Adds one value, in whole units. A bound belongs to the bucket below it.
    pub(super) fn add(&mut self, value: u64) {
        let bucket = (0..BOUNDS).find(|bucket| value <= M::bound(*bucket));
        self.counts[bucket.unwrap_or(BOUNDS)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds all values of another.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum, as exported.
    pub(super) fn exported_sum(&self) -> f64 {
        self.sum as f64 / M::PER_EXPORTED
    }

    /// The bounds, as exported.
    pub(super) fn bounds() -> [f64; BOUNDS] {
        std::array::from_fn(|bucket| M::bound(bucket) as f64 / M::PER_EXPORTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_conventions() {
        let text = |bounds: [f64; BOUNDS]| bounds.map(|bound| format!("{bound:.2}")).join(" ");
        assert_eq!(
            text(Histogram::<Seconds>::bounds()),
            "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92"
        );
        assert!(text(Histogram::<Tokens>::bounds()).ends_with(" 16777216.00 67108864.00"));
    }

    #[test]
    fn a_value_is_in_one_bucket() {
        let mut histogram = Histogram::<Seconds>::default();
        for micros in [0, 10_000, 10_001, 81_920_000, 81_920_001] {
            histogram.add(micros);
        }
        assert_eq!(histogram.counts[..2], [2, 1]);
        assert_eq!(histogram.counts[BOUNDS - 1..], [1, 1]);
        assert_eq!((histogram.count(), histogram.sum), (5, 163_860_002));
    }
}
