//! The file that keeps the installation's own wrapped key.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base::Disk;
use store::CatalogueServer;
use tenancy::{KeyError, PlatformKeys, RootKey, WrappedKey};

use crate::ports::PlatformKeyFile;

/// The wrapped key in a file of the data folder: a JSON list, with one wrapping, or with two
/// while the root key is rotated.
#[derive(Debug)]
pub struct DiskPlatformKeyFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl DiskPlatformKeyFile {
    /// The file at `path`.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path }
    }
}

impl PlatformKeyFile for DiskPlatformKeyFile {
    fn replace(&self, wrappings: &[WrappedKey]) -> io::Result<()> {
        self.disk
            .replace(&self.path, &serde_json::to_vec(wrappings)?)
    }

    fn read(&self) -> io::Result<Vec<WrappedKey>> {
        Ok(serde_json::from_slice(&self.disk.read(&self.path)?)?)
    }
}

/// The wrapped key on the catalogue's server, in the same form.
#[derive(Debug)]
pub struct ServerPlatformKeyFile {
    server: Arc<CatalogueServer>,
}

impl ServerPlatformKeyFile {
    /// The key of the installation on this server.
    pub fn new(server: Arc<CatalogueServer>) -> Self {
        Self { server }
    }

    /// What is kept of these.
    pub fn encode(wrappings: &[WrappedKey]) -> Vec<u8> {
        serde_json::to_vec(wrappings).expect("wrapped keys are plain data")
    }
}

impl PlatformKeyFile for ServerPlatformKeyFile {
    fn replace(&self, wrappings: &[WrappedKey]) -> io::Result<()> {
        self.server
            .replace_platform_key(&Self::encode(wrappings))
            .map_err(io::Error::other)
    }

    fn read(&self) -> io::Result<Vec<WrappedKey>> {
        let founding = self.server.founding().map_err(io::Error::other)?;
        let founding = founding.ok_or(io::ErrorKind::NotFound)?;
        Ok(serde_json::from_slice(&founding.platform_key)?)
    }
}

/// Why the platform's key was not unlocked.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The file cannot be read.
    #[error("the platform's wrapped key cannot be read")]
    Read(#[from] io::Error),
    /// The root key does not unwrap it.
    #[error("the platform's key does not unwrap")]
    Locked(#[from] KeyError),
    /// It is of no installation.
    #[error("the file of the platform's key holds none")]
    Empty,
}

/// Unlocks the installation: of the wrappings that are kept, the one that this root key made.
///
/// # Errors
///
/// [`UnlockError`].
pub fn unlock_platform(
    file: &dyn PlatformKeyFile,
    root: &dyn RootKey,
) -> Result<PlatformKeys, UnlockError> {
    let wrappings = file.read()?;
    let id = root.id();
    // If none is this root key's, the first says which root key is needed.
    let fitting = wrappings
        .iter()
        .find(|wrapped| wrapped.root == id)
        .or(wrappings.first());
    let wrapped = fitting.ok_or(UnlockError::Empty)?;
    Ok(PlatformKeys::unwrap(root, wrapped)?)
}

#[cfg(test)]
mod tests {
    use base::{MemoryDisk, SeededEntropy};
    use tenancy::{KeyOwner, LocalRootKey};

    use super::*;

    #[test]
    fn either_root_key_unlocks_while_both_wrappings_are_kept() {
        let entropy = SeededEntropy::new(1);
        let (old, new) = (
            LocalRootKey::generate(&entropy),
            LocalRootKey::generate(&entropy),
        );
        let file = DiskPlatformKeyFile::new(Arc::new(MemoryDisk::new()), "platform.key".into());
        assert!(matches!(
            unlock_platform(&file, &old),
            Err(UnlockError::Read(_))
        ));
        let (_, wrapped) = PlatformKeys::generate(&old, &entropy).unwrap();
        let rewrapped = wrapped.rewrap(KeyOwner::Platform, &old, &new).unwrap();
        file.replace(&[wrapped, rewrapped.clone()]).unwrap();
        assert!(unlock_platform(&file, &old).is_ok() && unlock_platform(&file, &new).is_ok());
        file.replace(&[rewrapped]).unwrap();
        let refused = unlock_platform(&file, &old).unwrap_err();
        assert!(matches!(
            refused,
            UnlockError::Locked(KeyError::WrongRoot { .. })
        ));
    }
}
