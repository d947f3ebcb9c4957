//! Declarative configuration: apply, export, versions, rollback.

use base::{Name, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenancy::catalogue::Kind;

/// A resource as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What it is.
    pub kind: Kind,
    /// Whose it is, by name; none for the platform's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Its name.
    pub name: String,
    /// Its specification. What the server gives (`id`, `hash`) may be left out.
    pub spec: Value,
}

/// Resources to put, as one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyRequest {
    /// What is declared.
    pub resources: Vec<Manifest>,
    /// Whether to remove what is not declared. Operators and tenants are never pruned: an
    /// operator is removed by name, and a tenant is offboarded.
    pub prune: bool,
    /// Whether only to say what would change.
    pub dry_run: bool,
    /// Why, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It is removed.
    Delete,
    /// It stays as it is.
    Unchanged,
}

/// One resource of a difference. Hashes of keys are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffLine {
    /// The resource: `tiers/free`, `acme/keys/prod`.
    pub address: String,
    /// What happens to it.
    pub action: Action,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A key that a declaration made. This is the only time that the key itself is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedKey {
    /// Whose it is; none for an operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Its name.
    pub name: String,
    /// The key: keep it, for it is kept nowhere else.
    pub key: String,
}

/// What applying a declaration did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyReport {
    /// The catalogue's version from now on; of a dry run or if nothing changed, as before.
    pub version: u64,
    /// What changed, and what did not.
    pub diff: Vec<DiffLine>,
    /// The keys that were made; none in a dry run.
    pub created_keys: Vec<CreatedKey>,
}

/// The whole catalogue, in the form that apply takes; applying it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportReply {
    /// The version that it is of.
    pub version: u64,
    /// Every resource, with what the server gave (`id`, `hash`).
    pub resources: Vec<Manifest>,
}

/// A version of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRow {
    /// Its number.
    pub version: u64,
    /// When it was published.
    pub at: Timestamp,
    /// Who published it.
    pub actor: String,
    /// Why.
    pub note: String,
}

/// Why to go back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackRequest {
    /// Why, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What going back did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollbackReply {
    /// The catalogue's version from now on: a new one, with what the old one had.
    pub version: u64,
    /// What changed.
    pub diff: Vec<DiffLine>,
    /// What could not or must not go back, and why: revoked keys stay revoked, rotated keys stay
    /// rotated, tenants come and go by onboarding and offboarding alone.
    pub kept: Vec<KeptResource>,
}

/// A resource that did not go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptResource {
    /// The resource.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// That a version was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishedReply {
    /// The catalogue's version from now on.
    pub version: u64,
}

/// A tenant's configuration as it was from some version on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigVersion {
    /// The catalogue's version that wrote it.
    pub version: u64,
    /// The configuration; none if it was removed, or cannot be read any more.
    pub config: Option<Value>,
    /// Why it cannot be read, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}
