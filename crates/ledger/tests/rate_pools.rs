//! Rates that several replicas lease from one pool.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::HashMap;
use std::time::Duration;

use base::{AttemptId, PicoUsd, TenantId, Timestamp};
use ledger::{
    Actual, Admission, AdmitError, Hold, LimitId, LimitTerms, LimitUse, RateAsk, RateKind,
    RatePool, RateTerms, Reservation, Subject, TenantLedger,
};
use proptest::prelude::*;

const REPLICAS: u32 = 3;

fn tenant() -> TenantId {
    TenantId::from_bits(7)
}

fn limit() -> LimitId {
    LimitId::of(tenant(), &[Subject::Tenant])
}

/// Replicas' ledgers, and the pools that they lease from.
struct World {
    ledgers: Vec<TenantLedger>,
    pools: HashMap<(LimitId, RateKind), RatePool>,
    terms: LimitTerms,
    attempts: u128,
    elapsed: Duration,
    exchanges: u64,
}

impl World {
    fn new(requests: u64, tokens: Option<u64>) -> Self {
        let ledger = || {
            let mut ledger = TenantLedger::new(tenant());
            ledger.share_with(REPLICAS);
            ledger.lease_rates(true, Duration::ZERO);
            ledger
        };
        let rate = |per_minute| RateTerms::per_minute(per_minute).unwrap();
        Self {
            ledgers: (0..REPLICAS).map(|_| ledger()).collect(),
            pools: HashMap::new(),
            terms: LimitTerms {
                requests: Some(rate(requests)),
                tokens: tokens.map(rate),
                in_flight_max: None,
            },
            attempts: 0,
            elapsed: Duration::ZERO,
            exchanges: 0,
        }
    }

    fn ask(&mut self, replica: usize, tokens: u64) -> Result<Admission, AdmitError> {
        self.attempts += 1;
        let limits = [LimitUse {
            limit: limit(),
            terms: &self.terms,
        }];
        self.ledgers[replica].admit(&Reservation {
            attempt: AttemptId::from_bits(self.attempts),
            limits: &limits,
            accounts: &[],
            amount: PicoUsd::ZERO,
            tokens,
            now: Timestamp::from_micros(0),
            elapsed: self.elapsed,
            expires_at: Timestamp::from_micros(i64::MAX),
        })
    }

    fn answer(&mut self, ask: &RateAsk) -> ledger::RateGiven {
        let pool = self.pools.entry((ask.limit, ask.kind)).or_default();
        pool.answer(ask, self.elapsed)
    }

    fn exchange(&mut self, replica: usize, is_due: bool) {
        let (asks, has_more) = self.ledgers[replica].rate_asks(is_due, 256, self.elapsed);
        assert!(!has_more);
        self.exchanges += u64::from(!asks.is_empty());
        for ask in asks {
            let given = self.answer(&ask);
            assert!(given.granted <= ask.want);
            self.ledgers[replica].apply_rate(&ask, given, self.elapsed);
        }
    }

    /// A call as a gateway makes it: where more must be leased it is, and the call asks again.
    fn call(&mut self, replica: usize, tokens: u64) -> Result<Hold, AdmitError> {
        for _ in 0..8 {
            match self.ask(replica, tokens) {
                Ok(admission) => {
                    if admission.rates.runs_low {
                        self.exchange(replica, false);
                    }
                    return Ok(admission.hold);
                }
                Err(AdmitError::NeedsRate) => self.exchange(replica, false),
                Err(error) => return Err(error),
            }
        }
        panic!("a call asks for ever");
    }

    fn end(&mut self, replica: usize, hold: Hold, tokens: u64) {
        let actual = Actual {
            cost: PicoUsd::ZERO,
            tokens,
        };
        let _ended = self.ledgers[replica].settle(hold, actual, Timestamp::from_micros(0));
    }

    fn calls_until_refused(&mut self, replica: usize) -> u64 {
        for answered in 0.. {
            match self.call(replica, 1) {
                Ok(hold) => self.end(replica, hold, 1),
                Err(AdmitError::RateLimited { .. }) => return answered,
                Err(error) => panic!("{error}"),
            }
        }
        unreachable!()
    }
}

#[test]
fn one_replica_has_the_whole_rate_and_few_exchanges() {
    let mut world = World::new(600, None);
    let alone = world.calls_until_refused(0);
    assert_eq!(alone, 600);
    assert!(world.exchanges <= 600 / 8, "{} exchanges", world.exchanges);
    assert_eq!(world.calls_until_refused(1), 0, "nothing is left");
    world.elapsed += Duration::from_secs(6);
    let others = world.calls_until_refused(1) + world.calls_until_refused(2);
    assert_eq!(others, 60, "six seconds' worth");
}

#[test]
fn what_a_replica_does_not_use_goes_back() {
    let mut world = World::new(600, None);
    for _ in 0..10 {
        let hold = world.call(0, 1).unwrap();
        world.end(0, hold, 1);
    }
    world.elapsed += Duration::from_secs(10);
    world.exchange(0, true);
    assert_eq!(world.calls_until_refused(1), 600);
}

#[test]
fn tokens_that_a_call_did_not_have_are_there_for_another_replica() {
    let mut world = World::new(600, Some(10_000));
    let hold = world.call(0, 9_000).unwrap();
    let refused = world.call(1, 9_000);
    assert!(
        matches!(
            refused,
            Err(AdmitError::RateLimited {
                kind: RateKind::Tokens,
                ..
            })
        ),
        "{refused:?}"
    );
    world.end(0, hold, 500);
    world.exchange(0, true);
    world.elapsed += Duration::from_millis(500);
    let hold = world.call(1, 9_000).unwrap();
    world.end(1, hold, 9_000);
    let never = world.call(1, 10_001);
    assert!(
        matches!(never, Err(AdmitError::NeverFits { .. })),
        "{never:?}"
    );
}

#[test]
fn a_limit_below_the_number_of_replicas_holds() {
    let mut world = World::new(2, None);
    let answered: u64 = (0..3)
        .map(|replica| world.calls_until_refused(replica))
        .sum();
    assert_eq!(answered, 2);
}

#[test]
fn a_call_that_finds_nothing_hears_when_there_is_room() {
    let mut world = World::new(60, None);
    assert_eq!(world.calls_until_refused(0), 60);
    let Err(AdmitError::RateLimited { retry_after, .. }) = world.call(0, 1) else {
        panic!("refused");
    };
    assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
    world.elapsed += retry_after;
    let hold = world.call(0, 1).unwrap();
    world.end(0, hold, 1);
}

#[test]
fn without_its_pool_a_replica_has_its_part_and_tells_of_it_later() {
    let mut world = World::new(600, None);
    for ledger in &mut world.ledgers {
        ledger.lease_rates(false, Duration::ZERO);
    }
    assert_eq!(world.calls_until_refused(0), 200);
    assert_eq!(world.calls_until_refused(1), 200);
    for ledger in &mut world.ledgers {
        ledger.lease_rates(true, Duration::ZERO);
    }
    for replica in 0..3 {
        world.exchange(replica, true);
    }
    assert_eq!(
        world.calls_until_refused(2),
        200,
        "of a pool that knew nothing"
    );
    // And back: what all have taken is in each one's part.
    world.exchange(1, true);
    for ledger in &mut world.ledgers {
        ledger.lease_rates(false, Duration::ZERO);
    }
    assert_eq!(world.calls_until_refused(2), 0);
}

#[test]
fn what_a_lost_answer_had_said_is_told_again() {
    let mut world = World::new(600, Some(1_000));
    let hold = world.call(0, 100).unwrap();
    // More than its bound: the pool has not heard of it.
    world.end(0, hold, 900);
    let (asks, _) = world.ledgers[0].rate_asks(true, 256, world.elapsed);
    let taken: u64 = asks.iter().map(|ask| ask.taken).sum();
    assert_eq!(taken, 800);
    for ask in &asks {
        world.ledgers[0].rate_unanswered(ask);
    }
    world.exchange(0, true);
    let refused = world.call(1, 200);
    assert!(
        matches!(refused, Err(AdmitError::RateLimited { .. })),
        "{refused:?}"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Call {
        replica: usize,
        tokens: u64,
        had: u64,
    },
    Wait(u64),
    Tick(usize),
    /// A replica ends, and a new one has its place.
    Crash(usize),
    /// An exchange whose answer is lost, applied or not.
    Lose {
        replica: usize,
        is_applied: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..REPLICAS as usize;
    prop_oneof![
        8 => (replica.clone(), 1_u64..400, 0_u64..400).prop_map(|(replica, tokens, had)| {
            Step::Call { replica, tokens, had: had.min(tokens) }
        }),
        3 => (1_u64..20_000).prop_map(Step::Wait),
        2 => replica.clone().prop_map(Step::Tick),
        1 => replica.clone().prop_map(Step::Crash),
        1 => (replica, any::<bool>()).prop_map(|(replica, is_applied)| {
            Step::Lose { replica, is_applied }
        }),
    ]
}

proptest! {
    /// Over any stretch of time all replicas together let no more through than the burst, what came
    /// back, and what was leased before the stretch began and not used: a quarter of the burst.
    #[test]
    fn together_they_take_no_more_than_the_rate(
        requests in 1_u64..200, tokens in 400_u64..5_000,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(requests, Some(tokens));
        let mut taken: Vec<(Duration, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Call { replica, tokens, had } => match world.call(replica, tokens) {
                    Ok(hold) => {
                        world.end(replica, hold, had);
                        taken.push((world.elapsed, had));
                    }
                    Err(AdmitError::RateLimited { .. } | AdmitError::NeverFits { .. }) => {}
                    Err(error) => prop_assert!(false, "{error}"),
                },
                Step::Wait(millis) => world.elapsed += Duration::from_millis(millis),
                Step::Tick(replica) => world.exchange(replica, true),
                Step::Crash(replica) => {
                    let mut ledger = TenantLedger::new(tenant());
                    ledger.share_with(REPLICAS);
                    ledger.lease_rates(true, world.elapsed);
                    world.ledgers[replica] = ledger;
                }
                Step::Lose { replica, is_applied } => {
                    let (asks, _) = world.ledgers[replica].rate_asks(true, 256, world.elapsed);
                    for ask in asks {
                        if is_applied {
                            world.answer(&ask);
                        }
                        world.ledgers[replica].rate_unanswered(&ask);
                    }
                }
            }
        }
        for (from, (start, _)) in taken.iter().enumerate() {
            let (mut calls, mut had_tokens) = (0_u64, 0_u64);
            for (end, had) in &taken[from..] {
                calls += 1;
                had_tokens += *had;
                let micros = (*end - *start).as_micros();
                // Leased ahead by all; and one call's worth that a caller left behind.
                let most = |per_minute: u64, one: u64| {
                    let came_back = (micros * u128::from(per_minute)).div_ceil(60_000_000);
                    u128::from(per_minute + per_minute / 4 + one) + came_back
                };
                prop_assert!(u128::from(calls) <= most(requests, 0), "{calls} calls");
                prop_assert!(
                    u128::from(had_tokens) <= most(tokens, 400 * 3),
                    "{had_tokens} tokens"
                );
            }
        }
    }
}
