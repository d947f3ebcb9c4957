//! A ledger, its journal, and what really happened at the upstreams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::{AttemptId, KeyId, Name, PicoUsd, RequestId, TenantId, Timestamp, UserId};
use ledger::{
    AccountId, AccountTerms, AccountUse, Actual, AdmitError, Consumption, Ended, Hold, Hop, Intent,
    LeaseRequest, LedgerLine, Lsn, Metering, Outcome, PriceVersion, Projection, Record,
    ReleaseReason, Reservation, RollingHours, Settled, Subject, TenantLedger, Window, Zone, verify,
};

use crate::Step;

const TENANT: TenantId = TenantId::from_bits(42);
const SECOND: i64 = 1_000_000;
/// In October 2024: a month ends within most runs.
const START: i64 = 20_010 * 86_400 * SECOND;
/// How long a hold lives.
const HOLD: Duration = Duration::from_secs(600);

struct Budget {
    name: Name,
    subject: Subject,
    terms: AccountTerms,
    id: AccountId,
}

/// A call that left for its upstream.
#[derive(Debug, Clone)]
struct Call {
    accounts: Vec<AccountId>,
    /// What its upstream bills.
    cost: PicoUsd,
    /// A crash left no trace of it.
    is_lost: bool,
}

pub(crate) struct World {
    budgets: Vec<Budget>,
    ledger: TenantLedger,
    journal: Vec<Record>,
    durable: usize,
    /// What all of the journal adds up to.
    projection: Projection,
    lines: BTreeMap<AttemptId, LedgerLine>,
    /// Leases that are granted by the next commit.
    pending: Vec<LeaseRequest>,
    holds: Vec<Hold>,
    calls: BTreeMap<u128, Call>,
    /// Of these, the ones that were lost, by the place of the start after their crash.
    lost: BTreeMap<usize, Vec<u128>>,
    now: i64,
    refused: u32,
}

fn windows() -> [Window; 4] {
    let hours = RollingHours::try_from(24).unwrap();
    [
        Window::Total,
        Window::Daily { zone: Zone::UTC },
        Window::Monthly { zone: Zone::UTC },
        Window::Rolling { hours },
    ]
}

/// A budget of every kind.
fn budgets() -> Vec<Budget> {
    let [total, daily, monthly, rolling] = windows();
    let session = |name: &str| Subject::Session(name.parse().unwrap());
    let feature = Subject::Feature("chat".parse().unwrap());
    let user = Subject::User(UserId::from_bits(3));
    let all = [
        ("tenant", Subject::Tenant, Some(100_000), total.clone()),
        (
            "key",
            Subject::Key(KeyId::from_bits(1)),
            Some(8_000),
            rolling,
        ),
        ("user", user, Some(6_000), daily),
        ("feature", feature, Some(50_000), monthly),
        ("session", session("a"), None, total.clone()),
        ("session", session("b"), Some(6_000), total),
    ];
    all.into_iter()
        .map(|(name, subject, limit, window)| {
            let name: Name = name.parse().unwrap();
            Budget {
                id: AccountId::of(TENANT, &name, &subject),
                name,
                subject,
                terms: AccountTerms {
                    limit: limit.map(PicoUsd::new),
                    window,
                    soft_percent: 80,
                    calls_max: None,
                },
            }
        })
        .collect()
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            budgets: budgets(),
            ledger: TenantLedger::new(TENANT),
            journal: Vec::new(),
            durable: 0,
            projection: Projection::new(),
            lines: BTreeMap::new(),
            pending: Vec::new(),
            holds: Vec::new(),
            calls: BTreeMap::new(),
            lost: BTreeMap::new(),
            now: START,
            refused: 0,
        };
        world.start();
        world
    }

    /// How many calls left no trace.
    pub(crate) fn lost(&self) -> usize {
        self.lost.values().map(Vec::len).sum()
    }

    /// How many calls a budget refused for good.
    pub(crate) fn refused(&self) -> u32 {
        self.refused
    }

    pub(crate) fn journal(&self) -> &[Record] {
        &self.journal
    }

    /// The calls on an account, with their costs, that were lost by the crash before the start at `place`.
    pub(crate) fn lost_at(
        &self,
        place: usize,
        account: AccountId,
    ) -> impl Iterator<Item = (u128, PicoUsd)> {
        let lost = self.lost.get(&place).into_iter().flatten();
        let calls = lost.map(|attempt| (*attempt, &self.calls[attempt]));
        calls
            .filter(move |(_, call)| call.accounts.contains(&account))
            .map(|(attempt, call)| (attempt, call.cost))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros((self.now - START).unsigned_abs())
    }

    fn append(&mut self, record: Record) {
        self.journal.push(record);
        self.apply(self.journal.len() - 1);
    }

    fn apply(&mut self, place: usize) {
        let mut lines = Vec::new();
        let lsn = Lsn::new(place as u64 + 1);
        self.projection.apply(lsn, &self.journal[place], &mut lines);
        for line in lines {
            self.lines.insert(line.intent.attempt, line);
        }
    }

    fn sync(&mut self) {
        self.durable = self.journal.len();
        for request in std::mem::take(&mut self.pending) {
            self.ledger.grant(&request);
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Call {
                mask,
                amount,
                cost_percent,
                leaves,
            } => {
                let places = (0..self.budgets.len()).filter(|bit| mask & (1 << bit) != 0);
                let places: Vec<_> = places.collect();
                let amount = PicoUsd::new(*amount);
                let cost = PicoUsd::new(amount.pico() * cost_percent / 100);
                self.call(&places, amount, cost, *leaves);
            }
            Step::Settle { which } => self.settle(*which),
            Step::Release { which } => self.release(*which),
            Step::Pass { seconds } => {
                self.now += seconds * SECOND;
                self.maintain();
            }
            Step::Sync => self.sync(),
            Step::ChangeWindow { account, window } => {
                self.budgets[*account].terms.window = windows()[*window].clone();
            }
            Step::Crash { kept_percent } => {
                let kept = (self.journal.len() - self.durable) * kept_percent / 100;
                self.crash(self.durable + kept);
            }
            Step::Restart => self.restart(),
        }
    }

    fn call(&mut self, places: &[usize], amount: PicoUsd, cost: PicoUsd, leaves: bool) {
        let attempt = AttemptId::from_bits(self.calls.len() as u128 + 1);
        // The second time for a lease; the third if a window is to be changed before.
        for _ in 0..4 {
            let uses: Vec<_> = places
                .iter()
                .map(|place| self.budgets[*place].used())
                .collect();
            let accounts: Vec<_> = uses.iter().map(|use_| use_.account).collect();
            let expires_at = self.now().plus(HOLD);
            let admitted = self.ledger.admit(&Reservation {
                attempt,
                limits: &[],
                accounts: &uses,
                amount,
                tokens: 0,
                now: self.now(),
                elapsed: self.elapsed(),
                expires_at,
            });
            match admitted {
                Ok(admission) => {
                    if let Some(refill) = admission.refill {
                        refill
                            .records()
                            .iter()
                            .for_each(|record| self.append(record.clone()));
                        self.pending.push(refill);
                    }
                    self.append(intent(&admission.hold, &accounts, self.now(), expires_at));
                    let call = Call {
                        accounts,
                        cost,
                        is_lost: false,
                    };
                    self.calls.insert(attempt.bits(), call);
                    self.holds.push(admission.hold);
                    return;
                }
                Err(AdmitError::NeedsLease(request)) => {
                    request
                        .records()
                        .iter()
                        .for_each(|record| self.append(record.clone()));
                    if leaves {
                        return;
                    }
                    self.pending.push(request);
                    self.sync();
                }
                Err(AdmitError::HeldByOthers { .. }) => return,
                Err(AdmitError::OverBudget { .. }) => {
                    self.refused += 1;
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("a granted lease must be enough");
    }

    fn take_hold(&mut self, which: u16) -> Option<Hold> {
        let count = self.holds.len();
        (count > 0).then(|| self.holds.swap_remove(usize::from(which) % count))
    }

    fn settle(&mut self, which: u16) {
        let Some(hold) = self.take_hold(which) else {
            return;
        };
        let (attempt, at) = (hold.attempt(), self.now());
        let cost = self.calls[&attempt.bits()].cost;
        let settlement = self.ledger.settle(hold, Actual { cost, tokens: 0 }, at);
        assert_ne!(settlement.ended, Ended::Already);
        self.append(Record::Settled(Settled {
            attempt,
            consumption: Consumption::default(),
            cost,
            outcome: Outcome::Completed,
            metering: Metering::Reported,
            served: None,
            at,
        }));
    }

    fn release(&mut self, which: u16) {
        let Some(hold) = self.take_hold(which) else {
            return;
        };
        let (attempt, at) = (hold.attempt(), self.now());
        // It was refused: nothing is billed for it.
        self.calls.get_mut(&attempt.bits()).unwrap().cost = PicoUsd::ZERO;
        let _settlement = self.ledger.release(hold, at);
        let reason = ReleaseReason::Refused;
        self.append(Record::Released {
            attempt,
            reason,
            at,
        });
    }

    /// What the gateway does each second.
    fn maintain(&mut self) {
        let at = self.now();
        for expired in self.ledger.expire(at).expired {
            let attempt = expired.attempt;
            self.append(Record::Expired { attempt, at });
        }
        let mut records = self.ledger.return_idle_leases(at);
        records.extend(self.ledger.sweep(at, self.elapsed()));
        records.into_iter().for_each(|record| self.append(record));
    }

    fn crash(&mut self, kept: usize) {
        self.journal.truncate(kept);
        self.holds.clear();
        self.pending.clear();
        let intents = self.journal.iter().filter_map(|record| match record {
            Record::Intent(intent) => Some(intent.attempt.bits()),
            _ => None,
        });
        let known: BTreeSet<u128> = intents.collect();
        let start = self.journal.len();
        for (attempt, call) in &mut self.calls {
            if !call.is_lost && !known.contains(attempt) {
                call.is_lost = true;
                self.lost.entry(start).or_default().push(*attempt);
            }
        }
        self.start();
        self.reconcile();
    }

    fn restart(&mut self) {
        while !self.holds.is_empty() {
            self.settle(0);
        }
        let at = self.now();
        self.append(Record::Closed { at });
        let before: Vec<_> = self.views().collect();
        self.start();
        for (before, after) in before.iter().zip(self.views()) {
            assert_eq!(*before, after, "a clean end leaves nothing unreported");
        }
    }

    /// Spent and unreported of each account.
    fn views(&self) -> impl Iterator<Item = (PicoUsd, PicoUsd)> {
        self.budgets.iter().map(|budget| {
            let view = self.ledger.account(budget.id, self.now());
            view.map_or((PicoUsd::ZERO, PicoUsd::ZERO), |view| {
                (view.spent, view.unreported)
            })
        })
    }

    /// A process takes over what is in the journal.
    fn start(&mut self) {
        let at = self.now();
        self.journal.push(Record::Started { at });
        self.projection = Projection::new();
        self.lines.clear();
        for place in 0..self.journal.len() {
            self.apply(place);
            if place == self.journal.len() / 2 {
                self.projection = Projection::from_bytes(&self.projection.to_bytes()).unwrap();
            }
        }
        let ledgers = self.projection.ledgers().unwrap();
        let own = ledgers.into_values().next();
        self.ledger = own.unwrap_or_else(|| TenantLedger::new(TENANT));
        self.pending.clear();
        self.sync();
    }

    /// What an operator does with the upstreams' bill: every call, and every lease.
    fn reconcile(&mut self) {
        let at = self.now();
        for unsettled in self.ledger.unsettled() {
            let attempt = unsettled.attempt;
            let cost = self.calls[&attempt.bits()].cost;
            self.ledger.reconcile(attempt, cost, at).unwrap();
            self.append(Record::Reconciled { attempt, cost, at });
        }
        for place in 0..self.budgets.len() {
            let account = self.budgets[place].id;
            let Some(view) = self.ledger.account(account, at) else {
                continue;
            };
            let lost = self.model(account, at).lost;
            assert!(view.unreported >= lost, "invariant 7: {view:?}, {lost}");
            let unspent = view.unreported - lost;
            self.ledger.reconcile_lease(account, unspent, at);
            self.append(Record::LeaseReconciled {
                account,
                unspent,
                at,
            });
        }
        self.sync();
    }

    /// What must hold after every step.
    pub(crate) fn check(&self) {
        let now = self.now();
        for budget in &self.budgets {
            let expected = self.model(budget.id, now);
            let Some(view) = self.ledger.account(budget.id, now) else {
                assert_eq!(expected.spent, PicoUsd::ZERO, "{}", budget.name);
                continue;
            };
            assert_eq!(view.spent, expected.spent, "{}: {view:?}", budget.name);
            assert_eq!(view.unreported, expected.lost, "{}", budget.name);
            let known = self.projection.account(budget.id, now).unwrap();
            assert_eq!(
                (known.spent, known.unreported, known.held),
                (view.spent, view.unreported, view.held),
                "{}",
                budget.name
            );
        }
        assert_eq!(self.projection.strays(), 0);
    }

    /// Kills it once more, reconciles, and finds the exact sum of what the calls cost.
    pub(crate) fn finish(&mut self) {
        self.crash(self.durable);
        self.check();
        let numbered = self.journal.iter().enumerate();
        let report = verify(numbered.map(|(place, record)| (Lsn::new(place as u64 + 1), record)));
        assert_eq!((report.faults, report.open), (Vec::new(), 0));
        let lines: PicoUsd = self.lines.values().map(|line| line.cost).sum();
        let cost = |lost: bool| -> PicoUsd {
            let calls = self.calls.values();
            let meant = calls.filter(|call| call.is_lost == lost);
            meant.map(|call| call.cost).sum()
        };
        assert_eq!(lines, cost(false), "each call has its line, with its cost");
        let tenant = &self.budgets[0];
        let is_in_all = |call: &&Call| call.accounts.contains(&tenant.id);
        let truth: PicoUsd = self
            .calls
            .values()
            .filter(is_in_all)
            .map(|call| call.cost)
            .sum();
        let windows = self.journal.iter().filter(|record| {
            matches!(record, Record::AccountOpened(opened)
                if opened.account == tenant.id && opened.window != Window::Total)
        });
        if windows.count() == 0
            && let Some(view) = self.ledger.account(tenant.id, self.now())
        {
            assert_eq!(view.spent, truth);
        }
    }
}

impl Budget {
    fn used(&self) -> AccountUse<'_> {
        AccountUse {
            account: self.id,
            budget: &self.name,
            subject: &self.subject,
            terms: &self.terms,
        }
    }
}

fn intent(hold: &Hold, accounts: &[AccountId], at: Timestamp, expires_at: Timestamp) -> Record {
    Record::Intent(Box::new(Intent {
        attempt: hold.attempt(),
        request: RequestId::from_bits(hold.attempt().bits()),
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
        accounts: accounts.iter().copied().collect(),
        at,
        expires_at,
    }))
}
