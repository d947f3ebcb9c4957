//! Cohere's chat, version 2.
//!
//! What a model says before it calls tools is its `tool_plan` there, and text everywhere else.
//! Citations are turned off: no other dialect has them, and the text stands without. Tokens are
//! those of `billed_units`, which is what Cohere's prices are of.

mod answer;
mod request;
mod stream;

pub(super) use answer::{read_answer, whole};
pub(super) use request::write_request;
pub(super) use stream::CohereStreamReader;

#[cfg(test)]
mod tests;
