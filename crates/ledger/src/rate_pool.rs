//! A rate that several replicas take from: one pool for all, of which each leases ahead of need.
//!
//! A unit is taken when it is leased, not when it is used. So all replicas together never take more
//! than the rate allows; what is leased and not yet used ([`Lease::AHEAD`]) may be used later
//! than it was taken.

use std::time::Duration;

use base::TenantId;

use crate::rate::{Bucket, NoRoom};
use crate::{LimitId, RateKind, RateTerms};

/// What is known of a pool is good for half a second: then it is asked before a call is refused.
const KNOWN_FOR: Duration = Duration::from_millis(500);
/// What a replica uses in so long it leases ahead: some exchanges.
const AHEAD_FOR: Duration = Duration::from_millis(200);
/// Ten seconds: what is leased and not used goes back then.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// What a replica tells a pool, and asks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateAsk {
    /// Whose limit it is.
    pub tenant: TenantId,
    /// The limit.
    pub limit: LimitId,
    /// Which of its rates.
    pub kind: RateKind,
    /// What the rate allows to all replicas together.
    pub terms: RateTerms,
    /// What the smallest call that waits lacks; 0 if none waits.
    pub least: u64,
    /// What all calls that wait lack.
    pub need: u64,
    /// With what is leased ahead.
    pub want: u64,
    /// Leased, and not used.
    pub returned: u64,
    /// Used without a lease.
    pub taken: u64,
}

/// What a pool answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateGiven {
    /// Leased: at most what was wanted.
    pub granted: u64,
    /// What the pool holds then: taken and not yet drained, rounded up.
    pub debt: u64,
}

/// The pool of one rate, as whoever keeps it answers: the rule, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct RatePool(Bucket);

impl RatePool {
    /// Answers one ask.
    pub fn answer(&mut self, ask: &RateAsk, elapsed: Duration) -> RateGiven {
        let RateAsk { terms, want, .. } = *ask;
        self.0.take(terms, 0, elapsed);
        self.0.give_back(ask.returned);
        self.0.take(terms, ask.taken, elapsed);
        let room = terms.burst().saturating_sub(self.0.held(terms, elapsed));
        let granted = match room {
            room if room >= want => want,
            room if room >= ask.least => ask.need.min(room),
            _ => 0,
        };
        self.0.take(terms, granted, elapsed);
        RateGiven {
            granted,
            debt: self.0.held(terms, elapsed),
        }
    }
}

/// A replica's side of one rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    terms: RateTerms,
    /// What it went by before, until the pool has answered.
    part: Bucket,
    /// Leased and not used.
    stock: u64,
    /// The pool as it was last heard, with what came back here since.
    pool: Bucket,
    heard_at: Option<Duration>,
    least: u64,
    need: u64,
    returned: u64,
    taken: u64,
    /// Used since the last ask.
    used: u64,
    /// The last call's.
    last: u64,
    used_at: Duration,
    asked_at: Duration,
    is_asked: bool,
    /// A call waits for this rate, or has the rate and waits for another.
    is_awaited: bool,
    /// What is to be in stock.
    ahead: u64,
}

impl Lease {
    /// A quarter of the burst: no more than that is leased ahead, by all replicas together.
    pub(crate) const AHEAD: u64 = 4;

    /// What its part, if it had one, holds was used without the pool's knowing.
    pub(crate) fn new(terms: RateTerms, part: Option<Bucket>, elapsed: Duration) -> Self {
        let taken = part.and_then(|part| Some(part.held(part.terms(1)?, elapsed)));
        let taken = taken.unwrap_or(0);
        Self {
            part: part.unwrap_or_default(),
            terms,
            stock: 0,
            pool: Bucket::default(),
            heard_at: None,
            least: 0,
            need: 0,
            returned: 0,
            taken,
            used: 0,
            last: 0,
            used_at: elapsed,
            asked_at: elapsed,
            is_asked: false,
            is_awaited: false,
            ahead: 0,
        }
    }

    /// Whether `count` can be used: yes, not before some time, or once more is leased
    /// (`Ok(false)`).
    pub(crate) fn check(
        known: Option<&Self>,
        terms: RateTerms,
        count: u64,
        elapsed: Duration,
    ) -> Result<bool, NoRoom> {
        if count == 0 {
            return Ok(true);
        }
        if count > terms.burst() || terms.pace() == 0 {
            return Err(NoRoom::Never);
        }
        let Some(lease) = known else { return Ok(false) };
        if lease.stock >= count {
            return Ok(true);
        }
        let is_known = |at| elapsed.saturating_sub(at) < KNOWN_FOR;
        if lease.heard_at.is_some_and(is_known) {
            lease.pool.check(terms, 1, count - lease.stock, elapsed)?;
        }
        Ok(false)
    }

    /// Notes that a call of `count` waits, for more of this rate or of another: what is in stock
    /// is not given back meanwhile.
    pub(crate) fn need(&mut self, terms: RateTerms, count: u64, elapsed: Duration) {
        self.terms = terms;
        self.used_at = elapsed;
        self.is_awaited = true;
        let lacks = count.saturating_sub(self.stock);
        if lacks > 0 {
            self.least = match self.least {
                0 => lacks,
                least => least.min(lacks),
            };
            self.need = self.need.saturating_add(lacks).min(terms.burst());
        }
    }

    /// Uses `count`, and says whether the stock runs low.
    pub(crate) fn take(&mut self, terms: RateTerms, count: u64, elapsed: Duration) -> bool {
        self.terms = terms;
        self.taken += count.saturating_sub(self.stock);
        self.stock = self.stock.saturating_sub(count);
        self.used = self.used.saturating_add(count);
        self.last = count;
        self.is_awaited = false;
        self.used_at = elapsed;
        self.is_low()
    }

    fn is_low(&self) -> bool {
        !self.is_asked && self.stock < self.ahead / 2
    }

    /// A call used `count` less than it took.
    pub(crate) fn give_back(&mut self, count: u64) {
        self.returned = self.returned.saturating_add(count);
        self.pool.give_back(count);
    }

    /// A call used `count` more than it took.
    pub(crate) fn add(&mut self, count: u64) {
        self.taken = self.taken.saturating_add(count);
        self.pool.add(count);
    }

    /// What can be used now, and when all of it is there again.
    pub(crate) fn view(&self, terms: RateTerms, elapsed: Duration) -> crate::RateView {
        let mut view = self.pool.view(terms, elapsed);
        view.remaining = (view.remaining + self.stock).min(view.limit);
        view
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_idle(&self, elapsed: Duration) -> bool {
        let holds = [self.stock, self.returned, self.taken, self.need];
        !self.is_asked && holds == [0; 4] && self.pool.is_drained(elapsed)
    }

    /// What is to be told and asked, if anything is.
    pub(crate) fn ask(
        &mut self,
        (tenant, limit, kind): (TenantId, LimitId, RateKind),
        replicas: u32,
        elapsed: Duration,
    ) -> Option<RateAsk> {
        if self.is_asked {
            return None;
        }
        let terms = self.terms;
        let ahead_max = terms.burst() / (Self::AHEAD * u64::from(replicas.max(1)));
        let is_used = elapsed.saturating_sub(self.used_at) < IDLE_MAX;
        let spare = match is_used {
            true if self.is_awaited => 0,
            true => self.stock.saturating_sub(ahead_max),
            false => self.stock,
        };
        let is_needed = self.need > 0 || (is_used && self.is_low());
        if !is_needed && spare == 0 && self.returned == 0 && self.taken == 0 {
            return None;
        }
        self.stock -= spare;
        if is_needed {
            let since = elapsed.saturating_sub(self.asked_at).max(AHEAD_FOR / 4);
            let pace = u128::from(self.used) * AHEAD_FOR.as_micros() / since.as_micros();
            let pace = u64::try_from(pace).unwrap_or(u64::MAX);
            self.ahead = pace.max(self.last.saturating_mul(2)).min(ahead_max);
            self.used = 0;
            self.asked_at = elapsed;
        }
        let ahead = match is_needed {
            true => self.ahead.saturating_sub(self.stock),
            false => 0,
        };
        let ask = RateAsk {
            tenant,
            limit,
            kind,
            terms,
            least: self.least,
            need: self.need,
            want: self.need.saturating_add(ahead).min(terms.burst()),
            returned: self.returned.saturating_add(spare),
            taken: self.taken,
        };
        (self.least, self.need, self.returned, self.taken) = (0, 0, 0, 0);
        self.is_asked = true;
        Some(ask)
    }

    /// The pool answered.
    pub(crate) fn apply(&mut self, given: RateGiven, elapsed: Duration) {
        self.is_asked = false;
        self.stock = self.stock.saturating_add(given.granted);
        self.heard_at = Some(elapsed);
        self.pool = Bucket::holding(self.terms, given.debt, elapsed);
        // What happened here meanwhile the pool hears next time.
        self.pool.give_back(self.returned);
        self.pool.add(self.taken);
    }

    /// Nobody answered. What was used is told again; what was given back may have arrived, and is
    /// not.
    pub(crate) fn unanswered(&mut self, ask: &RateAsk) {
        self.is_asked = false;
        self.taken = self.taken.saturating_add(ask.taken);
    }

    /// What a replica by itself goes on with: its part of what the pool held.
    pub(crate) fn part(self, replicas: u32) -> Bucket {
        let Some(_) = self.heard_at else {
            return self.part;
        };
        let mut part = self.pool;
        part.divide(replicas);
        part
    }
}

/// A replica's side of both rates of one limit; none of what is not limited.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Leases {
    pub(crate) requests: Option<Lease>,
    pub(crate) tokens: Option<Lease>,
    /// Has something to tell.
    pub(crate) is_news: bool,
}

impl Leases {
    pub(crate) fn of(&self, kind: RateKind) -> Option<&Lease> {
        match kind {
            RateKind::Requests => self.requests.as_ref(),
            RateKind::Tokens => self.tokens.as_ref(),
        }
    }

    pub(crate) fn of_mut(&mut self, kind: RateKind) -> &mut Option<Lease> {
        match kind {
            RateKind::Requests => &mut self.requests,
            RateKind::Tokens => &mut self.tokens,
        }
    }
}
