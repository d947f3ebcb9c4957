//! A call that leaves while its lease is on the way to the disk.

use std::time::Duration;

use base::{AttemptId, Name, PicoUsd, TenantId, Timestamp};
use ledger::{
    AccountId, AccountTerms, AccountUse, Admission, AdmitError, Record, Reservation, ShareAsk,
    ShareNews, Subject, TenantLedger, Window, allot,
};

const TENANT: TenantId = TenantId::from_bits(7);
const NOON: Timestamp = Timestamp::from_micros(20_000 * 86_400_000_000 + 43_200_000_000);

fn name() -> Name {
    "total".parse().unwrap()
}

fn admit(ledger: &mut TenantLedger) -> Result<Admission, AdmitError> {
    let budget = name();
    ledger.admit(&Reservation {
        attempt: AttemptId::from_bits(1),
        limits: &[],
        accounts: &[AccountUse {
            account: AccountId::of(TENANT, &budget, &Subject::Tenant),
            budget: &budget,
            subject: &Subject::Tenant,
            terms: &AccountTerms {
                limit: Some(PicoUsd::new(1_000)),
                window: Window::Total,
                soft_percent: 80,
                calls_max: None,
            },
        }],
        amount: PicoUsd::new(100),
        tokens: 0,
        now: NOON,
        elapsed: Duration::ZERO,
        expires_at: NOON.plus(Duration::from_secs(60)),
    })
}

fn asks(ledger: &mut TenantLedger, which: ShareNews, after: u64) -> (Vec<ShareAsk>, Vec<Record>) {
    let after = Duration::from_secs(after);
    let said = ledger.share_asks(which, 10, NOON.plus(after), after);
    (said.asks, said.records)
}

/// The journal allows the lease as soon as it is durable, and a crash then counts it as spent:
/// so it is told as used from the moment it was asked for, although nobody is granted it.
#[test]
fn invariant_5_a_lease_that_nobody_waits_for_is_told_as_used_until_it_is_given_up() {
    let mut ledger = TenantLedger::new(TENANT);
    ledger.share_with(3);
    assert!(matches!(admit(&mut ledger), Err(AdmitError::NeedsShare)));
    let (wanted, _) = asks(&mut ledger, ShareNews::Needed, 0);
    let (_, given) = allot(&wanted[0], &[], 3, NOON);
    ledger.apply_share(&given, Duration::ZERO, NOON, Duration::ZERO);
    let Err(AdmitError::NeedsLease(request)) = admit(&mut ledger) else {
        panic!("no lease was asked for");
    };
    let leased = request.records().iter().find_map(|record| match record {
        Record::LeaseRaised { limit, .. } => Some(*limit),
        _ => None,
    });
    // The caller has gone. What is to spare goes back, and the lease does not.
    let (told, records) = asks(&mut ledger, ShareNews::Due, 5);
    assert_eq!((Some(told[0].used), Some(told[0].keep)), (leased, leased));
    assert_eq!(records, []);
    ledger.share_unanswered(told[0].account);
    // All of it goes back once the journal has been told so.
    let (told, records) = asks(&mut ledger, ShareNews::Due, 20);
    assert_eq!((told[0].used, told[0].keep), (PicoUsd::ZERO, PicoUsd::ZERO));
    let [Record::LeaseReturned { unused, .. }] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(Some(*unused), leased);
}
