//! One process works on a data folder at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::sqlite;

/// The journal's place in the data folder.
const JOURNAL_FOLDER: &str = "journal";

/// Why a folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum FolderLockError {
    /// Another process works on it.
    #[error("{} is in use by another partywall: stop that one, or choose another data folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write in {}", folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Held for as long as a process works on a data folder; the kernel lets go of it when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    folder: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Locks `folder`, which is made if it is missing, with the journal's folder in it. Only their
    /// owner may look into them.
    ///
    /// # Errors
    ///
    /// [`FolderLockError`].
    pub fn acquire(folder: &Path) -> Result<Self, FolderLockError> {
        let unwritable = |source| FolderLockError::Unwritable {
            folder: folder.to_owned(),
            source,
        };
        sqlite::create_folder_io(&folder.join(JOURNAL_FOLDER)).map_err(unwritable)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("lock"))
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _file: file,
            }),
            Err(TryLockError::WouldBlock) => Err(FolderLockError::InUse {
                folder: folder.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(unwritable(source)),
        }
    }

    /// Where the journal is.
    pub fn journal_folder(&self) -> PathBuf {
        self.folder.join(JOURNAL_FOLDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        assert!(first.journal_folder().is_dir());
        assert!(matches!(
            FolderLock::acquire(folder.path()),
            Err(FolderLockError::InUse { .. })
        ));
        drop(first);
        FolderLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(
            FolderLock::acquire(&file.join("data")),
            Err(FolderLockError::Unwritable { .. })
        ));
    }
}
