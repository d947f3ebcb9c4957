//! Sealed segments of the journal become lines in the tenants' stores.
//!
//! The order makes a crash between any two steps harmless: lines first, which can be posted
//! twice; then the checkpoint, which carries the calls that are still open; and the segments that
//! both replace go last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base::TenantId;
use ledger::{LedgerLine, Projection};

use crate::journal::{self, Journal, RecoveryError, SealedSegment};
use crate::tenant::StoreError;

/// 8,192 lines of a tenant in one transaction: some 20 ms of a processor, and one sync. The more
/// there are, the fewer times each sum is written; twice as many are a fifth faster.
const LINES_PER_POST: usize = 8_192;
/// 16,384 lines of 500 bytes: 8 MB, where many tenants call. The more there are, the more of each
/// tenant's go in with one sync.
const PENDING_MAX: usize = 16_384;
/// 1 ms after each large transaction.
const PAUSE: Duration = Duration::from_millis(1);

/// What [`PostLines`] did with a tenant's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// They are durable in the tenant's store.
    Durable,
    /// The tenant has been erased: nobody may keep them.
    TenantGone,
}

/// Posts lines to the store of their tenant: whoever holds the keys opens it.
pub type PostLines<'a> =
    dyn FnMut(TenantId, &[LedgerLine]) -> Result<Posted, StoreError> + Send + 'a;

/// Why segments were kept. Nothing is lost: the next attempt begins at the last checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// The journal cannot be read, or the checkpoint not written.
    #[error("the journal cannot be compacted")]
    Journal(#[from] RecoveryError),
    /// One tenant's store does not take its lines; the others' have theirs.
    #[error("the store of {tenant} does not take its ledger lines: the journal keeps them")]
    Store {
        /// Whose; the first of them, where there are several.
        tenant: TenantId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A compacted segment cannot be removed.
    #[error("a compacted segment cannot be removed")]
    Remove(#[source] std::io::Error),
    /// The machine has no thread left for it.
    #[error("no thread can be started to compact the journal")]
    NoThread(#[source] std::io::Error),
}

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// How many segments are gone.
    pub segments: usize,
    /// How many lines they held.
    pub lines: usize,
    /// How many tenants these belong to.
    pub tenants: usize,
}

/// Folds sealed segments into the tenants' stores. There is one per journal.
#[derive(Debug)]
pub struct Compactor {
    journal: Arc<Journal>,
    /// As of the last checkpoint; none after a failure, when it is read again.
    projection: Option<Projection>,
}

/// Lines that are in no store yet, and what became of those that were.
struct Pending<'p, 'a> {
    post: &'p mut PostLines<'a>,
    lines: BTreeMap<TenantId, Vec<LedgerLine>>,
    /// In all of `lines`.
    count: usize,
    posted: usize,
    tenants: BTreeSet<TenantId>,
    first_failure: Option<CompactionError>,
    /// Room for the next tenant's lines: that of the last that were posted.
    spare: Vec<LedgerLine>,
}

impl Compactor {
    /// The compactor of `journal`.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            projection: None,
        }
    }

    /// Compacts all segments that are sealed, one by one and each in small parts, with pauses, on
    /// a thread that yields to others: those who serve calls get the processor. Blocks.
    /// [`Journal::seal`] makes the open segment available.
    ///
    /// # Errors
    ///
    /// [`CompactionError`]: segments stay until a later run succeeds.
    pub fn compact_sealed(
        &mut self,
        post: &mut PostLines<'_>,
    ) -> Result<Compacted, CompactionError> {
        if self.journal.sealed_segments().is_empty() {
            return Ok(Compacted::default());
        }
        std::thread::scope(|threads| {
            let worker = std::thread::Builder::new()
                .name("compaction".into())
                .spawn_scoped(threads, || {
                    yield_to_others();
                    self.compact(post)
                })
                .map_err(CompactionError::NoThread)?;
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn compact(&mut self, post: &mut PostLines<'_>) -> Result<Compacted, CompactionError> {
        let mut pending = Pending::new(post);
        let mut segments = 0;
        for segment in self.journal.sealed_segments() {
            let projection = self.fold(segment, &mut pending)?;
            pending.post_until(0);
            // One store that takes nothing keeps this segment and all that follow. The others get
            // theirs from these too, and again next time: lines can be posted twice.
            if pending.first_failure.is_none() {
                self.write_checkpoint(&projection)?;
                self.journal
                    .remove_sealed(projection.last())
                    .map_err(CompactionError::Remove)?;
                segments += 1;
            }
            self.projection = Some(projection);
        }
        if let Some(failure) = pending.first_failure.take() {
            self.projection = None;
            return Err(failure);
        }
        Ok(Compacted {
            segments,
            lines: pending.posted,
            tenants: pending.tenants.len(),
        })
    }

    /// Replays a segment beyond the checkpoint. Of its lines, few are pending at any time.
    fn fold(
        &mut self,
        segment: SealedSegment,
        pending: &mut Pending<'_, '_>,
    ) -> Result<Projection, CompactionError> {
        let journal = &*self.journal;
        let mut projection = match self.projection.take() {
            Some(projection) => projection,
            None => {
                journal::load_checkpoint(journal.disk(), journal.folder(), journal.installation())?
                    .0
            }
        };
        if segment.last <= projection.last() {
            return Ok(projection);
        }
        let mut made = Vec::new();
        journal::replay_segment(
            journal.disk(),
            journal.folder(),
            journal.installation(),
            segment.first,
            Some(segment.last.next()),
            &mut |lsn, record| {
                projection.apply(lsn, record, &mut made);
                for line in made.drain(..) {
                    pending.add(line);
                }
            },
        )?;
        Ok(projection)
    }

    fn write_checkpoint(&self, projection: &Projection) -> Result<(), CompactionError> {
        let journal = &*self.journal;
        journal::write_checkpoint(
            journal.disk(),
            journal.folder(),
            journal.installation(),
            projection,
            projection.last(),
        )?;
        Ok(())
    }
}

/// Gives this thread a third of what another has of a busy processor: enough to keep up, and to
/// let go soon of a tenant's store that somebody else waits for.
#[cfg(target_os = "linux")]
fn yield_to_others() {
    const NICENESS: i32 = 5;
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
        tracing::debug!(%error, "the journal is compacted at the usual priority");
    }
}

/// Elsewhere a thread has no priority of its own that is as simply had.
#[cfg(not(target_os = "linux"))]
fn yield_to_others() {}

impl<'p, 'a> Pending<'p, 'a> {
    fn new(post: &'p mut PostLines<'a>) -> Self {
        Self {
            post,
            lines: BTreeMap::new(),
            count: 0,
            posted: 0,
            tenants: BTreeSet::new(),
            first_failure: None,
            // All at once: what grows is copied, and the copies stay in memory for a while.
            spare: Vec::with_capacity(LINES_PER_POST),
        }
    }

    fn add(&mut self, mut line: LedgerLine) {
        let spare = &mut self.spare;
        let lines = self
            .lines
            .entry(line.intent.tenant)
            .or_insert_with(|| std::mem::take(spare));
        if let Some(before) = lines.last() {
            line.share_names(before);
        }
        lines.push(line);
        self.count += 1;
        if lines.len() >= LINES_PER_POST {
            let tenant = lines[0].intent.tenant;
            self.post(tenant);
            std::thread::sleep(PAUSE);
        } else if self.count >= PENDING_MAX {
            self.post_until(PENDING_MAX / 2);
        }
    }

    /// Posts the lines of those who have the most, until `count_max` are left.
    fn post_until(&mut self, count_max: usize) {
        let mut sizes: Vec<_> = self
            .lines
            .iter()
            .map(|(tenant, lines)| (lines.len(), *tenant))
            .collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let mut since_pause = 0;
        for (size, tenant) in sizes {
            if self.count <= count_max {
                break;
            }
            self.post(tenant);
            since_pause += size;
            if since_pause >= LINES_PER_POST {
                std::thread::sleep(PAUSE);
                since_pause = 0;
            }
        }
    }

    /// Posts one tenant's lines; another's are posted also where this one's store fails.
    fn post(&mut self, tenant: TenantId) {
        let Some(mut lines) = self.lines.remove(&tenant) else {
            return;
        };
        self.count -= lines.len();
        self.posted += lines.len();
        self.tenants.insert(tenant);
        match (self.post)(tenant, &lines) {
            Ok(Posted::Durable) => {}
            Ok(Posted::TenantGone) => {
                tracing::warn!(%tenant, lines = lines.len(), "the ledger lines of an erased tenant are dropped");
            }
            Err(source) => {
                self.first_failure
                    .get_or_insert(CompactionError::Store { tenant, source });
            }
        }
        lines.clear();
        if lines.capacity() > self.spare.capacity() {
            self.spare = lines;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base::{AttemptId, KeyId, MemoryDisk, PicoUsd, RequestId, Timestamp};
    use ledger::{Consumption, Hop, Intent, Lsn, Metering, Outcome, PriceVersion, Record, Settled};

    use super::*;
    use crate::journal::{JournalOptions, WriterMode};

    /// After which step the power goes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Step {
        Fold,
        Post,
        Checkpoint,
        Remove,
    }

    const STEPS: [Step; 4] = [Step::Fold, Step::Post, Step::Checkpoint, Step::Remove];

    type Store = BTreeMap<AttemptId, LedgerLine>;

    fn open(disk: &MemoryDisk) -> (Arc<Journal>, Projection) {
        let options = JournalOptions {
            writer: WriterMode::Manual,
            ..JournalOptions::new([7; 16])
        };
        let disk = Arc::new(disk.clone());
        let (journal, recovered) = Journal::open(disk, Path::new("journal"), options).unwrap();
        (journal, recovered.projection)
    }

    fn intent(number: u128) -> Record {
        let at = Timestamp::from_micros(1);
        Record::Intent(Box::new(Intent {
            attempt: AttemptId::from_bits(number),
            request: RequestId::from_bits(1),
            parent: None,
            prompt: None,
            tenant: TenantId::from_bits(number % 2),
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

    fn settled(number: u128) -> Record {
        Record::Settled(Settled {
            attempt: AttemptId::from_bits(number),
            consumption: Consumption::default(),
            cost: PicoUsd::new(3),
            outcome: Outcome::Completed,
            metering: Metering::Reported,
            served: None,
            at: Timestamp::from_micros(2),
        })
    }

    /// As a tenant's store does: the later line of an attempt stays.
    fn keep(store: &mut Store, lines: &[LedgerLine]) {
        for line in lines {
            let kept = store.entry(line.intent.attempt).or_insert(line.clone());
            if kept.lsn < line.lsn {
                *kept = line.clone();
            }
        }
    }

    /// What all records add up to, and the lines that they make.
    fn expected(records: &[Record]) -> (Projection, Store) {
        let (mut projection, mut lines) = (Projection::default(), Vec::new());
        for (place, record) in records.iter().enumerate() {
            projection.apply(Lsn::new(place as u64 + 1), record, &mut lines);
        }
        let mut store = Store::new();
        keep(&mut store, &lines);
        (projection, store)
    }

    fn run_until(step: Step, journal: &Arc<Journal>, store: &mut Store) {
        let mut compactor = Compactor::new(Arc::clone(journal));
        let mut post = |tenant: TenantId, lines: &[LedgerLine]| {
            assert!(lines.iter().all(|line| line.intent.tenant == tenant));
            if step >= Step::Post {
                keep(store, lines);
            }
            Ok(Posted::Durable)
        };
        let mut pending = Pending::new(&mut post);
        for segment in journal.sealed_segments() {
            let projection = compactor.fold(segment, &mut pending).unwrap();
            pending.post_until(0);
            if step >= Step::Checkpoint {
                compactor.write_checkpoint(&projection).unwrap();
            }
            if step >= Step::Remove {
                journal.remove_sealed(projection.last()).unwrap();
            }
            compactor.projection = Some(projection);
        }
    }

    fn append(journal: &Journal, records: &[Record]) {
        journal.append_all(records).unwrap();
        journal.seal();
        journal.commit_now().unwrap();
    }

    #[test]
    fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
        // Attempts 2 and 3 are open where the first segment ends; 5 is never ended.
        let first = [intent(1), intent(2), intent(3), settled(1)];
        let second = [
            settled(2),
            Record::Started {
                at: Timestamp::from_micros(3),
            },
            intent(4),
            settled(4),
            intent(5),
        ];
        let (projection, lines) = expected(&[&first[..], &second].concat());
        assert_eq!(lines.len(), 4, "three that settled, one that a crash cut");
        for (step, next) in STEPS.iter().flat_map(|a| STEPS.map(|b| (*a, b))) {
            let disk = MemoryDisk::new();
            let mut store = Store::new();
            let (journal, _) = open(&disk);
            append(&journal, &first);
            run_until(step, &journal, &mut store);
            disk.crash(|_| 0);
            let (journal, _) = open(&disk);
            append(&journal, &second);
            run_until(next, &journal, &mut store);
            disk.crash(|_| 0);
            let (journal, recovered) = open(&disk);
            assert_eq!(recovered, projection, "{step:?} {next:?}");
            let mut compactor = Compactor::new(Arc::clone(&journal));
            compactor
                .compact_sealed(&mut |_, lines| {
                    keep(&mut store, lines);
                    Ok(Posted::Durable)
                })
                .unwrap();
            assert_eq!(store, lines, "{step:?} {next:?}");
            let left = disk_names(&disk);
            assert_eq!(left.len(), 2, "one open segment, one checkpoint: {left:?}");
            assert_eq!(open(&disk).1, projection);
        }
    }

    #[test]
    fn a_long_segment_is_read_and_posted_in_parts() {
        const LINES: usize = 24_000;
        let disk = MemoryDisk::new();
        let (journal, _) = open(&disk);
        let records: Vec<_> = (0..LINES as u128)
            .flat_map(|n| [intent(n), settled(n)])
            .collect();
        append(&journal, &records);
        let bytes = disk_bytes(&disk);
        assert!(bytes > 3 * 512 * 1024, "several parts: {bytes}");
        let (projection, lines) = expected(&records);
        drop(journal);
        let (journal, recovered) = open(&disk);
        assert_eq!(recovered, projection);
        let (mut store, mut posts) = (Store::new(), 0);
        let mut compactor = Compactor::new(Arc::clone(&journal));
        let compacted = compactor.compact_sealed(&mut |_, lines| {
            assert!(lines.len() <= LINES_PER_POST);
            posts += 1;
            keep(&mut store, lines);
            Ok(Posted::Durable)
        });
        assert_eq!(compacted.unwrap().lines, LINES);
        assert!(posts >= LINES / LINES_PER_POST);
        assert_eq!(store, lines);
        assert_eq!(open(&disk).1, projection);
    }

    #[test]
    fn one_tenants_failing_store_holds_back_the_segments_and_not_the_others() {
        let disk = MemoryDisk::new();
        let (journal, _) = open(&disk);
        append(&journal, &[intent(1), intent(2), settled(1), settled(2)]);
        let mut compactor = Compactor::new(Arc::clone(&journal));
        let broken = TenantId::from_bits(0);
        let mut store = Store::new();
        let failure = compactor.compact_sealed(&mut |tenant, lines| {
            if tenant == broken {
                return Err(StoreError::ShuttingDown);
            }
            keep(&mut store, lines);
            Ok(Posted::Durable)
        });
        assert!(matches!(failure, Err(CompactionError::Store { tenant, .. }) if tenant == broken));
        assert_eq!(store.len(), 1);
        let compacted = compactor
            .compact_sealed(&mut |_, lines| {
                keep(&mut store, lines);
                Ok(Posted::Durable)
            })
            .unwrap();
        assert_eq!((compacted.segments, compacted.tenants), (1, 2));
        assert_eq!(store.len(), 2);
        assert_eq!(
            compactor
                .compact_sealed(&mut |_, _| panic!("nothing is left"))
                .unwrap(),
            Compacted::default()
        );
    }

    fn disk_bytes(disk: &MemoryDisk) -> usize {
        use base::Disk as _;
        let folder = Path::new("journal");
        let sizes = disk_names(disk)
            .into_iter()
            .map(|name| disk.read(&folder.join(name)).unwrap().len());
        sizes.sum()
    }

    fn disk_names(disk: &MemoryDisk) -> Vec<String> {
        use base::Disk as _;
        disk.list(Path::new("journal")).unwrap()
    }
}
