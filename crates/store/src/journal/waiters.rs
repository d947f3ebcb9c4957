//! Who waits for which record to be durable. Each is woken when its own record is, or when the
//! disk fails: nobody is woken to find that it was somebody else's turn.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use ledger::Lsn;
use parking_lot::Mutex;

use super::JournalError;

/// How far the journal is durable, and why it is not further.
#[derive(Debug, Default)]
pub(super) struct Progress {
    durable: AtomicU64,
    failing: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of records; the second number tells apart those who wait for the same one.
    wakers: BTreeMap<(u64, u64), Waker>,
    next_ticket: u64,
    fault: Option<JournalError>,
}

impl Progress {
    pub(super) fn starting_at(durable: Lsn) -> Self {
        Self {
            durable: AtomicU64::new(durable.number()),
            ..Self::default()
        }
    }

    pub(super) fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Everything up to `lsn` is on disk. Gives how many waited for that.
    pub(super) fn advance(&self, lsn: Lsn) -> usize {
        self.durable.store(lsn.number(), Ordering::Release);
        let due = {
            let mut waiting = self.waiting.lock();
            waiting.fault = None;
            let later = waiting.wakers.split_off(&(lsn.number() + 1, 0));
            std::mem::replace(&mut waiting.wakers, later)
        };
        self.failing.store(false, Ordering::Release);
        let woken = due.len();
        due.into_values().for_each(Waker::wake);
        woken
    }

    /// The disk took nothing: everybody hears why.
    pub(super) fn fail(&self, fault: JournalError) {
        let all = {
            let mut waiting = self.waiting.lock();
            waiting.fault = Some(fault);
            std::mem::take(&mut waiting.wakers)
        };
        self.failing.store(true, Ordering::Release);
        all.into_values().for_each(Waker::wake);
    }

    /// Why the disk takes nothing, while it does not.
    pub(super) fn fault(&self) -> Option<JournalError> {
        self.waiting.lock().fault.clone()
    }

    pub(super) fn wait_for(&self, lsn: Lsn) -> Durable<'_> {
        Durable {
            progress: self,
            lsn,
            ticket: None,
        }
    }

    /// How many wait.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.lock().wakers.len()
    }
}

/// Resolves once a record is on disk. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Durable<'a> {
    progress: &'a Progress,
    lsn: Lsn,
    ticket: Option<u64>,
}

impl Future for Durable<'_> {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let progress = self.progress;
        if progress.durable() >= self.lsn {
            return Poll::Ready(Ok(()));
        }
        let mut waiting = progress.waiting.lock();
        // Again, under the lock: the writer stores first and takes the lock afterwards.
        if progress.durable() >= self.lsn {
            return Poll::Ready(Ok(()));
        }
        if let Some(fault) = &waiting.fault {
            return Poll::Ready(Err(fault.clone()));
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            waiting.next_ticket += 1;
            waiting.next_ticket
        });
        waiting
            .wakers
            .insert((self.lsn.number(), ticket), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let key = (self.lsn.number(), ticket);
            self.progress.waiting.lock().wakers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(durable: &mut Durable<'_>, counter: &Arc<Counter>) -> Poll<Result<(), JournalError>> {
        let waker = Waker::from(Arc::clone(counter));
        Pin::new(durable).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn only_those_whose_record_is_durable_are_woken() {
        let progress = Progress::starting_at(Lsn::ZERO);
        let (early, late) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let mut first = progress.wait_for(Lsn::new(1));
        let mut third = progress.wait_for(Lsn::new(3));
        assert!(poll(&mut first, &early).is_pending());
        assert!(poll(&mut third, &late).is_pending());
        progress.advance(Lsn::new(2));
        assert_eq!(early.0.load(Ordering::SeqCst), 1);
        assert_eq!(late.0.load(Ordering::SeqCst), 0);
        assert_eq!(poll(&mut first, &early), Poll::Ready(Ok(())));
        assert!(poll(&mut third, &late).is_pending());
    }

    #[test]
    fn a_dropped_waiter_leaves_nothing_behind() {
        let progress = Progress::starting_at(Lsn::ZERO);
        let counter = Arc::new(Counter::default());
        let mut waiter = progress.wait_for(Lsn::new(1));
        assert!(poll(&mut waiter, &counter).is_pending());
        assert_eq!(progress.waiting_count(), 1);
        drop(waiter);
        assert_eq!(progress.waiting_count(), 0);
    }

    #[test]
    fn a_fault_wakes_all_and_passes_with_the_next_success() {
        let progress = Progress::starting_at(Lsn::ZERO);
        let counter = Arc::new(Counter::default());
        let mut waiter = progress.wait_for(Lsn::new(1));
        assert!(poll(&mut waiter, &counter).is_pending());
        progress.fail(JournalError::DiskFull);
        assert_eq!(
            poll(&mut waiter, &counter),
            Poll::Ready(Err(JournalError::DiskFull))
        );
        assert!(progress.is_failing());
        progress.advance(Lsn::new(1));
        assert!(!progress.is_failing());
        assert_eq!(poll(&mut waiter, &counter), Poll::Ready(Ok(())));
    }
}
