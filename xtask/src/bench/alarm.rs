//! Waking at an exact time. tokio's timers round up to a whole millisecond, which would drown a
//! difference of 0.1 ms and, worse, turn it into a whole one; a thread that sleeps until the next
//! deadline wakes within some tens of microseconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, SystemClock};
use tokio::sync::oneshot;

/// A thread that wakes tasks. It ends when the last handle is dropped.
pub(crate) struct Alarm {
    shared: Arc<Shared>,
}

struct Shared {
    clock: SystemClock,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: BinaryHeap<Reverse<Entry>>,
    has_ended: bool,
}

struct Entry {
    at: Duration,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Alarm {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            queue: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = shared.clone();
        std::thread::spawn(move || thread.wake_in_order());
        Self { shared }
    }

    /// Time since it was started.
    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Resolves `pause` from now.
    pub(crate) async fn after(&self, pause: Duration) {
        self.until(self.now() + pause).await;
    }

    /// Resolves at this time of [`Self::now`].
    pub(crate) async fn until(&self, at: Duration) {
        let (wake, woken) = oneshot::channel();
        self.shared.lock().waiting.push(Reverse(Entry { at, wake }));
        self.shared.changed.notify_one();
        // The thread outlives this handle's waits, so it always wakes.
        drop(woken.await);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_in_order(&self) {
        let mut queue = self.lock();
        while !queue.has_ended {
            let now = self.clock.elapsed();
            while queue
                .waiting
                .peek()
                .is_some_and(|Reverse(entry)| entry.at <= now)
            {
                if let Some(Reverse(entry)) = queue.waiting.pop() {
                    // The task may have been dropped meanwhile.
                    entry.wake.send(()).ok();
                }
            }
            queue = match queue.waiting.peek().map(|Reverse(entry)| entry.at) {
                None => self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let pause = next.saturating_sub(now);
                    self.changed
                        .wait_timeout(queue, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_wake_in_order_and_never_early() {
        let alarm = Alarm::start();
        let start = alarm.now();
        let order = Mutex::new(Vec::new());
        let wait = |millis: u64| {
            let (alarm, order) = (&alarm, &order);
            async move {
                alarm.until(start + Duration::from_millis(millis)).await;
                assert!(alarm.now() >= start + Duration::from_millis(millis));
                order.lock().expect("no panic").push(millis);
            }
        };
        tokio::join!(wait(30), wait(5), wait(15));
        assert_eq!(order.into_inner().expect("no panic"), [5, 15, 30]);
    }
}
