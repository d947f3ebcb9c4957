//! Stage 2, resolve tenant: from here on the request acts inside one tenant, by its scope.

use std::sync::Arc;

use base::{ModelName, Timestamp};
use models::Operation;
use tenancy::catalogue::TierSpec;
use tenancy::{Permission, TenantEntry, TenantScope};

use super::arrive::Arrived;
use super::authenticate::Authenticated;
use super::trail::Trail;
use crate::configuration::Configuration;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::tenants::TenantRuntime;

/// A request inside its tenant.
pub(super) struct Resolved<Target> {
    _made_here: (),
    pub(super) arrived: Box<Arrived>,
    pub(super) target: Target,
    pub(super) inside: Arc<Inside>,
}

/// The tenant that a request acts in, and by what right. Goes with the request to its end.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) shared: Arc<Shared>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) tenant: Arc<TenantEntry>,
    pub(super) runtime: Arc<TenantRuntime>,
    pub(super) tier: Arc<TierSpec>,
    pub(super) scope: TenantScope,
    pub(super) at: Timestamp,
}

impl<Target> Authenticated<Target> {
    /// Makes the scope.
    pub(super) fn resolve_tenant(self, trail: &mut Trail) -> Result<Resolved<Target>, Refusal> {
        let (arrived, target, principal) = self.into_parts();
        let tenant = Arc::clone(principal.tenant());
        let scope = principal.into_scope().map_err(|error| {
            tracing::error!(%error, "a scope could not be made");
            Refusal::Internal
        })?;
        let shared = Arc::clone(&arrived.shared);
        let runtime = shared.tenants.runtime(&tenant, &shared.metrics);
        trail.tenant = Some(Arc::clone(&tenant));
        trail.metrics = Some(Arc::clone(&runtime.metrics));
        trail.key = scope.grant().key().map(|key| key.name.clone());
        if let Some(span) = trail.span() {
            span.identify(scope.grant().key_id());
        }
        if !scope.grant().allows(Permission::CallModels) {
            return Err(Refusal::Forbidden(
                "the key's role does not allow calls of models",
            ));
        }
        let configuration = Arc::clone(&arrived.configuration);
        let at = arrived.at;
        let tier = Arc::clone(configuration.snapshot.tier_of(&tenant));
        let inside = Arc::new(Inside {
            shared,
            configuration,
            tenant,
            runtime,
            tier,
            scope,
            at,
        });
        Ok(Resolved {
            _made_here: (),
            arrived,
            target,
            inside,
        })
    }
}

impl<Target> Resolved<Target> {
    pub(super) fn tenant(&self) -> &TenantEntry {
        &self.inside.tenant
    }

    /// Whether credential, tenant and tier all let the caller use the model.
    pub(super) fn may_call(&self, model: &ModelName) -> bool {
        self.inside.may_call(model)
    }

    /// The tenant's adapters that the caller may use.
    pub(super) fn adapters(&self) -> impl Iterator<Item = ModelName> + '_ {
        self.inside.adapters()
    }
}

impl Inside {
    /// Whether credential, tenant and tier all let the caller use the model.
    pub(super) fn may_call(&self, model: &ModelName) -> bool {
        self.is_open_to_caller(model) && self.is_open_to_tier(model)
    }

    /// Whether tenant and tier both let the tenant use the model.
    pub(super) fn is_open_to_tenant(&self, model: &ModelName) -> bool {
        is_open(&self.tenant.config.models, model) && self.is_open_to_tier(model)
    }

    /// Whether credential and tenant let the caller use the name.
    pub(super) fn is_open_to_caller(&self, model: &ModelName) -> bool {
        self.scope.grant().may_call(model) && is_open(&self.tenant.config.models, model)
    }

    /// Whether the tenant's tier has the model.
    pub(super) fn is_open_to_tier(&self, model: &ModelName) -> bool {
        is_open(&self.tier.models, model)
    }
}

/// An empty list names all.
fn is_open(list: &[ModelName], model: &ModelName) -> bool {
    list.is_empty() || list.contains(model)
}

/// A call inside its tenant.
pub(super) type ResolvedCall = Resolved<Operation>;
