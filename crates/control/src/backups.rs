//! Backups of tenants' stores: a folder of files, each of one tenant at one time.
//!
//! A backup is written beside where it is going to be, read back to its end, and given its name then:
//! what has a name is whole. The files are sealed under the tenants' keys, so that a folder that
//! many can read says who was backed up when, and nothing else.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{TenantId, Timestamp};
use store::{AuditEntry, BackupError, BackupHeader, IfDamaged};
use tenancy::{ServicePurpose, TenantEntry, TenantScope};

use crate::api::{BackupView, RestoreReply, RestoreRequest};
use crate::error::ApiError;
use crate::publisher::{Act, Publisher};

const EXTENSION: &str = "pwbackup";
/// Where one is written until it is whole.
const PART: &str = "part";
/// 1,000 files of a tenant are looked at: a backup an hour for six weeks.
const FILES_MAX: usize = 1_000;
/// 256 KiB at a time: a chunk is about a megabyte.
const BUFFER_BYTES: usize = 256 << 10;

/// Where backups go.
#[derive(Debug, Clone)]
pub struct BackupFolder {
    /// Of this installation alone.
    folder: PathBuf,
}

/// What [`Publisher::back_up_due`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupRound {
    /// Backups that were taken.
    pub taken: u32,
    /// Tenants that could not be backed up: the log says which.
    pub failed: u32,
    /// Files that were removed: more than are kept, or of tenants that are gone.
    pub removed: u32,
}

/// A backup that is there.
struct Found {
    path: PathBuf,
    header: BackupHeader,
    view: BackupView,
}

impl BackupFolder {
    /// Below `folder`, in a folder of this installation's: several may share one.
    pub fn new(folder: &Path, installation: &str) -> Self {
        Self {
            folder: folder.join(installation),
        }
    }

    fn of_tenant(&self, tenant: TenantId) -> PathBuf {
        self.folder.join(tenant.to_string())
    }

    /// The tenant's backups, the newest first. What is no backup is passed over.
    fn list(&self, tenant: TenantId) -> Result<Vec<Found>, io::Error> {
        let folder = self.of_tenant(tenant);
        let mut found = Vec::new();
        for path in files(&folder)? {
            if path
                .extension()
                .is_none_or(|extension| extension != EXTENSION)
            {
                continue;
            }
            let file = File::open(&path)?;
            let bytes = file.metadata()?.len();
            let Ok(header) = BackupHeader::read(file) else {
                continue;
            };
            let name = path.file_stem().and_then(|name| name.to_str());
            let Some(name) = name.filter(|_| header.tenant == tenant) else {
                continue;
            };
            let view = BackupView {
                name: name.to_owned(),
                taken_at: header.taken_at,
                bytes,
                key_generation: header.key_generation,
            };
            found.push(Found { path, header, view });
        }
        found.sort_by(|a, b| {
            let key = |found: &Found| (found.header.taken_at, found.header.id.clone());
            key(b).cmp(&key(a))
        });
        Ok(found)
    }
}

/// The files of a folder, bounded; none if there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, io::Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries
        .take(FILES_MAX)
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// A name that people read and every file system takes: `2026-11-22T03-00-00.123Z-0a1b2c3d`.
fn name_of(header: &BackupHeader) -> String {
    let at = header.taken_at.to_string().replace(':', "-");
    let id: String = header.id.chars().take(8).collect();
    format!("{at}-{id}")
}

impl Publisher {
    /// Takes a backup of the tenant's store now, and reads it back. Blocks, for as long as the
    /// store is large.
    ///
    /// # Errors
    ///
    /// [`ApiError`]: nothing is left of a backup that is not whole.
    pub(crate) fn back_up(&self, tenant: &TenantEntry) -> Result<BackupView, ApiError> {
        let all = self.backup_folder()?;
        let folder = all.of_tenant(tenant.id());
        fs::create_dir_all(&folder).map_err(ApiError::internal)?;
        if files(&folder).map_err(ApiError::internal)?.len() >= FILES_MAX {
            return Err(ApiError::conflict(format!(
                "the tenant has {FILES_MAX} files in its folder of backups: remove some first (`partywall tenant remove-backup`)"
            )));
        }
        let scope = self.service_scope(&tenant.unlocked, ServicePurpose::Export);
        let mut random = [0; 8];
        self.mint().entropy.fill(&mut random);
        let part = folder.join(format!("{:016x}.{PART}", u64::from_be_bytes(random)));
        let written = self.write_backup(&scope, &part);
        let view = written.and_then(|header| {
            let name = name_of(&header);
            fs::rename(&part, folder.join(format!("{name}.{EXTENSION}")))?;
            File::open(&folder)?.sync_all()?;
            Ok((name, header))
        });
        let (name, header) = match view {
            Ok(view) => view,
            Err(error) => {
                if let Err(error) = fs::remove_file(&part)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, path = %part.display(), "a part of a backup is left behind");
                }
                return Err(refused(error));
            }
        };
        let path = folder.join(format!("{name}.{EXTENSION}"));
        let bytes = fs::metadata(path).map_err(ApiError::internal)?.len();
        Ok(BackupView {
            name,
            taken_at: header.taken_at,
            bytes,
            key_generation: header.key_generation,
        })
    }

    /// Writes a backup to `path`, durably, and reads it back.
    fn write_backup(&self, scope: &TenantScope, path: &Path) -> Result<BackupHeader, BackupError> {
        let file = File::create_new(path)?;
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
        let written = self
            .stores
            .back_up(scope, &mut writer, self.mint().entropy)?;
        writer.flush()?;
        writer.get_ref().sync_all()?;
        drop(writer);
        let reader = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        let read = self.stores.check_backup(scope, reader)?;
        if read != written {
            return Err(BackupError::Damaged);
        }
        Ok(written.header)
    }

    /// The tenant's backups, the newest first.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the folder cannot be read, or there is none.
    pub(crate) fn backups(&self, tenant: TenantId) -> Result<Vec<BackupView>, ApiError> {
        let found = self.backup_folder()?.list(tenant);
        let found = found.map_err(ApiError::internal)?;
        Ok(found.into_iter().map(|found| found.view).collect())
    }

    /// Removes a backup.
    ///
    /// # Errors
    ///
    /// [`ApiError::NotFound`] if it is not there.
    pub(crate) fn remove_backup(&self, tenant: TenantId, name: &str) -> Result<(), ApiError> {
        let found = self.backup_folder()?.list(tenant);
        let found = found.map_err(ApiError::internal)?;
        let meant = found.into_iter().find(|found| found.view.name == name);
        let meant = meant.ok_or(ApiError::NotFound)?;
        fs::remove_file(meant.path).map_err(ApiError::internal)
    }

    /// Puts a backup back. Blocks.
    ///
    /// # Errors
    ///
    /// [`ApiError`]: then the store is as it was.
    pub(crate) fn restore(
        &self,
        tenant: &TenantEntry,
        request: &RestoreRequest,
        act: &Act,
    ) -> Result<RestoreReply, ApiError> {
        let found = self.backup_folder()?.list(tenant.id());
        let meant = choose(found.map_err(ApiError::internal)?, request)?;
        // The tenant's own log may be what is lost: it is told afterwards.
        let act = act.clone().in_no_tenants_log();
        self.record_act(&act)?;
        let scope = self.service_scope(&tenant.unlocked, ServicePurpose::Recovery);
        let restored = File::open(&meant.path).map_err(BackupError::from);
        let restored = restored.and_then(|file| {
            let reader = BufReader::with_capacity(BUFFER_BYTES, file);
            let if_damaged = match request.replace_damaged {
                true => IfDamaged::Replace,
                false => IfDamaged::Refuse,
            };
            self.stores
                .restore(&scope, reader, request.what.into(), if_damaged)
        });
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.record_failure(&act)?;
                return Err(refused(error));
            }
        };
        let entry = AuditEntry::done(
            self.clock().now(),
            act.actor.as_str(),
            "restore_tenant",
            meant.view.name.as_str(),
        );
        self.with_tenant_log(&scope, |log| log.append(&entry))
            .map_err(ApiError::internal)?;
        Ok(RestoreReply {
            backup: meant.view.name,
            taken_at: meant.view.taken_at,
            what: request.what,
            rows: restored.rows,
        })
    }

    /// Takes a backup of each tenant whose newest is older than `every`, and removes all but the
    /// newest `keep` of each, and those of tenants that are gone. Does nothing without a folder.
    /// Blocks: for a worker.
    pub fn back_up_due(&self, every: Duration, keep: usize) -> BackupRound {
        let mut round = BackupRound::default();
        let Some(all) = &self.backups else {
            return round;
        };
        let current = self.current();
        for tenant in current.tenants() {
            match self.back_up_one_due(all, tenant, every, keep) {
                Ok(done) => {
                    round.taken += done.taken;
                    round.removed += done.removed;
                }
                Err(error) => {
                    round.failed += 1;
                    let error = crate::error::chain(&error);
                    tracing::warn!(tenant = %tenant.name, %error, "a tenant was not backed up");
                }
            }
        }
        for path in files(&all.folder).unwrap_or_default() {
            let id = path.file_name().and_then(|name| name.to_str());
            let id = id.and_then(|id| id.parse::<TenantId>().ok());
            if id.is_some_and(|id| current.tenant(id).is_none()) {
                // Without the tenant's key they are noise.
                match fs::remove_dir_all(&path) {
                    Ok(()) => round.removed += 1,
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "backups of a tenant that is gone are left behind");
                    }
                }
            }
        }
        round
    }

    fn back_up_one_due(
        &self,
        all: &BackupFolder,
        tenant: &TenantEntry,
        every: Duration,
        keep: usize,
    ) -> Result<BackupRound, ApiError> {
        let mut round = BackupRound::default();
        let found = all.list(tenant.id()).map_err(ApiError::internal)?;
        let now = self.clock().now();
        let is_due = |newest: &Found| now.since(newest.header.taken_at) >= every;
        if found.first().is_none_or(is_due) {
            self.back_up(tenant)?;
            round.taken = 1;
        }
        let beyond = keep.saturating_sub(round.taken as usize);
        for old in found.into_iter().skip(beyond) {
            fs::remove_file(old.path).map_err(ApiError::internal)?;
            round.removed += 1;
        }
        self.remove_parts(&all.of_tenant(tenant.id()));
        Ok(round)
    }

    /// What a crash left of backups that were never whole. A day is longer than any takes.
    fn remove_parts(&self, folder: &Path) {
        const OLD: Duration = Duration::from_secs(24 * 3600);
        for path in files(folder).unwrap_or_default() {
            let is_part = path.extension().is_some_and(|extension| extension == PART);
            let written = fs::metadata(&path).and_then(|file| file.modified());
            let written = written
                .ok()
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let now = self.clock().now().as_micros();
            let is_old = written.is_some_and(|at| {
                now.saturating_sub(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
                    > OLD.as_micros() as i64
            });
            if is_part
                && is_old
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(%error, path = %path.display(), "a part of a backup is left behind");
            }
        }
    }

    fn backup_folder(&self) -> Result<&BackupFolder, ApiError> {
        self.backups.as_ref().ok_or_else(|| {
            ApiError::conflict(
                "there is no folder for backups: say `folder` under `[backups]` in partywall.toml, and restart",
            )
        })
    }
}

/// The one that is meant: by name, or the newest at a time, or the newest.
fn choose(found: Vec<Found>, request: &RestoreRequest) -> Result<Found, ApiError> {
    if request.backup.is_some() && request.before.is_some() {
        return Err(ApiError::of(
            "before",
            "say either which backup, or before when",
        ));
    }
    let is_meant = |found: &Found| {
        let is_named = request
            .backup
            .as_ref()
            .is_none_or(|name| *name == found.view.name);
        let at: Timestamp = found.header.taken_at;
        is_named && request.before.is_none_or(|before| at <= before)
    };
    let mut meant = found.into_iter().filter(is_meant);
    meant.next().ok_or_else(|| {
        ApiError::of(
            "backup",
            "there is no such backup of this tenant: `partywall tenant backups NAME` lists them",
        )
    })
}

fn refused(error: BackupError) -> ApiError {
    match error {
        BackupError::StoreIsNewer | BackupError::Moving | BackupError::StoreDamaged { .. } => {
            ApiError::conflict(error.to_string())
        }
        BackupError::NoBackup
        | BackupError::NewerFormat { .. }
        | BackupError::NewerSchema { .. }
        | BackupError::AnotherTenants { .. }
        | BackupError::KeyGone { .. }
        | BackupError::Damaged
        | BackupError::Different { .. } => ApiError::of("backup", error.to_string()),
        BackupError::RowTooLarge | BackupError::Io(_) | BackupError::Store(_) => {
            ApiError::internal(error)
        }
    }
}
