//! Chance that a seed determines, as these experiments need it.

use base::{Entropy as _, SeededEntropy};

#[derive(Debug)]
pub(super) struct Chance(SeededEntropy);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    pub(super) fn bits(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number of `[0, 1)`.
    pub(super) fn unit(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of `[from, to)`.
    pub(super) fn between(&self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// Seconds until the next of so many events a second that happen at random.
    pub(super) fn pause(&self, per_second: f64) -> f64 {
        -(1.0 - self.unit()).ln() / per_second
    }
}
