//! One tenant's store as a file that is kept elsewhere, and back.
//!
//! A backup is one state of the store, in rows: what placement it comes from does not matter, and
//! neither does the one that it goes to. It is sealed under a key that derives from the tenant's,
//! so that it is lost with that: whoever erases a tenant has erased its backups.
//!
//! A backup goes back in one transaction, under the store's lock: before it commits, each table
//! is compared with what the backup says of it. A crash leaves what was there before.

mod archive;
#[cfg(test)]
mod older;
mod rows;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use base::Entropy;
use serde::{Deserialize, Serialize};
use tenancy::{TenantKeys, TenantScope};

pub use archive::BackupHeader;
use archive::{Chunk, FORMAT, Opener, Sealer};
use rows::Rows;

use super::copying::{Adding, Content, TABLES, Table};
use super::{Open, Stores};
use crate::database::{Database, DatabaseError, OwnedValue};
use crate::postgres::ServerError;
use crate::schema;
use crate::sqlite::OpenError;
use crate::tenant::StoreError;

/// 1 MiB: large enough that sealing costs little, small enough to hold.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a store was not backed up, or a backup not restored. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is something else.
    #[error("this is no backup of a tenant's store")]
    NoBackup,
    /// A later program wrote it.
    #[error(
        "the backup has format {found}, and this program knows up to {FORMAT}: use the version that took it"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// A later program took it.
    #[error(
        "the backup has schema {found} of a store, and this program knows up to {}: restore it with the version that took it",
        schema::TENANT.newest()
    )]
    NewerSchema {
        /// Its schema.
        found: u32,
    },
    /// It belongs to somebody else.
    #[error("the backup is {tenant}'s, and goes back there alone")]
    AnotherTenants {
        /// Whose it is.
        tenant: base::TenantId,
    },
    /// The key was rotated twice since, or is another's.
    #[error(
        "the backup is sealed under generation {generation} of the tenant's key, which is gone: a backup opens under the current key and the one before"
    )]
    KeyGone {
        /// The generation.
        generation: u32,
    },
    /// It was cut off or changed.
    #[error("the backup is damaged: it is cut off, or was changed")]
    Damaged,
    /// Rows did not come back as they were.
    #[error("the rows of {table} are not what the backup says of them")]
    Different {
        /// The table.
        table: &'static str,
    },
    /// A row is larger than any row may be.
    #[error("a row of the store is too large for a backup")]
    RowTooLarge,
    /// There is more in the store than in the backup.
    #[error(
        "the store has ledger lines, invoices or audit entries that the backup lacks, and they would be lost: restore what clients have stored alone (`content`)"
    )]
    StoreIsNewer,
    /// The store is there and does not open.
    #[error(
        "the tenant's store is there and cannot be read; `replace_damaged` puts the backup in its place"
    )]
    StoreDamaged {
        /// Why it does not open.
        #[source]
        source: Box<StoreError>,
    },
    /// The store is being moved.
    #[error("the tenant's store is being moved: restore it when it is there")]
    Moving,
    /// The file cannot be read or written.
    #[error("the backup cannot be read or written")]
    Io(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DatabaseError> for BackupError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

/// How much a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// What it is.
    pub header: BackupHeader,
    /// Rows of all tables.
    pub rows: u64,
    /// The bytes in them.
    pub bytes: u64,
}

/// What is to come back of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreWhat {
    /// All of it: for a store that is lost. One that has more than the backup is left alone.
    Everything,
    /// Stored responses and conversations: they are then what they were. Ledger lines, sums,
    /// idempotency keys and the audit log stay.
    Content,
}

/// What to do with a store that is there and does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfDamaged {
    /// Nothing is done.
    Refuse,
    /// It is removed, and the backup takes its place.
    Replace,
}

/// What clients have stored.
const CONTENT: [&str; 5] = [
    "responses",
    "responses_total",
    "conversations",
    "conversation_items",
    "conversations_total",
];

/// What a backup says of a table, at its end.
#[derive(Serialize, Deserialize)]
struct Told {
    rows: u64,
    bytes: u64,
    digest: [u8; 32],
}

/// What a backup holds, once it has been read to its end.
struct Checked {
    backed_up: BackedUp,
    contents: BTreeMap<&'static str, Content>,
    marks: Marks,
}

/// How far a store's journals and its audit log have come.
#[derive(Default)]
struct Marks {
    /// Up to which LSN of each replica's journal lines are here.
    posted: BTreeMap<String, i64>,
    audit_entries: i64,
    /// Invoices, credit notes and adjustments: none is ever taken back.
    billing_documents: usize,
}

impl Stores {
    /// Writes one state of the scope's store to `to`, sealed. The tenant is served meanwhile.
    /// Blocks, for as long as the store is large.
    ///
    /// # Errors
    ///
    /// [`BackupError`]: then `to` is no backup.
    pub fn back_up(
        &self,
        scope: &TenantScope,
        to: impl Write,
        entropy: &dyn Entropy,
    ) -> Result<BackedUp, BackupError> {
        let keys = scope.keys();
        self.on_snapshot(keys, |store| {
            let header = BackupHeader {
                format: FORMAT,
                id: format!("{:032x}", {
                    let mut id = [0; 16];
                    entropy.fill(&mut id);
                    u128::from_be_bytes(id)
                }),
                tenant: keys.tenant(),
                key_generation: keys.generation(),
                schema: schema::TENANT.newest(),
                taken_at: self.inner.clock.now(),
            };
            write_tables(store, header, to, keys, entropy)
        })
    }

    /// Reads a backup of the scope's tenant to its end: whether it is whole, opens, and holds what it
    /// says.
    ///
    /// # Errors
    ///
    /// [`BackupError`]: what is wrong with it.
    pub fn check_backup(
        &self,
        scope: &TenantScope,
        from: impl Read,
    ) -> Result<BackedUp, BackupError> {
        check(scope.keys(), from).map(|checked| checked.backed_up)
    }

    /// Puts a backup of the scope's tenant in place of what is in its store. The tenant's calls go
    /// on; what asks the store waits meanwhile. Blocks.
    ///
    /// # Errors
    ///
    /// [`BackupError`]: then the store is as it was.
    pub fn restore(
        &self,
        scope: &TenantScope,
        mut from: impl Read + Seek,
        what: RestoreWhat,
        if_damaged: IfDamaged,
    ) -> Result<BackedUp, BackupError> {
        let keys = scope.keys();
        let checked = check(keys, &mut from)?;
        from.rewind()?;
        let slot = self.slot(keys.tenant());
        let mut open = slot.open.lock();
        if slot.is_moving.load(std::sync::atomic::Ordering::Acquire) {
            return Err(BackupError::Moving);
        }
        if what == RestoreWhat::Everything {
            self.make_room(&mut open, keys, if_damaged)?;
        }
        match self.place_of(keys.tenant()) {
            Some(place) => place.with_database(&mut open, keys, |store| {
                put_back(store, keys, &mut from, what, &checked)
            })?,
            None => self.with_file(&mut open, keys, |store| {
                put_back(store, keys, &mut from, what, &checked)
            })?,
        }
        Ok(checked.backed_up)
    }

    /// Makes the store if it is not there, and anew if it is damaged and may be replaced.
    fn make_room(
        &self,
        open: &mut Open,
        keys: &Arc<TenantKeys>,
        if_damaged: IfDamaged,
    ) -> Result<(), BackupError> {
        let place = self.place_of(keys.tenant());
        let looked_at = match &place {
            Some(place) => place.with_database(open, keys, |store| Marks::of(store).map(drop)),
            None => self.with_file(open, keys, |store| Marks::of(store).map(drop)),
        };
        match looked_at {
            Ok(()) => return Ok(()),
            Err(StoreError::Open(OpenError::NotFound { .. }))
            | Err(StoreError::Server(ServerError::NoStore { .. })) => {}
            Err(source) if !is_damage(&source) => return Err(source.into()),
            Err(source) => {
                if if_damaged == IfDamaged::Refuse {
                    return Err(BackupError::StoreDamaged {
                        source: Box::new(source),
                    });
                }
                match &place {
                    Some(place) => place.remove(open, keys.tenant())?,
                    None => self.remove_file(open, keys.tenant())?,
                }
            }
        }
        match &place {
            Some(place) => place.provision(open, keys)?,
            None => self.provision_file(open, keys)?,
        }
        Ok(())
    }

    /// Reads one state of a store, on a connection of its own.
    fn on_snapshot<T>(
        &self,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        match self.place_of(keys.tenant()) {
            Some(place) => place.on_snapshot(keys, act),
            None => self.on_file_snapshot(keys, act),
        }
    }
}

/// Whether a store is there, and is not what it should be. A server that cannot be reached is none
/// of that.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Open(error) => matches!(
            error,
            OpenError::WrongKey { .. } | OpenError::NotPartywall { .. }
        ),
        StoreError::Database(error) => match error {
            DatabaseError::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
            ),
            DatabaseError::Sealed { .. } | DatabaseError::BadColumn { .. } => true,
            DatabaseError::Postgres(_)
            | DatabaseError::TimedOut { .. }
            | DatabaseError::Elsewhere
            | DatabaseError::NoStore => false,
        },
        _ => false,
    }
}

/// Writes a backup of the tables that the header's step of the schema has.
fn write_tables(
    store: &Database<'_>,
    header: BackupHeader,
    to: impl Write,
    keys: &Arc<TenantKeys>,
    entropy: &dyn Entropy,
) -> Result<BackedUp, BackupError> {
    let mut sealer = Sealer::begin(to, &header, keys, entropy)?;
    let mut told = BTreeMap::new();
    let (mut rows, mut bytes) = (0, 0);
    for table in TABLES.iter().filter(|table| table.since <= header.schema) {
        let content = write_table(store, table, &mut sealer)?;
        rows += content.rows;
        bytes += content.bytes;
        told.insert(table.name, Told::of(&content));
    }
    let end = serde_json::to_vec(&told).expect("what is told of tables is plain JSON");
    sealer.chunk(Chunk::Last, &end)?;
    sealer.finish()?;
    Ok(BackedUp {
        header,
        rows,
        bytes,
    })
}

fn write_table<W: Write>(
    store: &Database<'_>,
    table: &'static Table,
    sealer: &mut Sealer<'_, W>,
) -> Result<Content, BackupError> {
    let mut adding = Adding::new();
    let mut chunk = Vec::new();
    rows::begin(table, &mut chunk);
    let empty = chunk.len();
    // The walk speaks of the store's errors alone: the file's are kept for its end.
    let mut failed = None;
    table.each_page(store, |page| {
        adding.add(page);
        for row in page {
            rows::write(row, &mut chunk);
            if chunk.len() >= CHUNK_BYTES && failed.is_none() {
                failed = sealer.chunk(Chunk::Rows, &chunk).err();
                rows::begin(table, &mut chunk);
            }
        }
        Ok(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if chunk.len() > empty {
        sealer.chunk(Chunk::Rows, &chunk)?;
    }
    Ok(adding.content())
}

/// Hands on all rows of a backup, a chunk at a time, and gives back what it says of its tables.
fn read_rows(
    keys: &Arc<TenantKeys>,
    from: impl Read,
    mut act: impl FnMut(&'static Table, Vec<Vec<OwnedValue>>) -> Result<(), BackupError>,
) -> Result<(BackupHeader, BTreeMap<String, Told>), BackupError> {
    let (mut opener, header) = Opener::open(from, keys)?;
    if header.schema > schema::TENANT.newest() {
        return Err(BackupError::NewerSchema {
            found: header.schema,
        });
    }
    loop {
        let (kind, chunk) = opener.chunk()?;
        if kind == Chunk::Last {
            let told = serde_json::from_slice(&chunk).map_err(|_| BackupError::Damaged)?;
            return Ok((header, told));
        }
        let (name, mut rows) = Rows::read(&chunk)?;
        let is_meant = |table: &&Table| table.name == name && table.since <= header.schema;
        let table = TABLES.iter().find(is_meant);
        let table = table.ok_or(BackupError::Damaged)?;
        let mut read = Vec::new();
        while let Some(row) = rows.next(table)? {
            read.push(row);
        }
        act(table, read)?;
    }
}

fn check(keys: &Arc<TenantKeys>, from: impl Read) -> Result<Checked, BackupError> {
    let mut adding: BTreeMap<&'static str, Adding> = TABLES
        .iter()
        .map(|table| (table.name, Adding::new()))
        .collect();
    let mut marks = Marks::default();
    let (header, told) = read_rows(keys, from, |table, rows| {
        marks.note(table, &rows);
        if let Some(adding) = adding.get_mut(table.name) {
            adding.add(&rows);
        }
        Ok(())
    })?;
    let mut backed_up = BackedUp {
        header: header.clone(),
        rows: 0,
        bytes: 0,
    };
    let mut contents = BTreeMap::new();
    for table in &TABLES {
        let content = adding.remove(table.name).expect("it was begun").content();
        // A table that a later step made has no rows in a backup from before.
        if table.since <= header.schema {
            let told = told.get(table.name).ok_or(BackupError::Damaged)?;
            if told.content() != content {
                return Err(BackupError::Different { table: table.name });
            }
        }
        backed_up.rows += content.rows;
        backed_up.bytes += content.bytes;
        contents.insert(table.name, content);
    }
    Ok(Checked {
        backed_up,
        contents,
        marks,
    })
}

fn put_back(
    store: &Database<'_>,
    keys: &Arc<TenantKeys>,
    from: &mut impl Read,
    what: RestoreWhat,
    checked: &Checked,
) -> Result<(), BackupError> {
    let is_meant = |table: &Table| match what {
        RestoreWhat::Everything => true,
        RestoreWhat::Content => CONTENT.contains(&table.name),
    };
    let transaction = store.begin()?;
    if what == RestoreWhat::Everything && Marks::of(&transaction)?.is_beyond(&checked.marks) {
        return Err(BackupError::StoreIsNewer);
    }
    for table in TABLES.iter().rev().filter(|table| is_meant(table)) {
        table.clear(&transaction)?;
    }
    read_rows(keys, from, |table, rows| {
        if is_meant(table) {
            table.put(&transaction, &rows)?;
        }
        Ok(())
    })?;
    for table in TABLES.iter().filter(|table| is_meant(table)) {
        let expected = checked.contents.get(table.name);
        if expected != Some(&table.content(&transaction)?) {
            return Err(BackupError::Different { table: table.name });
        }
    }
    Ok(transaction.commit()?)
}

impl Told {
    fn of(content: &Content) -> Self {
        Self {
            rows: content.rows,
            bytes: content.bytes,
            digest: content.digest,
        }
    }

    fn content(&self) -> Content {
        Content {
            rows: self.rows,
            bytes: self.bytes,
            digest: self.digest,
        }
    }
}

impl Marks {
    fn of(store: &Database<'_>) -> Result<Self, StoreError> {
        let mut marks = Self::default();
        for table in TABLES.iter().filter(|table| Self::is_told_by(table)) {
            table.each_page(store, |rows| {
                marks.note(table, rows);
                Ok(())
            })?;
        }
        Ok(marks)
    }

    fn is_told_by(table: &Table) -> bool {
        ["ledger_posted", "audit_head", "billing_documents"].contains(&table.name)
    }

    fn note(&mut self, table: &Table, rows: &[Vec<OwnedValue>]) {
        use OwnedValue::{Int, Text};
        if table.name == "billing_documents" {
            self.billing_documents += rows.len();
        }
        for row in rows {
            match (table.name, row.as_slice()) {
                ("ledger_posted", [Text(replica), Int(lsn)]) => {
                    self.posted.insert(replica.clone(), *lsn);
                }
                ("audit_head", [_, Int(size), ..]) => self.audit_entries = *size,
                _ => {}
            }
        }
    }

    /// Whether anything here has come further than there.
    fn is_beyond(&self, there: &Self) -> bool {
        let is_ahead = |(replica, lsn): (&String, &i64)| {
            there.posted.get(replica).is_none_or(|there| lsn > there)
        };
        self.audit_entries > there.audit_entries
            || self.billing_documents > there.billing_documents
            || self.posted.iter().any(is_ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_have_stored_and_what_marks_how_far_are_tables_of_the_store() {
        let is_table = |name: &&str| TABLES.iter().any(|table| table.name == *name);
        assert!(CONTENT.iter().all(is_table));
        assert_eq!(
            TABLES
                .iter()
                .filter(|table| Marks::is_told_by(table))
                .count(),
            3
        );
    }
}
