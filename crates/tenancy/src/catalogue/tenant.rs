//! What belongs to one tenant: itself, its teams, users, keys, features and configuration.

use std::collections::BTreeMap;

use base::{KeyId, ModelName, Name, TeamId, TenantId, Timestamp, UserId};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thin_vec::ThinVec;

use super::{BodiesSpec, CacheSpec, FormerPlacement, Placement, PromptRef, RetentionSpec};
use crate::keys::KeyHash;
use crate::roles::Role;

/// A customer: the unit of isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// Given at onboarding, and never to another.
    pub id: TenantId,
    /// For people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub display_name: Box<str>,
    /// The tier whose limits, budgets and routes apply.
    pub tier: Name,
    /// The IANA time zone of the tenant's calendar (`Europe/Berlin`).
    #[serde(default = "default_zone")]
    pub zone: Box<str>,
    /// A suspended tenant's calls are refused.
    #[serde(default)]
    pub suspended: bool,
    /// Whether a call must name a feature that is declared.
    #[serde(default)]
    pub requires_known_feature: bool,
    /// Whether the tenant accepts, on record, upstreams whose prompt cache is shared.
    #[serde(default)]
    pub accepts_shared_cache: bool,
    /// Counted up by `rotate-salt`: each number makes engines forget what they kept of its prompts.
    /// Given by the server.
    #[serde(default, skip_serializing_if = "is_first_epoch")]
    pub salt_epoch: u32,
    /// The region that its calls never leave: upstreams elsewhere are not its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Name>,
    /// Where its data lives: `file`, or `pool:NAME`, `bridge:NAME`, `silo:NAME` on a PostgreSQL
    /// server. Given at onboarding, from its tier unless it is said; `tenant move` changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Box<Placement>>,
    /// Where it was before it was moved, for as long as that is kept. Given by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_placement: Option<Box<FormerPlacement>>,
    /// Where notices (a budget's soft threshold) are sent: an `https` address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Box<str>>,
    /// The price book that it is charged by; its tier's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_book: Option<Box<Name>>,
    /// How long what its calls leave is kept; what is absent is as its tier says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Box<RetentionSpec>>,
}

impl TenantSpec {
    /// Where its data lives: in a file unless it is said.
    pub fn placement(&self) -> &Placement {
        self.placement.as_deref().unwrap_or(&Placement::File)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_first_epoch(epoch: &u32) -> bool {
    *epoch == 0
}

fn default_zone() -> Box<str> {
    "UTC".into()
}

/// A part of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamSpec {
    /// Given when it is made.
    pub id: TeamId,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
}

/// A person or service inside one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    /// Given when it is made.
    pub id: UserId,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// The team it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// A disabled user's keys are refused.
    #[serde(default)]
    pub disabled: bool,
}

/// What the customer's product does when it calls: the second axis of cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureSpec {
    /// For people.
    pub description: String,
    /// The prompt of its calls: `support` for its active version, or `support@3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptRef>,
}

/// An API key's record. The key itself is shown once and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Given when it is made.
    pub id: KeyId,
    /// The keyed hash of the key.
    pub hash: KeyHash,
    /// The hash that a rotation replaced, good until its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<Box<RetiringHash>>,
    /// `tenant-admin`, `tenant-member` or `service`.
    #[serde(default = "default_role")]
    pub role: Role,
    /// The team whose calls these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
    /// The user whose calls these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// A revoked key is refused.
    #[serde(default)]
    pub revoked: bool,
    /// The models it may call, as clients name them; empty means all of the tenant's.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    #[schemars(with = "Vec<ModelName>")]
    pub models: ThinVec<ModelName>,
    /// The features it may name; empty means all.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    #[schemars(with = "Vec<Name>")]
    pub features: ThinVec<Name>,
    /// The feature of calls that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_feature: Option<Name>,
    /// The address ranges it may come from; empty means all.
    #[serde(default, skip_serializing_if = "ThinVec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub networks: ThinVec<IpNet>,
}

impl KeySpec {
    /// A key that says nothing more.
    pub(crate) fn plain(id: KeyId, hash: KeyHash, role: Role, revoked: bool) -> Self {
        Self {
            id,
            hash,
            retiring: None,
            role,
            team: None,
            user: None,
            expires_at: None,
            revoked,
            models: ThinVec::new(),
            features: ThinVec::new(),
            default_feature: None,
            networks: ThinVec::new(),
        }
    }
}

fn default_role() -> Role {
    Role::TenantMember
}

/// A key's former hash, during the overlap of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetiringHash {
    /// The keyed hash of the former key.
    pub hash: KeyHash,
    /// From when on it is refused.
    pub until: Timestamp,
}

/// A tenant's own behaviour, merged into each of its calls at "compile context".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// A minijinja template that becomes the first system message. It sees `tenant`, `feature`,
    /// `model`, `user`, `team`, `flags` and `date`; values never become templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// The prompt of calls whose feature has none of its own, after `system_prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptRef>,
    /// Request fields that are added where a call does not have them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub default_parameters: BTreeMap<String, Value>,
    /// Request fields that replace what a call has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub forced_parameters: BTreeMap<String, Value>,
    /// The models that may be called, as clients name them; empty means all of the tier's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelName>,
    /// Switches that the prompt template can ask for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<Name, bool>,
    /// Whether its answers are kept and given again; none is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// Whether what its calls ask and are answered is kept, for people to look at; nothing is if
    /// absent. For the tenant's own administrators to switch on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<BodiesSpec>,
    /// The group of tenants with whom it shares what engines keep of prompts
    /// ([`SharingGroupSpec`](super::SharingGroupSpec)): they can then tell from answers' times what
    /// the others have asked. None if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing_group: Option<Name>,
}
