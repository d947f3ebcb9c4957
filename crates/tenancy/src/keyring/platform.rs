//! The installation's own keys.

use std::fmt;

use base::Entropy;
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::sealing::{PlatformPurpose, SealingKey};
use super::tenant::random;
use super::{KeyError, KeyOwner, PlacementKey, RootKey, WrappedKey, derive};
use crate::keys::KeyHasher;
use crate::sharing::SharingSecret;

/// The platform's unwrapped key, from which every key of its purposes derives. Having one proves
/// that this process holds the root key. Cannot be cloned or printed; wiped when dropped.
///
/// It has one generation for good: the pepper of all key hashes derives from it, and keys could
/// not be hashed anew. Rotating the root key re-wraps it.
pub struct PlatformKeys {
    secret: Zeroizing<[u8; 32]>,
}

const GENERATION: u32 = 1;

impl PlatformKeys {
    /// A new installation's keys, and what to store of them.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`] if the root key cannot be used.
    pub fn generate(
        root: &dyn RootKey,
        entropy: &dyn Entropy,
    ) -> Result<(Self, WrappedKey), KeyError> {
        let secret = random(entropy);
        let wrapped = WrappedKey::seal(root, KeyOwner::Platform, GENERATION, &secret)?;
        Ok((Self { secret }, wrapped))
    }

    /// The keys of an installation.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if `wrapped` is not the platform's, or another root key wrapped it.
    pub fn unwrap(root: &dyn RootKey, wrapped: &WrappedKey) -> Result<Self, KeyError> {
        let secret = wrapped.open(root, KeyOwner::Platform)?;
        Ok(Self { secret })
    }

    /// The key of the catalogue's database.
    pub fn catalogue_key(&self) -> PlacementKey {
        PlacementKey::from_secret(KeyOwner::Platform, GENERATION, &self.secret)
    }

    /// What the role of a pool's tenants logs in to this server with.
    pub fn pool_secret(&self, server: &base::Name) -> super::DatabaseSecret {
        let label = format!("pool/{server}");
        super::DatabaseSecret::from_secret(KeyOwner::Platform, GENERATION, &self.secret, &label)
    }

    /// The hasher of API keys.
    pub fn key_hasher(&self) -> KeyHasher {
        KeyHasher::new(&self.derive("key-pepper"))
    }

    /// The key that signs audit checkpoints.
    pub fn audit_signing_key(&self) -> AuditSigningKey {
        AuditSigningKey {
            pair: Ed25519KeyPair::from_seed_unchecked(self.derive("audit-signing").as_slice())
                .expect("an Ed25519 seed is any 32 bytes"),
        }
    }

    /// The secret that signs a tenant's webhooks: the platform's, so that it stays the same when
    /// the tenant's own key is rotated.
    pub fn webhook_secret(&self, tenant: base::TenantId) -> Zeroizing<[u8; 32]> {
        self.derive(&format!("webhook-signing/{tenant}"))
    }

    /// The secret that signs the platform's own webhooks. No tenant's id reads like its label.
    pub fn own_webhook_secret(&self) -> Zeroizing<[u8; 32]> {
        self.derive("webhook-signing/platform")
    }

    /// What the salts of sharing groups derive from.
    pub fn sharing_secret(&self) -> SharingSecret {
        SharingSecret::new(&self.derive("sharing-groups"))
    }

    /// The key that seals the platform's own data for one purpose: the seeds of token signing
    /// keys, webhooks' secrets, …
    pub fn sealing_key<P: PlatformPurpose>(&self) -> SealingKey<P> {
        SealingKey::new(KeyOwner::Platform, GENERATION, &self.secret)
    }

    fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let prk = derive::extract(&self.secret);
        derive::purpose_key(&prk, KeyOwner::Platform, GENERATION, label)
    }
}

impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlatformKeys([redacted])")
    }
}

/// Signs audit checkpoints, with Ed25519.
pub struct AuditSigningKey {
    pair: Ed25519KeyPair,
}

impl AuditSigningKey {
    /// The signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair
            .sign(message)
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes")
    }

    /// What an offline verifier needs.
    pub fn public_key(&self) -> [u8; 32] {
        self.pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("an Ed25519 public key has 32 bytes")
    }
}

impl fmt::Debug for AuditSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSigningKey([redacted])")
    }
}
