//! The same idempotency key has one effect (invariant 9).

use std::time::Duration;

use base::Timestamp;

use super::{StoreError, TenantStore};
use crate::database::{Column, Database, DatabaseError, Value, sql};

/// 8 MiB: above every answer of a call that is not streamed.
const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The column of answers that are kept.
pub(crate) const RESPONSE: Column = "idempotency.response";

/// How long records are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyBounds {
    /// For how long an answer is replayed.
    pub kept_for: Duration,
    /// For how long a request may be under way. One that died holds its key for no longer.
    pub under_way_max: Duration,
    /// How many keys a tenant may have at a time.
    pub records_max: u32,
}

impl Default for IdempotencyBounds {
    fn default() -> Self {
        Self {
            kept_for: Duration::from_secs(24 * 3600),
            under_way_max: Duration::from_secs(15 * 60),
            records_max: 100_000,
        }
    }
}

/// An idempotency key and the request that came with it, as digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Of the key, with whatever it is unique within.
    pub key_hash: [u8; 32],
    /// Of the request's route and body.
    pub request_hash: [u8; 32],
}

/// What to do with a request that carries an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nobody has used the key: do it, and then [`TenantStore::finish_idempotent`].
    Fresh,
    /// It has been done: answer this. None if the answer was too long to keep.
    Replay(Option<Vec<u8>>),
    /// The key came with another request before.
    Conflict,
    /// The first request is still under way.
    InProgress,
}

/// Why a key was not taken up.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The tenant has as many keys as it may have.
    #[error("too many idempotency keys in use: the oldest expire within a day")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DatabaseError> for IdempotencyError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

impl TenantStore<'_> {
    /// Takes up `key`, or says who has. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`IdempotencyError`].
    pub fn begin_idempotent(
        &self,
        key: &IdempotencyKey,
        now: Timestamp,
        bounds: &IdempotencyBounds,
    ) -> Result<Begun, IdempotencyError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            if let Some(begun) = found(&transaction, key, now)? {
                return Ok(begun);
            }
            remove_expired(&transaction, now)?;
            let count = transaction.row(
                sql!("SELECT count(*) FROM idempotency[ WHERE tenant = $T]"),
                &[],
                |row| row.int(0),
            )?;
            if count.unwrap_or(0) >= i64::from(bounds.records_max) {
                return Err(IdempotencyError::TooMany);
            }
            transaction.execute(
                sql!(
                    "INSERT INTO idempotency
                       ([tenant, ]key_hash, request_hash, state, response, expires_at)
                     VALUES ([$T, ]$1, $2, 'under-way', NULL, $3)"
                ),
                &[
                    Value::Text(&hex(&key.key_hash)),
                    Value::Text(&hex(&key.request_hash)),
                    Value::Int(now.plus(bounds.under_way_max).as_micros()),
                ],
            )?;
            transaction.commit()?;
            Ok(Begun::Fresh)
        })
    }

    /// Keeps the answer to the request that [`TenantStore::begin_idempotent`] called fresh. An
    /// answer above 8 MiB is not kept; that it was given is. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn finish_idempotent(
        &self,
        key: &IdempotencyKey,
        response: &[u8],
        now: Timestamp,
        bounds: &IdempotencyBounds,
    ) -> Result<(), StoreError> {
        let kept = (response.len() <= RESPONSE_BYTES_MAX).then_some(response);
        let kept = match kept {
            Some(response) => Value::Sealed(RESPONSE, response),
            None => Value::Nothing,
        };
        self.with_database(|database| {
            // The record is there, unless it took longer than it may: then it is made again.
            database.execute(
                sql!(
                    "INSERT INTO idempotency
                       ([tenant, ]key_hash, request_hash, state, response, expires_at)
                     VALUES ([$T, ]$1, $2, 'done', $3, $4)
                     ON CONFLICT ([tenant, ]key_hash) DO UPDATE
                     SET state = 'done', response = excluded.response,
                         expires_at = excluded.expires_at
                     WHERE idempotency.request_hash = excluded.request_hash"
                ),
                &[
                    Value::Text(&hex(&key.key_hash)),
                    Value::Text(&hex(&key.request_hash)),
                    kept,
                    Value::Int(now.plus(bounds.kept_for).as_micros()),
                ],
            )?;
            Ok(())
        })
    }

    /// Gives up a key whose request had no effect, so that it can be tried again.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn abandon_idempotent(&self, key: &IdempotencyKey) -> Result<(), StoreError> {
        self.with_database(|database| {
            database.execute(
                sql!(
                    "DELETE FROM idempotency
                     WHERE [tenant = $T AND ]key_hash = $1 AND request_hash = $2
                       AND state = 'under-way'"
                ),
                &[
                    Value::Text(&hex(&key.key_hash)),
                    Value::Text(&hex(&key.request_hash)),
                ],
            )?;
            Ok(())
        })
    }

    /// Removes what has expired. Returns how many records did.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn expire_idempotent(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.with_database(|database| Ok(remove_expired(database, now)?))
    }
}

fn found(
    database: &Database<'_>,
    key: &IdempotencyKey,
    now: Timestamp,
) -> Result<Option<Begun>, DatabaseError> {
    database.row(
        sql!(
            "SELECT request_hash, state, response FROM idempotency
             WHERE [tenant = $T AND ]key_hash = $1 AND expires_at > $2"
        ),
        &[
            Value::Text(&hex(&key.key_hash)),
            Value::Int(now.as_micros()),
        ],
        |row| {
            Ok(if row.text(0)? != hex(&key.request_hash) {
                Begun::Conflict
            } else if row.text(1)? == "done" {
                Begun::Replay(row.optional_sealed(2, RESPONSE)?)
            } else {
                Begun::InProgress
            })
        },
    )
}

fn remove_expired(database: &Database<'_>, now: Timestamp) -> Result<u64, DatabaseError> {
    database.execute(
        sql!("DELETE FROM idempotency WHERE [tenant = $T AND ]expires_at <= $1"),
        &[Value::Int(now.as_micros())],
    )
}

fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    hash.iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all that is written to it");
            text
        })
}
