//! Several replicas, one catalogue: whoever changes it has the turn among all of them, and each
//! serves what any of them has published.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use base::TenantId;
use store::{CatalogueError, CatalogueTurn, ResourceChange, ServerError};
use tenancy::catalogue::{Kind, Resource};
use tenancy::{Change, Snapshot, TenantKeys};

use super::sealing::{Opener, address_of, unlock};
use super::{Publisher, Turn};
use crate::error::ApiError;

/// 64 tenants: beyond that, reading the whole catalogue is as fast as reading their keys one by
/// one.
const TENANTS_MAX: usize = 64;

/// The turn among all replicas; none where there is one process.
pub(crate) struct AmongReplicas<'p> {
    _turn: Option<CatalogueTurn<'p>>,
}

impl Publisher {
    /// Waits for the turn among all replicas, and serves what they have published. Whoever calls
    /// this has the turn within the process. Blocks.
    ///
    /// # Errors
    ///
    /// [`ApiError::Conflict`] if another replica changes the catalogue for too long,
    /// [`ApiError::Unavailable`] if it cannot be reached.
    pub(crate) fn among_replicas(&self) -> Result<AmongReplicas<'_>, ApiError> {
        let Some(server) = self.catalogue.server() else {
            return Ok(AmongReplicas { _turn: None });
        };
        let turn = server.turn().map_err(|error| match error {
            CatalogueError::Server(ServerError::Busy { .. }) => {
                ApiError::conflict("another replica is changing the catalogue: try again")
            }
            error => unreachable(&error),
        })?;
        Turn { publisher: self }.follow()?;
        Ok(AmongReplicas { _turn: Some(turn) })
    }

    /// Serves what other replicas have published. Blocks. Says which version is served.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot be read, or what it has cannot be served here; what was served is
    /// served still.
    pub fn follow(&self) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        let _turn = self.turn.blocking_lock();
        Ok(Turn { publisher: self }.follow()?)
    }

    /// The ids of the replicas that are there, as text. None is listed where there is one process.
    pub(super) fn replicas_there(&self) -> Result<HashSet<String>, ApiError> {
        let Some(server) = self.catalogue.server() else {
            return Ok(HashSet::new());
        };
        let replicas = server.replicas().map_err(|error| unreachable(&error))?;
        let there = replicas.iter().filter(|replica| replica.is_there());
        Ok(there.map(|replica| replica.id.to_string()).collect())
    }
}

fn unreachable(error: &CatalogueError) -> ApiError {
    tracing::warn!(error = %crate::error::chain(error), "the catalogue cannot be reached");
    ApiError::Unavailable {
        source: "the catalogue's server cannot be reached, and nothing was changed".into(),
    }
}

impl Turn<'_> {
    /// As [`Publisher::follow`].
    pub(super) fn follow(&self) -> Result<u64, ApiError> {
        let publisher = self.publisher;
        let current = self.current();
        let (newest, rows) = publisher
            .catalogue
            .changes_since(current.version())
            .map_err(ApiError::internal)?;
        if newest <= current.version() {
            return Ok(current.version());
        }
        let Some((next, touched)) = self.next_from(&current, newest, &rows)? else {
            return self.reload();
        };
        for tenant in touched.iter().filter_map(|id| next.tenant(*id)) {
            publisher
                .stores
                .assign(tenant.id(), tenant.spec.placement())
                .map_err(ApiError::internal)?;
        }
        publisher.target.publish(Arc::new(next));
        Ok(newest)
    }

    /// The snapshot that these rows make of `current`, and the tenants that they touch. None where
    /// the whole catalogue is to be read: keys have changed, or there is too much of it.
    fn next_from(
        &self,
        current: &Snapshot,
        newest: u64,
        rows: &[ResourceChange],
    ) -> Result<Option<(Snapshot, HashSet<TenantId>)>, ApiError> {
        let mut changes = Vec::with_capacity(rows.len());
        let mut touched = HashSet::new();
        let mut keys = Keys {
            publisher: self.publisher,
            current,
            by_tenant: HashMap::new(),
        };
        let mut opener = Opener::default();
        for row in rows {
            let Ok(address) = address_of(&stored(row, Vec::new())) else {
                return Ok(None);
            };
            if let Some(tenant) = address.tenant {
                touched.insert(tenant);
                // What a tenant that goes takes along is gone with it.
                if row.spec.is_none() && is_gone(current, rows, tenant) {
                    continue;
                }
                if touched.len() > TENANTS_MAX || !keys.find(tenant)? {
                    return Ok(None);
                }
            }
            let Some(spec) = &row.spec else {
                changes.push(Change {
                    address,
                    resource: None,
                });
                continue;
            };
            let Ok((address, resource)) = opener.open(&stored(row, spec.clone()), |id| keys.of(id))
            else {
                return Ok(None);
            };
            if let Resource::Tenant(spec) = &resource {
                touched.insert(spec.id);
                if touched.len() > TENANTS_MAX || !keys.find(spec.id)? {
                    return Ok(None);
                }
            }
            changes.push(Change {
                address,
                resource: Some(resource),
            });
        }
        let Ok(next) = current.with(newest, changes, &|id| keys.of(id)) else {
            return Ok(None);
        };
        if self.publisher.target.check(&next).is_err() {
            return Ok(None);
        }
        Ok(Some((next, touched)))
    }
}

/// The keys of tenants that changed.
struct Keys<'a> {
    publisher: &'a Publisher,
    current: &'a Snapshot,
    by_tenant: HashMap<TenantId, Option<Arc<TenantKeys>>>,
}

impl Keys<'_> {
    fn of(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        self.by_tenant.get(&tenant).cloned().flatten()
    }

    /// Looks a tenant's keys up. False where they are others than those that are served.
    fn find(&mut self, tenant: TenantId) -> Result<bool, ApiError> {
        let Entry::Vacant(place) = self.by_tenant.entry(tenant) else {
            return Ok(true);
        };
        let stored = self.publisher.catalogue.key(tenant);
        let served = self.current.tenant(tenant);
        let Some(stored) = stored.map_err(ApiError::internal)? else {
            place.insert(None);
            return Ok(served.is_none());
        };
        let served = served.map(|tenant| Arc::clone(&tenant.unlocked));
        if let Some(keys) = served {
            let is_same = keys.generation() == stored.generation;
            place.insert(Some(keys));
            return Ok(is_same);
        }
        let root = Arc::clone(&self.publisher.root.read());
        let keys = unlock(&stored, root.as_ref()).map_err(ApiError::internal)?;
        place.insert(Some(Arc::new(keys)));
        Ok(true)
    }
}

/// Whether the tenant is not there before, or goes in one of these rows.
fn is_gone(current: &Snapshot, rows: &[ResourceChange], tenant: TenantId) -> bool {
    let Some(served) = current.tenant(tenant) else {
        return true;
    };
    let is_removal = |row: &&ResourceChange| {
        row.kind == Kind::Tenant.as_str() && row.name == served.name.as_str()
    };
    rows.iter()
        .find(is_removal)
        .is_some_and(|row| row.spec.is_none())
}

fn stored(row: &ResourceChange, spec: Vec<u8>) -> store::Resource {
    store::Resource {
        kind: row.kind.clone(),
        tenant: row.tenant.clone(),
        name: row.name.clone(),
        version: 0,
        spec,
    }
}
