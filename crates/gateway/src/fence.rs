//! Until when a replica may serve by what it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;

/// Closed, unless somebody opens it for a time: whoever is sure that what this process knows of
/// keys and budgets is not too old. By the monotonic clock, which goes on while a process is
/// paused.
#[derive(Debug)]
pub struct Fence {
    clock: Arc<dyn Clock>,
    /// In microseconds of the clock's monotonic time.
    open_until: AtomicU64,
}

impl Fence {
    /// A fence that is closed.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            open_until: AtomicU64::new(0),
        }
    }

    /// Calls pass until then, on the clock's monotonic time.
    pub fn open_until(&self, until: Duration) {
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.open_until.store(micros, Ordering::Relaxed);
    }

    /// No call passes until it is opened again.
    pub fn close(&self) {
        self.open_until.store(0, Ordering::Relaxed);
    }

    /// Whether calls pass.
    pub fn is_open(&self) -> bool {
        let now = self.clock.elapsed().as_micros();
        now < u128::from(self.open_until.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::*;

    #[test]
    fn it_closes_by_itself() {
        let clock = Arc::new(ManualClock::default());
        let fence = Fence::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert!(!fence.is_open());
        fence.open_until(clock.elapsed() + Duration::from_secs(2));
        assert!(fence.is_open());
        clock.advance(Duration::from_secs(2));
        assert!(!fence.is_open());
        fence.open_until(clock.elapsed() + Duration::from_secs(2));
        fence.close();
        assert!(!fence.is_open());
    }
}
