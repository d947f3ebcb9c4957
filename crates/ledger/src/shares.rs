//! How replicas share a budget: the rule by which each gets its part.
//!
//! Nobody adds up what replicas spend while they spend it. Each has a *share* of the budget, and
//! holds and spends no more than that, by its own books. The shares of all replicas together are
//! never more than the limit, so what they spend is not either, whoever is slow, cut off or gone.
//! A replica that runs low asks for more; what it does not need it gives back.
//!
//! This file is pure: [`allot`] decides one ask among the rows of the others. Whoever keeps the
//! rows calls it under a lock per account, and stores the row that it returns.

use std::time::Duration;

use base::{PicoUsd, TenantId, Timestamp};

use crate::{AccountId, Window};

/// One hour: for so long at least a share can be used when nobody can be asked. Longer than a
/// database takes to be brought back, and no longer than a dead replica's part of a rolling
/// window may be missed.
pub const SHARE_KEPT: Duration = Duration::from_secs(3600);
/// One minute: a hold's end is noticed within a second, and clocks run apart by less.
const SHARE_MARGIN: Duration = Duration::from_secs(60);
/// After two minutes without a word from a replica all of its share counts as spent: one that is
/// idle has given back by then what it did not spend.
const SILENT_AFTER: Duration = Duration::from_secs(120);
/// Two seconds: who lacks something asks again each tenth of a second.
const SHORT_FOR: Duration = Duration::from_secs(2);
/// A replica's session that was idle for a day is forgotten there ([`crate::EPHEMERAL_IDLE`]).
const EPHEMERAL_KEPT: Duration = crate::EPHEMERAL_IDLE;

/// What a replica says of one account, and asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareAsk {
    /// Whose account it is.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// Over which time it counts.
    pub window: Window,
    /// Whether its subject comes and goes ([`crate::Subject::is_ephemeral`]).
    pub is_ephemeral: bool,
    /// What all replicas together may spend, as far as this one knows; `None`: nothing more is
    /// asked for.
    pub limit: Option<PicoUsd>,
    /// What this replica has spent in the window.
    pub spent: PicoUsd,
    /// What is spent, held, or promised to the disk: a crash finds no more.
    pub used: PicoUsd,
    /// The share it keeps: no less than that, and of what it has already no more than it wants.
    pub keep: PicoUsd,
    /// Until when it has that ([`ShareGiven::frees_at`]).
    pub kept_until: Option<Timestamp>,
    /// With a share of less than this nobody is helped.
    pub least: PicoUsd,
    /// What is needed by the calls that wait.
    pub need: PicoUsd,
    /// With some to spare.
    pub want: PicoUsd,
    /// How many calls all replicas together may make; `None`: they are not counted.
    pub calls_max: Option<u32>,
    /// How many calls this replica has made.
    pub calls_used: u32,
    /// How many it keeps.
    pub calls_keep: u32,
    /// How many it wants.
    pub calls_want: u32,
    /// For how long a call may hold.
    pub holds_for: Duration,
}

/// What is kept of each replica that has a share of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareRow {
    /// What it may spend and hold.
    pub share: PicoUsd,
    /// What it had spent.
    pub spent: PicoUsd,
    /// Until when that counts; `None`: for ever.
    pub spent_until: Option<Timestamp>,
    /// How many calls it may make.
    pub calls: u32,
    /// How many it had made.
    pub calls_used: u32,
    /// Whether it was given less than its calls need.
    pub is_short: bool,
    /// When the row counts no more, unless it is renewed; `None`: never.
    pub frees_at: Option<Timestamp>,
    /// When it was renewed.
    pub at: Timestamp,
}

/// What a replica is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareGiven {
    /// Whose account it is.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// The limit of the ask.
    pub limit: Option<PicoUsd>,
    /// What the replica may spend and hold from now on.
    pub share: PicoUsd,
    /// How many calls it may make.
    pub calls: u32,
    /// What the others have spent. What a silent one could have spent, it has.
    pub spent_elsewhere: PicoUsd,
    /// How many calls the others have made.
    pub calls_elsewhere: u32,
    /// What is in nobody's share.
    pub left: PicoUsd,
    /// Whether another replica lacks what its calls need.
    pub is_wanted: bool,
    /// For how long the share can be used without asking again; `None`: for ever.
    pub usable_for: Option<Duration>,
    /// When it counts no more here, by the clock of whoever keeps the rows; `None`: never.
    pub frees_at: Option<Timestamp>,
}

impl ShareAsk {
    /// Gives back whatever there was of an account.
    pub fn nothing(tenant: TenantId, account: AccountId) -> Self {
        Self {
            tenant,
            account,
            window: Window::Total,
            is_ephemeral: false,
            limit: None,
            spent: PicoUsd::ZERO,
            used: PicoUsd::ZERO,
            keep: PicoUsd::ZERO,
            kept_until: None,
            least: PicoUsd::ZERO,
            need: PicoUsd::ZERO,
            want: PicoUsd::ZERO,
            calls_max: None,
            calls_used: 0,
            calls_keep: 0,
            calls_want: 0,
            holds_for: Duration::ZERO,
        }
    }
}

impl ShareRow {
    /// Whether it counts no more.
    pub fn is_freed(&self, now: Timestamp) -> bool {
        self.frees_at.is_some_and(|at| at <= now)
    }

    /// Whether nothing would be lost without it.
    pub fn is_empty(&self) -> bool {
        self.share == PicoUsd::ZERO && self.calls == 0 && self.calls_used == 0 && !self.is_short
    }

    /// What counts as spent by its replica at `now`.
    pub fn spent_at(&self, now: Timestamp) -> PicoUsd {
        if self.is_freed(now) {
            PicoUsd::ZERO
        } else if now.since(self.at) >= SILENT_AFTER {
            self.share
        } else if self.spent_until.is_none_or(|until| now < until) {
            self.spent
        } else {
            PicoUsd::ZERO
        }
    }
}

/// Decides an ask: the replica's new row, and what it is told. `others` are the rows of the
/// account's other replicas, and `replicas` is how many there are with this one. `now` is the
/// time of whoever keeps the rows.
///
/// What is kept is never taken away, even where the limit was lowered: its replica gives it back
/// by itself.
pub fn allot(
    ask: &ShareAsk,
    others: &[ShareRow],
    replicas: u32,
    now: Timestamp,
) -> (ShareRow, ShareGiven) {
    let counted = || others.iter().filter(|row| !row.is_freed(now));
    let taken: PicoUsd = counted().map(|row| row.share).sum();
    let calls_taken: u64 = counted().map(|row| u64::from(row.calls)).sum();
    let parts = i128::from(replicas.max(1)) * 2;

    let limit = ask.limit.unwrap_or(PicoUsd::ZERO);
    let free = limit.saturating_sub(taken);
    // A message that was so long on its way speaks of a share that others may have by now.
    let is_late = ask.kept_until.is_some_and(|until| until <= now);
    let keep = if is_late { ask.used } else { ask.keep };
    let money = Part {
        keep: keep.pico(),
        least: ask.least.pico(),
        need: ask.need.pico(),
        want: ask.want.pico(),
    };
    let share = PicoUsd::new(money.of(free.pico(), parts));
    let calls_free = i128::from(ask.calls_max.unwrap_or(0)) - i128::from(calls_taken);
    let calls_need = i128::from(ask.calls_want.min(ask.calls_used.saturating_add(1)));
    let calls = Part {
        keep: i128::from(ask.calls_keep),
        least: calls_need,
        need: calls_need,
        want: i128::from(ask.calls_want),
    };
    let calls = u32::try_from(calls.of(calls_free.max(0), parts)).unwrap_or(u32::MAX);

    let kept = Kept::of(ask, now);
    let row = ShareRow {
        share,
        spent: ask.spent,
        spent_until: kept.spent_until,
        calls,
        calls_used: ask.calls_used,
        is_short: share < ask.least || i128::from(calls) < calls_need,
        frees_at: kept.frees_at,
        at: now,
    };
    let calls_elsewhere = counted()
        .map(|row| row.calls_used)
        .fold(0, u32::saturating_add);
    let lacks = |row: &&ShareRow| row.is_short && now.since(row.at) < SHORT_FOR;
    let given = ShareGiven {
        tenant: ask.tenant,
        account: ask.account,
        limit: ask.limit,
        share,
        calls,
        spent_elsewhere: counted().map(|row| row.spent_at(now)).sum(),
        calls_elsewhere,
        left: free.saturating_sub(share),
        is_wanted: counted().any(|row| lacks(&row)),
        usable_for: kept.usable_until.map(|until| until.since(now)),
        frees_at: kept.frees_at,
    };
    (row, given)
}

/// One ask, of money or of calls.
struct Part {
    keep: i128,
    least: i128,
    need: i128,
    want: i128,
}

impl Part {
    /// The share, of what is `free` to this replica, its own included.
    fn of(&self, free: i128, parts: i128) -> i128 {
        if self.want <= self.keep || free < self.least {
            return self.keep;
        }
        // Of what many calls need together no replica takes more than half: the others have some.
        let half = self.keep + (free - self.keep).max(0) / 2;
        let need = self.need.min(half).max(self.least).min(free);
        // To spare goes less and less as the budget runs out, and in the end nothing.
        let spare = (self.want - self.need).max(0).min((free - need) / parts);
        (need + spare).max(self.keep)
    }
}

/// For how long a row counts.
struct Kept {
    spent_until: Option<Timestamp>,
    usable_until: Option<Timestamp>,
    frees_at: Option<Timestamp>,
}

impl Kept {
    /// The replica uses its share for calls alone that end before `usable_until`. What it spent by
    /// then counts in no window any more at `frees_at`.
    fn of(ask: &ShareAsk, now: Timestamp) -> Self {
        let horizon = SHARE_KEPT.max(ask.holds_for * 2) + SHARE_MARGIN * 2;
        let soon = now.plus(horizon);
        let end_of = |at| {
            let (_, end) = ask.window.calendar(at)?;
            Some(Timestamp::from_micros(end))
        };
        let spent_until = end_of(now);
        // Calls are counted over the account's whole life.
        let is_counted = ask.calls_max.is_some() && !ask.is_ephemeral;
        let usable_until = match &ask.window {
            _ if is_counted => None,
            Window::Total => ask.is_ephemeral.then_some(soon),
            Window::Rolling { .. } => Some(soon),
            Window::Daily { .. } | Window::Monthly { .. } => end_of(soon),
        };
        let counts_for = match &ask.window {
            Window::Total => EPHEMERAL_KEPT,
            // A bucket that is only partly inside counts whole.
            Window::Rolling { hours } => {
                Duration::from_secs(u64::from(u16::from(*hours)) * 3600 / 24 * 25)
            }
            Window::Daily { .. } | Window::Monthly { .. } => Duration::ZERO,
        };
        let counts_for = match ask.is_ephemeral {
            true => counts_for.max(EPHEMERAL_KEPT),
            false => counts_for,
        };
        Self {
            spent_until,
            usable_until: usable_until.map(|until| until.minus(SHARE_MARGIN)),
            frees_at: usable_until.map(|until| until.plus(counts_for + SHARE_MARGIN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RollingHours, Zone};

    const NOON: Timestamp = Timestamp::from_micros(20_000 * 86_400_000_000 + 43_200_000_000);

    fn ask(keep: i128, need: i128, want: i128) -> ShareAsk {
        ShareAsk {
            tenant: TenantId::from_bits(1),
            account: AccountId::from_bits(2),
            window: Window::Total,
            is_ephemeral: false,
            limit: Some(PicoUsd::new(1_000)),
            spent: PicoUsd::ZERO,
            used: PicoUsd::ZERO,
            keep: PicoUsd::new(keep),
            kept_until: None,
            least: PicoUsd::new(need),
            need: PicoUsd::new(need),
            want: PicoUsd::new(want),
            calls_max: None,
            calls_used: 0,
            calls_keep: 0,
            calls_want: 0,
            holds_for: Duration::from_secs(60),
        }
    }

    fn row(share: i128, spent: i128) -> ShareRow {
        ShareRow {
            share: PicoUsd::new(share),
            spent: PicoUsd::new(spent),
            spent_until: None,
            calls: 0,
            calls_used: 0,
            is_short: false,
            frees_at: None,
            at: NOON,
        }
    }

    fn given(ask: &ShareAsk, others: &[ShareRow]) -> i128 {
        allot(ask, others, 3, NOON).1.share.pico()
    }

    #[test]
    fn spare_shrinks_as_the_budget_runs_out() {
        let wants = ask(0, 10, 1_000);
        // A sixth of what is left beside the need.
        assert_eq!(given(&wants, &[]), 10 + 990 / 6);
        assert_eq!(given(&wants, &[row(600, 0), row(300, 0)]), 10 + 90 / 6);
        assert_eq!(given(&wants, &[row(990, 0)]), 10);
        // What would help nobody is left to somebody whom it helps.
        assert_eq!(given(&wants, &[row(991, 0)]), 0);
        // Nor is more given than was asked for.
        assert_eq!(given(&ask(0, 10, 30), &[]), 30);
    }

    #[test]
    fn what_many_calls_need_leaves_half_to_the_others() {
        let many = ShareAsk {
            least: PicoUsd::new(10),
            ..ask(100, 5_000, 6_000)
        };
        assert_eq!(given(&many, &[row(200, 0)]), 100 + 350 + 350 / 6);
    }

    #[test]
    fn what_is_kept_stays_and_what_is_given_back_is_free() {
        assert_eq!(
            given(&ask(400, 0, 400), &[row(900, 0)]),
            400,
            "over already"
        );
        let back = ask(100, 50, 100);
        let (mine, told) = allot(&back, &[row(500, 0)], 3, NOON);
        assert_eq!((mine.share.pico(), told.left.pico()), (100, 400));
        let nothing = ShareAsk {
            limit: None,
            ..ask(0, 0, 0)
        };
        assert!(allot(&nothing, &[], 3, NOON).0.is_empty());
    }

    #[test]
    fn a_late_message_keeps_what_was_used_and_no_more() {
        let late = ShareAsk {
            used: PicoUsd::new(40),
            kept_until: Some(NOON),
            ..ask(400, 400, 400)
        };
        assert_eq!(given(&late, &[row(900, 0)]), 40);
        let soon = NOON.plus(Duration::from_micros(1));
        let in_time = ShareAsk {
            kept_until: Some(soon),
            ..late
        };
        assert_eq!(given(&in_time, &[row(900, 0)]), 400);
    }

    #[test]
    fn who_lacks_something_is_heard_for_a_while() {
        let (short, _) = allot(&ask(0, 20, 20), &[row(990, 0)], 2, NOON);
        assert!(short.is_short);
        let told = |after| {
            let now = NOON.plus(Duration::from_millis(after));
            allot(&ask(990, 990, 990), &[short], 2, now).1.is_wanted
        };
        assert!(told(1_999) && !told(2_000));
    }

    #[test]
    fn a_silent_replica_has_spent_its_share() {
        let others = [row(300, 100)];
        let spent = |after| {
            let now = NOON.plus(Duration::from_secs(after));
            allot(&ask(0, 1, 1), &others, 2, now)
                .1
                .spent_elsewhere
                .pico()
        };
        assert_eq!((spent(119), spent(120)), (100, 300));
    }

    #[test]
    fn a_row_counts_until_nothing_that_was_spent_by_it_can_count() {
        let kept = |window: Window, is_ephemeral| {
            let asked = ShareAsk {
                window,
                is_ephemeral,
                ..ask(0, 1, 1)
            };
            let (row, told) = allot(&asked, &[], 1, NOON);
            let hours = |at: Timestamp| at.since(NOON).as_secs_f64() / 3600.0;
            let usable = told.usable_for.map(|usable| usable.as_secs_f64() / 3600.0);
            (usable, row.frees_at.map(hours))
        };
        let minutes = |minutes: f64| minutes / 60.0;
        assert_eq!(kept(Window::Total, false), (None, None));
        let daily = Window::Daily { zone: Zone::UTC };
        assert_eq!(
            kept(daily, false),
            (Some(12.0 - minutes(1.0)), Some(12.0 + minutes(1.0)))
        );
        let hours = RollingHours::try_from(24).unwrap();
        assert_eq!(
            kept(Window::Rolling { hours }, false),
            (Some(1.0 + minutes(1.0)), Some(26.0 + minutes(3.0)))
        );
        assert_eq!(
            kept(Window::Total, true),
            (Some(1.0 + minutes(1.0)), Some(25.0 + minutes(3.0)))
        );
    }

    #[test]
    fn near_its_end_a_day_is_followed_by_the_next() {
        let late = NOON.plus(Duration::from_secs(11 * 3600 + 1));
        let asked = ShareAsk {
            window: Window::Daily { zone: Zone::UTC },
            ..ask(0, 1, 1)
        };
        let (row, _) = allot(&asked, &[], 1, late);
        let midnight = NOON.plus(Duration::from_secs(36 * 3600));
        assert_eq!(row.frees_at, Some(midnight.plus(SHARE_MARGIN)));
        assert_eq!(
            row.spent_until,
            Some(NOON.plus(Duration::from_secs(12 * 3600)))
        );
    }

    #[test]
    fn calls_are_shared_as_money_is() {
        let asked = |used, keep, want| ShareAsk {
            calls_max: Some(20),
            calls_used: used,
            calls_keep: keep,
            calls_want: want,
            ..ask(0, 1, 1)
        };
        let other = |calls, used| ShareRow {
            calls,
            calls_used: used,
            ..row(0, 0)
        };
        let (mine, told) = allot(&asked(2, 2, 10), &[other(5, 4)], 2, NOON);
        // One that is needed, and of the twelve beside it a quarter.
        assert_eq!((mine.calls, told.calls_elsewhere), (6, 4));
        let (mine, _) = allot(&asked(2, 2, 10), &[other(18, 4)], 2, NOON);
        assert_eq!((mine.calls, mine.is_short), (2, true));
    }
}
