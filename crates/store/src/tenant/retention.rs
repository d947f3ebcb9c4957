//! What a store forgets with time: hours of usage, lines, and what clients had it keep. Days and months
//! of usage stay, and so do calls that are not settled.

use base::Timestamp;

use super::block::{block_number, second_of};
use super::calendar::Grain;
use super::responses::ResponseBounds;
use super::sums::{HOURS, KeptSince, LINES, keep_since};
use super::{StoreError, TenantStore, bodies, conversations, responses};
use crate::database::{Database, Sql, Value, sql};

/// 2,048 rows of a transaction: some 10 MB of lines, and a few milliseconds of those who wait.
const ROWS_PER_TRANSACTION: u64 = 2_048;
/// 16 of what clients sent, which may be megabytes each.
const LARGE_ROWS_PER_TRANSACTION: u64 = 16;

/// What of a store is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld {
    /// Hours of usage before then, rounded down to a UTC day.
    pub hours: Timestamp,
    /// Lines before then, rounded down to a UTC day; none where all are kept.
    pub lines: Option<Timestamp>,
    /// Responses that nobody has gone on from since then; those that have expired go anyway.
    pub responses: Option<Timestamp>,
    /// Conversations that were made before then; none where all are kept.
    pub conversations: Option<Timestamp>,
    /// What calls asked and were answered, up to then.
    pub bodies: Timestamp,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// So many rows.
    pub rows: u64,
    /// Whether nothing that is too old is left.
    pub is_done: bool,
}

impl TenantStore<'_> {
    /// Forgets what is too old, for good: about `rows_max` rows at most, in short transactions.
    /// From the first of them on, nothing is answered from lines or hours that are about to go.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then some of it is forgotten, and the rest the next time.
    pub fn forget(
        &self,
        too_old: &TooOld,
        now: Timestamp,
        rows_max: u64,
    ) -> Result<Forgotten, StoreError> {
        self.with_database(|database| {
            let kept = mark(database, too_old)?;
            let mut left = Left(rows_max);
            let is_done = forget_hours(database, kept, &mut left)?
                && forget_lines(database, kept, &mut left)?
                && forget_responses(database, too_old, now, &mut left)?
                && forget_conversations(database, too_old, &mut left)?
                && left.all_of(LARGE_ROWS_PER_TRANSACTION, |part| {
                    bodies::forget(database, too_old.bodies, part)
                })?;
            Ok(Forgotten {
                rows: rows_max - left.0,
                is_done,
            })
        })
    }
}

/// How many rows may still go.
struct Left(u64);

impl Left {
    /// Removes part by part while there is something to remove. Whether all of it is gone.
    fn all_of(
        &mut self,
        part_max: u64,
        mut remove: impl FnMut(u64) -> Result<u64, StoreError>,
    ) -> Result<bool, StoreError> {
        while self.0 > 0 {
            let part = part_max.min(self.0);
            let removed = remove(part)?;
            self.0 -= removed.min(self.0);
            if removed < part {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn midnight(at: Timestamp) -> Timestamp {
    Grain::Day.begins(Grain::Day.of(at))
}

/// Says from when on there is more than days and months, before anything goes.
fn mark(database: &Database<'_>, too_old: &TooOld) -> Result<KeptSince, StoreError> {
    let kept = KeptSince::read(database)?;
    let wanted = KeptSince {
        hours: kept.hours.max(midnight(too_old.hours)),
        lines: kept.lines.max(too_old.lines.map_or(kept.lines, midnight)),
    };
    if wanted == kept {
        return Ok(kept);
    }
    let transaction = database.begin()?;
    if wanted.hours > kept.hours {
        keep_since(&transaction, HOURS, wanted.hours)?;
    }
    if wanted.lines > kept.lines {
        keep_since(&transaction, LINES, wanted.lines)?;
    }
    transaction.commit()?;
    Ok(wanted)
}

fn remove(
    database: &Database<'_>,
    statement: &'static Sql,
    before: i64,
    part: u64,
) -> Result<u64, StoreError> {
    let part = i64::try_from(part).unwrap_or(i64::MAX);
    Ok(database.execute(statement, &[Value::Int(before), Value::Int(part)])?)
}

fn forget_hours(
    database: &Database<'_>,
    kept: KeptSince,
    left: &mut Left,
) -> Result<bool, StoreError> {
    let before = Grain::Hour.of(kept.hours);
    left.all_of(ROWS_PER_TRANSACTION, |part| {
        let statement = sql!(
            "DELETE FROM usage_sums
             WHERE [tenant = $T AND ]grain = 0
               AND (start, dims) IN (SELECT start, dims FROM usage_sums
                                     WHERE [tenant = $T AND ]grain = 0 AND start < $1
                                     ORDER BY start, dims LIMIT $2)"
        );
        remove(database, statement, before, part)
    })
}

fn forget_lines(
    database: &Database<'_>,
    kept: KeptSince,
    left: &mut Left,
) -> Result<bool, StoreError> {
    if kept.lines == Timestamp::from_micros(i64::MIN) {
        return Ok(true);
    }
    let before = block_number(second_of(kept.lines), 0);
    left.all_of(ROWS_PER_TRANSACTION, |part| {
        let statement = sql!(
            "DELETE FROM ledger_lines
             WHERE [tenant = $T AND ]id IN
               (SELECT id FROM ledger_lines
                WHERE [tenant = $T AND ]id < $1
                  AND (id / 1048576) NOT IN (SELECT started_at / 1000000
                                             FROM unsettled_lines[ WHERE tenant = $T])
                ORDER BY id LIMIT $2)"
        );
        remove(database, statement, before, part)
    })
}

fn forget_responses(
    database: &Database<'_>,
    too_old: &TooOld,
    now: Timestamp,
    left: &mut Left,
) -> Result<bool, StoreError> {
    // When one expires says when it was last gone on from.
    let kept_for = ResponseBounds::default().kept_for;
    let unused = too_old.responses.map(|since| since.plus(kept_for));
    let expired = unused.map_or(now, |unused| unused.max(now));
    left.all_of(LARGE_ROWS_PER_TRANSACTION, |part| {
        responses::forget(database, expired, part)
    })
}

fn forget_conversations(
    database: &Database<'_>,
    too_old: &TooOld,
    left: &mut Left,
) -> Result<bool, StoreError> {
    let Some(made_before) = too_old.conversations else {
        return Ok(true);
    };
    left.all_of(LARGE_ROWS_PER_TRANSACTION, |part| {
        conversations::forget(database, made_before, part)
    })
}
