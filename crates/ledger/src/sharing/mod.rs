//! A replica's own side of shared budgets: what it may spend, what it asks for, what it gives back.
//!
//! Where budgets are shared, an account's spent and held are never more than its share, which a
//! coordinator gives ([`crate::allot`]). A call that finds too little asks; a share that runs low
//! is asked for ahead of need; what is not needed goes back with the next word to the coordinator.
//! What is known of the others is good for a second: then they are asked before a call is refused.

mod share;

use std::time::Duration;

use base::{PicoUsd, TenantId, Timestamp};

use crate::account::{Account, Elsewhere, Fit};
use crate::subject::IdMap;
use crate::{
    AccountId, AccountUse, Record, Reservation, ShareAsk, ShareGiven, TenantLedger, lease,
};
use share::{Share, Used};

/// Every minute all accounts are looked at: windows turn without a call.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(60);

/// Which asks are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareNews {
    /// Those for which calls wait, or will soon.
    Needed,
    /// All that the others should know by now: once a second.
    Due,
    /// Everything that was spent or is held: after a start. Sessions that have been idle for long
    /// are forgotten first.
    Everything,
    /// All shares, of which nothing to spare is kept: before an end.
    Last,
}

/// What is to be told to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "what is given back here is not to be had again without the coordinator's answer"]
pub struct ShareAsks {
    /// The asks. All that the journal was told so far is to be durable before they are sent: a
    /// crash must not find more than they say.
    pub asks: Vec<ShareAsk>,
    /// Leases that were given up and sessions that were forgotten; to be journaled before the
    /// ledger's lock is let go.
    pub records: Vec<Record>,
    /// Whether there are more.
    pub has_more: bool,
}

/// All shares of one tenant on this replica.
#[derive(Debug)]
pub(crate) struct Sharing {
    tenant: TenantId,
    /// With this one.
    pub(crate) replicas: u32,
    shares: IdMap<AccountId, Share>,
    /// Those that have something to tell, each once.
    news: Vec<AccountId>,
    looked_at: Duration,
}

impl TenantLedger {
    /// From here on this replica has a share of each budget, and of rates its part among
    /// `replicas`, this one included.
    pub fn share_with(&mut self, replicas: u32) {
        let tenant = self.tenant();
        let sharing = self
            .sharing
            .get_or_insert_with(|| Box::new(Sharing::new(tenant)));
        sharing.replicas = replicas.max(1);
    }

    /// What is to be told to the coordinator, `count_max` accounts at most. All of it is to be
    /// [answered](Self::apply_share), or said to be [unanswered](Self::share_unanswered).
    pub fn share_asks(
        &mut self,
        which: ShareNews,
        count_max: usize,
        now: Timestamp,
        elapsed: Duration,
    ) -> ShareAsks {
        // What was idle for long is forgotten by now, elsewhere too: it is not told of anew.
        let mut records = match which {
            ShareNews::Everything => self.sweep(now, elapsed),
            ShareNews::Needed | ShareNews::Due | ShareNews::Last => Vec::new(),
        };
        let Some(sharing) = &mut self.sharing else {
            return ShareAsks {
                records,
                ..ShareAsks::default()
            };
        };
        let mut asks = sharing.asks(&mut self.accounts, which, count_max, now, elapsed);
        records.append(&mut asks.records);
        ShareAsks { records, ..asks }
    }

    /// Applies an answer to what was asked at `asked_at`, on the monotonic clock.
    pub fn apply_share(
        &mut self,
        given: &ShareGiven,
        asked_at: Duration,
        now: Timestamp,
        elapsed: Duration,
    ) {
        if let Some(sharing) = &mut self.sharing {
            let account = self.accounts.get(&given.account);
            sharing.apply(given, account, asked_at, now, elapsed);
        }
    }

    /// The coordinator did not answer for this account: what was given back stays given back, and
    /// all is to be told again.
    pub fn share_unanswered(&mut self, account: AccountId) {
        if let Some(sharing) = &mut self.sharing {
            sharing.unanswered(account);
        }
    }

    /// The coordinator no longer knows this replica: no share may be used without asking.
    pub fn revoke_shares(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.revoke();
        }
    }
}

impl Sharing {
    fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            replicas: 1,
            shares: IdMap::default(),
            news: Vec::new(),
            looked_at: Duration::ZERO,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shares.len()
    }

    /// What an account has room for, where without others it would be `alone`.
    pub(crate) fn fit(
        &self,
        known: Option<&Account>,
        use_: &AccountUse<'_>,
        call: &Reservation<'_>,
        alone: Fit,
    ) -> Fit {
        let terms = use_.terms;
        if terms.limit.is_none() && terms.calls_max.is_none() {
            return alone;
        }
        Share::fit(self.shares.get(&use_.account), known, use_, call, alone)
    }

    /// Notes that a call waits for more of an account.
    pub(crate) fn need(&mut self, use_: &AccountUse<'_>, call: &Reservation<'_>) {
        let share = self
            .shares
            .entry(use_.account)
            .or_insert_with(|| Share::new(use_.terms.window.clone()));
        share.need(use_, call);
        tell(&mut self.news, use_.account, share);
    }

    /// Notes that a call took from an account, and says whether its share runs low.
    pub(crate) fn took(
        &mut self,
        use_: &AccountUse<'_>,
        account: &Account,
        call: &Reservation<'_>,
    ) -> bool {
        let (Some(limit), Some(share)) = (use_.terms.limit, self.shares.get_mut(&use_.account))
        else {
            return false;
        };
        tell(&mut self.news, use_.account, share);
        share.took(limit, account, call)
    }

    /// Up to where an account may go, of a limit.
    pub(crate) fn under(&self, account: AccountId, limit: Option<PicoUsd>) -> Option<PicoUsd> {
        let limit = limit?;
        let share = self.shares.get(&account);
        Some(share.map_or(PicoUsd::ZERO, |share| share.under(limit)))
    }

    /// Something of an account changed: what the others have spent meanwhile.
    pub(crate) fn posted(&mut self, account: AccountId, now: Timestamp) -> Elsewhere {
        let Some(share) = self.shares.get_mut(&account) else {
            return Elsewhere::default();
        };
        tell(&mut self.news, account, share);
        let elsewhere = share.elsewhere(now);
        let before = std::mem::replace(&mut share.elsewhere_noted, elsewhere);
        Elsewhere {
            before,
            now: elsewhere,
        }
    }

    /// What the others have spent, as far as is known.
    pub(crate) fn elsewhere(&self, account: AccountId, now: Timestamp) -> PicoUsd {
        let share = self.shares.get(&account);
        share.map_or(PicoUsd::ZERO, |share| share.elsewhere(now))
    }

    /// An account gave something up, or is gone.
    pub(crate) fn changed(&mut self, account: AccountId) {
        if let Some(share) = self.shares.get_mut(&account) {
            tell(&mut self.news, account, share);
        }
    }

    /// Gives every account that was used a share to tell of.
    fn add_used(&mut self, accounts: &IdMap<AccountId, Account>, now: Timestamp) {
        for (id, account) in accounts {
            let used = Used::of(Some(account), now);
            if used.floor > PicoUsd::ZERO && !self.shares.contains_key(id) {
                let mut share = Share::new(account.spend.window().clone());
                share.is_ephemeral = account.is_ephemeral;
                self.shares.insert(*id, share);
            }
        }
    }

    /// At most `count_max` asks.
    fn asks(
        &mut self,
        accounts: &mut IdMap<AccountId, Account>,
        which: ShareNews,
        count_max: usize,
        now: Timestamp,
        elapsed: Duration,
    ) -> ShareAsks {
        if which == ShareNews::Everything {
            self.add_used(accounts, now);
        }
        let looks_at_all = match which {
            ShareNews::Needed => false,
            ShareNews::Due => elapsed.saturating_sub(self.looked_at) >= LOOKED_AT_EVERY,
            ShareNews::Everything | ShareNews::Last => true,
        };
        if looks_at_all {
            self.looked_at = elapsed;
            for (id, share) in &mut self.shares {
                tell(&mut self.news, *id, share);
            }
        }
        let mut asks = ShareAsks::default();
        let news = std::mem::take(&mut self.news);
        for id in news {
            let Some(share) = self.shares.get_mut(&id) else {
                continue;
            };
            let account = accounts.get_mut(&id);
            let used = Used::of(account.as_deref(), now);
            let is_sent = !share.is_asked
                && match which {
                    ShareNews::Needed => share.is_needed,
                    ShareNews::Due => share.is_needed || share.is_due(&used, elapsed),
                    ShareNews::Everything | ShareNews::Last => true,
                };
            if !is_sent || asks.asks.len() == count_max {
                asks.has_more |= is_sent;
                // There may be something to tell yet.
                share.is_news = share.is_worth_a_look(&used);
                if share.is_news {
                    self.news.push(id);
                }
                continue;
            }
            let is_last = which == ShareNews::Last;
            if is_last {
                share.leave();
            }
            let used = match account {
                Some(account) if is_last || share.gives_up(elapsed) => {
                    asks.records
                        .extend(lease::give_up(id, &mut account.lease, now));
                    Used::of(Some(account), now)
                }
                _ => used,
            };
            asks.asks.push(share.ask(self.tenant, id, &used, elapsed));
        }
        asks
    }

    fn apply(
        &mut self,
        given: &ShareGiven,
        account: Option<&Account>,
        asked_at: Duration,
        now: Timestamp,
        elapsed: Duration,
    ) {
        let Some(share) = self.shares.get_mut(&given.account) else {
            return;
        };
        let used = Used::of(account, now);
        share.apply(given, &used, asked_at, now, elapsed);
        if share.is_over(account, elapsed) {
            self.shares.remove(&given.account);
        } else {
            tell(&mut self.news, given.account, share);
        }
    }

    /// Nobody answered: all is as it was, and to be told again.
    fn unanswered(&mut self, account: AccountId) {
        if let Some(share) = self.shares.get_mut(&account) {
            share.is_asked = false;
            tell(&mut self.news, account, share);
        }
    }

    /// No share may be used any more without asking.
    fn revoke(&mut self) {
        for share in self.shares.values_mut() {
            share.revoke();
        }
    }
}

/// Has an account looked at by the next report.
fn tell(news: &mut Vec<AccountId>, id: AccountId, share: &mut Share) {
    if !share.is_news {
        share.is_news = true;
        news.push(id);
    }
}
