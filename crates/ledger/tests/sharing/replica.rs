//! One replica: its ledger, its journal, and the calls that it serves.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{AttemptId, KeyId, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{
    AccountId, AccountTerms, AccountUse, Actual, Admission, AdmitError, Ended, Hold, Hop, Intent,
    Lsn, Metering, Outcome, PriceVersion, Projection, Record, ReleaseReason, Reservation, Settled,
    ShareGiven, ShareNews, Subject, TenantLedger, Window,
};

use crate::End;
use crate::coordinator::Letter;

const TENANT: TenantId = TenantId::from_bits(42);
/// How long a hold lives.
const HOLD: Duration = Duration::from_secs(600);
/// Of an exchange.
const ASKS_MAX: usize = 100;

#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) name: Name,
    pub(crate) subject: Subject,
    pub(crate) terms: AccountTerms,
    pub(crate) id: AccountId,
}

impl Budget {
    pub(crate) fn new(name: &str, window: Window, limit: i128) -> Self {
        let name: Name = name.parse().unwrap();
        Self {
            id: AccountId::of(TENANT, &name, &Subject::Tenant),
            name,
            subject: Subject::Tenant,
            terms: AccountTerms {
                limit: Some(PicoUsd::new(limit)),
                window,
                soft_percent: 80,
                calls_max: None,
            },
        }
    }

    /// For a session of so many calls.
    pub(crate) fn session(name: &str, limit: i128, calls_max: u32) -> Self {
        let mut budget = Self::new(name, Window::Total, limit);
        budget.subject = Subject::Session("s-1".parse().unwrap());
        budget.id = AccountId::of(TENANT, &budget.name, &budget.subject);
        budget.terms.calls_max = Some(calls_max);
        budget
    }
}

#[derive(Debug)]
struct Call {
    hold: Hold,
    accounts: Vec<AccountId>,
    expires_at: Timestamp,
    is_sent: bool,
}

#[derive(Debug)]
pub(crate) struct Replica {
    id: usize,
    pub(crate) ledger: TenantLedger,
    journal: Vec<Record>,
    durable: usize,
    calls: Vec<Call>,
    next_attempt: u128,
    epoch: u64,
    sequence: u64,
    /// How far its wall clock is ahead, in seconds.
    skew: i64,
    started: Timestamp,
    asked_at: BTreeMap<AccountId, Duration>,
}

/// What comes of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Admitted { runs_low: bool },
    NeedsShare,
    Waits,
    Over,
}

impl Replica {
    pub(crate) fn new(id: usize, skew: i64, now: Timestamp) -> Self {
        let mut ledger = TenantLedger::new(TENANT);
        ledger.share_with(crate::REPLICAS as u32);
        let mut replica = Self {
            id,
            ledger,
            journal: Vec::new(),
            durable: 0,
            calls: Vec::new(),
            next_attempt: (id as u128 + 1) << 64,
            epoch: 1,
            sequence: 0,
            skew,
            started: now,
            asked_at: BTreeMap::new(),
        };
        let at = replica.wall(now);
        replica.journal.push(Record::Started { at });
        replica
    }

    /// Its wall clock.
    fn wall(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros() + self.skew * 1_000_000)
    }

    /// Its monotonic clock.
    fn elapsed(&self, now: Timestamp) -> Duration {
        now.since(self.started)
    }

    pub(crate) fn used(&self, account: AccountId, now: Timestamp) -> PicoUsd {
        let view = self.ledger.account(account, self.wall(now));
        view.map_or(PicoUsd::ZERO, |view| view.spent + view.held)
    }

    pub(crate) fn spent(&self, account: AccountId, now: Timestamp) -> PicoUsd {
        let view = self.ledger.account(account, self.wall(now));
        view.map_or(PicoUsd::ZERO, |view| view.spent)
    }

    pub(crate) fn calls_of(&self, account: AccountId, now: Timestamp) -> u32 {
        let view = self.ledger.account(account, self.wall(now));
        view.map_or(0, |view| view.calls)
    }

    pub(crate) fn call(&mut self, budgets: &[Budget], amount: i128, now: Timestamp) -> Came {
        let uses: Vec<_> = budgets
            .iter()
            .map(|budget| AccountUse {
                account: budget.id,
                budget: &budget.name,
                subject: &budget.subject,
                terms: &budget.terms,
            })
            .collect();
        let at = self.wall(now);
        self.next_attempt += 1;
        let expires_at = at.plus(HOLD);
        let call = Reservation {
            attempt: AttemptId::from_bits(self.next_attempt),
            limits: &[],
            accounts: &uses,
            amount: PicoUsd::new(amount),
            tokens: 0,
            now: at,
            elapsed: self.elapsed(now),
            expires_at,
        };
        for _ in 0..3 {
            match self.ledger.admit(&call) {
                Ok(admission) => {
                    let runs_low = admission.shares_run_low;
                    self.admitted(admission, budgets, expires_at);
                    return Came::Admitted { runs_low };
                }
                Err(AdmitError::NeedsLease(request)) => {
                    self.journal.extend(request.records().iter().cloned());
                    self.durable = self.journal.len();
                    self.ledger.grant(&request);
                }
                Err(AdmitError::NeedsShare) => return Came::NeedsShare,
                Err(AdmitError::HeldByOthers { .. }) => return Came::Waits,
                Err(AdmitError::OverBudget { .. } | AdmitError::TooManyCalls { .. }) => {
                    return Came::Over;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("a granted lease must be enough");
    }

    fn admitted(&mut self, admission: Admission, budgets: &[Budget], expires_at: Timestamp) {
        if let Some(refill) = &admission.refill {
            self.journal.extend(refill.records().iter().cloned());
            // Granted at once, or never: the journal may have it all the same.
            if self.next_attempt.is_multiple_of(2) {
                self.durable = self.journal.len();
                self.ledger.grant(refill);
            }
        }
        self.calls.push(Call {
            hold: admission.hold,
            accounts: budgets.iter().map(|budget| budget.id).collect(),
            expires_at,
            is_sent: false,
        });
    }

    fn find(&self, which: u16, is_sent: bool) -> Option<usize> {
        let fits = |place: &usize| self.calls[*place].is_sent == is_sent;
        let fitting: Vec<_> = (0..self.calls.len()).filter(fits).collect();
        let place = usize::from(which).checked_rem(fitting.len())?;
        Some(fitting[place])
    }

    pub(crate) fn dispatch(&mut self, which: u16, now: Timestamp) {
        let Some(place) = self.find(which, false) else {
            return;
        };
        let at = self.wall(now);
        let call = &mut self.calls[place];
        call.is_sent = true;
        let attempt = call.hold.attempt();
        let intent = Intent {
            attempt,
            request: RequestId::from_bits(attempt.bits()),
            parent: None,
            prompt: None,
            tenant: TENANT,
            team: None,
            user: None,
            key: KeyId::from_bits(1),
            feature: "chat".parse().unwrap(),
            session: None,
            turn: None,
            hop: Hop::Generate,
            model: "m".parse().unwrap(),
            upstream: "u".parse().unwrap(),
            price_version: PriceVersion(1),
            amount: call.hold.amount(),
            input_bound: 1,
            output_bound: 1,
            accounts: call.accounts.iter().copied().collect(),
            at,
            expires_at: call.expires_at,
        };
        self.journal.push(Record::Intent(Box::new(intent)));
    }

    pub(crate) fn end(&mut self, which: u16, end: End, now: Timestamp) {
        let is_sent = !matches!(end, End::Cancel);
        let Some(place) = self.find(which, is_sent) else {
            return;
        };
        let at = self.wall(now);
        let hold = self.calls.swap_remove(place).hold;
        let attempt = hold.attempt();
        let part = attempt.bits() as i128 % 11;
        let cost = PicoUsd::new(hold.amount().pico() * part / 10).min(hold.amount());
        let (ended, record) = match end {
            End::Settle => {
                let actual = Actual { cost, tokens: 0 };
                let settled = Settled {
                    attempt,
                    consumption: ledger::Consumption::default(),
                    cost,
                    outcome: Outcome::Completed,
                    metering: Metering::Reported,
                    served: None,
                    at,
                };
                let settlement = self.ledger.settle(hold, actual, at);
                (settlement.ended, Some(Record::Settled(settled)))
            }
            End::Release => {
                let reason = ReleaseReason::Refused;
                let released = Record::Released {
                    attempt,
                    reason,
                    at,
                };
                (self.ledger.release(hold, at).ended, Some(released))
            }
            End::Cancel => (self.ledger.cancel(hold, at).ended, None),
        };
        if ended != Ended::Already {
            self.journal.extend(record);
        }
    }

    /// Each second: deadlines, and leases of accounts that are idle.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let at = self.wall(now);
        let unsent = |call: &Call| !call.is_sent && at >= call.expires_at;
        while let Some(place) = self.calls.iter().position(unsent) {
            let _settlement = self.ledger.cancel(self.calls.swap_remove(place).hold, at);
        }
        for expired in self.ledger.expire(at).expired {
            let attempt = expired.attempt;
            self.journal.push(Record::Expired { attempt, at });
        }
        let records = self.ledger.return_idle_leases(at);
        self.journal.extend(records);
        let records = self.ledger.sweep(at, self.elapsed(now));
        self.journal.extend(records);
    }

    pub(crate) fn sync(&mut self) {
        self.durable = self.journal.len();
    }

    pub(crate) fn letter(&mut self, now: Timestamp) -> Letter {
        self.write(ShareNews::Due, now)
    }

    pub(crate) fn letter_at_start(&mut self, now: Timestamp) -> Letter {
        self.write(ShareNews::Everything, now)
    }

    fn write(&mut self, which: ShareNews, now: Timestamp) -> Letter {
        let elapsed = self.elapsed(now);
        let at = self.wall(now);
        let asks = self.ledger.share_asks(which, ASKS_MAX, at, elapsed);
        self.journal.extend(asks.records);
        // A crash finds no more than what is said.
        self.durable = self.journal.len();
        self.sequence += 1;
        for ask in &asks.asks {
            self.asked_at.insert(ask.account, elapsed);
        }
        Letter {
            replica: self.id,
            epoch: self.epoch,
            sequence: self.sequence,
            asks: asks.asks,
        }
    }

    pub(crate) fn hear(&mut self, answers: &[ShareGiven], now: Timestamp) {
        let (at, elapsed) = (self.wall(now), self.elapsed(now));
        for given in answers {
            let asked_at = self.asked_at[&given.account];
            self.ledger.apply_share(given, asked_at, at, elapsed);
        }
    }

    pub(crate) fn hear_nothing(&mut self, letter: &Letter) {
        for ask in &letter.asks {
            self.ledger.share_unanswered(ask.account);
        }
    }

    /// Dies, and starts again from what its disk has.
    pub(crate) fn crash(&mut self, kept_percent: u8, now: Timestamp) {
        let at = self.wall(now);
        let loose = self.journal.len() - self.durable;
        self.journal
            .truncate(self.durable + loose * usize::from(kept_percent) / 100);
        self.journal.push(Record::Started { at });
        self.durable = self.journal.len();
        self.calls.clear();
        let mut projection = Projection::new();
        let mut lines = Vec::new();
        for (place, record) in self.journal.iter().enumerate() {
            projection.apply(Lsn::new(place as u64 + 1), record, &mut lines);
        }
        let ledger = projection.ledgers().unwrap().remove(&TENANT);
        self.ledger = ledger.unwrap_or_else(|| TenantLedger::new(TENANT));
        self.ledger.share_with(crate::REPLICAS as u32);
        self.epoch += 1;
        self.sequence = 0;
        self.started = now;
        self.asked_at.clear();
    }
}
