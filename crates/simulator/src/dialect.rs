//! What chats and completions say differently about the same output.

use std::fmt;

use serde::Serialize;

use crate::text::Output;

/// One endpoint's way to write an output's choices. Each method appends one JSON object, an
/// element of `choices`.
pub(crate) trait Dialect: Send + Sync + fmt::Debug {
    /// The names of its objects.
    fn names(&self) -> Names;

    /// A whole choice.
    fn write_choice(&self, json: &mut Vec<u8>, index: usize, output: &Output);

    /// Whether a stream begins with something before the first token.
    fn has_opening(&self) -> bool;

    /// What comes before the first token.
    fn write_opening(&self, json: &mut Vec<u8>, index: usize, output: &Output);

    /// One token.
    fn write_token(&self, json: &mut Vec<u8>, index: usize, output: &Output, token: usize);

    /// The end, with its reason.
    fn write_closing(&self, json: &mut Vec<u8>, index: usize, output: &Output);
}

/// What an endpoint calls its objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// What ids begin with.
    pub(crate) id_prefix: &'static str,
    /// A whole answer's `object`.
    pub(crate) whole: &'static str,
    /// A chunk's `object`.
    pub(crate) chunk: &'static str,
}

/// How many likely words an answer shows beside each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LikelyWords(pub(crate) usize);

/// Appends a value. For types whose keys are strings, which always have a JSON form.
pub(crate) fn write_json(json: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(json, value).expect("string keys have a JSON form, and a Vec takes it");
}
