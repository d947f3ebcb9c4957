//! Resources as a snapshot has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{ModelName, Name};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tenancy::catalogue::{Address, Kind, Resource, Spec};
use tenancy::{Snapshot, TenantEntry};

use crate::api::ResourceView;
use crate::given;

/// The resource at this address.
pub(crate) fn find(snapshot: &Snapshot, address: &Address) -> Option<Resource> {
    match address.tenant {
        Some(tenant) => find_in_tenant(snapshot.tenant(tenant)?, address.kind, &address.name),
        None => find_of_platform(snapshot, address.kind, &address.name),
    }
}

fn find_of_platform(snapshot: &Snapshot, kind: Kind, name: &str) -> Option<Resource> {
    match kind {
        Kind::Tier => spec(snapshot.tiers().get(name)),
        Kind::Upstream => spec(snapshot.upstreams().get(name)),
        Kind::Price => spec(snapshot.prices().get(name)),
        Kind::Route => spec(snapshot.routes().get(name)),
        Kind::Operator => spec(snapshot.operators().get(name)),
        Kind::SharedCost => spec(snapshot.shared_costs().get(name)),
        Kind::PriceBook => spec(snapshot.price_books().get(name)),
        Kind::SharingGroup => spec(snapshot.sharing_groups().get(name)),
        Kind::PlatformChannel => spec(snapshot.channels().get(name)),
        Kind::Tenant => spec(snapshot.tenant_named(name).map(|tenant| &tenant.spec)),
        _ => None,
    }
}

fn find_in_tenant(tenant: &TenantEntry, kind: Kind, name: &str) -> Option<Resource> {
    match kind {
        Kind::Team => spec(tenant.teams.get(name)),
        Kind::User => spec(tenant.users.get(name)),
        Kind::Feature => spec(tenant.features.get(name)),
        Kind::Key => tenant.keys.get(name).map(|key| Resource::Key(key.spec())),
        Kind::Budget => spec(tenant.budgets.get(name)),
        Kind::Limit => spec(tenant.limits.get(name)),
        Kind::Credential => spec(tenant.own.as_ref()?.credentials.get(name)),
        Kind::Guardrail => spec(tenant.guardrails.as_ref()?.get(name)),
        Kind::Adapter => spec(tenant.own.as_ref()?.adapters.get(name)),
        Kind::Channel => spec(tenant.own.as_ref()?.channels.get(name)),
        Kind::Prompt => spec(tenant.prompts.as_ref()?.get(name)),
        Kind::Config if name == Kind::Config.as_str() => spec(Some(&tenant.config)),
        _ => None,
    }
}

fn spec<S: Spec + Clone + Into<Resource>>(found: Option<&Arc<S>>) -> Option<Resource> {
    found.map(|spec| S::clone(spec).into())
}

/// The names of all resources of a kind, sorted.
pub(crate) fn names(snapshot: &Snapshot, kind: Kind, tenant: Option<&TenantEntry>) -> Vec<String> {
    fn of<V>(map: &BTreeMap<Name, V>) -> Vec<String> {
        map.keys().map(Name::to_string).collect()
    }
    fn of_models<V>(map: &BTreeMap<ModelName, V>) -> Vec<String> {
        map.keys().map(ModelName::to_string).collect()
    }
    match (kind, tenant) {
        (Kind::Tier, None) => of(snapshot.tiers()),
        (Kind::Upstream, None) => of(snapshot.upstreams()),
        (Kind::Price, None) => of_models(snapshot.prices()),
        (Kind::Route, None) => of_models(snapshot.routes()),
        (Kind::Operator, None) => of(snapshot.operators()),
        (Kind::SharedCost, None) => of(snapshot.shared_costs()),
        (Kind::PriceBook, None) => of(snapshot.price_books()),
        (Kind::SharingGroup, None) => of(snapshot.sharing_groups()),
        (Kind::PlatformChannel, None) => of(snapshot.channels()),
        (Kind::Tenant, None) => {
            let mut names: Vec<String> = snapshot.tenants().map(|t| t.name.to_string()).collect();
            names.sort_unstable();
            names
        }
        (Kind::Team, Some(tenant)) => of(&tenant.teams),
        (Kind::User, Some(tenant)) => of(&tenant.users),
        (Kind::Feature, Some(tenant)) => of(&tenant.features),
        (Kind::Key, Some(tenant)) => of(&tenant.keys),
        (Kind::Budget, Some(tenant)) => of(&tenant.budgets),
        (Kind::Limit, Some(tenant)) => of(&tenant.limits),
        (Kind::Credential, Some(tenant)) => tenant
            .own
            .as_ref()
            .map(|own| of(&own.credentials))
            .unwrap_or_default(),
        (Kind::Guardrail, Some(tenant)) => tenant
            .guardrails
            .as_ref()
            .map(|guardrails| of(guardrails))
            .unwrap_or_default(),
        (Kind::Adapter, Some(tenant)) => tenant
            .own
            .as_ref()
            .map(|own| of(&own.adapters))
            .unwrap_or_default(),
        (Kind::Channel, Some(tenant)) => tenant
            .own
            .as_ref()
            .map(|own| of(&own.channels))
            .unwrap_or_default(),
        (Kind::Prompt, Some(tenant)) => tenant
            .prompts
            .as_ref()
            .map(|prompts| of(prompts))
            .unwrap_or_default(),
        // A tenant that never had one has the default, which is nothing to keep.
        (Kind::Config, Some(tenant)) if *tenant.config != Default::default() => {
            vec![Kind::Config.as_str().to_owned()]
        }
        _ => Vec::new(),
    }
}

/// Everything in a snapshot: the platform's own first, each kind by name.
pub(crate) fn all(snapshot: &Snapshot) -> impl Iterator<Item = (Address, Resource)> + '_ {
    let platform = Kind::ALL.into_iter().filter(|kind| !kind.is_in_tenant());
    let platform = platform.flat_map(move |kind| {
        let names = names(snapshot, kind, None).into_iter();
        names.map(move |name| Address::platform(kind, name))
    });
    let mut tenants: Vec<&Arc<TenantEntry>> = snapshot.tenants().collect();
    tenants.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let in_tenants = tenants
        .into_iter()
        .flat_map(move |tenant| of_tenant(snapshot, tenant));
    platform.chain(in_tenants).map(|address| {
        let resource = find(snapshot, &address).expect("the name was listed by this snapshot");
        (address, resource)
    })
}

/// The addresses of everything in a tenant.
pub(crate) fn of_tenant<'a>(
    snapshot: &'a Snapshot,
    tenant: &'a TenantEntry,
) -> impl Iterator<Item = Address> + 'a {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_in_tenant());
    kinds.flat_map(move |kind| {
        let names = names(snapshot, kind, Some(tenant)).into_iter();
        names.map(move |name| Address::in_tenant(tenant.id(), kind, name))
    })
}

/// The address as people write it, with the tenant's name: `acme/keys/prod`.
pub(crate) fn address_text(snapshot: &Snapshot, address: &Address) -> String {
    let tenant = address.tenant.and_then(|id| snapshot.tenant(id));
    match tenant {
        Some(tenant) => format!("{}/{}/{}", tenant.name, address.kind.plural(), address.name),
        None => address.to_string(),
    }
}

/// The resource as it is shown.
pub(crate) fn show(tenant: Option<&Name>, name: &str, resource: &Resource) -> ResourceView {
    ResourceView {
        kind: resource.kind(),
        tenant: tenant.cloned(),
        name: name.to_owned(),
        spec: Value::Object(given::view(resource)),
        etag: etag(resource),
    }
}

/// Tells states of a resource apart: the first 64 bits of a hash of its JSON.
pub(crate) fn etag(resource: &Resource) -> String {
    let text = Value::Object(given::full(resource)).to_string();
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether `if-match` allows a change of this resource.
pub(crate) fn matches(if_match: Option<&str>, existing: Option<&Resource>) -> bool {
    match (if_match.map(str::trim), existing) {
        (None, _) => true,
        (Some("*"), existing) => existing.is_some(),
        (Some(_), None) => false,
        (Some(wanted), Some(existing)) => wanted.trim_matches('"') == etag(existing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_names_one_state() {
        let team =
            Resource::from_json(Kind::Team, br#"{"id":"tem_00000000000000000000000001"}"#).unwrap();
        let tag = etag(&team);
        assert!(matches(None, None) && matches(Some(&format!("\"{tag}\"")), Some(&team)));
        assert!(matches(Some("*"), Some(&team)) && !matches(Some("*"), None));
        assert!(!matches(Some("\"00\""), Some(&team)) && !matches(Some(&tag), None));
    }
}
