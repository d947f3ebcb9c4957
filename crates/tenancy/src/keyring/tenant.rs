//! One tenant's keys.

use std::fmt;
use std::sync::OnceLock;

use base::{Entropy, TenantId};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::sealing::{SealingKey, TenantPurpose};
use super::{KeyError, KeyOwner, RootKey, WrappedKey, derive};
use crate::hex;

/// A tenant's unwrapped key, from which every key of its purposes derives. Cannot be cloned or
/// printed; wiped when dropped.
///
/// While a tenant's key is being rotated it holds two generations: new data goes under the
/// current one, and what the previous one sealed still opens.
pub struct TenantKeys {
    tenant: TenantId,
    current: Generation,
    previous: Option<Box<Generation>>,
    /// Derived when first asked for: most tenants are idle, and it is larger than all the rest.
    cache_secret: OnceLock<Box<CacheSecret>>,
}

struct Generation {
    number: u32,
    secret: Zeroizing<[u8; 32]>,
}

/// A tenant's first key.
const FIRST_GENERATION: u32 = 1;

impl TenantKeys {
    /// A new tenant's keys, and what to store of them.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`] if the root key cannot be used.
    pub fn generate(
        root: &dyn RootKey,
        tenant: TenantId,
        entropy: &dyn Entropy,
    ) -> Result<(Self, WrappedKey), KeyError> {
        let secret = random(entropy);
        let owner = KeyOwner::Tenant(tenant);
        let wrapped = WrappedKey::seal(root, owner, FIRST_GENERATION, &secret)?;
        Ok((Self::new(tenant, FIRST_GENERATION, secret), wrapped))
    }

    /// The keys of a tenant that is not being rotated.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if `wrapped` is not this tenant's, or another root key wrapped it.
    pub fn unwrap(
        root: &dyn RootKey,
        tenant: TenantId,
        wrapped: &WrappedKey,
    ) -> Result<Self, KeyError> {
        let secret = wrapped.open(root, KeyOwner::Tenant(tenant))?;
        Ok(Self::new(tenant, wrapped.generation, secret))
    }

    /// The keys of a tenant whose data is still being moved from `previous` to `current`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if either is not this tenant's, or another root key wrapped it.
    pub fn unwrap_rotating(
        root: &dyn RootKey,
        tenant: TenantId,
        current: &WrappedKey,
        previous: &WrappedKey,
    ) -> Result<Self, KeyError> {
        let mut keys = Self::unwrap(root, tenant, current)?;
        keys.previous = Some(Box::new(Generation {
            number: previous.generation,
            secret: previous.open(root, KeyOwner::Tenant(tenant))?,
        }));
        Ok(keys)
    }

    /// Begins a rotation: a new random key as the current generation, with this one as the
    /// previous; and what to store of the new one, beside the old until all data has moved.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`] if the root key cannot be used.
    pub fn next_generation(
        &self,
        root: &dyn RootKey,
        entropy: &dyn Entropy,
    ) -> Result<(Self, WrappedKey), KeyError> {
        let number = self
            .current
            .number
            .checked_add(1)
            .ok_or(KeyError::GenerationsExhausted)?;
        let secret = random(entropy);
        let owner = KeyOwner::Tenant(self.tenant);
        let wrapped = WrappedKey::seal(root, owner, number, &secret)?;
        let mut keys = Self::new(self.tenant, number, secret);
        keys.previous = Some(Box::new(Generation {
            number: self.current.number,
            secret: self.current.secret.clone(),
        }));
        Ok((keys, wrapped))
    }

    fn new(tenant: TenantId, number: u32, secret: Zeroizing<[u8; 32]>) -> Self {
        Self {
            tenant,
            current: Generation { number, secret },
            previous: None,
            cache_secret: OnceLock::new(),
        }
    }

    /// Keys with a known cache secret, for test vectors.
    #[cfg(test)]
    pub(crate) fn with_cache_secret(tenant: TenantId, cache_secret: CacheSecret) -> Self {
        let keys = Self::new(tenant, FIRST_GENERATION, Zeroizing::new([0; 32]));
        Self {
            cache_secret: Box::new(cache_secret).into(),
            ..keys
        }
    }

    /// Whose keys these are.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The generation that new data is encrypted under.
    pub fn generation(&self) -> u32 {
        self.current.number
    }

    /// The key of the tenant's database.
    pub fn placement_key(&self) -> PlacementKey {
        PlacementKey::derive(KeyOwner::Tenant(self.tenant), &self.current)
    }

    /// The key of the tenant's database before the rotation that is under way, if one is.
    pub fn previous_placement_key(&self) -> Option<PlacementKey> {
        let previous = self.previous.as_ref()?;
        let owner = KeyOwner::Tenant(self.tenant);
        Some(PlacementKey::derive(owner, previous))
    }

    /// What the tenant's role in a database logs in with.
    pub fn database_secret(&self) -> DatabaseSecret {
        let owner = KeyOwner::Tenant(self.tenant);
        DatabaseSecret::from_secret(owner, self.current.number, &self.current.secret, "database")
    }

    /// The same before the rotation that is under way, if one is.
    pub fn previous_database_secret(&self) -> Option<DatabaseSecret> {
        let Generation { number, secret } = &**self.previous.as_ref()?;
        let owner = KeyOwner::Tenant(self.tenant);
        Some(DatabaseSecret::from_secret(
            owner, *number, secret, "database",
        ))
    }

    /// The key that seals the tenant's data for one purpose.
    pub fn sealing_key<P: TenantPurpose>(&self) -> SealingKey<P> {
        let owner = KeyOwner::Tenant(self.tenant);
        let key = SealingKey::new(owner, self.current.number, &self.current.secret);
        match &self.previous {
            Some(previous) => key.with_previous(previous.number, &previous.secret),
            None => key,
        }
    }

    /// What cache keys and cache salts derive from. Rotation changes it, so that it also empties
    /// every cache of the tenant.
    pub(crate) fn cache_secret(&self) -> &CacheSecret {
        self.cache_secret.get_or_init(|| {
            let Generation { number, secret } = &self.current;
            let owner = KeyOwner::Tenant(self.tenant);
            let prk = derive::extract(secret);
            let secret = derive::purpose_key(&prk, owner, *number, "cache-secret");
            Box::new(CacheSecret::new(&secret))
        })
    }
}

impl fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantKeys({}, [redacted])", self.tenant)
    }
}

/// The raw key of one SQLCipher database: 32 bytes, so that opening costs no key stretching.
pub struct PlacementKey {
    bytes: Zeroizing<[u8; 32]>,
}

impl PlacementKey {
    fn derive(owner: KeyOwner, generation: &Generation) -> Self {
        Self::from_secret(owner, generation.number, &generation.secret)
    }

    pub(super) fn from_secret(owner: KeyOwner, generation: u32, secret: &[u8; 32]) -> Self {
        let prk = derive::extract(secret);
        Self {
            bytes: derive::purpose_key(&prk, owner, generation, "placement"),
        }
    }

    /// SQLCipher's raw-key form, `x'` + 64 hexadecimal digits + `'`: the value of `PRAGMA key`
    /// and `PRAGMA rekey`, between double quotes. Holds no quote or other character of SQL, so
    /// that it is safe to put there. Wiped when dropped.
    pub fn sqlcipher_pragma(&self) -> Zeroizing<String> {
        // With its whole capacity reserved, the text is never copied to a larger place.
        let mut text = Zeroizing::new(String::with_capacity(2 + 64 + 1));
        text.push_str("x'");
        hex::push(&mut text, self.bytes.as_slice());
        text.push('\'');
        text
    }
}

impl fmt::Debug for PlacementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlacementKey([redacted])")
    }
}

/// What a role logs in to a database with: derived, so that it is kept nowhere.
pub struct DatabaseSecret {
    bytes: Zeroizing<[u8; 32]>,
    public: [u8; 8],
}

impl DatabaseSecret {
    pub(super) fn from_secret(
        owner: KeyOwner,
        generation: u32,
        secret: &[u8; 32],
        label: &str,
    ) -> Self {
        let prk = derive::extract(secret);
        let bytes = derive::purpose_key(&prk, owner, generation, label);
        let own = derive::extract(&bytes);
        let mut public = [0; 8];
        public.copy_from_slice(&derive::expand(&own, &[b"partywall/database-role/v1"])[..8]);
        Self { bytes, public }
    }

    /// The password: 64 hexadecimal digits. Wiped when dropped.
    pub fn password(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        hex::push(&mut text, self.bytes.as_slice());
        text
    }

    /// Eight bytes that tell roles apart, and say nothing of the password.
    pub fn public_part(&self) -> [u8; 8] {
        self.public
    }
}

impl fmt::Debug for DatabaseSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseSecret([redacted])")
    }
}

/// What a tenant's cache keys and cache salts derive from. A [`TenantScope`](crate::TenantScope)
/// uses it; nothing else can.
pub(crate) struct CacheSecret {
    salts: hkdf::Prk,
    keys: hmac::Key,
}

impl CacheSecret {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let salts = derive::extract(secret);
        let keys = derive::expand(&salts, &[b"partywall/cache-key-mac/v1"]);
        Self {
            keys: hmac::Key::new(hmac::HMAC_SHA256, keys.as_slice()),
            salts,
        }
    }

    /// 32 bytes that only this secret and `info` give.
    pub(crate) fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        derive::expand(&self.salts, info)
    }

    /// A MAC under this secret, to be fed and signed.
    pub(crate) fn mac(&self) -> hmac::Context {
        hmac::Context::with_key(&self.keys)
    }
}

pub(super) fn random(entropy: &dyn Entropy) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill(bytes.as_mut_slice());
    bytes
}
