//! The one function that opens a database file, and what goes with it. An unkeyed connection
//! cannot be had from anywhere.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tenancy::PlacementKey;
use zeroize::Zeroizing;

use crate::database::Tables;
use crate::steps::{Bring, Found, Standing, Steps, Upgraded};

/// `PWLS`: tells our files from other programs' that happen to have our key.
const APPLICATION_ID: i32 = 0x5057_4c53;
/// 5 s: several times the longest checkpoint. One process writes, so that nobody waits for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// 16: the number of statements on the busiest path, so that each is compiled once.
const STATEMENTS_MAX: usize = 16;

/// Why a database file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{} does not exist", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The key is another's, or the file is damaged: the two cannot be told apart.
    #[error(
        "{} does not open with its key: the root key or the file is another installation's, or the file is damaged",
        path.display()
    )]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is no database of ours.
    #[error("{} is not a Partywall database", path.display())]
    NotPartywall {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error(
        "{} has schema {found}, and this program knows up to {supported}: start the version that wrote it",
        path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: u32,
        /// The newest schema that this program knows.
        supported: u32,
    },
    /// The disk reported something else.
    #[error("cannot open {}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The database reported something else.
    #[error("cannot open {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
}

/// Whether a missing file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Fail,
    Create,
}

/// How much of a file is kept in memory, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageCache {
    /// 48 KiB: a thousand tenants are open at a time, and each takes 190 KiB with all else.
    Small,
    /// 2 MiB, for as long as lines are posted or a large version is: so that each page they fill is
    /// encrypted once.
    Bulk,
    /// 16 MiB: one file, written as a whole.
    Large,
}

/// Opens `path` under `key`, and brings its schema as far as is said.
pub(crate) fn open(
    path: &Path,
    key: &PlacementKey,
    if_missing: IfMissing,
    cache: PageCache,
    (steps, bring): (&Steps, Bring),
) -> Result<Connection, OpenError> {
    let mut connection = open_as_it_is(path, key, if_missing, cache)?;
    migrate(path, &mut connection, steps, bring)?;
    Ok(connection)
}

/// Opens `path` under `key`, whatever tables it has.
pub(crate) fn open_as_it_is(
    path: &Path,
    key: &PlacementKey,
    if_missing: IfMissing,
    cache: PageCache,
) -> Result<Connection, OpenError> {
    prepare_file(path, if_missing)?;
    open_keyed(path, key, cache)
}

/// Makes `path` as a new, empty file that its owner alone may read.
pub(crate) fn create_file(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OpenError::Exists {
            path: path.to_owned(),
        }),
        Err(source) => Err(OpenError::Disk {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes `folder` if it is missing, for its owner alone.
pub(crate) fn create_folder(folder: &Path) -> Result<(), OpenError> {
    create_folder_io(folder).map_err(|source| OpenError::Disk {
        path: folder.to_owned(),
        source,
    })
}

pub(crate) fn create_folder_io(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn prepare_file(path: &Path, if_missing: IfMissing) -> Result<(), OpenError> {
    let disk = |source| OpenError::Disk {
        path: path.to_owned(),
        source,
    };
    let mut start = [0_u8; 16];
    match std::fs::File::open(path) {
        Ok(mut file) => {
            let is_plain =
                file.read(&mut start).map_err(disk)? == 16 && start == *b"SQLite format 3\0";
            if is_plain {
                return Err(OpenError::NotPartywall {
                    path: path.to_owned(),
                });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => match if_missing {
            IfMissing::Fail => Err(OpenError::NotFound {
                path: path.to_owned(),
            }),
            IfMissing::Create => create_file(path),
        },
        Err(source) => Err(disk(source)),
    }
}

/// Opens `path`, which exists, under `key`.
fn open_keyed(path: &Path, key: &PlacementKey, cache: PageCache) -> Result<Connection, OpenError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::WrongKey {
            path: path.to_owned(),
        },
        _ => OpenError::Database {
            path: path.to_owned(),
            source,
        },
    };
    // No URI, no creation, and no mutex of its own: ours guards it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    apply_key(&connection, key).map_err(failed)?;
    // Reading the schema is the first use of the key.
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let application: i32 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .map_err(failed)?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(OpenError::NotPartywall {
            path: path.to_owned(),
        });
    }
    configure(&connection, cache).map_err(failed)?;
    if application == 0 {
        connection
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(failed)?;
    }
    Ok(connection)
}

/// The only SQL whose text is not a literal: `PRAGMA key` takes no parameter. The key's text is
/// 64 hexadecimal digits between quotes, by its type.
fn apply_key(connection: &Connection, key: &PlacementKey) -> rusqlite::Result<()> {
    // What goes wrong is in the error that is returned: SQLCipher's own lines on stderr are not.
    connection.execute_batch("PRAGMA cipher_log_level = NONE;")?;
    let raw = key.sqlcipher_pragma();
    let mut statement = Zeroizing::new(String::with_capacity(raw.len() + 20));
    statement.push_str("PRAGMA key = \"");
    statement.push_str(&raw);
    statement.push_str("\";");
    connection.execute_batch(&statement)
}

fn configure(connection: &Connection, cache: PageCache) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // FULL: what is acknowledged survives a power cut, which NORMAL does not promise under WAL.
    // Temporary tables stay in memory: on disk they would be plaintext. A WAL is cut back to
    // 1 MiB.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 1048576;",
    )?;
    set_cache(connection, cache)
}

/// Changes how much of the file is kept in memory, and frees what is beyond it.
pub(crate) fn set_cache(connection: &Connection, cache: PageCache) -> rusqlite::Result<()> {
    // Negative: in KiB.
    connection.execute_batch(match cache {
        PageCache::Small => "PRAGMA cache_size = -48; PRAGMA shrink_memory;",
        PageCache::Bulk => "PRAGMA cache_size = -2048;",
        PageCache::Large => "PRAGMA cache_size = -16384;",
    })
}

/// Brings the schema of an open file as far as is said, in one transaction.
pub(crate) fn migrate(
    path: &Path,
    connection: &mut Connection,
    steps: &Steps,
    bring: Bring,
) -> Result<Upgraded, OpenError> {
    let failed = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let found = schema_found(connection).map_err(failed)?;
    if steps.standing(found) == Standing::TooNew {
        return Err(OpenError::NewerVersion {
            path: path.to_owned(),
            found: found.step,
            supported: steps.newest(),
        });
    }
    if steps.missing(found, bring).is_empty() {
        return Ok(Upgraded {
            from: found.step,
            to: found.step,
        });
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        .map_err(failed)?;
    let found = schema_found(&transaction).map_err(failed)?;
    for migration in steps.missing(found, bring) {
        transaction
            .execute_batch(migration.text(Tables::Own))
            .map_err(failed)?;
    }
    transaction
        .execute("DELETE FROM schema_version", [])
        .map_err(failed)?;
    for row in steps.rows() {
        transaction
            .execute("INSERT INTO schema_version (version) VALUES ($1)", [row])
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(Upgraded {
        from: found.step,
        to: steps.newest(),
    })
}

/// What a file says of its schema.
fn schema_found(connection: &Connection) -> rusqlite::Result<Found> {
    let has_table: bool = connection.query_row(
        "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'",
        [],
        |row| row.get(0),
    )?;
    if !has_table {
        return Ok(Found {
            step: 0,
            open_to: 0,
        });
    }
    connection.query_row(
        "SELECT coalesce(max(version), 0), coalesce(min(version), 0) FROM schema_version",
        [],
        |row| {
            Ok(Found {
                step: row.get(0)?,
                open_to: row.get(1)?,
            })
        },
    )
}

/// Removes a database and what SQLite keeps beside it.
pub(crate) fn remove_files(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(Path::new(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_parent(path)
}

/// Makes the names in `path`'s folder durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}
