//! A run: virtual time, its events, and the replicas that live through them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use base::{AttemptId, Timestamp};
use ledger::LedgerLine;

use crate::coordinator::Database;
use crate::dice::Dice;
use crate::replica::{Away, Replica};
use crate::tenants::{self, Tenant};
use crate::truth::Truth;
use crate::{Mutant, Report};

/// Events of a run for each replica, before it is brought to an end.
const EVENTS: u64 = 700;
/// 2026-01-01: any day would do.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// What an invariant's breach is told as.
pub(crate) type Breach = String;

/// What happens at a moment to one replica.
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
    /// What the others should know is told.
    Talk,
    /// A letter of its comes to the database, wherever it is itself.
    Letter(u64),
    /// The database's answer to it.
    Answer(u64),
    /// Nothing has come, and nobody waits any longer.
    Unanswered(u64),
}

/// What all replicas share, and the run itself.
pub(crate) struct Shared {
    pub(crate) dice: Dice,
    pub(crate) mutant: Mutant,
    pub(crate) report: Report,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) truth: Truth,
    /// The tenants' stores: durable by definition.
    pub(crate) lines: BTreeMap<AttemptId, LedgerLine>,
    /// Who divides budgets between replicas; nobody does for one.
    pub(crate) database: Option<Database>,
    /// Time since the start, as nobody's clock shows it.
    pub(crate) elapsed: Duration,
    /// Hours in which nothing happens, which are still to pass.
    pub(crate) idle: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    event_count: u64,
}

/// All of a run's state.
pub(crate) struct World {
    pub(crate) all: Shared,
    pub(crate) replicas: Vec<Replica>,
}

impl Shared {
    /// The true time, which the database's clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        START.plus(self.elapsed)
    }

    pub(crate) fn after_millis(&mut self, replica: usize, millis: u64, event: Event) {
        self.at(replica, self.elapsed + Duration::from_millis(millis), event);
    }

    fn at(&mut self, replica: usize, at: Duration, event: Event) {
        self.event_count += 1;
        self.events
            .push(Reverse((at, self.event_count, replica, event)));
    }
}

impl World {
    pub(crate) fn new(seed: u64, replicas: usize, mutant: Mutant) -> Self {
        let mut all = Shared {
            dice: Dice::new(seed),
            mutant,
            report: Report {
                seeds: 1,
                ..Report::default()
            },
            tenants: tenants::twins(),
            truth: Truth::default(),
            lines: BTreeMap::new(),
            database: (replicas > 1).then(|| Database::new(replicas)),
            elapsed: Duration::ZERO,
            idle: Duration::ZERO,
            events: BinaryHeap::new(),
            event_count: 0,
        };
        let replicas = (0..replicas).map(|number| Replica::new(number, &all));
        let replicas: Vec<_> = replicas.collect();
        for replica in &replicas {
            for (event, millis) in [
                (Event::Arrive, 1),
                (Event::Commit, 2),
                (Event::Maintain, 50),
                (Event::Compact, 70),
                (Event::Chaos, 90),
            ] {
                all.after_millis(replica.number, millis, event);
            }
            if all.database.is_some() {
                all.after_millis(replica.number, 3, Event::Talk);
            }
        }
        Self { all, replicas }
    }

    /// Lets the run happen.
    pub(crate) fn live(&mut self) -> Result<(), Breach> {
        for replica in &mut self.replicas {
            replica.start(&mut self.all)?;
        }
        let events = EVENTS * self.replicas.len() as u64;
        while self.all.report.events < events {
            let Some(Reverse((at, _, replica, event))) = self.all.events.pop() else {
                return Err("no event is left".into());
            };
            self.all.report.events += 1;
            self.pass(at.saturating_sub(self.all.elapsed));
            self.happen(replica, event)?;
            self.check()?;
        }
        self.finish()
    }

    /// Time passes, on every clock.
    fn pass(&mut self, time: Duration) {
        self.all.elapsed += time;
        for replica in &self.replicas {
            replica.clock.advance(time);
        }
    }

    fn happen(&mut self, number: usize, event: Event) -> Result<(), Breach> {
        let all = &mut self.all;
        if let Event::Letter(letter) = event {
            all.deliver(number, letter);
            return Ok(());
        }
        let replica = &mut self.replicas[number];
        if let Some(Away { until, is_down }) = replica.away {
            if all.elapsed < until {
                all.at(number, until, event);
                return Ok(());
            }
            replica.away = None;
            replica.has_slept = all.database.is_some();
            if is_down && !replica.rise(all)? {
                let until = all.elapsed + Duration::from_secs(1);
                replica.away = Some(Away { until, is_down });
                all.at(number, until, event);
                return Ok(());
            }
        }
        replica.happen(event, all)?;
        let idle = std::mem::take(&mut all.idle);
        self.pass(idle);
        if !idle.is_zero() && self.all.database.is_some() {
            let replicas = self.replicas.iter_mut();
            replicas.for_each(|replica| replica.has_slept = true);
        }
        if let Some(millis) = self.all.again_after(event) {
            self.all.after_millis(number, millis, event);
        }
        Ok(())
    }

    /// Brings the run to an end: everything is settled or reconciled, and adds up.
    fn finish(&mut self) -> Result<(), Breach> {
        if let Some(database) = &mut self.all.database {
            database.heal();
        }
        for replica in &mut self.replicas {
            replica.die(&mut self.all)?;
        }
        self.check()?;
        self.pass(crate::chaos::BILL_AFTER * 2);
        self.check()?;
        for replica in &mut self.replicas {
            replica.wind_up(&mut self.all)?;
        }
        self.check_end()?;
        for replica in &self.replicas {
            replica.verify()?;
        }
        Ok(())
    }
}

impl Shared {
    /// When the same comes again, for what comes again.
    fn again_after(&self, event: Event) -> Option<u64> {
        let (from, to) = match event {
            Event::Arrive => (1, 12),
            Event::Commit => (1, 8),
            Event::Maintain => (20, 80),
            Event::Compact => (50, 300),
            Event::Chaos => (20, 200),
            Event::Talk => (100, 1_000),
            Event::FirstByte(_) | Event::End(_) => return None,
            Event::Letter(_) | Event::Answer(_) | Event::Unanswered(_) => return None,
        };
        Some(self.dice.between(from, to))
    }
}
