//! The platform's own database: versioned resources, wrapped keys, settings and the platform's
//! audit log. A file, `catalogue.db`; or, for replicas, a schema on a PostgreSQL server. What a
//! resource's bytes mean is `control`'s business.

mod alerts;
mod calls;
mod keys;
mod moving;
mod numbers;
mod place;
mod reconciliations;
mod replicas;
mod server;
mod shares;
mod splits;
mod versions;

use std::path::Path;
use std::sync::Arc;

use base::{TenantId, Timestamp};
use tenancy::{PlacementKey, PlatformKeys};

use crate::database::DatabaseError;
use crate::postgres::ServerError;
use crate::sqlite::OpenError;
use place::Place;
pub(crate) use versions::SPEC;

pub(crate) use alerts::{ABOUT, TEXT};
pub use alerts::{StoredAlert, StoredMessage};
pub use calls::{HeardMinute, MinuteId, OtherReplica, ReplicaMinutes, TellMinute};
pub(crate) use keys::VALUE;
pub use moving::CopyCatalogueError;
pub use numbers::NumberedDocument;
pub(crate) use numbers::PENDING;
pub(crate) use reconciliations::BODY as COMPARISON;
pub use reconciliations::Reconciliation;
pub use replicas::{Beat, Registered, Replica, ReplicaError, ReplicaId, ReplicaView};
pub use server::{CatalogueNews, CatalogueServer, CatalogueServerOptions, CatalogueTurn, Founding};
pub use shares::{BudgetShares, ShareError, SharesGiven};
pub(crate) use splits::BODY as SPLIT;

/// The file's name in the data folder.
pub const CATALOGUE_FILE: &str = "catalogue.db";

/// One resource as it is, or was, at some version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What kind of thing it is: `tenant`, `key`, `tier`, …
    pub kind: String,
    /// The tenant it belongs to, as text; empty for the platform's own.
    pub tenant: String,
    /// Its name or id among those of its kind and tenant.
    pub name: String,
    /// The catalogue version that wrote it.
    pub version: u64,
    /// Its bytes.
    pub spec: Vec<u8>,
}

/// What becomes of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// As [`Resource::kind`].
    pub kind: String,
    /// As [`Resource::tenant`].
    pub tenant: String,
    /// As [`Resource::name`].
    pub name: String,
    /// The new bytes; none removes the resource.
    pub spec: Option<Vec<u8>>,
}

/// One state of a resource in its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The catalogue version that wrote it.
    pub version: u64,
    /// Its bytes from then on; none if it was removed.
    pub spec: Option<Vec<u8>>,
}

/// Who made a version of the catalogue, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The first is 1.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// Why, in the actor's words.
    pub note: String,
}

/// A tenant's key as the root key has wrapped it; opaque bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Whose.
    pub tenant: TenantId,
    /// The wrapped key, or two of them while a rotation is under way: the caller's own encoding.
    pub wrapped: Vec<u8>,
    /// Grows with each rotation.
    pub generation: u32,
}

/// Why a catalogue was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The database reported an error.
    #[error("the catalogue cannot be read or written")]
    Database(#[from] DatabaseError),
    /// The server that it is on cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A tenant's id in it is not one.
    #[error("the catalogue holds a key for `{tenant}`, which is no tenant's id")]
    BadTenant {
        /// What stands there.
        tenant: String,
    },
}

impl CatalogueError {
    /// Whether its server cannot be used now: whatever was wanted can be tried again in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Server(error) => error.is_passing(),
            Self::Database(error) => error.is_disconnection(),
            Self::BadTenant { .. } => false,
        }
    }
}

impl From<rusqlite::Error> for CatalogueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Why a commit did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else committed in between.
    #[error("the catalogue is at version {current}, not at the one that this change was made for")]
    Conflict {
        /// The version it has.
        current: u64,
    },
    /// The catalogue cannot be written.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl From<DatabaseError> for CommitError {
    fn from(error: DatabaseError) -> Self {
        Self::Catalogue(error.into())
    }
}

/// The catalogue. All methods block.
pub struct Catalogue {
    place: Place,
}

impl Catalogue {
    /// Opens the catalogue in the data folder, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: a foreign file, another key, a newer version, an unwritable folder.
    pub fn open(folder: &Path, key: &PlacementKey) -> Result<Self, OpenError> {
        Ok(Self {
            place: Place::file(folder, key)?,
        })
    }

    /// The catalogue on a server. What it says of the platform is sealed under these keys.
    pub fn on_server(server: Arc<CatalogueServer>, keys: Arc<PlatformKeys>) -> Self {
        Self {
            place: Place::Server(server, keys),
        }
    }

    /// The server that it is on, if it is on one: several processes may share it then.
    pub fn server(&self) -> Option<&Arc<CatalogueServer>> {
        match &self.place {
            Place::File(_) => None,
            Place::Server(server, _) => Some(server),
        }
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.place {
            Place::File(_) => "file",
            Place::Server(..) => "server",
        };
        f.debug_tuple("Catalogue").field(&place).finish()
    }
}
