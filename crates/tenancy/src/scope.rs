//! [`TenantScope`]: the proof that its bearer acts for one tenant.
//!
//! This is the only file that can make one (invariant 2), and there are three ways in:
//!
//! - [`Principal::into_scope`]: a credential was verified against the directory;
//! - [`act_for`]: an operator acts for a tenant, and that is durably on record;
//! - [`ServiceIdentity::scope`]: this process holds the root key, and does the platform's work.
//!
//! A scope can be neither cloned nor deserialised, so that it cannot outlive or outnumber the
//! request that earned it.

use std::fmt;
use std::sync::Arc;

use base::TenantId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::adapter_name::{AdapterInputs, AdapterName};
use crate::authenticate::{OperatorPrincipal, Principal};
use crate::grant::{Grant, ServicePurpose};
use crate::keyring::{CacheSecret, PlatformKeys, TenantKeys, length_prefix};
use crate::roles::Permission;
use crate::sharing::Share;

/// The proof that its bearer acts for one tenant. Whatever touches a tenant's data demands one.
pub struct TenantScope {
    keys: Arc<TenantKeys>,
    grant: Grant,
}

impl Principal {
    /// Resolves the tenant: from here on the caller acts inside it.
    ///
    /// # Errors
    ///
    /// [`ForeignKeys`] if the directory holds another tenant's keys in this tenant's place: a
    /// bug, and it stops here.
    pub fn into_scope(self) -> Result<TenantScope, ForeignKeys> {
        let (tenant, grant) = self.into_parts();
        let keys = Arc::clone(&tenant.unlocked);
        if keys.tenant() != tenant.id() {
            return Err(ForeignKeys {
                tenant: tenant.id(),
            });
        }
        Ok(TenantScope { keys, grant })
    }
}

/// The directory's entry of a tenant holds keys of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory holds foreign keys for {tenant}")]
pub struct ForeignKeys {
    tenant: TenantId,
}

/// Where an operator's acts for tenants are put on record.
pub trait ActForAudit {
    /// Records that `operator` acts for `tenant`. Returns once the record is durable.
    ///
    /// # Errors
    ///
    /// [`AuditUnavailable`] if it cannot be made durable: then the act does not happen.
    fn record(
        &self,
        operator: &str,
        tenant: TenantId,
        reason: &str,
    ) -> Result<(), AuditUnavailable>;
}

/// The audit log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable {
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why an operator may not act for a tenant.
#[derive(Debug, thiserror::Error)]
pub enum ActForError {
    /// The operator's role does not allow it.
    #[error("your role does not allow acting for a tenant")]
    NotAllowed,
    /// Nothing that an auditor could read.
    #[error("give a reason of 1 to 500 characters, without control characters")]
    Reason,
    /// It could not be put on record.
    #[error(transparent)]
    Unrecorded(#[from] AuditUnavailable),
}

/// 500: a few sentences. Longer reasons belong into a ticket that the reason names.
const REASON_CHARS_MAX: usize = 500;

/// The operator acts for the tenant whose keys these are, once that is durably on record.
///
/// # Errors
///
/// [`ActForError`]; then there is no scope, and there may be a record of the attempt.
pub fn act_for(
    operator: &OperatorPrincipal,
    keys: Arc<TenantKeys>,
    reason: &str,
    audit: &dyn ActForAudit,
) -> Result<TenantScope, ActForError> {
    if !operator.allows(Permission::ActForTenant) {
        return Err(ActForError::NotAllowed);
    }
    let reason = reason.trim();
    let is_readable = !reason.is_empty() && !reason.chars().any(char::is_control);
    if !is_readable || reason.chars().count() > REASON_CHARS_MAX {
        return Err(ActForError::Reason);
    }
    audit.record(operator.name().as_str(), keys.tenant(), reason)?;
    Ok(TenantScope {
        keys,
        grant: Grant::of_operator(operator.name().clone()),
    })
}

/// The platform itself: proof that this process unlocked the key hierarchy. Made once, at start.
#[derive(Debug)]
pub struct ServiceIdentity {
    _unlocked: (),
}

impl ServiceIdentity {
    /// The identity of a process that holds these keys.
    pub fn of(_: &PlatformKeys) -> Self {
        Self { _unlocked: () }
    }

    /// Does the platform's own work inside the tenant whose keys these are.
    pub fn scope(&self, keys: Arc<TenantKeys>, purpose: ServicePurpose) -> TenantScope {
        TenantScope {
            keys,
            grant: Grant::of_service(purpose),
        }
    }
}

impl TenantScope {
    /// The tenant.
    pub fn tenant(&self) -> TenantId {
        self.keys.tenant()
    }

    /// What the caller may do.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The tenant's keys.
    pub fn keys(&self) -> &Arc<TenantKeys> {
        &self.keys
    }

    /// The key of a cached value: 32 bytes that no other tenant, purpose or list of parts gives.
    pub fn cache_key(&self, purpose: CachePurpose, parts: &[&[u8]]) -> CacheKey {
        let mut mac = self.keys.cache_secret().mac();
        mac.update(b"partywall/cache-key/v1");
        mac.update(&self.tenant().to_bytes());
        for part in [purpose.label().as_bytes()].iter().chain(parts) {
            mac.update(&length_prefix(part));
            mac.update(part);
        }
        let tag = mac.sign();
        CacheKey(tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
    }

    /// The salt under which a shared engine may reuse prefixes of this tenant's prompts: it is
    /// what keeps one tenant from timing another's.
    ///
    /// `base64url(HKDF-SHA256(ikm = cache secret, info = "partywall/cache-salt/v1" ‖
    /// lp(deployment) ‖ lp(revision) ‖ lp(sharing group) ‖ lp(epoch)))`, where `lp(x)` is x's
    /// length as eight bytes, most significant first, then x. The sharing group is the tenant's
    /// id, and for a part of the tenant `/` and the part; the epoch is eight such bytes.
    ///
    /// For a [`Share`] that includes the tenant the cache secret is the platform's, the sharing
    /// group is the group's name, a zero, and each member's id (16 bytes) and epoch, and the epoch
    /// is 0. One that does not include it changes nothing.
    pub fn cache_salt(&self, inputs: &SaltInputs<'_>) -> CacheSalt {
        let tenant = self.tenant().to_string();
        let own = self.keys.cache_secret();
        match inputs.sharing {
            Sharing::Group(share) if share.includes(self.tenant()) => {
                let group = [share.text(), &[], &[]];
                salt(share.secret(), inputs, group, 0)
            }
            Sharing::Part(part) => {
                let group = [tenant.as_bytes(), b"/", part.as_bytes()];
                salt(own, inputs, group, inputs.epoch)
            }
            Sharing::Tenant | Sharing::Group(_) => {
                let group = [tenant.as_bytes(), &[], &[]];
                salt(own, inputs, group, inputs.epoch)
            }
        }
    }
}

impl TenantScope {
    /// What a shared engine calls an adapter of this tenant: a name that no other tenant, adapter,
    /// revision or engine gives, that nobody guesses, and that is neither a salt nor a model.
    ///
    /// `pwa-` and `base64url(HKDF-SHA256(ikm = cache secret, info =
    /// "partywall/adapter-name/v1" ‖ lp(tenant) ‖ lp(deployment) ‖ lp(base) ‖ lp(adapter) ‖
    /// lp(location) ‖ lp(revision)))`.
    pub fn adapter_name(&self, inputs: &AdapterInputs<'_>) -> AdapterName {
        let tenant = self.tenant().to_bytes();
        let parts: [&[u8]; 6] = [
            &tenant,
            inputs.deployment.as_bytes(),
            inputs.base.as_bytes(),
            inputs.adapter.as_bytes(),
            inputs.location.as_bytes(),
            inputs.revision.as_bytes(),
        ];
        let prefixes = parts.map(length_prefix);
        let mut info: [&[u8]; 13] = [b"partywall/adapter-name/v1"; 13];
        for (index, (prefix, part)) in prefixes.iter().zip(parts).enumerate() {
            info[1 + 2 * index] = prefix;
            info[2 + 2 * index] = part;
        }
        let secret = self.keys.cache_secret().expand(&info);
        AdapterName::of(&URL_SAFE_NO_PAD.encode(secret.as_slice()))
    }
}

fn salt(secret: &CacheSecret, inputs: &SaltInputs<'_>, group: [&[u8]; 3], epoch: u64) -> CacheSalt {
    let group_bytes = group.iter().map(|part| part.len() as u64).sum::<u64>();
    let epoch = epoch.to_be_bytes();
    let secret = secret.expand(&[
        b"partywall/cache-salt/v1".as_slice(),
        &length_prefix(inputs.deployment.as_bytes()),
        inputs.deployment.as_bytes(),
        &length_prefix(inputs.revision.as_bytes()),
        inputs.revision.as_bytes(),
        &group_bytes.to_be_bytes(),
        group[0],
        group[1],
        group[2],
        &length_prefix(&epoch),
        &epoch,
    ]);
    let mut text = [0; CacheSalt::CHARS];
    URL_SAFE_NO_PAD
        .encode_slice(secret.as_slice(), &mut text)
        .expect("32 bytes are 43 characters of base64");
    CacheSalt(text)
}

impl fmt::Debug for TenantScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantScope({})", self.tenant())
    }
}

/// What is cached. A key for one purpose never finds what was cached for another.
///
/// Idempotency is not among them: cache keys change when a tenant's key is rotated, and an
/// idempotency key must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CachePurpose {
    /// Whole answers, by request.
    Answer,
    /// Answers, by the meaning of the request.
    Semantic,
    /// Embeddings, by text.
    Embedding,
    /// Results of retrieval.
    Retrieval,
}

impl CachePurpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Semantic => "semantic",
            Self::Embedding => "embedding",
            Self::Retrieval => "retrieval",
        }
    }
}

/// The key of a cached value. Only [`TenantScope::cache_key`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "CacheKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// What a cache salt depends on, beside the tenant.
#[derive(Debug, Clone, Copy)]
pub struct SaltInputs<'a> {
    /// The engine's deployment.
    pub deployment: &'a str,
    /// The model's and adapter's revision.
    pub revision: &'a str,
    /// Who shares the prefixes.
    pub sharing: Sharing<'a>,
    /// Counted up to make an engine forget.
    pub epoch: u64,
}

/// Who shares cached prefixes.
#[derive(Debug, Clone, Copy)]
pub enum Sharing<'a> {
    /// All of the tenant's callers.
    Tenant,
    /// Those of one part of the tenant, such as a team or a user.
    Part(&'a str),
    /// Those tenants of a group who have all opted in.
    Group(&'a Share<'a>),
}

/// A cache salt: 43 characters of base64url, so that no engine finds one that it refuses. Only
/// [`TenantScope::cache_salt`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheSalt([u8; Self::CHARS]);

impl CacheSalt {
    /// 32 bytes in base64 without padding.
    const CHARS: usize = 43;

    /// The text that the engine is sent.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

/// Whoever knows a tenant's salt can probe for its prompts: it is not printed.
impl fmt::Debug for CacheSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheSalt([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use base::SeededEntropy;
    use proptest::prelude::*;

    use super::*;
    use crate::keyring::LocalRootKey;

    fn scope_of(tenant: u128) -> TenantScope {
        let root = LocalRootKey::generate(&SeededEntropy::new(1));
        // One seed for all: tenants must differ even if their keys were ever equal.
        let entropy = SeededEntropy::new(2);
        let id = TenantId::from_bits(tenant);
        let (keys, _) = TenantKeys::generate(&root, id, &entropy).unwrap();
        let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
        ServiceIdentity::of(&platform).scope(Arc::new(keys), ServicePurpose::Recovery)
    }

    fn inputs<'a>(deployment: &'a str, revision: &'a str, epoch: u64) -> SaltInputs<'a> {
        SaltInputs {
            deployment,
            revision,
            sharing: Sharing::Tenant,
            epoch,
        }
    }

    #[test]
    fn the_salt_is_the_documented_derivation() {
        // Each vector was computed with Python's hmac, from the formula and nothing else.
        let secret: [u8; 32] = std::array::from_fn(|index| index as u8);
        let keys = TenantKeys::with_cache_secret(TenantId::from_bits(1), CacheSecret::new(&secret));
        let scope = TenantScope {
            keys: Arc::new(keys),
            grant: Grant::of_service(ServicePurpose::Recovery),
        };
        let of = |sharing, epoch| {
            let inputs = SaltInputs {
                sharing,
                ..inputs("vllm-1", "llama-3.1-8b@2", epoch)
            };
            scope.cache_salt(&inputs).as_str().to_owned()
        };
        assert_eq!(
            of(Sharing::Tenant, 0),
            "MU1NggXS2ezRx1KpIzKBRascsUFD1KmrD-9jmgsNj-k"
        );
        assert_eq!(
            of(Sharing::Part("team-a"), 7),
            "_FQ0gCtLtbhtC5-9ojMHKg43ljaFLrIgvAzopfnsMRM"
        );
    }

    proptest! {
        #[test]
        fn invariant_3_cache_keys_of_different_parts_differ(
            one in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..4),
            two in prop::collection::vec(prop::collection::vec(0_u8..3, 0..4), 0..4),
        ) {
            let scope = scope_of(1);
            let key = |parts: &[Vec<u8>]| {
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                scope.cache_key(CachePurpose::Answer, &parts)
            };
            prop_assert_eq!(key(&one) == key(&two), one == two);
        }

        #[test]
        fn invariant_3_salts_of_different_inputs_differ(
            one in ("[ab]{0,3}", "[ab]{0,3}", 0_u64..3, prop::option::of("[ab/]{0,2}")),
            two in ("[ab]{0,3}", "[ab]{0,3}", 0_u64..3, prop::option::of("[ab/]{0,2}")),
        ) {
            let scope = scope_of(1);
            let salt = |(deployment, revision, epoch, part): &(String, String, u64, Option<String>)| {
                let sharing = part.as_deref().map_or(Sharing::Tenant, Sharing::Part);
                scope.cache_salt(&SaltInputs { sharing, ..inputs(deployment, revision, *epoch) })
            };
            prop_assert_eq!(salt(&one) == salt(&two), one == two);
        }

        #[test]
        fn invariant_3_tenants_never_share_a_key_or_a_salt(
            one in 0_u128..1000,
            two in 0_u128..1000,
            part in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let (a, b) = (scope_of(one), scope_of(two));
            let keys = [&a, &b].map(|scope| scope.cache_key(CachePurpose::Answer, &[&part]));
            let salts = [&a, &b].map(|scope| scope.cache_salt(&inputs("d", "r", 0)));
            prop_assert_eq!(keys[0] == keys[1], one == two);
            prop_assert_eq!(salts[0] == salts[1], one == two);
        }
    }

    #[test]
    fn part_boundaries_and_purposes_count() {
        let scope = scope_of(1);
        let lists: [&[&[u8]]; 4] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[]];
        let mut seen = HashSet::new();
        for purpose in [
            CachePurpose::Answer,
            CachePurpose::Semantic,
            CachePurpose::Embedding,
            CachePurpose::Retrieval,
        ] {
            seen.extend(lists.map(|parts| scope.cache_key(purpose, parts)));
        }
        assert_eq!(seen.len(), 16);
    }

    #[test]
    fn a_salt_is_what_engines_accept_and_is_not_printed() {
        let salt = scope_of(1).cache_salt(&inputs("d", "r", 0));
        assert_eq!(salt.as_str().len(), 43);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(salt.as_str().bytes().all(fits));
        assert_eq!(format!("{salt:?}"), "CacheSalt([redacted])");
        let id = TenantId::from_bits(1);
        assert_eq!(format!("{:?}", scope_of(1)), format!("TenantScope({id})"));
    }

    #[test]
    fn the_platforms_own_work_has_no_callers_rights() {
        let scope = scope_of(1);
        for permission in Permission::ALL {
            assert!(!scope.grant().allows(permission), "{permission:?}");
        }
        assert!(!scope.grant().may_call(&"m".parse().unwrap()));
        assert_eq!(scope.grant().service(), Some(ServicePurpose::Recovery));
    }
}
