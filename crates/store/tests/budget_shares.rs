//! Replicas that share budgets over a real PostgreSQL: together they are never given more than the
//! limit.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::{Clock, Entropy, ManualClock, PicoUsd, SystemEntropy, TenantId};
use ledger::{AccountId, ShareAsk};
use store::{
    BudgetShares, CatalogueServer, CatalogueServerOptions, Replica, ReplicaId, ShareError,
};

#[expect(dead_code, reason = "other tests use the rest")]
mod postgres {
    include!("../../../tests/postgres.rs");
}
use postgres::new_database;

const ALIVE_FOR: Duration = Duration::from_secs(60);

fn connected(address: &str) -> Arc<CatalogueServer> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let options = CatalogueServerOptions {
        address: address.parse().unwrap(),
        authorities: None,
    };
    CatalogueServer::connect(options, &clock, &entropy).unwrap()
}

fn shares(server: &Arc<CatalogueServer>, replica: u128) -> BudgetShares {
    let replica = Replica {
        id: ReplicaId::from_bits(replica),
        name: format!("replica-{replica}"),
        roles: "gateway,control".into(),
        program: "test".into(),
    };
    BudgetShares::new(Arc::new(server.register(&replica).unwrap()), ALIVE_FOR)
}

fn account(number: u128) -> AccountId {
    AccountId::from_bits(number << 64 | number)
}

/// Keeps and spent are what a ledger would say; all need is wanted.
fn ask(number: u128, limit: i128, keep: i128, want: i128) -> ShareAsk {
    ShareAsk {
        limit: Some(PicoUsd::new(limit)),
        spent: PicoUsd::new(keep),
        used: PicoUsd::new(keep),
        keep: PicoUsd::new(keep),
        least: PicoUsd::new(want),
        need: PicoUsd::new(want),
        want: PicoUsd::new(want),
        ..ShareAsk::nothing(TenantId::from_bits(7), account(number))
    }
}

/// Four replicas at once, each on connections of its own, ask for more of eight accounts, in any
/// order, and give back: what they have together is added up in memory while they do.
#[test]
fn invariant_5_many_replicas_at_once_are_never_given_more_than_the_limit() {
    const LIMIT: i128 = 1_000;
    const ACCOUNTS: usize = 8;
    const ROUNDS: u64 = 150;
    let address = new_database();
    let servers: Vec<_> = (0..4).map(|_| connected(&address)).collect();
    let held: [AtomicI64; ACCOUNTS] = Default::default();
    let given: i64 = std::thread::scope(|threads| {
        let replicas: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(number, server)| {
                let held = &held;
                threads.spawn(move || replica_at_work(server, number as u128 + 1, held, LIMIT))
            })
            .collect();
        replicas
            .into_iter()
            .map(|replica| replica.join().unwrap())
            .sum()
    });
    assert!(
        given > LIMIT as i64,
        "somebody was given something: {given}"
    );
    return;

    fn replica_at_work(
        server: &Arc<CatalogueServer>,
        number: u128,
        held: &[AtomicI64; ACCOUNTS],
        limit: i128,
    ) -> i64 {
        let shares = shares(server, number);
        let mut mine = [0_i128; ACCOUNTS];
        let mut random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut given_in_all = 0;
        for _ in 0..ROUNDS {
            let mut asks = Vec::new();
            for place in 0..ACCOUNTS {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random.is_multiple_of(3) {
                    continue;
                }
                let back = (random >> 8).is_multiple_of(4);
                let keep = if back { mine[place] / 3 } else { mine[place] };
                // Given back before it is told, as a ledger does.
                held[place].fetch_sub((mine[place] - keep) as i64, Ordering::SeqCst);
                mine[place] = keep;
                let more = if back { 0 } else { (random >> 16) as i128 % 90 };
                asks.push((place, ask(place as u128, limit, keep, keep + more)));
            }
            // Not in the order of the locks.
            asks.reverse();
            let all: Vec<_> = asks.iter().map(|(_, ask)| ask.clone()).collect();
            let answer = shares.exchange(&all).unwrap();
            for ((place, ask), given) in asks.iter().zip(&answer.given) {
                assert_eq!(given.account, ask.account);
                let more = given.share.pico() - mine[*place];
                assert!(more >= 0);
                let all = held[*place].fetch_add(more as i64, Ordering::SeqCst) + more as i64;
                assert!(all <= limit as i64, "{all} of {limit} given");
                mine[*place] = given.share.pico();
                given_in_all += more as i64;
            }
        }
        given_in_all
    }
}

#[test]
fn an_answer_tells_of_the_others() {
    let address = new_database();
    let server = connected(&address);
    let (one, other) = (shares(&server, 1), shares(&server, 2));
    let first = one.exchange(&[ask(1, 1_000, 0, 400)]).unwrap();
    assert_eq!((first.gateways, first.given[0].share.pico()), (2, 400));
    one.exchange(&[ask(1, 1_000, 400, 400)]).unwrap();
    let second = other.exchange(&[ask(1, 1_000, 0, 700)]).unwrap();
    let told = second.given[0];
    assert_eq!((told.share.pico(), told.spent_elsewhere.pico()), (0, 400));
    assert_eq!(told.left.pico(), 600);
    // Who lacks something is heard.
    let heard = one.exchange(&[ask(1, 1_000, 400, 400)]).unwrap();
    assert!(heard.given[0].is_wanted);
    let spent = other.spent_by_others(&[account(1), account(2)]).unwrap();
    assert_eq!(
        spent.into_iter().collect::<Vec<_>>(),
        [(account(1), PicoUsd::new(400))]
    );
    // Amounts beyond 64 bits come back as they went.
    let large = 10_i128.pow(30);
    one.exchange(&[ask(3, large * 2, large, large)]).unwrap();
    let spent = other.spent_by_others(&[account(3)]).unwrap();
    assert_eq!(spent[&account(3)], PicoUsd::new(large));
}

#[test]
fn a_process_whose_place_was_taken_is_refused_and_changes_nothing() {
    let address = new_database();
    let server = connected(&address);
    let before = shares(&server, 1);
    before
        .exchange(&[ask(1, 1_000, 0, 300), ask(2, 1_000, 0, 200)])
        .unwrap();
    let after = shares(&server, 1);
    let refused = before.exchange(&[ask(1, 1_000, 0, 900)]);
    assert!(matches!(refused, Err(ShareError::Fenced(_))), "{refused:?}");
    // What the earlier one had is still its own: the later one says what became of it.
    let mut left = after.left_behind().unwrap();
    left.sort();
    let tenant = TenantId::from_bits(7);
    assert_eq!(left, [(tenant, account(1)), (tenant, account(2))]);
    let nothing = ShareAsk::nothing(tenant, account(2));
    after.exchange(&[ask(1, 1_000, 250, 250), nothing]).unwrap();
    assert_eq!(after.left_behind().unwrap(), []);
    let other = shares(&server, 2);
    let spent = other.spent_by_others(&[account(1), account(2)]).unwrap();
    assert_eq!(
        spent.into_iter().collect::<Vec<_>>(),
        [(account(1), PicoUsd::new(250))]
    );
    // Somebody who was forgotten has no place at all.
    assert!(server.forget_replica(ReplicaId::from_bits(2)).unwrap());
    let refused = other.exchange(&[ask(1, 1_000, 0, 1)]);
    assert!(matches!(refused, Err(ShareError::Fenced(_))), "{refused:?}");
}

#[test]
fn an_exchange_that_comes_after_a_later_one_changes_nothing() {
    let address = new_database();
    let server = connected(&address);
    let replica = Replica {
        id: ReplicaId::from_bits(1),
        name: "replica".into(),
        roles: "gateway".into(),
        program: "test".into(),
    };
    let place = Arc::new(server.register(&replica).unwrap());
    let (later, held_up) = (
        BudgetShares::new(Arc::clone(&place), ALIVE_FOR),
        BudgetShares::new(place, ALIVE_FOR),
    );
    later.exchange(&[ask(1, 1_000, 0, 100)]).unwrap();
    later.exchange(&[ask(1, 1_000, 100, 500)]).unwrap();
    // It is the first of its own count, as if it had been sent first.
    let late = held_up.exchange(&[ask(1, 1_000, 0, 10)]);
    assert!(matches!(late, Err(ShareError::Late)), "{late:?}");
    let other = shares(&server, 2);
    let told = other.exchange(&[ask(1, 1_000, 0, 501)]).unwrap();
    assert_eq!(told.given[0].share.pico(), 0, "the five hundred are taken");
}

#[test]
fn rows_that_count_no_more_are_swept() {
    let address = new_database();
    let server = connected(&address);
    let one = shares(&server, 1);
    one.exchange(&[ask(1, 1_000, 0, 100)]).unwrap();
    assert_eq!(one.sweep().unwrap(), 0, "a total is for ever");
}
