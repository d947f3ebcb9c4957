//! OpenAI's chat completions, and all who speak alike.
//!
//! Beyond what OpenAI documents, two extensions of the assistant's message are read and written,
//! as other gateways do: `reasoning_content`, what the model thought, and `reasoning_details`,
//! which holds each thought with its provider's signature (`{"type": "reasoning.text", "text",
//! "signature", "format"}`) and what only the provider can read (`{"type":
//! "reasoning.encrypted", "data", "format"}`; with an `id` it belongs to the call of that id, or
//! to the text if it is `content`). A client that sends an assistant's message back whole keeps
//! all of it.

mod answer;
mod message_reader;
mod message_writer;
mod reader;
mod stream_reader;
mod stream_writer;
mod takes;
mod writer;

pub(super) use answer::{read_answer, write_answer};
pub(super) use reader::read_request;
pub(super) use stream_reader::ChatStreamReader;
pub(super) use stream_writer::ChatStreamWriter;
pub(crate) use takes::refuse_what_it_does;
pub(super) use writer::write_request;

use super::Dialect;

/// How `reasoning_details` names the dialect whose provider signed.
const FORMATS: &[(Dialect, &str)] = &[
    (Dialect::Anthropic, "anthropic-claude-v1"),
    (Dialect::Gemini, "google-gemini-v1"),
    (Dialect::OpenAiResponses, "openai-responses-v1"),
    (Dialect::Bedrock, "aws-bedrock-v1"),
    (Dialect::Cohere, "cohere-v2"),
];

/// The `id` of a signature that belongs to the message's text.
const OF_CONTENT: &str = "content";

fn format_of(dialect: Dialect) -> Option<&'static str> {
    let known = FORMATS.iter().find(|(known, _)| *known == dialect);
    known.map(|(_, name)| *name)
}

/// Unknown formats are the upstream's own: they go back as they came.
fn dialect_of(format: &str) -> Dialect {
    let known = FORMATS.iter().find(|(_, name)| *name == format);
    known.map_or(Dialect::OpenAiChat, |(dialect, _)| *dialect)
}
