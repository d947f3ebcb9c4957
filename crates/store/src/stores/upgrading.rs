//! Bringing stores to the newest step of their schema, one after another, while they are served.

use base::Name;
use tenancy::TenantScope;

use super::{StoreError, Stores};
use crate::database::sql;
use crate::schema;
use crate::steps::Upgraded;
use crate::tenant::TenantStore;

/// The newest step of the stores' schema that this program knows.
pub const NEWEST_STEP: u32 = schema::TENANT.newest();

/// Why a store was not brought to the newest step. It is as it was, and served as before.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It is being moved: what it is moved to has the newest step.
    #[error("the tenant's store is being moved")]
    Moving,
    /// The store, or somebody used its tables for too long.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Stores {
    /// Brings the tables of the scope's tenant to the newest step, where they are its own; a pool's
    /// are all its tenants': see [`Stores::upgrade_pool`]. One transaction: a crash leaves the step
    /// before. What asks the store waits meanwhile. Blocks.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`].
    pub fn upgrade(&self, scope: &TenantScope) -> Result<Upgraded, UpgradeError> {
        let keys = scope.keys();
        let slot = self.slot(keys.tenant());
        let mut open = slot.open.lock();
        if slot.is_moving.load(std::sync::atomic::Ordering::Acquire) {
            return Err(UpgradeError::Moving);
        }
        match self.place_of(keys.tenant()) {
            Some(place) => place.upgrade(&mut open, keys),
            None => Ok(self.upgrade_file(&mut open, keys)?),
        }
    }

    /// Brings the tables that a server's pooled tenants share to the newest step, and proves that
    /// they keep tenants apart. One transaction. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Server`].
    pub fn upgrade_pool(&self, server: &Name) -> Result<Upgraded, StoreError> {
        let server = self.inner.servers.get(server)?;
        Ok(server.upgrade_pool()?)
    }
}

impl TenantStore<'_> {
    /// Reads a little of each part of the store, as its users do: whether it answers, and how long
    /// that takes.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn probe(&self) -> Result<(), StoreError> {
        self.stores
            .with_database(&self.slot, &self.keys, |database| {
                for part in [
                    sql!("SELECT count(*) FROM responses_total[ WHERE tenant = $T]"),
                    sql!("SELECT count(*) FROM conversations_total[ WHERE tenant = $T]"),
                    sql!("SELECT count(*) FROM ledger_posted[ WHERE tenant = $T]"),
                    sql!("SELECT count(*) FROM audit_head[ WHERE tenant = $T]"),
                ] {
                    database.row(part, &[], |row| row.int(0))?;
                }
                Ok::<_, StoreError>(())
            })
    }
}
