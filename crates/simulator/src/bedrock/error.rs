//! AWS's errors: the kind in a header, the words in the body.

use http::StatusCode;
use serde_json::json;

use crate::fields::{Invalid, Problem};
use crate::refusal::Refusal;

/// The body of an error.
pub(crate) fn body(refusal: &Refusal) -> String {
    json!({"message": refusal.message}).to_string()
}

/// The kind of an error, for the header `x-amzn-errortype`.
pub(crate) fn kind(refusal: &Refusal) -> &'static str {
    match refusal.code {
        Some(kind) if kind.ends_with("Exception") => kind,
        _ => match refusal.status.as_u16() {
            401 | 403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            408 => "ModelTimeoutException",
            424 => "ModelErrorException",
            429 => "ThrottlingException",
            503 => "ServiceUnavailableException",
            500..=599 => "InternalServerException",
            _ => "ValidationException",
        },
    }
}

/// A key that is missing or wrong.
pub(crate) fn wrong_key(given: Option<&str>) -> Refusal {
    match given {
        Some(_) => Refusal::new(
            StatusCode::FORBIDDEN,
            "Authentication failed: Please make sure your API Key is valid.",
        ),
        None => Refusal {
            code: Some("MissingAuthenticationTokenException"),
            ..Refusal::new(StatusCode::FORBIDDEN, "Missing Authentication Token")
        },
    }
}

/// What is wrong with a request, in AWS's words.
pub(super) fn refuse(invalid: &Invalid) -> Refusal {
    let path = &invalid.path;
    Refusal::bad_request(match &invalid.problem {
        Problem::Missing => format!(
            "1 validation error detected: Value at '{path}' failed to satisfy constraint: Member \
             must not be null"
        ),
        Problem::Unknown => format!("The field {path} is not known. Remove it, and try again."),
        Problem::NotA(kind) => format!("The value at {path} is not a {kind}."),
        Problem::Other(words) => words.clone().into_owned(),
    })
}
