//! Rates on a real server: it answers by the rule, and whatever happens to it is survived.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod valkey;

use std::sync::Arc;
use std::time::Duration;

use base::{SystemNetwork, TenantId};
use ledger::{LimitId, RateAsk, RateKind, RatePool, RateTerms, Subject};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use store::{ValkeyAddress, ValkeyError, ValkeyOptions, ValkeyRates};

use valkey::Server;

fn rates(server: &Server, address: &str) -> ValkeyRates {
    let options = ValkeyOptions {
        address: ValkeyAddress::parse(address).unwrap(),
        authorities: Some(server.authority()),
        prefix: "partywall:test".into(),
    };
    ValkeyRates::new(options, Arc::new(SystemNetwork)).unwrap()
}

fn ask_of(tenant: u128, per_minute: u64, burst: u64) -> RateAsk {
    let tenant = TenantId::from_bits(tenant);
    RateAsk {
        tenant,
        limit: LimitId::of(tenant, &[Subject::Tenant]),
        kind: RateKind::Requests,
        terms: RateTerms::new(per_minute, burst).unwrap(),
        least: 1,
        need: 1,
        want: 1,
        returned: 0,
        taken: 0,
    }
}

/// Three in a minute: nothing comes back while a test runs.
fn slow(tenant: u128) -> RateAsk {
    ask_of(tenant, 3, 3)
}

fn units() -> impl Strategy<Value = [u64; 5]> {
    (0_u64..40, 0_u64..40, 0_u64..60, 0_u64..30, 0_u64..10).prop_map(
        |(least, need, ahead, returned, taken)| {
            [least.min(need), need, need + ahead, returned, taken]
        },
    )
}

#[tokio::test]
async fn the_server_answers_by_the_rule() {
    let server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let cases = proptest::collection::vec(units(), 1..40);
    for tenant in 0..60 {
        let case = cases.new_tree(&mut runner).unwrap().current();
        let asks = case
            .iter()
            .map(|[least, need, want, returned, taken]| RateAsk {
                least: *least,
                need: *need,
                want: *want,
                returned: *returned,
                taken: *taken,
                // One in a minute: what is rounded up hides what comes back meanwhile.
                ..ask_of(tenant, 1, 100)
            });
        let asks: Vec<_> = asks.collect();
        let mut pool = RatePool::default();
        let by_rule: Vec<_> = asks
            .iter()
            .map(|ask| pool.answer(ask, Duration::ZERO))
            .collect();
        assert_eq!(rates.exchange(&asks).await.unwrap(), by_rule, "{asks:?}");
    }
}

#[tokio::test]
async fn what_was_taken_comes_back_by_the_servers_clock() {
    let server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    // One a millisecond.
    let all = RateAsk {
        want: 500,
        need: 500,
        ..ask_of(1, 60_000, 500)
    };
    assert_eq!(rates.exchange(&[all]).await.unwrap()[0].granted, 500);
    let mut granted = 0;
    while granted < 50 {
        let some = RateAsk {
            want: 50,
            need: 50,
            ..all
        };
        granted += rates.exchange(&[some]).await.unwrap()[0].granted;
    }
}

#[tokio::test]
async fn tenants_limits_and_kinds_have_pools_of_their_own() {
    let server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    let one = slow(1);
    let used_up = RateAsk {
        want: 3,
        need: 3,
        ..one
    };
    let others = [
        slow(2),
        RateAsk {
            kind: RateKind::Tokens,
            ..one
        },
        RateAsk {
            limit: LimitId::of(one.tenant, &[Subject::Model("m".parse().unwrap())]),
            ..one
        },
        // The same limit's bits, of another tenant: its own all the same.
        RateAsk {
            tenant: TenantId::from_bits(3),
            ..one
        },
    ];
    let mut asks = vec![used_up, one];
    asks.extend(others);
    let granted: Vec<_> = rates.exchange(&asks).await.unwrap();
    let granted: Vec<_> = granted.iter().map(|given| given.granted).collect();
    assert_eq!(granted, [3, 0, 1, 1, 1, 1]);
    // What is kept is ids and counts, and goes once it is as good as new.
    let keys = server.tell(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 5, "{keys}");
    for key in keys.lines() {
        assert!(key.starts_with("partywall:test:"), "{key}");
        let left: i64 = server.tell(&["PTTL", key]).trim().parse().unwrap();
        assert!((1..=62_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_used_again() {
    let mut server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    assert!(rates.exchange(&[]).await.unwrap().is_empty());
    rates.exchange(&[slow(1)]).await.unwrap();
    server.kill();
    for _ in 0..2 {
        rates.exchange(&[slow(1)]).await.unwrap_err();
    }
    server.start_again();
    let given = rates.exchange(&[slow(1)]).await.unwrap();
    assert_eq!(
        (given[0].granted, given[0].debt),
        (1, 1),
        "it has forgotten"
    );
}

#[tokio::test]
async fn a_server_that_forgets_the_rule_is_told_it_again() {
    let server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    rates.exchange(&[slow(1)]).await.unwrap();
    server.tell(&["SCRIPT", "FLUSH"]);
    let error = rates.exchange(&[slow(1)]).await.unwrap_err();
    assert!(matches!(error, ValkeyError::Refused(_)), "{error:?}");
    assert_eq!(rates.exchange(&[slow(1)]).await.unwrap()[0].debt, 2);
}

#[tokio::test]
async fn a_pool_of_another_form_is_refused_and_one_of_nonsense_is_new() {
    let server = Server::start(&[]);
    let rates = rates(&server, &server.address());
    rates.exchange(&[slow(1)]).await.unwrap();
    let key = server.tell(&["KEYS", "*"]);
    server.tell(&["HSET", key.trim(), "debt", "many", "at", "-7e300"]);
    assert_eq!(rates.exchange(&[slow(1)]).await.unwrap()[0].debt, 1);
    server.tell(&["SET", key.trim(), "text"]);
    rates.exchange(&[slow(1)]).await.unwrap_err();
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_shown() {
    let server = Server::start(&["--requirepass", "pass-of-the-tests"]);
    let plain = server.address();
    let with = |password: &str| plain.replace("//", &format!("//:{password}@"));
    let good = rates(&server, &with("pass-of-the-tests"));
    assert_eq!(good.exchange(&[slow(1)]).await.unwrap()[0].granted, 1);
    for address in [plain.clone(), with("wrong-of-the-tests")] {
        let rates = rates(&server, &address);
        let error = rates.exchange(&[slow(1)]).await.unwrap_err();
        assert!(matches!(error, ValkeyError::Refused(_)), "{error:?}");
        let shown = format!("{error:?} {error} {rates:?}");
        assert!(!shown.contains("of-the-tests"), "{shown}");
    }
}

#[tokio::test]
async fn a_server_in_tls_must_show_itself_as_the_one_that_is_named() {
    let server = Server::start_in_tls();
    let good = rates(&server, &server.address());
    assert_eq!(good.exchange(&[slow(1)]).await.unwrap()[0].granted, 1);
    let misnamed = rates(&server, &server.address().replace("127.0.0.1", "localhost"));
    let error = misnamed.exchange(&[]).await.unwrap_err();
    assert!(matches!(error, ValkeyError::Unreachable(_)), "{error:?}");
    let options = ValkeyOptions {
        address: ValkeyAddress::parse(&server.address()).unwrap(),
        authorities: None,
        prefix: "partywall:test".into(),
    };
    let untrusted = ValkeyRates::new(options, Arc::new(SystemNetwork)).unwrap();
    let error = untrusted.exchange(&[]).await.unwrap_err();
    assert!(matches!(error, ValkeyError::Unreachable(_)), "{error:?}");
    // Who speaks plainly to it hears nothing that makes sense.
    let plain = rates(&server, &server.address().replace("valkeys", "valkey"));
    plain.exchange(&[]).await.unwrap_err();
}
