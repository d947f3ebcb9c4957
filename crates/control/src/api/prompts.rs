//! Trying a prompt out.

use std::collections::BTreeMap;

use base::{ModelName, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::PromptVersion;

/// What a prompt is to be rendered with.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenderRequest {
    /// Which version; the active one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<PromptVersion>,
    /// Values of its variables, by name.
    pub variables: BTreeMap<String, String>,
    /// The feature of the call; `default` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<Name>,
    /// The model of the call; `model` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// The user of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// The team of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Name>,
}

/// A prompt as a call would have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenderReply {
    /// Which it is: `support@3`.
    pub prompt: String,
    /// What the model would be told.
    pub text: String,
}
