//! Every wait on the outside world has a deadline, taken from the request's time budget.

use std::time::Duration;

use crate::Clock;

/// A point on a [`Clock`]'s monotonic time by which something must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Duration,
}

impl Deadline {
    /// The point `budget` from now.
    pub fn after(clock: &dyn Clock, budget: Duration) -> Self {
        Self {
            at: clock.elapsed().saturating_add(budget),
        }
    }

    /// What is left of the time; nothing once it has passed.
    pub fn remaining(self, clock: &dyn Clock) -> Duration {
        self.at.saturating_sub(clock.elapsed())
    }

    /// Whether it has passed.
    pub fn has_passed(self, clock: &dyn Clock) -> bool {
        self.remaining(clock).is_zero()
    }

    /// The earlier of this deadline and one `budget` from now.
    pub fn at_most(self, clock: &dyn Clock, budget: Duration) -> Self {
        self.min(Self::after(clock, budget))
    }
}
