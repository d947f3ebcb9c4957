//! What a tenant's calls asked and were answered, where the tenant has that kept: bounded, and for a
//! time.

use base::{RequestId, Timestamp};

use super::{StoreError, TenantStore};
use crate::database::{Column, Database, DatabaseError, Sql, Value, sql};

/// The column of what was asked.
pub(crate) const ASKED: Column = "call_bodies.asked";
/// The column of what was answered.
pub(crate) const ANSWERED: Column = "call_bodies.answered";

/// How much of a tenant's calls is kept.
#[derive(Debug, Clone, Copy)]
pub struct BodyBounds {
    /// So many calls; beyond it the oldest go.
    pub count_max: u64,
    /// So many bytes in all; beyond it the oldest go.
    pub bytes_max: u64,
}

impl Default for BodyBounds {
    fn default() -> Self {
        Self {
            count_max: 100_000,
            // 256 MiB: 20,000 calls of some 12 KiB, and a quarter of what responses may have.
            bytes_max: 256 << 20,
        }
    }
}

/// What of a body was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodyMarks {
    /// What was asked goes on beyond what is kept.
    pub asked_cut: bool,
    /// What was answered goes on beyond what is kept.
    pub answered_cut: bool,
    /// The answer broke off before its end.
    pub incomplete: bool,
}

/// What one request asked, and what it was answered. Both are JSON, or empty where nothing is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct CallBodies {
    /// The request.
    pub request: RequestId,
    /// When it was answered.
    pub at: Timestamp,
    /// What was asked.
    pub asked: Vec<u8>,
    /// What was answered.
    pub answered: Vec<u8>,
    /// What was left out.
    pub marks: BodyMarks,
}

impl std::fmt::Debug for CallBodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallBodies")
            .field("request", &self.request)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl CallBodies {
    /// So much of the tenant's bound it takes.
    pub fn bytes(&self) -> u64 {
        (self.asked.len() + self.answered.len()) as u64
    }
}

impl BodyMarks {
    fn to_bits(self) -> i64 {
        i64::from(self.asked_cut)
            | i64::from(self.answered_cut) << 1
            | i64::from(self.incomplete) << 2
    }

    fn of_bits(bits: i64) -> Self {
        Self {
            asked_cut: bits & 1 != 0,
            answered_cut: bits & 2 != 0,
            incomplete: bits & 4 != 0,
        }
    }
}

impl TenantStore<'_> {
    /// Keeps what some calls asked and were answered, in one transaction. What there is of the same
    /// request already is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then none of them is kept.
    pub fn keep_bodies(&self, all: &[CallBodies], bounds: &BodyBounds) -> Result<(), StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            for one in all {
                remove(
                    &transaction,
                    sql!(
                        "DELETE FROM call_bodies WHERE [tenant = $T AND ]request = $1
                         RETURNING bytes"
                    ),
                    &[Value::Text(&one.request.to_string())],
                )?;
                make_room(&transaction, one.bytes(), bounds)?;
                put(&transaction, one)?;
            }
            transaction.commit()?;
            Ok(())
        })
    }

    /// What a request asked and was answered, if that is kept and was answered after `since`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn bodies(
        &self,
        request: RequestId,
        since: Timestamp,
    ) -> Result<Option<CallBodies>, StoreError> {
        self.with_database(|database| {
            let found = database.row(
                sql!(
                    "SELECT at, marks, asked, answered FROM call_bodies
                     WHERE [tenant = $T AND ]request = $1 AND at > $2"
                ),
                &[
                    Value::Text(&request.to_string()),
                    Value::Int(since.as_micros()),
                ],
                |row| {
                    Ok(CallBodies {
                        request,
                        at: Timestamp::from_micros(row.int(0)?),
                        marks: BodyMarks::of_bits(row.int(1)?),
                        asked: row.sealed(2, ASKED)?.into_owned(),
                        answered: row.sealed(3, ANSWERED)?.into_owned(),
                    })
                },
            )?;
            Ok(found)
        })
    }

    /// Forgets what a request asked and was answered. Returns whether that was kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_bodies(&self, request: RequestId) -> Result<bool, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            let removed = remove(
                &transaction,
                sql!(
                    "DELETE FROM call_bodies WHERE [tenant = $T AND ]request = $1
                     RETURNING bytes"
                ),
                &[Value::Text(&request.to_string())],
            )?;
            transaction.commit()?;
            Ok(removed > 0)
        })
    }
}

/// Removes what was answered by then: so many at most. How many they were.
pub(super) fn forget(
    database: &Database<'_>,
    until: Timestamp,
    count_max: u64,
) -> Result<u64, StoreError> {
    let transaction = database.begin()?;
    let removed = remove(
        &transaction,
        sql!(
            "DELETE FROM call_bodies WHERE [tenant = $T AND ]request IN
               (SELECT request FROM call_bodies WHERE [tenant = $T AND ]at <= $1
                ORDER BY at, request LIMIT $2)
             RETURNING bytes"
        ),
        &[
            Value::Int(until.as_micros()),
            Value::Int(i64::try_from(count_max).unwrap_or(i64::MAX)),
        ],
    )?;
    transaction.commit()?;
    Ok(removed)
}

fn put(database: &Database<'_>, one: &CallBodies) -> Result<(), DatabaseError> {
    let bytes = i64::try_from(one.bytes()).unwrap_or(i64::MAX);
    database.execute(
        sql!(
            "INSERT INTO call_bodies ([tenant, ]request, at, bytes, marks, asked, answered)
             VALUES ([$T, ]$1, $2, $3, $4, $5, $6)"
        ),
        &[
            Value::Text(&one.request.to_string()),
            Value::Int(one.at.as_micros()),
            Value::Int(bytes),
            Value::Int(one.marks.to_bits()),
            Value::Sealed(ASKED, &one.asked),
            Value::Sealed(ANSWERED, &one.answered),
        ],
    )?;
    add_to_total(database, 1, bytes)
}

/// Removes the oldest until there is room for so many bytes more.
fn make_room(
    database: &Database<'_>,
    bytes: u64,
    bounds: &BodyBounds,
) -> Result<(), DatabaseError> {
    while !has_room(database, bytes, bounds)? {
        let removed = remove(
            database,
            sql!(
                "DELETE FROM call_bodies WHERE [tenant = $T AND ]request IN
                   (SELECT request FROM call_bodies[ WHERE tenant = $T]
                    ORDER BY at, request LIMIT 16)
                 RETURNING bytes"
            ),
            &[],
        )?;
        if removed == 0 {
            break;
        }
    }
    Ok(())
}

/// Removes what a statement says, which returns the bytes of each. How many they were.
fn remove(
    database: &Database<'_>,
    statement: &'static Sql,
    parameters: &[Value<'_>],
) -> Result<u64, DatabaseError> {
    let removed: Vec<i64> =
        database.rows::<_, DatabaseError>(statement, parameters, |row| row.int(0))?;
    let bytes = removed
        .iter()
        .fold(0_i64, |sum, bytes| sum.saturating_add(*bytes));
    if !removed.is_empty() {
        let count = i64::try_from(removed.len()).unwrap_or(i64::MAX);
        add_to_total(database, -count, -bytes)?;
    }
    Ok(removed.len() as u64)
}

fn add_to_total(database: &Database<'_>, count: i64, bytes: i64) -> Result<(), DatabaseError> {
    database.execute(
        sql!(
            "INSERT INTO call_bodies_total ([tenant, ]single, count, bytes)
             VALUES ([$T, ]1, $1, $2)
             ON CONFLICT ([tenant, ]single) DO UPDATE
             SET count = call_bodies_total.count + excluded.count,
                 bytes = call_bodies_total.bytes + excluded.bytes"
        ),
        &[Value::Int(count), Value::Int(bytes)],
    )?;
    Ok(())
}

fn has_room(
    database: &Database<'_>,
    bytes: u64,
    bounds: &BodyBounds,
) -> Result<bool, DatabaseError> {
    let total = database.row(
        sql!("SELECT count, bytes FROM call_bodies_total[ WHERE tenant = $T]"),
        &[],
        |row| Ok((row.int(0)?, row.int(1)?)),
    )?;
    let (count, kept) = total.unwrap_or((0, 0));
    let count = u64::try_from(count).unwrap_or(0);
    let kept = u64::try_from(kept).unwrap_or(0);
    Ok(count < bounds.count_max && kept.saturating_add(bytes) <= bounds.bytes_max)
}
