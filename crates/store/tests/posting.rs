//! Whatever lines are posted, in whatever portions and however often: the store has the latest of
//! each attempt once, and its sums say the same.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;

use base::{AttemptId, PicoUsd, TenantId, Timestamp};
use ledger::{LedgerLine, LineState};
use proptest::prelude::*;
use store::{Dimension, LineCursor, Page, TenantStore, UsageFilter, UsageQuery};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
use fixture::{DAY, FileStores, Hierarchy, attempt_at, line};

/// 2²⁰ records: after so many, blocks of one second would like the same number.
const PARTS: u64 = 1 << 20;
const SECOND: i64 = 1_000_000;

/// One call and what becomes of it.
#[derive(Debug, Clone)]
struct Call {
    /// In tenths of a second.
    started: i64,
    feature: u8,
    session: Option<u8>,
    accounts: u8,
    /// What the upstream calls the model at the end.
    version: Option<u8>,
    /// Whether a crash leaves it unsettled before it is reconciled.
    is_cut: bool,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (
        0..50_i64,
        0..3_u8,
        prop::option::of(0..3_u8),
        0..4_u8,
        prop::option::of(0..2_u8),
        prop::bool::weighted(0.2),
    );
    let call = call.prop_map(
        |(started, feature, session, accounts, version, is_cut)| Call {
            started,
            feature,
            session,
            accounts,
            version,
            is_cut,
        },
    );
    prop::collection::vec(call, 1..60)
}

/// The lines of `calls`, as a compactor makes them: those that a crash cut first, all of them by
/// one record; then one of each call.
fn lines_of(tenant: TenantId, calls: &[Call]) -> Vec<LedgerLine> {
    let made: Vec<_> = calls
        .iter()
        .zip(0_u64..)
        .map(|(call, number)| {
            let at = DAY - 2 * SECOND + call.started * SECOND / 10;
            let mut line = line(tenant, number.into(), 2 + number, at);
            line.intent.feature = format!("f{}", call.feature).parse().unwrap();
            let session = call.session.map(|session| format!("s{session}"));
            line.intent.session = session.map(|session| session.parse().unwrap());
            line.intent.accounts = (0..u128::from(call.accounts))
                .map(ledger::AccountId::from_bits)
                .collect();
            line.intent.expires_at = Timestamp::from_micros(at + 5);
            line.served = call.version.map(|n| format!("v{n}").parse().unwrap());
            line.cost = PicoUsd::new(1 << number.min(100));
            line.at = Timestamp::from_micros(at + 3);
            line
        })
        .collect();
    let cut = made.iter().zip(calls).filter(|(_, call)| call.is_cut);
    let cut = cut.map(|(line, _)| LedgerLine {
        lsn: ledger::Lsn::new(1),
        state: LineState::Unsettled,
        served: None,
        cost: line.intent.amount,
        ..line.clone()
    });
    cut.chain(made.iter().cloned()).collect()
}

type Kept = BTreeMap<(Timestamp, AttemptId), LedgerLine>;

fn keep(kept: &mut Kept, lines: &[LedgerLine]) {
    for line in lines {
        let place = (line.intent.at, line.intent.attempt);
        if kept.get(&place).is_none_or(|before| before.lsn < line.lsn) {
            kept.insert(place, line.clone());
        }
    }
}

/// Whether the store has what is in `kept`, and nothing else.
fn check(store: &TenantStore<'_>, kept: &Kept) {
    let from = Timestamp::from_micros(DAY - 2 * SECOND);
    let until = Timestamp::from_micros(DAY + 4 * SECOND);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.lines(from, until, after, 7).unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(LineCursor::after(last));
        listed.extend(page);
    }
    assert!(listed.iter().eq(kept.values()));
    for line in kept.values() {
        let found = store.line(line.intent.attempt).unwrap();
        assert_eq!(found.as_ref(), Some(line));
    }
    let unsettled: BTreeMap<_, _> = kept
        .values()
        .filter(|line| line.state == LineState::Unsettled)
        .map(|line| (line.intent.attempt, line))
        .collect();
    let found = store.unsettled_lines(Page::first()).unwrap();
    assert!(found.iter().eq(unsettled.into_values()));
    check_usage(store, kept);
}

fn check_usage(store: &TenantStore<'_>, kept: &Kept) {
    let ask = |from: i64, until: i64, by: &[Dimension], filter: UsageFilter| {
        let query = UsageQuery {
            from: Timestamp::from_micros(from),
            until: Timestamp::from_micros(until),
            group_by: by.to_vec(),
            filter,
        };
        store.usage(&query, Page::first()).unwrap()
    };
    let usage = |from, until, by: &[Dimension], feature: Option<&str>| {
        let filter = UsageFilter {
            feature: feature.map(str::to_owned),
            ..UsageFilter::default()
        };
        ask(from, until, by, filter)
    };
    // Any cut, of the sums and of the lines, is all that the journal said.
    let cost_of_all: PicoUsd = kept.values().map(|line| line.cost).sum();
    for time in [Dimension::Hour, Dimension::Day, Dimension::Month] {
        let by = [time, Dimension::Feature, Dimension::Version];
        let sums = usage(0, 10 * DAY + 1, &by, None);
        let of_lines = UsageFilter {
            session: Some(String::new()),
            ..UsageFilter::default()
        };
        assert_eq!(sums, ask(0, 10 * DAY + 1, &by, of_lines));
        let calls: u64 = sums.iter().map(|row| row.calls).sum();
        assert_eq!(calls, kept.len() as u64);
        let cost: PicoUsd = sums.iter().map(|row| row.cost).sum();
        assert_eq!(cost, cost_of_all);
    }
    let rebuilt = store.rebuild_sums().unwrap();
    assert_eq!((rebuilt.lines, rebuilt.corrected), (kept.len() as u64, 0));
    // Over a part of a second, by conversation.
    let (from, until) = (DAY - SECOND / 2, DAY + SECOND / 3);
    let mut expected: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for line in kept.values() {
        let at = line.intent.at.as_micros();
        if at >= from && at < until && line.intent.feature.as_str() == "f1" {
            let session = line.intent.session.as_ref().map(|name| name.to_string());
            *expected.entry(session).or_default() += 1;
        }
    }
    let found = usage(from, until, &[Dimension::Session], Some("f1"));
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(|row| (row.session, row.calls))
        .collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn portions_and_repetitions_change_nothing(
        calls in calls(),
        portions in prop::collection::vec(1..40_usize, 1..20),
        crashes in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let placement = FileStores::new();
        let scope = Hierarchy::new(1).scope(1);
        placement.stores.provision(&scope).unwrap();
        let store = placement.stores.open(&scope);
        let lines = lines_of(scope.tenant(), &calls);
        let mut kept = Kept::new();
        let (mut begun, mut sizes) = (0, portions.iter().cycle());
        let mut crashes = crashes.iter();
        while begun < lines.len() {
            let end = (begun + sizes.next().unwrap()).min(lines.len());
            store.post_lines(&lines[begun..end]).unwrap();
            keep(&mut kept, &lines[begun..end]);
            check(&store, &kept);
            // After a crash, compaction goes on from an earlier checkpoint.
            begun = match crashes.next() {
                Some(index) => index.index(end),
                None => end,
            };
        }
    }
}

#[test]
fn a_busy_second_takes_several_blocks() {
    let placement = FileStores::new();
    let scope = Hierarchy::new(1).scope(1);
    placement.stores.provision(&scope).unwrap();
    let store = placement.stores.open(&scope);
    let lines: Vec<_> = (0..1_000_u64)
        .map(|n| line(scope.tenant(), n.into(), n + 1, DAY + n as i64))
        .collect();
    let mut kept = Kept::new();
    for lines in lines.chunks(600) {
        store.post_lines(lines).unwrap();
        keep(&mut kept, lines);
    }
    check(&store, &kept);
    // All of it again, in other portions.
    for lines in lines.chunks(333) {
        store.post_lines(lines).unwrap();
    }
    check(&store, &kept);
}

#[test]
fn blocks_of_one_second_have_numbers_of_their_own() {
    let placement = FileStores::new();
    let scope = Hierarchy::new(1).scope(1);
    placement.stores.provision(&scope).unwrap();
    let store = placement.stores.open(&scope);
    let mut kept = Kept::new();
    // A call that ends a million records after the others of its second, and again.
    for (number, lsn) in [
        (0, 5),
        (1, 5 + PARTS),
        (2, 5 + 2 * PARTS),
        (3, 7 + 2 * PARTS),
    ] {
        let lines = [line(scope.tenant(), number, lsn, DAY)];
        store.post_lines(&lines).unwrap();
        keep(&mut kept, &lines);
    }
    // A journal that began anew, with smaller numbers: its lines are others all the same.
    let lines = [line(scope.tenant(), 9, 1, DAY)];
    store.post_lines(&lines).unwrap();
    keep(&mut kept, &lines);
    check(&store, &kept);
}

#[test]
fn a_line_is_found_by_the_time_in_its_id_also_a_moment_off() {
    let placement = FileStores::new();
    let scope = Hierarchy::new(1).scope(1);
    placement.stores.provision(&scope).unwrap();
    let store = placement.stores.open(&scope);
    // Dispatched at the end of a second, with an id that was made in the next, or before.
    for (number, made) in [(1, DAY + 999_999), (2, DAY - 1), (3, DAY + SECOND - 1)] {
        let mut posted = line(scope.tenant(), number, number as u64, DAY);
        posted.intent.attempt = attempt_at(made, number);
        store.post_lines(std::slice::from_ref(&posted)).unwrap();
        let found = store.line(posted.intent.attempt).unwrap();
        assert_eq!(found, Some(posted));
    }
    assert_eq!(store.line(attempt_at(DAY, 99)).unwrap(), None);
}
