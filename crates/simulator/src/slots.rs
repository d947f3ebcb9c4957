//! Batch slots: how many calls are worked on at once, who waits, and who went away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::refusal::Refusal;

/// The engine's slots. Who waits is served by priority, lower first, and then first come, first
/// served.
#[derive(Debug)]
pub(crate) struct Slots {
    queue: Mutex<Queue>,
    queue_slots: usize,
    running: AtomicUsize,
    running_max: AtomicUsize,
    cancelled: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    arrivals: u64,
    /// Who waits, in the order in which they are served.
    waiting: BTreeMap<Turn, oneshot::Sender<()>>,
}

/// When it is whose turn: the priority, then the arrival.
type Turn = (i64, u64);

/// A call's place in the batch. Dropping it frees the place at once; unless [`Slot::finish`] was
/// called, the call counts as cancelled.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    outcome: Outcome,
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
            queue: Mutex::new(Queue {
                // An engine without a slot would keep everybody waiting for ever.
                free: batch_slots.max(1),
                arrivals: 0,
                waiting: BTreeMap::new(),
            }),
            queue_slots,
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
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
    pub(crate) async fn enter(self: &Arc<Self>, priority: i64) -> Result<Slot, Refusal> {
        let Some(place) = self.join(priority)? else {
            return Ok(self.begin());
        };
        place.wait().await;
        Ok(self.begin())
    }

    /// Takes a free slot, or a place in the queue.
    fn join(self: &Arc<Self>, priority: i64) -> Result<Option<QueuePlace>, Refusal> {
        let mut queue = self.queue.lock();
        if queue.free > 0 {
            queue.free -= 1;
            return Ok(None);
        }
        if queue.waiting.len() >= self.queue_slots {
            return Err(Refusal {
                code: Some("engine_overloaded"),
                retry_after_seconds: Some(1),
                ..Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "All slots are taken and the queue is full.",
                )
            });
        }
        queue.arrivals += 1;
        let turn = (priority, queue.arrivals);
        let (call, called) = oneshot::channel();
        queue.waiting.insert(turn, call);
        Ok(Some(QueuePlace {
            slots: Arc::clone(self),
            turn,
            called,
            outcome: Outcome::Cancelled,
        }))
    }

    /// Counts a call that has a slot.
    fn begin(self: &Arc<Self>) -> Slot {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_max.fetch_max(running, Ordering::SeqCst);
        Slot {
            slots: Arc::clone(self),
            outcome: Outcome::Cancelled,
        }
    }

    /// Hands a slot to who is next, or keeps it free.
    fn release(&self) {
        let mut queue = self.queue.lock();
        while let Some((_, next)) = queue.waiting.pop_first() {
            // Whoever went away meanwhile is not there to be called.
            if next.send(()).is_ok() {
                return;
            }
        }
        queue.free += 1;
    }

    /// How busy the slots are now.
    pub(crate) fn occupancy(&self) -> Occupancy {
        Occupancy {
            running: self.running.load(Ordering::SeqCst),
            running_max: self.running_max.load(Ordering::SeqCst),
            waiting: self.queue.lock().waiting.len(),
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
        // Before the place goes, so that the next call's `running` never counts this one.
        self.slots.running.fetch_sub(1, Ordering::SeqCst);
        self.slots.release();
    }
}

struct QueuePlace {
    slots: Arc<Slots>,
    turn: Turn,
    called: oneshot::Receiver<()>,
    outcome: Outcome,
}

impl QueuePlace {
    async fn wait(mut self) {
        let called = (&mut self.called).await;
        called.expect("who waits is in the queue until called");
        self.outcome = Outcome::Finished;
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if self.outcome == Outcome::Finished {
            return;
        }
        self.slots.cancelled.fetch_add(1, Ordering::SeqCst);
        let was_waiting = self.slots.queue.lock().waiting.remove(&self.turn).is_some();
        if !was_waiting {
            // Called, and gone before the call was heard: the slot goes on to the next.
            self.slots.release();
        }
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
        let Poll::Ready(Ok(working)) = poll!(pin!(slots.enter(0))) else {
            panic!("a free slot is taken at once")
        };
        let mut first = pin!(slots.enter(0));
        let mut second = pin!(slots.enter(0));
        assert!(poll!(first).is_pending() && poll!(second).is_pending());
        let Poll::Ready(Err(refusal)) = poll!(pin!(slots.enter(0))) else {
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
        let Poll::Ready(Ok(working)) = poll!(pin!(slots.enter(0))) else {
            panic!("a free slot is taken at once")
        };
        {
            let mut waiting = pin!(slots.enter(0));
            assert!(poll!(waiting).is_pending());
        }
        drop(working);
        let occupancy = slots.occupancy();
        assert_eq!(
            (occupancy.cancelled, occupancy.running, occupancy.waiting),
            (2, 0, 0)
        );
        assert!(poll!(pin!(slots.enter(0))).is_ready());
    }

    #[test]
    fn a_lower_priority_is_earlier_and_a_call_that_nobody_hears_is_passed_on() {
        let slots = Slots::new(1, 4);
        let Poll::Ready(Ok(working)) = poll!(pin!(slots.enter(0))) else {
            panic!("a free slot is taken at once")
        };
        let mut late = pin!(slots.enter(5));
        let mut early = Box::pin(slots.enter(-5));
        let mut middle = pin!(slots.enter(0));
        for waiting in [
            &mut late as &mut (dyn Future<Output = _> + Unpin),
            &mut early,
            &mut middle,
        ] {
            let mut waiting = std::pin::Pin::new(waiting);
            assert!(poll!(waiting).is_pending());
        }
        working.finish();
        // It was called; it never heard.
        drop(early);
        assert!(poll!(late).is_pending());
        let Poll::Ready(Ok(working)) = poll!(middle) else {
            panic!("the slot went on")
        };
        working.finish();
        assert!(poll!(late).is_ready());
        assert_eq!(
            slots.occupancy().cancelled,
            2,
            "the one that never heard, and the last"
        );
    }
}
