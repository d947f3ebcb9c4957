//! That a tenant's bodies are kept, and who reads them, is the tenant's own word: nobody else gives
//! it, whichever way the configuration changes.

use tenancy::catalogue::{BodiesSpec, Resource};
use tenancy::{Change, Snapshot, TenantEntry};

use super::Act;
use crate::error::ApiError;

/// Whether whoever acts may change the tenants' words so.
///
/// # Errors
///
/// [`ApiError::Invalid`]: it would allow what the tenant has not.
pub(super) fn check(act: &Act, current: &Snapshot, changes: &[Change]) -> Result<(), ApiError> {
    for change in changes {
        let Some(Resource::Config(config)) = &change.resource else {
            continue;
        };
        let tenant = change.address.tenant.and_then(|id| current.tenant(id));
        let before = tenant.and_then(|tenant| tenant.config.bodies.as_ref());
        if is_wider(before, config.bodies.as_ref()) && !tenant.is_some_and(|own| acts(own, act)) {
            return Err(ApiError::of(
                "bodies",
                "only the tenant's own administrators, by a key of theirs, have bodies kept, or more \
                 of them, or for longer, or let operators read them; leave `bodies` as it is",
            ));
        }
    }
    Ok(())
}

fn is_wider(before: Option<&BodiesSpec>, after: Option<&BodiesSpec>) -> bool {
    match (before, after) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => !after.is_within(before),
    }
}

/// Whether the tenant itself acts: see `Caller::actor`.
fn acts(tenant: &TenantEntry, act: &Act) -> bool {
    let key = act.actor.strip_prefix("key:");
    let own = key.and_then(|key| key.strip_prefix(tenant.name.as_str()));
    own.is_some_and(|rest| rest.starts_with('/'))
}
