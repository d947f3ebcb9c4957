//! How busy the threads that serve calls are, for the journal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use store::{Worked, Workers};
use tokio::runtime::{Handle, RuntimeMetrics};

/// The workers of an async runtime.
pub(super) struct RuntimeWorkers {
    metrics: RuntimeMetrics,
    clock: Arc<dyn Clock>,
}

impl RuntimeWorkers {
    /// Of the runtime that this is called in.
    pub(super) fn here(clock: Arc<dyn Clock>) -> Self {
        let metrics = Handle::current().metrics();
        Self { metrics, clock }
    }
}

impl Workers for RuntimeWorkers {
    fn worked(&self) -> Worked {
        let count = self.metrics.num_workers();
        let busy = (0..count).map(|worker| self.metrics.worker_total_busy_duration(worker));
        Worked {
            // A runtime has a worker.
            busy: busy.sum::<Duration>() / u32::try_from(count).unwrap_or(u32::MAX).max(1),
            elapsed: self.clock.elapsed(),
        }
    }
}

impl fmt::Debug for RuntimeWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeWorkers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base::{Supervisor, SystemClock};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_counts_and_idleness_does_not() {
        const WORK: Duration = Duration::from_millis(50);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let workers = RuntimeWorkers::here(Arc::clone(&clock));
        let before = workers.worked();
        let supervisor = Supervisor::new();
        supervisor.spawn(async move {
            let begun = clock.elapsed();
            while clock.elapsed().saturating_sub(begun) < WORK {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // A worker says so when it has nothing more to do. Were it not said, this would not end.
        let mut after = before;
        while after.busy.saturating_sub(before.busy) < WORK / 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            after = workers.worked();
        }
        let busy = after.busy.saturating_sub(before.busy);
        let elapsed = after.elapsed.saturating_sub(before.elapsed);
        // One of the two had nothing to do.
        assert!(elapsed >= WORK, "{elapsed:?}");
        assert!(busy < elapsed, "{busy:?} of {elapsed:?}");
    }
}
