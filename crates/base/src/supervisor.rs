//! No bare `tokio::spawn`: a task belongs to a supervisor that drains it.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns a group of tasks: they start through it, hear from it that it is time to stop, and are
/// waited for. Clones share one group.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Supervisor {
    /// A supervisor with no task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. A panic in it is logged where tokio reports it and ends that task alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where tasks are given a supervisor"
    )]
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(tokio::spawn(self.tasks.track_future(task)));
    }

    /// Resolves once it is time to stop.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: holds no state of its own.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether it is time to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every task that it is time to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Tells the tasks to stop and waits until they have, for `patience` at most. Returns how
    /// many still run.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.stop();
        self.tasks.close();
        // Elapsed is no error here: what is left is counted.
        drop(tokio::time::timeout(patience, self.tasks.wait()).await);
        self.tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_those_who_stop_and_counts_those_who_do_not() {
        let supervisor = Supervisor::new();
        let obedient = supervisor.clone();
        supervisor.spawn(async move { obedient.stopping().await });
        supervisor.spawn(std::future::pending());
        assert_eq!(supervisor.drain(Duration::from_secs(1)).await, 1);
    }
}
