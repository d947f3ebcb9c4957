//! Chance that a seed determines.

use base::{Entropy as _, SeededEntropy};

/// Everything that a run leaves to chance is drawn here, in order.
#[derive(Debug)]
pub(crate) struct Dice {
    entropy: SeededEntropy,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entropy: SeededEntropy::new(seed),
        }
    }

    /// A number below `bound`, which is not zero. The bias of the remainder is of no matter here.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.entropy.next_u64() % bound
    }

    /// A number of `[from, to)`.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn bits(&self) -> u128 {
        u128::from(self.entropy.next_u64()) << 64 | u128::from(self.entropy.next_u64())
    }
}
