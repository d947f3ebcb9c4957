//! Scopes, directory snapshots, keys, tokens, roles and the key hierarchy.
//!
//! `tenancy` opens no socket and no file but the root key's, and knows no SQL and no HTTP.

mod adapter_checks;
mod adapter_name;
mod authenticate;
pub mod catalogue;
mod checks;
mod credentials;
mod dependents;
mod directory;
mod grant;
mod hex;
mod key_entry;
mod keyring;
mod keys;
mod loading;
mod publish;
mod remembered;
mod roles;
mod scope;
mod shards;
mod sharing;
mod tokens;
mod vouched;

pub use adapter_name::{AdapterInputs, AdapterName};
pub use authenticate::{
    AuthError, Authority, Caller, OperatorPrincipal, OutwardAuthError, PresentedCredential,
    Principal,
};
pub use credentials::CredentialOwner;
pub use directory::{Adapters, Guardrails, OwnModels, Prompts, Snapshot, TenantEntry};
pub use grant::{Grant, ServicePurpose};
pub use key_entry::KeyEntry;
pub use keyring::{
    AuditSigningKey, DatabaseSecret, KeyError, KeyOwner, LocalRootKey, OpenError,
    ParseRootKeyIdError, PlacementKey, PlatformKeys, PlatformPurpose, Purpose, RootKey,
    RootKeyFileError, RootKeyId, SealingKey, TenantKeys, TenantPurpose, WrappedKey, purpose,
};
pub use keys::{ApiKey, KeyHash, KeyHasher, ParseKeyError, ParseKeyHashError};
pub use loading::SnapshotLoading;
pub use publish::{Change, KeySource, Problem};
pub use remembered::RememberedKey;
pub use roles::{ParseRoleError, Permission, Role};
pub use scope::{
    ActForAudit, ActForError, AuditUnavailable, CacheKey, CachePurpose, CacheSalt, ForeignKeys,
    SaltInputs, ServiceIdentity, Sharing, TenantScope, act_for,
};
pub use sharing::{Share, SharingSecret};
pub use tokens::{
    ExchangeError, ExchangeRequest, IssuedToken, TOKEN_BYTES_MAX, TOKEN_LIFETIME_SECONDS_MAX,
    TokenClaims, TokenError, TokenId, TokenKeys, TokenKind, TokenSeed,
};
pub use vouched::{Vouched, VouchedRole, VouchingKey};
