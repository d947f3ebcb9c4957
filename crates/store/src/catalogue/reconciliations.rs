//! What providers' bills were compared with, on record.

use base::Timestamp;

use super::{Catalogue, CatalogueError};
use crate::database::{DatabaseError, Row, Value, sql};

/// The column of comparisons.
pub(crate) const BODY: &str = "reconciliations.body";

/// A comparison of a provider's bill with the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciliation {
    /// Its number, from 1 on.
    pub id: u64,
    /// When it was made.
    pub at: Timestamp,
    /// What it found, in the caller's own form.
    pub body: Vec<u8>,
}

impl Catalogue {
    /// Keeps a comparison, which is told its number. Durable when this returns.
    ///
    /// # Errors
    ///
    /// Database errors, and whatever `write` reports; then nothing is kept.
    pub fn keep_reconciliation<E: From<CatalogueError>>(
        &self,
        at: Timestamp,
        write: impl FnOnce(u64) -> Result<Vec<u8>, E>,
    ) -> Result<u64, E> {
        self.place.with(|database| {
            let of_database = |error| E::from(CatalogueError::from(error));
            let transaction = database.begin().map_err(of_database)?;
            let newest = transaction
                .row(sql!("SELECT max(id) FROM reconciliations"), &[], |row| {
                    row.optional_int(0)
                })
                .map_err(of_database)?;
            let id = newest.flatten().unwrap_or(0) + 1;
            let number = u64::try_from(id).unwrap_or(0);
            let body = write(number)?;
            transaction
                .execute(
                    sql!("INSERT INTO reconciliations (id, at, body) VALUES ($1, $2, $3)"),
                    &[
                        Value::Int(id),
                        Value::Int(at.as_micros()),
                        Value::Sealed(BODY, &body),
                    ],
                )
                .map_err(of_database)?;
            transaction.commit().map_err(of_database)?;
            Ok(number)
        })
    }

    /// The comparison of this number.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn reconciliation(&self, id: u64) -> Result<Option<Reconciliation>, CatalogueError> {
        self.place.with(|database| {
            Ok(database.row(
                sql!("SELECT id, at, body FROM reconciliations WHERE id = $1"),
                &[Value::Int(i64::try_from(id).unwrap_or(i64::MAX))],
                read,
            )?)
        })
    }

    /// The comparisons before the one of this number, the newest first: `limit` at most.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn reconciliations(
        &self,
        before: u64,
        limit: u32,
    ) -> Result<Vec<Reconciliation>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT id, at, body FROM reconciliations
                     WHERE id < $1 ORDER BY id DESC LIMIT $2"
                ),
                &[
                    Value::Int(i64::try_from(before).unwrap_or(i64::MAX)),
                    Value::Int(limit.into()),
                ],
                |row| Ok(read(row)?),
            )
        })
    }
}

fn read(row: &Row<'_>) -> Result<Reconciliation, DatabaseError> {
    Ok(Reconciliation {
        id: u64::try_from(row.int(0)?).unwrap_or(0),
        at: Timestamp::from_micros(row.int(1)?),
        body: row.sealed(2, BODY)?.into_owned(),
    })
}
