//! A ledger, its journal, the upstreams' truth, and the model that the ledger is compared with.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{AttemptId, KeyId, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{
    AccountId, AccountTerms, AccountUse, Actual, Admission, AdmitError, Consumption, Ended, Hold,
    Hop, Intent, LedgerLine, Lsn, Metering, Outcome, PriceVersion, Projection, Record,
    ReleaseReason, Reservation, RollingHours, Settled, Subject, TenantLedger, Window, Zone,
};

mod crash;
mod model;

use crate::Step;

const TENANT: TenantId = TenantId::from_bits(42);
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const START: i64 = 20_000 * DAY;
/// How long a hold lives.
const HOLD_SECONDS: i64 = 600;

/// One of everything: a total, a rolling and a daily limit, and a session that is only counted
/// and has few calls.
struct Budget {
    name: Name,
    subject: Subject,
    terms: AccountTerms,
    id: AccountId,
}

fn budgets() -> Vec<Budget> {
    let terms = |limit: Option<i128>, window, calls_max| AccountTerms {
        limit: limit.map(PicoUsd::new),
        window,
        soft_percent: 80,
        calls_max,
    };
    let hours = RollingHours::try_from(24).unwrap();
    let feature = Subject::Feature("chat".parse().unwrap());
    let session = Subject::Session("s-1".parse().unwrap());
    let zone = Zone::UTC;
    let all = [
        (
            "total",
            Subject::Tenant,
            terms(Some(20_000), Window::Total, None),
        ),
        (
            "rolling",
            Subject::Key(KeyId::from_bits(1)),
            terms(Some(3_000), Window::Rolling { hours }, None),
        ),
        (
            "daily",
            feature,
            terms(Some(1_000), Window::Daily { zone }, None),
        ),
        ("session", session, terms(None, Window::Total, Some(30))),
    ];
    all.into_iter()
        .map(|(name, subject, terms)| {
            let name: Name = name.parse().unwrap();
            Budget {
                id: AccountId::of(TENANT, &name, &subject),
                name,
                subject,
                terms,
            }
        })
        .collect()
}

/// A call as its upstream sees it.
#[derive(Debug, Clone)]
struct Call {
    accounts: Vec<usize>,
    amount: PicoUsd,
    cost: PicoUsd,
    expires_at: Timestamp,
    state: CallState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallState {
    Admitted,
    Dispatched,
    /// Expired, or caught by a crash: stands at its amount. With the place at which each
    /// account's model has it.
    Unsettled,
    /// Dispatched, but no intent of it survived a crash.
    Lost,
    Ended,
}

/// What one account should say, as a plain list of postings.
#[derive(Debug, Default)]
struct Model {
    /// (attempt, place, amount); the place is a day's or a bucket's number.
    postings: Vec<(u128, i64, i128)>,
    latest: i64,
}

pub(crate) struct World {
    budgets: Vec<Budget>,
    ledger: TenantLedger,
    journal: Vec<Record>,
    durable: usize,
    projection: Projection,
    lines: BTreeMap<AttemptId, LedgerLine>,
    holds: Vec<Hold>,
    calls: BTreeMap<u128, Call>,
    models: Vec<Model>,
    now: i64,
    next_attempt: u128,
    has_crashed: bool,
    has_restarted: bool,
    has_jumped_back: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let budgets = budgets();
        let models = budgets.iter().map(|_| Model::default()).collect();
        let mut world = Self {
            budgets,
            ledger: TenantLedger::new(TENANT),
            journal: Vec::new(),
            durable: 0,
            projection: Projection::new(),
            lines: BTreeMap::new(),
            holds: Vec::new(),
            calls: BTreeMap::new(),
            models,
            now: START,
            next_attempt: 1,
            has_crashed: false,
            has_restarted: false,
            has_jumped_back: false,
        };
        let at = world.now();
        world.append(Record::Started { at });
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    /// Whether the model knows what the ledger says to the last unit. Not after a crash, and not
    /// after a restart under a clock that goes back before or after it: the journal need not have
    /// seen the latest window that ledger and model moved on to.
    fn is_exact(&self) -> bool {
        !(self.has_crashed || self.has_restarted && self.has_jumped_back)
    }

    fn append(&mut self, record: Record) {
        let lsn = Lsn::new(self.journal.len() as u64 + 1);
        let mut lines = Vec::new();
        self.projection.apply(lsn, &record, &mut lines);
        for line in lines {
            self.lines.insert(line.intent.attempt, line);
        }
        self.journal.push(record);
    }

    fn take_hold(&mut self, which: u16, dispatched: bool) -> Option<Hold> {
        let fitting: Vec<_> = self
            .holds
            .iter()
            .enumerate()
            .filter(|(_, hold)| {
                let state = self.calls[&hold.attempt().bits()].state;
                (state == CallState::Admitted) != dispatched
            })
            .map(|(place, _)| place)
            .collect();
        (!fitting.is_empty()).then(|| {
            self.holds
                .swap_remove(fitting[usize::from(which) % fitting.len()])
        })
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Reserve { mask, amount } => self.reserve(*mask, PicoUsd::new(*amount)),
            Step::Dispatch { which } => self.dispatch(*which),
            Step::Settle { which } => self.settle(*which),
            Step::Release { which } => self.release(*which),
            Step::Cancel { which } => {
                if let Some(hold) = self.take_hold(*which, false) {
                    let attempt = hold.attempt().bits();
                    let _settlement = self.ledger.cancel(hold, self.now());
                    self.end_in_models(attempt, PicoUsd::ZERO);
                }
            }
            Step::Reconcile { which } => self.reconcile(*which),
            Step::Advance { seconds } => self.now += seconds * SECOND,
            Step::Jump { seconds } => {
                self.now += seconds * SECOND;
                self.has_jumped_back |= *seconds < 0;
            }
            Step::Sync => self.durable = self.journal.len(),
            Step::Crash { kept_percent } => self.crash(*kept_percent),
            Step::Restart => self.restart(),
        }
        self.expire();
    }

    fn try_admit(
        &mut self,
        attempt: u128,
        accounts: &[usize],
        amount: PicoUsd,
    ) -> Result<Admission, AdmitError> {
        let uses: Vec<_> = accounts
            .iter()
            .map(|place| {
                let budget = &self.budgets[*place];
                AccountUse {
                    account: budget.id,
                    budget: &budget.name,
                    subject: &budget.subject,
                    terms: &budget.terms,
                }
            })
            .collect();
        let now = self.now();
        self.ledger.admit(&Reservation {
            attempt: AttemptId::from_bits(attempt),
            limits: &[],
            accounts: &uses,
            amount,
            tokens: 0,
            now,
            elapsed: Duration::ZERO,
            expires_at: now.plus(Duration::from_secs(HOLD_SECONDS as u64)),
        })
    }

    fn reserve(&mut self, mask: u8, amount: PicoUsd) {
        let accounts: Vec<_> = (0..4).filter(|bit| mask & (1 << bit) != 0).collect();
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        let expected = self.expected(&accounts, amount);
        for _ in 0..2 {
            match self.try_admit(attempt, &accounts, amount) {
                Ok(admission) => {
                    assert_eq!(expected, Expected::Fits, "let through what does not fit");
                    if let Some(refill) = &admission.refill {
                        // Journaled, and granted only by the next sync: here, at once or never.
                        for record in refill.records() {
                            self.append(record.clone());
                        }
                        if attempt.is_multiple_of(2) {
                            self.durable = self.journal.len();
                            self.ledger.grant(refill);
                        }
                    }
                    self.admitted(attempt, accounts, amount, admission);
                    return;
                }
                Err(AdmitError::NeedsLease(request)) => {
                    assert_eq!(expected, Expected::Fits, "asked for a lease in vain");
                    for record in request.records() {
                        self.append(record.clone());
                    }
                    self.durable = self.journal.len();
                    self.ledger.grant(&request);
                }
                Err(AdmitError::OverBudget { .. }) => {
                    assert_eq!(expected, Expected::Over);
                    return;
                }
                Err(AdmitError::HeldByOthers { .. }) => {
                    assert_eq!(expected, Expected::AfterOthers);
                    return;
                }
                Err(AdmitError::TooManyCalls { max, .. }) => {
                    let session = self.ledger.account(self.budgets[3].id, self.now()).unwrap();
                    assert!(session.calls >= max);
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("a granted lease must be enough");
    }

    fn admitted(
        &mut self,
        attempt: u128,
        accounts: Vec<usize>,
        amount: PicoUsd,
        admission: Admission,
    ) {
        for place in &accounts {
            let latest = self.place(*place);
            self.models[*place].latest = latest;
        }
        // Deterministic, from nothing to all of the bound.
        let cost = PicoUsd::new(amount.pico() * (attempt as i128 * 7 % 11) / 10).min(amount);
        let call = Call {
            accounts,
            amount,
            cost,
            expires_at: self.now().plus(Duration::from_secs(HOLD_SECONDS as u64)),
            state: CallState::Admitted,
        };
        self.calls.insert(attempt, call);
        self.holds.push(admission.hold);
    }

    fn dispatch(&mut self, which: u16) {
        let Some(hold) = self.take_hold(which, false) else {
            return;
        };
        let attempt = hold.attempt().bits();
        let at = self.now();
        let call = self.calls.get_mut(&attempt).unwrap();
        call.state = CallState::Dispatched;
        let intent = Intent {
            attempt: hold.attempt(),
            request: RequestId::from_bits(attempt),
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
            amount: hold.amount(),
            input_bound: 1,
            output_bound: 1,
            accounts: call
                .accounts
                .iter()
                .map(|place| self.budgets[*place].id)
                .collect(),
            at,
            expires_at: at.plus(Duration::from_secs(HOLD_SECONDS as u64)),
        };
        self.append(Record::Intent(Box::new(intent)));
        self.holds.push(hold);
    }

    fn settle(&mut self, which: u16) {
        let Some(hold) = self.take_hold(which, true) else {
            return;
        };
        let attempt = hold.attempt();
        let (at, cost) = (self.now(), self.calls[&attempt.bits()].cost);
        let settlement = self.ledger.settle(hold, Actual { cost, tokens: 0 }, at);
        assert_eq!(settlement.overshoot, PicoUsd::ZERO);
        if settlement.ended == Ended::Already {
            return;
        }
        self.append(Record::Settled(Settled {
            attempt,
            consumption: Consumption::default(),
            cost,
            outcome: Outcome::Completed,
            metering: Metering::Reported,
            served: None,
            at,
        }));
        self.end_in_models(attempt.bits(), cost);
    }

    fn release(&mut self, which: u16) {
        let Some(hold) = self.take_hold(which, true) else {
            return;
        };
        let (attempt, at) = (hold.attempt(), self.now());
        if self.ledger.release(hold, at).ended == Ended::Already {
            return;
        }
        let reason = ReleaseReason::Refused;
        self.append(Record::Released {
            attempt,
            reason,
            at,
        });
        self.end_in_models(attempt.bits(), PicoUsd::ZERO);
    }

    fn reconcile(&mut self, which: u16) {
        let unsettled = self.ledger.unsettled();
        if unsettled.is_empty() {
            return;
        }
        let attempt = unsettled[usize::from(which) % unsettled.len()].attempt;
        // One that is admitted and expired before it left is cancelled, not reconciled.
        let is_live = self.holds.iter().any(|hold| hold.attempt() == attempt);
        let (at, call) = (self.now(), self.calls[&attempt.bits()].clone());
        let is_reported = self.is_reported(attempt);
        if is_live && !is_reported {
            return;
        }
        self.ledger.reconcile(attempt, call.cost, at).unwrap();
        self.append(Record::Reconciled {
            attempt,
            cost: call.cost,
            at,
        });
        self.end_in_models(attempt.bits(), call.cost);
    }

    fn is_reported(&self, attempt: AttemptId) -> bool {
        self.journal
            .iter()
            .any(|record| matches!(record, Record::Intent(intent) if intent.attempt == attempt))
    }

    /// What has not left by its deadline is cancelled by its own task, and the rest expires.
    fn expire(&mut self) {
        let at = self.now();
        let (late, live): (Vec<Hold>, Vec<Hold>) = std::mem::take(&mut self.holds)
            .into_iter()
            .partition(|hold| {
                let call = &self.calls[&hold.attempt().bits()];
                call.state == CallState::Admitted && at >= call.expires_at
            });
        self.holds = live;
        for hold in late {
            let attempt = hold.attempt().bits();
            let _settlement = self.ledger.cancel(hold, at);
            self.end_in_models(attempt, PicoUsd::ZERO);
        }
        for expired in self.ledger.expire(at).expired {
            let attempt = expired.attempt;
            self.append(Record::Expired { attempt, at });
            let call = self.calls.get_mut(&attempt.bits()).unwrap();
            if call.state == CallState::Dispatched {
                call.state = CallState::Unsettled;
            }
            for account in call.accounts.clone() {
                self.post(account, attempt.bits(), expired.amount);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Fits,
    AfterOthers,
    Over,
}
