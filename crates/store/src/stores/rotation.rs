//! A tenant's file moves from the previous key to the current one, while the tenant is served:
//! calls wait for as long as the copy takes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;
use tenancy::{PlacementKey, TenantScope};

use super::Stores;
use super::file::open_under;
use crate::sqlite::{self, IfMissing, OpenError, PageCache};
use crate::tenant::StoreError;

/// 1,024 pages of 4 KiB at a time. The lock is held anyway: a pause between steps helps nobody.
const PAGES_PER_STEP: i32 = 1_024;

/// What [`Stores::rotate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// The file is under the current key now.
    Encrypted,
    /// It was already.
    AlreadyCurrent,
}

/// Where the copy grows until it takes the file's place.
pub(super) fn next_path(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

impl Stores {
    /// Encrypts the tenant's file under the current generation of the scope's keys, which must
    /// still hold the previous one. Both wrapped keys must be in the catalogue while this runs,
    /// since a crash leaves the file under either; it can be repeated. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then the file is as it was, under the previous key.
    pub fn rotate(&self, scope: &TenantScope) -> Result<Rotated, StoreError> {
        let path = self.path_of(scope.tenant());
        let slot = self.slot(scope.tenant());
        // Held to the end: nobody writes to a store that is about to be replaced.
        let mut open = slot.open.lock();
        if slot.is_moving.load(Ordering::Acquire) {
            return Err(StoreError::BeingMoved);
        }
        if let Some(place) = self.place_of(scope.tenant()) {
            return place.rotate(&mut open, scope.keys());
        }
        let connection = &mut open.file;
        drop(connection.take());
        let current = scope.keys().placement_key();
        let old = match open_under(&path, &current, IfMissing::Fail) {
            Ok(open) => {
                *connection = Some(open);
                return Ok(Rotated::AlreadyCurrent);
            }
            Err(error @ OpenError::WrongKey { .. }) => {
                let previous = scope.keys().previous_placement_key().ok_or(error)?;
                open_under(&path, &previous, IfMissing::Fail)?
            }
            Err(error) => return Err(error.into()),
        };
        let next = next_path(&path);
        copy(&old, &next, &current)?;
        // Closed cleanly, the old file leaves no log that could be replayed into the new one.
        close(old, &path)?;
        std::fs::File::open(&next)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&next, &path))
            .and_then(|()| sqlite::sync_parent(&path))
            .map_err(|source| OpenError::Disk { path: next, source })?;
        *connection = Some(open_under(&path, &current, IfMissing::Fail)?);
        Ok(Rotated::Encrypted)
    }
}

/// Copies `old` into a new file at `next`, under `key`, and checks that all of it is there.
fn copy(old: &Connection, next: &Path, key: &PlacementKey) -> Result<(), StoreError> {
    sqlite::remove_files(next).map_err(|source| OpenError::Disk {
        path: next.to_owned(),
        source,
    })?;
    // Without a schema of its own: that comes with the copy.
    let mut copy = sqlite::open_as_it_is(next, key, IfMissing::Create, PageCache::Large)?;
    Backup::new(old, &mut copy)?.run_to_completion(PAGES_PER_STEP, Duration::ZERO, None)?;
    close(copy, next)?;
    // Reopened, since only that shows that the key on disk is the one that was meant.
    let copy = open_under(next, key, IfMissing::Fail)?;
    let is_whole = copy.query_row("PRAGMA quick_check", [], |row| {
        Ok(row.get::<_, String>(0)? == "ok")
    })?;
    if !is_whole || count_rows(&copy)? != count_rows(old)? {
        return Err(StoreError::RotationFailed);
    }
    close(copy, next)
}

/// Writes the log back, closes, and makes sure that no log is left.
fn close(connection: Connection, path: &Path) -> Result<(), StoreError> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error)?;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        return Err(StoreError::RotationFailed);
    }
    Ok(())
}

fn count_rows(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT (SELECT count(*) FROM ledger_lines) + (SELECT count(*) FROM usage_sums)
              + (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM audit_entries)",
        [],
        |row| row.get(0),
    )
}
