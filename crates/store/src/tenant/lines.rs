//! A tenant's ledger lines, and the daily sums that are kept with them.

use base::{AttemptId, TenantId, Timestamp};
use ledger::{Hop, LedgerLine, LineState};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::usage::{DAY_MICROS, halves};
use super::{StoreError, TenantStore};
use crate::page::Page;

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

/// What a line adds to its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counted {
    requests: i64,
    calls: i64,
    unsettled: i64,
    input_tokens: i64,
    cached_tokens: i64,
    output_tokens: i64,
    cost_major: i64,
    cost_minor: i64,
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
        self.with_connection(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for line in lines {
                post(&transaction, self.keys.tenant(), line)?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// What is known of one call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn line(&self, attempt: AttemptId) -> Result<Option<LedgerLine>, StoreError> {
        self.with_connection(|connection| {
            let text: Option<String> = connection
                .prepare_cached("SELECT line FROM ledger_lines WHERE attempt = $1")?
                .query_row([attempt.to_string()], |row| row.get(0))
                .optional()?;
            text.as_deref().map(parse).transpose()
        })
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
        let after = after.map(|cursor| (cursor.started_at.as_micros(), cursor.attempt.to_string()));
        let (started_at, attempt) = after.unwrap_or((i64::MIN, String::new()));
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT line FROM ledger_lines
                 WHERE started_at >= $1 AND started_at < $2
                   AND (started_at > $3 OR (started_at = $3 AND attempt > $4))
                 ORDER BY started_at, attempt LIMIT $5",
            )?;
            let rows = statement.query_map(
                params![
                    from.as_micros().max(started_at),
                    until.as_micros(),
                    started_at,
                    attempt,
                    Page::new(0, limit).limit()
                ],
                text,
            )?;
            rows.map(|row| parse(&row?)).collect()
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
                "SELECT line FROM ledger_lines WHERE state = 'unsettled'
                 ORDER BY attempt LIMIT $1 OFFSET $2",
            )?;
            let rows = statement.query_map(params![page.limit(), page.offset()], text)?;
            rows.map(|row| parse(&row?)).collect()
        })
    }
}

fn text(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn parse(line: &str) -> Result<LedgerLine, StoreError> {
    serde_json::from_str(line).map_err(|_| StoreError::BadRow {
        table: "ledger_lines",
    })
}

fn post(connection: &Connection, tenant: TenantId, line: &LedgerLine) -> Result<(), StoreError> {
    if line.intent.tenant != tenant {
        return Err(StoreError::ForeignLine);
    }
    let attempt = line.intent.attempt.to_string();
    let before = connection
        .prepare_cached(
            "SELECT lsn, parent, state, input_tokens, cached_tokens, output_tokens,
                    cost_major, cost_minor
             FROM ledger_lines WHERE attempt = $1",
        )?
        .query_row([&attempt], |row| Ok((row.get::<_, i64>(0)?, stored(row)?)))
        .optional()?;
    let lsn = signed(line.lsn.number());
    if before.is_some_and(|(before, _)| before >= lsn) {
        return Ok(());
    }
    let now = counted(line);
    write_line(connection, &attempt, lsn, line, &now)?;
    let before = before.map_or(Counted::default(), |(_, before)| before);
    add_to_day(connection, line, &now.minus(&before))?;
    Ok(())
}

fn write_line(
    connection: &Connection,
    attempt: &str,
    lsn: i64,
    line: &LedgerLine,
    counted: &Counted,
) -> Result<(), StoreError> {
    let intent = &line.intent;
    let json = serde_json::to_string(line).map_err(|_| StoreError::BadRow {
        table: "ledger_lines",
    })?;
    connection
        .prepare_cached(
            "INSERT INTO ledger_lines
               (attempt, lsn, parent, team, user_id, key_id, feature, session, hop, model, state,
                input_tokens, cached_tokens, output_tokens, cost_major, cost_minor, started_at,
                day, line)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                     $18, $19)
             ON CONFLICT (attempt) DO UPDATE
             SET lsn = excluded.lsn, state = excluded.state,
                 input_tokens = excluded.input_tokens, cached_tokens = excluded.cached_tokens,
                 output_tokens = excluded.output_tokens, cost_major = excluded.cost_major,
                 cost_minor = excluded.cost_minor, line = excluded.line",
        )?
        .execute(params![
            attempt,
            lsn,
            or_empty(&intent.parent),
            or_empty(&intent.team),
            or_empty(&intent.user),
            intent.key.to_string(),
            intent.feature.as_str(),
            or_empty(&intent.session),
            hop_text(intent.hop),
            intent.model.as_str(),
            state_text(&line.state),
            counted.input_tokens,
            counted.cached_tokens,
            counted.output_tokens,
            counted.cost_major,
            counted.cost_minor,
            intent.at.as_micros(),
            intent.at.as_micros().div_euclid(DAY_MICROS),
            json,
        ])?;
    Ok(())
}

/// Adds to the day on which the call was dispatched: later news of it never moves it.
fn add_to_day(
    connection: &Connection,
    line: &LedgerLine,
    change: &Counted,
) -> rusqlite::Result<()> {
    let intent = &line.intent;
    connection
        .prepare_cached(
            "INSERT INTO usage_daily
               (day, team, user_id, key_id, feature, model, hop, requests, calls, unsettled,
                input_tokens, cached_tokens, output_tokens, cost_major, cost_minor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (day, team, user_id, key_id, feature, model, hop) DO UPDATE
             SET requests = usage_daily.requests + excluded.requests,
                 calls = usage_daily.calls + excluded.calls,
                 unsettled = usage_daily.unsettled + excluded.unsettled,
                 input_tokens = usage_daily.input_tokens + excluded.input_tokens,
                 cached_tokens = usage_daily.cached_tokens + excluded.cached_tokens,
                 output_tokens = usage_daily.output_tokens + excluded.output_tokens,
                 cost_major = usage_daily.cost_major + excluded.cost_major,
                 cost_minor = usage_daily.cost_minor + excluded.cost_minor",
        )?
        .execute(params![
            intent.at.as_micros().div_euclid(DAY_MICROS),
            or_empty(&intent.team),
            or_empty(&intent.user),
            intent.key.to_string(),
            intent.feature.as_str(),
            intent.model.as_str(),
            hop_text(intent.hop),
            change.requests,
            change.calls,
            change.unsettled,
            change.input_tokens,
            change.cached_tokens,
            change.output_tokens,
            change.cost_major,
            change.cost_minor,
        ])?;
    Ok(())
}

fn counted(line: &LedgerLine) -> Counted {
    let (cost_major, cost_minor) = halves(line.cost);
    Counted {
        requests: i64::from(line.intent.parent.is_none()),
        calls: 1,
        unsettled: i64::from(line.state == LineState::Unsettled),
        input_tokens: signed(line.consumption.input_tokens),
        cached_tokens: signed(line.consumption.cached_read_tokens),
        output_tokens: signed(line.consumption.output_tokens),
        cost_major,
        cost_minor,
    }
}

/// What a stored line added; the columns after the LSN.
fn stored(row: &Row<'_>) -> rusqlite::Result<Counted> {
    let parent: String = row.get(1)?;
    let state: String = row.get(2)?;
    Ok(Counted {
        requests: i64::from(parent.is_empty()),
        calls: 1,
        unsettled: i64::from(state == state_text(&LineState::Unsettled)),
        input_tokens: row.get(3)?,
        cached_tokens: row.get(4)?,
        output_tokens: row.get(5)?,
        cost_major: row.get(6)?,
        cost_minor: row.get(7)?,
    })
}

impl Counted {
    fn minus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests - other.requests,
            calls: self.calls - other.calls,
            unsettled: self.unsettled - other.unsettled,
            input_tokens: self.input_tokens - other.input_tokens,
            cached_tokens: self.cached_tokens - other.cached_tokens,
            output_tokens: self.output_tokens - other.output_tokens,
            cost_major: self.cost_major - other.cost_major,
            cost_minor: self.cost_minor - other.cost_minor,
        }
    }
}

fn or_empty<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

const fn hop_text(hop: Hop) -> &'static str {
    match hop {
        Hop::Embed => "embed",
        Hop::Rerank => "rerank",
        Hop::Generate => "generate",
        Hop::Guard => "guard",
        Hop::Judge => "judge",
    }
}

const fn state_text(state: &LineState) -> &'static str {
    match state {
        LineState::Settled { .. } => "settled",
        LineState::Released { .. } => "released",
        LineState::Unsettled => "unsettled",
        LineState::Reconciled => "reconciled",
    }
}
