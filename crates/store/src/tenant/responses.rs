//! Responses that a tenant may go on from (`store`, `previous_response_id`).

use std::time::Duration;

use base::Timestamp;

use super::{StoreError, TenantStore};
use crate::database::{Column, Database, DatabaseError, Sql, Value, sql};

/// A chain is followed back so far: longer conversations start anew.
const CHAIN_MAX: usize = 1_000;

/// The column of what responses answer.
pub(crate) const INPUT: Column = "responses.input";
/// The column of responses.
pub(crate) const BODY: Column = "responses.body";

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
        self.with_database(|database| {
            let transaction = database.begin()?;
            remove(
                &transaction,
                sql!(
                    "DELETE FROM responses WHERE [tenant = $T AND ]expires_at <= $1
                     RETURNING bytes"
                ),
                &[Value::Int(now.as_micros())],
            )?;
            let bytes = response.bytes();
            while !has_room(&transaction, bytes, bounds)? {
                let removed = remove(
                    &transaction,
                    sql!(
                        "DELETE FROM responses WHERE [tenant = $T AND ]id IN
                           (SELECT id FROM responses[ WHERE tenant = $T]
                            ORDER BY expires_at, id LIMIT 16)
                         RETURNING bytes"
                    ),
                    &[],
                )?;
                if removed == 0 {
                    break;
                }
            }
            transaction.execute(
                sql!(
                    "INSERT INTO responses
                       ([tenant, ]id, previous, expires_at, bytes, input, body)
                     VALUES ([$T, ]$1, $2, $3, $4, $5, $6)"
                ),
                &[
                    Value::Text(&response.id),
                    Value::Text(&response.previous),
                    Value::Int(now.plus(bounds.kept_for).as_micros()),
                    Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX)),
                    Value::Sealed(INPUT, &response.input),
                    Value::Sealed(BODY, &response.body),
                ],
            )?;
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
        self.with_database(|database| Ok(found(database, id, now)?))
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
        self.with_database(|database| {
            let transaction = database.begin()?;
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
                transaction.execute(
                    sql!("UPDATE responses SET expires_at = $1 WHERE [tenant = $T AND ]id = $2"),
                    &[
                        Value::Int(now.plus(bounds.kept_for).as_micros()),
                        Value::Text(&next),
                    ],
                )?;
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
        self.with_database(|database| {
            let transaction = database.begin()?;
            let removed = remove(
                &transaction,
                sql!(
                    "DELETE FROM responses
                     WHERE [tenant = $T AND ]id = $1 AND expires_at > $2 RETURNING bytes"
                ),
                &[Value::Text(id), Value::Int(now.as_micros())],
            )?;
            transaction.commit()?;
            Ok(removed > 0)
        })
    }
}

/// Removes responses that expire by then: so many at most. How many they were.
pub(super) fn forget(
    database: &Database<'_>,
    expired: Timestamp,
    count_max: u64,
) -> Result<u64, StoreError> {
    let transaction = database.begin()?;
    let removed = remove(
        &transaction,
        sql!(
            "DELETE FROM responses WHERE [tenant = $T AND ]id IN
               (SELECT id FROM responses WHERE [tenant = $T AND ]expires_at <= $1
                ORDER BY expires_at, id LIMIT $2)
             RETURNING bytes"
        ),
        &[
            Value::Int(expired.as_micros()),
            Value::Int(i64::try_from(count_max).unwrap_or(i64::MAX)),
        ],
    )?;
    transaction.commit()?;
    Ok(u64::try_from(removed).unwrap_or(0))
}

fn found(
    database: &Database<'_>,
    id: &str,
    now: Timestamp,
) -> Result<Option<StoredResponse>, DatabaseError> {
    database.row(
        sql!(
            "SELECT id, previous, input, body FROM responses
             WHERE [tenant = $T AND ]id = $1 AND expires_at > $2"
        ),
        &[Value::Text(id), Value::Int(now.as_micros())],
        |row| {
            Ok(StoredResponse {
                id: row.text(0)?.to_owned(),
                previous: row.text(1)?.to_owned(),
                input: row.sealed(2, INPUT)?.into_owned(),
                body: row.sealed(3, BODY)?.into_owned(),
            })
        },
    )
}

/// Removes what a statement says, which returns the bytes of each. How many they were.
fn remove(
    database: &Database<'_>,
    statement: &'static Sql,
    parameters: &[Value<'_>],
) -> Result<i64, DatabaseError> {
    let removed: Vec<i64> =
        database.rows::<_, DatabaseError>(statement, parameters, |row| row.int(0))?;
    let bytes = removed
        .iter()
        .fold(0_i64, |sum, bytes| sum.saturating_add(*bytes));
    let count = i64::try_from(removed.len()).unwrap_or(i64::MAX);
    if count > 0 {
        add_to_total(database, -count, -bytes)?;
    }
    Ok(count)
}

fn add_to_total(database: &Database<'_>, count: i64, bytes: i64) -> Result<(), DatabaseError> {
    database.execute(
        sql!(
            "INSERT INTO responses_total ([tenant, ]single, count, bytes)
             VALUES ([$T, ]1, $1, $2)
             ON CONFLICT ([tenant, ]single) DO UPDATE
             SET count = responses_total.count + excluded.count,
                 bytes = responses_total.bytes + excluded.bytes"
        ),
        &[Value::Int(count), Value::Int(bytes)],
    )?;
    Ok(())
}

fn has_room(
    database: &Database<'_>,
    bytes: u64,
    bounds: &ResponseBounds,
) -> Result<bool, DatabaseError> {
    let total = database.row(
        sql!("SELECT count, bytes FROM responses_total[ WHERE tenant = $T]"),
        &[],
        |row| Ok((row.int(0)?, row.int(1)?)),
    )?;
    let (count, kept) = total.unwrap_or((0, 0));
    let count = u64::try_from(count).unwrap_or(0);
    let kept = u64::try_from(kept).unwrap_or(0);
    Ok(count < bounds.count_max && kept.saturating_add(bytes) <= bounds.bytes_max)
}
