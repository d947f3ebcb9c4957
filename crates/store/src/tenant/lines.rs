//! A tenant's ledger lines: how they are asked for, one by one.

use std::time::Duration;

use base::{AttemptId, Timestamp};
use ledger::LedgerLine;
use rusqlite::{Connection, OptionalExtension as _};

use super::block::{Block, block_number, second_of, second_of_block};
use super::dims::KnownDims;
use super::{StoreError, TenantStore, posting};
use crate::page::Page;
use crate::sqlite::{self, PageCache};

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
        self.with_connection(|connection| {
            if lines.iter().any(|line| line.intent.tenant != tenant) {
                return Err(StoreError::ForeignLine);
            }
            let cache = lines.len() > LINES_PER_CACHE;
            if cache {
                sqlite::set_cache(connection, PageCache::Bulk)?;
            }
            let posted = posting::post_all(connection, lines);
            if cache {
                sqlite::set_cache(connection, PageCache::Small)?;
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
        self.with_connection(|connection| {
            let unsettled = connection
                .prepare_cached("SELECT started_at FROM unsettled_lines WHERE attempt = $1")?
                .query_row([attempt.to_bytes()], |row| row.get(0))
                .optional()?
                .map(Timestamp::from_micros);
            let millis = i64::try_from(attempt.bits() >> 80).unwrap_or(i64::MAX);
            let made = Timestamp::from_micros(millis.saturating_mul(1_000));
            let (from, until) = match unsettled {
                Some(at) => (at, at),
                None => (made.minus(ID_SLACK), made.plus(ID_SLACK)),
            };
            self.find_line(connection, attempt, from, until)
        })
    }

    /// The line of `attempt`, which was dispatched in one of these seconds or in one between.
    fn find_line(
        &self,
        connection: &Connection,
        attempt: AttemptId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Option<LedgerLine>, StoreError> {
        let mut found = None;
        each_block(connection, from, until, |_, block| {
            let place = block
                .lines
                .iter()
                .position(|line| line.attempt() == attempt);
            let Some(place) = place else {
                return Ok(Walk::On);
            };
            let mut known = KnownDims::default();
            let dims = known.get(connection, block.lines[place].dims)?;
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
        self.with_connection(|connection| {
            let (mut lines, mut known) = (Vec::new(), KnownDims::default());
            let (mut second, mut of_second) = (i64::MIN, 0);
            each_block(connection, from, until, |number, block| {
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
                        let dims = known.get(connection, line.dims)?;
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
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT attempt, started_at FROM unsettled_lines
                 ORDER BY attempt LIMIT $1 OFFSET $2",
            )?;
            let rows = statement.query_map([page.limit(), page.offset()], |row| {
                Ok((AttemptId::from_bytes(row.get(0)?), row.get(1)?))
            })?;
            let mut lines = Vec::new();
            for row in rows {
                let (attempt, started_at) = row?;
                let at = Timestamp::from_micros(started_at);
                lines.extend(self.find_line(connection, attempt, at, at)?);
            }
            Ok(lines)
        })
    }
}

/// Whether there is anything left to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    On,
    Stop,
}

/// Hands on the blocks of all seconds from that of `from` to that of `until`, by number.
pub(super) fn each_block(
    connection: &Connection,
    from: Timestamp,
    until: Timestamp,
    mut act: impl FnMut(i64, Block<'static>) -> Result<Walk, StoreError>,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, lines FROM ledger_lines WHERE id >= $1 AND id < $2 ORDER BY id",
    )?;
    let mut rows = statement.query([
        block_number(second_of(from), 0),
        block_number(second_of(until) + 1, 0),
    ])?;
    while let Some(row) = rows.next()? {
        if act(row.get(0)?, Block::of_column(row.get_ref(1)?)?)? == Walk::Stop {
            break;
        }
    }
    Ok(())
}

fn in_order(lines: &mut [LedgerLine]) {
    lines.sort_unstable_by_key(|line| (line.intent.at, line.intent.attempt));
}
