//! A tenant's ledger lines: how they are asked for, one by one.

use base::{AttemptId, Timestamp};
use ledger::LedgerLine;
use rusqlite::{OptionalExtension as _, params};

use super::{StoreError, TenantStore, posting, row};
use crate::page::Page;
use crate::sqlite::{self, PageCache};

/// 64 lines are a dozen pages, which is what the usual cache holds.
const LINES_PER_CACHE: usize = 64;

/// All that [`row::read`] reads.
macro_rules! line_query {
    ($which:literal) => {
        concat!(
            "SELECT started_at, attempt, lsn, session, body, team, user_id, key_id, feature, ",
            "model, hop FROM ledger_lines CROSS JOIN usage_dims ON usage_dims.id = dims ",
            $which
        )
    };
}

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

    /// What is known of one call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn line(&self, attempt: AttemptId) -> Result<Option<LedgerLine>, StoreError> {
        let tenant = self.keys.tenant();
        self.with_connection(|connection| {
            connection
                .prepare_cached(line_query!("WHERE attempt = $1"))?
                .query_row([attempt.to_bytes()], |row| Ok(row::read(tenant, row)))
                .optional()?
                .transpose()
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
        let after = after.map(|cursor| (cursor.started_at.as_micros(), cursor.attempt));
        let (started_at, attempt) = after.map_or((i64::MIN, Vec::new()), |(at, attempt)| {
            (at, attempt.to_bytes().to_vec())
        });
        let tenant = self.keys.tenant();
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(line_query!(
                "WHERE started_at >= $1 AND started_at < $2
                   AND (started_at > $3 OR (started_at = $3 AND attempt > $4))
                 ORDER BY started_at, attempt LIMIT $5"
            ))?;
            let rows = statement.query_map(
                params![
                    from.as_micros().max(started_at),
                    until.as_micros(),
                    started_at,
                    attempt,
                    Page::new(0, limit).limit()
                ],
                |row| Ok(row::read(tenant, row)),
            )?;
            rows.map(|row| row?).collect()
        })
    }

    /// Calls that stand at their upper bound until they are reconciled, the oldest attempts first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn unsettled_lines(&self, page: Page) -> Result<Vec<LedgerLine>, StoreError> {
        let tenant = self.keys.tenant();
        self.with_connection(|connection| {
            let mut statement = connection.prepare_cached(line_query!(
                "WHERE is_unsettled = 1 ORDER BY attempt LIMIT $1 OFFSET $2"
            ))?;
            let rows = statement.query_map(params![page.limit(), page.offset()], |row| {
                Ok(row::read(tenant, row))
            })?;
            rows.map(|row| row?).collect()
        })
    }
}
