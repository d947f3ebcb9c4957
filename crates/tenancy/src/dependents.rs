//! What names something that a version changes: it is checked again, so that whatever is published
//! can be loaded at the next start.
//!
//! A tenant's budget may name a route that the operator removes, a guardrail asks a model, a
//! credential is for an upstream. Each kind of reference is a line in [`dependents`].
//!
//! Keys and users may name a team or user that was removed: whoever removes a team shuts its keys
//! out at once, however many there are. Publishing checks their references when they are put, and
//! loading does not.

use base::{ModelName, TenantId};

use crate::catalogue::{Address, BudgetSpec, Check, CheckSpec, Kind, OnExhausted};
use crate::directory::{Snapshot, TenantEntry};

/// What names something of these changes, and is not among them. `removed` are those of the changes
/// that remove something.
pub(crate) fn dependents(
    snapshot: &Snapshot,
    changed: &[Address],
    removed: &[Address],
) -> Vec<Address> {
    let has = |among: &[Address], kind| among.iter().any(|address| address.kind == kind);
    let mut found = Vec::new();
    if has(removed, Kind::Tier) {
        let names = snapshot.routes.keys();
        found.extend(names.map(|name| Address::platform(Kind::Route, name.as_str())));
    }
    if has(removed, Kind::Route) {
        let downgrading = snapshot.tiers.iter();
        let downgrading = downgrading.filter(|(_, tier)| tier.budgets.values().any(downgrades));
        found.extend(downgrading.map(|(name, _)| Address::platform(Kind::Tier, name.as_str())));
    }
    let of_all = Touched {
        routes: has(removed, Kind::Route),
        engines: has(changed, Kind::Tier)
            || has(changed, Kind::Upstream)
            || has(changed, Kind::Route),
        credentials: has(changed, Kind::Upstream),
    };
    if of_all.any() {
        for tenant in snapshot.tenants() {
            of_all.list(tenant, &mut found);
        }
    }
    // Most tenants have none of these, and most changes are of one tenant.
    for address in changed {
        if let (Kind::Tenant, Some(tenant)) = (address.kind, snapshot.tenant_named(&address.name)) {
            found.push(config_of(tenant));
            found.extend(adapters_of(tenant));
        }
    }
    for address in removed {
        if let Some(tenant) = address.tenant.and_then(|id| snapshot.tenant(id)) {
            list_in_tenant(tenant, address.kind, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|address| !changed.contains(address));
    found
}

/// What changed of that which every tenant may name.
struct Touched {
    /// A route went.
    routes: bool,
    /// What adapters sit on: tiers, routes, upstreams.
    engines: bool,
    /// What credentials are for: upstreams.
    credentials: bool,
}

impl Touched {
    fn any(&self) -> bool {
        self.routes || self.engines || self.credentials
    }

    fn list(&self, tenant: &TenantEntry, found: &mut Vec<Address>) {
        let id = tenant.id();
        if self.routes {
            let budgets = tenant.budgets.iter().filter(|(_, spec)| downgrades(spec));
            found.extend(budgets.map(|(name, _)| of(id, Kind::Budget, name)));
            if tenant.config.cache.is_some() {
                found.push(config_of(tenant));
            }
            let guardrails = tenant.guardrails.iter().flat_map(|all| all.keys());
            found.extend(guardrails.map(|name| of(id, Kind::Guardrail, name)));
        }
        if self.engines {
            found.extend(adapters_of(tenant));
        }
        if self.credentials {
            let credentials = tenant.own.iter().flat_map(|own| own.credentials.keys());
            found.extend(credentials.map(|name| of(id, Kind::Credential, name)));
        }
    }
}

/// What may name a thing of this kind in the same tenant.
fn list_in_tenant(tenant: &TenantEntry, kind: Kind, found: &mut Vec<Address>) {
    let id = tenant.id();
    match kind {
        Kind::Team | Kind::User | Kind::Key | Kind::Feature => {
            found.extend(tenant.budgets.keys().map(|name| of(id, Kind::Budget, name)));
            found.extend(tenant.limits.keys().map(|name| of(id, Kind::Limit, name)));
            found.push(config_of(tenant));
        }
        // A judge may be one of the tenant's own models.
        Kind::Adapter => {
            let guardrails = tenant.guardrails.iter().flat_map(|all| all.keys());
            found.extend(guardrails.map(|name| of(id, Kind::Guardrail, name)));
            found.push(config_of(tenant));
        }
        // Prompts look for those who name them themselves.
        _ => {}
    }
}

fn of(tenant: TenantId, kind: Kind, name: &base::Name) -> Address {
    Address::in_tenant(tenant, kind, name.as_str())
}

fn config_of(tenant: &TenantEntry) -> Address {
    Address::in_tenant(tenant.id(), Kind::Config, Kind::Config.as_str())
}

fn adapters_of(tenant: &TenantEntry) -> impl Iterator<Item = Address> {
    let names = tenant.own.iter().flat_map(|own| own.adapters.keys());
    names.map(|name| of(tenant.id(), Kind::Adapter, name))
}

fn downgrades(budget: &BudgetSpec) -> bool {
    matches!(budget.on_exhausted, OnExhausted::Downgrade(_))
}

/// That the models which a tenant's guardrail asks are there.
pub(crate) fn check_models_asked(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    checks: &[CheckSpec],
    found: &mut Vec<String>,
) {
    for CheckSpec { name, check, .. } in checks {
        let model = match check {
            Check::Topics(spec) => &spec.model,
            Check::Moderation(spec) => &spec.model,
            Check::Judge(spec) => &spec.model,
            _ => continue,
        };
        let who = format!("the check `{name}`");
        check_model_asked(snapshot, tenant, &who, model, found);
    }
}

/// That a model which a tenant's configuration asks is there: a route, or an adapter of its own.
pub(crate) fn check_model_asked(
    snapshot: &Snapshot,
    tenant: &TenantEntry,
    who: &str,
    model: &ModelName,
    found: &mut Vec<String>,
) {
    if !snapshot.routes.contains_key(model) && tenant.adapter(model.as_str()).is_none() {
        found.push(format!("there is no route `{model}`, which {who} asks"));
    }
}

/// 20: whoever sees these knows what to look for.
pub(crate) const DEPENDENTS_TOLD_MAX: usize = 20;

/// A problem of what did not change, with what to do about it.
pub(crate) fn told_to_dependent(message: &str) -> String {
    format!(
        "{message}: it still names what this version changes, so change or remove it first, or in the same version"
    )
}
