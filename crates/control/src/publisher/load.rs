//! The first snapshot: from the catalogue, at start.

use std::collections::HashMap;
use std::sync::Arc;

use base::TenantId;
use store::{Catalogue, CatalogueError};
use tenancy::catalogue::Placement;
use tenancy::{Change, Problem, RootKey, ServicePurpose, Snapshot, SnapshotLoading, TenantKeys};

use super::sealing::{Opener, StoredKeyError, UnreadableResource, unlock};
use super::{Publisher, record::Act};
use crate::error::ApiError;

/// What the catalogue has.
#[derive(Debug)]
pub struct Loaded {
    /// Its newest version.
    pub snapshot: Snapshot,
    /// Keys of tenants that are not there: an onboarding or offboarding that a crash cut short.
    /// [`Publisher::sweep`] destroys them.
    pub orphans: Vec<Arc<TenantKeys>>,
}

/// Why the catalogue was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A tenant's key does not open.
    #[error("a tenant's key does not open")]
    Key(#[from] StoredKeyError),
    /// A resource cannot be read.
    #[error("a resource cannot be read")]
    Resource(#[from] UnreadableResource),
    /// It holds what no version may.
    #[error("the catalogue holds what no version may: {} problem(s), the first: {}", problems.len(), problems[0])]
    Invalid {
        /// All of it; never empty.
        problems: Vec<Problem>,
    },
}

/// A part of a thousand resources is a megabyte while it is being read. More would be no faster.
const PART_MAX: usize = 1_000;

/// Builds the snapshot of the catalogue's newest version. Blocks: 10,000 tenants with 100,000
/// keys take less than a second.
///
/// # Errors
///
/// [`LoadError`].
pub fn load(catalogue: &Catalogue, root: &dyn RootKey) -> Result<Loaded, LoadError> {
    let mut keys: HashMap<TenantId, Arc<TenantKeys>> = HashMap::new();
    for stored in catalogue.keys()? {
        keys.insert(stored.tenant, Arc::new(unlock(&stored, root)?));
    }
    let mut loading = SnapshotLoading::begin();
    let version = catalogue.read_current(PART_MAX, &mut |rows| {
        let part = open_all(&rows, &keys)?;
        loading.add(part, &|id| keys.get(&id).cloned());
        Ok::<_, LoadError>(())
    })?;
    let snapshot = loading
        .finish(version)
        .map_err(|problems| LoadError::Invalid { problems })?;
    keys.retain(|id, _| snapshot.tenant(*id).is_none());
    Ok(Loaded {
        snapshot,
        orphans: keys.into_values().collect(),
    })
}

fn open_all(
    rows: &[store::Resource],
    keys: &HashMap<TenantId, Arc<TenantKeys>>,
) -> Result<Vec<Change>, UnreadableResource> {
    let mut opener = Opener::default();
    let opened = rows.iter().map(|row| {
        let (address, resource) = opener.open(row, |id| keys.get(&id).cloned())?;
        Ok(Change {
            address,
            resource: Some(resource),
        })
    });
    opened.collect()
}

impl Publisher {
    /// Finishes what a crash cut short: destroys the files and keys of tenants that are not
    /// there. Blocks. Returns how many there were.
    ///
    /// # Errors
    ///
    /// If a file or key cannot be removed, or the record cannot be written; it can be repeated.
    pub fn sweep(
        &self,
        orphans: &[Arc<TenantKeys>],
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        // Another replica may be in the middle of making one of them.
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas().map_err(boxed)?;
        let served = self.current();
        let gone = orphans
            .iter()
            .filter(|keys| served.tenant(keys.tenant()).is_none());
        let mut swept = 0;
        for keys in gone {
            let act = Act::of_platform("sweep_tenant", keys.tenant().to_string());
            self.record(&act.done(), None).map_err(boxed)?;
            self.destroy(keys).map_err(boxed)?;
            swept += 1;
        }
        Ok(swept)
    }

    /// Destroys a tenant's file and key: what they held cannot be read any more.
    pub(crate) fn destroy(&self, keys: &Arc<TenantKeys>) -> Result<(), ApiError> {
        // The key first: without it the file is noise, wherever copies of it are.
        self.catalogue
            .delete_key(keys.tenant())
            .map_err(ApiError::internal)?;
        let scope = self.service_scope(keys, ServicePurpose::Onboarding);
        self.stores.remove(&scope).map_err(ApiError::internal)?;
        self.stores
            .assign(keys.tenant(), &Placement::File)
            .map_err(ApiError::internal)
    }
}

fn boxed(error: ApiError) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}
