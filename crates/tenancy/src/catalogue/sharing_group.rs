//! Tenants of one owner that may share what engines keep of their prompts.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Tenants whose prompts an engine may take for each other's: one owner's, as the operator
/// vouches. A member shares once its own configuration names the group
/// ([`TenantConfig::sharing_group`](super::TenantConfig::sharing_group)), and with those members
/// alone who have done so too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharingGroupSpec {
    /// Whose tenants these are, and why they share.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The tenants that may opt in: 2 to 64. They need not exist yet.
    pub members: Vec<Name>,
}
