//! The journal: nothing that costs money is answered before it stands here.
//!
//! [`Journal::append`] puts a record into a buffer and returns at once; one thread writes what has
//! gathered, syncs once for all of it, and wakes those who wait in [`Journal::durable`]. It begins
//! as soon as somebody waits, and some milliseconds after the first record at the latest. The disk
//! holds segments, `{first lsn}.log`, and a checkpoint, `checkpoint-{lsn}`, which says what all
//! records up to it add up to.

mod checkpoint;
mod pace;
mod recovery;
mod rest;
mod segment;
mod waiters;
mod writer;

use std::future::{Future as _, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use base::Disk;
use ledger::{Lsn, Record};
use parking_lot::Mutex;

pub use pace::{Worked, Workers};
pub use recovery::{Recovered, RecoveryError, read_journal};
pub use segment::InstallationId;

use pace::Pace;
use rest::Slept;
use waiters::Progress;
use writer::{Round, Writer};

pub(crate) use checkpoint::{load_checkpoint, write_checkpoint};
pub(crate) use recovery::replay_segment;

/// 64 MiB: a quarter of a million calls; read in a tenth of a second.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// 8 MiB: what arrives in ten stalled commits at 40,000 records a second.
const BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The buffer takes twice its size of records that end a call: a call has one intent and one
/// end, and the end is the smaller, so that whoever's intent found room finds room for its end.
const ENDING_FACTOR: usize = 2;

/// The LSN before `lsn`.
fn previous(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.number().saturating_sub(1))
}

/// Whether a record ends something that an earlier one began.
fn is_ending(record: &Record) -> bool {
    matches!(
        record,
        Record::Settled(_)
            | Record::Released { .. }
            | Record::Expired { .. }
            | Record::Reconciled { .. }
            | Record::LeaseReconciled { .. }
            | Record::Closed { .. }
    )
}

/// Whether a record begins a call, which will wait for it.
fn is_beginning(record: &Record) -> bool {
    matches!(record, Record::Intent(_))
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriterMode {
    /// A thread of the journal's own.
    #[default]
    Thread,
    /// The caller, by [`Journal::commit_now`]: for a simulation, which owns time.
    Manual,
}

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The installation whose records these are.
    pub installation: InstallationId,
    /// Who writes.
    pub writer: WriterMode,
    /// A segment is left for the next before it grows beyond this.
    pub segment_bytes_max: u64,
    /// How much may wait for the disk before [`JournalError::Overloaded`].
    pub buffer_bytes_max: usize,
    /// Who serves calls: while they are busy more records share a commit.
    pub workers: Option<Arc<dyn Workers>>,
}

impl JournalOptions {
    /// The usual bounds, and a thread that writes.
    pub fn new(installation: InstallationId) -> Self {
        Self {
            installation,
            writer: WriterMode::Thread,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            buffer_bytes_max: BUFFER_BYTES_MAX,
            workers: None,
        }
    }
}

/// Why a record is not in the journal, or not yet durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// More waits for the disk than may.
    #[error("the journal's buffer is full: the disk is slower than the calls that arrive")]
    Overloaded,
    /// The disk has no room. The journal tries again each second.
    #[error("the journal's disk is full: free some space, and it goes on by itself")]
    DiskFull,
    /// The disk reported something else. The journal tries again each second.
    #[error("the journal's disk failed: {message}")]
    DiskFailed {
        /// What the disk said.
        message: Arc<str>,
    },
    /// No record may be as long as this one.
    #[error("a journal record is too long: a name in it, or its list of accounts")]
    TooLong,
    /// The journal has been closed.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    fn from_disk(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::DiskFailed {
                message: error.to_string().into(),
            },
        }
    }
}

/// A segment that is written no more, and may be compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedSegment {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
}

/// What those who append and the one who writes share.
#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    progress: Progress,
    sealed: Mutex<Vec<SealedSegment>>,
    /// The last record of the newest of them, also once it is gone.
    sealed_until: AtomicU64,
    seal_requested: AtomicBool,
    is_closing: AtomicBool,
    is_parked: AtomicBool,
    /// The last record that somebody has waited for.
    awaited: AtomicU64,
    is_gathering: AtomicBool,
    /// So many calls were answered, and the writer rests until as many wait; 0 while it does not.
    rests_for: AtomicU64,
    /// Whether something was appended quietly and not announced.
    is_unannounced: AtomicBool,
    thread: OnceLock<Thread>,
}

#[derive(Debug)]
struct Buffer {
    /// Frames that the writer has not taken yet.
    bytes: Vec<u8>,
    next: Lsn,
    /// How many calls begin in them.
    begun: u64,
    is_closed: bool,
}

impl Shared {
    fn starting_at(next: Lsn, sealed: Vec<SealedSegment>) -> Self {
        let sealed_until = sealed.iter().map(|segment| segment.last.number()).max();
        Self {
            buffer: Mutex::new(Buffer {
                bytes: Vec::new(),
                next,
                begun: 0,
                is_closed: false,
            }),
            progress: Progress::starting_at(previous(next)),
            sealed: Mutex::new(sealed),
            sealed_until: AtomicU64::new(sealed_until.unwrap_or(0)),
            seal_requested: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_parked: AtomicBool::new(false),
            awaited: AtomicU64::new(0),
            is_gathering: AtomicBool::new(false),
            rests_for: AtomicU64::new(0),
            is_unannounced: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Sleeps until so many calls have begun since the last commit, and all that have wait for the
    /// next; for `at_most` at the longest. Whoever waits looks at `rests_for` after it has said so,
    /// and this looks for them after it has set it: one of the two sees the other.
    fn rest_until_all_wait(&self, answered: u64, at_most: Duration) -> Slept {
        let before = self.buffer.lock().next;
        self.rests_for.store(answered, Ordering::SeqCst);
        if !self.all_wait(answered) && !self.is_asked() {
            std::thread::park_timeout(at_most);
        }
        self.rests_for.store(0, Ordering::SeqCst);
        if self.all_wait(answered) {
            return Slept::UntilAllWait;
        }
        let appended = self.buffer.lock().next.number() - before.number();
        Slept::Over { appended }
    }

    fn all_wait(&self, answered: u64) -> bool {
        let begun = self.buffer.lock().begun;
        begun >= answered && self.progress.waiting_count() as u64 >= begun
    }

    /// Ends the writer's rest, if everybody waits for it.
    fn end_rest(&self) {
        let answered = self.rests_for.load(Ordering::SeqCst);
        if answered != 0
            && self.all_wait(answered)
            && self.rests_for.swap(0, Ordering::SeqCst) != 0
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Waits for the record at `lsn`, and says so.
    async fn wait_for(&self, lsn: Lsn) -> Result<(), JournalError> {
        self.await_record(lsn);
        let mut durable = self.progress.wait_for(lsn);
        poll_fn(|context| {
            let polled = Pin::new(&mut durable).poll(context);
            if polled.is_pending() {
                self.end_rest();
            }
            polled
        })
        .await
    }

    /// Sleeps until there is something to do. Whoever appends looks at `is_parked` after it has
    /// left the buffer's lock, and this looks at the buffer after it has set `is_parked`: one of
    /// the two sees the other.
    fn park_while_empty(&self) {
        self.is_parked.store(true, Ordering::SeqCst);
        let is_empty = self.buffer.lock().bytes.is_empty();
        if is_empty && !self.is_asked() {
            std::thread::park();
        }
        self.is_parked.store(false, Ordering::SeqCst);
    }

    /// Sleeps until somebody waits for a record, or enough time has passed. Whoever waits looks at
    /// `is_gathering` after it has said so: as above.
    fn park_while_unawaited(&self, at_most: Duration) {
        self.is_gathering.store(true, Ordering::SeqCst);
        let is_awaited = self.awaited.load(Ordering::SeqCst) > self.progress.durable().number();
        if !is_awaited && !self.is_asked() {
            std::thread::park_timeout(at_most);
        }
        self.is_gathering.store(false, Ordering::SeqCst);
    }

    /// Whether there is something to do besides writing records.
    fn is_asked(&self) -> bool {
        self.seal_requested.load(Ordering::SeqCst) || self.is_closing.load(Ordering::SeqCst)
    }

    /// Tells the writer of what was appended quietly, if anything was. Costs a load otherwise.
    fn announce(&self) {
        if self.is_unannounced.load(Ordering::SeqCst)
            && self.is_unannounced.swap(false, Ordering::SeqCst)
        {
            self.wake_from(&self.is_parked);
        }
    }

    /// Something is to be done now.
    fn hurry_writer(&self) {
        self.wake_from(&self.is_gathering);
        self.wake_from(&self.is_parked);
    }

    fn wake_from(&self, sleep: &AtomicBool) {
        if sleep.load(Ordering::SeqCst)
            && sleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Somebody waits for the record at `lsn`.
    fn await_record(&self, lsn: Lsn) {
        if self.progress.durable() < lsn {
            self.awaited.fetch_max(lsn.number(), Ordering::SeqCst);
            self.hurry_writer();
        }
    }
}

/// The durable journal of one installation. See the [module](self).
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    options: JournalOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The writer, where the caller drives it.
    manual: Mutex<Option<Writer>>,
}

impl Journal {
    /// Recovers what `folder` holds, and opens it for more.
    ///
    /// # Errors
    ///
    /// [`RecoveryError`], which says which file is wrong, where, and what to do.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        options: JournalOptions,
    ) -> Result<(Arc<Self>, Recovered), RecoveryError> {
        let (recovered, sealed) = recovery::recover(&*disk, folder, &options.installation)?;
        let next = recovered.last_lsn.next();
        let writer = Writer::begin(
            Arc::clone(&disk),
            folder.to_owned(),
            options.installation,
            options.segment_bytes_max,
            Pace::of(options.workers.clone()),
            next,
        )
        .map_err(|source| RecoveryError::disk(segment::segment_path(folder, next), source))?;
        let journal = Arc::new(Self {
            shared: Arc::new(Shared::starting_at(next, sealed)),
            disk,
            folder: folder.to_owned(),
            options,
            thread: Mutex::new(None),
            manual: Mutex::new(None),
        });
        match journal.options.writer {
            WriterMode::Manual => *journal.manual.lock() = Some(writer),
            WriterMode::Thread => journal.start_thread(writer)?,
        }
        Ok((journal, recovered))
    }

    fn start_thread(&self, writer: Writer) -> Result<(), RecoveryError> {
        let shared = Arc::clone(&self.shared);
        let handle = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&shared))
            .map_err(|source| RecoveryError::disk(self.folder.clone(), source))?;
        let thread = handle.thread().clone();
        self.shared
            .thread
            .set(thread)
            .expect("a journal starts its thread once");
        *self.thread.lock() = Some(handle);
        Ok(())
    }

    /// Appends `record`. Never waits for the disk: [`Journal::durable`] does.
    ///
    /// Works while the disk fails, too, as long as the buffer has room: calls that are under way
    /// must be able to end. Ask [`Journal::is_accepting`] before beginning one.
    ///
    /// # Errors
    ///
    /// [`JournalError::Overloaded`] and [`JournalError::Closed`]; then nothing was appended.
    pub fn append(&self, record: &Record) -> Result<Lsn, JournalError> {
        self.append_all(std::slice::from_ref(record))
    }

    /// Appends all of `records`, in order and in one piece, or none. Returns the last one's LSN.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn append_all(&self, records: &[Record]) -> Result<Lsn, JournalError> {
        let next = self.put(records)?;
        self.shared.wake_from(&self.shared.is_parked);
        Ok(previous(next))
    }

    /// Appends `record` without telling the writer, which may sleep on: to wake it takes as long as
    /// to send a call on its way. Whoever appends so says it by [`Journal::announce`] once that is
    /// done, and whoever waits in [`Journal::durable`] need not.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`].
    pub fn append_quietly(&self, record: &Record) -> Result<Lsn, JournalError> {
        let next = self.put(std::slice::from_ref(record))?;
        self.shared.is_unannounced.store(true, Ordering::SeqCst);
        Ok(previous(next))
    }

    /// Tells the writer of what was appended quietly, by whomever.
    pub fn announce(&self) {
        self.shared.announce();
    }

    /// Puts all of `records` into the buffer, or none; gives the LSN after the last.
    fn put(&self, records: &[Record]) -> Result<Lsn, JournalError> {
        let bytes_max = if records.iter().all(is_ending) {
            self.options.buffer_bytes_max * ENDING_FACTOR
        } else {
            self.options.buffer_bytes_max
        };
        let mut buffer = self.shared.buffer.lock();
        if buffer.is_closed {
            return Err(JournalError::Closed);
        }
        let len_before = buffer.bytes.len();
        let durable = self.shared.progress.durable();
        let mut next = buffer.next;
        let mut outcome = Ok(());
        for record in records {
            outcome = ledger::encode(record, next, durable, &mut buffer.bytes)
                .map_err(|_| JournalError::TooLong);
            if outcome.is_err() {
                break;
            }
            next = next.next();
        }
        if outcome.is_ok() && buffer.bytes.len() > bytes_max {
            outcome = Err(JournalError::Overloaded);
        }
        if let Err(refused) = outcome {
            buffer.bytes.truncate(len_before);
            return Err(refused);
        }
        buffer.next = next;
        buffer.begun += records.iter().filter(|record| is_beginning(record)).count() as u64;
        Ok(next)
    }

    /// Waits until the record at `lsn` and all before it survive a crash.
    ///
    /// # Errors
    ///
    /// [`JournalError::DiskFull`] and [`JournalError::DiskFailed`] as soon as the disk fails: the
    /// record stays in the buffer and may yet become durable, so that whoever gives up appends
    /// its end.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a dropped future leaves no waiter behind, and the record stays appended.
    pub async fn durable(&self, lsn: Lsn) -> Result<(), JournalError> {
        self.shared.wait_for(lsn).await
    }

    /// The last record that survives a crash.
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.progress.durable()
    }

    /// Whether the disk takes records. While it does not, paid work is to be refused.
    pub fn is_accepting(&self) -> bool {
        !self.shared.progress.is_failing()
    }

    /// Writes what has been appended, in the caller's thread. For [`WriterMode::Manual`]; with a
    /// thread it does nothing.
    ///
    /// # Errors
    ///
    /// [`JournalError::DiskFull`] and [`JournalError::DiskFailed`]: the records are kept, and the
    /// next call tries again.
    pub fn commit_now(&self) -> Result<Lsn, JournalError> {
        if let Some(writer) = &mut *self.manual.lock() {
            loop {
                match writer.round(&self.shared) {
                    Round::Committed => {}
                    Round::Idle => break,
                    Round::Failed(fault) => return Err(fault),
                }
            }
        }
        Ok(self.durable_lsn())
    }

    /// Asks that the open segment be left for a new one, so that its records can be compacted.
    /// Happens with the next commit; nothing happens while the segment is empty.
    pub fn seal(&self) {
        self.shared.seal_requested.store(true, Ordering::SeqCst);
        self.shared.hurry_writer();
    }

    /// Writes everything that has been appended, and ends. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// Why the disk did not take the last records.
    pub fn close(&self) -> Result<(), JournalError> {
        let last = {
            let mut buffer = self.shared.buffer.lock();
            buffer.is_closed = true;
            previous(buffer.next)
        };
        self.commit_now()?;
        if let Some(writer) = &mut *self.manual.lock() {
            writer.give_back();
        }
        self.shared.is_closing.store(true, Ordering::SeqCst);
        let handle = self.thread.lock().take();
        if let Some(handle) = handle {
            handle.thread().unpark();
            if handle.join().is_err() {
                return Err(JournalError::Closed);
            }
        }
        if self.durable_lsn() >= last {
            return Ok(());
        }
        Err(self.shared.progress.fault().unwrap_or(JournalError::Closed))
    }

    pub(crate) fn sealed_segments(&self) -> Vec<SealedSegment> {
        self.shared.sealed.lock().clone()
    }

    /// The last record that is in a sealed segment, whether or not that is still there.
    pub fn sealed_until(&self) -> Lsn {
        Lsn::new(self.shared.sealed_until.load(Ordering::Acquire))
    }

    /// Removes sealed segments that `until` covers: what they say stands in a checkpoint.
    pub(crate) fn remove_sealed(&self, until: Lsn) -> io::Result<()> {
        let covered: Vec<_> = self
            .sealed_segments()
            .into_iter()
            .filter(|sealed| sealed.last <= until)
            .collect();
        for sealed in covered {
            self.disk
                .remove(&segment::segment_path(&self.folder, sealed.first))?;
            self.shared
                .sealed
                .lock()
                .retain(|kept| kept.first != sealed.first);
        }
        Ok(())
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn installation(&self) -> &InstallationId {
        &self.options.installation
    }
}

impl Drop for Journal {
    /// Ends the thread, and so writes what is left. A journal that the caller drives is left as
    /// it is: to drop it is to crash.
    fn drop(&mut self) {
        if self.options.writer == WriterMode::Manual {
            return;
        }
        if let Err(error) = self.close() {
            tracing::error!(%error, "the journal was dropped with records that are not on disk");
        }
    }
}
