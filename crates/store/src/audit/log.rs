//! One log, over the connection of the database that it stands in.

use tenancy::AuditSigningKey;

use super::checkpoint::{AuditKey, Checkpoint, CheckpointError};
use super::{AuditEntry, ENTRY_BYTES_MAX};
use crate::catalogue::CatalogueError;
use crate::database::{Column, Database, DatabaseError, Sql, Value, sql};
use crate::merkle::{self, Hash, Nodes};
use crate::page::Page;
use crate::tenant::StoreError;

/// Who signs a log's checkpoints, and under which name.
#[derive(Debug)]
pub struct AuditSigner<'a> {
    origin: String,
    key: &'a AuditSigningKey,
}

impl<'a> AuditSigner<'a> {
    /// The signer of the platform's log. `installation` is its id as text.
    pub fn platform(installation: &str, key: &'a AuditSigningKey) -> Self {
        Self {
            origin: format!("partywall/{installation}/platform"),
            key,
        }
    }

    /// The signer of a tenant's log.
    pub fn tenant(installation: &str, tenant: base::TenantId, key: &'a AuditSigningKey) -> Self {
        Self {
            origin: format!("partywall/{installation}/{tenant}"),
            key,
        }
    }

    /// What a verifier needs.
    pub fn public_key(&self) -> AuditKey {
        AuditKey::new(&self.origin, self.key.public_key())
    }
}

/// Why a log was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// An entry is longer than one may be.
    #[error("an audit entry has at most {ENTRY_BYTES_MAX} bytes")]
    TooLong,
    /// There is no such entry or size.
    #[error("the log has {size} entries: there is no {wanted}")]
    OutOfRange {
        /// How many entries there are.
        size: u64,
        /// Which was asked for.
        wanted: u64,
    },
    /// The signed head does not fit the log: somebody changed the database.
    #[error("the audit log was changed: its last checkpoint does not verify")]
    Tampered(#[source] CheckpointError),
    /// A node of the tree is missing or has another length: somebody changed the database.
    #[error("the audit log was changed: node {position} of level {level} is missing")]
    MissingNode {
        /// Its level, from the leaves up.
        level: u32,
        /// Its place in the level.
        position: u64,
    },
    /// The tenant's store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalogue that it stands in cannot be read or written.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The database reported an error.
    #[error("the audit log cannot be read or written")]
    Database(#[from] DatabaseError),
}

/// One log. Made by [`TenantStore::with_audit`](crate::TenantStore::with_audit) and
/// [`Catalogue::with_audit`](crate::Catalogue::with_audit).
pub struct AuditLog<'a> {
    database: &'a Database<'a>,
    signer: &'a AuditSigner<'a>,
}

/// The column of entries.
pub(crate) const ENTRY: Column = "audit_entries.entry";

struct StoredNodes<'a, 'c>(&'a Database<'c>);

impl Nodes for StoredNodes<'_, '_> {
    type Error = AuditError;

    fn node(&self, level: u32, position: u64) -> Result<Hash, AuditError> {
        let found = self.0.row(
            sql!(
                "SELECT hash FROM audit_nodes WHERE [tenant = $T AND ]level = $1 AND position = $2"
            ),
            &[Value::Int(level.into()), Value::Int(number(position))],
            |row| Ok(row.bytes(0)?.to_vec()),
        )?;
        found
            .and_then(|hash| hash.try_into().ok())
            .ok_or(AuditError::MissingNode { level, position })
    }
}

impl<'a> AuditLog<'a> {
    pub(crate) fn new(database: &'a Database<'a>, signer: &'a AuditSigner<'a>) -> Self {
        Self { database, signer }
    }

    /// Appends `entry` and signs the new head. Durable when this returns.
    ///
    /// # Errors
    ///
    /// [`AuditError::TooLong`], [`AuditError::Tampered`] and database errors; then nothing was
    /// appended.
    pub fn append(&mut self, entry: &AuditEntry) -> Result<u64, AuditError> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Appends all of `entries` or none, with one signature. Returns the log's size.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::append`].
    pub fn append_all(&mut self, entries: &[AuditEntry]) -> Result<u64, AuditError> {
        let public = self.signer.public_key();
        let transaction = self.database.begin()?;
        let mut size = verified_head(&transaction, &public)?.map_or(0, |(_, head)| head.size);
        for entry in entries {
            append_leaf(&transaction, size, &entry.canonical_json())?;
            size += 1;
        }
        let head = Checkpoint {
            origin: self.signer.origin.clone(),
            size,
            root: merkle::root(&StoredNodes(&transaction), size)?,
        };
        transaction.execute(
            sql!(
                "INSERT INTO audit_head ([tenant, ]single, size, checkpoint)
                 VALUES ([$T, ]1, $1, $2)
                 ON CONFLICT ([tenant, ]single) DO UPDATE
                 SET size = excluded.size, checkpoint = excluded.checkpoint"
            ),
            &[
                Value::Int(number(size)),
                Value::Text(&head.sign(self.signer.key)),
            ],
        )?;
        transaction.commit()?;
        Ok(size)
    }

    /// The signed head, and the log's size and root as it states them. None for an empty log.
    ///
    /// # Errors
    ///
    /// [`AuditError::Tampered`] and database errors.
    pub fn head(&self) -> Result<Option<(String, Checkpoint)>, AuditError> {
        verified_head(self.database, &self.signer.public_key())
    }

    /// As [`AuditLog::head`]; the checkpoint is also kept, since somebody is going to hold it
    /// against us.
    ///
    /// # Errors
    ///
    /// As [`AuditLog::head`].
    pub fn give_out_checkpoint(&mut self) -> Result<Option<(String, Checkpoint)>, AuditError> {
        let head = self.head()?;
        if let Some((note, checkpoint)) = &head {
            self.database.execute(
                sql!(
                    "INSERT INTO audit_checkpoints ([tenant, ]size, checkpoint)
                     VALUES ([$T, ]$1, $2)
                     ON CONFLICT ([tenant, ]size) DO UPDATE SET checkpoint = excluded.checkpoint"
                ),
                &[Value::Int(number(checkpoint.size)), Value::Text(note)],
            )?;
        }
        Ok(head)
    }

    /// Entries in their order, with their places.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn entries(&self, page: Page) -> Result<Vec<(u64, String)>, AuditError> {
        self.page(
            sql!(
                "SELECT position, entry FROM audit_entries[ WHERE tenant = $T]
                 ORDER BY position LIMIT $1 OFFSET $2"
            ),
            page,
        )
    }

    /// Entries, the newest first, with their places.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn newest_entries(&self, page: Page) -> Result<Vec<(u64, String)>, AuditError> {
        self.page(
            sql!(
                "SELECT position, entry FROM audit_entries[ WHERE tenant = $T]
                 ORDER BY position DESC LIMIT $1 OFFSET $2"
            ),
            page,
        )
    }

    fn page(&self, entries: &'static Sql, page: Page) -> Result<Vec<(u64, String)>, AuditError> {
        let parameters = [Value::Int(page.limit()), Value::Int(page.offset())];
        self.database.rows(entries, &parameters, |row| {
            let entry = String::from_utf8(row.sealed(1, ENTRY)?.into_owned());
            let entry = entry.map_err(|_| DatabaseError::BadColumn { column: 1 })?;
            Ok((unsigned(row.int(0)?), entry))
        })
    }

    /// The checkpoints that were given out, by size.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn checkpoints(&self, page: Page) -> Result<Vec<(u64, String)>, AuditError> {
        self.database.rows(
            sql!(
                "SELECT size, checkpoint FROM audit_checkpoints[ WHERE tenant = $T]
                 ORDER BY size LIMIT $1 OFFSET $2"
            ),
            &[Value::Int(page.limit()), Value::Int(page.offset())],
            |row| Ok((unsigned(row.int(0)?), row.text(1)?.to_owned())),
        )
    }

    /// The proof that entry `position` is among the first `size`.
    ///
    /// # Errors
    ///
    /// [`AuditError::OutOfRange`] and database errors.
    pub fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Hash>, AuditError> {
        self.check_size(size)?;
        if position >= size {
            return Err(AuditError::OutOfRange {
                size,
                wanted: position,
            });
        }
        merkle::inclusion_proof(&StoredNodes(self.database), position, size)
    }

    /// The proof that the log at size `new` extends the log at size `old`.
    ///
    /// # Errors
    ///
    /// [`AuditError::OutOfRange`] and database errors.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, AuditError> {
        self.check_size(new)?;
        if old > new {
            return Err(AuditError::OutOfRange {
                size: new,
                wanted: old,
            });
        }
        merkle::consistency_proof(&StoredNodes(self.database), old, new)
    }

    pub(super) fn public_key(&self) -> AuditKey {
        self.signer.public_key()
    }

    fn check_size(&self, wanted: u64) -> Result<(), AuditError> {
        let size = self.head()?.map_or(0, |(_, head)| head.size);
        if wanted > size {
            return Err(AuditError::OutOfRange { size, wanted });
        }
        Ok(())
    }
}

fn append_leaf(database: &Database<'_>, position: u64, entry: &str) -> Result<(), AuditError> {
    if entry.len() > ENTRY_BYTES_MAX {
        return Err(AuditError::TooLong);
    }
    database.execute(
        sql!("INSERT INTO audit_entries ([tenant, ]position, entry) VALUES ([$T, ]$1, $2)"),
        &[
            Value::Int(number(position)),
            Value::Sealed(ENTRY, entry.as_bytes()),
        ],
    )?;
    let leaf = merkle::leaf_hash(entry.as_bytes());
    for (level, position, hash) in merkle::nodes_of_append(&StoredNodes(database), position, leaf)?
    {
        database.execute(
            sql!(
                "INSERT INTO audit_nodes ([tenant, ]level, position, hash)
                 VALUES ([$T, ]$1, $2, $3)"
            ),
            &[
                Value::Int(level.into()),
                Value::Int(number(position)),
                Value::Bytes(&hash),
            ],
        )?;
    }
    Ok(())
}

/// The signed head. It must verify, and its root must be the tree's: what does not is never
/// signed again, for that would make a forgery genuine.
fn verified_head(
    database: &Database<'_>,
    key: &AuditKey,
) -> Result<Option<(String, Checkpoint)>, AuditError> {
    let note = database.row(
        sql!("SELECT checkpoint FROM audit_head WHERE [tenant = $T AND ]single = 1"),
        &[],
        |row| Ok(row.text(0)?.to_owned()),
    )?;
    let Some(note) = note else {
        return Ok(None);
    };
    let head = Checkpoint::verify(&note, key).map_err(AuditError::Tampered)?;
    if merkle::root(&StoredNodes(database), head.size)? != head.root {
        return Err(AuditError::Tampered(CheckpointError::BadSignature));
    }
    Ok(Some((note, head)))
}

fn number(position: u64) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
