//! Rotating encryption keys while serving.

use std::sync::Arc;

use store::StoredKey;
use tenancy::catalogue::Address;
use tenancy::{
    Change, KeyOwner, LocalRootKey, RootKey, ServicePurpose, Snapshot, TenantEntry, TenantKeys,
};

use super::sealing::{Sealer, current_wrapping, rewrap, stored_key};
use super::{Act, Publisher, Turn};
use crate::error::ApiError;
use crate::resources;
use crate::token_keys::RotatedTokenKeys;
use tenancy::catalogue::SecretRef;

/// What a rotation did.
pub(crate) struct Rotated {
    /// What is current now.
    pub(crate) current: String,
    /// How much was wrapped or sealed anew.
    pub(crate) renewed: u64,
}

impl Turn<'_> {
    /// Re-encrypts a tenant under a new key. The key before it is kept, so that a crash leaves
    /// nothing unreadable and the version before can still be gone back to; the key before that
    /// is destroyed.
    pub(crate) fn rotate_tenant_key(
        &self,
        act: &Act,
        tenant: &TenantEntry,
    ) -> Result<Rotated, ApiError> {
        let publisher = self.publisher;
        if publisher.is_moving(tenant.id())? {
            return Err(ApiError::conflict(
                "the tenant is being moved: rotate its key when it is there",
            ));
        }
        let catalogue = &publisher.catalogue;
        let stored = catalogue.key(tenant.id()).map_err(ApiError::internal)?;
        let stored = stored.ok_or_else(|| ApiError::internal("a served tenant has no key"))?;
        let previous = current_wrapping(&stored).map_err(ApiError::internal)?;
        let root = Arc::clone(&publisher.root.read());
        let (keys, wrapped) = tenant
            .unlocked
            .next_generation(root.as_ref(), publisher.entropy.as_ref())
            .map_err(ApiError::internal)?;
        let keys = Arc::new(keys);
        // From here on either key opens what it sealed, whenever a crash comes.
        let both = stored_key(&keys, &wrapped, Some(previous));
        catalogue.put_key(&both).map_err(ApiError::internal)?;
        let scope = publisher.service_scope(&keys, ServicePurpose::Rotation);
        publisher
            .stores
            .rotate(&scope)
            .map_err(ApiError::internal)?;
        let renewed = self.reseal(act, tenant, &keys)?;
        Ok(Rotated {
            current: keys.generation().to_string(),
            renewed,
        })
    }

    /// Signs tokens with a new key from now on. Tokens of the key before it stay good for their
    /// time, which is why there is one rotation in that time.
    pub(crate) fn rotate_token_keys(&self, act: &Act) -> Result<RotatedTokenKeys, ApiError> {
        let publisher = self.publisher;
        if let Some(until) = publisher.token_keys.overlap() {
            return Err(ApiError::conflict(format!(
                "the key before the current one still verifies tokens: rotate again after {until}"
            )));
        }
        publisher.record(&act.done(), None)?;
        publisher.token_keys.rotate().map_err(|error| {
            // The record said that it was going to be done; now it says that it was not.
            match publisher.record(&act.failed(), None) {
                Ok(()) => ApiError::internal(error),
                Err(unrecorded) => unrecorded,
            }
        })
    }

    /// Makes a version in which the tenant's resources are sealed under its new key, and serves
    /// it with that key.
    fn reseal(
        &self,
        act: &Act,
        tenant: &TenantEntry,
        keys: &Arc<TenantKeys>,
    ) -> Result<u64, ApiError> {
        let publisher = self.publisher;
        let current = self.current();
        let mut sealer = Sealer::new(publisher.entropy.as_ref());
        sealer.add(keys);
        let row = |address: Address| {
            let resource = resources::find(&current, &address)?;
            sealer.row(&current, &address, &resource)
        };
        let rows: Vec<_> = resources::of_tenant(&current, tenant)
            .filter_map(row)
            .collect();
        let next = with_keys(&current, keys)?;
        publisher.target.check(&next).map_err(|problems| {
            let first = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            ApiError::internal(format!("what is served cannot be served any more: {first}"))
        })?;
        let act = act.clone().in_log_of(keys);
        publisher.record(&act.done_at(next.version(), rows.len()), Some(keys))?;
        let now = publisher.clock.now();
        publisher
            .catalogue
            .commit(current.version(), &rows, &act.actor, &act.note(), now)
            .map_err(ApiError::internal)?;
        publisher.target.publish(Arc::new(next));
        Ok(rows.len() as u64)
    }

    /// Wraps every key under another root key. At every moment one of the two root keys opens
    /// the whole installation: the platform's key is kept under both while the tenants' move,
    /// all at once.
    pub(crate) fn rotate_root_key(
        &self,
        act: &Act,
        new_root: Arc<dyn RootKey>,
    ) -> Result<Rotated, ApiError> {
        let publisher = self.publisher;
        let old_root = Arc::clone(&publisher.root.read());
        let new_id = new_root.id();
        if old_root.id() == new_id {
            return Err(ApiError::of("root_key", "this is the root key already"));
        }
        let file = &publisher.platform_key_file;
        let kept = file.read().map_err(ApiError::internal)?;
        let old = kept.iter().find(|wrapped| wrapped.root == old_root.id());
        let old = old.ok_or_else(|| ApiError::internal("the platform's key is not kept"))?;
        let new = old
            .rewrap(KeyOwner::Platform, old_root.as_ref(), new_root.as_ref())
            .map_err(ApiError::internal)?;
        let stored = publisher.catalogue.keys().map_err(ApiError::internal)?;
        let rewrapped: Vec<StoredKey> = stored
            .iter()
            .map(|stored| rewrap(stored, old_root.as_ref(), new_root.as_ref()))
            .collect::<Result<_, _>>()
            .map_err(ApiError::internal)?;
        publisher.record(&act.done(), None)?;
        file.replace(&[old.clone(), new.clone()])
            .map_err(ApiError::internal)?;
        publisher
            .catalogue
            .put_keys(&rewrapped)
            .map_err(ApiError::internal)?;
        *publisher.root.write() = new_root;
        file.replace(&[new]).map_err(ApiError::internal)?;
        Ok(Rotated {
            current: new_id.to_string(),
            renewed: rewrapped.len() as u64 + 1,
        })
    }
}

/// The same catalogue, with other keys for one tenant. Built from nothing, since a snapshot's
/// keys do not change: a second at 10,000 tenants, and rotations are rare.
fn with_keys(current: &Snapshot, keys: &Arc<TenantKeys>) -> Result<Snapshot, ApiError> {
    let changes = resources::all(current)
        .map(|(address, resource)| Change {
            address,
            resource: Some(resource),
        })
        .collect();
    let source = |id| {
        if id == keys.tenant() {
            return Some(Arc::clone(keys));
        }
        current
            .tenant(id)
            .map(|tenant| Arc::clone(&tenant.unlocked))
    };
    Snapshot::empty()
        .with(current.version() + 1, changes, &source)
        .map_err(|problems| {
            let first = problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            ApiError::internal(format!("what is served is not valid any more: {first}"))
        })
}

/// The root key that a reference leads to.
pub(crate) fn root_key_at(reference: &SecretRef) -> Result<Arc<dyn RootKey>, ApiError> {
    let opened = match reference {
        SecretRef::File(path) => LocalRootKey::open(path.as_ref()),
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) => LocalRootKey::from_environment_value(&value),
            Err(_) => {
                let message = format!("the serving process has no environment variable `{name}`");
                return Err(ApiError::of("root_key", message));
            }
        },
    };
    // The message names the path and what to do, and never the key.
    opened
        .map(|key| Arc::new(key) as Arc<dyn RootKey>)
        .map_err(|error| ApiError::of("root_key", error.to_string()))
}

impl Publisher {
    /// The id of the root key in use.
    pub fn root_key_id(&self) -> tenancy::RootKeyId {
        self.root.read().id()
    }
}
