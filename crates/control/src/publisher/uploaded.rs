//! Uploaded files and the versions that name them: none is published whose files are gone, and
//! files that no version names any more go.

use std::collections::BTreeMap;

use base::TenantId;
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{Change, Snapshot};

use super::Turn;
use crate::error::ApiError;
use crate::resources;

/// The tenants whose adapters a version changes, each with the places of those that it replaces.
pub(super) type Touched = BTreeMap<TenantId, Vec<Box<str>>>;

impl Turn<'_> {
    /// Checks that the files are there that these changes name.
    ///
    /// # Errors
    ///
    /// [`ApiError::Conflict`] if they are not.
    pub(super) fn check_uploads(
        &self,
        current: &Snapshot,
        changes: &[Change],
    ) -> Result<Touched, ApiError> {
        let mut touched = Touched::new();
        let Some(folder) = &self.publisher.adapters else {
            return Ok(touched);
        };
        for Change { address, resource } in changes {
            let (Kind::Adapter, Some(tenant)) = (address.kind, address.tenant) else {
                continue;
            };
            let replaced = touched.entry(tenant).or_default();
            let Some(Resource::Adapter(spec)) = resource else {
                continue;
            };
            if !folder.has(tenant, spec) {
                let address = resources::address_text(current, address);
                return Err(ApiError::conflict(format!(
                    "the files of {address} are not there any more: upload them again"
                )));
            }
            // What is replaced can be gone back to; what is removed cannot.
            if let Some(Resource::Adapter(former)) = resources::find(current, address) {
                replaced.push(former.location().into());
            }
        }
        Ok(touched)
    }

    /// Removes the files that no adapter has, but for those that were just replaced: these stay
    /// until the next change, so that the version before can be gone back to.
    pub(super) fn sweep_uploads(&self, next: &Snapshot, touched: &Touched) {
        let Some(folder) = &self.publisher.adapters else {
            return;
        };
        for (tenant, replaced) in touched {
            let entry = next.tenant(*tenant);
            let own = entry.and_then(|entry| entry.own.as_ref());
            let kept = own.iter().flat_map(|own| own.adapters.values());
            let kept = kept.map(|spec| spec.location());
            let kept: Vec<&str> = kept.chain(replaced.iter().map(|it| &**it)).collect();
            folder.keep_only(*tenant, &kept);
        }
    }

    /// Whether what an adapter of an earlier version names is there.
    pub(crate) fn has_files(&self, address: &Address, resource: &Resource) -> bool {
        match (&self.publisher.adapters, address.tenant, resource) {
            (Some(folder), Some(tenant), Resource::Adapter(spec)) => folder.has(tenant, spec),
            _ => true,
        }
    }
}
