//! The platform's own database, `catalogue.db`: versioned resources, wrapped keys, settings and
//! the platform's audit log. What a resource's bytes mean is `control`'s business.

use std::path::Path;

use base::{TenantId, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use tenancy::PlacementKey;

use crate::audit::{AuditError, AuditLog, AuditSigner};
use crate::database::Database;
use crate::page::Page;
use crate::schema;
use crate::sqlite::{self, IfMissing, OpenError, PageCache};

/// The file's name in the data folder.
pub const CATALOGUE_FILE: &str = "catalogue.db";

/// One resource as it is, or was, at some version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What kind of thing it is: `tenant`, `key`, `tier`, …
    pub kind: String,
    /// The tenant it belongs to, as text; empty for the platform's own.
    pub tenant: String,
    /// Its name or id among those of its kind and tenant.
    pub name: String,
    /// The catalogue version that wrote it.
    pub version: u64,
    /// Its bytes.
    pub spec: Vec<u8>,
}

/// What becomes of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// As [`Resource::kind`].
    pub kind: String,
    /// As [`Resource::tenant`].
    pub tenant: String,
    /// As [`Resource::name`].
    pub name: String,
    /// The new bytes; none removes the resource.
    pub spec: Option<Vec<u8>>,
}

/// One state of a resource in its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The catalogue version that wrote it.
    pub version: u64,
    /// Its bytes from then on; none if it was removed.
    pub spec: Option<Vec<u8>>,
}

/// Who made a version of the catalogue, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The first is 1.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// Why, in the actor's words.
    pub note: String,
}

/// A tenant's key as the root key has wrapped it; opaque bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Whose.
    pub tenant: TenantId,
    /// The wrapped key, or two of them while a rotation is under way: the caller's own encoding.
    pub wrapped: Vec<u8>,
    /// Grows with each rotation.
    pub generation: u32,
}

/// Why a catalogue was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database reported an error.
    #[error("the catalogue cannot be read or written")]
    Database(#[from] rusqlite::Error),
    /// A tenant's id in the file is not one.
    #[error("the catalogue holds a key for `{tenant}`, which is no tenant's id")]
    BadTenant {
        /// What stands there.
        tenant: String,
    },
}

/// Why a commit did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed in between.
    #[error("the catalogue is at version {current}, not at the one that this change was made for")]
    Conflict {
        /// The version it has.
        current: u64,
    },
    /// The database reported an error.
    #[error("the catalogue cannot be written")]
    Database(#[from] rusqlite::Error),
}

/// The catalogue. One connection, which one caller at a time uses; all methods block.
#[derive(Debug)]
pub struct Catalogue {
    connection: Mutex<Connection>,
}

/// 64: below that the pages that a version touches are few.
const BULK_FROM: usize = 64;

impl Catalogue {
    /// Opens the catalogue in the data folder, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: a foreign file, another key, a newer version, an unwritable folder.
    pub fn open(folder: &Path, key: &PlacementKey) -> Result<Self, OpenError> {
        sqlite::create_folder(folder)?;
        let path = folder.join(CATALOGUE_FILE);
        let connection = sqlite::open(
            &path,
            key,
            IfMissing::Create,
            PageCache::Small,
            schema::CATALOGUE,
        )?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// The newest version; 0 before the first commit.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn current_version(&self) -> Result<u64, CatalogueError> {
        Ok(current_version(&self.lock())?)
    }

    /// All resources as they are now, and the version that this is.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn load_current(&self) -> Result<(u64, Vec<Resource>), CatalogueError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let version = current_version(&transaction)?;
        let resources = transaction
            .prepare_cached(
                "SELECT kind, tenant, name, version, spec FROM resources
                 WHERE superseded IS NULL AND spec IS NOT NULL",
            )?
            .query_map([], resource)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok((version, resources))
    }

    /// Hands on all resources as they are now, in parts of at most `part_max`: first the
    /// platform's own, then the tenants'. Returns the version that this is. For a catalogue that
    /// is too large to be in memory twice; it is locked meanwhile.
    ///
    /// # Errors
    ///
    /// Database errors, and whatever `take` reports, which ends it.
    pub fn read_current<E: From<CatalogueError>>(
        &self,
        part_max: usize,
        take: &mut dyn FnMut(Vec<Resource>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(CatalogueError::from)?;
        let version = current_version(&transaction).map_err(CatalogueError::from)?;
        for question in [
            "SELECT kind, tenant, name, version, spec FROM resources
             WHERE superseded IS NULL AND spec IS NOT NULL AND tenant = ''",
            "SELECT kind, tenant, name, version, spec FROM resources
             WHERE superseded IS NULL AND spec IS NOT NULL AND tenant <> ''",
        ] {
            let mut statement = transaction
                .prepare_cached(question)
                .map_err(CatalogueError::from)?;
            let mut rows = statement
                .query_map([], resource)
                .map_err(CatalogueError::from)?
                .peekable();
            while rows.peek().is_some() {
                let part = rows.by_ref().take(part_max.max(1));
                take(
                    part.collect::<rusqlite::Result<_>>()
                        .map_err(CatalogueError::from)?,
                )?;
            }
        }
        Ok(version)
    }

    /// All resources as they were at `version`.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn load_at(&self, version: u64) -> Result<Vec<Resource>, CatalogueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT kind, tenant, name, version, spec FROM resources
             WHERE version <= $1 AND (superseded IS NULL OR superseded > $1)
               AND spec IS NOT NULL",
        )?;
        let resources = statement.query_map([number(version)], resource)?;
        Ok(resources.collect::<rusqlite::Result<_>>()?)
    }

    /// Makes `changes` one version, all of them or none. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`CommitError::Conflict`] if the catalogue is not at `expected` any more.
    pub fn commit(
        &self,
        expected: u64,
        changes: &[ResourceChange],
        actor: &str,
        note: &str,
        at: Timestamp,
    ) -> Result<u64, CommitError> {
        let mut connection = self.lock();
        let is_bulk = changes.len() >= BULK_FROM;
        if is_bulk {
            sqlite::set_cache(&connection, PageCache::Bulk)?;
        }
        let committed = commit(&mut connection, expected, changes, (actor, note), at);
        if is_bulk {
            sqlite::set_cache(&connection, PageCache::Small)?;
        }
        committed
    }

    /// The versions, newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn versions(&self, page: Page) -> Result<Vec<Version>, CatalogueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT version, at, actor, note FROM versions
             ORDER BY version DESC LIMIT $1 OFFSET $2",
        )?;
        let versions = statement.query_map(params![page.limit(), page.offset()], |row| {
            Ok(Version {
                version: unsigned(row.get(0)?),
                at: Timestamp::from_micros(row.get(1)?),
                actor: row.get(2)?,
                note: row.get(3)?,
            })
        })?;
        Ok(versions.collect::<rusqlite::Result<_>>()?)
    }

    /// What one resource was, newest first.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn history(
        &self,
        kind: &str,
        tenant: &str,
        name: &str,
        page: Page,
    ) -> Result<Vec<HistoryEntry>, CatalogueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT version, spec FROM resources WHERE kind = $1 AND tenant = $2 AND name = $3
             ORDER BY version DESC LIMIT $4 OFFSET $5",
        )?;
        let entries = statement.query_map(
            params![kind, tenant, name, page.limit(), page.offset()],
            |row| {
                Ok(HistoryEntry {
                    version: unsigned(row.get(0)?),
                    spec: row.get(1)?,
                })
            },
        )?;
        Ok(entries.collect::<rusqlite::Result<_>>()?)
    }

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
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for key in keys {
            transaction
                .prepare_cached(
                    "INSERT INTO wrapped_keys (tenant, wrapped, generation) VALUES ($1, $2, $3)
                     ON CONFLICT (tenant) DO UPDATE
                     SET wrapped = excluded.wrapped, generation = excluded.generation",
                )?
                .execute(params![key.tenant.to_string(), key.wrapped, key.generation])?;
        }
        Ok(transaction.commit()?)
    }

    /// A tenant's wrapped key; none once it has been erased.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn key(&self, tenant: TenantId) -> Result<Option<StoredKey>, CatalogueError> {
        let connection = self.lock();
        let found = connection
            .prepare_cached("SELECT wrapped, generation FROM wrapped_keys WHERE tenant = $1")?
            .query_row([tenant.to_string()], |row| {
                Ok(StoredKey {
                    tenant,
                    wrapped: row.get(0)?,
                    generation: row.get(1)?,
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Every tenant's wrapped key.
    ///
    /// # Errors
    ///
    /// Database errors, and [`CatalogueError::BadTenant`].
    pub fn keys(&self) -> Result<Vec<StoredKey>, CatalogueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT tenant, wrapped, generation FROM wrapped_keys")?;
        let mut rows = statement.query([])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            let Ok(tenant) = text.parse() else {
                return Err(CatalogueError::BadTenant { tenant: text });
            };
            keys.push(StoredKey {
                tenant,
                wrapped: row.get(1)?,
                generation: row.get(2)?,
            });
        }
        Ok(keys)
    }

    /// Destroys a tenant's wrapped key, and with it whatever it encrypts. The page is
    /// overwritten, in the database and in its log. Says whether there was one.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn delete_key(&self, tenant: TenantId) -> Result<bool, CatalogueError> {
        let connection = self.lock();
        let deleted = connection.execute(
            "DELETE FROM wrapped_keys WHERE tenant = $1",
            [tenant.to_string()],
        )?;
        // Without this the old page would stay in the write-ahead log until it is overwritten.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(deleted > 0)
    }

    /// One of the platform's own values: the installation's id, sealed signing keys, …
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, CatalogueError> {
        let connection = self.lock();
        let found = connection
            .prepare_cached("SELECT value FROM settings WHERE name = $1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        Ok(found)
    }

    /// Keeps one of the platform's own values. Durable when this returns.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn put_setting(&self, name: &str, value: &[u8]) -> Result<(), CatalogueError> {
        self.lock().execute(
            "INSERT INTO settings (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            params![name, value],
        )?;
        Ok(())
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
        let connection = self.lock();
        act(&mut AuditLog::new(&Database::sqlite(&connection), signer))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock()
    }
}

fn commit(
    connection: &mut Connection,
    expected: u64,
    changes: &[ResourceChange],
    (actor, note): (&str, &str),
    at: Timestamp,
) -> Result<u64, CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let current = current_version(&transaction)?;
    if current != expected {
        return Err(CommitError::Conflict { current });
    }
    let version = current + 1;
    transaction.execute(
        "INSERT INTO versions (version, at, actor, note) VALUES ($1, $2, $3, $4)",
        params![number(version), at.as_micros(), actor, note],
    )?;
    for change in changes {
        write_change(&transaction, version, change)?;
    }
    transaction.commit()?;
    Ok(version)
}

fn write_change(
    connection: &Connection,
    version: u64,
    change: &ResourceChange,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE resources SET superseded = $1
             WHERE kind = $2 AND tenant = $3 AND name = $4 AND superseded IS NULL",
        )?
        .execute(params![
            number(version),
            change.kind,
            change.tenant,
            change.name
        ])?;
    // The last of several changes to one resource counts.
    connection
        .prepare_cached(
            "INSERT INTO resources (kind, tenant, name, version, spec)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (kind, tenant, name, version) DO UPDATE
             SET spec = excluded.spec, superseded = NULL",
        )?
        .execute(params![
            change.kind,
            change.tenant,
            change.name,
            number(version),
            change.spec
        ])?;
    Ok(())
}

fn current_version(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT max(version) FROM versions")?
        .query_row([], |row| {
            Ok(row.get::<_, Option<i64>>(0)?.map_or(0, unsigned))
        })
}

fn resource(row: &Row<'_>) -> rusqlite::Result<Resource> {
    Ok(Resource {
        kind: row.get(0)?,
        tenant: row.get(1)?,
        name: row.get(2)?,
        version: unsigned(row.get(3)?),
        spec: row.get(4)?,
    })
}

/// Databases count in signed numbers; versions never come near the difference.
fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
