//! One budget applied to one subject: what was spent, what is held, what may be dispatched.

use base::{Name, PicoUsd, Timestamp};
use serde::{Deserialize, Serialize};

use crate::lease::Lease;
use crate::stranded::Stranded;
use crate::{AccountId, PostedMark, Spend, Subject, Window};

/// What a budget allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountTerms {
    /// The most that may be spent in the window; `None`: it is only counted.
    pub limit: Option<PicoUsd>,
    /// Over which time it counts.
    pub window: Window,
    /// At which part of the limit a settlement reports a crossing, in per cent.
    pub soft_percent: u8,
    /// How many calls the account may have over its whole life; for sessions and turns, so that
    /// an agent's loop stops.
    pub calls_max: Option<u32>,
}

/// An account that a call reserves on.
#[derive(Debug, Clone, Copy)]
pub struct AccountUse<'a> {
    /// [`AccountId::of`] the tenant, `budget` and `subject`.
    pub account: AccountId,
    /// The budget's name.
    pub budget: &'a Name,
    /// Whom it is about.
    pub subject: &'a Subject,
    /// What it allows.
    pub terms: &'a AccountTerms,
}

/// An account as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView {
    /// Spent in the window, what is not reconciled yet included.
    pub spent: PicoUsd,
    /// Held by live calls.
    pub held: PicoUsd,
    /// Of what was spent: what a crash left unreported, until it is reconciled.
    pub unreported: PicoUsd,
    /// Spent by other replicas, as far as it is known here; nothing where budgets are not shared.
    pub spent_elsewhere: PicoUsd,
    /// Calls over the account's life.
    pub calls: u32,
    /// May be dispatched before the next lease.
    pub lease_left: PicoUsd,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) spend: Spend,
    /// The sum of the upper bounds of live holds.
    pub(crate) held: PicoUsd,
    pub(crate) lease: Lease,
    pub(crate) stranded: Stranded,
    /// Of the last reservation's terms.
    limit: Option<PicoUsd>,
    soft_at: Option<PicoUsd>,
    pub(crate) calls: u32,
    /// Attempts that have not ended: live, expired or from before a crash.
    pub(crate) open: u32,
    pub(crate) is_ephemeral: bool,
    /// Whether the journal has been told of it, and of the window that it has now.
    pub(crate) is_journaled: bool,
    pub(crate) last_used: Timestamp,
}

/// Whether an amount fits an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// With this much to spare, before the amount is taken.
    Fits { available: PicoUsd },
    /// Only once live holds have settled for less.
    AfterOthers,
    /// Not in this window, whatever the live holds cost.
    Over { spent: PicoUsd, limit: PicoUsd },
    /// All its calls were made.
    NoCalls { max: u32 },
    /// Only with a larger share of what replicas have together.
    NeedsShare,
}

/// What other replicas have spent: as the last posting saw it, and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Elsewhere {
    pub(crate) before: PicoUsd,
    pub(crate) now: PicoUsd,
}

/// Which thresholds a posting crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Crossed {
    pub(crate) soft: bool,
    pub(crate) exhausted: bool,
}

impl Account {
    pub(crate) fn new(spend: Spend, now: Timestamp) -> Self {
        Self {
            spend,
            held: PicoUsd::ZERO,
            lease: Lease::default(),
            stranded: Stranded::default(),
            limit: None,
            soft_at: None,
            calls: 0,
            open: 0,
            is_ephemeral: false,
            is_journaled: false,
            last_used: now,
        }
    }

    pub(crate) fn fit(&self, terms: &AccountTerms, amount: PicoUsd, now: Timestamp) -> Fit {
        let Some(limit) = terms.limit else {
            let available = PicoUsd::UNBOUNDED;
            return Fit::Fits { available };
        };
        let spent = self.spend.spent(now);
        let available = limit.saturating_sub(spent + self.held);
        if spent + amount > limit {
            Fit::Over { spent, limit }
        } else if amount > available {
            Fit::AfterOthers
        } else {
            Fit::Fits { available }
        }
    }

    /// Holds `amount`, which was checked to fit.
    pub(crate) fn hold(&mut self, terms: &AccountTerms, amount: PicoUsd, now: Timestamp) {
        // What is held counts in the latest window that was seen, whatever the clock does next.
        self.spend.advance(now);
        self.held += amount;
        self.lease.dispatched += amount;
        self.calls = self.calls.saturating_add(1);
        self.open += 1;
        self.limit = terms.limit;
        self.soft_at = terms
            .limit
            .map(|limit| limit.percent_floor(u32::from(terms.soft_percent)));
        self.last_used = self.last_used.max(now);
    }

    /// Counts `amount` as spent, and says what that crossed.
    pub(crate) fn post(
        &mut self,
        amount: PicoUsd,
        now: Timestamp,
        elsewhere: Elsewhere,
    ) -> (PostedMark, Crossed) {
        let before = self.spend.spent(now) + elsewhere.before;
        let mark = self.spend.post(now, amount);
        let after = self.spend.spent(now) + elsewhere.now;
        self.last_used = self.last_used.max(now);
        let crosses =
            |threshold: Option<PicoUsd>| threshold.is_some_and(|at| before < at && at <= after);
        let crossed = Crossed {
            soft: crosses(self.soft_at),
            exhausted: crosses(self.limit),
        };
        (mark, crossed)
    }

    /// Counts `cost` where `counted` was posted at `mark`.
    pub(crate) fn correct(
        &mut self,
        counted: PicoUsd,
        mark: PostedMark,
        cost: PicoUsd,
        now: Timestamp,
        elsewhere: Elsewhere,
    ) -> Crossed {
        if cost <= counted {
            self.spend.refund(mark, counted - cost);
            Crossed::default()
        } else {
            self.post(cost - counted, now, elsewhere).1
        }
    }

    pub(crate) fn view(&self, now: Timestamp) -> AccountView {
        AccountView {
            spent: self.spend.spent(now),
            held: self.held,
            unreported: self.stranded.counted(&self.spend, now),
            spent_elsewhere: PicoUsd::ZERO,
            calls: self.calls,
            lease_left: self.lease.left(),
        }
    }
}
