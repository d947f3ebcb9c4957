//! The APIs that OpenAI made and others imitate: chats, completions, embeddings, responses,
//! moderations and models, with the manners of OpenAI, Azure, Mistral or an engine of one's own.

pub(crate) mod chat;
mod chat_dialect;
mod chunks;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod mistral;
pub(crate) mod models;
pub(crate) mod moderations;
mod request;
pub(crate) mod responses;
mod responses_dialect;
mod responses_input;
mod strict;

use crate::fields::{Invalid, Problem};
use crate::refusal::Refusal;

/// What is wrong with a request, in OpenAI's words.
pub(crate) fn refuse(invalid: &Invalid) -> Refusal {
    let path = &invalid.path;
    let (code, message) = match &invalid.problem {
        Problem::Missing => (
            "missing_required_parameter",
            format!("Missing required parameter: '{path}'."),
        ),
        Problem::Unknown => ("unknown_parameter", format!("Unknown parameter: '{path}'.")),
        Problem::NotA(kind) => (
            "invalid_type",
            format!("Invalid type for '{path}': expected {kind}."),
        ),
        Problem::Other(words) => (
            "invalid_value",
            format!("Invalid value for '{path}': {words}."),
        ),
    };
    Refusal {
        code: Some(code),
        param: Some(path.clone().into()),
        ..Refusal::bad_request(message)
    }
}
