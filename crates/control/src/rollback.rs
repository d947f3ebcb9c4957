//! Going back: from an earlier version to the changes that lead there from here.
//!
//! Configuration goes back; credentials and lives do not. A key that was revoked stays revoked
//! and one that was rotated keeps its present hash, since going back must never open a door that
//! somebody closed; nor does a tenant's word about its bodies come back that was taken back. Tenants and
//! operators come and go by acts of their own.

use std::collections::{BTreeMap, BTreeSet};

use base::TenantId;
use tenancy::Snapshot;
use tenancy::catalogue::{Address, KeySpec, Kind, Resource, TenantConfig, TenantSpec};

use crate::api::KeptResource;
use crate::declare::{Plan, existing};
use crate::publisher::{UnreadableResource, decode};
use crate::resources;

/// What going back leads to, and what does not go back.
pub(crate) struct Rollback {
    pub(crate) plan: Plan,
    pub(crate) kept: Vec<KeptResource>,
}

/// Compares the rows of an earlier version with what there is.
pub(crate) fn rollback(
    snapshot: &Snapshot,
    rows: &[store::Resource],
    has_files: &dyn Fn(&Address, &Resource) -> bool,
) -> Rollback {
    let mut going = Going {
        snapshot,
        rollback: Rollback {
            plan: Plan::default(),
            kept: Vec::new(),
        },
        unreadable: BTreeSet::new(),
    };
    let mut former: BTreeMap<Address, Resource> = BTreeMap::new();
    for decoded in decode(rows, snapshot) {
        match decoded {
            Ok((address, resource)) => drop(former.insert(address, resource)),
            Err(error) => going.keep_unreadable(error),
        }
    }
    for (address, resource) in &former {
        if has_files(address, resource) {
            going.put(address, resource);
        } else {
            going.keep(
                address,
                "its uploaded files were removed: upload them again",
            );
        }
    }
    let known: BTreeSet<TenantId> = former.values().filter_map(tenant_id).collect();
    for (address, resource) in resources::all(snapshot) {
        let is_newer = address
            .tenant
            .is_some_and(|tenant| !known.contains(&tenant));
        if !is_newer && !former.contains_key(&address) {
            going.remove(address, &resource);
        }
    }
    going.rollback
}

fn tenant_id(resource: &Resource) -> Option<TenantId> {
    match resource {
        Resource::Tenant(spec) => Some(spec.id),
        _ => None,
    }
}

struct Going<'a> {
    snapshot: &'a Snapshot,
    rollback: Rollback,
    /// Resources that were there and cannot be read: what stands in their place stays.
    unreadable: BTreeSet<Address>,
}

impl Going<'_> {
    fn keep(&mut self, address: &Address, reason: &str) {
        let address = resources::address_text(self.snapshot, address);
        self.rollback.kept.push(KeptResource {
            address,
            reason: reason.to_owned(),
        });
    }

    fn keep_unreadable(&mut self, error: UnreadableResource) {
        match error {
            // What an offboarded tenant had: its own line says that it is gone.
            UnreadableResource::Erased { .. } => {}
            UnreadableResource::Sealed { address, .. } => {
                self.keep(
                    &address,
                    "its former state is sealed under a key that was rotated away",
                );
                self.unreadable.insert(address);
            }
            UnreadableResource::Malformed { address, .. } => {
                self.keep(
                    &address,
                    "its former state is not in a form that is read any more",
                );
                self.unreadable.insert(address);
            }
            UnreadableResource::UnknownAddress { kind, tenant } => {
                let address = format!("{tenant}/{kind}");
                let reason = "it is of a kind that is not known any more".to_owned();
                self.rollback.kept.push(KeptResource { address, reason });
            }
        }
    }

    fn put(&mut self, address: &Address, former: &Resource) {
        let now = existing(self.snapshot, address);
        let resource = match (former, &now) {
            (Resource::Operator(_), now) => {
                if now.as_ref() != Some(former) {
                    self.keep(address, "operators stay as they are");
                }
                return;
            }
            (Resource::Tenant(former), Some(Resource::Tenant(now))) if former.id == now.id => {
                // Engines may still keep what they kept under an earlier number.
                // And data does not follow a specification.
                Resource::Tenant(TenantSpec {
                    suspended: now.suspended,
                    salt_epoch: now.salt_epoch,
                    placement: now.placement.clone(),
                    former_placement: now.former_placement.clone(),
                    ..former.clone()
                })
            }
            (Resource::Tenant(_), _) => {
                return self.keep(
                    address,
                    "the tenant was offboarded, and its data is destroyed",
                );
            }
            // Numbers that were given stay given: only the choice goes back.
            (Resource::Prompt(former), Some(Resource::Prompt(now))) => {
                let mut back = former.clone();
                let last = former.versions.keys().next_back();
                let later = now
                    .versions
                    .iter()
                    .filter(|(number, _)| Some(*number) > last);
                let later = later.map(|(number, text)| (*number, text.clone()));
                back.versions.extend(later);
                Resource::Prompt(back)
            }
            (Resource::Config(former), now) => {
                let word = match now {
                    Some(Resource::Config(now)) => now.bodies.clone(),
                    _ => None,
                };
                if word != former.bodies {
                    self.keep(
                        address,
                        "whether bodies are kept stays as the tenant says now",
                    );
                }
                Resource::Config(TenantConfig {
                    bodies: word,
                    ..former.clone()
                })
            }
            (Resource::Key(former), Some(Resource::Key(now))) => {
                if former.id != now.id {
                    return self.keep(address, "another key has this name now");
                }
                self.restore_key(address, former, now)
            }
            (Resource::Key(former), _) => {
                self.keep(address, "it was deleted: its record comes back revoked");
                Resource::Key(KeySpec {
                    revoked: true,
                    retiring: None,
                    ..former.clone()
                })
            }
            (former, _) => former.clone(),
        };
        let text = resources::address_text(self.snapshot, address);
        self.rollback.plan.put(text, address.clone(), now, resource);
    }

    fn restore_key(&mut self, address: &Address, former: &KeySpec, now: &KeySpec) -> Resource {
        if now.revoked && !former.revoked {
            self.keep(address, "a revoked key stays revoked");
        }
        if now.hash != former.hash {
            self.keep(address, "a rotated key stays rotated");
        }
        Resource::Key(KeySpec {
            hash: now.hash.clone(),
            retiring: now.retiring.clone(),
            revoked: now.revoked || former.revoked,
            ..former.clone()
        })
    }

    fn remove(&mut self, address: Address, resource: &Resource) {
        match address.kind {
            Kind::Operator => self.keep(&address, "operators stay as they are"),
            Kind::Tenant => self.keep(&address, "it was onboarded since, and is not offboarded"),
            _ if self.unreadable.contains(&address) => {}
            _ => {
                let text = resources::address_text(self.snapshot, &address);
                self.rollback.plan.remove(text, address, resource);
            }
        }
    }
}
