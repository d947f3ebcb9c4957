//! Reading a version part by part: a catalogue of a hundred thousand resources is never in memory
//! a second time while its snapshot is made.

use std::sync::Arc;

use crate::catalogue::{Address, Kind};
use crate::directory::{Snapshot, TenantEntry};
use crate::publish::{Change, KeySource, Problem, Publication};

/// A snapshot in the making. The platform's own resources come first, its tenants among them;
/// then the tenants' own, in any order and any parts.
#[derive(Debug)]
pub struct SnapshotLoading {
    next: Publication,
}

impl SnapshotLoading {
    /// Begins with nothing.
    pub fn begin() -> Self {
        Self {
            next: Publication::of(Snapshot::empty()),
        }
    }

    /// Takes in a part.
    pub fn add(&mut self, part: Vec<Change>, keys: KeySource<'_>) {
        for change in part {
            self.next.apply(change, keys);
        }
    }

    /// The snapshot, once everything in it has been checked against the whole.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn finish(mut self, version: u64) -> Result<Snapshot, Vec<Problem>> {
        self.next.snapshot.version = version;
        let loaded = self.next.snapshot.clone();
        for address in platform_addresses(&loaded) {
            self.next.check(&address);
        }
        for tenant in loaded.tenants() {
            for address in addresses_in(tenant) {
                self.next.check(&address);
            }
        }
        self.next.done()
    }
}

fn platform_addresses(snapshot: &Snapshot) -> impl Iterator<Item = Address> {
    let of = |kind| move |name: &str| Address::platform(kind, name);
    let tiers = snapshot.tiers.keys().map(|name| name.as_str());
    let upstreams = snapshot.upstreams.keys().map(|name| name.as_str());
    let prices = snapshot.prices.keys().map(|name| name.as_str());
    let routes = snapshot.routes.keys().map(|name| name.as_str());
    let operators = snapshot.operators.keys().map(|name| name.as_str());
    let channels = snapshot.channels.keys().map(|name| name.as_str());
    let groups = snapshot.sharing_groups.keys().map(|name| name.as_str());
    let books = snapshot.price_books.keys().map(|name| name.as_str());
    let costs = snapshot.shared_costs.keys().map(|name| name.as_str());
    let tenants = snapshot.tenants().map(|tenant| tenant.name.as_str());
    tiers
        .map(of(Kind::Tier))
        .chain(upstreams.map(of(Kind::Upstream)))
        .chain(prices.map(of(Kind::Price)))
        .chain(routes.map(of(Kind::Route)))
        .chain(operators.map(of(Kind::Operator)))
        .chain(groups.map(of(Kind::SharingGroup)))
        .chain(books.map(of(Kind::PriceBook)))
        .chain(channels.map(of(Kind::PlatformChannel)))
        .chain(costs.map(of(Kind::SharedCost)))
        .chain(tenants.map(of(Kind::Tenant)))
}

fn addresses_in(tenant: &Arc<TenantEntry>) -> impl Iterator<Item = Address> {
    let id = tenant.id();
    let of = move |kind| move |name: &base::Name| Address::in_tenant(id, kind, name.as_str());
    let config = Address::in_tenant(id, Kind::Config, Kind::Config.as_str());
    tenant
        .teams
        .keys()
        .map(of(Kind::Team))
        .chain(tenant.users.keys().map(of(Kind::User)))
        .chain(tenant.features.keys().map(of(Kind::Feature)))
        .chain(tenant.keys.keys().map(of(Kind::Key)))
        .chain(tenant.budgets.keys().map(of(Kind::Budget)))
        .chain(tenant.limits.keys().map(of(Kind::Limit)))
        .chain(
            tenant
                .own
                .iter()
                .flat_map(|own| own.credentials.keys())
                .map(of(Kind::Credential)),
        )
        .chain(
            tenant
                .guardrails
                .iter()
                .flat_map(|guardrails| guardrails.keys())
                .map(of(Kind::Guardrail)),
        )
        .chain(
            tenant
                .own
                .iter()
                .flat_map(|own| own.adapters.keys())
                .map(of(Kind::Adapter)),
        )
        .chain(
            tenant
                .own
                .iter()
                .flat_map(|own| own.channels.keys())
                .map(of(Kind::Channel)),
        )
        .chain(
            tenant
                .prompts
                .iter()
                .flat_map(|prompts| prompts.keys())
                .map(of(Kind::Prompt)),
        )
        .chain(std::iter::once(config))
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;
    use crate::catalogue::{KeySpec, Resource};
    use crate::keyring::{LocalRootKey, TenantKeys};

    const ACME: base::TenantId = base::TenantId::from_bits(1);

    fn part(kind: Kind, tenant: Option<base::TenantId>, name: &str, json: &str) -> Vec<Change> {
        vec![Change {
            address: Address {
                kind,
                tenant,
                name: name.to_owned(),
            },
            resource: Some(Resource::from_json(kind, json.as_bytes()).expect("a resource")),
        }]
    }

    fn key(number: u8, team: &str) -> String {
        let hash = crate::KeyHash::from_bytes([number; 32]);
        let id = base::KeyId::from_bits(u128::from(number));
        format!(r#"{{"id":"{id}","hash":"{hash}","team":"{team}"}}"#)
    }

    fn budget(team: &str) -> String {
        format!(r#"{{"subject":"team:{team}","window":"monthly","limit":"5"}}"#)
    }

    fn parts(team: &str) -> Vec<Vec<Change>> {
        let tenant = format!(r#"{{"id":"{ACME}","tier":"free"}}"#);
        let core = format!(r#"{{"id":"{}"}}"#, base::TeamId::from_bits(3));
        vec![
            part(Kind::Tier, None, "free", "{}"),
            part(Kind::Tenant, None, "acme", &tenant),
            // A budget may come before the team that it is for.
            part(Kind::Budget, Some(ACME), "b", &budget(team)),
            part(Kind::Key, Some(ACME), "a", &key(1, "core")),
            part(Kind::Key, Some(ACME), "b", &key(2, "core")),
            part(Kind::Team, Some(ACME), "core", &core),
        ]
    }

    fn load(parts: Vec<Vec<Change>>) -> Result<Snapshot, Vec<Problem>> {
        let entropy = SeededEntropy::new(1);
        let root = LocalRootKey::generate(&entropy);
        let keys = |id| Some(Arc::new(TenantKeys::generate(&root, id, &entropy).ok()?.0));
        let mut loading = SnapshotLoading::begin();
        for part in parts {
            loading.add(part, &keys);
        }
        loading.finish(7)
    }

    #[test]
    fn parts_make_the_snapshot_that_the_whole_makes() {
        let loaded = load(parts("core")).expect("a sound catalogue");
        assert_eq!((loaded.version(), loaded.tenant_count()), (7, 1));
        let unlocked = &loaded.tenant(ACME).expect("there").unlocked;
        let whole = Snapshot::empty()
            .with(7, parts("core").concat(), &|_| Some(Arc::clone(unlocked)))
            .expect("a sound version");
        let keys = |snapshot: &Snapshot| -> Vec<KeySpec> {
            let acme = snapshot.tenant_named("acme").expect("there");
            acme.keys.values().map(|key| key.spec()).collect()
        };
        assert_eq!(keys(&loaded), keys(&whole));
        for number in [1, 2] {
            let hash = crate::KeyHash::from_bytes([number; 32]);
            assert!(loaded.credential(&hash).is_some());
        }
    }

    #[test]
    fn what_is_wrong_is_found_at_the_end() {
        let problems = load(parts("lost")).expect_err("there is no such team");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains("no team `lost`"));
        let mut early = parts("core");
        early.rotate_left(2);
        let problems = load(early).expect_err("its tenant comes too late");
        assert!(problems[0].message.contains("no such tenant"));
    }
}
