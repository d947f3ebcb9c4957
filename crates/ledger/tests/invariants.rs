//! Random histories of one tenant's ledger, checked after every step against a model that is too
//! simple to be wrong, and against what the journal adds up to.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::time::Duration;

use base::{AttemptId, KeyId, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{
    AccountId, AccountTerms, AccountUse, Actual, Admission, AdmitError, Consumption, Ended, Fault,
    Hold, Hop, Intent, LedgerLine, Lsn, Metering, Outcome, PriceVersion, Projection, Record,
    ReleaseReason, Reservation, RollingHours, Settled, Subject, TenantLedger, Window, Zone, verify,
};
use proptest::prelude::*;

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

#[derive(Debug, Clone)]
enum Step {
    /// Reserve on the accounts of the mask's bits.
    Reserve {
        mask: u8,
        amount: i128,
    },
    /// Send a call that was let through, and journal its intent.
    Dispatch {
        which: u16,
    },
    Settle {
        which: u16,
    },
    Release {
        which: u16,
    },
    Cancel {
        which: u16,
    },
    Reconcile {
        which: u16,
    },
    Advance {
        seconds: i64,
    },
    /// The wall clock alone.
    Jump {
        seconds: i64,
    },
    /// The journal's writer finishes a commit.
    Sync,
    /// The process dies; of what was not synced this part survives, in per cent.
    Crash {
        kept_percent: usize,
    },
    /// The process ends as it should, and starts again.
    Restart,
}

fn steps(crashes: bool) -> impl Strategy<Value = Vec<Step>> {
    let index = any::<u16>;
    let step = prop_oneof![
        12 => (1_u8..16, 0_i128..400).prop_map(|(mask, amount)| Step::Reserve { mask, amount }),
        12 => index().prop_map(|which| Step::Dispatch { which }),
        10 => index().prop_map(|which| Step::Settle { which }),
        2 => index().prop_map(|which| Step::Release { which }),
        2 => index().prop_map(|which| Step::Cancel { which }),
        4 => index().prop_map(|which| Step::Reconcile { which }),
        4 => (0_i64..1_200).prop_map(|seconds| Step::Advance { seconds }),
        1 => (0_i64..2 * 86_400).prop_map(|seconds| Step::Advance { seconds }),
        1 => (-90_000_i64..90_000).prop_map(|seconds| Step::Jump { seconds }),
        3 => Just(Step::Sync),
        2 => (0_usize..=100).prop_map(|kept_percent| Step::Crash { kept_percent }),
        1 => Just(Step::Restart),
    ];
    let step = step.prop_map(move |step| match step {
        Step::Crash { .. } | Step::Restart if !crashes => Step::Sync,
        step => step,
    });
    proptest::collection::vec(step, 1..150)
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

struct World {
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
    has_jumped_back: bool,
}

impl World {
    fn new() -> Self {
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
            has_jumped_back: false,
        };
        let at = world.now();
        world.append(Record::Started { at });
        world
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
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

    fn step(&mut self, step: &Step) {
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

    fn post(&mut self, account: usize, attempt: u128, amount: PicoUsd) {
        let place = self.place(account);
        self.models[account].latest = place;
        self.models[account]
            .postings
            .push((attempt, place, amount.pico()));
    }

    /// What a call cost replaces what was posted for it, if anything was.
    fn end_in_models(&mut self, attempt: u128, cost: PicoUsd) {
        let call = self.calls.get_mut(&attempt).unwrap();
        call.state = CallState::Ended;
        call.cost = cost;
        for account in call.accounts.clone() {
            let postings = &mut self.models[account].postings;
            match postings.iter_mut().find(|posting| posting.0 == attempt) {
                Some(posting) => posting.2 = cost.pico(),
                None => self.post(account, attempt, cost),
            }
        }
    }

    fn place_of(budget: &Budget, now: i64) -> i64 {
        match budget.terms.window {
            Window::Daily { .. } => now.div_euclid(DAY),
            Window::Rolling { .. } => now.div_euclid(DAY / 24),
            _ => 0,
        }
    }

    fn place(&self, account: usize) -> i64 {
        Self::place_of(&self.budgets[account], self.now).max(self.models[account].latest)
    }

    fn model_spent(&self, account: usize) -> PicoUsd {
        let current = self.place(account);
        let oldest = match self.budgets[account].terms.window {
            Window::Rolling { .. } => current - 24,
            _ => current,
        };
        let counted = self.models[account].postings.iter();
        PicoUsd::new(
            counted
                .filter(|posting| posting.1 >= oldest)
                .map(|posting| posting.2)
                .sum(),
        )
    }

    fn model_held(&self, account: usize) -> PicoUsd {
        let live = |call: &&Call| matches!(call.state, CallState::Admitted | CallState::Dispatched);
        self.calls
            .iter()
            .filter(|(attempt, _)| {
                !self.models[account]
                    .postings
                    .iter()
                    .any(|posting| posting.0 == **attempt)
            })
            .map(|(_, call)| call)
            .filter(live)
            .filter(|call| call.accounts.contains(&account))
            .map(|call| call.amount)
            .sum()
    }

    fn expected(&self, accounts: &[usize], amount: PicoUsd) -> Expected {
        let mut expected = Expected::Fits;
        for account in accounts {
            let budget = &self.budgets[*account];
            let known = self.ledger.account(budget.id, self.now());
            let (spent, held) = known.map_or_else(Default::default, |view| (view.spent, view.held));
            if !self.has_crashed {
                assert_eq!(
                    (spent, held),
                    (self.model_spent(*account), self.model_held(*account))
                );
            }
            match budget.terms.limit {
                Some(limit) if spent + amount > limit => return Expected::Over,
                Some(limit) if spent + held + amount > limit => expected = Expected::AfterOthers,
                _ => {}
            }
        }
        expected
    }

    fn crash(&mut self, kept_percent: usize) {
        let kept = self.durable + (self.journal.len() - self.durable) * kept_percent / 100;
        self.journal.truncate(kept);
        self.has_crashed = true;
        self.holds.clear();
        self.projection = self.replay();
        let surviving: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state != CallState::Ended)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in surviving {
            let is_reported = self.is_reported(AttemptId::from_bits(attempt));
            let call = self.calls.get_mut(&attempt).unwrap();
            call.state = match call.state {
                CallState::Admitted => CallState::Ended,
                CallState::Lost => CallState::Lost,
                _ if is_reported => CallState::Unsettled,
                _ => CallState::Lost,
            };
            if call.state == CallState::Ended {
                call.cost = PicoUsd::ZERO;
            }
        }
        // A call whose settlement was lost stands at its bound again, or is lost altogether.
        let open: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state == CallState::Ended && call.cost > PicoUsd::ZERO)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in open {
            let id = AttemptId::from_bits(attempt);
            let has_end = self.journal.iter().any(|record| match record {
                Record::Settled(settled) => settled.attempt == id,
                Record::Released { attempt, .. } | Record::Reconciled { attempt, .. } => {
                    *attempt == id
                }
                _ => false,
            });
            if !has_end {
                let is_reported = self.is_reported(id);
                let call = self.calls.get_mut(&attempt).unwrap();
                call.state = if is_reported {
                    CallState::Unsettled
                } else {
                    CallState::Lost
                };
            }
        }
        self.start();
    }

    fn restart(&mut self) {
        while let Some(hold) = self.holds.pop() {
            let (attempt, at) = (hold.attempt(), self.now());
            let call = self.calls[&attempt.bits()].clone();
            if call.state == CallState::Admitted {
                let _settlement = self.ledger.cancel(hold, at);
                self.end_in_models(attempt.bits(), PicoUsd::ZERO);
                continue;
            }
            if self.ledger.release(hold, at).ended == Ended::Already {
                continue;
            }
            let reason = ReleaseReason::Refused;
            self.append(Record::Released {
                attempt,
                reason,
                at,
            });
            self.end_in_models(attempt.bits(), PicoUsd::ZERO);
        }
        // The journal need not have seen the latest window that the ledger and the model did.
        self.has_crashed |= self.has_jumped_back;
        let at = self.now();
        self.append(Record::Closed { at });
        let unreported: Vec<_> = self.unreported();
        self.projection = self.replay();
        self.start();
        assert_eq!(
            self.unreported(),
            unreported,
            "a clean end leaves nothing unreported"
        );
    }

    fn unreported(&self) -> Vec<PicoUsd> {
        let view = |budget: &Budget| self.ledger.account(budget.id, self.now());
        self.budgets
            .iter()
            .map(|budget| view(budget).map_or(PicoUsd::ZERO, |view| view.unreported))
            .collect()
    }

    /// Replays all, by way of a checkpoint in the middle and records that come twice.
    fn replay(&mut self) -> Projection {
        self.lines.clear();
        let mut whole = Projection::new();
        let mut resumed = Projection::new();
        for (place, record) in self.journal.iter().enumerate() {
            let lsn = Lsn::new(place as u64 + 1);
            let mut lines = Vec::new();
            whole.apply(lsn, record, &mut lines);
            for line in lines {
                self.lines.insert(line.intent.attempt, line);
            }
            resumed.apply(lsn, record, &mut Vec::new());
            if place == self.journal.len() / 2 {
                let bytes = resumed.to_bytes();
                resumed = Projection::from_bytes(&bytes).expect("own bytes");
                for (place, record) in self.journal[..=place].iter().enumerate() {
                    resumed.apply(Lsn::new(place as u64 + 1), record, &mut Vec::new());
                }
            }
        }
        assert!(
            whole == resumed,
            "a checkpoint and duplicates change nothing"
        );
        whole
    }

    fn start(&mut self) {
        let at = self.now();
        self.append(Record::Started { at });
        self.durable = self.journal.len();
        let mut ledgers = self.projection.ledgers().expect("just started");
        self.ledger = ledgers
            .remove(&TENANT)
            .unwrap_or_else(|| TenantLedger::new(TENANT));
        assert!(ledgers.is_empty(), "no other tenant has an account");
    }

    /// All that must hold after every step.
    fn check(&self) {
        let now = self.now();
        for (place, budget) in self.budgets.iter().enumerate() {
            let Some(view) = self.ledger.account(budget.id, now) else {
                continue;
            };
            // A crash under a clock that went back may over-count: the journal need not have seen
            // the window that the ledger had moved on to.
            let may_over_count = self.has_jumped_back && view.unreported > PicoUsd::ZERO;
            if let Some(limit) = budget.terms.limit
                && !may_over_count
            {
                assert!(
                    view.spent + view.held <= limit,
                    "invariant 5: {view:?} of {limit}"
                );
            }
            if !self.has_crashed {
                assert_eq!(view.held, self.model_held(place), "invariant 8");
                assert_eq!(view.spent, self.model_spent(place));
            }
            let truth: PicoUsd = self
                .calls
                .values()
                .filter(|call| call.accounts.contains(&place) && call.state != CallState::Admitted)
                .map(|call| call.cost)
                .sum();
            if matches!(budget.terms.window, Window::Total) {
                assert!(
                    view.spent + view.held >= truth,
                    "invariant 7: {view:?} of {truth}"
                );
            }
            // With a clock that only goes forward the journal says the same, but for calls that
            // are admitted and have not left.
            if !self.has_jumped_back
                && self
                    .holds
                    .iter()
                    .all(|hold| self.is_reported(hold.attempt()))
            {
                let known = self.projection.account(budget.id, now).unwrap();
                assert_eq!(
                    (known.spent, known.held),
                    (view.spent, view.held),
                    "{}",
                    budget.name
                );
                assert_eq!(known.calls, view.calls);
            }
        }
        assert_eq!(self.projection.strays(), 0);
    }

    /// Ends everything, and finds that exactly what the upstreams saw was counted.
    fn finish(&mut self) {
        while self
            .holds
            .iter()
            .any(|hold| self.calls[&hold.attempt().bits()].state == CallState::Admitted)
        {
            self.step(&Step::Cancel { which: 0 });
        }
        while !self.holds.is_empty() {
            self.settle(0);
        }
        while !self.ledger.unsettled().is_empty() {
            self.reconcile(0);
        }
        self.check();
        let now = self.now();
        let report = verify(
            self.journal
                .iter()
                .enumerate()
                .map(|(place, record)| (Lsn::new(place as u64 + 1), record)),
        );
        let faults: Vec<_> = report
            .faults
            .iter()
            // A clock that went back may have been ahead where the journal did not see it.
            .filter(|fault| !(self.has_jumped_back && matches!(fault, Fault::BeyondLimit { .. })))
            .collect();
        assert!(faults.is_empty(), "invariants 5 to 8: {faults:?}");
        assert_eq!(report.open, 0, "invariant 6");
        assert_eq!(
            report.attempts,
            report.settled + report.released + report.reconciled
        );
        let lines: PicoUsd = self.lines.values().map(|line| line.cost).sum();
        assert_eq!(lines, report.cost, "each call has one line, with its cost");

        for place in [0, 3] {
            let Some(view) = self.ledger.account(self.budgets[place].id, now) else {
                continue;
            };
            assert_eq!(view.held, PicoUsd::ZERO, "invariant 8: nothing leaked");
            let on = |call: &&Call| call.accounts.contains(&place);
            let truth: PicoUsd = self.calls.values().filter(on).map(|call| call.cost).sum();
            let lost: PicoUsd = self
                .calls
                .values()
                .filter(on)
                .filter(|call| call.state == CallState::Lost)
                .map(|call| call.cost)
                .sum();
            assert!(
                view.unreported >= lost,
                "invariant 7: {view:?}, {lost} lost"
            );
            self.ledger
                .reconcile_lease(self.budgets[place].id, view.unreported - lost);
            let view = self.ledger.account(self.budgets[place].id, now).unwrap();
            assert_eq!(
                view.spent, truth,
                "nothing is missing, nothing is counted twice"
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Fits,
    AfterOthers,
    Over,
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.check();
    }
    world.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants 5, 6 and 8, against the exact model.
    #[test]
    fn invariants_5_6_8_hold_after_every_step(steps in steps(false)) {
        run(&steps);
    }

    /// Invariants 5 to 8 with crashes that lose any part of what was not durable.
    #[test]
    fn invariants_5_6_7_8_hold_through_crashes(steps in steps(true)) {
        run(&steps);
    }
}
