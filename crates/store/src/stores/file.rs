//! Placement `file`: one SQLCipher file per tenant, under the tenant's own key. A file that is
//! moved to another tenant's place does not open.

use std::path::{Path, PathBuf};

use base::TenantId;
use rusqlite::Connection;
use tenancy::{PlacementKey, TenantKeys};

use super::{Open, Stores, rotation};
use crate::database::Database;
use crate::schema;
use crate::sqlite::{self, IfMissing, OpenError, PageCache};
use crate::steps::{Bring, Upgraded};
use crate::tenant::StoreError;

impl Stores {
    pub(super) fn path_of(&self, tenant: TenantId) -> PathBuf {
        self.inner.folder.join(format!("{tenant}.db"))
    }

    pub(super) fn provision_file(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
    ) -> Result<(), StoreError> {
        if open.file.is_none() {
            let path = self.path_of(keys.tenant());
            let opened = open_file(&path, keys, IfMissing::Create)?;
            sqlite::sync_parent(&path).map_err(|source| OpenError::Disk { path, source })?;
            open.file = Some(opened);
        }
        Ok(())
    }

    pub(super) fn remove_file(&self, open: &mut Open, tenant: TenantId) -> Result<(), StoreError> {
        // Closed first, so that no write-ahead log appears again behind us.
        drop(open.file.take());
        let path = self.path_of(tenant);
        for path in [rotation::next_path(&path), path] {
            sqlite::remove_files(&path).map_err(|source| OpenError::Disk { path, source })?;
        }
        Ok(())
    }

    /// Brings the file's tables to the newest step.
    pub(super) fn upgrade_file(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
    ) -> Result<Upgraded, StoreError> {
        let path = self.path_of(keys.tenant());
        let file = match &mut open.file {
            Some(file) => file,
            closed => closed.insert(open_file(&path, keys, IfMissing::Fail)?),
        };
        Ok(sqlite::migrate(
            &path,
            file,
            &schema::TENANT,
            Bring::ToNewest,
        )?)
    }

    /// Does something with the file, which is opened if it is not.
    pub(super) fn with_file<T, E: From<StoreError>>(
        &self,
        open: &mut Open,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_copied = open.changes.is_some();
        let file = match &mut open.file {
            Some(file) => file,
            closed => {
                let path = self.path_of(keys.tenant());
                let opened = open_file(&path, keys, IfMissing::Fail).map_err(StoreError::from)?;
                closed.insert(opened)
            }
        };
        let mut database = Database::sqlite(file);
        if !is_copied {
            return act(&database);
        }
        database.log_changes();
        let done = act(&database);
        let changed = database.into_log();
        open.log(changed);
        done
    }

    /// Reads one state of the file, whatever is changed meanwhile.
    pub(super) fn on_file_snapshot<T, E: From<StoreError>>(
        &self,
        keys: &TenantKeys,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let path = self.path_of(keys.tenant());
        let file = open_file(&path, keys, IfMissing::Fail).map_err(StoreError::from)?;
        let database = Database::sqlite(&file);
        database.begin_snapshot().map_err(StoreError::from)?;
        act(&database)
    }
}

/// Opens a tenant's file under the current key, or, while a rotation is under way, the previous.
pub(super) fn open_file(
    path: &Path,
    keys: &TenantKeys,
    if_missing: IfMissing,
) -> Result<Connection, OpenError> {
    let opened = open_under(path, &keys.placement_key(), if_missing);
    match (opened, keys.previous_placement_key()) {
        (Err(OpenError::WrongKey { .. }), Some(previous)) => {
            open_under(path, &previous, if_missing)
        }
        (opened, _) => opened,
    }
}

pub(super) fn open_under(
    path: &Path,
    key: &PlacementKey,
    if_missing: IfMissing,
) -> Result<Connection, OpenError> {
    let schema = (&schema::TENANT, Bring::WhereServed);
    sqlite::open(path, key, if_missing, PageCache::Small, schema)
}
