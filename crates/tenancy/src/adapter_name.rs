//! What a shared engine calls a tenant's adapter.

use std::fmt;
use std::sync::Arc;

/// What an adapter's name depends on, beside the tenant.
#[derive(Debug, Clone, Copy)]
pub struct AdapterInputs<'a> {
    /// The engine's deployment.
    pub deployment: &'a str,
    /// The model that it sits on, as the engine names it.
    pub base: &'a str,
    /// The tenant's own name for it.
    pub adapter: &'a str,
    /// Where its weights are.
    pub location: &'a str,
    /// Which weights.
    pub revision: &'a str,
}

/// An adapter's name at an engine: `pwa-` and 43 characters of base64url. It is four longer than
/// any salt, no model may begin as it does, and only
/// [`TenantScope::adapter_name`](crate::TenantScope::adapter_name) gives an adapter its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterName(Arc<str>);

/// 32 bytes in base64 without padding.
const DERIVED_CHARS: usize = 43;

impl AdapterName {
    /// How every such name begins.
    pub const PREFIX: &'static str = "pwa-";

    pub(crate) fn of(derived: &str) -> Self {
        Self(format!("{}{derived}", Self::PREFIX).into())
    }

    /// A name of this form that an engine says it has: of this process, or of one before it.
    pub fn listed(text: &str) -> Option<Self> {
        let derived = text.strip_prefix(Self::PREFIX)?;
        (derived.len() == DERIVED_CHARS).then(|| Self(text.into()))
    }

    /// The text that the engine is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, TenantId};
    use proptest::prelude::*;

    use super::*;
    use crate::keyring::LocalRootKey;
    use crate::{
        PlatformKeys, SaltInputs, ServiceIdentity, ServicePurpose, Sharing, TenantKeys, TenantScope,
    };

    /// One seed for all: tenants must differ even if their keys were ever equal.
    fn scope_of(tenant: u128) -> TenantScope {
        let root = LocalRootKey::generate(&SeededEntropy::new(1));
        let entropy = SeededEntropy::new(2);
        let id = TenantId::from_bits(tenant);
        let (keys, _) = TenantKeys::generate(&root, id, &entropy).unwrap();
        let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
        ServiceIdentity::of(&platform).scope(Arc::new(keys), ServicePurpose::Recovery)
    }

    type Parts = (String, String, String, String, String);

    fn name(scope: &TenantScope, parts: &Parts) -> AdapterName {
        scope.adapter_name(&AdapterInputs {
            deployment: &parts.0,
            base: &parts.1,
            adapter: &parts.2,
            location: &parts.3,
            revision: &parts.4,
        })
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let part = || "[ab/]{0,2}";
        (part(), part(), part(), part(), part())
    }

    proptest! {
        #[test]
        fn invariant_3_distinct_adapters_never_share_a_name(
            (one, two) in (0_u128..3, 0_u128..3),
            (a, b) in (parts(), parts()),
        ) {
            let names = (name(&scope_of(one), &a), name(&scope_of(two), &b));
            prop_assert_eq!(names.0 == names.1, one == two && a == b);
        }

        #[test]
        fn an_adapters_name_is_never_a_salt_and_fits_where_engines_put_it(
            tenant in 0_u128..100,
            parts in parts(),
        ) {
            let scope = scope_of(tenant);
            let name = name(&scope, &parts);
            let salt = scope.cache_salt(&SaltInputs {
                deployment: &parts.0,
                revision: &parts.1,
                sharing: Sharing::Tenant,
                epoch: 0,
            });
            prop_assert_eq!(salt.as_str().len(), 43);
            prop_assert_eq!(name.as_str().len(), 47);
            prop_assert!(name.as_str().starts_with(AdapterName::PREFIX));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            prop_assert!(name.as_str().bytes().all(fits));
        }
    }
}
