//! How resources and keys lie in the catalogue.
//!
//! The whole file is encrypted under the platform's key. A tenant's own resources are sealed
//! under that tenant's key besides, bound to their address: destroying the key erases them from
//! every version and every backup.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use base::{Entropy, TenantId};
use serde::{Deserialize, Serialize};
use store::{ResourceChange, StoredKey};
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{
    KeyError, OpenError, RootKey, SealingKey, Snapshot, TenantKeys, WrappedKey, purpose,
};

type TenantSeal = SealingKey<purpose::Catalogue>;

/// A tenant's wrapped key and the one before it, which a rotation leaves so that earlier versions
/// can be read. The next rotation replaces it.
#[derive(Serialize, Deserialize)]
struct Wrappings {
    current: WrappedKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<WrappedKey>,
}

/// The keys as they are stored.
pub(super) fn stored_key(
    keys: &TenantKeys,
    current: &WrappedKey,
    previous: Option<WrappedKey>,
) -> StoredKey {
    let wrappings = Wrappings {
        current: current.clone(),
        previous,
    };
    StoredKey {
        tenant: keys.tenant(),
        wrapped: serde_json::to_vec(&wrappings).expect("wrapped keys are plain data"),
        generation: current.generation,
    }
}

/// Why a stored key does not open.
#[derive(Debug, thiserror::Error)]
pub enum StoredKeyError {
    /// It is not in our form.
    #[error("the key of {tenant} is damaged")]
    Malformed {
        /// Whose.
        tenant: TenantId,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The root key does not unwrap it.
    #[error("the key of {tenant} does not unwrap")]
    Locked {
        /// Whose.
        tenant: TenantId,
        /// Why.
        #[source]
        source: KeyError,
    },
}

fn wrappings(stored: &StoredKey) -> Result<Wrappings, StoredKeyError> {
    let tenant = stored.tenant;
    serde_json::from_slice(&stored.wrapped)
        .map_err(|source| StoredKeyError::Malformed { tenant, source })
}

/// Unlocks a stored key, and the one before it if that is kept.
pub(super) fn unlock(stored: &StoredKey, root: &dyn RootKey) -> Result<TenantKeys, StoredKeyError> {
    let tenant = stored.tenant;
    let wrappings = wrappings(stored)?;
    let keys = match &wrappings.previous {
        Some(previous) => TenantKeys::unwrap_rotating(root, tenant, &wrappings.current, previous),
        None => TenantKeys::unwrap(root, tenant, &wrappings.current),
    };
    keys.map_err(|source| StoredKeyError::Locked { tenant, source })
}

/// The current one of a stored key's wrappings.
pub(super) fn current_wrapping(stored: &StoredKey) -> Result<WrappedKey, StoredKeyError> {
    wrappings(stored).map(|wrappings| wrappings.current)
}

/// The same keys under another root key. Wrappings that are under it already stay.
pub(super) fn rewrap(
    stored: &StoredKey,
    old_root: &dyn RootKey,
    new_root: &dyn RootKey,
) -> Result<StoredKey, StoredKeyError> {
    let tenant = stored.tenant;
    let rewrap = |wrapped: &WrappedKey| {
        if wrapped.root == new_root.id() {
            return Ok(wrapped.clone());
        }
        wrapped
            .rewrap(tenancy::KeyOwner::Tenant(tenant), old_root, new_root)
            .map_err(|source| StoredKeyError::Locked { tenant, source })
    };
    let old = wrappings(stored)?;
    let new = Wrappings {
        current: rewrap(&old.current)?,
        previous: old.previous.as_ref().map(rewrap).transpose()?,
    };
    Ok(StoredKey {
        tenant,
        wrapped: serde_json::to_vec(&new).expect("wrapped keys are plain data"),
        generation: stored.generation,
    })
}

/// Makes rows of resources.
pub(super) struct Sealer<'a> {
    entropy: &'a dyn Entropy,
    /// Deriving a key costs more than sealing with it.
    seals: HashMap<TenantId, TenantSeal>,
}

impl<'a> Sealer<'a> {
    pub(super) fn new(entropy: &'a dyn Entropy) -> Self {
        Self {
            entropy,
            seals: HashMap::new(),
        }
    }

    /// Also seals for this tenant, which no snapshot has yet, or has with older keys.
    pub(super) fn add(&mut self, keys: &Arc<TenantKeys>) {
        self.seals.insert(keys.tenant(), keys.sealing_key());
    }

    /// The row of a resource; none if there is no such tenant.
    pub(super) fn row(
        &mut self,
        snapshot: &Snapshot,
        address: &Address,
        resource: &Resource,
    ) -> Option<ResourceChange> {
        let json = resource.to_json().to_string();
        let spec = match address.tenant {
            None => json.into_bytes(),
            Some(id) => {
                let seal = match self.seals.entry(id) {
                    Entry::Occupied(seal) => seal.into_mut(),
                    Entry::Vacant(place) => {
                        place.insert(snapshot.tenant(id)?.unlocked.sealing_key())
                    }
                };
                let context = [address.kind.as_str().as_bytes(), address.name.as_bytes()];
                seal.seal(self.entropy, &context, json.as_bytes())
            }
        };
        Some(ResourceChange {
            spec: Some(spec),
            ..removal(address)
        })
    }
}

/// The row that removes a resource.
pub(super) fn removal(address: &Address) -> ResourceChange {
    ResourceChange {
        kind: address.kind.as_str().to_owned(),
        tenant: address
            .tenant
            .map(|tenant| tenant.to_string())
            .unwrap_or_default(),
        name: address.name.clone(),
        spec: None,
    }
}

/// Opens tenants' rows, one seal for each tenant.
#[derive(Default)]
pub(super) struct Opener {
    seals: HashMap<TenantId, TenantSeal>,
}

/// Why a row of the catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableResource {
    /// Its kind or tenant is none that this version knows.
    #[error("the catalogue holds a resource of an unknown kind or tenant: `{kind}`, `{tenant}`")]
    UnknownAddress {
        /// What stands there.
        kind: String,
        /// What stands there.
        tenant: String,
    },
    /// There is no key for its tenant.
    #[error("{address}: its tenant has no key any more")]
    Erased {
        /// Which resource.
        address: Address,
    },
    /// Its seal does not open.
    #[error("{address}: its seal does not open")]
    Sealed {
        /// Which resource.
        address: Address,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// Its specification is none.
    #[error("{address}: its specification cannot be read")]
    Malformed {
        /// Which resource.
        address: Address,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The address of a row.
pub(super) fn address_of(row: &store::Resource) -> Result<Address, UnreadableResource> {
    let unknown = || UnreadableResource::UnknownAddress {
        kind: row.kind.clone(),
        tenant: row.tenant.clone(),
    };
    let kind: Kind = row.kind.parse().map_err(|_| unknown())?;
    let tenant = match row.tenant.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| unknown())?),
    };
    Ok(Address {
        kind,
        tenant,
        name: row.name.clone(),
    })
}

impl Opener {
    /// The resource in a row. `keys` finds the keys of its tenant.
    pub(super) fn open(
        &mut self,
        row: &store::Resource,
        keys: impl Fn(TenantId) -> Option<Arc<TenantKeys>>,
    ) -> Result<(Address, Resource), UnreadableResource> {
        let address = address_of(row)?;
        let opened = match address.tenant {
            None => Resource::from_json(address.kind, &row.spec),
            Some(id) => {
                let seal = match self.seals.entry(id) {
                    Entry::Occupied(seal) => seal.into_mut(),
                    Entry::Vacant(place) => match keys(id) {
                        Some(keys) => place.insert(keys.sealing_key()),
                        None => return Err(UnreadableResource::Erased { address }),
                    },
                };
                let context = [row.kind.as_bytes(), row.name.as_bytes()];
                match seal.open(&context, &row.spec) {
                    Ok(json) => Resource::from_json(address.kind, &json),
                    Err(source) => return Err(UnreadableResource::Sealed { address, source }),
                }
            }
        };
        match opened {
            Ok(resource) => Ok((address, resource)),
            Err(source) => Err(UnreadableResource::Malformed { address, source }),
        }
    }
}

/// The resources in these rows, each by itself, since an old version may have some that are
/// erased.
pub(crate) fn decode(
    rows: &[store::Resource],
    snapshot: &Snapshot,
) -> Vec<Result<(Address, Resource), UnreadableResource>> {
    let mut opener = Opener::default();
    let keys = |id| {
        snapshot
            .tenant(id)
            .map(|tenant| Arc::clone(&tenant.unlocked))
    };
    rows.iter().map(|row| opener.open(row, keys)).collect()
}
