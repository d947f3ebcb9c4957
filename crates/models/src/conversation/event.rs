//! What a model answers, piece by piece.
//!
//! Order, which every reader keeps and every writer may rely on: `Begin` once and first; of a
//! part `PartBegin`, its deltas, `PartEnd`; of a candidate at most one part open at a time, parts
//! numbered from 0 without gaps; `Stop` once for each candidate after its last part; `Usage` any
//! number of times, each with all that is known by then; last `End`, or `Error` and nothing more.

use super::{Signature, StopReason};
use crate::json::Json;
use crate::usage::Usage;

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// The answer begins.
    Begin {
        /// The provider's id, if it gave one.
        id: Option<String>,
        /// The model that answers, as the provider names it.
        model: Option<String>,
        /// When, in seconds since 1970, if the provider says so.
        created: Option<u64>,
        /// The tier that serves it.
        service_tier: Option<String>,
    },
    /// A part begins.
    PartBegin {
        /// Of which candidate.
        candidate: u32,
        /// Its number in it.
        part: u32,
        /// What it will be.
        start: PartStart,
    },
    /// More of a part.
    Delta {
        /// Of which candidate.
        candidate: u32,
        /// The part's number.
        part: u32,
        /// What is added.
        delta: PartDelta,
    },
    /// A part is complete.
    PartEnd {
        /// Of which candidate.
        candidate: u32,
        /// The part's number.
        part: u32,
    },
    /// Log probabilities of the tokens since the last ones, in OpenAI's shape: an array.
    Logprobs {
        /// Of which candidate.
        candidate: u32,
        /// The elements of `content`.
        content: Json,
    },
    /// A candidate is complete.
    Stop {
        /// Which.
        candidate: u32,
        /// Why.
        reason: StopReason,
    },
    /// What the answer costs, so far.
    Usage(Usage),
    /// The upstream failed in mid-stream. Nothing follows.
    Error(StreamFailure),
    /// The answer is complete. Nothing follows.
    End,
}

/// What a part will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartStart {
    /// Text.
    Text,
    /// What the model thinks.
    Reasoning,
    /// Thoughts that only their provider can read; a signature follows.
    RedactedReasoning,
    /// A call of a tool; its arguments follow.
    ToolCall {
        /// Its id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// The model declines.
    Refusal,
}

/// What is added to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartDelta {
    /// More text: of a text, of reasoning, of a refusal.
    Text(String),
    /// More of a call's arguments.
    Arguments(String),
    /// The part's signature, whole; a second replaces the first.
    Signature(Signature),
}

/// What an upstream says when it fails in mid-stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFailure {
    /// The provider's word for the kind: `overloaded_error`.
    pub kind: String,
    /// For people.
    pub message: String,
}
