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
