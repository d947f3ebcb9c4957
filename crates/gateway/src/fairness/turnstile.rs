//! The scheduler for tasks that wait.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, TenantId};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::estimate::PlaceInLine;
use super::options::FairnessOptions;
use super::scheduler::{Scheduler, SchedulerView, TenantView};
use super::ticket::{CallId, Offer, Refused, TenantTerms, Ticket, Tokens};

/// What tasks pass on their way to an upstream.
///
/// One short lock, never held across an await. A call that need not wait allocates nothing.
#[derive(Debug)]
pub struct Turnstile {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    /// Who is to be woken, by the call's slot.
    wakers: Vec<Option<oneshot::Sender<()>>>,
}

/// Those to wake once the lock is free. 4: an end frees one place, rarely a few.
type Woken = SmallVec<[oneshot::Sender<()>; 4]>;

/// A call that was let in: with a place, or into the queue.
#[derive(Debug)]
pub enum Entry {
    /// It may be sent.
    Placed(Place),
    /// It waits.
    Waiting(Waiting),
}

/// Why a call gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// It may not even wait.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It waited as long as it could.
    #[error("no place became free while the call could wait")]
    OutOfPatience {
        /// When there will probably be a place.
        retry_after: Duration,
    },
}

impl Turnstile {
    /// A turnstile in front of an upstream that takes `limit` calls at once.
    pub fn new(options: FairnessOptions, limit: u32, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(options, limit),
                wakers: Vec::new(),
            }),
            clock,
        })
    }

    /// Waits for a place, for as long as the ticket's patience lasts.
    ///
    /// # Errors
    ///
    /// [`EnterError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue, and gives back a place that it had just been given.
    pub async fn enter(self: &Arc<Self>, ticket: &Ticket) -> Result<Place, EnterError> {
        match self.begin(ticket)? {
            Entry::Placed(place) => Ok(place),
            Entry::Waiting(waiting) => waiting.placed().await,
        }
    }

    /// Takes a place or a position in the queue, without waiting.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn begin(self: &Arc<Self>, ticket: &Ticket) -> Result<Entry, Refused> {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let call = match state.scheduler.offer(ticket, now)? {
            Offer::Go(call) => {
                drop(state);
                return Ok(Entry::Placed(self.place(call, ticket)));
            }
            Offer::Wait(call) => call,
        };
        let (waker, woken) = oneshot::channel();
        let slot = call.slot as usize;
        if state.wakers.len() <= slot {
            state.wakers.resize_with(slot + 1, || None);
        }
        state.wakers[slot] = Some(waker);
        let others = state.dispatch(now);
        drop(state);
        wake(others);
        Ok(Entry::Waiting(Waiting {
            turnstile: Arc::clone(self),
            call: Some(call),
            ticket: ticket.clone(),
            woken,
        }))
    }

    /// The upstream takes so many calls at once from now on. Calls under way stay.
    pub fn set_limit(&self, limit: u32) {
        self.change(|scheduler, now| scheduler.set_limit(limit, now));
    }

    /// A tenant's terms, for reservations that have to hold before its first call.
    pub fn set_terms(&self, tenant: TenantId, terms: TenantTerms) {
        self.change(|scheduler, _| scheduler.set_terms(tenant, terms));
    }

    /// A tenant, as it is now.
    pub fn tenant(&self, tenant: TenantId) -> TenantView {
        self.state.lock().scheduler.tenant(tenant)
    }

    /// The upstream, as it is now.
    pub fn view(&self) -> SchedulerView {
        self.state.lock().scheduler.view()
    }

    fn place(self: &Arc<Self>, call: CallId, ticket: &Ticket) -> Place {
        Place {
            turnstile: Arc::clone(self),
            call,
            predicted: Tokens {
                input: ticket.input,
                output: ticket.predicted_output,
            },
            taken: Tokens::default(),
            reported: 0,
        }
    }

    /// Changes the scheduler, gives out what became free and wakes who got it.
    fn change(&self, change: impl FnOnce(&mut Scheduler, Duration)) {
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        change(&mut state.scheduler, now);
        let woken = state.dispatch(now);
        drop(state);
        wake(woken);
    }
}

impl State {
    fn dispatch(&mut self, now: Duration) -> Woken {
        let mut woken = Woken::new();
        while let Some(call) = self.scheduler.dispatch(now) {
            woken.extend(self.wakers[call.slot as usize].take());
        }
        woken
    }
}

fn wake(woken: Woken) {
    for waker in woken {
        // Who no longer listens gives its place back when it is dropped.
        let _is_heard = waker.send(()).is_ok();
    }
}

/// A call in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    turnstile: Arc<Turnstile>,
    /// `None` once it has become a place.
    call: Option<CallId>,
    ticket: Ticket,
    woken: oneshot::Receiver<()>,
}

impl Waiting {
    /// Where it stands; `None` if it has a place by now.
    pub fn place_in_line(&self) -> Option<PlaceInLine> {
        let now = self.turnstile.clock.elapsed();
        let state = self.turnstile.state.lock();
        state.scheduler.place_in_line(self.call?, now)
    }

    /// Waits for the place, for as long as the ticket's patience lasts.
    ///
    /// # Errors
    ///
    /// [`EnterError::OutOfPatience`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue, and gives back a place that it had just been given.
    pub async fn placed(mut self) -> Result<Place, EnterError> {
        let patience = self.ticket.patience;
        let in_time = tokio::time::timeout(patience, &mut self.woken).await;
        // A place that came in the last moment is as good as any.
        let standing = self.place_in_line();
        match (in_time, standing) {
            (Ok(_), _) | (Err(_), None) => {
                let call = self.call.take().expect("it becomes a place once");
                Ok(self.turnstile.place(call, &self.ticket))
            }
            (Err(_), Some(standing)) => Err(EnterError::OutOfPatience {
                retry_after: standing
                    .expected
                    .unwrap_or_default()
                    .max(Duration::from_secs(1)),
            }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let slot = call.slot as usize;
            let now = self.turnstile.clock.elapsed();
            let mut state = self.turnstile.state.lock();
            // The slot is still this call's: it has not ended.
            let own = state.wakers[slot].take();
            state.scheduler.cancel(call, now);
            let woken = state.dispatch(now);
            drop(state);
            drop(own);
            wake(woken);
        }
    }
}

/// One of the upstream's places. Dropping it frees the place and charges what was reported last:
/// nothing if nothing was, for a call that never ran.
#[derive(Debug)]
pub struct Place {
    turnstile: Arc<Turnstile>,
    call: CallId,
    predicted: Tokens,
    taken: Tokens,
    /// Tokens out that the scheduler knows of.
    reported: u32,
}

/// 16 tokens out: half a second of a stream. More often the lock is not worth it.
const REPORT_EVERY: u32 = 16;

impl Place {
    /// What the call has taken up to now: its input once it is sent, its output as it streams.
    /// The scheduler hears of it once it is more than was predicted, every 16 tokens.
    pub fn report(&mut self, taken: Tokens) {
        self.taken = taken;
        let is_surprise =
            taken.output > self.predicted.output || taken.input > self.predicted.input;
        if is_surprise && taken.output >= self.reported.saturating_add(REPORT_EVERY) {
            self.reported = taken.output;
            let mut state = self.turnstile.state.lock();
            state.scheduler.report(self.call, taken);
        }
    }

    /// What was reported last.
    pub fn taken(&self) -> Tokens {
        self.taken
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (call, taken) = (self.call, self.taken);
        self.turnstile
            .change(|scheduler, now| scheduler.finish(call, taken, now));
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;

    use super::super::ticket::Band;
    use super::*;

    fn turnstile(limit: u32) -> Arc<Turnstile> {
        let clock = Arc::new(ManualClock::default());
        Turnstile::new(FairnessOptions::default(), limit, clock)
    }

    fn ticket(tenant: u128) -> Ticket {
        Ticket {
            tenant: TenantId::from_bits(tenant),
            terms: TenantTerms::default(),
            band: Band::Interactive,
            input: 10,
            predicted_output: 20,
            prefix: None,
            patience: Duration::from_secs(5),
        }
    }

    fn charged(turnstile: &Turnstile, tenant: u128) -> u64 {
        turnstile.tenant(TenantId::from_bits(tenant)).charged
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_dropped_goes_to_the_next_and_is_charged_exactly() {
        let turnstile = turnstile(1);
        let mut first = turnstile.enter(&ticket(1)).await.unwrap();
        let second = ticket(2);
        let waiting = turnstile.enter(&second);
        tokio::pin!(waiting);
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(charged(&turnstile, 1), 50);
        first.report(Tokens {
            input: 10,
            output: 40,
        });
        assert_eq!(charged(&turnstile, 1), 90);
        first.report(Tokens {
            input: 11,
            output: 41,
        });
        drop(first);
        assert_eq!(charged(&turnstile, 1), 93);
        let second = waiting.await.unwrap();
        assert_eq!(charged(&turnstile, 2), 50);
        drop(second);
        assert_eq!(charged(&turnstile, 2), 0, "it never ran");
        assert_eq!(turnstile.view().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_is_not_served() {
        let turnstile = turnstile(1);
        let first = turnstile.enter(&ticket(1)).await.unwrap();
        let Entry::Waiting(gives_up) = turnstile.begin(&ticket(2)).unwrap() else {
            panic!("there is one place");
        };
        let Entry::Waiting(stays) = turnstile.begin(&ticket(3)).unwrap() else {
            panic!("there is one place");
        };
        assert_eq!(stays.place_in_line().unwrap().ahead, 1);
        drop(gives_up);
        assert_eq!(stays.place_in_line().unwrap().ahead, 0);
        drop(first);
        assert_eq!(stays.place_in_line(), None);
        // Given a place in the moment in which it leaves: the place is free again.
        drop(stays);
        assert_eq!(turnstile.view().in_flight, 0);
        assert_eq!(turnstile.view().waiting, [0; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let turnstile = turnstile(1);
        let first = turnstile.enter(&ticket(1)).await.unwrap();
        let late = turnstile.enter(&ticket(2)).await;
        assert!(matches!(late, Err(EnterError::OutOfPatience { .. })));
        assert_eq!(turnstile.view().waiting, [0; 3]);
        turnstile.set_limit(2);
        let second = turnstile.enter(&ticket(2)).await.unwrap();
        drop((first, second));
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
