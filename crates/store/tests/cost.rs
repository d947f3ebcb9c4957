//! What storage costs per call. Measures and asserts nothing about time; run by hand:
//! `cargo test --release -p store --test cost -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "a failure ends the measurement")]

mod fixture;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{AttemptId, Clock as _, PicoUsd, SystemClock, SystemDisk, Timestamp};
use fixture::{DAY, FileStores, Hierarchy, line};
use ledger::{AccountId, LedgerLine, Record, Settled};
use store::{Compactor, Journal, JournalOptions, Page, Posted};

const LINES: u64 = 100_000;
const LINES_PER_POST: usize = 4_096;

/// A call as a gateway at 9,000 calls a second makes it.
fn call(tenant: base::TenantId, number: u64) -> LedgerLine {
    let at = 20_000 * DAY + number as i64 * 111;
    let attempt = u128::from(at.unsigned_abs() / 1_000) << 80
        | u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut line = line(tenant, attempt, number + 1, at);
    line.intent.request = base::RequestId::from_bits(attempt ^ 1);
    line.intent.team = Some(base::TeamId::from_bits(7 << 80));
    line.intent.user = Some(base::UserId::from_bits(u128::from(number % 20) << 80));
    line.intent.session = Some(format!("conversation-{}", number / 10).parse().unwrap());
    line.intent.accounts = (0..3)
        .map(|n| AccountId::from_bits(u128::MAX - n))
        .collect();
    line.at = Timestamp::from_micros(at + 800_000);
    line
}

#[expect(clippy::print_stderr, reason = "figures are what these are run for")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// What this thread has had of a processor: others may be busy on the machine.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    let nanos = nanos.expect("the first number is nanoseconds");
    Duration::from_nanos(nanos)
}

fn measure<T>(what: &str, count: u64, act: impl FnOnce() -> T) -> T {
    let clock = SystemClock::new();
    let (begun, busy) = (clock.elapsed(), processor_time());
    let outcome = act();
    let (took, busy) = (clock.elapsed() - begun, processor_time() - busy);
    let each = busy.as_secs_f64() * 1e6 / count as f64;
    say(&format!(
        "{what}: {count} in {took:?}; {each:.2} µs of a processor each"
    ));
    outcome
}

#[test]
#[ignore = "measures"]
fn posting_lines() {
    let placement = FileStores::new().restart();
    let scope = Hierarchy::new(1).scope(1);
    placement.stores.provision(&scope).unwrap();
    let store = placement.stores.open(&scope);
    let lines: Vec<_> = (0..LINES).map(|n| call(scope.tenant(), n)).collect();
    for what in ["posted", "posted again"] {
        measure(what, LINES, || {
            for lines in lines.chunks(LINES_PER_POST) {
                store.post_lines(lines).unwrap();
            }
        });
    }
    let bytes = std::fs::metadata(placement.path(&scope)).unwrap().len();
    say(&format!("{} bytes per line", bytes / LINES));
    let found = measure("line found", 1, || {
        store.line(lines[500].intent.attempt).unwrap()
    });
    assert_eq!(found.as_ref(), Some(&lines[500]));
    assert!(store.unsettled_lines(Page::first()).unwrap().is_empty());
}

#[test]
#[ignore = "measures"]
fn compacting_and_recovering() {
    let placement = FileStores::new().restart();
    let scope = Hierarchy::new(1).scope(1);
    placement.stores.provision(&scope).unwrap();
    let folder = placement.folder.path().join("journal");
    std::fs::create_dir(&folder).unwrap();
    let open = |folder: &Path| {
        Journal::open(Arc::new(SystemDisk), folder, JournalOptions::new([7; 16])).unwrap()
    };
    let (journal, _) = open(&folder);
    let calls = 5 * LINES;
    measure("calls journalled", calls, || {
        for number in 0..calls {
            let line = call(scope.tenant(), number);
            let settled = Record::Settled(Settled {
                attempt: line.intent.attempt,
                consumption: line.consumption,
                cost: PicoUsd::new(7),
                outcome: ledger::Outcome::Completed,
                metering: ledger::Metering::Reported,
                at: line.at,
            });
            let records = [Record::Intent(Box::new(line.intent)), settled];
            while journal.append_all(&records).is_err() {
                std::thread::yield_now();
            }
        }
    });
    journal.close().unwrap();
    drop(journal);
    let (journal, _) = measure("records recovered", 2 * calls, || open(&folder));
    let compacted = measure("calls compacted", calls, || {
        Compactor::new(Arc::clone(&journal))
            .compact_sealed(&mut |_, lines| {
                placement.stores.open(&scope).post_lines(lines)?;
                Ok(Posted::Durable)
            })
            .unwrap()
    });
    assert_eq!(compacted.lines as u64, calls);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    say(peak.unwrap_or_default());
    assert!(
        placement
            .stores
            .open(&scope)
            .line(AttemptId::from_bits(1))
            .unwrap()
            .is_none()
    );
}
