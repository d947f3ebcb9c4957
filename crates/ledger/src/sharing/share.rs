//! One account's share on this replica: when it is used, asked for, and given back.

use std::time::Duration;

use base::{PicoUsd, TenantId, Timestamp};

use crate::account::{Account, Fit};
use crate::{AccountId, AccountUse, Reservation, ShareAsk, ShareGiven, Window};

/// A second: for so long what is known of the others is good enough to refuse a call by.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// A tenth of a second, in which others may have given back: nobody who lacks something asks
/// more often.
const SHORT_FOR: Duration = Duration::from_millis(100);
/// Room for at least this many calls of the size at hand, as with leases.
const CALLS_TO_SPARE: u64 = 16;
/// What was given to spare lasted for less: the next is twice as much.
const TOO_LITTLE_BELOW: Duration = Duration::from_secs(1);
/// An account that was not used for two seconds needs nothing to spare.
const IDLE_AFTER: Duration = Duration::from_secs(2);
/// After ten seconds without a call an account gives up its lease, so that others have the money.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);
/// Every ten seconds what was spent is told, if it changed: sooner by a hundredth of the limit, or
/// where others need it.
const TOLD_EVERY: Duration = Duration::from_secs(10);
const TOLD_PARTS: i128 = 100;
/// After 23 hours all that counts is told again: what is known of a session is kept for a day.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(23 * 3600);
/// With less than a tenth of the limit in nobody's share, what is not needed goes back each second.
const TIGHT_PARTS: i128 = 10;
/// This replica's part of one account.
#[derive(Debug)]
pub(super) struct Share {
    window: Window,
    pub(super) is_ephemeral: bool,
    calls_max: Option<u32>,
    holds_for: Duration,
    /// What spent and held may come to.
    amount: PicoUsd,
    /// The limit of which it is a part, once a call has said it.
    limit: Option<PicoUsd>,
    calls: u32,
    usable: Usable,
    /// By the coordinator's clock, when it ends there.
    kept_until: Option<Timestamp>,
    /// What the others have spent, and until when that counts.
    elsewhere: PicoUsd,
    elsewhere_until: Timestamp,
    /// The same as the last posting saw it.
    pub(super) elsewhere_noted: PicoUsd,
    calls_elsewhere: u32,
    left: PicoUsd,
    is_wanted: bool,
    /// When the others were last heard of.
    known_at: Option<Duration>,
    /// An ask is on its way.
    pub(super) is_asked: bool,
    /// It asks for more; with less than this it helps nobody.
    asks_more: bool,
    asked_least: PicoUsd,
    /// Nobody asks before.
    short_until: Duration,
    /// Amounts refused for want of a share since the last ask, and the least of them.
    waiting: PicoUsd,
    waiting_least: PicoUsd,
    waiting_calls: u32,
    /// How much there should be to spare, and since when.
    size: PicoUsd,
    sized_at: Duration,
    used_at: Duration,
    told_spent: PicoUsd,
    told_at: Duration,
    pub(super) is_news: bool,
    pub(super) is_needed: bool,
}

/// For calls that end by when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usable {
    /// Nothing was given yet.
    Never,
    /// On the monotonic clock.
    Until(Duration),
    Forever,
}

impl Usable {
    fn covers(self, end: Duration) -> bool {
        match self {
            Self::Never => false,
            Self::Until(until) => end <= until,
            Self::Forever => true,
        }
    }
}

impl Share {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            is_ephemeral: false,
            calls_max: None,
            holds_for: Duration::ZERO,
            amount: PicoUsd::ZERO,
            limit: None,
            calls: 0,
            usable: Usable::Never,
            kept_until: None,
            elsewhere: PicoUsd::ZERO,
            elsewhere_until: Timestamp::default(),
            elsewhere_noted: PicoUsd::ZERO,
            calls_elsewhere: 0,
            left: PicoUsd::ZERO,
            is_wanted: false,
            known_at: None,
            is_asked: false,
            asks_more: false,
            asked_least: PicoUsd::ZERO,
            short_until: Duration::ZERO,
            waiting: PicoUsd::ZERO,
            waiting_least: PicoUsd::UNBOUNDED,
            waiting_calls: 0,
            size: PicoUsd::ZERO,
            sized_at: Duration::ZERO,
            used_at: Duration::ZERO,
            told_spent: PicoUsd::ZERO,
            told_at: Duration::ZERO,
            is_news: false,
            is_needed: false,
        }
    }

    /// The share under this limit. Where the limit was lowered since, each replica takes the
    /// difference off its own, so that the sum is not above the new one either.
    pub(super) fn under(&self, limit: PicoUsd) -> PicoUsd {
        let lowered = self
            .limit
            .map_or(PicoUsd::ZERO, |given| given.saturating_sub(limit));
        self.amount.saturating_sub(lowered).min(limit)
    }

    pub(super) fn elsewhere(&self, now: Timestamp) -> PicoUsd {
        if now < self.elsewhere_until {
            self.elsewhere
        } else {
            PicoUsd::ZERO
        }
    }

    pub(super) fn is_known(&self, elapsed: Duration) -> bool {
        self.known_at
            .is_some_and(|at| elapsed.saturating_sub(at) < KNOWN_FOR)
    }

    /// What a call that finds too little does.
    pub(super) fn otherwise(&self, elapsed: Duration) -> Fit {
        if elapsed < self.short_until {
            Fit::AfterOthers
        } else {
            Fit::NeedsShare
        }
    }

    pub(super) fn is_idle(&self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.used_at) >= IDLE_AFTER
    }

    /// Whether the disk's promise is given up, so that others can have it.
    pub(super) fn gives_up(&self, elapsed: Duration) -> bool {
        let is_left = elapsed.saturating_sub(self.used_at) >= GIVEN_UP_AFTER;
        self.is_wanted || is_left && self.waiting == PicoUsd::ZERO
    }

    /// What the share should be: what is needed, and some to spare if nobody lacks it.
    pub(super) fn target(&self, used: &Used, elapsed: Duration) -> PicoUsd {
        let spare = match self.is_wanted {
            true => PicoUsd::ZERO,
            false => self.spare(elapsed),
        };
        used.floor.max(used.used + self.waiting + spare)
    }

    /// Whether there may be something to tell soon.
    pub(super) fn is_worth_a_look(&self, used: &Used) -> bool {
        self.is_needed
            || self.amount > used.used
            || self.calls > used.calls
            || self.told_spent != used.spent
    }

    /// Whether the others should know how it stands.
    pub(super) fn is_due(&self, used: &Used, elapsed: Duration) -> bool {
        if self.is_needed {
            return true;
        }
        let limit = self.limit.unwrap_or(PicoUsd::ZERO).pico();
        let is_promised = used.floor > used.used;
        let drift = (used.spent.pico() - self.told_spent.pico()).abs();
        let gives = self.amount > self.target(used, elapsed)
            || is_promised && self.gives_up(elapsed)
            || self.is_idle(elapsed) && self.calls > used.calls;
        let is_tight = self.is_wanted || self.left.pico() * TIGHT_PARTS <= limit;
        let is_long_ago = elapsed.saturating_sub(self.told_at) >= TOLD_EVERY;
        if gives || drift > 0 {
            is_tight || is_long_ago || gives && self.is_idle(elapsed) || drift * TOLD_PARTS >= limit
        } else {
            elapsed.saturating_sub(self.told_at) >= TOLD_AGAIN_AFTER && used.floor > PicoUsd::ZERO
        }
    }

    /// What to tell of it, and to ask for. What is given back is not used from here on.
    pub(super) fn ask(
        &mut self,
        tenant: TenantId,
        id: AccountId,
        used: &Used,
        elapsed: Duration,
    ) -> ShareAsk {
        if !self.usable.covers(elapsed) {
            // What can still be used is not known: what was used is.
            self.amount = used.floor;
            self.calls = used.calls;
        }
        if self.is_needed {
            let lasted = elapsed.saturating_sub(self.sized_at);
            let size = if lasted < TOO_LITTLE_BELOW {
                self.size + self.size
            } else {
                PicoUsd::new(self.size.pico() >> lasted.as_secs().min(127))
            };
            let some = match self.waiting_calls {
                0 => PicoUsd::ZERO,
                _ => self.waiting_least.times(CALLS_TO_SPARE),
            };
            self.size = size.max(some).max(self.waiting);
            self.sized_at = elapsed;
        }
        let target = self.target(used, elapsed);
        // Where others lack something, what is too little for a call here is left to them: pieces
        // would add up to a call that nobody can make.
        let kept = match self.is_wanted {
            true => used.floor,
            false => target,
        };
        self.amount = self.amount.min(kept).max(used.floor);
        let is_counted = self.calls_max.is_some();
        if self.is_wanted || self.is_idle(elapsed) || !is_counted {
            self.calls = if is_counted { used.calls } else { 0 };
        }
        let least = match self.waiting_calls {
            0 => used.floor,
            _ => used.floor.max(used.used + self.waiting_least),
        };
        let (want, calls_want) = if self.is_needed {
            let calls = u64::from(self.waiting_calls) + CALLS_TO_SPARE;
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            (target, used.calls.saturating_add(calls))
        } else {
            (self.amount, self.calls)
        };
        let ask = ShareAsk {
            tenant,
            account: id,
            window: self.window.clone(),
            is_ephemeral: self.is_ephemeral,
            limit: self.limit,
            spent: used.spent,
            used: used.floor,
            keep: self.amount,
            kept_until: self.kept_until,
            least,
            need: used.floor.max(used.used + self.waiting),
            want,
            calls_max: self.calls_max,
            calls_used: if is_counted { used.calls } else { 0 },
            calls_keep: self.calls,
            calls_want: if is_counted { calls_want } else { 0 },
            holds_for: self.holds_for,
        };
        self.asks_more = self.is_needed;
        self.asked_least = least;
        self.told_spent = used.spent;
        self.told_at = elapsed;
        self.is_asked = true;
        self.is_needed = false;
        self.is_news = false;
        self.waiting = PicoUsd::ZERO;
        self.waiting_least = PicoUsd::UNBOUNDED;
        self.waiting_calls = 0;
        ask
    }

    /// What there should be to spare: halved for each second since it was asked for.
    pub(super) fn spare(&self, elapsed: Duration) -> PicoUsd {
        if self.is_idle(elapsed) {
            return PicoUsd::ZERO;
        }
        let seconds = elapsed.saturating_sub(self.sized_at).as_secs();
        PicoUsd::new(self.size.pico() >> seconds.min(127))
    }
}

impl Share {
    /// What an account has room for, by its share. `known` is the account, if there is one.
    pub(super) fn fit(
        share: Option<&Self>,
        known: Option<&Account>,
        use_: &AccountUse<'_>,
        call: &Reservation<'_>,
        alone: Fit,
    ) -> Fit {
        let is_known = share.is_some_and(|share| share.is_known(call.elapsed));
        let otherwise = share.map_or(Fit::NeedsShare, |share| share.otherwise(call.elapsed));
        let is_usable = share.filter(|share| {
            let end = call.elapsed + call.expires_at.since(call.now);
            share.usable.covers(end)
        });
        if let Some(max) = use_.terms.calls_max {
            let calls = known.map_or(0, |account| account.calls);
            let elsewhere = share.map_or(0, |share| share.calls_elsewhere);
            if is_known && calls.saturating_add(elsewhere) >= max {
                return Fit::NoCalls { max };
            }
            if calls >= is_usable.map_or(0, |share| share.calls) {
                return otherwise;
            }
        }
        let Some(limit) = use_.terms.limit else {
            return alone;
        };
        let elsewhere = share.map_or(PicoUsd::ZERO, |share| share.elsewhere(call.now));
        if let Fit::Over { spent, limit } = alone {
            let spent = spent + elsewhere;
            return Fit::Over { spent, limit };
        }
        let used = Used::of(known, call.now);
        let available = is_usable
            .map_or(PicoUsd::ZERO, |share| share.under(limit))
            .saturating_sub(used.used);
        if call.amount <= available {
            return Fit::Fits { available };
        }
        let spent = used.spent + elsewhere;
        if is_known && spent + call.amount > limit {
            return Fit::Over { spent, limit };
        }
        otherwise
    }

    /// A call waits for more.
    pub(super) fn need(&mut self, use_: &AccountUse<'_>, call: &Reservation<'_>) {
        if self.window != use_.terms.window {
            self.window = use_.terms.window.clone();
        }
        self.is_ephemeral = use_.subject.is_ephemeral();
        self.calls_max = use_.terms.calls_max;
        self.holds_for = self.holds_for.max(call.expires_at.since(call.now));
        let limit = use_.terms.limit.unwrap_or(PicoUsd::ZERO);
        self.amount = self.under(limit);
        self.limit = Some(limit);
        self.waiting += call.amount;
        self.waiting_least = self.waiting_least.min(call.amount);
        self.waiting_calls = self.waiting_calls.saturating_add(1);
        self.used_at = call.elapsed;
        self.is_needed = true;
    }

    /// A call took from the account: whether more is to be asked for.
    pub(super) fn took(
        &mut self,
        limit: PicoUsd,
        account: &Account,
        call: &Reservation<'_>,
    ) -> bool {
        self.used_at = call.elapsed;
        let used = account.spend.spent(call.now) + account.held;
        let left = self.under(limit).saturating_sub(used);
        let is_low = left + left < self.size
            && !self.is_asked
            && !self.is_needed
            && self.left > PicoUsd::ZERO
            && call.elapsed >= self.short_until;
        self.is_needed |= is_low;
        is_low
    }

    /// The coordinator's answer to what was asked at `asked_at`.
    pub(super) fn apply(
        &mut self,
        given: &ShareGiven,
        used: &Used,
        asked_at: Duration,
        now: Timestamp,
        elapsed: Duration,
    ) {
        self.is_asked = false;
        if let Some(limit) = given.limit {
            self.limit = Some(limit);
            self.known_at = Some(asked_at);
            self.elsewhere = given.spent_elsewhere;
            self.elsewhere_until = match self.window.calendar(now) {
                Some((_, end)) => Timestamp::from_micros(end),
                None => Timestamp::from_micros(i64::MAX),
            };
            self.calls_elsewhere = given.calls_elsewhere;
            self.left = given.left;
            self.usable = match given.usable_for {
                Some(usable) => Usable::Until(asked_at + usable),
                None => Usable::Forever,
            };
            self.kept_until = given.frees_at;
        }
        self.amount = given.share;
        self.calls = given.calls;
        self.is_wanted = given.is_wanted;
        let lacks_calls = self
            .calls_max
            .is_some_and(|max| given.calls <= used.calls && used.calls < max);
        if given.share < self.asked_least || lacks_calls {
            self.short_until = elapsed + SHORT_FOR;
        }
        if self.asks_more {
            // What there is to spare is what was given: it is asked for again when half is used.
            self.size = self.size.min(given.share.saturating_sub(used.used));
        }
    }

    /// Whether nothing is lost without it: no call uses the account, and the coordinator has been
    /// told.
    pub(super) fn is_over(&self, account: Option<&Account>, elapsed: Duration) -> bool {
        let is_limited = self.limit.is_some();
        let is_left = account.is_none() && self.amount == PicoUsd::ZERO && self.is_idle(elapsed);
        self.waiting == PicoUsd::ZERO && (is_left || !is_limited)
    }

    /// Nothing of it may be used without asking.
    pub(super) fn revoke(&mut self) {
        self.usable = Usable::Never;
    }

    /// Nothing is kept to spare from here on.
    pub(super) fn leave(&mut self) {
        self.size = PicoUsd::ZERO;
    }
}

/// What an account has used, and what a crash would find it to have used at most.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    spent: PicoUsd,
    /// With what is held.
    used: PicoUsd,
    /// With what the journal may come to allow.
    pub(super) floor: PicoUsd,
    calls: u32,
}

impl Used {
    pub(super) fn of(account: Option<&Account>, now: Timestamp) -> Self {
        let Some(account) = account else {
            return Self::default();
        };
        let spent = account.spend.spent(now);
        let used = spent + account.held;
        Self {
            spent,
            used,
            floor: used + account.lease.promised(),
            calls: account.calls,
        }
    }
}
