//! Responses that a tenant may go on from (`store`, `previous_response_id`).

use std::time::Duration;

use base::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{StoreError, TenantStore};

/// A chain is followed back so far: longer conversations start anew.
const CHAIN_MAX: usize = 1_000;

/// How long responses are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub struct ResponseBounds {
    /// For how long one is kept after it was last gone on from.
    pub kept_for: Duration,
    /// How many a tenant may have; beyond it those go that would expire first.
    pub count_max: u64,
    /// How many bytes a tenant's may have in all; beyond it those go that would expire first.
    pub bytes_max: u64,
}

impl Default for ResponseBounds {
    fn default() -> Self {
        Self {
            // 30 days, as OpenAI keeps them.
            kept_for: Duration::from_secs(30 * 24 * 3600),
            count_max: 100_000,
            bytes_max: 1 << 30,
        }
    }
}

/// A response and what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its id.
    pub id: String,
    /// The response that it goes on from; empty if it begins a conversation.
    pub previous: String,
    /// The items of its own input, as a JSON array.
    pub input: Vec<u8>,
    /// The response, as its client got it.
    pub body: Vec<u8>,
}

/// A response and all that it goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseChain {
    /// The oldest first.
    Found(Vec<StoredResponse>),
    /// One of them is not there, or has expired.
    Absent,
    /// They are more than was asked for at most.
    TooLong,
}

impl StoredResponse {
    fn bytes(&self) -> u64 {
        (self.id.len() + self.previous.len() + self.input.len() + self.body.len()) as u64
    }
}

impl TenantStore<'_> {
    /// Keeps a response. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn keep_response(
        &self,
        response: &StoredResponse,
        now: Timestamp,
        bounds: &ResponseBounds,
    ) -> Result<(), StoreError> {
        self.with_connection(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            remove(
                &transaction,
                "DELETE FROM responses WHERE expires_at <= $1 RETURNING bytes",
                &[&now.as_micros()],
            )?;
            let bytes = response.bytes();
            while !has_room(&transaction, bytes, bounds)? {
                let removed = remove(
                    &transaction,
                    "DELETE FROM responses WHERE id IN
                       (SELECT id FROM responses ORDER BY expires_at, id LIMIT 16)
                     RETURNING bytes",
                    &[],
                )?;
                if removed == 0 {
                    break;
                }
            }
            transaction
                .prepare_cached(
                    "INSERT INTO responses (id, previous, expires_at, bytes, input, body)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )?
                .execute(params![
                    response.id,
                    response.previous,
                    now.plus(bounds.kept_for).as_micros(),
                    i64::try_from(bytes).unwrap_or(i64::MAX),
                    response.input,
                    response.body
                ])?;
            add_to_total(&transaction, 1, i64::try_from(bytes).unwrap_or(i64::MAX))?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// The response of this id; none if it is not there or has expired.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn response(&self, id: &str, now: Timestamp) -> Result<Option<StoredResponse>, StoreError> {
        self.with_connection(|connection| Ok(found(connection, id, now)?))
    }

    /// The response of this id and all that it goes on from, with no more than `bytes_max` in
    /// all; each is kept from now on as long as if it were new.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn response_chain(
        &self,
        id: &str,
        now: Timestamp,
        bytes_max: u64,
        bounds: &ResponseBounds,
    ) -> Result<ResponseChain, StoreError> {
        self.with_connection(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut chain = Vec::new();
            let mut bytes = 0;
            let mut next = id.to_owned();
            while !next.is_empty() {
                let Some(response) = found(&transaction, &next, now)? else {
                    return Ok(ResponseChain::Absent);
                };
                bytes += response.bytes();
                if bytes > bytes_max || chain.len() == CHAIN_MAX {
                    return Ok(ResponseChain::TooLong);
                }
                transaction
                    .prepare_cached("UPDATE responses SET expires_at = $1 WHERE id = $2")?
                    .execute(params![now.plus(bounds.kept_for).as_micros(), next])?;
                next.clone_from(&response.previous);
                chain.push(response);
            }
            transaction.commit()?;
            chain.reverse();
            Ok(ResponseChain::Found(chain))
        })
    }

    /// Removes a response. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_response(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.with_connection(|connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let removed = remove(
                &transaction,
                "DELETE FROM responses WHERE id = $1 AND expires_at > $2 RETURNING bytes",
                &[&id, &now.as_micros()],
            )?;
            transaction.commit()?;
            Ok(removed > 0)
        })
    }
}

fn found(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<StoredResponse>> {
    connection
        .prepare_cached(
            "SELECT id, previous, input, body FROM responses WHERE id = $1 AND expires_at > $2",
        )?
        .query_row(params![id, now.as_micros()], |row| {
            Ok(StoredResponse {
                id: row.get(0)?,
                previous: row.get(1)?,
                input: row.get(2)?,
                body: row.get(3)?,
            })
        })
        .optional()
}

/// Removes what a constant statement says, which returns the bytes of each. How many they were.
fn remove(
    connection: &Connection,
    statement: &'static str,
    parameters: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query(parameters)?;
    let (mut count, mut bytes) = (0_i64, 0_i64);
    while let Some(row) = rows.next()? {
        count += 1;
        bytes = bytes.saturating_add(row.get(0)?);
    }
    if count > 0 {
        add_to_total(connection, -count, -bytes)?;
    }
    Ok(count)
}

fn add_to_total(connection: &Connection, count: i64, bytes: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE responses_total SET count = count + $1, bytes = bytes + $2")?
        .execute([count, bytes])?;
    Ok(())
}

fn has_room(
    connection: &Connection,
    bytes: u64,
    bounds: &ResponseBounds,
) -> rusqlite::Result<bool> {
    let (count, kept): (i64, i64) = connection
        .prepare_cached("SELECT count, bytes FROM responses_total")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let count = u64::try_from(count).unwrap_or(0);
    let kept = u64::try_from(kept).unwrap_or(0);
    Ok(count < bounds.count_max && kept.saturating_add(bytes) <= bounds.bytes_max)
}
