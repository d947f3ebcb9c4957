//! What a tenant was billed: documents that are written once and never changed. What is in them is
//! `control`'s business.

use base::Timestamp;

use super::{StoreError, TenantStore};
use crate::database::{Column, Database, DatabaseError, Row, Value, sql};

/// The column of documents.
pub(crate) const DOCUMENT: Column = "billing_documents.body";

/// A document: an invoice, a credit note, an adjustment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingDocument {
    /// Its name, unique in the tenant: `invoice/2026-10`.
    pub id: String,
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub body: Vec<u8>,
}

impl TenantStore<'_> {
    /// Keeps a document, unless there is one of its name: what is there stays as it is. Says
    /// whether it was kept. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn keep_billing_document(&self, document: &BillingDocument) -> Result<bool, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin()?;
            let kept = transaction.execute(
                sql!(
                    "INSERT INTO billing_documents ([tenant, ]id, at, body)
                     VALUES ([$T, ]$1, $2, $3) ON CONFLICT ([tenant, ]id) DO NOTHING"
                ),
                &[
                    Value::Text(&document.id),
                    Value::Int(document.at.as_micros()),
                    Value::Sealed(DOCUMENT, &document.body),
                ],
            )?;
            transaction.commit()?;
            Ok(kept > 0)
        })
    }

    /// The document of this name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn billing_document(&self, id: &str) -> Result<Option<BillingDocument>, StoreError> {
        self.with_database(|database| {
            Ok(database.row(
                sql!("SELECT id, at, body FROM billing_documents WHERE [tenant = $T AND ]id = $1"),
                &[Value::Text(id)],
                read,
            )?)
        })
    }

    /// The documents whose names begin with `prefix`, after the one named `after`, by name: `limit`
    /// at most.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn billing_documents(
        &self,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<BillingDocument>, StoreError> {
        self.with_database(|database| documents(database, prefix, after, limit))
    }
}

fn documents(
    database: &Database<'_>,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<BillingDocument>, StoreError> {
    database.rows(
        sql!(
            "SELECT id, at, body FROM billing_documents
             WHERE [tenant = $T AND ]substr(id, 1, $1) = $2 AND id > $3 ORDER BY id LIMIT $4"
        ),
        &[
            Value::Int(i64::try_from(prefix.len()).unwrap_or(i64::MAX)),
            Value::Text(prefix),
            Value::Text(after),
            Value::Int(limit.into()),
        ],
        |row| Ok(read(row)?),
    )
}

fn read(row: &Row<'_>) -> Result<BillingDocument, DatabaseError> {
    Ok(BillingDocument {
        id: row.text(0)?.to_owned(),
        at: Timestamp::from_micros(row.int(1)?),
        body: row.sealed(2, DOCUMENT)?.into_owned(),
    })
}
