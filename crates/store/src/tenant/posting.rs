//! Lines go into a tenant's store, and with them what they add to their days.
//!
//! Lines come in the order of their LSNs, each once, but for those that a crash makes come again:
//! the file says up to which LSN it has them. Beyond that, a line of an attempt that the file has
//! can only be the end of one that it has as unsettled, and it knows these.

use std::collections::HashMap;

use base::AttemptId;
use foldhash::fast::RandomState;
use ledger::{LedgerLine, LineState, Lsn};
use rusqlite::{CachedStatement, Connection, TransactionBehavior, params};

use super::StoreError;
use super::block::{Block, LINES_PER_BLOCK, block_number, second_of};
use super::counted::{Counted, signed};
use super::dims::DimsIds;
use super::usage::DAY_MICROS;

/// One transaction's statements, and what it has learnt and is going to add.
struct Posting<'t, 'l> {
    transaction: &'t Connection,
    insert: CachedStatement<'t>,
    /// The file has all lines up to here.
    posted: Lsn,
    has_unsettled: bool,
    dims: DimsIds<'l>,
    /// By UTC day and row of `usage_dims`.
    days: HashMap<(i64, i64), Counted, RandomState>,
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
    connection: &mut Connection,
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
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut posting = Posting::begin(&transaction)?;
    let second = |line: &LedgerLine| second_of(line.intent.at);
    for lines in sorted.chunk_by(|one, other| second(one) == second(other)) {
        posting.post_second(second(lines[0]), lines)?;
    }
    posting.add_to_days()?;
    posting.mark_posted(lines.iter().map(|line| line.lsn).max())?;
    drop(posting);
    Ok(transaction.commit()?)
}

impl<'t, 'l> Posting<'t, 'l> {
    fn begin(transaction: &'t Connection) -> Result<Self, StoreError> {
        let (posted, has_unsettled) = transaction
            .prepare_cached(
                "SELECT (SELECT lsn FROM ledger_posted),
                        EXISTS (SELECT 1 FROM unsettled_lines)",
            )?
            .query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
        let insert = transaction.prepare_cached(
            "INSERT INTO ledger_lines (id, lines) VALUES ($1, $2)
             ON CONFLICT (id) DO NOTHING",
        )?;
        Ok(Self {
            transaction,
            insert,
            posted: Lsn::new(posted.map_or(0, i64::cast_unsigned)),
            has_unsettled,
            dims: DimsIds::default(),
            days: HashMap::default(),
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
        let found = self
            .transaction
            .prepare_cached("SELECT 1 FROM unsettled_lines WHERE attempt = $1")?
            .exists([line.intent.attempt.to_bytes()])?;
        Ok(found)
    }

    fn insert_block(&mut self, second: i64, lines: &[&'l LedgerLine]) -> Result<(), StoreError> {
        let mut block = Block::default();
        for line in lines {
            let dims = self.dims.of(self.transaction, &line.intent)?;
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
        while self
            .insert
            .execute(params![block_number(second, part), self.bytes])?
            == 0
        {
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
        let change = Counted::of(line).minus(&Counted::of_packed(before));
        self.count(line, before.dims, &change);
        block.replace(place, line);
        block.write(&mut self.bytes)?;
        self.transaction
            .prepare_cached("UPDATE ledger_lines SET lines = $1 WHERE id = $2")?
            .execute(params![self.bytes, *number])?;
        if line.state == LineState::Unsettled {
            return self.remember_unsettled(line);
        }
        self.transaction
            .prepare_cached("DELETE FROM unsettled_lines WHERE attempt = $1")?
            .execute([line.intent.attempt.to_bytes()])?;
        Ok(())
    }

    fn remember_unsettled(&self, line: &LedgerLine) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO unsettled_lines (attempt, started_at) VALUES ($1, $2)
                 ON CONFLICT (attempt) DO NOTHING",
            )?
            .execute(params![
                line.intent.attempt.to_bytes(),
                line.intent.at.as_micros()
            ])?;
        Ok(())
    }

    /// On the day on which the call was dispatched: later news of it never moves it.
    fn count(&mut self, line: &LedgerLine, dims: i64, change: &Counted) {
        let day = line.intent.at.as_micros().div_euclid(DAY_MICROS);
        self.days.entry((day, dims)).or_default().add(change);
    }

    fn add_to_days(&self) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO usage_daily
               (day, dims, requests, calls, unsettled, cache_hits, input_tokens, cached_tokens,
                cached_write_tokens, cached_write_1h_tokens, output_tokens, cost_major, cost_minor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (day, dims) DO UPDATE
             SET requests = usage_daily.requests + excluded.requests,
                 calls = usage_daily.calls + excluded.calls,
                 unsettled = usage_daily.unsettled + excluded.unsettled,
                 cache_hits = usage_daily.cache_hits + excluded.cache_hits,
                 input_tokens = usage_daily.input_tokens + excluded.input_tokens,
                 cached_tokens = usage_daily.cached_tokens + excluded.cached_tokens,
                 cached_write_tokens =
                     usage_daily.cached_write_tokens + excluded.cached_write_tokens,
                 cached_write_1h_tokens =
                     usage_daily.cached_write_1h_tokens + excluded.cached_write_1h_tokens,
                 output_tokens = usage_daily.output_tokens + excluded.output_tokens,
                 cost_major = usage_daily.cost_major + excluded.cost_major,
                 cost_minor = usage_daily.cost_minor + excluded.cost_minor",
        )?;
        for ((day, dims), change) in &self.days {
            let (cost_major, cost_minor) = change.cost_halves();
            statement.execute(params![
                day,
                dims,
                change.requests,
                change.calls,
                change.unsettled,
                change.cache_hits,
                change.input_tokens,
                change.cached_tokens,
                change.cached_write_tokens,
                change.cached_write_1h_tokens,
                change.output_tokens,
                cost_major,
                cost_minor,
            ])?;
        }
        Ok(())
    }

    fn mark_posted(&self, last: Option<Lsn>) -> Result<(), StoreError> {
        let Some(last) = last.filter(|last| *last > self.posted) else {
            return Ok(());
        };
        self.transaction
            .prepare_cached(
                "INSERT INTO ledger_posted (single, lsn) VALUES (1, $1)
                 ON CONFLICT (single) DO UPDATE SET lsn = excluded.lsn",
            )?
            .execute([signed(last.number())])?;
        Ok(())
    }
}

impl Kept<'_> {
    fn load(connection: &Connection, second: i64) -> Result<Self, StoreError> {
        let mut statement = connection
            .prepare_cached("SELECT id, lines FROM ledger_lines WHERE id >= $1 AND id < $2")?;
        let range = [block_number(second, 0), block_number(second + 1, 0)];
        let mut rows = statement.query(range)?;
        let (mut blocks, mut places) = (Vec::new(), HashMap::default());
        while let Some(row) = rows.next()? {
            let block = Block::of_column(row.get_ref(1)?)?;
            for (place, line) in block.lines.iter().enumerate() {
                places.insert(line.attempt(), (blocks.len(), place));
            }
            blocks.push((row.get(0)?, block));
        }
        Ok(Self { blocks, places })
    }
}
