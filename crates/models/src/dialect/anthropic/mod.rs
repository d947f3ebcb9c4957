//! Anthropic's Messages.
//!
//! A part that another provider signed (Gemini signs texts and calls) is followed by a
//! `redacted_thinking` block whose `data` is `@<dialect>:<signature>`: clients send such blocks
//! back as they are, so that the signature finds its part again.

mod answer;
mod block_reader;
mod block_writer;
mod error;
mod meter;
mod reader;
mod stream_reader;
mod stream_writer;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use answer::{read_answer, write_answer};
pub(super) use error::{error_kind, write_error};
pub use meter::AnthropicMeter;
pub(super) use reader::read_request;
pub(super) use stream_reader::MessagesStreamReader;
pub(super) use stream_writer::MessagesStreamWriter;
pub(super) use writer::write_request;

use crate::conversation::{Signature, StopReason};
use crate::dialect::Dialect;

/// What begins the data of a block that signs the part before it.
const OF_PART_BEFORE: char = '@';

/// The data of a block that signs the part before it.
fn attached(signature: &Signature) -> String {
    format!(
        "{OF_PART_BEFORE}{}:{}",
        signature.origin.name(),
        signature.data
    )
}

/// The signature of the part before, if `data` is one.
fn detached(data: &str) -> Option<Signature> {
    let carried = data.strip_prefix(OF_PART_BEFORE)?;
    let signature = Signature::from_carried(carried, Dialect::Anthropic);
    (signature.origin != Dialect::Anthropic).then_some(signature)
}

/// `stop_reason`; `stop_sequence` is beside it.
fn read_stop(reason: &str, sequence: Option<String>) -> StopReason {
    match reason {
        "max_tokens" => StopReason::Length,
        "stop_sequence" => StopReason::StopSequence(sequence),
        "tool_use" => StopReason::ToolCalls,
        "refusal" => StopReason::Refused,
        "pause_turn" => StopReason::Paused,
        "model_context_window_exceeded" => StopReason::ContextFull,
        // `end_turn`, and whatever comes new.
        _ => StopReason::End,
    }
}

/// `stop_reason` and `stop_sequence`.
fn stop_words(stop: &StopReason) -> (&'static str, Option<&str>) {
    match stop {
        StopReason::End => ("end_turn", None),
        StopReason::Length => ("max_tokens", None),
        StopReason::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        StopReason::ToolCalls => ("tool_use", None),
        StopReason::Refused => ("refusal", None),
        StopReason::Paused => ("pause_turn", None),
        StopReason::ContextFull => ("model_context_window_exceeded", None),
    }
}
