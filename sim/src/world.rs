//! A run: virtual time, its events, and the process that lives through them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{AttemptId, Clock as _, Disk, ManualClock, TenantId, Timestamp};
use ledger::{LeaseRequest, LedgerLine, Lsn, Record, TenantLedger};
use store::{Compactor, Journal, JournalOptions, WriterMode};

use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::gateway::Call;
use crate::tenants::{self, Tenant};
use crate::truth::Truth;
use crate::{Mutant, Report};

/// Events of a run, before it is brought to an end.
const EVENTS: u64 = 700;
/// 2026-01-01: any day would do.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// A few segments per run.
const SEGMENT_BYTES: u64 = 8 * 1024;
const FOLDER: &str = "journal";

/// What an invariant's breach is told as.
pub(crate) type Breach = String;

/// What happens at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client calls.
    Arrive,
    /// The journal's writer has finished a commit.
    Commit,
    /// The upstream's first byte.
    FirstByte(AttemptId),
    /// The upstream is done, or the client is gone.
    End(AttemptId),
    /// Holds expire, idle sessions go, bills are looked at.
    Maintain,
    /// Sealed segments go to the tenants' stores.
    Compact,
    /// A crash, a jump of the clock, a full disk.
    Chaos,
}

/// All of a run's state.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) mutant: Mutant,
    pub(crate) report: Report,
    pub(crate) clock: ManualClock,
    pub(crate) disk: SimDisk,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) truth: Truth,
    /// The tenants' stores: durable by definition.
    pub(crate) lines: BTreeMap<AttemptId, LedgerLine>,
    /// Everything that was appended, and that no crash has taken.
    pub(crate) records: Vec<Record>,
    pub(crate) process: Process,
    pub(crate) has_jumped_back: bool,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    event_count: u64,
}

/// What a crash ends.
pub(crate) struct Process {
    pub(crate) journal: Arc<Journal>,
    pub(crate) compactor: Compactor,
    pub(crate) ledgers: HashMap<TenantId, TenantLedger>,
    pub(crate) calls: BTreeMap<AttemptId, Call>,
    /// Leases that were asked for ahead of need, of a tenant, and where they are journaled.
    pub(crate) refills: Vec<(Lsn, usize, LeaseRequest)>,
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Mutant) -> Self {
        let disk = match mutant {
            Mutant::SkippedFsync => SimDisk::lying(),
            _ => SimDisk::honest(),
        };
        let tenants = tenants::twins();
        let truth = Truth::new(&tenants);
        let (journal, _) = open(&disk).expect("an empty disk holds a journal");
        let mut world = Self {
            dice: Dice::new(seed),
            mutant,
            report: Report {
                seeds: 1,
                ..Report::default()
            },
            clock: ManualClock::at(START),
            disk,
            tenants,
            truth,
            lines: BTreeMap::new(),
            records: Vec::new(),
            process: Process::new(journal),
            has_jumped_back: false,
            events: BinaryHeap::new(),
            event_count: 0,
        };
        for (event, millis) in [
            (Event::Arrive, 1),
            (Event::Commit, 2),
            (Event::Maintain, 50),
            (Event::Compact, 70),
            (Event::Chaos, 90),
        ] {
            world.after_millis(millis, event);
        }
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn after_millis(&mut self, millis: u64, event: Event) {
        let at = self.clock.elapsed() + Duration::from_millis(millis);
        self.event_count += 1;
        self.events.push(Reverse((at, self.event_count, event)));
    }

    /// Lets the run happen.
    pub(crate) fn live(&mut self) -> Result<(), Breach> {
        self.start()?;
        while self.report.events < EVENTS {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                return Err("no event is left".into());
            };
            self.report.events += 1;
            self.clock.advance(at.saturating_sub(self.clock.elapsed()));
            self.happen(event)?;
            self.check()?;
        }
        self.finish()
    }

    fn happen(&mut self, event: Event) -> Result<(), Breach> {
        match event {
            Event::Arrive => {
                self.arrive()?;
                self.after_millis(self.dice.between(1, 12), Event::Arrive);
            }
            Event::Commit => {
                self.commit()?;
                self.after_millis(self.dice.between(1, 8), Event::Commit);
            }
            Event::FirstByte(attempt) => self.first_byte(attempt),
            Event::End(attempt) => self.end(attempt)?,
            Event::Maintain => {
                self.maintain()?;
                self.after_millis(self.dice.between(20, 80), Event::Maintain);
            }
            Event::Compact => {
                self.compact()?;
                self.after_millis(self.dice.between(50, 300), Event::Compact);
            }
            Event::Chaos => {
                self.chaos()?;
                self.after_millis(self.dice.between(20, 200), Event::Chaos);
            }
        }
        Ok(())
    }

    /// Appends to the journal, and remembers what was appended.
    pub(crate) fn append(&mut self, record: Record) -> Result<Lsn, Breach> {
        let lsn = self
            .process
            .journal
            .append(&record)
            .map_err(|error| format!("the journal refuses a record: {error}"))?;
        self.records.push(record);
        if lsn.number() != self.records.len() as u64 {
            return Err(format!("record {} got number {lsn}", self.records.len()));
        }
        Ok(lsn)
    }

    pub(crate) fn ledger(&mut self, tenant: usize) -> &mut TenantLedger {
        let id = self.tenants[tenant].id;
        self.process
            .ledgers
            .entry(id)
            .or_insert_with(|| TenantLedger::new(id))
    }
}

impl Process {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            compactor: Compactor::new(Arc::clone(&journal)),
            journal,
            ledgers: HashMap::new(),
            calls: BTreeMap::new(),
            refills: Vec::new(),
        }
    }
}

/// Opens the journal, as a process does that starts.
pub(crate) fn open(
    disk: &SimDisk,
) -> Result<(Arc<Journal>, store::Recovered), store::RecoveryError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = JournalOptions {
        writer: WriterMode::Manual,
        segment_bytes_max: SEGMENT_BYTES,
        ..JournalOptions::new([1; 16])
    };
    Journal::open(disk, Path::new(FOLDER), options)
}
