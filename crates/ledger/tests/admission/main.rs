//! What a tenant's ledger tells its callers, case by case.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod leases;

use std::collections::VecDeque;
use std::time::Duration;

use base::{AttemptId, Name, PicoUsd, TenantId, Timestamp};
use ledger::{
    ACCOUNTS_MAX, AccountId, AccountTerms, AccountUse, Actual, Admission, AdmitError,
    EPHEMERAL_IDLE, Ended, LimitId, LimitTerms, LimitUse, RECONCILE_WITHIN, RateKind, RateTerms,
    ReconcileError, Record, Reservation, Subject, TenantLedger, Window, Zone,
};

const TENANT: TenantId = TenantId::from_bits(7);
const NOON: Timestamp = Timestamp::from_micros(20_000 * 86_400_000_000 + 43_200_000_000);

#[derive(Clone)]
struct Budget {
    name: Name,
    subject: Subject,
    terms: AccountTerms,
    id: AccountId,
}

impl Budget {
    fn new(subject: Subject, window: Window, limit: Option<i128>) -> Self {
        let name: Name = "b".parse().unwrap();
        Self {
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
    }

    fn total(limit: i128) -> Self {
        Self::new(Subject::Tenant, Window::Total, Some(limit))
    }

    fn used(&self) -> AccountUse<'_> {
        AccountUse {
            account: self.id,
            budget: &self.name,
            subject: &self.subject,
            terms: &self.terms,
        }
    }
}

/// A call at noon that holds for ten minutes.
fn call<'a>(attempt: u128, accounts: &'a [AccountUse<'a>], amount: i128) -> Reservation<'a> {
    Reservation {
        attempt: AttemptId::from_bits(attempt),
        limits: &[],
        accounts,
        amount: PicoUsd::new(amount),
        tokens: 0,
        now: NOON,
        elapsed: Duration::ZERO,
        expires_at: NOON.plus(Duration::from_secs(600)),
    }
}

/// Admits, with whatever leases that takes.
fn admit(ledger: &mut TenantLedger, call: &Reservation<'_>) -> Result<Admission, AdmitError> {
    match ledger.admit(call) {
        Err(AdmitError::NeedsLease(request)) => {
            ledger.grant(&request);
            ledger.admit(call)
        }
        other => other,
    }
}

fn cost(pico: i128) -> Actual {
    Actual {
        cost: PicoUsd::new(pico),
        tokens: 0,
    }
}

fn after(duration: Duration) -> Timestamp {
    NOON.plus(duration)
}

/// Calls arrive 10,000 at a time against a budget that fits 1,000, with bounds six times their
/// cost; those that do not fit yet wait for others to settle.
#[test]
fn invariant_5_ten_thousand_calls_use_the_whole_budget_and_no_more() {
    let budget = Budget::total(1_000_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let mut waiting: VecDeque<u128> = (1..=10_000).collect();
    let mut running = VecDeque::new();
    let mut refused = 0;
    loop {
        while let Some(attempt) = waiting.front().copied() {
            match admit(&mut ledger, &call(attempt, &accounts, 6_000)) {
                Ok(admission) => running.push_back(admission.hold),
                Err(AdmitError::HeldByOthers { .. }) => break,
                Err(AdmitError::OverBudget { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            waiting.pop_front();
        }
        let view = ledger.account(budget.id, NOON).unwrap();
        assert!(view.spent + view.held <= PicoUsd::new(1_000_000));
        let Some(hold) = running.pop_front() else {
            break;
        };
        let _settlement = ledger.settle(hold, cost(1_000), NOON);
    }
    let view = ledger.account(budget.id, NOON).unwrap();
    assert_eq!(view.held, PicoUsd::ZERO);
    assert!(view.spent >= PicoUsd::new(994_000), "{view:?}");
    assert_eq!(refused, 10_000 - view.calls);
}

#[test]
fn thresholds_are_reported_once_when_they_are_crossed() {
    let budget = Budget::total(1_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let mut reported = Vec::new();
    for attempt in 1..=10 {
        let admission = admit(&mut ledger, &call(attempt, &accounts, 100)).unwrap();
        let settlement = ledger.settle(admission.hold, cost(100), NOON);
        reported.push((settlement.soft_crossed.len(), settlement.exhausted.len()));
    }
    let mut expected = vec![(0, 0); 10];
    expected[7] = (1, 0);
    expected[9] = (0, 1);
    assert_eq!(reported, expected);
}

#[test]
fn a_refusal_says_when_the_call_will_fit() {
    let daily = Budget::new(
        Subject::Tenant,
        Window::Daily { zone: Zone::UTC },
        Some(1_000),
    );
    let accounts = [daily.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let admission = admit(&mut ledger, &call(1, &accounts, 900)).unwrap();
    let blocked = admit(&mut ledger, &call(2, &accounts, 200)).unwrap_err();
    assert_eq!(blocked, AdmitError::HeldByOthers { account: daily.id });
    let _settlement = ledger.settle(admission.hold, cost(900), NOON);

    let fits_at = |error: AdmitError| match error {
        AdmitError::OverBudget { fits_at, .. } => fits_at,
        other => panic!("{other}"),
    };
    let refused = ledger.admit(&call(3, &accounts, 200)).unwrap_err();
    let midnight = after(Duration::from_secs(12 * 3600));
    assert_eq!(fits_at(refused), Some(midnight));
    let refused = ledger.admit(&call(4, &accounts, 1_001)).unwrap_err();
    assert_eq!(fits_at(refused), None, "it never fits");
    let tomorrow = Reservation {
        now: midnight,
        ..call(5, &accounts, 1_000)
    };
    drop(admit(&mut ledger, &tomorrow).unwrap());
}

#[test]
fn one_account_without_room_takes_nothing_from_the_others() {
    let wide = Budget::total(1_000);
    let narrow = Budget::new(
        Subject::Feature("chat".parse().unwrap()),
        Window::Total,
        Some(100),
    );
    let mut ledger = TenantLedger::new(TENANT);
    drop(admit(&mut ledger, &call(1, &[wide.used(), narrow.used()], 60)).unwrap());
    let refused = admit(&mut ledger, &call(2, &[wide.used(), narrow.used()], 60));
    assert_eq!(
        refused.unwrap_err(),
        AdmitError::HeldByOthers { account: narrow.id }
    );
    let view = ledger.account(wide.id, NOON).unwrap();
    assert_eq!((view.held, view.calls), (PicoUsd::new(60), 1));
}

#[test]
fn an_agents_loop_stops_at_its_number_of_calls() {
    let session = Subject::Session("s".parse().unwrap());
    let mut budget = Budget::new(session, Window::Total, None);
    budget.terms.calls_max = Some(3);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    for attempt in 1..=3 {
        let admission = admit(&mut ledger, &call(attempt, &accounts, 0)).unwrap();
        let _settlement = ledger.settle(admission.hold, cost(0), NOON);
    }
    let refused = ledger.admit(&call(4, &accounts, 0)).unwrap_err();
    assert!(matches!(refused, AdmitError::TooManyCalls { max: 3, .. }));
}

#[test]
fn limits_and_budgets_are_taken_together_or_not_at_all() {
    let budget = Budget::total(1_000);
    let terms = LimitTerms {
        requests: Some(RateTerms::per_minute(2).unwrap()),
        tokens: Some(RateTerms::per_minute(1_000).unwrap()),
        in_flight_max: Some(1),
    };
    let limits = [LimitUse {
        limit: LimitId::of(TENANT, &[Subject::Tenant]),
        terms: &terms,
    }];
    let accounts = [budget.used()];
    let limited = |attempt, amount, tokens| Reservation {
        limits: &limits,
        tokens,
        ..call(attempt, &accounts, amount)
    };
    let mut ledger = TenantLedger::new(TENANT);
    // A refusal by the budget leaves the rates alone.
    admit(&mut ledger, &limited(1, 1_001, 100)).unwrap_err();
    let admission = admit(&mut ledger, &limited(2, 100, 900)).unwrap();
    let rates = admission.rates;
    assert_eq!(
        (
            rates.requests.unwrap().remaining,
            rates.tokens.unwrap().remaining
        ),
        (1, 100)
    );
    let crowded = ledger.admit(&limited(3, 100, 100)).unwrap_err();
    assert!(matches!(
        crowded,
        AdmitError::TooManyInFlight { max: 1, .. }
    ));
    // What was bounded at 900 tokens had 200: the rest can be used at once.
    let actual = Actual {
        cost: PicoUsd::new(50),
        tokens: 200,
    };
    let _settlement = ledger.settle(admission.hold, actual, NOON);
    let admission = admit(&mut ledger, &limited(4, 100, 800)).unwrap();
    let _settlement = ledger.release(admission.hold, NOON);
    // A release gives the request back, too.
    let admission = admit(&mut ledger, &limited(5, 100, 700)).unwrap();
    let _settlement = ledger.cancel(admission.hold, NOON);
    let admission = admit(&mut ledger, &limited(6, 100, 1)).unwrap();
    let _settlement = ledger.settle(admission.hold, cost(0), NOON);
    let refused = ledger.admit(&limited(7, 100, 1)).unwrap_err();
    let expected = AdmitError::RateLimited {
        limit: limits[0].limit,
        kind: RateKind::Requests,
        retry_after: Duration::from_secs(30),
    };
    assert_eq!(refused, expected);
    let never = ledger.admit(&limited(8, 100, 1_001)).unwrap_err();
    assert!(matches!(
        never,
        AdmitError::NeverFits {
            kind: RateKind::Tokens,
            ..
        }
    ));
}

#[test]
fn invariant_6_a_hold_that_expired_and_settles_late_counts_once() {
    let budget = Budget::total(1_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let [late, reconciled, dropped] = [1, 2, 3].map(|attempt| {
        admit(&mut ledger, &call(attempt, &accounts, 100))
            .unwrap()
            .hold
    });
    drop(dropped);
    let early = after(Duration::from_secs(599));
    assert!(ledger.expire(early).expired.is_empty());
    assert_eq!(
        ledger.reconcile(AttemptId::from_bits(1), PicoUsd::ZERO, early),
        Err(ReconcileError::StillLive)
    );
    let due = after(Duration::from_secs(600));
    assert_eq!(ledger.expire(due).expired.len(), 3);
    let spent = |ledger: &TenantLedger| ledger.account(budget.id, due).unwrap().spent;
    assert_eq!(spent(&ledger), PicoUsd::new(300));

    assert_eq!(ledger.settle(late, cost(40), due).ended, Ended::Late);
    assert_eq!(spent(&ledger), PicoUsd::new(240));
    let attempt = reconciled.attempt();
    ledger.reconcile(attempt, PicoUsd::new(30), due).unwrap();
    assert_eq!(spent(&ledger), PicoUsd::new(170));
    assert_eq!(
        ledger.settle(reconciled, cost(99), due).ended,
        Ended::Already
    );
    assert_eq!(spent(&ledger), PicoUsd::new(170));
    assert_eq!(
        ledger.reconcile(attempt, PicoUsd::ZERO, due),
        Err(ReconcileError::Unknown)
    );

    // What nobody ever settles is due after a day.
    assert!(ledger.overdue(due).is_empty());
    let overdue = ledger.overdue(due.plus(RECONCILE_WITHIN));
    assert_eq!(overdue.len(), 1);
    assert_eq!(overdue[0].amount, PicoUsd::new(100));
}

#[test]
fn an_abandoned_call_counts_in_full_until_it_is_reconciled() {
    let budget = Budget::total(1_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let hold = admit(&mut ledger, &call(1, &accounts, 100)).unwrap().hold;
    let attempt = hold.attempt();
    assert_eq!(ledger.abandon(hold, NOON).expired.len(), 1);
    let view = |ledger: &TenantLedger| ledger.account(budget.id, NOON).unwrap();
    assert_eq!(view(&ledger).spent, PicoUsd::new(100));
    assert_eq!(
        (view(&ledger).held, ledger.live_holds()),
        (PicoUsd::ZERO, 0)
    );
    let late = after(Duration::from_secs(600));
    assert!(ledger.expire(late).expired.is_empty(), "it counts once");
    ledger.reconcile(attempt, PicoUsd::new(30), NOON).unwrap();
    assert_eq!(view(&ledger).spent, PicoUsd::new(30));
}

#[test]
fn a_cost_beyond_its_bound_is_charged_and_reported() {
    let budget = Budget::total(1_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let admission = admit(&mut ledger, &call(1, &accounts, 100)).unwrap();
    let settlement = ledger.settle(admission.hold, cost(150), NOON);
    assert_eq!(
        (settlement.charged, settlement.overshoot, settlement.freed),
        (PicoUsd::new(150), PicoUsd::new(50), PicoUsd::ZERO)
    );
    assert_eq!(
        ledger.account(budget.id, NOON).unwrap().spent,
        PicoUsd::new(150)
    );
}

#[test]
fn idle_sessions_are_forgotten_and_nothing_else_is() {
    let session = |name: &str| {
        Budget::new(
            Subject::Session(name.parse().unwrap()),
            Window::Total,
            Some(100),
        )
    };
    let (idle, busy, tenant) = (session("idle"), session("busy"), Budget::total(100));
    let mut ledger = TenantLedger::new(TENANT);
    let first = [idle.used(), tenant.used()];
    let admission = admit(&mut ledger, &call(1, &first, 10)).unwrap();
    let _settlement = ledger.settle(admission.hold, cost(10), NOON);
    let _running = admit(&mut ledger, &call(2, &[busy.used()], 10)).unwrap();
    let records = ledger.sweep(after(EPHEMERAL_IDLE), EPHEMERAL_IDLE);
    assert_eq!(records, [Record::AccountForgotten { account: idle.id }]);
    assert!(ledger.account(idle.id, NOON).is_none());
    assert!(ledger.account(busy.id, NOON).is_some());
    assert!(ledger.account(tenant.id, NOON).is_some());
}

#[test]
fn sessions_beyond_the_bound_are_refused_and_known_ones_are_served() {
    let mut ledger = TenantLedger::new(TENANT);
    let sessions: Vec<_> = (0..=ACCOUNTS_MAX)
        .map(|number| {
            let name = format!("s{number}").parse().unwrap();
            Budget::new(Subject::Session(name), Window::Total, None)
        })
        .collect();
    for (number, session) in sessions[..ACCOUNTS_MAX].iter().enumerate() {
        let accounts = [session.used()];
        let attempt = number as u128 + 1;
        let admission = admit(&mut ledger, &call(attempt, &accounts, 0)).unwrap();
        let _settlement = ledger.settle(admission.hold, cost(0), NOON);
    }
    let beyond = [sessions[ACCOUNTS_MAX].used()];
    let refused = ledger.admit(&call(1 << 40, &beyond, 0)).unwrap_err();
    assert_eq!(refused, AdmitError::TooManySubjects);
    drop(
        ledger
            .admit(&call(1 << 41, &[sessions[0].used()], 0))
            .unwrap(),
    );
}

#[test]
fn what_is_named_twice_is_refused() {
    let budget = Budget::total(1_000);
    let mut ledger = TenantLedger::new(TENANT);
    let twice = [budget.used(), budget.used()];
    let refused = ledger.admit(&call(1, &twice, 1)).unwrap_err();
    assert_eq!(refused, AdmitError::Duplicate);
    let once = [budget.used()];
    drop(admit(&mut ledger, &call(2, &once, 1)).unwrap());
    let refused = ledger.admit(&call(2, &once, 1)).unwrap_err();
    assert_eq!(refused, AdmitError::Duplicate);
}

#[test]
fn an_idle_tenant_takes_little_memory() {
    // The maps of an empty ledger allocate nothing, so this is all there is.
    assert!(
        size_of::<TenantLedger>() <= 256,
        "{}",
        size_of::<TenantLedger>()
    );
}
