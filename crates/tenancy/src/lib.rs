//! Scopes, directory snapshots, keys, tokens, roles and the key hierarchy.
//!
//! `tenancy` opens no socket and no file but the root key's, and knows no SQL and no HTTP.

pub mod catalogue;
mod checks;
mod directory;
mod hex;
mod keyring;
mod keys;
mod publish;
mod roles;
mod shards;

pub use directory::{CredentialOwner, KeyEntry, Snapshot, TenantEntry};
pub use keyring::{
    AuditSigningKey, KeyError, KeyOwner, LocalRootKey, OpenError, ParseRootKeyIdError,
    PlacementKey, PlatformKeys, PlatformPurpose, Purpose, RootKey, RootKeyFileError, RootKeyId,
    SealingKey, TenantKeys, TenantPurpose, WrappedKey, purpose,
};
pub use keys::{ApiKey, KeyHash, KeyHasher, ParseKeyError, ParseKeyHashError};
pub use publish::{Change, KeySource, Problem};
pub use roles::{ParseRoleError, Permission, Role};
