//! The one who writes: takes everything that was appended since, writes it as one batch, makes
//! it durable, tells those who wait, and begins again.
//!
//! It writes zeros ahead of need, and records over them: the sync of a file that grows pays for
//! its new length and blocks as well, each time.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Disk, DiskFile};
use ledger::Lsn;

use super::pace::Pace;
use super::rest::Rest;
use super::segment::{self, HEADER_BYTES, InstallationId};
use super::{JournalError, SealedSegment, Shared, previous};

/// A second: soon enough that freed space is noticed at once, and rare enough to cost nothing.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// As much as the segment holds already, but 64 KiB at least, so that few commits pay for it, and
/// 1 MiB at most, which a disk writes in some milliseconds.
const STRETCH_BYTES: RangeInclusive<u64> = 64 * 1024..=1024 * 1024;

/// What one round did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Round {
    /// There was nothing to write.
    Idle,
    /// A batch is durable.
    Committed,
    /// The disk took nothing; the batch is kept for the next round.
    Failed(JournalError),
}

/// Owns the open segment.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    installation: InstallationId,
    segment_bytes_max: u64,
    segment_first: Lsn,
    /// None once the disk has failed in a way that leaves its content in doubt.
    file: Option<Box<dyn DiskFile>>,
    /// Bytes of the open segment that are certainly on disk.
    durable_bytes: u64,
    /// The length of the open segment's file: behind the records stand zeros.
    reserved_bytes: u64,
    /// Taken from the buffer and not durable yet; kept until it is.
    batch: Vec<u8>,
    batch_first: Lsn,
    batch_last: Lsn,
    /// The last record that is certainly on disk.
    durable: Lsn,
    rest: Rest,
    pace: Pace,
}

impl Writer {
    /// Begins a segment at `first`.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        installation: InstallationId,
        segment_bytes_max: u64,
        pace: Pace,
        first: Lsn,
    ) -> io::Result<Self> {
        let mut writer = Self {
            disk,
            folder,
            installation,
            segment_bytes_max,
            segment_first: first,
            file: None,
            durable_bytes: 0,
            reserved_bytes: 0,
            batch: Vec::new(),
            batch_first: first,
            batch_last: first,
            durable: previous(first),
            rest: Rest::new(),
            pace,
        };
        writer.start_segment(first)?;
        Ok(writer)
    }

    /// Rounds until `close` has been asked for and nothing is left, or the disk refuses the rest.
    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let is_closing = shared.is_closing.load(Ordering::SeqCst);
            match self.round(shared) {
                Round::Committed if is_closing => {}
                Round::Committed => {
                    self.pace.look();
                    self.rest.take(self.pace.rest(), |answered, at_most| {
                        shared.rest_until_all_wait(answered, at_most)
                    });
                    shared.park_while_empty();
                    shared.park_while_unawaited(self.pace.gathering());
                }
                Round::Idle if is_closing => return self.give_back(),
                Round::Idle => {
                    shared.park_while_empty();
                    shared.park_while_unawaited(self.pace.gathering());
                }
                Round::Failed(_) if is_closing => return,
                Round::Failed(_) => std::thread::park_timeout(RETRY_PAUSE),
            }
        }
    }

    /// Makes durable what has been appended, in one write and one sync.
    pub(super) fn round(&mut self, shared: &Shared) -> Round {
        if self.batch.is_empty() {
            self.take_batch(shared);
        }
        let wants_seal = shared.seal_requested.load(Ordering::SeqCst);
        let outcome = if self.batch.is_empty() {
            if !wants_seal {
                return Round::Idle;
            }
            self.seal_idle(shared)
        } else if self.needs_new_segment(wants_seal) {
            self.roll(shared, self.batch_first)
        } else {
            self.extend_segment()
        };
        if let Err(error) = outcome {
            return Round::Failed(self.report(shared, &error));
        }
        if !self.batch.is_empty() {
            self.durable = self.batch_last;
            self.batch.clear();
        }
        self.rest.note(shared.progress.advance(self.durable));
        Round::Committed
    }

    fn report(&self, shared: &Shared, error: &io::Error) -> JournalError {
        if !shared.progress.is_failing() {
            let folder = self.folder.display();
            tracing::error!(%error, %folder, "the journal cannot write: paid work is refused until it can");
        }
        let fault = JournalError::from_disk(error);
        shared.progress.fail(fault.clone());
        fault
    }

    fn take_batch(&mut self, shared: &Shared) {
        let mut buffer = shared.buffer.lock();
        if buffer.bytes.is_empty() {
            return;
        }
        std::mem::swap(&mut buffer.bytes, &mut self.batch);
        buffer.begun = 0;
        self.batch_first = self.durable.next();
        self.batch_last = previous(buffer.next);
    }

    /// Nothing waits, and somebody wants the open segment's records.
    fn seal_idle(&mut self, shared: &Shared) -> io::Result<()> {
        if self.durable_bytes > HEADER_BYTES as u64 {
            return self.roll(shared, self.durable.next());
        }
        shared.seal_requested.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn needs_new_segment(&self, wants_seal: bool) -> bool {
        let holds_records = self.durable_bytes > HEADER_BYTES as u64;
        let would_overflow = self.durable_bytes + self.batch.len() as u64 > self.segment_bytes_max;
        self.file.is_none() || (holds_records && (wants_seal || would_overflow))
    }

    fn extend_segment(&mut self) -> io::Result<()> {
        let end = self.durable_bytes + self.batch.len() as u64;
        let reserve = (end > self.reserved_bytes).then(|| self.stretch_behind(end));
        let file = self
            .file
            .as_mut()
            .expect("a segment that is in doubt is left by a new one");
        let written = file
            .append(&self.batch)
            .and_then(|()| reserve.map_or(Ok(()), |len| file.reserve(len)));
        if let Err(error) = written {
            // A part may have been written: cut it off, or leave this segment for another.
            self.reserved_bytes = self.durable_bytes;
            if file.truncate(self.durable_bytes).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        if let Err(error) = file.sync() {
            // The kernel may have dropped the pages and forgotten that they were dirty: nothing
            // since the last success is believed, and the batch goes to a new segment. Whatever
            // is left of it here is ignored, since a segment ends where the next one begins.
            drop(file.truncate(self.durable_bytes));
            self.file = None;
            return Err(error);
        }
        self.durable_bytes = end;
        self.reserved_bytes = reserve.unwrap_or(self.reserved_bytes);
        Ok(())
    }

    /// How long the file is to be, once there are records up to `end`: the commit that outgrows
    /// what was written ahead writes the next stretch too, with the same sync.
    fn stretch_behind(&self, end: u64) -> u64 {
        let stretch = end.clamp(*STRETCH_BYTES.start(), *STRETCH_BYTES.end());
        (end + stretch).min(self.segment_bytes_max).max(end)
    }

    /// Gives back what was written ahead in a segment that is written no more. Its end is where
    /// the next one begins, or where zeros begin: so nothing hangs on this.
    pub(super) fn give_back(&mut self) {
        if self.reserved_bytes > self.durable_bytes
            && let Some(file) = &mut self.file
        {
            drop(file.truncate(self.durable_bytes));
            self.reserved_bytes = self.durable_bytes;
        }
    }

    /// Leaves the open segment for one that begins at `first`.
    fn roll(&mut self, shared: &Shared, first: Lsn) -> io::Result<()> {
        let left = self.segment_first;
        self.start_segment(first)?;
        shared.seal_requested.store(false, Ordering::SeqCst);
        if left < first {
            let last = previous(first);
            shared
                .sealed
                .lock()
                .push(SealedSegment { first: left, last });
            shared.sealed_until.store(last.number(), Ordering::Release);
        }
        Ok(())
    }

    /// Makes a segment durable, with the waiting batch in it. All at once, so that a crash leaves
    /// no half header; and over whatever a failed attempt left under this name.
    fn start_segment(&mut self, first: Lsn) -> io::Result<()> {
        let path = segment::segment_path(&self.folder, first);
        let mut bytes = segment::header(&self.installation, first).to_vec();
        bytes.extend_from_slice(&self.batch);
        self.disk.replace(&path, &bytes)?;
        self.give_back();
        self.segment_first = first;
        self.durable_bytes = bytes.len() as u64;
        self.reserved_bytes = self.durable_bytes;
        // Should this fail, the records are durable all the same, and the next batch begins a
        // segment of its own.
        self.file = self.disk.open_append(&path).ok();
        Ok(())
    }
}
