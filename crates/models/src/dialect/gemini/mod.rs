//! Google's Gemini: `generateContent`, by API key or through Vertex, which differ in the address
//! alone.
//!
//! Gemini needs no ids of calls: results match calls by name and order. Where it gives ids they
//! are kept behind [`GIVEN`], and said again; where it gives none they are derived from the
//! answer's id and the call's place, and stay with us. `thoughtSignature`s belong to the part
//! that they came with.

mod answer;
mod contents;
mod request;
mod stream;

pub(super) use answer::read_answer;
pub(super) use request::write_request;
pub(super) use stream::GeminiStreamReader;

/// What precedes an id that Gemini gave, in ours.
const GIVEN: &str = "gemini_";

#[cfg(test)]
mod tests;
