//! A tenant's ledger lines: how they are asked for, one by one.

use std::time::Duration;

use base::{AttemptId, Timestamp};
use ledger::LedgerLine;

use super::block::{Block, block_number, second_of, second_of_block};
use super::dims::KnownDims;
use super::{StoreError, TenantStore, posting};
use crate::database::{Column, Database, Value, Walk, sql};
use crate::page::Page;
use crate::sqlite::{self, PageCache};

/// The column of blocks.
pub(crate) const LINES: Column = "ledger_lines.lines";
const BAD_UNSETTLED: StoreError = StoreError::BadRow {
    table: "unsettled_lines",
};
/// 16 blocks of 30 KB at most: half a megabyte.
const BLOCKS_PER_PAGE: usize = 16;
/// 256 lines are some eight pages, and the usual cache holds a dozen.
const LINES_PER_CACHE: usize = 256;
/// 1 s: an attempt's id is made right after its time is read, so that what the clock says may
/// differ by what it is set forward or back meanwhile.
const ID_SLACK: Duration = Duration::from_secs(1);

/// Where a list of lines goes on: after this line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineCursor {
    /// When its call was dispatched.
    pub started_at: Timestamp,
    /// Its attempt.
    pub attempt: AttemptId,
}

impl LineCursor {
    /// The place of `line`.
    pub fn after(line: &LedgerLine) -> Self {
        Self {
            started_at: line.intent.at,
            attempt: line.intent.attempt,
        }
    }
}

impl TenantStore<'_> {
    /// Adds `lines`, and to the daily sums what they add, in one transaction. A line that is there
    /// already, or a later one of its attempt, stays: so that lines can be posted again. Durable
    /// when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::ForeignLine`] if one is another tenant's; then none was added.
    pub fn post_lines(&self, lines: &[LedgerLine]) -> Result<(), StoreError> {
        let tenant = self.keys.tenant();
        self.with_database(|database| {
            if lines.iter().any(|line| line.intent.tenant != tenant) {
                return Err(StoreError::ForeignLine);
            }
            let cached = database
                .as_sqlite()
                .filter(|_| lines.len() > LINES_PER_CACHE);
            if let Some(file) = cached {
                sqlite::set_cache(file, PageCache::Bulk)?;
            }
            let posted = posting::post_all(database, self.stores.replica(), lines);
            if let Some(file) = cached {
                sqlite::set_cache(file, PageCache::Small)?;
            }
            posted
        })
    }

    /// What is known of one call. An attempt's id says when it was made: a line is found by that.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn line(&self, attempt: AttemptId) -> Result<Option<LedgerLine>, StoreError> {
        self.with_database(|database| {
            let unsettled = database.row(
                sql!("SELECT started_at FROM unsettled_lines WHERE [tenant = $T AND ]attempt = $1"),
                &[Value::Bytes(&attempt.to_bytes())],
                |row| Ok(Timestamp::from_micros(row.int(0)?)),
            )?;
            let millis = i64::try_from(attempt.bits() >> 80).unwrap_or(i64::MAX);
            let made = Timestamp::from_micros(millis.saturating_mul(1_000));
            let (from, until) = match unsettled {
                Some(at) => (at, at),
                None => (made.minus(ID_SLACK), made.plus(ID_SLACK)),
            };
            self.find_line(database, attempt, from, until)
        })
    }

    /// The line of `attempt`, which was dispatched in one of these seconds or in one between.
    fn find_line(
        &self,
        database: &Database<'_>,
        attempt: AttemptId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Option<LedgerLine>, StoreError> {
        let mut found = None;
        each_block(database, from, until, |_, block| {
            let place = block
                .lines
                .iter()
                .position(|line| line.attempt() == attempt);
            let Some(place) = place else {
                return Ok(Walk::On);
            };
            let mut known = KnownDims::default();
            let dims = known.get(database, block.lines[place].dims)?;
            found = Some(block.line(place, self.keys.tenant(), dims)?);
            Ok(Walk::Stop)
        })?;
        Ok(found)
    }

    /// Calls that were dispatched from `from` on and before `until`, in the order of their
    /// dispatch, `limit` (1,000 at most) of those after `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn lines(
        &self,
        from: Timestamp,
        until: Timestamp,
        after: Option<LineCursor>,
        limit: u32,
    ) -> Result<Vec<LedgerLine>, StoreError> {
        let from = after.map_or(from, |cursor| from.max(cursor.started_at));
        let is_wanted = |at: Timestamp, attempt: AttemptId| {
            let is_after =
                after.is_none_or(|cursor| (at, attempt) > (cursor.started_at, cursor.attempt));
            at >= from && at < until && is_after
        };
        let limit = Page::new(0, limit).limit() as usize;
        let tenant = self.keys.tenant();
        self.with_database(|database| {
            let (mut lines, mut known) = (Vec::new(), KnownDims::default());
            let (mut second, mut of_second) = (i64::MIN, 0);
            each_block(database, from, until, |number, block| {
                // Seconds follow each other; the blocks of one are mixed.
                if second_of_block(number) > second {
                    in_order(&mut lines[of_second..]);
                    (second, of_second) = (second_of_block(number), lines.len());
                    if lines.len() >= limit {
                        return Ok(Walk::Stop);
                    }
                }
                for (place, line) in block.lines.iter().enumerate() {
                    if is_wanted(line.started_at(), line.attempt()) {
                        let dims = known.get(database, line.dims)?;
                        lines.push(block.line(place, tenant, dims)?);
                    }
                }
                Ok(Walk::On)
            })?;
            in_order(&mut lines[of_second..]);
            lines.truncate(limit);
            Ok(lines)
        })
    }

    /// Calls that stand at their upper bound until they are reconciled, the oldest attempts first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn unsettled_lines(&self, page: Page) -> Result<Vec<LedgerLine>, StoreError> {
        self.with_database(|database| {
            let found = database.rows::<_, StoreError>(
                sql!(
                    "SELECT attempt, started_at FROM unsettled_lines[ WHERE tenant = $T]
                     ORDER BY attempt LIMIT $1 OFFSET $2"
                ),
                &[Value::Int(page.limit()), Value::Int(page.offset())],
                |row| {
                    let attempt = row.bytes(0)?.try_into().map_err(|_| BAD_UNSETTLED)?;
                    Ok((AttemptId::from_bytes(attempt), row.int(1)?))
                },
            )?;
            let mut lines = Vec::new();
            for (attempt, started_at) in found {
                let at = Timestamp::from_micros(started_at);
                lines.extend(self.find_line(database, attempt, at, at)?);
            }
            Ok(lines)
        })
    }
}

/// Hands on the blocks of all seconds from that of `from` to that of `until`, by number.
pub(super) fn each_block(
    database: &Database<'_>,
    from: Timestamp,
    until: Timestamp,
    mut act: impl FnMut(i64, Block<'static>) -> Result<Walk, StoreError>,
) -> Result<(), StoreError> {
    let mut next = block_number(second_of(from), 0);
    let end = block_number(second_of(until) + 1, 0);
    loop {
        let blocks = database.rows(
            sql!(
                "SELECT id, lines FROM ledger_lines WHERE [tenant = $T AND ]id >= $1 AND id < $2
                 ORDER BY id LIMIT $3"
            ),
            &[
                Value::Int(next),
                Value::Int(end),
                Value::Int(BLOCKS_PER_PAGE as i64),
            ],
            |row| Ok::<_, StoreError>((row.int(0)?, Block::of_column(&row.sealed(1, LINES)?)?)),
        )?;
        let is_last = blocks.len() < BLOCKS_PER_PAGE;
        for (number, block) in blocks {
            next = number + 1;
            if act(number, block)? == Walk::Stop {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn in_order(lines: &mut [LedgerLine]) {
    lines.sort_unstable_by_key(|line| (line.intent.at, line.intent.attempt));
}
