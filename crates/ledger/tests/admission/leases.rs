//! How large leases are, and what a crash finds of them.

use std::time::Duration;

use base::{AttemptId, KeyId, Name, PicoUsd, Timestamp};
use ledger::{
    AdmitError, Decoder, Fault, Hop, Intent, LEASE_IDLE, LeaseRequest, Lsn, PriceVersion,
    Projection, Record, Reservation, RollingHours, Subject, TenantLedger, Window, Zone, encode,
    verify,
};

use super::{Budget, NOON, TENANT, admit, after, call, cost};

/// A ledger with its journal, of which all is durable at once.
struct House {
    ledger: TenantLedger,
    journal: Vec<Record>,
    budget: Budget,
    last: u128,
}

/// What became of a call.
struct Told {
    /// It had to wait for the disk.
    waited: bool,
    /// It had a lease raised, before or after it was let through.
    raised: bool,
}

impl House {
    fn new(budget: Budget) -> Self {
        Self {
            ledger: TenantLedger::new(TENANT),
            journal: vec![Record::Started { at: NOON }],
            budget,
            last: 0,
        }
    }

    fn grant(&mut self, request: &LeaseRequest) {
        self.journal.extend_from_slice(request.records());
        self.ledger.grant(request);
    }

    /// A call of at most `amount`, which comes to a sixth of it; `elapsed` after noon.
    fn call(&mut self, amount: i128, elapsed: Duration) -> Told {
        self.last += 1;
        let budget = self.budget.clone();
        let accounts = [budget.used()];
        let now = after(elapsed);
        let call = Reservation {
            now,
            elapsed,
            expires_at: now.plus(Duration::from_secs(600)),
            ..call(self.last, &accounts, amount)
        };
        let mut told = Told {
            waited: false,
            raised: false,
        };
        let admission = loop {
            match self.ledger.admit(&call) {
                Ok(admission) => break admission,
                Err(AdmitError::NeedsLease(request)) => {
                    self.grant(&request);
                    told.waited = true;
                }
                Err(other) => panic!("{other}"),
            }
        };
        told.raised = told.waited || admission.refill.is_some();
        if let Some(refill) = &admission.refill {
            self.grant(refill);
        }
        self.journal.push(intent(&call));
        let _settlement = self.ledger.settle(admission.hold, cost(amount / 6), now);
        self.journal.push(Record::Released {
            attempt: call.attempt,
            reason: ledger::ReleaseReason::Refused,
            at: now,
        });
        told
    }

    /// Calls a millisecond apart, and how many of them waited and raised.
    fn calls(&mut self, amount: i128, count: u64, from: Duration) -> (u64, u64) {
        let mut counts = (0, 0);
        for number in 0..count {
            let told = self.call(amount, from + Duration::from_millis(number));
            counts.0 += u64::from(told.waited);
            counts.1 += u64::from(told.raised);
        }
        counts
    }

    fn return_idle(&mut self, at: Timestamp) -> usize {
        let returned = self.ledger.return_idle_leases(at);
        let count = returned.len();
        self.journal.extend(returned);
        count
    }

    fn lease_left(&self) -> i128 {
        let view = self.ledger.account(self.budget.id, NOON).unwrap();
        view.lease_left.pico()
    }

    /// What is wrong with the journal.
    fn faults(&self) -> Vec<Fault> {
        let numbered = self.journal.iter().enumerate();
        verify(numbered.map(|(place, record)| (Lsn::new(place as u64 + 1), record))).faults
    }

    /// What counts as spent though nobody knows it was, if the process dies now.
    fn stranded(&self) -> i128 {
        let mut projection = Projection::new();
        let started = Record::Started { at: NOON };
        for (place, record) in self.journal.iter().chain([&started]).enumerate() {
            projection.apply(Lsn::new(place as u64 + 1), record, &mut Vec::new());
        }
        let known = projection.account(self.budget.id, NOON).unwrap();
        known.unreported.pico()
    }
}

fn intent(call: &Reservation<'_>) -> Record {
    let plain = |text: &str| -> Name { text.parse().unwrap() };
    Record::Intent(Box::new(Intent {
        attempt: call.attempt,
        request: base::RequestId::from_bits(call.attempt.bits()),
        parent: None,
        prompt: None,
        tenant: TENANT,
        team: None,
        user: None,
        key: KeyId::from_bits(1),
        feature: plain("f"),
        session: None,
        turn: None,
        hop: Hop::Generate,
        model: "m".parse().unwrap(),
        upstream: plain("u"),
        price_version: PriceVersion(1),
        amount: call.amount,
        input_bound: 1,
        output_bound: 1,
        accounts: call.accounts.iter().map(|use_| use_.account).collect(),
        at: call.now,
        expires_at: call.expires_at,
    }))
}

const MINUTE: Duration = Duration::from_secs(60);
/// A hundred thousand million calls of 100.
const LARGE: i128 = 10_000_000_000_000;

#[test]
fn a_cold_start_of_many_calls_waits_for_the_disk_once() {
    let budget = Budget::total(1_000_000_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let mut waiting: Vec<u128> = (1..=1_000).collect();
    let mut rounds = 0;
    while !waiting.is_empty() {
        rounds += 1;
        let mut requests = Vec::new();
        waiting.retain(
            |attempt| match ledger.admit(&call(*attempt, &accounts, 100_000)) {
                Err(AdmitError::NeedsLease(request)) => {
                    requests.push(request);
                    true
                }
                other => {
                    drop(other.unwrap());
                    false
                }
            },
        );
        // One group commit makes them all durable.
        for request in &requests {
            ledger.grant(request);
        }
    }
    assert_eq!(rounds, 2);
}

/// Each caller is granted its lease and asks again on its own, in whatever order they wake.
#[test]
fn callers_that_wait_together_make_one_lease_grow_once() {
    let budget = Budget::total(1_000_000_000_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let ask =
        |ledger: &mut TenantLedger, attempt| match ledger.admit(&call(attempt, &accounts, 100)) {
            Err(AdmitError::NeedsLease(request)) => Some((attempt, request)),
            other => {
                drop(other.unwrap());
                None
            }
        };
    let mut waiting: Vec<_> = (1..=64).filter_map(|it| ask(&mut ledger, it)).collect();
    let mut rounds = 0;
    while !waiting.is_empty() {
        rounds += 1;
        waiting = waiting
            .into_iter()
            .filter_map(|(attempt, request)| {
                ledger.grant(&request);
                ask(&mut ledger, attempt)
            })
            .collect();
    }
    let left = ledger.account(budget.id, NOON).unwrap().lease_left.pico();
    assert!(
        rounds <= 3 && left <= 64 * 100,
        "{rounds} rounds, {left} left"
    );
}

#[test]
fn invariant_7_a_lease_is_used_to_the_last_unit_and_not_beyond() {
    let budget = Budget::total(1_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    drop(admit(&mut ledger, &call(1, &accounts, 1)).unwrap());
    let left = ledger.account(budget.id, NOON).unwrap().lease_left.pico();
    assert_eq!(left, 16, "sixteen calls of this size beside the one");
    let refused = ledger.admit(&call(2, &accounts, left + 1)).unwrap_err();
    assert!(matches!(refused, AdmitError::NeedsLease(_)));
    drop(ledger.admit(&call(3, &accounts, left)).unwrap());
}

#[test]
fn what_the_journal_does_not_take_is_asked_for_anew() {
    let opens = |refused: AdmitError| {
        let AdmitError::NeedsLease(request) = refused else {
            panic!("{refused}");
        };
        let is_opened = |record: &Record| matches!(record, Record::AccountOpened(_));
        (request.records().iter().any(is_opened), request)
    };
    let mut budget = Budget::total(1_000_000);
    let mut ledger = TenantLedger::new(TENANT);
    let ask = |ledger: &mut TenantLedger, budget: &Budget, attempt, amount| {
        let accounts = [budget.used()];
        let refused = ledger.admit(&call(attempt, &accounts, amount));
        opens(refused.unwrap_err())
    };
    let (is_opened, request) = ask(&mut ledger, &budget, 1, 100);
    assert!(is_opened);
    ledger.not_journaled(&request);
    assert_eq!(ledger.account_count(), 0);
    let (is_opened, request) = ask(&mut ledger, &budget, 1, 100);
    assert!(is_opened, "the journal does not know it yet");
    ledger.grant(&request);
    drop(admit(&mut ledger, &call(1, &[budget.used()], 100)).unwrap());

    // An account that was used stays, and its new window is told again.
    budget.terms.window = Window::Daily { zone: Zone::UTC };
    let (is_opened, request) = ask(&mut ledger, &budget, 2, 100);
    assert!(is_opened);
    ledger.not_journaled(&request);
    let view = ledger.account(budget.id, NOON).unwrap();
    assert_eq!(view.held.pico(), 100);
    assert!(ask(&mut ledger, &budget, 2, 100).0);
}

#[test]
fn a_lease_that_was_asked_for_is_not_asked_for_again() {
    let budget = Budget::total(1_000_000);
    let accounts = [budget.used()];
    let mut ledger = TenantLedger::new(TENANT);
    let mut refills = 0;
    for attempt in 1..=16 {
        let admission = admit(&mut ledger, &call(attempt, &accounts, 100)).unwrap();
        refills += usize::from(admission.refill.is_some());
        let _settlement = ledger.settle(admission.hold, cost(100), NOON);
    }
    assert_eq!(refills, 1, "it was never granted, and stays the only one");
}

#[test]
fn in_steady_state_leases_are_raised_before_anybody_waits() {
    for limit in [Some(LARGE), None] {
        let mut house = House::new(Budget::new(Subject::Tenant, Window::Total, limit));
        let (waited, raised) = house.calls(100, 10_000, Duration::ZERO);
        assert_eq!(waited, 1, "the first alone");
        // Each covers a quarter of a second or more, once it has grown.
        assert!(raised <= 100, "{raised} raises");
    }
}

#[test]
fn invariant_7_a_crash_strands_what_half_a_second_uses_however_large_the_budget() {
    for limit in [Some(LARGE), None] {
        let mut house = House::new(Budget::new(Subject::Tenant, Window::Total, limit));
        for second in 0..20 {
            house.calls(100, 1_000, Duration::from_secs(second));
            let stranded = house.stranded();
            assert!(stranded <= 500 * 100, "{stranded} in second {second}");
        }
        // A call a minute: what the busy time left is used up or given up, and no more is taken.
        for minute in 1..10 {
            house.return_idle(after(MINUTE * minute));
            house.call(100, MINUTE * minute);
        }
        assert!(house.stranded() <= 16 * 100, "{}", house.stranded());
    }
}

#[test]
fn a_lease_is_one_per_cent_of_its_budget_at_most() {
    let mut house = House::new(Budget::total(10_000_000));
    for second in 0..5 {
        house.calls(100, 1_000, Duration::from_secs(second));
        assert!(house.stranded() <= 100_000, "{}", house.stranded());
    }
}

#[test]
fn a_crash_leaves_most_of_a_small_budget() {
    // Ten calls: a lease of sixteen would be all of it.
    let session = Subject::Session("s".parse().unwrap());
    let mut house = House::new(Budget::new(session, Window::Total, Some(1_000)));
    for number in 0..30 {
        house.call(100, Duration::from_secs(number));
        assert!(house.stranded() <= 125, "{}", house.stranded());
    }
}

#[test]
fn an_idle_account_gives_its_lease_up() {
    let mut house = House::new(Budget::total(1_000_000));
    house.call(100, Duration::ZERO);
    assert_eq!(house.lease_left(), 1_600);
    assert_eq!(house.return_idle(after(LEASE_IDLE / 2)), 0);
    assert_eq!(house.return_idle(after(LEASE_IDLE * 2)), 1);
    assert_eq!((house.lease_left(), house.stranded()), (0, 0));
    assert_eq!(house.return_idle(after(LEASE_IDLE * 4)), 0, "once");
    // It is asked for anew when it is needed, and given up anew.
    assert!(house.call(100, LEASE_IDLE * 5).waited);
    assert_eq!(house.return_idle(after(LEASE_IDLE * 7)), 1);
    assert_eq!((house.lease_left(), house.stranded()), (0, 0));
    assert_eq!(house.faults(), []);
}

#[test]
fn a_busy_account_keeps_its_lease() {
    let mut house = House::new(Budget::total(1_000_000));
    for second in 0..600 {
        let at = Duration::from_secs(second);
        assert_eq!(house.return_idle(after(at)), 0);
        assert_eq!(house.call(100, at).waited, second == 0);
    }
}

#[test]
fn invariant_7_a_grant_that_comes_after_the_lease_was_given_up_allows_nothing_more() {
    let mut house = House::new(Budget::total(1_000_000));
    house.call(100, Duration::ZERO);
    let accounts = [house.budget.used()];
    let large = call(1 << 64, &accounts, 5_000);
    let Err(AdmitError::NeedsLease(late)) = house.ledger.admit(&large) else {
        panic!("the lease is smaller");
    };
    // Its disk hangs for minutes, and its lease is durable after all.
    house.journal.extend_from_slice(late.records());
    let returned = house.ledger.return_idle_leases(after(LEASE_IDLE * 2));
    house.journal.extend(returned);
    house.ledger.grant(&late);
    assert_eq!((house.lease_left(), house.stranded()), (0, 0));
}

#[test]
fn invariant_7_a_grant_to_an_account_forgotten_meanwhile_allows_its_successor_nothing() {
    const NEXT_DAY: Duration = Duration::from_secs(25 * 3600);
    let session = Subject::Session("s".parse().unwrap());
    let mut house = House::new(Budget::new(session, Window::Total, Some(1_000_000)));
    for number in 0..50 {
        house.call(100, Duration::from_millis(number));
    }
    let budget = house.budget.clone();
    let accounts = [budget.used()];
    let large = call(1 << 64, &accounts, 5_000);
    let Err(AdmitError::NeedsLease(late)) = house.ledger.admit(&large) else {
        panic!("the lease is smaller");
    };
    house.journal.extend_from_slice(late.records());
    // The clock jumps by a day before the lease is durable: the account is forgotten, and a call
    // opens it anew.
    house.return_idle(after(NEXT_DAY));
    let forgotten = house.ledger.sweep(after(NEXT_DAY), NEXT_DAY);
    assert_eq!(forgotten, [Record::AccountForgotten { account: budget.id }]);
    house.journal.extend(forgotten);
    house.call(100, NEXT_DAY);
    let left = house.lease_left();
    house.ledger.grant(&late);
    assert_eq!(house.lease_left(), left);
    // Whoever asked asks again, and is served.
    house.call(5_000, NEXT_DAY);
    house.calls(100, 500, NEXT_DAY);
    assert_eq!(house.faults(), []);
}

/// The limits and windows of a restarted process are those of its predecessor: its accounts are
/// open.
#[test]
fn a_restart_opens_no_account_anew() {
    let zone: Zone = "Europe/Berlin".parse().unwrap();
    let hours = RollingHours::try_from(24).unwrap();
    let windows = [
        Window::Total,
        Window::Daily { zone: zone.clone() },
        Window::Monthly { zone },
        Window::Monthly { zone: Zone::UTC },
        Window::Rolling { hours },
    ];
    for window in windows {
        let budget = Budget::new(Subject::Tenant, window, Some(1_000_000));
        let mut house = House::new(budget);
        house.call(100, Duration::ZERO);
        house.journal.push(Record::Started { at: NOON });
        let mut bytes = Vec::new();
        for (place, record) in house.journal.iter().enumerate() {
            encode(record, Lsn::new(place as u64 + 1), Lsn::ZERO, &mut bytes).unwrap();
        }
        let mut projection = Projection::new();
        for frame in Decoder::new(&bytes, Lsn::FIRST) {
            let frame = frame.unwrap();
            projection.apply(frame.lsn, &frame.record, &mut Vec::new());
        }
        let projection = Projection::from_bytes(&projection.to_bytes()).unwrap();
        let mut ledger = projection.ledgers().unwrap().remove(&TENANT).unwrap();
        let accounts = [house.budget.used()];
        let again = Reservation {
            attempt: AttemptId::from_bits(9),
            ..call(9, &accounts, 100)
        };
        let Err(AdmitError::NeedsLease(request)) = ledger.admit(&again) else {
            panic!("a start has no lease");
        };
        assert!(
            matches!(request.records(), [Record::LeaseRaised { limit, .. }]
                if *limit > PicoUsd::new(1_600)),
            "{request:?}"
        );
    }
}
