//! A key as the directory keeps it: a hundred thousand of them are in memory, and most say nothing
//! but whose they are.

use base::{KeyId, ModelName, Name, TenantId, Timestamp};
use ipnet::IpNet;

use crate::catalogue::{KeySpec, RetiringHash};
use crate::keys::KeyHash;
use crate::roles::Role;

/// A key and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name inside the tenant.
    pub name: Name,
    /// Given when it is made.
    pub id: KeyId,
    /// The keyed hash of the key.
    pub hash: KeyHash,
    /// What it may do.
    pub role: Role,
    /// A revoked key is refused.
    pub revoked: bool,
    /// What few keys say.
    more: Option<Box<KeySpec>>,
}

impl KeyEntry {
    /// The key of this name and specification.
    pub fn new(tenant: TenantId, name: Name, spec: KeySpec) -> Self {
        let plain = KeySpec::plain(spec.id, spec.hash.clone(), spec.role, spec.revoked);
        Self {
            tenant,
            name,
            id: spec.id,
            hash: spec.hash.clone(),
            role: spec.role,
            revoked: spec.revoked,
            more: (spec != plain).then(|| Box::new(spec)),
        }
    }

    /// All that it says.
    pub fn spec(&self) -> KeySpec {
        let plain = || KeySpec::plain(self.id, self.hash.clone(), self.role, self.revoked);
        self.more.as_deref().cloned().unwrap_or_else(plain)
    }

    /// The hash that a rotation replaced, good until its time.
    pub fn retiring(&self) -> Option<&RetiringHash> {
        self.more.as_ref()?.retiring.as_deref()
    }

    /// The team whose calls these are.
    pub fn team(&self) -> Option<&Name> {
        self.more.as_ref()?.team.as_ref()
    }

    /// The user whose calls these are.
    pub fn user(&self) -> Option<&Name> {
        self.more.as_ref()?.user.as_ref()
    }

    /// From when on it is refused.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.more.as_ref()?.expires_at
    }

    /// The models it may call, as clients name them; empty means all of the tenant's.
    pub fn models(&self) -> &[ModelName] {
        self.more.as_ref().map_or(&[], |more| &more.models)
    }

    /// The features it may name; empty means all.
    pub fn features(&self) -> &[Name] {
        self.more.as_ref().map_or(&[], |more| &more.features)
    }

    /// The feature of calls that name none.
    pub fn default_feature(&self) -> Option<&Name> {
        self.more.as_ref()?.default_feature.as_ref()
    }

    /// The address ranges it may come from; empty means all.
    pub fn networks(&self) -> &[IpNet] {
        self.more.as_ref().map_or(&[], |more| &more.networks)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(more: &Value) -> (KeySpec, KeyEntry) {
        let mut spec = json!({"id": KeyId::from_bits(7), "hash": KeyHash::from_bytes([9; 32])});
        let fields = spec.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let spec: KeySpec = serde_json::from_value(spec).expect("a key");
        let name = "ci".parse().expect("a name");
        let entry = KeyEntry::new(TenantId::from_bits(1), name, spec.clone());
        (spec, entry)
    }

    #[test]
    fn nothing_of_a_specification_is_lost() {
        let hash = KeyHash::from_bytes([8; 32]);
        let end = "2030-01-01T00:00:00Z";
        for (more, is_plain) in [
            (json!({}), true),
            (json!({"role": "service", "revoked": true}), true),
            (json!({"team": "core"}), false),
            (json!({"user": "ada"}), false),
            (json!({"expires_at": end}), false),
            (json!({"models": ["gpt-4o"]}), false),
            (json!({"features": ["chat"]}), false),
            (json!({"default_feature": "chat"}), false),
            (json!({"networks": ["10.0.0.0/8"]}), false),
            (json!({"retiring": {"hash": hash, "until": end}}), false),
        ] {
            let (spec, entry) = entry(&more);
            assert_eq!(entry.spec(), spec, "{more}");
            assert_eq!(entry.more.is_none(), is_plain, "{more}");
            assert_eq!(
                (entry.id, &entry.hash, entry.role, entry.revoked),
                (spec.id, &spec.hash, spec.role, spec.revoked)
            );
            assert_eq!(entry.team(), spec.team.as_ref());
            assert_eq!(entry.user(), spec.user.as_ref());
            assert_eq!(entry.expires_at(), spec.expires_at);
            assert_eq!(entry.models(), &*spec.models);
            assert_eq!(entry.features(), &*spec.features);
            assert_eq!(entry.default_feature(), spec.default_feature.as_ref());
            assert_eq!(entry.networks(), &*spec.networks);
            assert_eq!(entry.retiring(), spec.retiring.as_deref());
        }
    }
}
