//! What a model answered.

use super::Part;
use crate::json::Json;
use crate::usage::Usage;

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The provider's id, if it gave one.
    pub id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// When, in seconds since 1970, if the provider says so.
    pub created: Option<u64>,
    /// At least one.
    pub candidates: Vec<Candidate>,
    /// What it cost, if the provider says so.
    pub usage: Option<Usage>,
    /// The tier that served it.
    pub service_tier: Option<String>,
}

/// One of the answers to choose from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidate {
    /// What it says: text, reasoning, calls of tools, refusals.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Option<StopReason>,
    /// Log probabilities of its tokens, in OpenAI's shape: the array `content`.
    pub logprobs: Option<Json>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It was complete.
    End,
    /// The bound on its tokens was reached.
    Length,
    /// A stop sequence came; which, if the provider says so.
    StopSequence(Option<String>),
    /// Tools are to be called.
    ToolCalls,
    /// The provider or the model refused.
    Refused,
    /// The provider paused a long turn: send it back to go on.
    Paused,
    /// The model's context was full.
    ContextFull,
}
