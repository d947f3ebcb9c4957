//! What the catalogue keeps besides resources: wrapped keys, settings, the platform's audit log.

use base::TenantId;

use super::{Catalogue, CatalogueError, StoredKey};
use crate::audit::{AuditError, AuditLog, AuditSigner};
use crate::database::{Database, DatabaseError, Value, sql};

/// The column of settings.
pub(crate) const VALUE: &str = "settings.value";

impl Catalogue {
    /// Keeps a tenant's wrapped key, in place of the one before. Durable when this returns.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn put_key(&self, key: &StoredKey) -> Result<(), CatalogueError> {
        self.put_keys(std::slice::from_ref(key))
    }

    /// Keeps all of these wrapped keys or none: for the rotation of the root key.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn put_keys(&self, keys: &[StoredKey]) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            for key in keys {
                transaction.execute(
                    sql!(
                        "INSERT INTO wrapped_keys (tenant, wrapped, generation)
                         VALUES ($1, $2, $3)
                         ON CONFLICT (tenant) DO UPDATE
                         SET wrapped = excluded.wrapped, generation = excluded.generation"
                    ),
                    &[
                        Value::Text(&key.tenant.to_string()),
                        Value::Bytes(&key.wrapped),
                        Value::Int(key.generation.into()),
                    ],
                )?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// A tenant's wrapped key; none once it has been erased.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn key(&self, tenant: TenantId) -> Result<Option<StoredKey>, CatalogueError> {
        self.place.with(|database| {
            let found = database.row(
                sql!("SELECT wrapped, generation FROM wrapped_keys WHERE tenant = $1"),
                &[Value::Text(&tenant.to_string())],
                |row| {
                    Ok(StoredKey {
                        tenant,
                        wrapped: row.bytes(0)?.to_vec(),
                        generation: generation(row.int(1)?)?,
                    })
                },
            )?;
            Ok(found)
        })
    }

    /// Every tenant's wrapped key.
    ///
    /// # Errors
    ///
    /// Database errors, and [`CatalogueError::BadTenant`].
    pub fn keys(&self) -> Result<Vec<StoredKey>, CatalogueError> {
        self.place.with(|database| {
            database.rows(
                sql!("SELECT tenant, wrapped, generation FROM wrapped_keys"),
                &[],
                |row| {
                    let text = row.text(0)?;
                    let Ok(tenant) = text.parse() else {
                        let tenant = text.to_owned();
                        return Err(CatalogueError::BadTenant { tenant });
                    };
                    Ok(StoredKey {
                        tenant,
                        wrapped: row.bytes(1)?.to_vec(),
                        generation: generation(row.int(2)?)?,
                    })
                },
            )
        })
    }

    /// Destroys a tenant's wrapped key, and with it whatever it encrypts. In a file the page is
    /// overwritten, in the database and in its log; on a server the row is vacuumed away. Says
    /// whether there was one.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn delete_key(&self, tenant: TenantId) -> Result<bool, CatalogueError> {
        self.place.with(|database| {
            let deleted = database.execute(
                sql!("DELETE FROM wrapped_keys WHERE tenant = $1"),
                &[Value::Text(&tenant.to_string())],
            )?;
            forget_deleted(database)?;
            Ok(deleted > 0)
        })
    }

    /// One of the platform's own values: sealed signing keys, what is under way, …
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.place.with(|database| {
            let found = database.row(
                sql!("SELECT value FROM settings WHERE name = $1"),
                &[Value::Text(name)],
                |row| Ok(row.sealed(0, VALUE)?.into_owned()),
            )?;
            Ok(found)
        })
    }

    /// Keeps one of the platform's own values. Durable when this returns.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn put_setting(&self, name: &str, value: &[u8]) -> Result<(), CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            transaction.execute(
                sql!(
                    "INSERT INTO settings (name, value) VALUES ($1, $2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value"
                ),
                &[Value::Text(name), Value::Sealed(VALUE, value)],
            )?;
            transaction.execute(
                sql!(
                    "INSERT INTO feed (single, generation) VALUES (1, 1)
                     ON CONFLICT (single) DO UPDATE SET generation = feed.generation + 1"
                ),
                &[],
            )?;
            transaction.announce()?;
            Ok(transaction.commit()?)
        })
    }

    /// Keeps one of the platform's own values, unless there is one. Says what is kept now.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn setting_or_insert(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, CatalogueError> {
        self.place.with(|database| {
            let transaction = database.begin()?;
            transaction.execute(
                sql!(
                    "INSERT INTO settings (name, value) VALUES ($1, $2)
                     ON CONFLICT (name) DO NOTHING"
                ),
                &[Value::Text(name), Value::Sealed(VALUE, value)],
            )?;
            let kept = transaction.row(
                sql!("SELECT value FROM settings WHERE name = $1"),
                &[Value::Text(name)],
                |row| Ok(row.sealed(0, VALUE)?.into_owned()),
            )?;
            transaction.commit()?;
            Ok(kept.unwrap_or_default())
        })
    }

    /// The platform's audit log, for the time of one action.
    ///
    /// # Errors
    ///
    /// Whatever `act` reports.
    pub fn with_audit<T>(
        &self,
        signer: &AuditSigner<'_>,
        act: impl FnOnce(&mut AuditLog<'_>) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        self.place
            .with(|database| act(&mut AuditLog::new(database, signer)))
    }
}

/// Whatever was deleted is not to be found in what the database keeps.
fn forget_deleted(database: &Database<'_>) -> Result<(), DatabaseError> {
    match database.as_sqlite() {
        // Without this the old page would stay in the write-ahead log until it is overwritten.
        Some(connection) => {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(())
        }
        None => database.run_alone("VACUUM wrapped_keys"),
    }
}

fn generation(number: i64) -> Result<u32, DatabaseError> {
    u32::try_from(number).map_err(|_| DatabaseError::BadColumn { column: 1 })
}
