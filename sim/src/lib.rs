//! Whole-system simulation in virtual time: ledgers, limits, journal and compaction of two twin
//! tenants, under crashes, torn writes, full disks and clocks that jump; on one replica, or on several
//! that share budgets through a database, and are paused, cut off and off in time. A seed determines
//! all.
//!
//! After every event the invariants 5 to 8 are checked against what the upstreams really did.

mod chaos;
mod check;
mod coordinator;
mod dice;
mod disk;
pub mod fairness;
mod gateway;
mod late;
mod replica;
mod talk;
mod tenants;
mod truth;
mod world;

use std::fmt;

use world::World;

/// A fault of the program itself, to prove that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The program as it is.
    None,
    /// Some holds of refused calls are dropped and never released.
    DroppedRelease,
    /// Some calls are not charged to their tenant's account.
    DroppedScope,
    /// Files are not synced.
    SkippedFsync,
    /// A replica tells what its disk does not have yet.
    EarlyLetters,
    /// The database takes letters that come after later ones.
    LateLetters,
    /// Shares of a budget are used for ever.
    EndlessShares,
}

/// What happened in one run, or in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Events.
    pub events: u64,
    /// Calls that left for an upstream.
    pub dispatched: u64,
    /// Calls of which a client saw a byte.
    pub answered: u64,
    /// Calls that were not let through.
    pub refused: u64,
    /// Crashes.
    pub crashes: u64,
    /// Clean restarts.
    pub restarts: u64,
    /// Calls that a crash caught before their intent was durable.
    pub lost: u64,
    /// Bytes of torn writes that recovery cut off.
    pub torn_bytes: u64,
    /// Jumps of the wall clock.
    pub jumps: u64,
    /// Times that the disk was full, or failed to sync.
    pub disk_faults: u64,
    /// Segments that were compacted.
    pub segments: u64,
    /// Holds that expired.
    pub expired: u64,
    /// Crashes of which everything was reconciled at once.
    pub reconciled: u64,
    /// Leases that idle accounts gave up.
    pub returned: u64,
    /// Exchanges of replicas with the database.
    pub exchanges: u64,
    /// Letters of replicas to which no answer came in time.
    pub unanswered: u64,
    /// Replicas that stood still for a while.
    pub pauses: u64,
    /// Times that the database was gone, or out of a replica's reach.
    pub partitions: u64,
}

impl Report {
    fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.seeds, other.seeds),
            (&mut self.events, other.events),
            (&mut self.dispatched, other.dispatched),
            (&mut self.answered, other.answered),
            (&mut self.refused, other.refused),
            (&mut self.crashes, other.crashes),
            (&mut self.restarts, other.restarts),
            (&mut self.lost, other.lost),
            (&mut self.torn_bytes, other.torn_bytes),
            (&mut self.jumps, other.jumps),
            (&mut self.disk_faults, other.disk_faults),
            (&mut self.segments, other.segments),
            (&mut self.expired, other.expired),
            (&mut self.reconciled, other.reconciled),
            (&mut self.returned, other.returned),
            (&mut self.exchanges, other.exchanges),
            (&mut self.unanswered, other.unanswered),
            (&mut self.pauses, other.pauses),
            (&mut self.partitions, other.partitions),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds, {} events: {} calls dispatched, {} answered, {} refused, {} expired; \
             {} crashes ({} calls lost before their intent, {} torn bytes; {} reconciled), \
             {} restarts, {} idle leases given up, {} clock jumps, {} disk faults, \
             {} segments compacted",
            self.seeds,
            self.events,
            self.dispatched,
            self.answered,
            self.refused,
            self.expired,
            self.crashes,
            self.lost,
            self.torn_bytes,
            self.reconciled,
            self.restarts,
            self.returned,
            self.jumps,
            self.disk_faults,
            self.segments,
        )?;
        match self.exchanges {
            0 => Ok(()),
            exchanges => write!(
                f,
                "; {exchanges} exchanges between replicas, {} without an answer, {} pauses, \
                 {} partitions",
                self.unanswered, self.pauses, self.partitions
            ),
        }
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed}, event {event}: {what}\nagain: cargo xtask sim --replicas {replicas} --seed {seed}"
)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// How many replicas there were.
    pub replicas: usize,
    /// The event after which it was found.
    pub event: u64,
    /// Which invariant, and how.
    pub what: String,
}

/// One run, of so many replicas.
///
/// # Errors
///
/// [`Failure`]: the first invariant that did not hold.
pub fn run(seed: u64, replicas: usize, mutant: Mutant) -> Result<Report, Failure> {
    let mut world = World::new(seed, replicas.max(1), mutant);
    let outcome = world.live();
    outcome.map_err(|what| Failure {
        seed,
        replicas,
        event: world.all.report.events,
        what,
    })?;
    Ok(world.all.report)
}

/// The runs of `count` seeds from `from` on.
///
/// # Errors
///
/// The [`Failure`] of the first seed that fails.
pub fn run_many(from: u64, count: u64, replicas: usize) -> Result<Report, Failure> {
    let mut total = Report::default();
    for seed in from..from.saturating_add(count) {
        total.add(&run(seed, replicas, Mutant::None)?);
    }
    Ok(total)
}
