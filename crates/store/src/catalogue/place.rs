//! Where the catalogue is: a file in the data folder, or a schema on a PostgreSQL server.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tenancy::{PlacementKey, PlatformKeys};

use super::{CATALOGUE_FILE, CatalogueError, CatalogueServer};
use crate::database::Database;
use crate::schema;
use crate::sqlite::{self, IfMissing, OpenError, PageCache};
use crate::steps::Bring;

pub(super) enum Place {
    /// One connection, which one caller at a time uses.
    File(Mutex<Connection>),
    /// What is said on the server is sealed under the platform's key.
    Server(Arc<CatalogueServer>, Arc<PlatformKeys>),
}

impl Place {
    pub(super) fn file(folder: &Path, key: &PlacementKey) -> Result<Self, OpenError> {
        sqlite::create_folder(folder)?;
        let connection = sqlite::open(
            &folder.join(CATALOGUE_FILE),
            key,
            IfMissing::Create,
            PageCache::Small,
            (&schema::CATALOGUE, Bring::ToNewest),
        )?;
        Ok(Self::File(Mutex::new(connection)))
    }

    /// Does `act` on a connection.
    pub(super) fn with<T, E: From<CatalogueError>>(
        &self,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::File(connection) => act(&Database::sqlite(&connection.lock())),
            Self::Server(server, keys) => server.with(keys, act),
        }
    }

    /// As [`Place::with`], for what touches much of a file.
    pub(super) fn with_much<T, E: From<CatalogueError>>(
        &self,
        act: impl FnOnce(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self::File(connection) = self else {
            return self.with(act);
        };
        let connection = connection.lock();
        let cache = |cache| sqlite::set_cache(&connection, cache).map_err(CatalogueError::from);
        cache(PageCache::Bulk)?;
        let done = act(&Database::sqlite(&connection));
        cache(PageCache::Small)?;
        done
    }
}
