//! Talks to the coordinator for all tenants: one exchange at a time, and whatever comes up
//! meanwhile is in the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Supervisor, TenantId};
use ledger::{ShareAsk, ShareNews, TenantLedger};
use store::JournalError;
use tokio::time::MissedTickBehavior;

use super::rounds::{NotAnswered, Rounds};
use super::{Coordinator, CoordinatorError, Exchanged};
use crate::shared::Shared;

/// 256 accounts of one exchange: some 40 KB each way, and a transaction of milliseconds.
const ASKS_MAX: usize = 256;
/// Once a second the others are told what they should know; so often a coordinator that failed is
/// tried again, and until then nobody waits for it.
const TELLS_EVERY: Duration = Duration::from_secs(1);
/// Four seconds: a transaction takes milliseconds, and a call waits no longer than ten by default.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Two seconds for the last words: a process that ends is killed if it takes too long.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Asks for shares, and gives back what is not needed.
#[derive(Debug)]
pub(crate) struct Clerk {
    coordinator: Arc<dyn Coordinator>,
    rounds: Rounds,
    is_down: AtomicBool,
    /// The coordinator knows what this replica had spent before it began.
    has_told: AtomicBool,
}

impl Clerk {
    pub(crate) fn new(coordinator: Arc<dyn Coordinator>) -> Self {
        Self {
            coordinator,
            rounds: Rounds::new(),
            is_down: AtomicBool::new(false),
            has_told: AtomicBool::new(false),
        }
    }

    /// Whether the last exchange failed.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// A tenant's calls will need more soon.
    pub(crate) fn ask(&self, tenant: TenantId) {
        self.rounds.ask(tenant);
    }

    /// Has what the tenant's ledger noted as needed asked for, and waits for the answer: it is
    /// applied then, and the call tries again.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: what was asked for is given to the tenant all the same.
    pub(crate) async fn answer(&self, tenant: TenantId) -> Result<(), NotAnswered> {
        if self.is_down() {
            return Err(NotAnswered);
        }
        self.rounds.answer(tenant, ANSWER_MAX * 2).await
    }

    /// Talks until the supervisor stops.
    pub(crate) fn start(self: &Arc<Self>, shared: &Arc<Shared>, supervisor: &Supervisor) {
        let clerk = Arc::clone(self);
        let shared = Arc::clone(shared);
        let stopping = supervisor.clone();
        supervisor.spawn(async move {
            let mut second = tokio::time::interval(TELLS_EVERY);
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stopping.stopping() => return,
                    _ = second.tick() => {
                        clerk.talk(&shared, shared.tenants.ids(), true).await;
                    }
                    () = clerk.rounds.asked(), if !clerk.is_down() => {
                        clerk.talk(&shared, Vec::new(), false).await;
                    }
                }
            }
        });
    }

    /// Before the process ends: of each share no more is kept than was used.
    pub(crate) async fn take_leave(&self, shared: &Shared) {
        let told = tokio::time::timeout(LAST_WORDS_MAX, self.tell_all(shared, ShareNews::Last));
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "shares of budgets were not given back"),
            Err(_) => tracing::warn!("shares of budgets were not given back in time"),
        }
    }

    /// Exchanges until nobody needs anything, and these tenants have told what is due. With
    /// `is_due` once at least: how many replicas there are is heard too.
    async fn talk(&self, shared: &Shared, mut due: Vec<TenantId>, is_due: bool) {
        let mut is_first = is_due;
        loop {
            let (number, needing) = self.rounds.begin();
            let written = self.write(shared, needing, &mut due);
            let is_over = written.asks.is_empty() && !is_first;
            is_first = false;
            let talked = match is_over {
                true => Ok(()),
                false => self.send(shared, written).await,
            };
            let is_answered = talked.is_ok();
            if !is_over {
                self.note(shared, talked);
            }
            self.rounds.end(number, is_answered);
            if is_over || !is_answered {
                return;
            }
        }
    }

    /// One exchange's asks: first of those whose calls wait.
    fn write(&self, shared: &Shared, needing: Vec<TenantId>, due: &mut Vec<TenantId>) -> Written {
        let mut written = Written::new(shared);
        self.rounds.deal(needing, ASKS_MAX, |tenant, room| {
            let before = written.asks.len();
            let has_more = written.add(shared, tenant, ShareNews::Needed, room);
            (written.asks.len() - before, has_more)
        });
        while written.asks.len() < ASKS_MAX
            && let Some(tenant) = due.pop()
        {
            let room = ASKS_MAX - written.asks.len();
            if written.add(shared, tenant, ShareNews::Due, room) {
                due.push(tenant);
            }
        }
        written
    }

    /// Says what was asked, and applies the answer.
    async fn send(&self, shared: &Shared, written: Written) -> Result<(), ExchangeError> {
        if !self.has_told.load(Ordering::Relaxed) {
            let told = self.tell_all(shared, ShareNews::Everything).await;
            let told = match told {
                Ok(()) => self.clear_left_behind().await,
                failed => failed,
            };
            if let Err(error) = told {
                written.unanswered(shared);
                return Err(error);
            }
            self.has_told.store(true, Ordering::Relaxed);
        }
        self.exchange(shared, written).await
    }

    async fn exchange(&self, shared: &Shared, written: Written) -> Result<(), ExchangeError> {
        let exchanged = match durable(shared).await {
            Ok(()) => self.answered(written.asks.clone()).await,
            Err(error) => Err(error),
        };
        let exchanged = match exchanged {
            Ok(exchanged) => exchanged,
            Err(error) => {
                written.unanswered(shared);
                if matches!(error, ExchangeError::Coordinator(CoordinatorError::Fenced)) {
                    shared.tenants.for_each_ledger(TenantLedger::revoke_shares);
                    self.has_told.store(false, Ordering::Relaxed);
                }
                return Err(error);
            }
        };
        shared.tenants.share_with(exchanged.replicas);
        let (now, elapsed) = (shared.clock.now(), shared.clock.elapsed());
        for of_tenant in exchanged
            .given
            .chunk_by(|one, next| one.tenant == next.tenant)
        {
            let tenant = of_tenant[0].tenant;
            shared.tenants.with_ledger(tenant, |ledger| {
                for given in of_tenant {
                    ledger.apply_share(given, written.at, now, elapsed);
                }
            });
            shared.tenants.notify(tenant);
        }
        Ok(())
    }

    async fn answered(&self, asks: Vec<ShareAsk>) -> Result<Exchanged, ExchangeError> {
        let exchange = self.coordinator.exchange(asks);
        match tokio::time::timeout(ANSWER_MAX, exchange).await {
            Ok(exchanged) => Ok(exchanged?),
            Err(_) => Err(CoordinatorError::TooSlow.into()),
        }
    }

    /// Tells of all accounts, some at a time.
    async fn tell_all(&self, shared: &Shared, which: ShareNews) -> Result<(), ExchangeError> {
        let mut page = Written::new(shared);
        for tenant in shared.tenants.ids() {
            let mut all = Written::new(shared);
            all.add(shared, tenant, which, usize::MAX);
            let mut rest = all.asks.into_iter();
            while let Some(ask) = rest.next() {
                page.asks.push(ask);
                if page.asks.len() < ASKS_MAX {
                    continue;
                }
                let full = std::mem::replace(&mut page, Written::new(shared));
                if let Err(error) = self.exchange(shared, full).await {
                    page.asks.extend(rest);
                    page.unanswered(shared);
                    return Err(error);
                }
            }
        }
        self.exchange(shared, page).await
    }

    /// Gives back what an earlier life of this replica had and its journal knows nothing of.
    async fn clear_left_behind(&self) -> Result<(), ExchangeError> {
        loop {
            let left = tokio::time::timeout(ANSWER_MAX, self.coordinator.left_behind());
            let left = left.await.map_err(|_| CoordinatorError::TooSlow)??;
            if left.is_empty() {
                return Ok(());
            }
            let nothing = |(tenant, account)| ShareAsk::nothing(tenant, account);
            self.answered(left.into_iter().map(nothing).collect())
                .await?;
        }
    }

    fn note(&self, shared: &Shared, talked: Result<(), ExchangeError>) {
        shared.metrics.share_exchanged(talked.is_ok());
        let was_down = self.is_down.swap(talked.is_err(), Ordering::Relaxed);
        match talked {
            Ok(()) if was_down => tracing::info!("the budgets' coordinator answers again"),
            Err(error) if !was_down => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(
                    %error,
                    cause,
                    "calls go on within this replica's shares of the budgets"
                );
            }
            _ => {}
        }
    }
}

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// What would be said is not on disk: a crash could find more.
    #[error("what was spent is not on disk yet")]
    NotDurable(#[source] JournalError),
    #[error("the disk takes too long to keep what was spent")]
    DiskTooSlow,
}

/// What a crash finds from here on is no more than what was written.
async fn durable(shared: &Shared) -> Result<(), ExchangeError> {
    let all = shared.journal.append_all(&[]);
    let all = all.map_err(ExchangeError::NotDurable)?;
    match tokio::time::timeout(ANSWER_MAX, shared.journal.durable(all)).await {
        Ok(durable) => durable.map_err(ExchangeError::NotDurable),
        Err(_) => Err(ExchangeError::DiskTooSlow),
    }
}

/// An exchange that is being written.
#[derive(Debug)]
struct Written {
    /// On the monotonic clock, before the first ledger was looked into.
    at: Duration,
    asks: Vec<ShareAsk>,
}

impl Written {
    fn new(shared: &Shared) -> Self {
        Self {
            at: shared.clock.elapsed(),
            asks: Vec::new(),
        }
    }

    /// Adds what a tenant has to tell, and says whether there is more.
    fn add(
        &mut self,
        shared: &Shared,
        tenant: TenantId,
        which: ShareNews,
        count_max: usize,
    ) -> bool {
        let (now, elapsed) = (shared.clock.now(), shared.clock.elapsed());
        let asks = shared.tenants.with_ledger(tenant, |ledger| {
            let asks = ledger.share_asks(which, count_max, now, elapsed);
            if !asks.records.is_empty()
                && let Err(error) = shared.journal.append_all(&asks.records)
            {
                // What is not written is over-counted after a restart, never under-counted.
                tracing::error!(%error, "leases that were given up could not be journaled");
            }
            asks
        });
        let Some(asks) = asks else { return false };
        self.asks.extend(asks.asks);
        asks.has_more
    }

    fn unanswered(self, shared: &Shared) {
        for ask in self.asks {
            shared
                .tenants
                .with_ledger(ask.tenant, |ledger| ledger.share_unanswered(ask.account));
        }
    }
}
