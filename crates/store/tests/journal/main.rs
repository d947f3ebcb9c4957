//! The journal under crashes, full disks, failing syncs and damage.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod crashes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{
    AttemptId, Disk, KeyId, MemoryDisk, PicoUsd, RequestId, SystemDisk, TenantId, Timestamp,
};
use ledger::{Hop, Intent, Lsn, PriceVersion, Record, ReleaseReason};
use store::{
    Journal, JournalError, JournalOptions, RecoveryError, Worked, Workers, WriterMode, read_journal,
};

const FOLDER: &str = "journal";
const OURS: [u8; 16] = [7; 16];

fn manual() -> JournalOptions {
    JournalOptions {
        writer: WriterMode::Manual,
        ..JournalOptions::new(OURS)
    }
}

/// Few zeros, for tests that read them often.
fn short() -> JournalOptions {
    JournalOptions {
        segment_bytes_max: 4_096,
        ..manual()
    }
}

fn open(disk: &MemoryDisk, options: JournalOptions) -> Arc<Journal> {
    try_open(disk, options).unwrap()
}

fn try_open(disk: &MemoryDisk, options: JournalOptions) -> Result<Arc<Journal>, RecoveryError> {
    Journal::open(Arc::new(disk.clone()), Path::new(FOLDER), options).map(|(journal, _)| journal)
}

fn intent(number: u64) -> Record {
    let at = Timestamp::from_micros(1);
    Record::Intent(Box::new(Intent {
        attempt: AttemptId::from_bits(number.into()),
        request: RequestId::from_bits(1),
        parent: None,
        prompt: None,
        tenant: TenantId::from_bits(1),
        team: None,
        user: None,
        key: KeyId::from_bits(1),
        feature: "chat".parse().unwrap(),
        session: None,
        turn: None,
        hop: Hop::Generate,
        model: "m".parse().unwrap(),
        upstream: "u".parse().unwrap(),
        price_version: PriceVersion(1),
        amount: PicoUsd::new(5),
        input_bound: 1,
        output_bound: 1,
        accounts: Default::default(),
        at,
        expires_at: at,
    }))
}

fn ending(number: u64) -> Record {
    Record::Released {
        attempt: AttemptId::from_bits(number.into()),
        reason: ReleaseReason::Refused,
        at: Timestamp::from_micros(2),
    }
}

/// Everything in the journal's files, by number; each LSN once and in order.
fn records(disk: &dyn Disk, folder: &Path) -> Result<Vec<Record>, RecoveryError> {
    let mut records = Vec::new();
    read_journal(disk, folder, &OURS, &mut |lsn, record| {
        assert_eq!(lsn, Lsn::new(records.len() as u64 + 1));
        records.push(record.clone());
    })?;
    Ok(records)
}

fn in_memory(disk: &MemoryDisk) -> Vec<Record> {
    records(disk, Path::new(FOLDER)).unwrap()
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    disk.list(Path::new(FOLDER)).unwrap()
}

#[tokio::test]
async fn a_thread_makes_records_durable_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let options = JournalOptions::new(OURS);
    let (journal, recovered) =
        Journal::open(Arc::clone(&disk), folder.path(), options.clone()).unwrap();
    assert_eq!(recovered.last_lsn, Lsn::ZERO);
    let calls = (0..50).map(|call| {
        let journal = Arc::clone(&journal);
        async move {
            let lsn = journal.append(&intent(call))?;
            journal.durable(lsn).await?;
            assert!(journal.durable_lsn() >= lsn);
            Ok::<_, JournalError>(())
        }
    });
    for call in calls {
        call.await.unwrap();
    }
    let last = journal
        .append_all(&[ending(0), ending(1)])
        .expect("there is room");
    assert_eq!(last, Lsn::new(52));
    journal.close().unwrap();
    assert_eq!(journal.append(&ending(2)), Err(JournalError::Closed));
    drop(journal);
    let (_journal, recovered) = Journal::open(Arc::clone(&disk), folder.path(), options).unwrap();
    assert_eq!(recovered.last_lsn, Lsn::new(52));
    assert_eq!(recovered.projection.open_attempts(), 48);
    assert_eq!(records(&*disk, folder.path()).unwrap().len(), 52);
}

#[tokio::test]
async fn records_that_nobody_waits_for_become_durable_too() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, JournalOptions::new(OURS));
    for call in 0..5 {
        let lsn = journal.append(&intent(call)).unwrap();
        while journal.durable_lsn() < lsn {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    assert_eq!(in_memory(&disk).len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_share_commits_and_all_become_durable() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, JournalOptions::new(OURS));
    let supervisor = base::Supervisor::new();
    let done = Arc::new(std::sync::atomic::AtomicU64::new(0));
    for call in 0..500 {
        let (journal, done) = (Arc::clone(&journal), Arc::clone(&done));
        supervisor.spawn(async move {
            let lsn = journal.append(&intent(call)).unwrap();
            journal.durable(lsn).await.unwrap();
            done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
    }
    let left = supervisor.drain(std::time::Duration::from_secs(60)).await;
    assert_eq!(left, 0);
    assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), 500);
    assert_eq!(in_memory(&disk).len(), 500);
}

/// Workers of whom is known how often they were asked about.
#[derive(Debug, Default)]
struct Asked(AtomicUsize);

impl Workers for Asked {
    fn worked(&self) -> Worked {
        self.0.fetch_add(1, Ordering::SeqCst);
        Worked::default()
    }
}

#[tokio::test]
async fn the_workers_are_asked_about_after_a_commit() {
    let asked = Arc::new(Asked::default());
    let options = JournalOptions {
        workers: Some(Arc::clone(&asked) as Arc<dyn Workers>),
        ..JournalOptions::new(OURS)
    };
    let journal = open(&MemoryDisk::new(), options);
    let before = asked.0.load(Ordering::SeqCst);
    let lsn = journal.append(&intent(1)).unwrap();
    journal.durable(lsn).await.unwrap();
    // Were they not asked, this would not end.
    while asked.0.load(Ordering::SeqCst) == before {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn invariant_7_a_torn_tail_is_cut_and_nothing_durable_is_lost() {
    let (mut tail_bytes, mut lengths) = (usize::MAX, std::collections::BTreeSet::new());
    for kept in 0..600 {
        let disk = MemoryDisk::new();
        let journal = open(&disk, short());
        journal.append_all(&[intent(1), intent(2)]).unwrap();
        journal.commit_now().unwrap();
        commit_unsynced(&disk, &journal, &[intent(3), ending(3), intent(4)]);
        disk.crash(|unsynced| {
            tail_bytes = unsynced;
            kept
        });
        drop(journal);
        let journal = open(&disk, short());
        let found = in_memory(&disk);
        lengths.insert(found.len());
        let all = [intent(1), intent(2), intent(3), ending(3), intent(4)];
        assert!(found.len() >= 2);
        assert_eq!(found, all[..found.len()]);
        // And it goes on from there, through another crash.
        let next = journal.append(&intent(9)).unwrap();
        assert_eq!(next, Lsn::new(found.len() as u64 + 1));
        journal.commit_now().unwrap();
        disk.crash(|_| 0);
        assert_eq!(in_memory(&disk).len(), found.len() + 1);
        try_open(&disk, short()).unwrap();
    }
    assert!(tail_bytes < 600, "{tail_bytes}");
    assert!(
        lengths.into_iter().eq(2..=5),
        "a tear in each record, and none"
    );
}

#[test]
fn a_full_disk_is_survived() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, manual());
    journal.append(&intent(1)).unwrap();
    journal.commit_now().unwrap();
    let length = || disk.read(&first_segment(1)).unwrap().len();
    let reserved = length();
    assert_eq!(reserved % 1024, records_bytes(&disk) % 1024);
    // No room to grow; the zeros that were written ahead are as good as room.
    disk.set_capacity(Some(reserved as u64 + 30));
    let mut appended = vec![intent(1)];
    let refused = loop {
        appended.push(intent(appended.len() as u64 + 1));
        let lsn = journal.append(appended.last().unwrap()).unwrap();
        if let Err(fault) = journal.commit_now() {
            assert_eq!(futures_now(journal.durable(lsn)), Some(Err(fault.clone())));
            break fault;
        }
    };
    assert_eq!(refused, JournalError::DiskFull);
    assert!(!journal.is_accepting());
    assert!(appended.len() > 100, "{}", appended.len());
    // The part was cut off, so that a crash now shows no torn tail.
    assert_eq!(length(), records_bytes(&disk));
    assert_eq!(in_memory(&disk), appended[..appended.len() - 1]);
    // Calls that are under way may end.
    appended.push(ending(1));
    let lsn = journal.append(&ending(1)).unwrap();
    disk.set_capacity(Some(0));
    assert_eq!(journal.commit_now(), Err(JournalError::DiskFull));
    disk.set_capacity(None);
    assert_eq!(journal.commit_now(), Ok(lsn));
    assert!(journal.is_accepting());
    assert_eq!(futures_now(journal.durable(lsn)), Some(Ok(())));
    disk.crash(|_| 0);
    assert_eq!(in_memory(&disk), appended);
}

/// The bytes of the first segment up to the last that is no zero.
fn records_bytes(disk: &MemoryDisk) -> usize {
    let bytes = disk.read(&first_segment(1)).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn zeros_stand_behind_the_records_of_the_open_segment_alone() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, manual());
    let length = |name: &str| disk.read(&Path::new(FOLDER).join(name)).unwrap().len();
    let mut lengths = std::collections::BTreeSet::new();
    let name = segments(&disk).remove(0);
    for number in 0..4_000 {
        journal.append(&intent(number)).unwrap();
        journal.commit_now().unwrap();
        if number % 16 == 0 {
            lengths.insert(length(&name));
        }
    }
    // Nearly every commit leaves the file as long as it was.
    assert!((2..10).contains(&lengths.len()), "{lengths:?}");
    let bytes = records_bytes(&disk);
    assert!(length(&name) > bytes);
    journal.seal();
    journal.append(&intent(4_000)).unwrap();
    journal.commit_now().unwrap();
    assert_eq!(length(&name), bytes);
    // A crash leaves the zeros of the open one, and no torn tail.
    disk.crash(|_| 0);
    drop(journal);
    let options = manual();
    let opened = Journal::open(Arc::new(disk.clone()), Path::new(FOLDER), options);
    let (journal, recovered) = opened.unwrap();
    assert_eq!(
        (recovered.last_lsn, recovered.cut_bytes),
        (Lsn::new(4_001), 0)
    );
    journal.append(&ending(1)).unwrap();
    journal.close().unwrap();
    let names = segments(&disk);
    let whole: usize = names.iter().map(|name| length(name)).sum();
    assert!(whole < 4_001 * 200, "nothing is left of them: {whole}");
}

#[tokio::test]
async fn a_full_disk_is_noticed_and_left_behind_by_the_thread_itself() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, JournalOptions::new(OURS));
    disk.set_capacity(Some(60));
    let lsn = journal.append(&intent(1)).unwrap();
    assert_eq!(journal.durable(lsn).await, Err(JournalError::DiskFull));
    assert!(!journal.is_accepting());
    disk.set_capacity(None);
    while !journal.is_accepting() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(journal.durable(lsn).await, Ok(()));
    assert_eq!(in_memory(&disk), [intent(1)]);
}

#[test]
fn after_a_failed_sync_the_batch_is_written_again_in_a_new_segment() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, manual());
    journal.append(&intent(1)).unwrap();
    journal.commit_now().unwrap();
    disk.set_sync_fails(true);
    journal.append(&intent(2)).unwrap();
    assert!(matches!(
        journal.commit_now(),
        Err(JournalError::DiskFailed { .. })
    ));
    assert!(!journal.is_accepting());
    disk.set_sync_fails(false);
    journal.append(&intent(3)).unwrap();
    journal.commit_now().unwrap();
    assert!(journal.is_accepting());
    assert_eq!(segments(&disk).len(), 2);
    disk.crash(|_| 0);
    drop(journal);
    try_open(&disk, manual()).unwrap();
    assert_eq!(in_memory(&disk), [intent(1), intent(2), intent(3)]);
}

#[test]
fn damage_to_what_was_durable_is_named_and_nothing_is_cut() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, manual());
    for call in 1..=3 {
        journal.append(&intent(call)).unwrap();
        journal.commit_now().unwrap();
    }
    let before = disk.read(&first_segment(1)).unwrap();
    let frame = (records_bytes(&disk) - 40) / 3;
    // Anywhere in the first two records, behind which a later commit proves that they stood.
    for offset in (40..40 + 2 * frame).step_by(7) {
        disk.flip(&first_segment(1), offset);
        match try_open(&disk, manual()) {
            Err(RecoveryError::Damaged {
                path,
                offset: named,
            }) => {
                assert_eq!(path, first_segment(1));
                assert!(named <= offset && offset < named + frame);
            }
            other => panic!("{offset}: {other:?}"),
        }
        disk.flip(&first_segment(1), offset);
        assert_eq!(disk.read(&first_segment(1)).unwrap(), before);
    }
}

#[test]
fn segments_follow_each_other_and_a_missing_one_is_named() {
    let disk = MemoryDisk::new();
    let small = JournalOptions {
        segment_bytes_max: 250,
        ..manual()
    };
    let journal = open(&disk, small.clone());
    for call in 0..20 {
        journal.append(&intent(call)).unwrap();
        journal.commit_now().unwrap();
    }
    let names = segments(&disk);
    assert!(names.len() > 3, "{names:?}");
    drop(journal);
    try_open(&disk, small.clone()).unwrap();
    assert_eq!(in_memory(&disk).len(), 20);
    disk.remove(&Path::new(FOLDER).join(&names[1])).unwrap();
    assert!(matches!(
        try_open(&disk, small),
        Err(RecoveryError::Missing { .. })
    ));
}

#[test]
fn another_installations_journal_is_refused() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, manual());
    journal.append(&intent(1)).unwrap();
    journal.commit_now().unwrap();
    let theirs = JournalOptions {
        installation: [8; 16],
        ..manual()
    };
    assert!(matches!(
        try_open(&disk, theirs),
        Err(RecoveryError::Foreign { .. })
    ));
}

#[test]
fn the_buffer_is_bounded_and_keeps_room_for_endings() {
    let disk = MemoryDisk::new();
    let options = JournalOptions {
        buffer_bytes_max: 1_000,
        ..manual()
    };
    let journal = open(&disk, options);
    let mut begun = 0;
    let refused = loop {
        match journal.append(&intent(begun)) {
            Ok(_) => begun += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalError::Overloaded);
    for call in 0..begun {
        journal.append(&ending(call)).expect("every call can end");
    }
    // What was refused left no trace.
    assert_eq!(journal.commit_now(), Ok(Lsn::new(2 * begun)));
    assert_eq!(in_memory(&disk).len() as u64, 2 * begun);
    journal.append(&intent(99)).expect("there is room again");
}

#[test]
fn opening_again_and_again_leaves_no_empty_segments() {
    let disk = MemoryDisk::new();
    for _ in 0..3 {
        open(&disk, manual());
    }
    assert_eq!(segments(&disk).len(), 1);
    let journal = open(&disk, manual());
    journal.append(&intent(1)).unwrap();
    journal.commit_now().unwrap();
    journal.seal();
    journal.commit_now().unwrap();
    journal.seal();
    journal.commit_now().unwrap();
    assert_eq!(segments(&disk).len(), 2);
}

fn first_segment(lsn: u64) -> std::path::PathBuf {
    Path::new(FOLDER).join(format!("{lsn:020}.log"))
}

/// What a future says when it is asked once.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// Writes `records` and syncs nothing: the power is about to go.
fn commit_unsynced(disk: &MemoryDisk, journal: &Journal, records: &[Record]) {
    journal.append_all(records).unwrap();
    disk.set_sync_fails(true);
    journal.commit_now().unwrap_err();
    disk.set_sync_fails(false);
}

/// The writer's thread sleeps in between: it is to hear of each record, and of none twice.
#[test]
fn what_is_appended_quietly_is_written_once_it_is_announced() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, JournalOptions::new(OURS));
    for number in 1..=50 {
        let lsn = journal.append_quietly(&intent(number)).unwrap();
        journal.announce();
        journal.announce();
        // Nobody waits in the journal. Without the announcement this would not end.
        while journal.durable_lsn() < lsn {
            std::thread::yield_now();
        }
    }
    journal.close().unwrap();
    let written = records(&disk, Path::new(FOLDER)).unwrap();
    assert_eq!(written, (1..=50).map(intent).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_waits_for_a_quiet_record_needs_no_announcement() {
    let disk = MemoryDisk::new();
    let journal = open(&disk, JournalOptions::new(OURS));
    for number in 1..=50 {
        let lsn = journal.append_quietly(&intent(number)).unwrap();
        journal.durable(lsn).await.unwrap();
    }
    journal.append_quietly(&ending(1)).unwrap();
    journal.close().unwrap();
    let written = records(&disk, Path::new(FOLDER)).unwrap();
    assert_eq!(written.len(), 51, "closing writes what nobody was told of");
}
