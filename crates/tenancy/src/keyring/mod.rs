//! The key hierarchy.
//!
//! ```text
//! root key        a file, the environment; Vault or a cloud's KMS behind the same trait
//!  ├─ platform key          random, wrapped ──▶ catalogue file, key pepper, audit signature, …
//!  └─ a key per tenant      random, wrapped ──▶ tenant's file, sealing keys, cache secret
//! ```
//!
//! The root key wraps and never encrypts data, so that rotating it re-wraps a few bytes a tenant.
//! Below it each purpose has a type and an HKDF label of its own: nothing that was sealed for one
//! purpose or one tenant opens for another. Destroying a tenant's wrapped key erases the tenant.
//!
//! Our own copies of keys are wiped when dropped. `ring` does not wipe its expanded ones: the
//! process's memory is inside the wall, and core dumps should be off.

mod derive;
mod platform;
mod root;
mod sealing;
mod tenant;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base::TenantId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub(crate) use derive::length_prefix;
pub use platform::{AuditSigningKey, PlatformKeys};
pub use root::{LocalRootKey, RootKeyFileError};
pub use sealing::{OpenError, PlatformPurpose, Purpose, SealingKey, TenantPurpose, purpose};
pub(crate) use tenant::CacheSecret;
pub use tenant::{DatabaseSecret, PlacementKey, TenantKeys};

/// The key that wraps all others. It stays where it is: a KMS answers [`RootKey::wrap`] and
/// [`RootKey::unwrap`] without ever showing the key. May wait for the network: call it from a
/// thread that may block.
pub trait RootKey: Send + Sync + fmt::Debug {
    /// Which root key this is; stored beside what it wraps.
    fn id(&self) -> RootKeyId;

    /// Encrypts `key`, bound to `aad`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unavailable`] if the keeper of the root key cannot be reached.
    fn wrap(&self, aad: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, KeyError>;

    /// Decrypts what [`RootKey::wrap`] made with the same `aad`.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotAuthentic`] for anything else; [`KeyError::Unavailable`] as above.
    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError>;
}

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Another root key wrapped it.
    #[error("this key is wrapped by root key `{needed}`, but root key `{present}` is configured")]
    WrongRoot {
        /// The root key that can unwrap it.
        needed: RootKeyId,
        /// The root key at hand.
        present: RootKeyId,
    },
    /// It was changed, or belongs to another tenant or generation.
    #[error("the wrapped key is damaged or belongs to somebody else")]
    NotAuthentic,
    /// No generation comes after this one.
    #[error("the key has been rotated 2^32 times")]
    GenerationsExhausted,
    /// The keeper of the root key did not answer.
    #[error("the keeper of the root key did not answer")]
    Unavailable {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Names a root key: 1 to 256 visible ASCII characters, such as `local/0a1b…` or a KMS key's ARN
/// (at most 256 is what the clouds' own ids stay below). Reveals nothing about the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RootKeyId(Arc<str>);

impl RootKeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text does not name a root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root key's id is 1 to 256 visible ASCII characters")]
pub struct ParseRootKeyIdError;

impl FromStr for RootKeyId {
    type Err = ParseRootKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseRootKeyIdError> {
        let fits = (1..=256).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(ParseRootKeyIdError)
        }
    }
}

impl fmt::Display for RootKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RootKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Whose key a wrapped key is. Part of what wrapping authenticates, so that one tenant's wrapped
/// key, copied over another's, does not unwrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// The installation itself.
    Platform,
    /// One tenant.
    Tenant(TenantId),
}

impl KeyOwner {
    /// 17 bytes: a kind, then the tenant's id or zeroes.
    pub(crate) fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        if let Self::Tenant(tenant) = self {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&tenant.to_bytes());
        }
        bytes
    }
}

/// A key as it is stored: encrypted by a root key, useless without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The root key that wrapped it.
    pub root: RootKeyId,
    /// 1 for an owner's first key, one more at each rotation.
    pub generation: u32,
    /// The root key's ciphertext.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub bytes: Vec<u8>,
}

impl WrappedKey {
    /// Wraps `key` for `owner`.
    fn seal(
        root: &dyn RootKey,
        owner: KeyOwner,
        generation: u32,
        key: &[u8; 32],
    ) -> Result<Self, KeyError> {
        Ok(Self {
            root: root.id(),
            generation,
            bytes: root.wrap(&wrapping_aad(owner, generation), key)?,
        })
    }

    fn open(&self, root: &dyn RootKey, owner: KeyOwner) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let present = root.id();
        if self.root != present {
            return Err(KeyError::WrongRoot {
                needed: self.root.clone(),
                present,
            });
        }
        root.unwrap(&wrapping_aad(owner, self.generation), &self.bytes)
    }

    /// The same key under another root key: what rotating the root key does to each owner, while
    /// serving. Neither the key nor its generation changes.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if `old_root` cannot unwrap it for `owner`, or `new_root` is unavailable.
    pub fn rewrap(
        &self,
        owner: KeyOwner,
        old_root: &dyn RootKey,
        new_root: &dyn RootKey,
    ) -> Result<Self, KeyError> {
        let key = self.open(old_root, owner)?;
        Self::seal(new_root, owner, self.generation, &key)
    }
}

fn wrapping_aad(owner: KeyOwner, generation: u32) -> Vec<u8> {
    let mut aad = b"partywall/wrapped-key/v1".to_vec();
    aad.extend_from_slice(&owner.to_bytes());
    aad.extend_from_slice(&generation.to_be_bytes());
    aad
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
