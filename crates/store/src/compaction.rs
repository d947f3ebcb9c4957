//! Sealed segments of the journal become lines in the tenants' stores.
//!
//! The order makes a crash between any two steps harmless: lines first, which can be posted
//! twice; then the checkpoint, which carries the calls that are still open; and the segments that
//! both replace go last.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::TenantId;
use ledger::{LedgerLine, Lsn, Projection};

use crate::journal::{self, Journal, RecoveryError, SealedSegment};
use crate::tenant::StoreError;

/// What [`PostLines`] did with a tenant's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// They are durable in the tenant's store.
    Durable,
    /// The tenant has been erased: nobody may keep them.
    TenantGone,
}

/// Posts lines to the store of their tenant: whoever holds the keys opens it.
pub type PostLines<'a> = dyn FnMut(TenantId, &[LedgerLine]) -> Result<Posted, StoreError> + 'a;

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

/// Read from segments, not yet in any store.
struct Folded {
    projection: Projection,
    last: Lsn,
    lines: BTreeMap<TenantId, Vec<LedgerLine>>,
}

impl Compactor {
    /// The compactor of `journal`.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            projection: None,
        }
    }

    /// Compacts all segments that are sealed. [`Journal::seal`] makes the open one available.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// [`CompactionError`]: segments stay until a later run succeeds.
    pub fn compact_sealed(
        &mut self,
        post: &mut PostLines<'_>,
    ) -> Result<Compacted, CompactionError> {
        let sealed = self.journal.sealed_segments();
        if sealed.is_empty() {
            return Ok(Compacted::default());
        }
        let folded = self.fold(&sealed)?;
        post_all(&folded.lines, post)?;
        self.write_checkpoint(&folded)?;
        self.journal
            .remove_sealed(folded.last)
            .map_err(CompactionError::Remove)?;
        let compacted = Compacted {
            segments: sealed.len(),
            lines: folded.lines.values().map(Vec::len).sum(),
            tenants: folded.lines.len(),
        };
        self.projection = Some(folded.projection);
        Ok(compacted)
    }

    /// Replays segments beyond the checkpoint.
    fn fold(&mut self, sealed: &[SealedSegment]) -> Result<Folded, CompactionError> {
        let journal = &*self.journal;
        let mut projection = match self.projection.take() {
            Some(projection) => projection,
            None => {
                journal::load_checkpoint(journal.disk(), journal.folder(), journal.installation())?
                    .0
            }
        };
        let mut lines: BTreeMap<TenantId, Vec<LedgerLine>> = BTreeMap::new();
        let mut made = Vec::new();
        for segment in sealed {
            if segment.last <= projection.last() {
                continue;
            }
            journal::replay_segment(
                journal.disk(),
                journal.folder(),
                journal.installation(),
                segment.first,
                Some(segment.last.next()),
                &mut |lsn, record| {
                    projection.apply(lsn, record, &mut made);
                    for line in made.drain(..) {
                        lines.entry(line.intent.tenant).or_default().push(line);
                    }
                },
            )?;
        }
        Ok(Folded {
            last: projection.last(),
            projection,
            lines,
        })
    }

    fn write_checkpoint(&self, folded: &Folded) -> Result<(), CompactionError> {
        let journal = &*self.journal;
        journal::write_checkpoint(
            journal.disk(),
            journal.folder(),
            journal.installation(),
            &folded.projection,
            folded.last,
        )?;
        Ok(())
    }
}

/// Posts to every tenant, also where another one's store fails.
fn post_all(
    lines: &BTreeMap<TenantId, Vec<LedgerLine>>,
    post: &mut PostLines<'_>,
) -> Result<(), CompactionError> {
    let mut first_failure = None;
    for (tenant, lines) in lines {
        match post(*tenant, lines) {
            Ok(Posted::Durable) => {}
            Ok(Posted::TenantGone) => {
                tracing::warn!(%tenant, lines = lines.len(), "the ledger lines of an erased tenant are dropped");
            }
            Err(source) => {
                first_failure.get_or_insert(CompactionError::Store {
                    tenant: *tenant,
                    source,
                });
            }
        }
    }
    first_failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use base::{AttemptId, KeyId, MemoryDisk, PicoUsd, RequestId, Timestamp};
    use ledger::{Consumption, Hop, Intent, Metering, Outcome, PriceVersion, Record, Settled};

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
        let folded = compactor.fold(&journal.sealed_segments()).unwrap();
        if step >= Step::Post {
            post_all(&folded.lines, &mut |_, lines| {
                keep(store, lines);
                Ok(Posted::Durable)
            })
            .unwrap();
        }
        if step >= Step::Checkpoint {
            compactor.write_checkpoint(&folded).unwrap();
        }
        if step >= Step::Remove {
            journal.remove_sealed(folded.last).unwrap();
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

    fn disk_names(disk: &MemoryDisk) -> Vec<String> {
        use base::Disk as _;
        disk.list(Path::new("journal")).unwrap()
    }
}
