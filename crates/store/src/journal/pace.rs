//! How long the writer lets records gather: longer while the processors are busy.
//!
//! A commit costs a busy processor as much as several calls do, its switches between threads
//! included, and whoever waits for one then waits for the processor more than for the disk. With
//! processors to spare the same wait is one that nobody needed.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The threads that serve calls.
pub trait Workers: fmt::Debug + Send + Sync {
    /// What they have done since they began.
    fn worked(&self) -> Worked;
}

/// What threads have done since they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worked {
    /// How long each was at work, on average, or would have been had the processor not been
    /// another's.
    pub busy: Duration,
    /// How long they have been there.
    pub elapsed: Duration,
}

/// 50 µs: what a thread's sleep takes in any case. It costs next to nothing where nobody comes back,
/// and shows when they begin to.
const REST_MIN: Duration = Duration::from_micros(50);
/// 1 ms: forty calls of one processor. A commit takes as long on a slow disk; a quarter of one on a
/// common disk.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// 4 ms: a commit of a common disk. Calls that wait for a busy processor wait as long.
const PAUSE_BUSY_MAX: Duration = Duration::from_millis(4);
/// 20 ms: workers say what they did when they run out of work, every few milliseconds.
const WINDOW: Duration = Duration::from_millis(20);

/// How long pauses may be now.
#[derive(Debug, Default)]
pub(super) struct Pace {
    workers: Option<Arc<dyn Workers>>,
    before: Worked,
    is_busy: bool,
}

impl Pace {
    /// By what these workers do; the shorter pauses without.
    pub(super) fn of(workers: Option<Arc<dyn Workers>>) -> Self {
        Self {
            workers,
            ..Self::default()
        }
    }

    /// Looks at the workers again, if there is anything new to see.
    pub(super) fn look(&mut self) {
        let Some(workers) = &self.workers else {
            return;
        };
        let now = workers.worked();
        let elapsed = now.elapsed.saturating_sub(self.before.elapsed);
        if elapsed < WINDOW {
            return;
        }
        // More than half: what a batch's calls take is more than what its commit takes.
        self.is_busy = now.busy.saturating_sub(self.before.busy) * 2 > elapsed;
        self.before = now;
    }

    /// How long a record may wait for others that nobody waits for either.
    pub(super) const fn gathering(&self) -> Duration {
        if self.is_busy {
            PAUSE_BUSY_MAX
        } else {
            PAUSE_MAX
        }
    }

    /// How long the writer may rest for calls that come back.
    pub(super) const fn rest(&self) -> RangeInclusive<Duration> {
        REST_MIN..=self.gathering()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Two(Mutex<Worked>);

    impl Workers for Two {
        fn worked(&self) -> Worked {
            *self.0.lock()
        }
    }

    impl Two {
        /// Both are there for `ms` more, and at work for `busy_ms` of it together.
        fn pass(&self, ms: u64, busy_ms: u64) {
            let mut worked = self.0.lock();
            worked.elapsed += Duration::from_millis(ms);
            worked.busy += Duration::from_millis(busy_ms) / 2;
        }
    }

    #[test]
    fn pauses_are_longer_while_workers_are_busy() {
        let two = Arc::new(Two::default());
        let mut pace = Pace::of(Some(Arc::clone(&two) as Arc<dyn Workers>));
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_MAX);
        two.pass(50, 90);
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_BUSY_MAX);
        assert_eq!(*pace.rest().end(), PAUSE_BUSY_MAX);
        // One of two has nothing to do: a processor is free to commit.
        two.pass(50, 50);
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_MAX);
    }

    #[test]
    fn a_moment_is_too_short_to_tell() {
        let two = Arc::new(Two::default());
        let mut pace = Pace::of(Some(Arc::clone(&two) as Arc<dyn Workers>));
        two.pass(50, 100);
        pace.look();
        // Together they were there for more than the window.
        two.pass(15, 0);
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_BUSY_MAX, "still as it was");
        two.pass(15, 0);
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_MAX);
    }

    #[test]
    fn without_workers_to_ask_pauses_are_short() {
        let mut pace = Pace::of(None);
        pace.look();
        assert_eq!(pace.gathering(), PAUSE_MAX);
    }
}
