//! From a declaration to the changes that lead there.

use std::collections::{BTreeMap, BTreeSet};

use base::{Name, TenantId};
use serde_json::Value;
use tenancy::catalogue::{Address, Kind, Resource};
use tenancy::{ApiKey, Change, Snapshot};

use crate::api::{Action, ApplyRequest, DiffLine, Manifest, ProblemView};
use crate::error::ApiError;
use crate::given::{self, Completed, Mint};
use crate::resources;

/// What a declaration leads to.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) diff: Vec<DiffLine>,
    /// Tenants that are new, for which keys have to be made.
    pub(crate) new_tenants: Vec<TenantId>,
    /// Keys that were made: whose, which, and the key itself.
    pub(crate) new_keys: Vec<(Option<Name>, String, ApiKey)>,
}

/// Compares a declaration with what there is.
///
/// # Errors
///
/// [`ApiError::Problems`]: everything that cannot be read as a resource.
pub(crate) fn plan(
    snapshot: &Snapshot,
    request: &ApplyRequest,
    mint: Mint<'_>,
) -> Result<Plan, ApiError> {
    let mut planning = Planning {
        snapshot,
        mint,
        plan: Plan::default(),
        tenants: BTreeMap::new(),
        declared: BTreeSet::new(),
        problems: Vec::new(),
    };
    // A tenant's id has to be known before anything in it has an address.
    let (tenants, others): (Vec<_>, Vec<_>) = request
        .resources
        .iter()
        .partition(|manifest| manifest.kind == Kind::Tenant);
    for manifest in tenants.into_iter().chain(others) {
        planning.add(manifest);
    }
    if request.prune {
        planning.prune();
    }
    if planning.problems.is_empty() {
        Ok(planning.plan)
    } else {
        Err(ApiError::Problems {
            problems: planning.problems,
        })
    }
}

struct Planning<'a> {
    snapshot: &'a Snapshot,
    mint: Mint<'a>,
    plan: Plan,
    /// Tenants that are declared here.
    tenants: BTreeMap<Name, TenantId>,
    declared: BTreeSet<Address>,
    problems: Vec<ProblemView>,
}

impl Planning<'_> {
    fn add(&mut self, manifest: &Manifest) {
        if let Err(message) = self.try_add(manifest) {
            self.problems.push(ProblemView {
                address: address_of(manifest),
                message,
            });
        }
    }

    fn try_add(&mut self, manifest: &Manifest) -> Result<(), String> {
        let address = self.address(manifest)?;
        if !address.has_valid_name() {
            return Err("the name is not valid for this kind".to_owned());
        }
        if self.declared.contains(&address) {
            return Err("it is declared twice".to_owned());
        }
        let existing = existing(self.snapshot, &address);
        let Completed { resource, key } =
            given::complete(manifest.kind, &manifest.spec, existing.as_ref(), self.mint)?;
        if let Resource::Tenant(spec) = &resource {
            let name = manifest
                .name
                .parse()
                .map_err(|_| "its name is not a name".to_owned())?;
            self.tenants.insert(name, spec.id);
            if existing.is_none() {
                self.plan.new_tenants.push(spec.id);
            }
        }
        if let Some(key) = key {
            self.plan
                .new_keys
                .push((manifest.tenant.clone(), manifest.name.clone(), key));
        }
        self.declared.insert(address.clone());
        self.plan
            .put(address_of(manifest), address, existing, resource);
        Ok(())
    }

    fn address(&self, manifest: &Manifest) -> Result<Address, String> {
        let Manifest {
            kind, tenant, name, ..
        } = manifest;
        match (kind.is_in_tenant(), tenant) {
            (false, None) => Ok(Address::platform(*kind, name)),
            (true, Some(tenant)) => {
                let declared = self.tenants.get(tenant).copied();
                let served = || self.snapshot.tenant_named(tenant.as_str()).map(|t| t.id());
                let id = declared.or_else(served).ok_or("there is no such tenant")?;
                Ok(Address::in_tenant(id, *kind, name))
            }
            (true, None) => Err(format!("a {kind} belongs to a tenant: say which")),
            (false, Some(_)) => Err(format!("a {kind} belongs to no tenant")),
        }
    }

    /// Removes what is not declared: of the platform, and of the tenants that are declared. A
    /// declaration that does not mention a tenant says nothing about it.
    fn prune(&mut self) {
        for (address, resource) in resources::all(self.snapshot) {
            let is_mentioned = match address.tenant {
                Some(tenant) => self.tenants.values().any(|declared| *declared == tenant),
                None => !matches!(address.kind, Kind::Tenant | Kind::Operator),
            };
            if is_mentioned && !self.declared.contains(&address) {
                let text = resources::address_text(self.snapshot, &address);
                self.plan.remove(text, address, &resource);
            }
        }
    }
}

impl Plan {
    /// Puts a resource, unless it is so already.
    pub(crate) fn put(
        &mut self,
        text: String,
        address: Address,
        existing: Option<Resource>,
        resource: Resource,
    ) {
        let action = match &existing {
            None => Action::Create,
            Some(existing) if *existing == resource => Action::Unchanged,
            Some(_) => Action::Update,
        };
        let is_change = action != Action::Unchanged;
        self.diff.push(DiffLine {
            address: text,
            action,
            before: existing.as_ref().filter(|_| is_change).map(shown),
            after: is_change.then(|| shown(&resource)),
        });
        if is_change {
            self.changes.push(Change {
                address,
                resource: Some(resource),
            });
        }
    }

    /// Removes a resource.
    pub(crate) fn remove(&mut self, text: String, address: Address, existing: &Resource) {
        self.diff.push(DiffLine {
            address: text,
            action: Action::Delete,
            before: Some(shown(existing)),
            after: None,
        });
        self.changes.push(Change {
            address,
            resource: None,
        });
    }
}

/// The resource as it is, if anybody ever put it: a tenant's default configuration is not there.
pub(crate) fn existing(snapshot: &Snapshot, address: &Address) -> Option<Resource> {
    let found = resources::find(snapshot, address);
    found.filter(|resource| *resource != Resource::Config(Default::default()))
}

fn shown(resource: &Resource) -> Value {
    Value::Object(given::view(resource))
}

fn address_of(manifest: &Manifest) -> String {
    let Manifest {
        kind, tenant, name, ..
    } = manifest;
    // The name is the client's, and may be anything.
    let name: String = name.chars().take(200).collect();
    match tenant {
        Some(tenant) => format!("{tenant}/{}/{name}", kind.plural()),
        None => format!("{}/{name}", kind.plural()),
    }
}
