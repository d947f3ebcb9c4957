//! Lines go into a tenant's store, and with them what they add to their days.

use std::collections::HashMap;

use base::{KeyId, TeamId, UserId};
use ledger::{Hop, LedgerLine, LineState};
use rusqlite::{CachedStatement, Connection, Row, Transaction, TransactionBehavior, params};

use super::StoreError;
use super::row::{hop_text, write_body};
use super::usage::{DAY_MICROS, halves};

/// What lines add to a day.
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

/// What many lines have in common; a row of `usage_dims`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Dims<'a> {
    team: Option<TeamId>,
    user: Option<UserId>,
    key: KeyId,
    feature: &'a str,
    model: &'a str,
    hop: Hop,
}

/// One transaction's statements, and what it has learnt and is going to add.
struct Posting<'t, 'l> {
    transaction: &'t Connection,
    insert: CachedStatement<'t>,
    dims: HashMap<Dims<'l>, i64>,
    /// By UTC day and row of `usage_dims`.
    days: HashMap<(i64, i64), Counted>,
    body: Vec<u8>,
}

/// Posts all of `lines`, or none. They go in by time, as they stand in the file, so that each page
/// is written once.
pub(super) fn post_all(
    connection: &mut Connection,
    lines: &[LedgerLine],
) -> Result<(), StoreError> {
    let mut sorted: Vec<&LedgerLine> = lines.iter().collect();
    sorted.sort_unstable_by_key(|line| (line.intent.at, line.intent.attempt, line.lsn));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut posting = Posting::begin(&transaction)?;
    for line in sorted {
        posting.post(line)?;
    }
    posting.add_to_days()?;
    drop(posting);
    Ok(transaction.commit()?)
}

impl<'t, 'l> Posting<'t, 'l> {
    fn begin(transaction: &'t Transaction<'_>) -> Result<Self, StoreError> {
        let insert = transaction.prepare_cached(
            "INSERT INTO ledger_lines
               (started_at, attempt, lsn, dims, is_request, is_unsettled, session, input_tokens,
                cached_tokens, output_tokens, cost_major, cost_minor, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
             ON CONFLICT (started_at, attempt) DO NOTHING",
        )?;
        Ok(Self {
            transaction,
            insert,
            dims: HashMap::new(),
            days: HashMap::new(),
            body: Vec::new(),
        })
    }

    fn post(&mut self, line: &'l LedgerLine) -> Result<(), StoreError> {
        let intent = &line.intent;
        let dims = self.dims_of(line)?;
        let now = Counted::of(line);
        write_body(line, &mut self.body)?;
        let inserted = self.insert.execute(params![
            intent.at.as_micros(),
            intent.attempt.to_bytes(),
            signed(line.lsn.number()),
            dims,
            now.requests,
            now.unsettled,
            intent
                .session
                .as_ref()
                .map_or("", |session| session.as_str()),
            now.input_tokens,
            now.cached_tokens,
            now.output_tokens,
            now.cost_major,
            now.cost_minor,
            self.body,
        ])?;
        let change = match inserted {
            0 => self.replace(line, &now)?,
            _ => Some(now),
        };
        if let Some(change) = change {
            // The day on which the call was dispatched: later news of it never moves it.
            let day = intent.at.as_micros().div_euclid(DAY_MICROS);
            self.days.entry((day, dims)).or_default().add(&change);
        }
        Ok(())
    }

    /// Puts `line`, whose body is at hand, in the place of an earlier one of its attempt. Returns
    /// by how much they differ; none where the one that is there stays.
    fn replace(&self, line: &LedgerLine, now: &Counted) -> Result<Option<Counted>, StoreError> {
        let key = params![line.intent.at.as_micros(), line.intent.attempt.to_bytes()];
        let (lsn, before) = self
            .transaction
            .prepare_cached(
                "SELECT lsn, is_request, is_unsettled, input_tokens, cached_tokens,
                        output_tokens, cost_major, cost_minor
                 FROM ledger_lines WHERE started_at = $1 AND attempt = $2",
            )?
            .query_row(key, |row| {
                Ok((row.get::<_, i64>(0)?, Counted::stored(row)?))
            })?;
        if lsn >= signed(line.lsn.number()) {
            return Ok(None);
        }
        self.transaction
            .prepare_cached(
                "UPDATE ledger_lines
                 SET lsn = $1, is_unsettled = $2, input_tokens = $3, cached_tokens = $4,
                     output_tokens = $5, cost_major = $6, cost_minor = $7, body = $8
                 WHERE started_at = $9 AND attempt = $10",
            )?
            .execute(params![
                signed(line.lsn.number()),
                now.unsettled,
                now.input_tokens,
                now.cached_tokens,
                now.output_tokens,
                now.cost_major,
                now.cost_minor,
                self.body,
                line.intent.at.as_micros(),
                line.intent.attempt.to_bytes(),
            ])?;
        Ok(Some(now.minus(&before)))
    }

    /// The row of `usage_dims` for `line`.
    fn dims_of(&mut self, line: &'l LedgerLine) -> Result<i64, StoreError> {
        let intent = &line.intent;
        let dims = Dims {
            team: intent.team,
            user: intent.user,
            key: intent.key,
            feature: intent.feature.as_str(),
            model: intent.model.as_str(),
            hop: intent.hop,
        };
        if let Some(id) = self.dims.get(&dims) {
            return Ok(*id);
        }
        let columns = params![
            or_empty(&dims.team),
            or_empty(&dims.user),
            dims.key.to_string(),
            dims.feature,
            dims.model,
            hop_text(dims.hop),
        ];
        self.transaction
            .prepare_cached(
                "INSERT INTO usage_dims (team, user_id, key_id, feature, model, hop)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (team, user_id, key_id, feature, model, hop) DO NOTHING",
            )?
            .execute(columns)?;
        let id = self
            .transaction
            .prepare_cached(
                "SELECT id FROM usage_dims
                 WHERE team = $1 AND user_id = $2 AND key_id = $3 AND feature = $4
                   AND model = $5 AND hop = $6",
            )?
            .query_row(columns, |row| row.get(0))?;
        self.dims.insert(dims, id);
        Ok(id)
    }

    fn add_to_days(&self) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO usage_daily
               (day, dims, requests, calls, unsettled, input_tokens, cached_tokens,
                output_tokens, cost_major, cost_minor)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (day, dims) DO UPDATE
             SET requests = usage_daily.requests + excluded.requests,
                 calls = usage_daily.calls + excluded.calls,
                 unsettled = usage_daily.unsettled + excluded.unsettled,
                 input_tokens = usage_daily.input_tokens + excluded.input_tokens,
                 cached_tokens = usage_daily.cached_tokens + excluded.cached_tokens,
                 output_tokens = usage_daily.output_tokens + excluded.output_tokens,
                 cost_major = usage_daily.cost_major + excluded.cost_major,
                 cost_minor = usage_daily.cost_minor + excluded.cost_minor",
        )?;
        for ((day, dims), change) in &self.days {
            statement.execute(params![
                day,
                dims,
                change.requests,
                change.calls,
                change.unsettled,
                change.input_tokens,
                change.cached_tokens,
                change.output_tokens,
                change.cost_major,
                change.cost_minor,
            ])?;
        }
        Ok(())
    }
}

impl Counted {
    fn of(line: &LedgerLine) -> Self {
        let (cost_major, cost_minor) = halves(line.cost);
        Self {
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
    fn stored(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            requests: row.get(1)?,
            calls: 1,
            unsettled: row.get(2)?,
            input_tokens: row.get(3)?,
            cached_tokens: row.get(4)?,
            output_tokens: row.get(5)?,
            cost_major: row.get(6)?,
            cost_minor: row.get(7)?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.calls += other.calls;
        self.unsettled += other.unsettled;
        // One line may hold the most that a column can: no real one does.
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_major = self.cost_major.saturating_add(other.cost_major);
        self.cost_minor += other.cost_minor;
    }

    /// What replacing `other` by this adds.
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
