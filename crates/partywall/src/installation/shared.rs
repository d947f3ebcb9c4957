//! An installation of several replicas: its catalogue is on a server, and each replica has a data
//! folder of its own. The first folder founds it; the others join it by its root key.

use std::sync::Arc;

use base::{Clock, Entropy};
use control::{ServerPlatformKeyFile, unlock_platform};
use store::{Catalogue, CatalogueServer, CatalogueServerOptions, FolderLock, Founding, ReplicaId};
use tenancy::PlatformKeys;
use tenancy::catalogue::SecretRef;

use super::files::{self, write_private};
use super::root_key;
use super::{DESCRIPTION_FILE, Description, FORMAT, FolderProblem, Found, Installation, look};
use crate::config::{CatalogueUrl, InstallationConfig};

/// Whether an installation may be made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfNone {
    Refuse,
    Found,
}

/// Opens the folder of a replica, and makes it if it is not there. Blocks.
pub(super) fn open(
    config: &InstallationConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    if_none: IfNone,
) -> Result<Installation, FolderProblem> {
    let folder = &config.storage.folder;
    let found = look(folder)?;
    let unwritable = |cause| FolderProblem::Unwritable {
        folder: folder.clone(),
        cause,
    };
    if let Found::Installation(Description { replica: None, .. }) = &found {
        return Err(FolderProblem::Alone {
            folder: folder.clone(),
        });
    }
    files::create_folder(folder).map_err(unwritable)?;
    let lock = FolderLock::acquire(folder)?;
    let server = connect(config, clock, entropy)?;
    let root_place = config.root_key.place(folder);
    let root = match if_none {
        IfNone::Refuse => root_key::open(&root_place)?,
        IfNone::Found => root_key::open_or_create(&root_place, entropy.as_ref())?,
    };
    let founding = match server.founding().map_err(FolderProblem::shared)? {
        Some(founding) => founding,
        None if if_none == IfNone::Refuse => return Err(FolderProblem::NotFounded),
        None => {
            let (_, wrapped) =
                PlatformKeys::generate(&*root, entropy.as_ref()).map_err(|source| {
                    FolderProblem::Sealed {
                        folder: folder.clone(),
                        source: Box::new(control::UnlockError::Locked(source)),
                    }
                })?;
            let mut installation = [0; 16];
            entropy.fill(&mut installation);
            let platform_key = ServerPlatformKeyFile::encode(&[wrapped]);
            server
                .found(&Founding {
                    installation,
                    platform_key,
                })
                .map_err(FolderProblem::shared)?
        }
    };
    let is_first = matches!(&found, Found::Installation(Description { replica: Some(replica), .. })
        if *replica == ReplicaId::ALONE.to_string());
    if !is_first && server.awaits_first().map_err(FolderProblem::shared)? {
        return Err(FolderProblem::FirstFolder);
    }
    let platform_key_file = Arc::new(ServerPlatformKeyFile::new(Arc::clone(&server)));
    let platform_keys =
        unlock_platform(&*platform_key_file, &*root).map_err(|source| FolderProblem::Sealed {
            folder: folder.clone(),
            source: Box::new(source),
        })?;
    let id = format!("{:032x}", u128::from_be_bytes(founding.installation));
    let replica = match found {
        Found::Installation(description) if description.id != id => {
            return Err(FolderProblem::OfAnother {
                folder: folder.clone(),
            });
        }
        Found::Installation(description) => description.replica.unwrap_or_default(),
        Found::Room => {
            let mut bits = [0; 16];
            entropy.fill(&mut bits);
            let replica = ReplicaId::from_bits(u128::from_be_bytes(bits)).to_string();
            let description = Description {
                format: FORMAT,
                id,
                replica: Some(replica.clone()),
            };
            let text = serde_json::to_string_pretty(&description).expect("it is plain data");
            write_private(&folder.join(DESCRIPTION_FILE), &text).map_err(unwritable)?;
            replica
        }
    };
    let replica = replica.parse().map_err(|_| FolderProblem::Foreign {
        folder: folder.clone(),
        found: DESCRIPTION_FILE.to_owned(),
    })?;
    let platform_keys = Arc::new(platform_keys);
    Ok(Installation {
        folder: folder.clone(),
        id: founding.installation,
        replica,
        root,
        catalogue: Arc::new(Catalogue::on_server(server, Arc::clone(&platform_keys))),
        platform_keys,
        platform_key_file,
        lock,
    })
}

pub(super) fn connect(
    config: &InstallationConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<Arc<CatalogueServer>, FolderProblem> {
    let url = config.catalogue.url.as_ref();
    let url = url.expect("only who has a catalogue's server comes here");
    let text = match url {
        CatalogueUrl::Plain(text) => text.clone(),
        CatalogueUrl::Secret(reference) => {
            let unreadable = |cause: String| FolderProblem::CatalogueUrl {
                reference: reference.clone(),
                cause,
            };
            match reference {
                SecretRef::Env(name) => {
                    std::env::var(name).map_err(|error| unreadable(error.to_string()))?
                }
                SecretRef::File(path) => {
                    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?
                }
            }
        }
    };
    // What is wrong with it is not shown: it may hold a password.
    let address = store::postgres_address(&text).map_err(FolderProblem::BadCatalogueUrl)?;
    let options = CatalogueServerOptions {
        address,
        authorities: config.catalogue.ca_file.clone(),
    };
    CatalogueServer::connect(options, clock, entropy)
        .map_err(|error| FolderProblem::shared(error.into()))
}
