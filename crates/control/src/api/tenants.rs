//! Onboarding, keys and rotation.

use base::{ModelName, Name, Timestamp};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenancy::Role;
use tenancy::catalogue::SecretRef;

use super::ResourceView;

/// A new tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnboardRequest {
    /// Its name.
    pub name: Name,
    /// What it is: a tenant's specification without `id`.
    pub spec: Value,
    /// A key to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_key: Option<KeyRequest>,
}

/// A tenant that was onboarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnboardReply {
    /// The tenant.
    pub tenant: ResourceView,
    /// Its first key, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_key: Option<KeyReply>,
    /// The catalogue's version from now on.
    pub version: u64,
}

/// A new key of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Its name, unique inside the tenant.
    pub name: Name,
    /// `tenant-admin`, `tenant-member` or `service`; `tenant-member` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The team whose calls these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// The user whose calls these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The models it may call; empty means all of the tenant's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelName>,
    /// The features it may name; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Name>,
    /// The feature of calls that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_feature: Option<Name>,
    /// The address ranges it may come from; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<IpNet>,
}

/// A new operator of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// The operator's name.
    pub name: Name,
    /// `operator` or `auditor`.
    pub role: Role,
}

/// A key that was made or rotated. This is the only time that the key itself is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyReply {
    /// Its record.
    pub resource: ResourceView,
    /// The key: keep it, for it is kept nowhere else.
    pub key: String,
    /// The catalogue's version from now on.
    pub version: u64,
}

/// How to rotate a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateRequest {
    /// How long the former key stays good: 0 to 2,592,000 (30 days); at once refused if absent.
    pub overlap_seconds: u32,
}

/// The root key that everything is to be wrapped under from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootKeyRequest {
    /// Where the new root key is, for the serving process: `file:/path` or `env:NAME`.
    pub root_key: SecretRef,
}

/// What a rotation of encryption keys did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotatedReply {
    /// Names what is current from now on: a root key's id, or a tenant key's generation.
    pub current: String,
    /// How many keys were wrapped, or resources sealed, anew.
    pub renewed: u64,
}

/// What a rotation of the keys that sign tokens did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenKeysReply {
    /// The id (`kid`) of the key that signs from now on.
    pub current: String,
    /// The id of the key before it.
    pub previous: String,
    /// Until when tokens of the key before are good; the next rotation is refused before.
    pub previous_until: Timestamp,
}

/// What verifies a tenant's webhooks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookSecretReply {
    /// `whsec_` and base64, as libraries of Standard Webhooks take it.
    pub secret: String,
}

impl std::fmt::Debug for WebhookSecretReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecretReply([redacted])")
    }
}

/// Says again what is about to be destroyed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConfirmQuery {
    /// The tenant's name, again: its data is destroyed and cannot be brought back.
    pub confirm: String,
}
