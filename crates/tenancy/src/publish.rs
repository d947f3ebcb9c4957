//! From one snapshot to the next: all changes of a version apply, or none does.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base::{Name, TenantId};

use crate::catalogue::{Address, Kind, OperatorSpec, Resource, TenantConfig, TenantSpec};
use crate::checks::{check_in_tenant, check_membership, check_platform};
use crate::credentials::TakenHash;
use crate::dependents::{DEPENDENTS_TOLD_MAX, dependents, told_to_dependent};
use crate::directory::{Snapshot, TenantEntry};
use crate::key_entry::KeyEntry;
use crate::keyring::TenantKeys;

/// One resource put or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which.
    pub address: Address,
    /// What it is from now on; nothing removes it.
    pub resource: Option<Resource>,
}

/// Why a version cannot be published: one thing that is wrong with one resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {message}")]
pub struct Problem {
    /// The resource.
    pub address: Address,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Where a tenant's unlocked keys come from when it is put: a new tenant needs some, and one that
/// is there keeps its own if this gives none. A rotation gives the next generation.
pub type KeySource<'a> = &'a dyn Fn(TenantId) -> Option<Arc<TenantKeys>>;

impl Snapshot {
    /// The snapshot that these changes lead to.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the changes; then nothing of them applies.
    pub fn with(
        &self,
        version: u64,
        mut changes: Vec<Change>,
        keys: KeySource<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut next = Publication::of(self.clone());
        next.snapshot.version = version;
        // What is referred to comes before what refers to it; removals go the other way.
        changes.sort_by_key(|change| match change.resource {
            Some(_) => (0, change.address.kind as i8),
            None => (1, -(change.address.kind as i8)),
        });
        let addresses: Vec<Address> = changes.iter().map(|c| c.address.clone()).collect();
        let removed = changes.iter().filter(|change| change.resource.is_none());
        let removed: Vec<Address> = removed.map(|change| change.address.clone()).collect();
        for change in changes {
            next.apply(change, keys);
        }
        for address in &addresses {
            next.check(address);
            next.check_membership(address);
        }
        next.check_dependents(&addresses, &removed);
        next.done()
    }
}

/// A version in the making.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) snapshot: Snapshot,
    problems: Vec<Problem>,
}

impl Publication {
    pub(crate) fn of(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            problems: Vec::new(),
        }
    }

    pub(crate) fn done(self) -> Result<Snapshot, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(self.snapshot)
        } else {
            Err(self.problems)
        }
    }

    fn refuse(&mut self, address: &Address, message: impl Into<String>) {
        self.problems.push(Problem {
            address: address.clone(),
            message: message.into(),
        });
    }

    pub(crate) fn apply(&mut self, change: Change, keys: KeySource<'_>) {
        let Change { address, resource } = change;
        if address.kind.is_in_tenant() != address.tenant.is_some() {
            return self.refuse(&address, "the kind does not belong there");
        }
        if !address.has_valid_name() {
            return self.refuse(&address, "the name is not valid for this kind");
        }
        if resource
            .as_ref()
            .is_some_and(|resource| resource.kind() != address.kind)
        {
            return self.refuse(&address, "the specification is of another kind");
        }
        match address.tenant {
            Some(tenant) => self.apply_in_tenant(tenant, &address, resource),
            None => self.apply_to_platform(&address, resource, keys),
        }
    }

    fn apply_to_platform(
        &mut self,
        address: &Address,
        resource: Option<Resource>,
        keys: KeySource<'_>,
    ) {
        let snapshot = &mut self.snapshot;
        let name = address.name.as_str();
        match (address.kind, resource) {
            (_, Some(Resource::Tier(spec))) => put(&mut snapshot.tiers, name, spec),
            (_, Some(Resource::Upstream(spec))) => put(&mut snapshot.upstreams, name, spec),
            (_, Some(Resource::Route(spec))) => put(&mut snapshot.routes, name, spec),
            (_, Some(Resource::Price(spec))) => put(&mut snapshot.prices, name, spec),
            (_, Some(Resource::SharingGroup(spec))) => {
                put(&mut snapshot.sharing_groups, name, spec);
            }
            (_, Some(Resource::PriceBook(spec))) => {
                put(&mut snapshot.price_books, name, spec);
            }
            (_, Some(Resource::PlatformChannel(spec))) => put(&mut snapshot.channels, name, spec),
            (_, Some(Resource::SharedCost(spec))) => {
                put(&mut snapshot.shared_costs, name, spec);
            }
            (_, Some(Resource::Operator(spec))) => self.put_operator(address, spec),
            (_, Some(Resource::Tenant(spec))) => self.put_tenant(address, spec, keys),
            (Kind::Tier, None) => drop(Arc::make_mut(&mut snapshot.tiers).remove(name)),
            (Kind::Upstream, None) => drop(Arc::make_mut(&mut snapshot.upstreams).remove(name)),
            (Kind::Route, None) => drop(Arc::make_mut(&mut snapshot.routes).remove(name)),
            (Kind::Price, None) => drop(Arc::make_mut(&mut snapshot.prices).remove(name)),
            (Kind::SharingGroup, None) => {
                drop(Arc::make_mut(&mut snapshot.sharing_groups).remove(name));
            }
            (Kind::PriceBook, None) => {
                drop(Arc::make_mut(&mut snapshot.price_books).remove(name));
            }
            (Kind::PlatformChannel, None) => {
                drop(Arc::make_mut(&mut snapshot.channels).remove(name));
            }
            (Kind::SharedCost, None) => {
                drop(Arc::make_mut(&mut snapshot.shared_costs).remove(name));
            }
            (Kind::Operator, None) => {
                if let Some(gone) = Arc::make_mut(&mut snapshot.operators).remove(name) {
                    let name = address.name.parse().expect("it was found by it");
                    snapshot.credentials.remove_operator(&gone.hash, &name);
                }
            }
            (Kind::Tenant, None) => self.remove_tenant(name),
            (kind, _) => unreachable!("{kind} belongs to a tenant: checked by the caller"),
        }
    }

    fn put_operator(&mut self, address: &Address, spec: OperatorSpec) {
        let name: Name = address.name.parse().expect("the address was checked");
        if let Some(former) = self.snapshot.operators.get(&name) {
            let credentials = &mut self.snapshot.credentials;
            credentials.remove_operator(&former.hash, &name);
        }
        let claimed = self.snapshot.credentials.insert_operator(&spec.hash, name);
        self.refuse_taken(address, claimed);
        put(&mut self.snapshot.operators, &address.name, spec);
    }

    fn put_tenant(&mut self, address: &Address, mut spec: TenantSpec, keys: KeySource<'_>) {
        share_name(&mut spec.tier, &self.snapshot.tiers);
        let name: Name = address.name.parse().expect("the address was checked");
        let id = spec.id;
        let unlocked = keys(id);
        if unlocked.as_ref().is_some_and(|keys| keys.tenant() != id) {
            return self.refuse(address, "these are another tenant's keys");
        }
        let entry = match self.snapshot.tenant_named(name.as_str()) {
            Some(current) if current.id() != id => {
                return self.refuse(address, "a tenant's id is given once and cannot be changed");
            }
            Some(current) => TenantEntry {
                spec: Arc::new(spec),
                unlocked: unlocked.unwrap_or_else(|| Arc::clone(&current.unlocked)),
                ..TenantEntry::clone(current)
            },
            None if self.snapshot.tenant(id).is_some() => {
                return self.refuse(address, "another tenant has this id");
            }
            None => {
                let Some(unlocked) = unlocked else {
                    return self.refuse(address, "the tenant has no key: onboard it first");
                };
                TenantEntry {
                    name: name.clone(),
                    spec: Arc::new(spec),
                    config: no_config(),
                    teams: BTreeMap::new(),
                    users: BTreeMap::new(),
                    features: BTreeMap::new(),
                    keys: BTreeMap::new(),
                    budgets: BTreeMap::new(),
                    limits: BTreeMap::new(),
                    own: None,
                    guardrails: None,
                    prompts: None,
                    unlocked,
                }
            }
        };
        self.snapshot.tenants.insert(id, Arc::new(entry));
        self.snapshot.tenant_names.insert(name, id);
    }

    fn remove_tenant(&mut self, name: &str) {
        let Some(id) = self.snapshot.tenant_names.remove(name) else {
            return;
        };
        let Some(entry) = self.snapshot.tenants.remove(&id) else {
            return;
        };
        for key in entry.keys.values() {
            self.snapshot.credentials.remove_key(key);
        }
    }

    fn apply_in_tenant(&mut self, tenant: TenantId, address: &Address, resource: Option<Resource>) {
        let Some(mut shared) = self.snapshot.tenants.remove(&tenant) else {
            return self.refuse(address, "there is no such tenant");
        };
        if let (Some(Resource::Prompt(next)), Ok(name)) = (&resource, address.name.parse())
            && let Some(problem) = shared.prompt(&name).and_then(|it| next.breaks_with(it))
        {
            self.snapshot.tenants.insert(tenant, shared);
            return self.refuse(address, problem);
        }
        // Copied at the first of a tenant's changes; the others find it theirs alone.
        let entry = Arc::make_mut(&mut shared);
        if address.kind == Kind::Key {
            self.replace_key(entry, address, resource);
        } else {
            change_entry(entry, address, resource);
        }
        self.snapshot.tenants.insert(tenant, shared);
    }

    fn replace_key(
        &mut self,
        entry: &mut TenantEntry,
        address: &Address,
        resource: Option<Resource>,
    ) {
        let name: Name = address.name.parse().expect("the address was checked");
        if let Some(former) = entry.keys.remove(&name) {
            self.snapshot.credentials.remove_key(&former);
        }
        if let Some(Resource::Key(mut spec)) = resource {
            if let Some(team) = &mut spec.team {
                share_name(team, &entry.teams);
            }
            if let Some(user) = &mut spec.user {
                share_name(user, &entry.users);
            }
            let key = Arc::new(KeyEntry::new(entry.id(), name.clone(), spec));
            let claimed = self.snapshot.credentials.insert_key(&key);
            self.refuse_taken(address, claimed);
            entry.keys.insert(name, key);
        }
    }

    fn refuse_taken(&mut self, address: &Address, claimed: Result<(), TakenHash>) {
        if let Err(TakenHash) = claimed {
            self.refuse(address, "another key has this hash");
        }
    }

    /// Checks again what names something that changed.
    fn check_dependents(&mut self, changed: &[Address], removed: &[Address]) {
        let mut told = 0;
        for address in dependents(&self.snapshot, changed, removed) {
            let before = self.problems.len();
            self.check(&address);
            for problem in &mut self.problems[before..] {
                problem.message = told_to_dependent(&problem.message);
            }
            told += self.problems.len() - before;
            if told >= DEPENDENTS_TOLD_MAX {
                return;
            }
        }
    }

    /// Checks what is checked when something is put, and may come to be wrong later.
    fn check_membership(&mut self, address: &Address) {
        let mut found = Vec::new();
        if let Some(entry) = address.tenant.and_then(|id| self.snapshot.tenant(id)) {
            check_membership(entry, address, &mut found);
        }
        for message in found {
            self.refuse(address, message);
        }
    }

    /// Checks what a change touched against the whole.
    pub(crate) fn check(&mut self, address: &Address) {
        let mut found = Vec::new();
        match address.tenant {
            Some(tenant) => {
                if let Some(entry) = self.snapshot.tenant(tenant) {
                    check_in_tenant(&self.snapshot, entry, address, &mut found);
                }
            }
            None => check_platform(&self.snapshot, address, &mut found),
        }
        for message in found {
            self.refuse(address, message);
        }
    }
}

fn put<K, V>(map: &mut Arc<BTreeMap<K, Arc<V>>>, name: &str, spec: V)
where
    K: std::str::FromStr<Err: std::fmt::Debug> + Ord + Clone,
{
    let name = name.parse().expect("the address was checked");
    Arc::make_mut(map).insert(name, Arc::new(spec));
}

/// Lets a name that refers to a resource share the text of that resource's own.
fn share_name<V>(name: &mut Name, named: &BTreeMap<Name, V>) {
    if let Some((original, _)) = named.get_key_value(name) {
        *name = original.clone();
    }
}

/// The configuration of a tenant without one: most tenants, so all share it.
fn no_config() -> Arc<TenantConfig> {
    static NONE: LazyLock<Arc<TenantConfig>> = LazyLock::new(Arc::default);
    Arc::clone(&NONE)
}

fn change_entry(entry: &mut TenantEntry, address: &Address, resource: Option<Resource>) {
    fn set<V>(map: &mut BTreeMap<Name, Arc<V>>, name: &str, spec: V) {
        map.insert(
            name.parse().expect("the address was checked"),
            Arc::new(spec),
        );
    }
    let name = address.name.as_str();
    match (address.kind, resource) {
        (_, Some(Resource::Team(spec))) => set(&mut entry.teams, name, spec),
        (_, Some(Resource::User(spec))) => set(&mut entry.users, name, spec),
        (_, Some(Resource::Feature(spec))) => set(&mut entry.features, name, spec),
        (_, Some(Resource::Budget(spec))) => set(&mut entry.budgets, name, spec),
        (_, Some(Resource::Limit(spec))) => set(&mut entry.limits, name, spec),
        (_, Some(Resource::Credential(spec))) => {
            set(
                &mut entry.own.get_or_insert_default().credentials,
                name,
                spec,
            );
        }
        (_, Some(Resource::Guardrail(spec))) => {
            let guardrails = Arc::make_mut(entry.guardrails.get_or_insert_default());
            set(guardrails, name, spec);
        }
        (_, Some(Resource::Adapter(spec))) => {
            set(&mut entry.own.get_or_insert_default().adapters, name, spec);
        }
        (_, Some(Resource::Channel(spec))) => {
            set(&mut entry.own.get_or_insert_default().channels, name, spec);
        }
        (_, Some(Resource::Prompt(spec))) => {
            let prompts = Arc::make_mut(entry.prompts.get_or_insert_default());
            set(prompts, name, spec);
        }
        (_, Some(Resource::Config(spec))) => entry.config = Arc::new(spec),
        (Kind::Team, None) => drop(entry.teams.remove(name)),
        (Kind::User, None) => drop(entry.users.remove(name)),
        (Kind::Feature, None) => drop(entry.features.remove(name)),
        (Kind::Budget, None) => drop(entry.budgets.remove(name)),
        (Kind::Limit, None) => drop(entry.limits.remove(name)),
        (Kind::Credential, None) => {
            if let Some(own) = &mut entry.own {
                own.credentials.remove(name);
            }
            entry.own.take_if(|own| own.is_empty());
        }
        (Kind::Guardrail, None) => {
            if let Some(guardrails) = &mut entry.guardrails {
                Arc::make_mut(guardrails).remove(name);
            }
            entry.guardrails.take_if(|guardrails| guardrails.is_empty());
        }
        (Kind::Adapter, None) => {
            if let Some(own) = &mut entry.own {
                own.adapters.remove(name);
            }
            entry.own.take_if(|own| own.is_empty());
        }
        (Kind::Channel, None) => {
            if let Some(own) = &mut entry.own {
                own.channels.remove(name);
            }
            entry.own.take_if(|own| own.is_empty());
        }
        (Kind::Prompt, None) => {
            if let Some(prompts) = &mut entry.prompts {
                Arc::make_mut(prompts).remove(name);
            }
            entry.prompts.take_if(|prompts| prompts.is_empty());
        }
        (Kind::Config, None) => entry.config = no_config(),
        (kind, _) => unreachable!("{kind} is handled by the caller"),
    }
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, TenantId};
    use serde_json::json;

    use super::*;
    use crate::credentials::CredentialOwner;
    use crate::keyring::LocalRootKey;
    use crate::keys::KeyHash;

    const ACME: TenantId = TenantId::from_bits(1);

    fn change(kind: Kind, tenant: Option<TenantId>, name: &str, spec: serde_json::Value) -> Change {
        let resource = Resource::from_json(kind, spec.to_string().as_bytes());
        Change {
            address: Address {
                kind,
                tenant,
                name: name.to_owned(),
            },
            resource: Some(resource.expect("a specification")),
        }
    }

    fn removal(kind: Kind, tenant: Option<TenantId>, name: &str) -> Change {
        Change {
            address: Address {
                kind,
                tenant,
                name: name.to_owned(),
            },
            resource: None,
        }
    }

    fn keys_of(tenant: TenantId) -> Arc<TenantKeys> {
        let entropy = SeededEntropy::new(tenant.bits() as u64);
        let root = LocalRootKey::generate(&entropy);
        Arc::new(
            TenantKeys::generate(&root, tenant, &entropy)
                .expect("keys")
                .0,
        )
    }

    fn hash(byte: u8) -> String {
        KeyHash::from_bytes([byte; 32]).to_string()
    }

    fn key(byte: u8) -> serde_json::Value {
        let id = base::KeyId::from_bits(u128::from(byte));
        json!({"id": id, "hash": hash(byte)})
    }

    fn acme() -> Snapshot {
        let changes = vec![
            change(Kind::Key, Some(ACME), "prod", key(1)),
            change(
                Kind::Tenant,
                None,
                "acme",
                json!({"id": ACME, "tier": "free"}),
            ),
            change(Kind::Tier, None, "free", json!({})),
        ];
        Snapshot::empty()
            .with(1, changes, &|id| Some(keys_of(id)))
            .expect("a sound version")
    }

    fn refused(changes: Vec<Change>) -> Vec<String> {
        let problems = acme().with(2, changes, &|_| None).expect_err("unsound");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_version_applies_whatever_order_its_changes_come_in() {
        let snapshot = acme();
        let tenant = snapshot.tenant_named("acme").expect("there");
        assert_eq!(
            (tenant.id(), snapshot.version(), snapshot.tenant_count()),
            (ACME, 1, 1)
        );
        let owner = snapshot.credential(&KeyHash::from_bytes([1; 32]));
        assert!(matches!(owner, Some(CredentialOwner::Key(key)) if key.name.as_str() == "prod"));
    }

    #[test]
    fn every_problem_is_told_and_nothing_applies() {
        let found = refused(vec![
            change(
                Kind::Tenant,
                None,
                "other",
                json!({"id": TenantId::from_bits(2), "tier": "gold"}),
            ),
            change(Kind::Key, Some(ACME), "twin", key(1)),
            change(
                Kind::Route,
                None,
                "m",
                json!({"targets": [{"upstream": "u", "model": "m"}]}),
            ),
            removal(Kind::Tier, None, "free"),
        ]);
        let text = found.join("\n");
        for part in [
            "no key: onboard",
            "another key has this hash",
            "no upstream `u`",
            "tenants are on it: acme",
        ] {
            assert!(text.contains(part), "{part} is missing from {text}");
        }
    }

    #[test]
    fn shares_of_upstreams_that_cannot_be_are_refused() {
        let found = refused(vec![
            change(
                Kind::Tier,
                None,
                "free",
                json!({
                    "weight": 0,
                    "upstream_concurrency_max": 2,
                    "upstream_concurrency_reserved": 3,
                }),
            ),
            change(
                Kind::Tier,
                None,
                "none",
                json!({"upstream_concurrency_max": 0}),
            ),
            change(
                Kind::Upstream,
                None,
                "u",
                json!({
                    "base_url": "https://u.example", "engine": "sglang",
                    "priority_scheduling": true,
                    "health": {"path": "health", "every_ms": 10},
                    "breaker": {"failure_percent": 101, "open_ms": 0},
                }),
            ),
        ]);
        let text = found.join("\n");
        for part in [
            "`weight` is at least 1",
            "`upstream_concurrency_reserved` is `upstream_concurrency_max` at most",
            "`upstream_concurrency_max` is at least 1",
            "`priority_scheduling` is for",
            "`health.path` is a path",
            "`breaker.failure_percent` is 100 at most",
            "`breaker.open_ms` is at least 1",
            "`health.every_ms` is at least 1000",
        ] {
            assert!(text.contains(part), "{part} is missing from {text}");
        }
    }

    #[test]
    fn what_replicas_cannot_have_is_refused() {
        let found = refused(vec![change(
            Kind::Upstream,
            None,
            "u",
            json!({
                "base_url": "http://u.example", "engine": "vllm",
                "endpoints": {"kubernetes": {"namespace": "n", "service": "s"}},
                "engine_metrics": {"path": "metrics"},
                "adapters": {"slots": 4},
                "adaptive_concurrency": "on",
            }),
        )]);
        let text = found.join("\n");
        for part in [
            "`adapters` are loaded into one engine",
            "`adaptive_concurrency` finds the limit of one place",
            "`endpoints.kubernetes` needs `allow_private_address`",
            "`engine_metrics.path` is a path",
        ] {
            assert!(text.contains(part), "{part} is missing from {text}");
        }
    }

    #[test]
    fn a_tenants_id_is_given_once() {
        let other = TenantId::from_bits(9);
        let found = refused(vec![change(
            Kind::Tenant,
            None,
            "acme",
            json!({"id": other, "tier": "free"}),
        )]);
        assert!(found[0].contains("cannot be changed"), "{found:?}");
    }

    #[test]
    fn foreign_keys_are_refused_and_rotated_ones_replace_the_old() {
        let put = || {
            vec![change(
                Kind::Tenant,
                None,
                "acme",
                json!({"id": ACME, "tier": "free"}),
            )]
        };
        assert!(
            acme()
                .with(2, put(), &|_| Some(keys_of(TenantId::from_bits(2))))
                .is_err()
        );
        let rotated = keys_of(ACME);
        let next = acme()
            .with(2, put(), &|_| Some(Arc::clone(&rotated)))
            .expect("sound");
        assert!(Arc::ptr_eq(
            &next.tenant(ACME).expect("there").unlocked,
            &rotated
        ));
    }

    #[test]
    fn a_key_that_goes_takes_both_its_hashes_with_it() {
        let mut rotated = key(2);
        rotated["retiring"] = json!({"hash": hash(1), "until": "2030-01-01T00:00:00Z"});
        let both = acme().with(
            2,
            vec![change(Kind::Key, Some(ACME), "prod", rotated)],
            &|_| None,
        );
        let both = both.expect("sound");
        let find = |snapshot: &Snapshot, byte| {
            snapshot
                .credential(&KeyHash::from_bytes([byte; 32]))
                .is_some()
        };
        assert!(find(&both, 1) && find(&both, 2));
        let gone = both
            .with(3, vec![removal(Kind::Tenant, None, "acme")], &|_| None)
            .expect("sound");
        assert!(!find(&gone, 1) && !find(&gone, 2));
        assert!(find(&both, 1), "the version before does not change");
    }
}
