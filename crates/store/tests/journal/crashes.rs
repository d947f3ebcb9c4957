//! Properties of the journal on a disk that fills, fails, tears and flips.

use proptest::prelude::*;

use super::*;

/// Room in one segment for a hundred records, and few zeros.
fn roomy() -> JournalOptions {
    JournalOptions {
        segment_bytes_max: 16_384,
        ..manual()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Commit,
    Seal,
    Fill,
    Free,
    BreakSync,
    MendSync,
    Crash(prop::sample::Index),
    /// What was not synced survives by sectors, in any order.
    TearSectors(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..5).prop_map(Step::Append),
        4 => Just(Step::Commit),
        1 => Just(Step::Seal),
        1 => Just(Step::Fill),
        2 => Just(Step::Free),
        1 => Just(Step::BreakSync),
        2 => Just(Step::MendSync),
        1 => any::<prop::sample::Index>().prop_map(Step::Crash),
        1 => any::<u64>().prop_map(Step::TearSectors),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens to the disk: after a crash the journal holds a prefix of what was
    /// appended, each record once, and everything that was said to be durable.
    #[test]
    fn invariant_7_what_is_durable_survives_any_crash(
        segment_bytes_max in prop_oneof![Just(700), Just(3_000), Just(1 << 20)],
        steps in steps(),
    ) {
        let disk = MemoryDisk::new();
        let small = JournalOptions { segment_bytes_max, ..manual() };
        let mut journal = open(&disk, small.clone());
        let mut appended: Vec<Record> = Vec::new();
        for step in steps {
            match step {
                Step::Append(count) => {
                    for _ in 0..count {
                        let record = intent(appended.len() as u64);
                        journal.append(&record).unwrap();
                        appended.push(record);
                    }
                }
                Step::Commit => {
                    let outcome = journal.commit_now();
                    prop_assert_eq!(outcome.is_ok(), journal.is_accepting());
                }
                Step::Seal => journal.seal(),
                Step::Fill => disk.set_capacity(Some(0)),
                Step::Free => disk.set_capacity(None),
                Step::BreakSync => disk.set_sync_fails(true),
                Step::MendSync => disk.set_sync_fails(false),
                Step::Crash(_) | Step::TearSectors(_) => {
                    let durable = journal.durable_lsn().number() as usize;
                    disk.set_capacity(None);
                    disk.set_sync_fails(false);
                    lose_power(&disk, &step);
                    journal = open(&disk, small.clone());
                    let found = in_memory(&disk);
                    prop_assert!(found.len() >= durable);
                    prop_assert_eq!(&found[..], &appended[..found.len()]);
                    appended = found;
                }
            }
        }
    }

    /// A commit over zeros that a crash tears, whatever of its sectors survives: what was durable
    /// is there, and nothing behind the first record that is not whole.
    #[test]
    fn invariant_7_a_commit_that_is_torn_in_sectors_is_cut_at_its_first_gap(
        durable in 1_u64..40,
        torn in 1_u64..60,
        survivors in any::<u64>(),
    ) {
        let disk = MemoryDisk::new();
        let journal = open(&disk, roomy());
        let appended: Vec<_> = (0..durable + torn).map(intent).collect();
        let (before, after) = appended.split_at(durable as usize);
        for records in before.chunks(7) {
            journal.append_all(records).unwrap();
            journal.commit_now().unwrap();
        }
        let start = records_bytes(&disk);
        commit_unsynced(&disk, &journal, after);
        let mut sector = 0;
        let mut whole_until = None;
        disk.crash_in_sectors(|| {
            let survives = survivors & (1 << (sector % 64)) != 0;
            if !survives && whole_until.is_none() {
                whole_until = Some((start / 512 + sector) * 512);
            }
            sector += 1;
            survives
        });
        drop(journal);
        let (_, recovered) =
            Journal::open(Arc::new(disk.clone()), Path::new(FOLDER), roomy()).unwrap();
        let found = in_memory(&disk);
        prop_assert_eq!(recovered.last_lsn.number() as usize, found.len());
        prop_assert!(found.len() >= before.len());
        prop_assert_eq!(&found[..], &appended[..found.len()]);
        if whole_until.is_none() {
            prop_assert_eq!(found.len(), appended.len());
        }
    }

    /// A byte that changes in what a later commit proves to be durable is named, with zeros behind
    /// and whatever a crash left of the last commit.
    #[test]
    fn a_flip_is_told_from_a_torn_end(
        commits in 3_u64..20,
        place in any::<prop::sample::Index>(),
        survivors in any::<u64>(),
    ) {
        let disk = MemoryDisk::new();
        let journal = open(&disk, roomy());
        let mut proven = 0;
        for commit in 0..commits {
            proven = records_bytes(&disk);
            journal.append_all(&[intent(2 * commit), intent(2 * commit + 1)]).unwrap();
            journal.commit_now().unwrap();
        }
        commit_unsynced(&disk, &journal, &[intent(98), intent(99)]);
        let mut sector = 0;
        disk.crash_in_sectors(|| {
            sector += 1;
            survivors & (1 << sector) != 0
        });
        drop(journal);
        let offset = 40 + place.index(proven - 40);
        disk.flip(&first_segment(1), offset);
        let damaged = matches!(
            try_open(&disk, roomy()),
            Err(RecoveryError::Damaged { offset: named, .. }) if named <= offset
        );
        prop_assert!(damaged, "{offset} of {proven}");
    }
}

fn lose_power(disk: &MemoryDisk, step: &Step) {
    match step {
        Step::Crash(index) => disk.crash(|unsynced| index.index(unsynced + 1)),
        Step::TearSectors(seed) => {
            let mut bits = *seed;
            disk.crash_in_sectors(|| {
                bits = bits.rotate_left(1);
                bits & 1 != 0
            });
        }
        other => panic!("{other:?} is no crash"),
    }
}
