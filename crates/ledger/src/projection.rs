//! What the journal's records add up to.

use std::collections::HashMap;

use base::{AttemptId, ModelName, Name, PicoUsd, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::lease::Lease;
use crate::stranded::Stranded;
use crate::subject::IdMap;
use crate::{
    AccountId, AccountOpened, Consumption, Intent, LedgerLine, LineState, Lsn, PostedMark, Record,
    Settled, Spend, Subject, TenantLedger, Unsettled,
};

/// The state that replaying the journal leads to: the same records always lead to the same
/// state, and a record that is replayed twice counts once.
///
/// To start a process: replay all records, append [`Record::Started`], apply that too, and take
/// [`Projection::ledgers`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Projection {
    pub(crate) last: Lsn,
    pub(crate) accounts: IdMap<AccountId, ProjectedAccount>,
    pub(crate) open: IdMap<AttemptId, OpenAttempt>,
    pub(crate) strays: u64,
    /// Whether nothing was dispatched since the last [`Record::Started`].
    pub(crate) is_at_start: bool,
}

/// An account as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProjectedAccount {
    pub(crate) tenant: TenantId,
    pub(crate) budget: Name,
    pub(crate) subject: Subject,
    pub(crate) spend: Spend,
    pub(crate) held: PicoUsd,
    pub(crate) lease_limit: PicoUsd,
    /// The amounts of all intents, and what was returned of leases.
    pub(crate) reported: PicoUsd,
    pub(crate) stranded: Stranded,
    pub(crate) calls: u32,
    pub(crate) last_used: Timestamp,
}

/// A call of which the journal knows no end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenAttempt {
    pub(crate) intent: Box<Intent>,
    /// Where its amount was posted, per account, and since when; none while it is held.
    pub(crate) unsettled: Option<(Timestamp, Vec<PostedMark>)>,
}

/// An account as the journal knows it, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    /// Whose it is.
    pub tenant: TenantId,
    /// The budget that it counts for.
    pub budget: Name,
    /// Whom it is about.
    pub subject: Subject,
    /// Spent in the window, what is not reconciled yet included.
    pub spent: PicoUsd,
    /// Held by calls under way.
    pub held: PicoUsd,
    /// Dispatchable beyond what the journal knows to be dispatched.
    pub lease_left: PicoUsd,
    /// Of what was spent: what crashes left unreported, until it is reconciled.
    pub unreported: PicoUsd,
    /// Calls over the account's life.
    pub calls: u32,
}

/// [`Projection::ledgers`] was asked for while calls are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ledgers begin right after a `Started` record")]
pub struct NotStarted;

impl Projection {
    /// Before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last record that was applied.
    pub const fn last(&self) -> Lsn {
        self.last
    }

    /// How many records spoke of what the journal does not know: a bug of whoever wrote it.
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// How many calls have no end yet, unsettled ones included.
    pub fn open_attempts(&self) -> usize {
        self.open.len()
    }

    /// An account at `now`; none if the journal does not know it.
    pub fn account(&self, account: AccountId, now: Timestamp) -> Option<AccountSummary> {
        Some(self.accounts.get(&account)?.summary(now))
    }

    /// All accounts at `now`, in the order of their ids.
    pub fn accounts(&self, now: Timestamp) -> Vec<(AccountId, AccountSummary)> {
        let mut accounts: Vec<_> = self
            .accounts
            .iter()
            .map(|(id, account)| (*id, account.summary(now)))
            .collect();
        accounts.sort_by_key(|(id, _)| *id);
        accounts
    }

    /// Applies one record, and appends the lines that it makes or changes to `lines`. A record
    /// that was applied before changes nothing.
    pub fn apply(&mut self, lsn: Lsn, record: &Record, lines: &mut Vec<LedgerLine>) {
        if lsn <= self.last {
            return;
        }
        self.last = lsn;
        self.is_at_start &= !matches!(record, Record::Intent(_) | Record::LeaseRaised { .. });
        match record {
            Record::Started { at } => self.start(lsn, *at, lines),
            Record::AccountOpened(opened) => self.open_account(opened),
            Record::AccountForgotten { account } => {
                let forgotten = self.accounts.remove(account);
                self.strays += u64::from(forgotten.is_none());
            }
            Record::LeaseRaised { account, limit, .. } => self.with(*account, |account| {
                account.lease_limit = account.lease_limit.max(*limit);
            }),
            Record::LeaseReconciled {
                account,
                unspent,
                at,
            } => self.with(*account, |account| {
                account
                    .stranded
                    .reconcile(&mut account.spend, *unspent, *at);
            }),
            Record::LeaseReturned {
                account, unused, ..
            } => self.with(*account, |account| account.reported += *unused),
            Record::Intent(intent) => self.dispatch(intent),
            Record::Settled(settled) => self.settle(lsn, settled, lines),
            Record::Released {
                attempt,
                reason,
                at,
            } => {
                let state = LineState::Released { reason: *reason };
                let end = End::new(PicoUsd::ZERO, state, *at);
                self.end(lsn, *attempt, &end, lines);
            }
            Record::Expired { attempt, at } => self.expire(lsn, *attempt, *at, lines),
            Record::Reconciled { attempt, cost, at } => {
                let end = End::new(*cost, LineState::Reconciled, *at);
                self.end(lsn, *attempt, &end, lines);
            }
            Record::Closed { .. } => {
                for account in self.accounts.values_mut() {
                    account.lease_limit = account.reported;
                }
            }
        }
    }

    /// The ledgers to go on with, one per tenant that has an account. What a crash left open
    /// is in them as unsettled, and what it left unreported as spent.
    ///
    /// # Errors
    ///
    /// [`NotStarted`] unless a [`Record::Started`] was applied and nothing dispatched since.
    pub fn ledgers(&self) -> Result<HashMap<TenantId, TenantLedger>, NotStarted> {
        if !self.is_at_start {
            return Err(NotStarted);
        }
        let mut ledgers: HashMap<TenantId, TenantLedger> = HashMap::new();
        for (id, account) in &self.accounts {
            let ledger = ledgers
                .entry(account.tenant)
                .or_insert_with(|| TenantLedger::new(account.tenant));
            ledger.restore_account(*id, account.restored());
        }
        for (attempt, open) in &self.open {
            let Some((since, marks)) = &open.unsettled else {
                return Err(NotStarted);
            };
            let tenant = open.intent.tenant;
            let ledger = ledgers
                .entry(tenant)
                .or_insert_with(|| TenantLedger::new(tenant));
            let unsettled = Unsettled {
                attempt: *attempt,
                amount: open.intent.amount,
                since: *since,
            };
            let posted = open
                .intent
                .accounts
                .iter()
                .copied()
                .zip(marks.iter().copied());
            let posted = posted.filter(|(account, _)| self.accounts.contains_key(account));
            ledger.restore_unsettled(unsettled, posted);
        }
        Ok(ledgers)
    }

    fn with(&mut self, account: AccountId, act: impl FnOnce(&mut ProjectedAccount)) {
        match self.accounts.get_mut(&account) {
            Some(account) => act(account),
            None => self.strays += 1,
        }
    }

    fn open_account(&mut self, opened: &AccountOpened) {
        let account = self
            .accounts
            .entry(opened.account)
            .or_insert_with(|| ProjectedAccount::new(opened));
        if account.spend.window() != &opened.window {
            account
                .spend
                .change_window(opened.window.clone(), opened.at);
        }
    }

    fn dispatch(&mut self, intent: &Intent) {
        if self.open.contains_key(&intent.attempt) {
            self.strays += 1;
            return;
        }
        // An intent of an unknown account must not be lost for the others: what is known of it
        // is kept, and the rest is counted as stray.
        let mut kept = Box::new(intent.clone());
        kept.accounts
            .retain(|account| self.accounts.contains_key(account));
        self.strays += (intent.accounts.len() - kept.accounts.len()) as u64;
        for id in &kept.accounts {
            if let Some(account) = self.accounts.get_mut(id) {
                account.spend.advance(intent.at);
                account.held += intent.amount;
                account.reported += intent.amount;
                account.calls = account.calls.saturating_add(1);
                account.last_used = account.last_used.max(intent.at);
            }
        }
        let open = OpenAttempt {
            intent: kept,
            unsettled: None,
        };
        self.open.insert(intent.attempt, open);
    }

    fn settle(&mut self, lsn: Lsn, settled: &Settled, lines: &mut Vec<LedgerLine>) {
        let state = LineState::Settled {
            outcome: settled.outcome,
            metering: settled.metering,
        };
        let end = End {
            served: settled.served.clone(),
            consumption: settled.consumption,
            ..End::new(settled.cost, state, settled.at)
        };
        self.end(lsn, settled.attempt, &end, lines);
    }

    fn end(&mut self, lsn: Lsn, attempt: AttemptId, end: &End, lines: &mut Vec<LedgerLine>) {
        let Some(open) = self.open.remove(&attempt) else {
            self.strays += 1;
            return;
        };
        for (place, id) in open.intent.accounts.iter().enumerate() {
            let Some(account) = self.accounts.get_mut(id) else {
                continue;
            };
            if matches!(end.state, LineState::Released { .. }) {
                account.calls = account.calls.saturating_sub(1);
            }
            account.last_used = account.last_used.max(end.at);
            let amount = open.intent.amount;
            match &open.unsettled {
                None => {
                    account.held -= amount;
                    account.spend.post(end.at, end.cost);
                }
                Some((_, marks)) if end.cost <= amount => {
                    account.spend.refund(marks[place], amount - end.cost);
                }
                Some(_) => {
                    account.spend.post(end.at, end.cost - amount);
                }
            }
        }
        lines.push(LedgerLine {
            lsn,
            intent: *open.intent,
            served: end.served.clone(),
            consumption: end.consumption,
            cost: end.cost,
            state: end.state,
            at: end.at,
        });
    }

    /// A hold that expired before its call left has no intent: nothing is to be done then.
    fn expire(&mut self, lsn: Lsn, attempt: AttemptId, at: Timestamp, lines: &mut Vec<LedgerLine>) {
        let Some(open) = self.open.get_mut(&attempt) else {
            return;
        };
        if open.unsettled.is_some() {
            self.strays += 1;
            return;
        }
        let mut marks = Vec::with_capacity(open.intent.accounts.len());
        for id in &open.intent.accounts {
            // One mark per account, also where a journal forgot an account too early.
            let mark = self.accounts.get_mut(id).map(|account| {
                account.held -= open.intent.amount;
                account.last_used = account.last_used.max(at);
                account.spend.post(at, open.intent.amount)
            });
            marks.push(mark.unwrap_or_default());
        }
        open.unsettled = Some((at, marks));
        lines.push(LedgerLine {
            lsn,
            intent: (*open.intent).clone(),
            served: None,
            consumption: Consumption::default(),
            cost: open.intent.amount,
            state: LineState::Unsettled,
            at,
        });
    }

    /// Another process takes over: nobody will settle what is open, and nobody knows what was
    /// dispatched and not reported.
    fn start(&mut self, lsn: Lsn, at: Timestamp, lines: &mut Vec<LedgerLine>) {
        let mut live: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| open.unsettled.is_none())
            .map(|(attempt, _)| *attempt)
            .collect();
        live.sort_unstable();
        for attempt in live {
            self.expire(lsn, attempt, at, lines);
        }
        for account in self.accounts.values_mut() {
            let unreported = account.lease_limit.saturating_sub(account.reported);
            if unreported > PicoUsd::ZERO {
                let mark = account.spend.post(at, unreported);
                account.stranded.add(&account.spend, unreported, mark, at);
            }
            // The counters go on from one value, so that the next lease starts from nothing.
            account.reported = account.reported.max(account.lease_limit);
            account.lease_limit = account.reported;
        }
        self.is_at_start = true;
    }
}

/// How a call ended.
struct End {
    served: Option<ModelName>,
    consumption: Consumption,
    cost: PicoUsd,
    state: LineState,
    at: Timestamp,
}

impl End {
    fn new(cost: PicoUsd, state: LineState, at: Timestamp) -> Self {
        Self {
            served: None,
            consumption: Consumption::default(),
            cost,
            state,
            at,
        }
    }
}

impl ProjectedAccount {
    fn new(opened: &AccountOpened) -> Self {
        Self {
            tenant: opened.tenant,
            budget: opened.budget.clone(),
            subject: opened.subject.clone(),
            spend: Spend::new(opened.window.clone(), opened.at),
            held: PicoUsd::ZERO,
            lease_limit: PicoUsd::ZERO,
            reported: PicoUsd::ZERO,
            stranded: Stranded::default(),
            calls: 0,
            last_used: opened.at,
        }
    }

    fn summary(&self, now: Timestamp) -> AccountSummary {
        AccountSummary {
            tenant: self.tenant,
            budget: self.budget.clone(),
            subject: self.subject.clone(),
            spent: self.spend.spent(now),
            held: self.held,
            lease_left: self.lease_limit.saturating_sub(self.reported),
            unreported: self.stranded.counted(&self.spend, now),
            calls: self.calls,
        }
    }

    fn restored(&self) -> Account {
        let mut account = Account::new(self.spend.clone(), self.last_used);
        account.lease = Lease::at_start(self.reported, self.lease_limit);
        account.stranded = self.stranded.clone();
        account.calls = self.calls;
        account.is_ephemeral = self.subject.is_ephemeral();
        account.is_journaled = true;
        account
    }
}
