//! The data folder: whose it is, how it is made, and how it is opened.
//!
//! | file | what |
//! |---|---|
//! | `installation.json` | says that the folder is ours, in which format, and its id |
//! | `platform.key` | the platform's own key, wrapped by the root key |
//! | `root.key` | the root key, unless it is kept elsewhere; mode 0600 |
//! | `operator.key` | the first operator's key, for commands on this machine; mode 0600 |
//! | `admin.url` | where the admin API is, while the folder is served |
//!
//! All else is the store's.

mod bring;
mod files;
mod init;
mod root_key;
mod shared;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Clock, Entropy, SystemDisk};
use control::{DiskPlatformKeyFile, PlatformKeyFile, UnlockError, unlock_platform};
use serde::{Deserialize, Serialize};
use store::{
    Catalogue, CatalogueError, FolderLock, FolderLockError, InstallationId, OpenError, ReplicaId,
};
use tenancy::catalogue::SecretRef;
use tenancy::{KeyError, PlatformKeys, RootKey};

pub(crate) use bring::{CatalogueCommand, move_catalogue};
pub(crate) use files::write_private;
pub(crate) use init::{InitArgs, ensure_operator, init, write_config};

use crate::config::InstallationConfig;
use root_key::RootKeyError;
use shared::IfNone;

const DESCRIPTION_FILE: &str = "installation.json";
const PLATFORM_KEY_FILE: &str = "platform.key";
/// What this program writes and reads. A folder of a newer format is left alone.
const FORMAT: u32 = 1;
/// What may lie in a folder before an installation is made there: the root key and a
/// configuration that were put there beforehand, and what a cut-off attempt left.
const MAY_BE_THERE: [&str; 5] = [
    "root.key",
    "partywall.toml",
    "lock",
    "journal",
    PLATFORM_KEY_FILE,
];

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    /// 32 hexadecimal digits.
    #[serde(default)]
    id: String,
    /// Of a replica, in the same form; none where the folder is the whole installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
}

/// Why a data folder is not opened or made. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderProblem {
    /// There is no installation.
    #[error(
        "{} holds no installation: `partywall init --data {}` makes one, `partywall quickstart` \
         makes one to try",
        folder.display(), folder.display()
    )]
    NotThere { folder: PathBuf },
    /// There is one already.
    #[error("{} holds an installation already", folder.display())]
    Exists { folder: PathBuf },
    /// Somebody else's files are there.
    #[error(
        "{} is not Partywall's: it holds `{found}`, and nothing in it was touched. Choose another \
         data folder",
        folder.display()
    )]
    Foreign { folder: PathBuf, found: String },
    /// A newer version of the program wrote it.
    #[error(
        "{} has format {found}, and this program knows up to {FORMAT}: start the version that \
         wrote it, or a newer one",
        folder.display()
    )]
    Newer { folder: PathBuf, found: u32 },
    /// It cannot be read or written.
    #[error("cannot write in {}: {cause}. Choose another data folder, or mend its owner and mode", folder.display())]
    Unwritable {
        folder: PathBuf,
        cause: std::io::Error,
    },
    /// Another process works there, or it cannot be locked.
    #[error(transparent)]
    Locked(#[from] FolderLockError),
    /// There is no root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The root key is another's.
    #[error("{} does not open with this root key", folder.display())]
    Sealed {
        folder: PathBuf,
        source: Box<UnlockError>,
    },
    /// The catalogue does not open.
    #[error(transparent)]
    Catalogue(Box<OpenError>),
    /// The folder holds a whole installation, and the configuration speaks of a replica.
    #[error(
        "{} holds an installation with a catalogue of its own, and `[catalogue] url` names a server's. Give the replica a folder of its own, or leave `[catalogue] url` away",
        folder.display()
    )]
    Alone { folder: PathBuf },
    /// The folder is a replica's, and the configuration names no server.
    #[error(
        "{} belongs to a replica whose catalogue is on a server: say where, in `[catalogue] url`",
        folder.display()
    )]
    OfReplica { folder: PathBuf },
    /// The folder belongs to a replica of another installation.
    #[error(
        "{} belongs to a replica of another installation than the one on the catalogue's server: its journal may hold that one's calls. Choose another data folder",
        folder.display()
    )]
    OfAnother { folder: PathBuf },
    /// Nobody has founded an installation on the server.
    #[error(
        "there is no installation on the catalogue's server: `partywall init --catalogue …` makes one there"
    )]
    NotFounded,
    /// The catalogue came from a folder that has not started since.
    #[error(
        "the catalogue came to its server from another folder, which has to start first, and serve: what it has spent is not known here yet."
    )]
    FirstFolder,
    /// The address of the catalogue's server cannot be had.
    #[error("`[catalogue] url`: {reference}: {cause}")]
    CatalogueUrl { reference: SecretRef, cause: String },
    /// The address of the catalogue's server is none.
    #[error("`[catalogue] url` leads to what is no server's address")]
    BadCatalogueUrl(#[source] store::AddressError),
    /// The catalogue's server cannot be used.
    #[error("the catalogue's server cannot be used")]
    Shared(#[source] Box<CatalogueError>),
}

impl FolderProblem {
    fn shared(error: CatalogueError) -> Self {
        Self::Shared(Box::new(error))
    }
}

/// An open installation: its folder is locked, and its keys are unlocked.
pub(crate) struct Installation {
    pub(crate) folder: PathBuf,
    pub(crate) id: InstallationId,
    /// Which replica's folder it is.
    pub(crate) replica: ReplicaId,
    pub(crate) root: Arc<dyn RootKey>,
    pub(crate) platform_keys: Arc<PlatformKeys>,
    pub(crate) platform_key_file: Arc<dyn PlatformKeyFile>,
    pub(crate) catalogue: Arc<Catalogue>,
    /// Held for as long as anything works in the folder.
    pub(crate) lock: FolderLock,
}

/// What a folder is to us.
enum Found {
    /// Nothing, or a beginning.
    Room,
    Installation(Description),
}

/// Opens the installation that the configuration names. Blocks.
///
/// # Errors
///
/// [`FolderProblem`]; then nothing in the folder was changed.
pub(crate) fn open(
    config: &InstallationConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Installation, FolderProblem> {
    if config.catalogue.url.is_some() {
        return shared::open(config, clock, entropy, IfNone::Refuse);
    }
    let folder = &config.storage.folder;
    let Found::Installation(description) = look(folder)? else {
        return Err(FolderProblem::NotThere {
            folder: folder.clone(),
        });
    };
    if description.replica.is_some() {
        return Err(FolderProblem::OfReplica {
            folder: folder.clone(),
        });
    }
    let lock = FolderLock::acquire(folder)?;
    let root = root_key::open(&config.root_key.place(folder))?;
    unlock(folder, &description, root, lock)
}

/// Makes an installation where the configuration says, and opens it; on a catalogue's server that
/// has one already, makes the folder of another replica. Blocks.
///
/// # Errors
///
/// [`FolderProblem`]; what a cut-off attempt leaves does not hinder the next.
pub(crate) fn create(
    config: &InstallationConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Installation, FolderProblem> {
    if config.catalogue.url.is_some() {
        return shared::open(config, clock, entropy, IfNone::Found);
    }
    let entropy = entropy.as_ref();
    let folder = &config.storage.folder;
    if let Found::Installation(_) = look(folder)? {
        return Err(FolderProblem::Exists {
            folder: folder.clone(),
        });
    }
    let unwritable = |cause| FolderProblem::Unwritable {
        folder: folder.clone(),
        cause,
    };
    files::create_folder(folder).map_err(unwritable)?;
    let lock = FolderLock::acquire(folder)?;
    let root = root_key::open_or_create(&config.root_key.place(folder), entropy)?;
    let (_, wrapped) = PlatformKeys::generate(&*root, entropy).map_err(|source: KeyError| {
        FolderProblem::Sealed {
            folder: folder.clone(),
            source: Box::new(UnlockError::Locked(source)),
        }
    })?;
    platform_key_file(folder)
        .replace(&[wrapped])
        .map_err(unwritable)?;
    let mut id = InstallationId::default();
    entropy.fill(&mut id);
    let description = Description {
        format: FORMAT,
        id: format!("{:032x}", u128::from_be_bytes(id)),
        replica: None,
    };
    let text = serde_json::to_string_pretty(&description).expect("it is plain data");
    write_private(&folder.join(DESCRIPTION_FILE), &text).map_err(unwritable)?;
    unlock(folder, &description, root, lock)
}

/// Opens the installation that the configuration names, and makes it if there is none. Blocks.
///
/// # Errors
///
/// As [`open`] and [`create`].
pub(crate) fn open_or_create(
    config: &InstallationConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Installation, FolderProblem> {
    match look(&config.storage.folder)? {
        Found::Installation(_) => open(config, clock, entropy),
        Found::Room => create(config, clock, entropy),
    }
}

impl Installation {
    /// The id as text: part of the names of audit logs.
    pub(crate) fn id_text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.id))
    }
}

fn look(folder: &Path) -> Result<Found, FolderProblem> {
    let unreadable = |cause| FolderProblem::Unwritable {
        folder: folder.to_owned(),
        cause,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Room),
        Err(error) => return Err(unreadable(error)),
    };
    let foreign = |found: String| FolderProblem::Foreign {
        folder: folder.to_owned(),
        found,
    };
    let path = folder.join(DESCRIPTION_FILE);
    match std::fs::read(&path) {
        Ok(text) => match serde_json::from_slice::<Description>(&text) {
            Ok(Description { format, .. }) if format > FORMAT => Err(FolderProblem::Newer {
                folder: folder.to_owned(),
                found: format,
            }),
            Ok(description) if parse_id(&description.id).is_some() => {
                Ok(Found::Installation(description))
            }
            _ => Err(foreign(DESCRIPTION_FILE.to_owned())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            for entry in entries {
                let name = entry.map_err(unreadable)?.file_name();
                let name = name.to_string_lossy();
                // A draft is what a crash leaves of a file that was to be replaced at once.
                let is_ours = MAY_BE_THERE.iter().any(|known| name.starts_with(known));
                if !is_ours {
                    return Err(foreign(name.into_owned()));
                }
            }
            Ok(Found::Room)
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn parse_id(text: &str) -> Option<InstallationId> {
    let bits = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| bits.to_be_bytes())
}

fn platform_key_file(folder: &Path) -> Arc<dyn PlatformKeyFile> {
    let path = folder.join(PLATFORM_KEY_FILE);
    Arc::new(DiskPlatformKeyFile::new(Arc::new(SystemDisk), path))
}

fn unlock(
    folder: &Path,
    description: &Description,
    root: Arc<dyn RootKey>,
    lock: FolderLock,
) -> Result<Installation, FolderProblem> {
    let platform_key_file = platform_key_file(folder);
    let platform_keys =
        unlock_platform(&*platform_key_file, &*root).map_err(|source| FolderProblem::Sealed {
            folder: folder.to_owned(),
            source: Box::new(source),
        })?;
    let catalogue = Catalogue::open(folder, &platform_keys.catalogue_key())
        .map_err(|error| FolderProblem::Catalogue(Box::new(error)))?;
    Ok(Installation {
        folder: folder.to_owned(),
        id: parse_id(&description.id).expect("looking at the folder parsed it"),
        replica: ReplicaId::ALONE,
        root,
        platform_keys: Arc::new(platform_keys),
        platform_key_file,
        catalogue: Arc::new(catalogue),
        lock,
    })
}

#[cfg(test)]
mod tests;
