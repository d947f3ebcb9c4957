//! Lines go into a tenant's store, and with them what they add to their hours, days and months.
//!
//! Each replica's lines come in the order of its journal's LSNs, each once, but for those that a
//! crash makes come again: the store says up to which LSN of each journal it has them. Beyond that,
//! a line of an attempt that it has can only be the end of one that it has as unsettled, and it
//! knows these.

use std::collections::HashMap;

use base::AttemptId;
use foldhash::fast::RandomState;
use ledger::{LedgerLine, LineState, Lsn};

use super::StoreError;
use super::block::{Block, LINES_PER_BLOCK, block_number, second_of};
use super::calendar::Grain;
use super::counted::{Counted, signed};
use super::dims::DimsIds;
use super::lines::LINES;
use super::sums::{self, KeptSince, Sums};
use crate::catalogue::ReplicaId;
use crate::database::{Database, Value, sql};

/// One transaction's statements, and what it has learnt and is going to add.
struct Posting<'t, 'c, 'l> {
    transaction: &'t Database<'c>,
    /// Whose journal the lines come from.
    replica: String,
    /// The store has all its lines up to here.
    posted: Lsn,
    has_unsettled: bool,
    dims: DimsIds<'l>,
    /// From when on there are lines and hours.
    kept_since: KeptSince,
    /// By hour and row of `usage_dims`.
    hours: Sums,
    bytes: Vec<u8>,
}

/// What the file has of one second.
struct Kept<'l> {
    blocks: Vec<(i64, Block<'l>)>,
    /// Which block, and which line of it.
    places: HashMap<AttemptId, (usize, usize), RandomState>,
}

/// Posts all of `lines`, or none. They go in by time, as they stand in the file, so that each page
/// is written once.
pub(super) fn post_all(
    database: &Database<'_>,
    replica: ReplicaId,
    lines: &[LedgerLine],
) -> Result<(), StoreError> {
    let mut sorted: Vec<&LedgerLine> = lines.iter().collect();
    sorted.sort_unstable_by_key(|line| (line.intent.at, line.intent.attempt, line.lsn));
    // Of one attempt's news the last is enough.
    sorted.dedup_by(|later, earlier| {
        let is_same = later.intent.attempt == earlier.intent.attempt;
        if is_same {
            *earlier = *later;
        }
        is_same
    });
    let transaction = database.begin()?;
    let mut posting = Posting::begin(&transaction, replica)?;
    let second = |line: &LedgerLine| second_of(line.intent.at);
    for lines in sorted.chunk_by(|one, other| second(one) == second(other)) {
        posting.post_second(second(lines[0]), lines)?;
    }
    sums::add(&transaction, &posting.hours, posting.kept_since)?;
    posting.mark_posted(lines.iter().map(|line| line.lsn).max())?;
    drop(posting);
    Ok(transaction.commit()?)
}

impl<'t, 'c, 'l> Posting<'t, 'c, 'l> {
    fn begin(transaction: &'t Database<'c>, replica: ReplicaId) -> Result<Self, StoreError> {
        let replica = replica.to_string();
        let known = transaction.row(
            sql!(
                "SELECT (SELECT lsn FROM ledger_posted WHERE [tenant = $T AND ]replica = $1),
                        EXISTS (SELECT 1 FROM unsettled_lines[ WHERE tenant = $T])"
            ),
            &[Value::Text(&replica)],
            |row| Ok((row.optional_int(0)?, row.bool(1)?)),
        )?;
        let (posted, has_unsettled) = known.unwrap_or((None, false));
        Ok(Self {
            transaction,
            replica,
            posted: Lsn::new(posted.map_or(0, i64::cast_unsigned)),
            has_unsettled,
            dims: DimsIds::default(),
            kept_since: KeptSince::read(transaction)?,
            hours: Sums::default(),
            bytes: Vec::new(),
        })
    }

    /// Posts lines of calls that were dispatched in one second.
    fn post_second(&mut self, second: i64, lines: &[&'l LedgerLine]) -> Result<(), StoreError> {
        let mut kept = None;
        let mut fresh = Vec::with_capacity(lines.len());
        for line in lines {
            if !self.may_be_kept(line)? {
                fresh.push(*line);
                continue;
            }
            let kept = match &mut kept {
                Some(kept) => kept,
                none => none.insert(Kept::load(self.transaction, second)?),
            };
            match kept.places.get(&line.intent.attempt) {
                Some(place) => self.renew(&mut kept.blocks[place.0], place.1, line)?,
                // It was here, counted, and is forgotten.
                None if line.lsn <= self.posted && line.intent.at < self.kept_since.lines => {}
                None => fresh.push(*line),
            }
        }
        for lines in fresh.chunks(LINES_PER_BLOCK) {
            self.insert_block(second, lines)?;
        }
        Ok(())
    }

    /// Whether the file may have a line of the same attempt.
    fn may_be_kept(&self, line: &LedgerLine) -> Result<bool, StoreError> {
        if line.lsn <= self.posted {
            return Ok(true);
        }
        if !self.has_unsettled {
            return Ok(false);
        }
        let found = self.transaction.row(
            sql!("SELECT 1 FROM unsettled_lines WHERE [tenant = $T AND ]attempt = $1"),
            &[Value::Bytes(&line.intent.attempt.to_bytes())],
            |_| Ok(()),
        )?;
        Ok(found.is_some())
    }

    fn insert_block(&mut self, second: i64, lines: &[&'l LedgerLine]) -> Result<(), StoreError> {
        let mut block = Block::default();
        for line in lines {
            let dims = self.dims.of(self.transaction, line)?;
            block.push(line, dims);
            self.count(line, dims, &Counted::of(line));
            if line.state == LineState::Unsettled {
                self.remember_unsettled(line)?;
            }
        }
        block.write(&mut self.bytes)?;
        // LSNs differ: another block of the same second rarely has the same part, a million
        // records later, and then the next one does.
        let mut part = lines[0].lsn.number();
        let insert = sql!(
            "INSERT INTO ledger_lines ([tenant, ]id, lines) VALUES ([$T, ]$1, $2)
             ON CONFLICT ([tenant, ]id) DO NOTHING"
        );
        loop {
            let number = Value::Int(block_number(second, part));
            let row = [number, Value::Sealed(LINES, &self.bytes)];
            if self.transaction.execute(insert, &row)? > 0 {
                break;
            }
            part = part.wrapping_add(1);
        }
        Ok(())
    }

    /// Puts `line` in the place of an earlier one of its attempt; a later one stays.
    fn renew(
        &mut self,
        (number, block): &mut (i64, Block<'l>),
        place: usize,
        line: &'l LedgerLine,
    ) -> Result<(), StoreError> {
        let before = &block.lines[place];
        if before.lsn >= line.lsn.number() {
            return Ok(());
        }
        let (dims_before, counted) = (before.dims, Counted::of_packed(before));
        // Only an end says what the upstream called the model.
        let dims = self.dims.of(self.transaction, line)?;
        self.count(line, dims_before, &Counted::default().minus(&counted));
        self.count(line, dims, &Counted::of(line));
        block.replace(place, line, dims);
        block.write(&mut self.bytes)?;
        self.transaction.execute(
            sql!("UPDATE ledger_lines SET lines = $1 WHERE [tenant = $T AND ]id = $2"),
            &[Value::Sealed(LINES, &self.bytes), Value::Int(*number)],
        )?;
        if line.state == LineState::Unsettled {
            return self.remember_unsettled(line);
        }
        self.transaction.execute(
            sql!("DELETE FROM unsettled_lines WHERE [tenant = $T AND ]attempt = $1"),
            &[Value::Bytes(&line.intent.attempt.to_bytes())],
        )?;
        Ok(())
    }

    fn remember_unsettled(&self, line: &LedgerLine) -> Result<(), StoreError> {
        self.transaction.execute(
            sql!(
                "INSERT INTO unsettled_lines ([tenant, ]attempt, started_at)
                 VALUES ([$T, ]$1, $2)
                 ON CONFLICT ([tenant, ]attempt) DO NOTHING"
            ),
            &[
                Value::Bytes(&line.intent.attempt.to_bytes()),
                Value::Int(line.intent.at.as_micros()),
            ],
        )?;
        Ok(())
    }

    /// In the hour in which the call was dispatched: later news of it never moves it.
    fn count(&mut self, line: &LedgerLine, dims: i64, change: &Counted) {
        let hour = Grain::Hour.of(line.intent.at);
        self.hours.entry((hour, dims)).or_default().add(change);
    }

    fn mark_posted(&self, last: Option<Lsn>) -> Result<(), StoreError> {
        let Some(last) = last.filter(|last| *last > self.posted) else {
            return Ok(());
        };
        self.transaction.execute(
            sql!(
                "INSERT INTO ledger_posted ([tenant, ]replica, lsn) VALUES ([$T, ]$1, $2)
                 ON CONFLICT ([tenant, ]replica) DO UPDATE SET lsn = excluded.lsn"
            ),
            &[
                Value::Text(&self.replica),
                Value::Int(signed(last.number())),
            ],
        )?;
        Ok(())
    }
}

impl Kept<'_> {
    fn load(database: &Database<'_>, second: i64) -> Result<Self, StoreError> {
        let blocks = database.rows(
            sql!("SELECT id, lines FROM ledger_lines WHERE [tenant = $T AND ]id >= $1 AND id < $2"),
            &[
                Value::Int(block_number(second, 0)),
                Value::Int(block_number(second + 1, 0)),
            ],
            |row| Ok::<_, StoreError>((row.int(0)?, Block::of_column(&row.sealed(1, LINES)?)?)),
        )?;
        let mut places = HashMap::default();
        for (number, (_, block)) in blocks.iter().enumerate() {
            for (place, line) in block.lines.iter().enumerate() {
                places.insert(line.attempt(), (number, place));
            }
        }
        Ok(Self { blocks, places })
    }
}
