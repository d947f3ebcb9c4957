//! Does the journal add up? Checked from its records alone.

use std::collections::HashMap;

use base::{AttemptId, PicoUsd, Timestamp};

use crate::{AccountId, LineState, Lsn, Projection, Record};

/// Checks records one by one, in order.
#[derive(Debug)]
pub struct Verifier {
    projection: Projection,
    /// How each attempt that ended did, to find a second end.
    ended: HashMap<AttemptId, Lsn>,
    /// Each account's limit, as its last lease states it. A higher one takes effect with the
    /// next lease, since the earlier one allows no more than the lower limit.
    limits: HashMap<AccountId, PicoUsd>,
    report: VerifyReport,
}

/// What a journal contains, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Records that were checked.
    pub records: u64,
    /// Calls that were dispatched.
    pub attempts: u64,
    /// Of these, settled.
    pub settled: u64,
    /// Released.
    pub released: u64,
    /// Reconciled.
    pub reconciled: u64,
    /// Without an end: under way, or to be reconciled.
    pub open: u64,
    /// What was settled and reconciled, in all.
    pub cost: PicoUsd,
    /// How much was charged beyond what was held, in all: bounds that were wrong.
    pub overshoot: PicoUsd,
    /// What is wrong: the first [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
}

/// 100: enough to see a pattern.
pub const FAULTS_MAX: usize = 100;

/// Something that may not be in a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Invariant 5.
    #[error("record {lsn}: {account:?} came to {counted} dollars, beyond its limit of {limit}")]
    BeyondLimit {
        /// The intent of the call that was let through.
        lsn: Lsn,
        /// The account.
        account: AccountId,
        /// What was spent and held then.
        counted: PicoUsd,
        /// The budget's limit.
        limit: PicoUsd,
    },
    /// Invariant 6.
    #[error("record {lsn}: {attempt} ended a second time, after record {first}")]
    EndedTwice {
        /// The second end.
        lsn: Lsn,
        /// The call.
        attempt: AttemptId,
        /// The first end.
        first: Lsn,
    },
    /// Invariant 6.
    #[error("record {lsn}: {attempt} ended without an intent")]
    NeverBegan {
        /// The end.
        lsn: Lsn,
        /// The call.
        attempt: AttemptId,
    },
    /// Invariant 6.
    #[error("record {lsn}: {attempt} began a second time")]
    BeganTwice {
        /// The second intent.
        lsn: Lsn,
        /// The call.
        attempt: AttemptId,
    },
    /// Invariant 7.
    #[error("record {lsn}: {attempt} was dispatched beyond the lease of {account:?}")]
    BeyondLease {
        /// The intent.
        lsn: Lsn,
        /// The call.
        attempt: AttemptId,
        /// The account.
        account: AccountId,
    },
    /// Invariant 8.
    #[error("{account:?} holds {held} dollars, and its open calls come to {open}")]
    HoldLeaked {
        /// The account.
        account: AccountId,
        /// What it holds.
        held: PicoUsd,
        /// The upper bounds of its calls under way.
        open: PicoUsd,
    },
    /// A clean end with calls under way.
    #[error("record {lsn}: closed with {live} calls under way")]
    ClosedWhileOpen {
        /// The record.
        lsn: Lsn,
        /// How many.
        live: u64,
    },
    /// A record of an account or attempt that no record introduced.
    #[error("record {lsn} speaks of what no record introduced")]
    Stray {
        /// The record.
        lsn: Lsn,
    },
}

impl Verifier {
    /// Goes on from what earlier records add up to.
    pub fn new(projection: Projection) -> Self {
        Self {
            projection,
            ended: HashMap::new(),
            limits: HashMap::new(),
            report: VerifyReport::default(),
        }
    }

    /// Checks the next record.
    pub fn record(&mut self, lsn: Lsn, record: &Record) {
        if lsn <= self.projection.last() {
            return;
        }
        self.report.records += 1;
        let faults_before = self.report.fault_count;
        self.check_before(lsn, record);
        let strays_before = self.projection.strays();
        let mut lines = Vec::new();
        self.projection.apply(lsn, record, &mut lines);
        let is_explained = self.report.fault_count > faults_before;
        if self.projection.strays() > strays_before && !is_explained {
            self.fault(Fault::Stray { lsn });
        }
        for line in lines {
            self.count(lsn, line.intent.attempt, line.state, line.cost);
            let beyond = line.cost.saturating_sub(line.intent.amount);
            self.report.overshoot += beyond;
        }
        self.check_after(lsn, record);
    }

    /// What was found.
    pub fn finish(mut self) -> VerifyReport {
        let mut held: HashMap<AccountId, PicoUsd> = HashMap::new();
        for open in self.projection.open.values() {
            if open.unsettled.is_none() {
                for account in &open.intent.accounts {
                    *held.entry(*account).or_default() += open.intent.amount;
                }
            }
        }
        let mut leaks: Vec<_> = self
            .projection
            .accounts
            .iter()
            .map(|(id, account)| (*id, account.held, held.remove(id).unwrap_or_default()))
            .filter(|(_, held, open)| held != open)
            .collect();
        leaks.sort_unstable();
        for (account, held, open) in leaks {
            self.fault(Fault::HoldLeaked {
                account,
                held,
                open,
            });
        }
        self.report.open = self.projection.open_attempts() as u64;
        self.report
    }

    fn check_before(&mut self, lsn: Lsn, record: &Record) {
        match record {
            Record::Intent(intent) => {
                let attempt = intent.attempt;
                self.report.attempts += 1;
                let is_open = self.projection.open.contains_key(&attempt);
                if is_open || self.ended.contains_key(&attempt) {
                    self.fault(Fault::BeganTwice { lsn, attempt });
                    return;
                }
                for id in &intent.accounts {
                    let account = self.projection.accounts.get(id);
                    let is_leased = account.is_none_or(|account| {
                        account.reported + intent.amount <= account.lease_limit
                    });
                    if !is_leased {
                        let account = *id;
                        self.fault(Fault::BeyondLease {
                            lsn,
                            attempt,
                            account,
                        });
                    }
                }
            }
            Record::Settled(settled) => self.check_end(lsn, settled.attempt),
            Record::Released { attempt, .. } | Record::Reconciled { attempt, .. } => {
                self.check_end(lsn, *attempt);
            }
            Record::Closed { .. } => {
                let open = self.projection.open.values();
                let live = open.filter(|open| open.unsettled.is_none()).count() as u64;
                if live > 0 {
                    self.fault(Fault::ClosedWhileOpen { lsn, live });
                }
            }
            _ => {}
        }
    }

    fn check_end(&mut self, lsn: Lsn, attempt: AttemptId) {
        if let Some(first) = self.ended.get(&attempt) {
            let first = *first;
            self.fault(Fault::EndedTwice {
                lsn,
                attempt,
                first,
            });
        } else if !self.projection.open.contains_key(&attempt) {
            self.fault(Fault::NeverBegan { lsn, attempt });
        }
    }

    fn count(&mut self, lsn: Lsn, attempt: AttemptId, state: LineState, cost: PicoUsd) {
        match state {
            LineState::Settled { .. } => self.report.settled += 1,
            LineState::Released { .. } => self.report.released += 1,
            LineState::Reconciled => self.report.reconciled += 1,
            LineState::Unsettled => return,
        }
        self.report.cost += cost;
        self.ended.insert(attempt, lsn);
    }

    fn check_after(&mut self, lsn: Lsn, record: &Record) {
        match record {
            Record::LeaseRaised {
                account, budget, ..
            } => {
                match budget {
                    Some(limit) => self.limits.insert(*account, *limit),
                    None => self.limits.remove(account),
                };
            }
            Record::Intent(intent) => {
                for account in &intent.accounts {
                    self.check_limit(lsn, *account, intent.at);
                }
            }
            _ => {}
        }
    }

    fn check_limit(&mut self, lsn: Lsn, account: AccountId, at: Timestamp) {
        let known = self.projection.accounts.get(&account);
        let (Some(known), Some(limit)) = (known, self.limits.get(&account)) else {
            return;
        };
        let (counted, limit) = (known.spend.spent(at) + known.held, *limit);
        if counted > limit {
            self.fault(Fault::BeyondLimit {
                lsn,
                account,
                counted,
                limit,
            });
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.report.fault_count += 1;
        if self.report.faults.len() < FAULTS_MAX {
            self.report.faults.push(fault);
        }
    }
}

/// Checks a whole journal.
pub fn verify<'a>(records: impl IntoIterator<Item = (Lsn, &'a Record)>) -> VerifyReport {
    let mut verifier = Verifier::new(Projection::new());
    for (lsn, record) in records {
        verifier.record(lsn, record);
    }
    verifier.finish()
}
