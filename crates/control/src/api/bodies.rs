//! What requests asked and were answered, where their tenant has that kept.

use base::{RequestId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a request asked and was answered, redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BodiesReply {
    /// The request.
    pub request: RequestId,
    /// When it arrived.
    pub at: Timestamp,
    /// From then on it is shown to nobody.
    pub kept_until: Timestamp,
    /// The body that went on to the model: with the tenant's prompt in it, as its guardrails left it.
    pub asked: Value,
    /// Whether that goes on beyond what is kept: 64 KiB.
    pub asked_cut: bool,
    /// The answer; of a stream, what it said as a whole. None of an embedding, or where nothing was
    /// answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Value>,
    /// Whether that goes on beyond what is kept: 64 KiB.
    pub answered_cut: bool,
    /// Whether the answer broke off before its end.
    pub incomplete: bool,
}
