//! What a journal must not contain is found in it.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use base::{AttemptId, KeyId, Name, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{
    AccountId, AccountOpened, CheckpointError, Consumption, Fault, Hop, Intent, LineState, Lsn,
    Metering, NotStarted, Outcome, PriceVersion, Projection, Record, Settled, Subject, Window,
    verify,
};

const TENANT: TenantId = TenantId::from_bits(1);

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn account() -> AccountId {
    let budget: Name = "b".parse().unwrap();
    AccountId::of(TENANT, &budget, &Subject::Tenant)
}

fn opened() -> Record {
    Record::AccountOpened(Box::new(AccountOpened {
        account: account(),
        tenant: TENANT,
        budget: "b".parse().unwrap(),
        subject: Subject::Tenant,
        window: Window::Total,
        at: at(1),
    }))
}

fn raised(limit: i128, budget: i128) -> Record {
    Record::LeaseRaised {
        account: account(),
        limit: PicoUsd::new(limit),
        budget: Some(PicoUsd::new(budget)),
        at: at(2),
    }
}

fn intent(attempt: u128, amount: i128) -> Record {
    Record::Intent(Box::new(Intent {
        attempt: AttemptId::from_bits(attempt),
        request: RequestId::from_bits(attempt),
        parent: None,
        prompt: None,
        tenant: TENANT,
        team: None,
        user: None,
        key: KeyId::from_bits(1),
        feature: "f".parse().unwrap(),
        session: None,
        turn: None,
        hop: Hop::Generate,
        model: "m".parse().unwrap(),
        upstream: "u".parse().unwrap(),
        price_version: PriceVersion(1),
        amount: PicoUsd::new(amount),
        input_bound: 1,
        output_bound: 1,
        accounts: [account()].into_iter().collect(),
        at: at(3),
        expires_at: at(9),
    }))
}

fn settled(attempt: u128, cost: i128) -> Record {
    Record::Settled(Settled {
        attempt: AttemptId::from_bits(attempt),
        consumption: Consumption::default(),
        cost: PicoUsd::new(cost),
        outcome: Outcome::Completed,
        metering: Metering::Reported,
        served: None,
        at: at(4),
    })
}

fn faults(records: &[Record]) -> Vec<Fault> {
    let numbered = records
        .iter()
        .enumerate()
        .map(|(place, record)| (Lsn::new(place as u64 + 1), record));
    verify(numbered).faults
}

fn project(records: &[Record]) -> Projection {
    let mut projection = Projection::new();
    for (place, record) in records.iter().enumerate() {
        projection.apply(Lsn::new(place as u64 + 1), record, &mut Vec::new());
    }
    projection
}

#[test]
fn a_sound_journal_has_no_fault() {
    let closed = Record::Closed { at: at(5) };
    let records = [
        opened(),
        raised(100, 100),
        intent(1, 60),
        settled(1, 50),
        closed,
    ];
    assert_eq!(faults(&records), []);
}

#[test]
fn invariant_5_a_call_beyond_the_limit_is_found() {
    let records = [opened(), raised(200, 100), intent(1, 60), intent(2, 60)];
    assert!(matches!(faults(&records)[..], [Fault::BeyondLimit { .. }]));
}

#[test]
fn invariant_6_second_ends_and_ends_without_a_beginning_are_found() {
    let records = [
        opened(),
        raised(100, 100),
        intent(1, 10),
        settled(1, 10),
        settled(1, 10),
        settled(2, 10),
        intent(1, 10),
    ];
    assert!(matches!(
        faults(&records)[..],
        [
            Fault::EndedTwice { .. },
            Fault::NeverBegan { .. },
            Fault::BeganTwice { .. }
        ]
    ));
}

#[test]
fn invariant_7_a_call_beyond_its_lease_is_found() {
    let records = [opened(), raised(50, 100), intent(1, 60)];
    assert!(matches!(faults(&records)[..], [Fault::BeyondLease { .. }]));
}

#[test]
fn strays_and_an_untidy_end_are_found() {
    let closed = Record::Closed { at: at(5) };
    let records = [
        raised(50, 100),
        opened(),
        raised(50, 100),
        intent(1, 10),
        closed,
    ];
    assert!(matches!(
        faults(&records)[..],
        [Fault::Stray { .. }, Fault::ClosedWhileOpen { live: 1, .. }]
    ));
}

#[test]
fn ledgers_begin_at_a_start_alone() {
    let mut records = vec![opened(), raised(100, 100), intent(1, 10)];
    assert_eq!(project(&records).ledgers().unwrap_err(), NotStarted);
    records.push(Record::Started { at: at(6) });
    let ledgers = project(&records).ledgers().unwrap();
    let view = ledgers[&TENANT].account(account(), at(6)).unwrap();
    // Ten for the call that is open, ninety that may have been dispatched unseen.
    assert_eq!(
        (view.spent, view.unreported),
        (PicoUsd::new(100), PicoUsd::new(90))
    );
    assert_eq!((view.held, view.lease_left), (PicoUsd::ZERO, PicoUsd::ZERO));
}

#[test]
fn invariant_7_a_crash_leaves_an_unsettled_line_that_reconciliation_replaces() {
    let records = [
        opened(),
        raised(100, 100),
        intent(1, 10),
        Record::Started { at: at(6) },
        Record::Reconciled {
            attempt: AttemptId::from_bits(1),
            cost: PicoUsd::new(4),
            at: at(7),
        },
    ];
    let mut lines = Vec::new();
    let mut projection = Projection::new();
    for (place, record) in records.iter().enumerate() {
        projection.apply(Lsn::new(place as u64 + 1), record, &mut lines);
    }
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.state, line.cost.pico(), line.lsn.number()))
        .collect();
    assert_eq!(
        seen,
        [(LineState::Unsettled, 10, 4), (LineState::Reconciled, 4, 5)]
    );
    let spent = projection.account(account(), at(8)).unwrap().spent;
    assert_eq!(spent, PicoUsd::new(94));
}

#[test]
fn a_damaged_or_newer_checkpoint_is_refused() {
    let projection = project(&[opened(), raised(100, 100), intent(1, 10)]);
    let bytes = projection.to_bytes();
    assert!(Projection::from_bytes(&bytes) == Ok(projection));
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x10;
        let expected = match place {
            0..4 => CheckpointError::NotACheckpoint,
            4..8 => CheckpointError::OtherFormat {
                found: u32::from_le_bytes(damaged[4..8].try_into().unwrap()),
            },
            _ => CheckpointError::Damaged,
        };
        assert_eq!(Projection::from_bytes(&damaged), Err(expected));
    }
    assert!(Projection::from_bytes(&bytes[..5]).is_err());
}
