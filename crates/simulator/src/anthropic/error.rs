//! Anthropic's errors.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fields::{Invalid, Problem};
use crate::refusal::Refusal;

/// The status that Anthropic answers with: 529 where others say 503.
pub(crate) fn status(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            StatusCode::from_u16(529).expect("529 is from 100 to 999")
        }
        status => status,
    }
}

/// The body of an error.
pub(crate) fn body(refusal: &Refusal, request_id: &str) -> String {
    let mut error = event(refusal);
    error["request_id"] = request_id.into();
    error.to_string()
}

/// An error as a stream has it.
pub(super) fn event(refusal: &Refusal) -> Value {
    let kind = match status(refusal.status).as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": refusal.message}})
}

/// What is wrong with a request, in Anthropic's words.
pub(super) fn refuse(invalid: &Invalid) -> Refusal {
    let path = &invalid.path;
    Refusal::bad_request(match &invalid.problem {
        Problem::Missing => format!("{path}: Field required"),
        Problem::Unknown => format!("{path}: Extra inputs are not permitted"),
        Problem::NotA(kind) => format!("{path}: Input should be a valid {kind}"),
        Problem::Other(words) => format!("{path}: {words}"),
    })
}
