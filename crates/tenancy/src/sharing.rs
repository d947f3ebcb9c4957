//! Who shares prefixes with whom, and since when: what salts derive from beside the tenant's own
//! secret, and how that is found in one version of the catalogue.

use std::fmt;

use base::{Name, TenantId, Timestamp};
use smallvec::SmallVec;

use crate::directory::{Snapshot, TenantEntry};
use crate::keyring::CacheSecret;

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400 * 1_000_000;

/// What the salts of sharing groups derive from: the platform's, and no member's.
pub struct SharingSecret(CacheSecret);

impl SharingSecret {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(CacheSecret::new(secret))
    }
}

impl fmt::Debug for SharingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharingSecret([redacted])")
    }
}

/// The tenants of a group who share prefixes in one version of the catalogue: those whom the
/// operator lists and who have opted in. Only [`Snapshot::share_of`] makes one.
#[derive(Debug)]
pub struct Share<'a> {
    secret: &'a SharingSecret,
    members: SmallVec<[TenantId; 8]>,
    text: Vec<u8>,
}

impl Share<'_> {
    /// Whether a tenant is one of them.
    pub fn includes(&self, tenant: TenantId) -> bool {
        self.members.contains(&tenant)
    }

    pub(crate) fn secret(&self) -> &CacheSecret {
        &self.secret.0
    }

    /// The group's name, a zero, and of each member its id and epoch: whoever comes, leaves or
    /// rotates makes it another.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

impl Snapshot {
    /// The epoch of a tenant's salts: those that it has counted, and where its tier says how old
    /// a salt may be, the period that `at` is in.
    pub fn salt_epoch(&self, tenant: &TenantEntry, at: Timestamp) -> u64 {
        let counted = u64::from(tenant.spec.salt_epoch) << 32;
        let period = self.tier_of(tenant).salt_days_max.map_or(0, |days| {
            let day = at.as_micros().div_euclid(DAY_MICROS);
            u32::try_from(day / i64::from(days.max(1))).unwrap_or(u32::MAX)
        });
        counted | u64::from(period)
    }

    /// With whom a tenant shares prefixes; none if with nobody.
    pub fn share_of<'a>(
        &self,
        tenant: &TenantEntry,
        secret: &'a SharingSecret,
        at: Timestamp,
    ) -> Option<Share<'a>> {
        let group = tenant.config.sharing_group.as_ref()?;
        let mut members: SmallVec<[&TenantEntry; 8]> = self.sharing_members(group).collect();
        let is_member = members.iter().any(|member| member.id() == tenant.id());
        // Alone, a tenant has the salts that it always has.
        if !is_member || members.len() < 2 {
            return None;
        }
        members.sort_unstable_by_key(|member| member.id());
        let mut text = group.as_str().as_bytes().to_vec();
        text.push(0);
        for member in &members {
            text.extend_from_slice(&member.id().to_bytes());
            text.extend_from_slice(&self.salt_epoch(member, at).to_be_bytes());
        }
        Some(Share {
            secret,
            members: members.iter().map(|member| member.id()).collect(),
            text,
        })
    }

    /// The tenants of a group whom it lists and who have opted in.
    pub fn sharing_members<'a>(&'a self, group: &'a Name) -> impl Iterator<Item = &'a TenantEntry> {
        let listed = self.sharing_groups.get(group);
        let listed = listed.into_iter().flat_map(|spec| &spec.members);
        listed
            .filter_map(|name| self.tenant_named(name.as_str()))
            .map(|tenant| &**tenant)
            .filter(move |tenant| tenant.config.sharing_group.as_ref() == Some(group))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::SeededEntropy;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::{Address, Kind, Resource};
    use crate::keyring::{LocalRootKey, PlatformKeys, TenantKeys};
    use crate::publish::Change;
    use crate::scope::{SaltInputs, ServiceIdentity, Sharing};
    use crate::{CacheSalt, ServicePurpose};

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    const NOW: Timestamp = Timestamp::from_micros(20_000 * DAY_MICROS);

    /// The groups `g` and `h` with these members, of four tenants who opted for these.
    #[derive(Debug, Clone, PartialEq)]
    struct World {
        members: [Vec<usize>; 2],
        opted: [Option<usize>; 4],
        epochs: [u32; 4],
    }

    fn put(address: Address, spec: Value) -> Change {
        let resource = Resource::from_json(address.kind, spec.to_string().as_bytes());
        let resource = Some(resource.expect("a specification"));
        Change { address, resource }
    }

    impl World {
        fn snapshot(&self, tier: Value) -> Snapshot {
            let mut changes = vec![put(Address::platform(Kind::Tier, "t"), tier)];
            for (group, members) in ["g", "h"].into_iter().zip(&self.members) {
                let members: Vec<&str> = members.iter().map(|member| NAMES[*member]).collect();
                let address = Address::platform(Kind::SharingGroup, group);
                changes.push(put(address, json!({"members": members})));
            }
            for (place, name) in NAMES.into_iter().enumerate() {
                let id = TenantId::from_bits(place as u128);
                let spec = json!({"id": id, "tier": "t", "salt_epoch": self.epochs[place]});
                changes.push(put(Address::platform(Kind::Tenant, name), spec));
                if let Some(group) = self.opted[place] {
                    let address = Address::in_tenant(id, Kind::Config, "config");
                    changes.push(put(address, json!({"sharing_group": (["g", "h"][group])})));
                }
            }
            let keys = |id| Some(keys_of(id));
            Snapshot::empty()
                .with(1, changes, &keys)
                .expect("it is valid")
        }

        /// The group that counts for a tenant.
        fn group(&self, place: usize) -> Option<usize> {
            let shares = |place: usize, group: usize| {
                self.opted[place] == Some(group) && self.members[group].contains(&place)
            };
            let group = self.opted[place].filter(|group| shares(place, *group))?;
            let others = (0..4).filter(|other| shares(*other, group)).count();
            (others > 1).then_some(group)
        }

        fn sharers(&self, group: usize) -> Vec<(usize, u32)> {
            let places = (0..4).filter(|place| self.group(*place) == Some(group));
            places.map(|place| (place, self.epochs[place])).collect()
        }

        /// What must decide the salt.
        fn meaning(&self, place: usize) -> (Option<usize>, Vec<(usize, u32)>) {
            match self.group(place) {
                Some(group) => (Some(group), self.sharers(group)),
                None => (None, vec![(place, self.epochs[place])]),
            }
        }
    }

    fn keys_of(tenant: TenantId) -> Arc<TenantKeys> {
        let entropy = SeededEntropy::new(1 + tenant.bits() as u64);
        let root = LocalRootKey::generate(&entropy);
        let (keys, _) = TenantKeys::generate(&root, tenant, &entropy).expect("keys");
        Arc::new(keys)
    }

    fn platform() -> PlatformKeys {
        let entropy = SeededEntropy::new(99);
        let root = LocalRootKey::generate(&entropy);
        PlatformKeys::generate(&root, &entropy).expect("keys").0
    }

    fn salt_of(snapshot: &Snapshot, platform: &PlatformKeys, place: usize) -> CacheSalt {
        let tenant = snapshot.tenant_named(NAMES[place]).expect("it is there");
        let keys = Arc::clone(&tenant.unlocked);
        let scope = ServiceIdentity::of(platform).scope(keys, ServicePurpose::Recovery);
        let secret = platform.sharing_secret();
        let share = snapshot.share_of(tenant, &secret, NOW);
        scope.cache_salt(&SaltInputs {
            deployment: "vllm",
            revision: "m",
            sharing: share.as_ref().map_or(Sharing::Tenant, Sharing::Group),
            epoch: snapshot.salt_epoch(tenant, NOW),
        })
    }

    fn worlds() -> impl Strategy<Value = World> {
        let members = || {
            let all = prop::sample::subsequence(vec![0_usize, 1, 2, 3], 2..=4);
            all.prop_shuffle()
        };
        let opted = prop::array::uniform4(prop::option::of(0_usize..2));
        let epochs = prop::array::uniform4(0_u32..2);
        (members(), members(), opted, epochs).prop_map(|(g, h, opted, epochs)| World {
            members: [g, h],
            opted,
            epochs,
        })
    }

    proptest! {
        /// Two salts, of any tenants in any two versions, are one exactly if the same tenants
        /// share, in the same group and epochs.
        #[test]
        fn invariant_3_salts_are_shared_by_those_alone_who_both_opted_in(
            one in worlds(), two in worlds(),
        ) {
            let platform = platform();
            let of = |world: &World| {
                let snapshot = world.snapshot(json!({}));
                [0, 1, 2, 3].map(|place| salt_of(&snapshot, &platform, place))
            };
            let (first, second) = (of(&one), of(&two));
            for (here, first) in first.iter().enumerate() {
                for (there, second) in second.iter().enumerate() {
                    let is_alike = one.meaning(here) == two.meaning(there);
                    prop_assert_eq!(first == second, is_alike);
                }
            }
        }
    }

    #[test]
    fn a_share_means_nothing_to_a_tenant_outside_it() {
        let world = World {
            members: [vec![0, 1], vec![2, 3]],
            opted: [Some(0), Some(0), None, None],
            epochs: [0; 4],
        };
        let (snapshot, platform) = (world.snapshot(json!({})), platform());
        let secret = platform.sharing_secret();
        let member = snapshot.tenant_named("a").expect("it is there");
        let share = snapshot.share_of(member, &secret, NOW).expect("they share");
        let outsider = snapshot.tenant_named("c").expect("it is there");
        let keys = Arc::clone(&outsider.unlocked);
        let scope = ServiceIdentity::of(&platform).scope(keys, ServicePurpose::Recovery);
        let salt = |sharing| {
            scope.cache_salt(&SaltInputs {
                deployment: "d",
                revision: "r",
                sharing,
                epoch: 0,
            })
        };
        assert_eq!(salt(Sharing::Group(&share)), salt(Sharing::Tenant));
        assert_eq!(format!("{secret:?}"), "SharingSecret([redacted])");
    }

    #[test]
    fn a_tiers_salts_grow_old() {
        let world = World {
            members: [vec![0, 1], vec![2, 3]],
            opted: [None; 4],
            epochs: [7, 0, 0, 0],
        };
        let snapshot = world.snapshot(json!({"salt_days_max": 30}));
        let tenant = snapshot.tenant_named("a").expect("it is there");
        let epoch =
            |day: i64| snapshot.salt_epoch(tenant, Timestamp::from_micros(day * DAY_MICROS));
        assert_eq!(epoch(30), (7 << 32) + 1);
        assert_eq!(epoch(59), epoch(30));
        assert_eq!(epoch(60), epoch(30) + 1);
        let never = world.snapshot(json!({}));
        let tenant = never.tenant_named("a").expect("it is there");
        assert_eq!(never.salt_epoch(tenant, NOW), 7 << 32);
    }
}
