//! The register of numbered documents: invoices and credit notes. A number is taken together with
//! what it is for, in one transaction, so that none is left out and none is given twice. The
//! document is kept here, sealed by whoever made it, until its tenant's store has it.

use base::{TenantId, Timestamp};

use super::{Catalogue, CatalogueError};
use crate::database::{Database, DatabaseError, Row, Value, sql};

/// The column of documents that are not in their tenant's store yet.
pub(crate) const PENDING: &str = "billing_numbers.pending";

/// A number that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedDocument {
    /// In which series.
    pub series: String,
    /// Its number, from 1 on.
    pub number: u64,
    /// Its name in the tenant's store.
    pub document: String,
    /// Whose.
    pub tenant: String,
    /// When it was taken.
    pub at: Timestamp,
    /// A hash of what it says.
    pub digest: Vec<u8>,
    /// What it says, sealed; none once the tenant's store has it.
    pub pending: Option<Vec<u8>>,
}

impl Catalogue {
    /// Takes the next number of a series for a tenant's document, unless that has one. `write` is
    /// told the number, and returns the document's hash and the sealed document. Durable when this
    /// returns.
    ///
    /// # Errors
    ///
    /// Database errors, and whatever `write` reports; then no number is taken.
    pub fn take_number<E: From<CatalogueError>>(
        &self,
        (tenant, document): (TenantId, &str),
        series: &str,
        at: Timestamp,
        write: impl FnOnce(u64) -> Result<(Vec<u8>, Vec<u8>), E>,
    ) -> Result<NumberedDocument, E> {
        self.place.with(|database| {
            let of_database = |error| E::from(CatalogueError::from(error));
            let transaction = database.begin().map_err(of_database)?;
            let known = find(&transaction, tenant, document).map_err(of_database)?;
            if let Some(known) = known {
                return Ok(known);
            }
            let number = next_number(&transaction, series).map_err(of_database)?;
            let (digest, pending) = write(number)?;
            let taken = NumberedDocument {
                series: series.to_owned(),
                number,
                document: document.to_owned(),
                tenant: tenant.to_string(),
                at,
                digest,
                pending: Some(pending),
            };
            insert(&transaction, &taken).map_err(of_database)?;
            transaction.commit().map_err(of_database)?;
            Ok(taken)
        })
    }

    /// The number of a tenant's document.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn number_of(
        &self,
        tenant: TenantId,
        document: &str,
    ) -> Result<Option<NumberedDocument>, CatalogueError> {
        let found = |database: &Database<'_>| Ok(find(database, tenant, document)?);
        self.place.with(found)
    }

    /// A tenant's documents that its store may lack.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn pending_documents(
        &self,
        tenant: TenantId,
    ) -> Result<Vec<NumberedDocument>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT series, number, document, at, digest, pending, tenant FROM billing_numbers
                     WHERE tenant = $1 AND pending IS NOT NULL ORDER BY series, number"
                ),
                &[Value::Text(&tenant.to_string())],
                |row| Ok(read(row)?),
            )
        })
    }

    /// Notes that a tenant's store has a document: here its hash stays.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn document_is_kept(&self, document: &NumberedDocument) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            database.execute(
                sql!("UPDATE billing_numbers SET pending = NULL WHERE series = $1 AND number = $2"),
                &[
                    Value::Text(&document.series),
                    Value::Int(i64::try_from(document.number).unwrap_or(i64::MAX)),
                ],
            )?;
            Ok(())
        })
    }

    /// The numbers of a series that were taken, in their order, after the number `after`: `limit`
    /// at most.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn numbers(
        &self,
        series: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<NumberedDocument>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!(
                    "SELECT series, number, document, at, digest, pending, tenant FROM billing_numbers
                     WHERE series = $1 AND number > $2 ORDER BY number LIMIT $3"
                ),
                &[
                    Value::Text(series),
                    Value::Int(i64::try_from(after).unwrap_or(i64::MAX)),
                    Value::Int(limit.into()),
                ],
                |row| Ok(read(row)?),
            )
        })
    }
}

fn next_number(database: &Database<'_>, series: &str) -> Result<u64, DatabaseError> {
    let newest = database.row(
        sql!("SELECT max(number) FROM billing_numbers WHERE series = $1"),
        &[Value::Text(series)],
        |row| row.optional_int(0),
    )?;
    let newest = newest.flatten().unwrap_or(0);
    Ok(u64::try_from(newest).unwrap_or(0) + 1)
}

fn find(
    database: &Database<'_>,
    tenant: TenantId,
    document: &str,
) -> Result<Option<NumberedDocument>, DatabaseError> {
    database.row(
        sql!(
            "SELECT series, number, document, at, digest, pending, tenant FROM billing_numbers
             WHERE tenant = $1 AND document = $2"
        ),
        &[Value::Text(&tenant.to_string()), Value::Text(document)],
        read,
    )
}

fn insert(database: &Database<'_>, taken: &NumberedDocument) -> Result<(), DatabaseError> {
    let pending = match &taken.pending {
        Some(pending) => Value::Sealed(PENDING, pending),
        None => Value::Nothing,
    };
    database.execute(
        sql!(
            "INSERT INTO billing_numbers (series, number, tenant, document, at, digest, pending)
             VALUES ($1, $2, $3, $4, $5, $6, $7)"
        ),
        &[
            Value::Text(&taken.series),
            Value::Int(i64::try_from(taken.number).unwrap_or(i64::MAX)),
            Value::Text(&taken.tenant),
            Value::Text(&taken.document),
            Value::Int(taken.at.as_micros()),
            Value::Bytes(&taken.digest),
            pending,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<NumberedDocument, DatabaseError> {
    Ok(NumberedDocument {
        series: row.text(0)?.to_owned(),
        number: u64::try_from(row.int(1)?).unwrap_or(0),
        document: row.text(2)?.to_owned(),
        at: Timestamp::from_micros(row.int(3)?),
        digest: row.bytes(4)?.to_vec(),
        pending: row.optional_sealed(5, PENDING)?,
        tenant: row.text(6)?.to_owned(),
    })
}
