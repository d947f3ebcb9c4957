//! OpenAI's Responses, for clients and upstreams.
//!
//! What is stored between calls (`store`, `previous_response_id`, `conversation`) is the
//! gateway's: it joins stored items with a request's own before the request is read here, by
//! [`join_items`] and [`without_state`]. Towards an upstream nothing is ever stored.
//!
//! One extension: a `signature` on a function call or on a text holds what its provider wants to
//! see again with it (Gemini's thought signatures), with the provider's name before it. Thoughts
//! have `encrypted_content` for that, as OpenAI's own do.

mod answer;
mod conversation_items;
mod echo;
mod input;
mod item;
mod output;
mod reader;
mod state;
mod stream_reader;
mod stream_writer;
mod writer;

pub(super) use answer::{read_answer, read_usage, write_answer};
pub use conversation_items::{added_items, conversation_of, item_id_prefix, shown_item};
pub use echo::ResponseEcho;
pub(super) use reader::read_request;
pub use state::{input_items, join_items, output_items, without_state};
pub(super) use stream_reader::ResponsesStreamReader;
pub(super) use stream_writer::ResponsesStreamWriter;
pub(super) use writer::write_request;

/// What asks OpenAI for its thoughts in a form that can be sent back.
const INCLUDE_ENCRYPTED: &str = "reasoning.encrypted_content";

/// What asks for log probabilities.
const INCLUDE_LOGPROBS: &str = "message.output_text.logprobs";

#[cfg(test)]
mod tests;
