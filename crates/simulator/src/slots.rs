//! Batch slots: how many calls are worked on at once, who waits, and who went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// The engine's slots. Who waits is served first come, first served.
#[derive(Debug)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    queue_slots: usize,
    running: AtomicUsize,
    running_max: AtomicUsize,
    waiting: AtomicUsize,
    cancelled: AtomicU64,
}

/// A call's place in the batch. Dropping it frees the place at once; unless [`Slot::finish`] was
/// called, the call counts as cancelled.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    outcome: Outcome,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Cancelled,
    Finished,
}

/// How busy the slots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) running: usize,
    pub(crate) running_max: usize,
    pub(crate) waiting: usize,
    pub(crate) cancelled: u64,
}

impl Slots {
    /// Slots for `batch_slots` calls, and room for `queue_slots` to wait.
    pub(crate) fn new(batch_slots: usize, queue_slots: usize) -> Arc<Self> {
        Arc::new(Self {
            // An engine without a slot would keep everybody waiting for ever.
            permits: Arc::new(Semaphore::new(batch_slots.clamp(1, Semaphore::MAX_PERMITS))),
            queue_slots,
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            cancelled: AtomicU64::new(0),
        })
    }

    /// Waits for a slot.
    ///
    /// # Errors
    ///
    /// A 503 if the queue is full.
    ///
    /// # Cancel safety
    ///
    /// Who is dropped loses the place in the queue and counts as cancelled.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Slot, Refusal> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.queue().await?,
        };
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_max.fetch_max(running, Ordering::SeqCst);
        Ok(Slot {
            slots: Arc::clone(self),
            outcome: Outcome::Cancelled,
            _permit: permit,
        })
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut place = QueuePlace {
            slots: self,
            outcome: Outcome::Finished,
        };
        if before >= self.queue_slots {
            return Err(Refusal {
                code: Some("engine_overloaded"),
                retry_after_seconds: Some(1),
                ..Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "All slots are taken and the queue is full.",
                )
            });
        }
        place.outcome = Outcome::Cancelled;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        place.outcome = Outcome::Finished;
        Ok(permit.expect("the semaphore is never closed"))
    }

    /// How busy the slots are now.
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            running: self.running.load(Ordering::SeqCst),
            running_max: self.running_max.load(Ordering::SeqCst),
            waiting: self.waiting.load(Ordering::SeqCst),
            cancelled: self.cancelled.load(Ordering::SeqCst),
        }
    }
}

impl Slot {
    /// Frees the place of a call that came to its end.
    pub(crate) fn finish(mut self) {
        self.outcome = Outcome::Finished;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.outcome == Outcome::Cancelled {
            self.slots.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        // Before the permit goes, so that the next call's `running` never counts this one.
        self.slots.running.fetch_sub(1, Ordering::SeqCst);
    }
}

struct QueuePlace<'a> {
    slots: &'a Slots,
    outcome: Outcome,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        if self.outcome == Outcome::Cancelled {
            self.slots.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        self.slots.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Polls once.
    macro_rules! poll {
        ($future:expr) => {
            $future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        };
    }

    #[test]
    fn those_who_wait_are_served_in_order_and_one_too_many_is_refused() {
        let slots = Slots::new(1, 2);
        let Poll::Ready(Ok(working)) = poll!(pin!(slots.enter())) else {
            panic!("a free slot is taken at once")
        };
        let mut first = pin!(slots.enter());
        let mut second = pin!(slots.enter());
        assert!(poll!(first).is_pending() && poll!(second).is_pending());
        let Poll::Ready(Err(refusal)) = poll!(pin!(slots.enter())) else {
            panic!("the queue has room for two")
        };
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(slots.occupancy().waiting, 2);
        working.finish();
        assert!(poll!(second).is_pending(), "the first in the queue is next");
        let Poll::Ready(Ok(working)) = poll!(first) else {
            panic!("the slot is free again")
        };
        working.finish();
        let occupancy = slots.occupancy();
        assert_eq!((occupancy.running_max, occupancy.cancelled), (1, 0));
    }

    #[test]
    fn who_goes_away_frees_the_slot_and_is_counted() {
        let slots = Slots::new(1, 2);
        let Poll::Ready(Ok(working)) = poll!(pin!(slots.enter())) else {
            panic!("a free slot is taken at once")
        };
        {
            let mut waiting = pin!(slots.enter());
            assert!(poll!(waiting).is_pending());
        }
        drop(working);
        let occupancy = slots.occupancy();
        assert_eq!(
            (occupancy.cancelled, occupancy.running, occupancy.waiting),
            (2, 0, 0)
        );
        assert!(poll!(pin!(slots.enter())).is_ready());
    }
}
