//! All accounts and limits of one tenant: who may call, and what it comes to.

use std::time::Duration;

use base::{AttemptId, PicoUsd, TenantId, Timestamp};
use smallvec::SmallVec;

use crate::account::{Account, Fit};
use crate::hold::{HoldEntry, HoldState};
use crate::lease::Asking;
use crate::limits::{LimitRefusal, Limits};
use crate::sharing::Sharing;
use crate::subject::IdMap;
use crate::{
    AccountId, AccountUse, AccountView, Admission, AdmitError, Hold, LEASE_IDLE, LeaseRequest,
    PostedMark, Record, Reservation, Spend, Unsettled, lease,
};

/// 100,000 accounts (and as many limits) of a tenant: 40 MB at most.
pub const ACCOUNTS_MAX: usize = 100_000;
/// 200,000 shares: of every account, and of as many that are being given back.
const SHARES_MAX: usize = 2 * ACCOUNTS_MAX;
/// 16 accounts of one call: seven kinds of subject, and two budgets each.
pub const ACCOUNTS_PER_CALL_MAX: usize = 16;
/// 100,000 calls of a tenant that have not ended, unreconciled ones included.
pub const HOLDS_MAX: usize = 100_000;
/// After a day without a call the account of a session or turn is forgotten.
pub const EPHEMERAL_IDLE: Duration = Duration::from_secs(24 * 3600);
/// After a day an unsettled call is due to be reconciled: at its upper bound, if nothing better
/// is known.
pub const RECONCILE_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// All accounts and limits of one tenant. The gateway keeps each behind a lock of its own, so
/// that tenants never contend.
///
/// What changes here and what the journal is told belong under one lock: the journal then tells
/// the facts in the order in which they became true.
#[derive(Debug)]
pub struct TenantLedger {
    tenant: TenantId,
    pub(crate) accounts: IdMap<AccountId, Account>,
    pub(crate) holds: IdMap<AttemptId, HoldEntry>,
    pub(crate) limits: Limits,
    /// What other replicas have a part in; none where one process has all budgets to itself.
    pub(crate) sharing: Option<Box<Sharing>>,
    /// No live hold expires before this.
    pub(crate) next_expiry: Timestamp,
    /// No account has been idle with a lease for long before this.
    next_return: Timestamp,
    /// How often accounts were forgotten.
    forgettings: u64,
}

/// What a call's accounts have room for only later.
#[derive(Debug, Default)]
struct Blocked {
    /// Once live calls have settled.
    by_others: Option<AccountId>,
    /// Once this replica has a larger share.
    needs_share: bool,
}

pub(crate) const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);
/// Accounts are dropped by [`TenantLedger::sweep`] alone, and never while an attempt is open.
pub(crate) const HAS_ACCOUNT: &str = "an account with an open attempt is never forgotten";

impl TenantLedger {
    /// A ledger without accounts. Allocates nothing.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            accounts: IdMap::default(),
            holds: IdMap::default(),
            limits: Limits::default(),
            sharing: None,
            next_expiry: NEVER,
            next_return: NEVER,
            forgettings: 0,
        }
    }

    /// Whose it is.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Lets a call through if all its limits, all its budgets and their leases have room, and
    /// takes from all of them; or takes from none.
    ///
    /// What can never fit is found first, then what must wait for the clock, then what must wait
    /// for other calls, then what must wait for the disk.
    ///
    /// # Errors
    ///
    /// [`AdmitError`]; nothing was taken.
    pub fn admit(&mut self, call: &Reservation<'_>) -> Result<Admission, AdmitError> {
        self.check_shape(call)?;
        let blocked = self.check_budgets(call)?;
        let replicas = self.replicas();
        let limits = self
            .limits
            .check(call.limits, replicas, call.tokens, call.elapsed);
        let needs_rate = match limits {
            Err(LimitRefusal::NeedsRate) => true,
            other => {
                other?;
                false
            }
        };
        if let Some(account) = blocked.by_others {
            return Err(AdmitError::HeldByOthers { account });
        }
        if blocked.needs_share {
            self.need_shares(call);
            return Err(AdmitError::NeedsShare);
        }
        if needs_rate {
            self.limits.need(call.limits, call.tokens, call.elapsed);
            return Err(AdmitError::NeedsRate);
        }
        self.check_leases(call)?;
        Ok(self.take(call))
    }

    /// Applies leases whose records are durable; unless an account was forgotten since they were
    /// asked for. It may have been opened anew, and the journal allows the new one nothing of
    /// what it allowed the old one: who still needs a lease asks again.
    pub fn grant(&mut self, request: &LeaseRequest) {
        if request.forgettings != self.forgettings {
            self.refuse(request);
            return;
        }
        for record in &request.records {
            if let Record::LeaseRaised { account, limit, .. } = record
                && let Some(account) = self.accounts.get_mut(account)
            {
                account.lease.grant(*limit);
            }
        }
    }

    /// The journal did not take what was asked for: accounts that it was to open are opened anew
    /// by the next call. To be said before the ledger's lock is let go.
    pub fn not_journaled(&mut self, request: &LeaseRequest) {
        self.refuse(request);
        for record in &request.records {
            let Record::AccountOpened(opened) = record else {
                continue;
            };
            if let Some(account) = self.accounts.get_mut(&opened.account) {
                account.is_journaled = false;
                if account.lease.is_unused() {
                    self.accounts.remove(&opened.account);
                }
            }
        }
    }

    /// What the journal allows by this request is never dispatched, and may be asked for again.
    fn refuse(&mut self, request: &LeaseRequest) {
        for record in &request.records {
            if let Record::LeaseRaised { account, .. } = record
                && let Some(account) = self.accounts.get_mut(account)
            {
                account.lease.refuse();
            }
        }
    }

    /// Calls whose cost is not known, oldest first.
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let mut unsettled: Vec<_> = self
            .holds
            .iter()
            .filter_map(|(attempt, entry)| match entry.state {
                HoldState::Live => None,
                HoldState::Unsettled { since, .. } => Some(Unsettled {
                    attempt: *attempt,
                    amount: entry.amount,
                    since,
                }),
            })
            .collect();
        unsettled.sort_by_key(|unsettled| (unsettled.since, unsettled.attempt));
        unsettled
    }

    /// Calls whose cost has been unknown for [`RECONCILE_WITHIN`]: each is to be reconciled now.
    pub fn overdue(&self, now: Timestamp) -> Vec<Unsettled> {
        let mut overdue = self.unsettled();
        overdue.retain(|unsettled| now.since(unsettled.since) >= RECONCILE_WITHIN);
        overdue
    }

    /// What idle accounts had left of their leases is given up, so that a crash finds nothing of
    /// it: journal what is returned before the lock is let go. Costs nothing while no account has
    /// been idle for [`LEASE_IDLE`]; one that has may be found a quarter of that later.
    pub fn return_idle_leases(&mut self, now: Timestamp) -> Vec<Record> {
        let mut records = Vec::new();
        if now < self.next_return {
            return records;
        }
        let mut next = NEVER;
        for (id, account) in &mut self.accounts {
            let idle_at = account.last_used.plus(LEASE_IDLE);
            if idle_at <= now {
                records.extend(lease::give_up(*id, &mut account.lease, now));
                if let Some(sharing) = &mut self.sharing {
                    sharing.changed(*id);
                }
            } else {
                next = next.min(idle_at);
            }
        }
        // Where accounts become idle one by one, they are looked through four times a minute.
        self.next_return = next.max(now.plus(LEASE_IDLE / 4));
        records
    }

    /// Forgets idle accounts of sessions and turns, and idle limits. Journal what is returned
    /// before the lock is let go.
    pub fn sweep(&mut self, now: Timestamp, elapsed: Duration) -> Vec<Record> {
        self.limits.forget_idle(elapsed);
        let mut records = Vec::new();
        self.accounts.retain(|id, account| {
            let is_idle = now.since(account.last_used) >= EPHEMERAL_IDLE;
            let is_kept = !account.is_ephemeral || account.open > 0 || !is_idle;
            if !is_kept {
                if let Some(sharing) = &mut self.sharing {
                    sharing.changed(*id);
                }
                records.push(Record::AccountForgotten { account: *id });
            }
            is_kept
        });
        self.forgettings += u64::from(!records.is_empty());
        self.accounts.shrink_to(self.accounts.len() * 2);
        self.holds.shrink_to(self.holds.len() * 2);
        records
    }

    /// An account as it stands; none if no call has reserved on it.
    pub fn account(&self, account: AccountId, now: Timestamp) -> Option<AccountView> {
        let mut view = self.accounts.get(&account)?.view(now);
        if let Some(sharing) = &self.sharing {
            view.spent_elsewhere = sharing.elsewhere(account, now);
        }
        Some(view)
    }

    /// How many accounts there are.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    /// How many calls are under way: holds that are live.
    pub fn live_holds(&self) -> usize {
        let live = |entry: &&HoldEntry| entry.state == HoldState::Live;
        self.holds.values().filter(live).count()
    }

    fn check_shape(&self, call: &Reservation<'_>) -> Result<(), AdmitError> {
        if call.accounts.len() > ACCOUNTS_PER_CALL_MAX || call.limits.len() > ACCOUNTS_PER_CALL_MAX
        {
            return Err(AdmitError::TooManySubjects);
        }
        let accounts_repeat = repeats(call.accounts, |use_| use_.account);
        if accounts_repeat
            || repeats(call.limits, |use_| use_.limit)
            || self.holds.contains_key(&call.attempt)
        {
            return Err(AdmitError::Duplicate);
        }
        if self.holds.len() >= HOLDS_MAX {
            return Err(AdmitError::TooManyHolds);
        }
        let new_accounts = call.accounts.iter();
        let new_accounts = new_accounts.filter(|use_| !self.accounts.contains_key(&use_.account));
        let new_limits = call.limits.iter();
        let new_limits = new_limits.filter(|use_| !self.limits.contains(use_.limit));
        let is_full = |held: usize, new: usize| new > 0 && held + new > ACCOUNTS_MAX;
        if is_full(self.accounts.len(), new_accounts.count())
            || is_full(self.limits.len(), new_limits.count())
            || self
                .sharing
                .as_ref()
                .is_some_and(|sharing| sharing.len() >= SHARES_MAX)
        {
            return Err(AdmitError::TooManySubjects);
        }
        Ok(())
    }

    /// What an account has room for, by this replica's share where it has one.
    fn fit(&self, use_: &AccountUse<'_>, call: &Reservation<'_>) -> Fit {
        let known = self.accounts.get(&use_.account);
        let alone = fit(known, use_, call);
        match &self.sharing {
            None => alone,
            Some(sharing) => sharing.fit(known, use_, call, alone),
        }
    }

    /// What has room only once something else has happened.
    fn check_budgets(&self, call: &Reservation<'_>) -> Result<Blocked, AdmitError> {
        let mut blocked = Blocked::default();
        for use_ in call.accounts {
            let known = self.accounts.get(&use_.account);
            let calls = known.map_or(0, |account| account.calls);
            if let Some(max) = use_.terms.calls_max
                && calls >= max
            {
                return Err(AdmitError::TooManyCalls {
                    account: use_.account,
                    max,
                });
            }
            match self.fit(use_, call) {
                Fit::Fits { .. } => {}
                Fit::AfterOthers => {
                    blocked.by_others = blocked.by_others.or(Some(use_.account));
                }
                Fit::NeedsShare => blocked.needs_share = true,
                Fit::NoCalls { max } => {
                    return Err(AdmitError::TooManyCalls {
                        account: use_.account,
                        max,
                    });
                }
                Fit::Over { spent, limit } => {
                    return Err(AdmitError::OverBudget {
                        account: use_.account,
                        limit,
                        spent,
                        held: known.map_or(PicoUsd::ZERO, |account| account.held),
                        fits_at: known.and_then(|account| {
                            account.spend.falls_to(limit - call.amount, call.now)
                        }),
                    });
                }
            }
        }
        Ok(blocked)
    }

    /// Notes what a call waits for.
    fn need_shares(&mut self, call: &Reservation<'_>) {
        for use_ in call.accounts {
            if self.fit(use_, call) == Fit::NeedsShare
                && let Some(sharing) = &mut self.sharing
            {
                sharing.need(use_, call);
            }
        }
    }

    /// How many have a part of each rate.
    pub(crate) fn replicas(&self) -> u32 {
        self.sharing.as_ref().map_or(1, |sharing| sharing.replicas)
    }

    fn check_leases(&mut self, call: &Reservation<'_>) -> Result<(), AdmitError> {
        let mut records = Vec::new();
        let asking = self.asking(call);
        for use_ in call.accounts {
            let Fit::Fits { available } = self.fit(use_, call) else {
                continue;
            };
            // At once, not once it is durable: whoever asks what a crash would find hears of it.
            let account = self.accounts.entry(use_.account).or_insert_with(|| {
                let spend = Spend::new(use_.terms.window.clone(), call.now);
                let mut account = Account::new(spend, call.now);
                account.is_ephemeral = use_.subject.is_ephemeral();
                account
            });
            lease::shortfall(&asking, account, use_, available, &mut records);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.next_return = self.next_return.min(call.now.plus(LEASE_IDLE));
        Err(AdmitError::NeedsLease(self.request(records)))
    }

    fn take(&mut self, call: &Reservation<'_>) -> Admission {
        let mut refills = Vec::new();
        let mut shares_run_low = false;
        let asking = self.asking(call);
        for use_ in call.accounts {
            let account = self
                .accounts
                .get_mut(&use_.account)
                .expect("an account without a lease is refused before");
            account.hold(use_.terms, call.amount, call.now);
            let mut share = use_.terms.limit;
            if let Some(sharing) = &mut self.sharing {
                shares_run_low |= sharing.took(use_, account, call);
                share = sharing.under(use_.account, share);
            }
            refills.extend(lease::refill(&asking, account, use_, share));
        }
        if !refills.is_empty() {
            self.next_return = self.next_return.min(call.now.plus(LEASE_IDLE));
        }
        let replicas = self.replicas();
        let rates = self
            .limits
            .take(call.limits, replicas, call.tokens, call.elapsed);
        let entry = HoldEntry {
            amount: call.amount,
            tokens: call.tokens,
            accounts: call.accounts.iter().map(|use_| use_.account).collect(),
            limits: call.limits.iter().map(|use_| use_.limit).collect(),
            expires_at: call.expires_at,
            state: HoldState::Live,
        };
        self.holds.insert(call.attempt, entry);
        self.next_expiry = self.next_expiry.min(call.expires_at);
        Admission {
            hold: Hold {
                attempt: call.attempt,
                tenant: self.tenant,
                amount: call.amount,
            },
            rates,
            refill: (!refills.is_empty()).then(|| self.request(refills)),
            shares_run_low,
        }
    }

    fn request(&self, records: Vec<Record>) -> LeaseRequest {
        LeaseRequest {
            records,
            forgettings: self.forgettings,
        }
    }

    fn asking(&self, call: &Reservation<'_>) -> Asking {
        Asking {
            tenant: self.tenant,
            amount: call.amount,
            now: call.now,
            elapsed: call.elapsed,
        }
    }

    /// Puts in an account as the journal left it.
    pub(crate) fn restore_account(&mut self, id: AccountId, account: Account) {
        self.accounts.insert(id, account);
    }

    /// Puts in a call whose end the journal does not know: its amount is among what is spent,
    /// posted to each account at its mark.
    pub(crate) fn restore_unsettled(
        &mut self,
        unsettled: Unsettled,
        posted: impl Iterator<Item = (AccountId, PostedMark)>,
    ) {
        let mut accounts = SmallVec::new();
        let mut marks = Vec::new();
        for (id, mark) in posted {
            self.accounts.get_mut(&id).expect(HAS_ACCOUNT).open += 1;
            accounts.push(id);
            marks.push(mark);
        }
        let entry = HoldEntry {
            amount: unsettled.amount,
            tokens: 0,
            accounts,
            limits: SmallVec::new(),
            expires_at: unsettled.since,
            state: HoldState::Unsettled {
                since: unsettled.since,
                marks,
            },
        };
        self.holds.insert(unsettled.attempt, entry);
    }
}

fn fit(known: Option<&Account>, use_: &AccountUse<'_>, call: &Reservation<'_>) -> Fit {
    match known {
        Some(account) => account.fit(use_.terms, call.amount, call.now),
        None => match use_.terms.limit {
            Some(limit) if call.amount > limit => Fit::Over {
                spent: PicoUsd::ZERO,
                limit,
            },
            limit => Fit::Fits {
                available: limit.unwrap_or(PicoUsd::UNBOUNDED),
            },
        },
    }
}

/// Whether two items have the same key. Lists here are short.
fn repeats<T, K: PartialEq>(items: &[T], key: impl Fn(&T) -> K) -> bool {
    (1..items.len()).any(|last| {
        items[..last]
            .iter()
            .any(|item| key(item) == key(&items[last]))
    })
}
