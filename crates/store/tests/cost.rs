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
use store::{Compactor, Journal, JournalOptions, Page, Posted, WriterMode};

const LINES: u64 = 100_000;
const LINES_PER_POST: usize = 4_096;

/// A call as a gateway at 9,000 calls a second makes it.
fn call(tenant: base::TenantId, number: u64) -> LedgerLine {
    let at = 20_000 * DAY + number as i64 * 111;
    let attempt = u128::from(at.unsigned_abs() / 1_000) << 80
        | u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut line = line(tenant, 0, number + 1, at);
    line.intent.attempt = AttemptId::from_bits(attempt);
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

/// What all threads have had, those that have ended too; in steps of 10 ms.
fn process_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // User and system time are the 14th and 15th field, of which the first two are cut off.
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn measure<T>(what: &str, count: u64, act: impl FnOnce() -> T) -> T {
    measure_by(processor_time, what, count, act)
}

fn measure_by<T>(
    busy: impl Fn() -> Duration,
    what: &str,
    count: u64,
    act: impl FnOnce() -> T,
) -> T {
    let clock = SystemClock::new();
    let (begun, busy_before) = (clock.elapsed(), busy());
    let outcome = act();
    let (took, busy) = (clock.elapsed() - begun, busy() - busy_before);
    let each = busy.as_secs_f64() * 1e6 / count as f64;
    say(&format!(
        "{what}: {count} in {took:?}; {each:.2} µs of a processor each"
    ));
    outcome
}

/// What the journal's own thread has had of a processor. While it sleeps, what it did last counts.
fn journal_thread_time() -> Duration {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if std::fs::read_to_string(task.join("comm")).unwrap().trim() == "journal" {
            let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
            let first: u64 = stat.split(' ').next().unwrap().parse().unwrap();
            nanos += first;
        }
    }
    Duration::from_nanos(nanos)
}

fn records_of(line: LedgerLine) -> [Record; 2] {
    let settled = Record::Settled(Settled {
        attempt: line.intent.attempt,
        consumption: line.consumption,
        cost: PicoUsd::new(7),
        outcome: ledger::Outcome::Completed,
        metering: ledger::Metering::Reported,
        served: None,
        at: line.at,
    });
    [Record::Intent(Box::new(line.intent)), settled]
}

/// In a folder on the disk that holds the sources: `/tmp` may be no disk at all.
fn journal_on_disk(mode: WriterMode) -> (tempfile::TempDir, Arc<Journal>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = JournalOptions {
        writer: mode,
        ..JournalOptions::new([7; 16])
    };
    let (journal, _) = Journal::open(Arc::new(SystemDisk), folder.path(), options).unwrap();
    (folder, journal)
}

#[test]
#[ignore = "measures"]
fn committing_batches() {
    const COMMITS: u64 = 5_000;
    let tenant = fixture::tenant_id(1);
    for records in [1, 8, 32] {
        let (_folder, journal) = journal_on_disk(WriterMode::Manual);
        let what = format!("commits of {records} records");
        measure(&what, COMMITS, || {
            for commit in 0..COMMITS {
                for number in 0..records {
                    let [intent, _] = records_of(call(tenant, commit * records + number));
                    journal.append(&intent).unwrap();
                }
                journal.commit_now().unwrap();
            }
        });
    }
}

/// Clients that call again as soon as they have their answer; the engine answers at once.
#[test]
#[ignore = "measures"]
fn committing_for_clients() {
    const CALLS: u64 = 50_000;
    /// What a gateway does for a call besides the journal's part.
    const WORK: Duration = Duration::from_micros(20);
    let tenant = fixture::tenant_id(1);
    for clients in [1, 8, 32] {
        let (_folder, journal) = journal_on_disk(WriterMode::Thread);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let calls = CALLS / if clients == 1 { 10 } else { 1 };
        let before = journal_thread_time();
        let next = std::rc::Rc::new(std::cell::Cell::new(0));
        let local = tokio::task::LocalSet::new();
        measure(&format!("calls of {clients} clients"), calls, || {
            for _ in 0..clients {
                let (journal, next) = (Arc::clone(&journal), next.clone());
                local.spawn_local(async move {
                    let clock = SystemClock::new();
                    while next.get() < calls {
                        next.set(next.get() + 1);
                        let [intent, settled] = records_of(call(tenant, next.get()));
                        let lsn = journal.append(&intent).unwrap();
                        let begun = clock.elapsed();
                        while clock.elapsed() < begun + WORK {}
                        tokio::task::yield_now().await;
                        journal.durable(lsn).await.unwrap();
                        journal.append(&settled).unwrap();
                    }
                });
            }
            runtime.block_on(local);
        });
        let busy = journal_thread_time() - before;
        let each = busy.as_secs_f64() * 1e6 / calls as f64;
        say(&format!("  and {each:.2} µs of the journal's thread each"));
    }
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
            let records = records_of(call(scope.tenant(), number));
            while journal.append_all(&records).is_err() {
                std::thread::yield_now();
            }
        }
    });
    journal.close().unwrap();
    drop(journal);
    let (journal, _) = measure("records recovered", 2 * calls, || open(&folder));
    let compacted = measure_by(process_time, "calls compacted", calls, || {
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
