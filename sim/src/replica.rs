//! One replica: its clocks, its disk, and the process that runs on it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{AttemptId, Clock as _, Disk, ManualClock, TenantId, Timestamp};
use ledger::{LeaseRequest, Lsn, Record, TenantLedger};
use store::{Compactor, Journal, JournalOptions, WriterMode};

use crate::Mutant;
use crate::disk::SimDisk;
use crate::gateway::Call;
use crate::late::Late;
use crate::talk::Letter;
use crate::world::{Breach, Event, START, Shared};

/// A few segments per run.
const SEGMENT_BYTES: u64 = 8 * 1024;
const FOLDER: &str = "journal";
/// Seconds that replicas' wall clocks are off at most: the books allow for a minute.
const SKEW_SECONDS: u64 = 50;

/// A replica, alive or dead.
pub(crate) struct Replica {
    pub(crate) number: usize,
    pub(crate) clock: ManualClock,
    pub(crate) disk: SimDisk,
    /// Everything that was appended, and that no crash has taken.
    pub(crate) records: Vec<Record>,
    pub(crate) process: Process,
    pub(crate) has_jumped_back: bool,
    /// Where it is not there.
    pub(crate) away: Option<Away>,
    /// Time has passed without it: it looks first what has ended meanwhile.
    pub(crate) has_slept: bool,
    /// What counts later than it was spent.
    pub(crate) late: Vec<Late>,
}

/// A process that was stopped and goes on, or that is to start anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Away {
    pub(crate) until: Duration,
    pub(crate) is_down: bool,
}

/// What a crash ends.
pub(crate) struct Process {
    pub(crate) journal: Arc<Journal>,
    pub(crate) compactor: Compactor,
    pub(crate) ledgers: HashMap<TenantId, TenantLedger>,
    pub(crate) calls: BTreeMap<AttemptId, Call>,
    /// Leases that were asked for ahead of need, of a tenant, and where they are journaled.
    pub(crate) refills: Vec<(Lsn, usize, LeaseRequest)>,
    /// Which life of its replica it is, as the database counts them.
    pub(crate) epoch: u64,
    /// What is being told to the database.
    pub(crate) letter: Option<Letter>,
    /// Whether the database knows what the journal says.
    pub(crate) has_told: bool,
}

impl Replica {
    pub(crate) fn new(number: usize, all: &Shared) -> Self {
        let disk = match all.mutant {
            Mutant::SkippedFsync => SimDisk::lying(),
            _ => SimDisk::honest(),
        };
        let (journal, _) = open(&disk, number).expect("an empty disk holds a journal");
        let clock = ManualClock::at(START);
        if all.database.is_some() {
            clock.jump_to(skewed(all));
        }
        Self {
            number,
            clock,
            disk,
            records: Vec::new(),
            process: Process::new(journal),
            has_jumped_back: false,
            away: None,
            has_slept: false,
            late: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Something happens to it.
    pub(crate) fn happen(&mut self, event: Event, all: &mut Shared) -> Result<(), Breach> {
        if std::mem::take(&mut self.has_slept) {
            self.maintain(all)?;
        }
        match event {
            Event::Arrive => self.arrive(all),
            Event::Commit => self.commit(all),
            Event::FirstByte(attempt) => {
                self.first_byte(all, attempt);
                Ok(())
            }
            Event::End(attempt) => self.end(all, attempt),
            Event::Maintain => self.maintain(all),
            Event::Compact => self.compact(all),
            Event::Chaos => self.chaos(all),
            Event::Talk => self.talk(all, ledger::ShareNews::Due),
            Event::Answer(letter) => self.hear(all, letter),
            Event::Unanswered(letter) => {
                self.hear_nothing(all, letter);
                Ok(())
            }
            Event::Letter(_) => Err("a letter is for the database".into()),
        }
    }

    /// Appends to the journal, and remembers what was appended.
    pub(crate) fn append(&mut self, record: Record) -> Result<Lsn, Breach> {
        let lsn = self
            .process
            .journal
            .append(&record)
            .map_err(|error| format!("the journal refuses a record: {error}"))?;
        self.records.push(record);
        if lsn != self.last_lsn() {
            return Err(format!("record {} got number {lsn}", self.records.len()));
        }
        Ok(lsn)
    }

    /// Of what was appended last.
    pub(crate) fn last_lsn(&self) -> Lsn {
        Lsn::new(self.records.len() as u64)
    }

    pub(crate) fn ledger(&mut self, all: &Shared, tenant: usize) -> &mut TenantLedger {
        let id = all.tenants[tenant].id;
        let replicas = all.replicas();
        self.process.ledgers.entry(id).or_insert_with(|| {
            let mut ledger = TenantLedger::new(id);
            share(&mut ledger, replicas);
            ledger
        })
    }
}

/// Has a ledger share its budgets, where there are several replicas.
pub(crate) fn share(ledger: &mut TenantLedger, replicas: Option<u32>) {
    if let Some(replicas) = replicas {
        ledger.share_with(replicas);
    }
}

/// What a replica's wall clock shows that is nearly right.
pub(crate) fn skewed(all: &Shared) -> Timestamp {
    let by = all.dice.below(2 * SKEW_SECONDS);
    let earliest = all.now().minus(Duration::from_secs(SKEW_SECONDS));
    earliest.plus(Duration::from_secs(by))
}

impl Process {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            compactor: Compactor::new(Arc::clone(&journal)),
            journal,
            ledgers: HashMap::new(),
            calls: BTreeMap::new(),
            refills: Vec::new(),
            epoch: 0,
            letter: None,
            has_told: false,
        }
    }
}

/// Opens a replica's journal, as a process does that starts.
pub(crate) fn open(
    disk: &SimDisk,
    replica: usize,
) -> Result<(Arc<Journal>, store::Recovered), store::RecoveryError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = JournalOptions {
        writer: WriterMode::Manual,
        segment_bytes_max: SEGMENT_BYTES,
        ..JournalOptions::new([replica as u8 + 1; 16])
    };
    Journal::open(disk, Path::new(FOLDER), options)
}
