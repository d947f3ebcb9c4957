//! Errors in Anthropic's form.

use crate::dialect::write::{self, ObjectWriter};
use crate::error::WireError;

/// `{"type":"error","error":{"type","message"},"request_id"}`
pub(in crate::dialect) fn write_error(
    out: &mut Vec<u8>,
    kind: &str,
    message: &str,
    request_id: Option<&str>,
) {
    write::object(out, |to: &mut ObjectWriter<'_>| {
        to.set("type", "error");
        to.object("error", |to| {
            to.set("type", kind).set("message", message);
        });
        to.maybe("request_id", request_id);
    });
}

/// Anthropic's word for an error, by its status.
pub(in crate::dialect) fn error_kind(error: &WireError) -> &'static str {
    match error.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        408 | 504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Anthropic's word for what an upstream called its failure in mid-stream.
pub(super) fn failure_kind(kind: &str) -> &'static str {
    const OWN: &[&str] = &[
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "overloaded_error",
        "timeout_error",
        "invalid_request_error",
    ];
    let own = OWN.iter().find(|own| **own == kind);
    own.copied().unwrap_or(match kind {
        "insufficient_quota"
        | "rate_limit_exceeded"
        | "throttlingException"
        | "RESOURCE_EXHAUSTED" => "rate_limit_error",
        "UNAVAILABLE" | "engine_overloaded" => "overloaded_error",
        _ => "api_error",
    })
}
