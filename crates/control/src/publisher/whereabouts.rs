//! Which stores are being made or left, on servers: durable before anything is made there, so that
//! what a crash leaves behind is found and removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::TenantId;
use tenancy::catalogue::{Address, FormerPlacement, Kind, Placement, Resource};
use tenancy::{Change, ServicePurpose, Snapshot, TenantEntry};

use super::{Act, Publisher, Turn};
use crate::error::ApiError;

/// Where the list stands among the catalogue's settings.
const SETTING: &str = "stores-under-way";

type UnderWay = BTreeMap<TenantId, Vec<Placement>>;

impl Publisher {
    /// Remembers that there may be a store of this tenant at `placement`, whatever becomes of it.
    pub(crate) fn expect_store(
        &self,
        tenant: TenantId,
        placement: &Placement,
    ) -> Result<(), ApiError> {
        let mut listed = self.under_way()?;
        let of_tenant = listed.entry(tenant).or_default();
        if of_tenant.contains(placement) {
            return Ok(());
        }
        of_tenant.push(placement.clone());
        self.keep_under_way(&listed)
    }

    /// Removes the stores that nobody has any more: of moves and onboardings that a crash cut
    /// short, and of tenants that are gone. What cannot be removed now stays listed. Blocks.
    /// Returns how many were removed.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot be read or written.
    pub fn sweep_stores(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        // Nobody is in the middle of one: they hold the turn, or are on the list of moves.
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        let turn = Turn { publisher: self };
        turn.settle_abandoned_moves()?;
        Ok(turn.sweep_stores()?)
    }

    /// Removes old copies whose time is over. Blocks. Returns how many there were.
    ///
    /// # Errors
    ///
    /// If one cannot be removed, or the catalogue not be written; it can be repeated.
    pub fn sweep_former_copies(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let _turn = self.turn.blocking_lock();
        let _among_replicas = self.among_replicas()?;
        let now = self.clock.now();
        let due: Vec<Arc<TenantEntry>> = self
            .current()
            .tenants()
            .filter(|tenant| {
                let former = tenant.spec.former_placement.as_ref();
                former.is_some_and(|former| former.kept_until <= now)
            })
            .cloned()
            .collect();
        for tenant in &due {
            self.remove_former_copy(tenant)?;
        }
        Ok(due.len())
    }

    fn remove_former_copy(&self, tenant: &TenantEntry) -> Result<(), ApiError> {
        let Some(former) = tenant.spec.former_placement.as_deref() else {
            return Ok(());
        };
        self.remove_copy(tenant, &former.placement)?;
        let mut spec = (*tenant.spec).clone();
        spec.former_placement = None;
        let address = Address::platform(Kind::Tenant, tenant.name.as_str());
        let act = Act::of_platform("remove_former_copy", format!("tenants/{}", tenant.name))
            .in_log_of(&tenant.unlocked);
        let change = Change {
            address,
            resource: Some(Resource::Tenant(spec)),
        };
        Turn { publisher: self }
            .commit(&act, vec![change], &[])
            .map(drop)
    }

    /// Removes what a move has left of a tenant's store.
    pub(crate) fn remove_copy(
        &self,
        tenant: &TenantEntry,
        placement: &Placement,
    ) -> Result<(), ApiError> {
        let scope = self.service_scope(&tenant.unlocked, ServicePurpose::Onboarding);
        self.stores
            .remove_copy(&scope, placement)
            .map_err(ApiError::internal)
    }

    fn under_way(&self) -> Result<UnderWay, ApiError> {
        let kept = self
            .catalogue
            .setting(SETTING)
            .map_err(ApiError::internal)?;
        match kept {
            None => Ok(UnderWay::new()),
            Some(json) => serde_json::from_slice(&json).map_err(ApiError::internal),
        }
    }

    fn keep_under_way(&self, listed: &UnderWay) -> Result<(), ApiError> {
        let json = serde_json::to_vec(listed).expect("ids and placements are always JSON");
        self.catalogue
            .put_setting(SETTING, &json)
            .map_err(ApiError::internal)
    }
}

impl Turn<'_> {
    /// As [`Publisher::sweep_stores`].
    pub(crate) fn sweep_stores(&self) -> Result<usize, ApiError> {
        let listed = self.publisher.under_way()?;
        let served = self.current();
        let (mut left, mut removed) = (UnderWay::new(), 0);
        for (tenant, placements) in &listed {
            for placement in placements {
                if self.publisher.is_moving(*tenant)? {
                    left.entry(*tenant).or_default().push(placement.clone());
                    continue;
                }
                if is_in_use(&served, *tenant, placement) {
                    continue;
                }
                match self.publisher.stores.remove_erased(*tenant, placement) {
                    Ok(()) => removed += 1,
                    Err(error) => {
                        tracing::warn!(%tenant, %placement, %error, "a store that nobody has any more is left for later");
                        left.entry(*tenant).or_default().push(placement.clone());
                    }
                }
            }
        }
        if left != listed {
            self.publisher.keep_under_way(&left)?;
        }
        Ok(removed)
    }
}

/// Whether a tenant that is served has its store there, or an old copy that is kept.
fn is_in_use(served: &Snapshot, tenant: TenantId, placement: &Placement) -> bool {
    let Some(tenant) = served.tenant(tenant) else {
        return false;
    };
    let former = tenant.spec.former_placement.as_deref();
    let former = former.map(|FormerPlacement { placement, .. }| placement);
    tenant.spec.placement() == placement || former == Some(placement)
}
