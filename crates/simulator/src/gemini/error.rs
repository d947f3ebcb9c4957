//! Google's errors.

use http::StatusCode;
use serde_json::{Value, json};

use crate::fields::{Invalid, Problem};
use crate::refusal::Refusal;

/// The body of an error.
pub(crate) fn body(refusal: &Refusal) -> String {
    event(refusal).to_string()
}

/// An error as a stream has it.
pub(super) fn event(refusal: &Refusal) -> Value {
    let mut details = Vec::new();
    if refusal.code == Some(API_KEY_INVALID) {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": API_KEY_INVALID,
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }));
    }
    if let Some(seconds) = refusal.retry_after_seconds {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s"),
        }));
    }
    let mut error = json!({
        "code": refusal.status.as_u16(),
        "message": refusal.message,
        "status": status(refusal.status),
    });
    if !details.is_empty() {
        error["details"] = details.into();
    }
    json!({"error": error})
}

/// A key that is missing or wrong.
pub(crate) fn wrong_key(given: Option<&str>) -> Refusal {
    match given {
        Some(_) => Refusal {
            code: Some(API_KEY_INVALID),
            ..Refusal::bad_request("API key not valid. Please pass a valid API key.")
        },
        None => Refusal::new(
            StatusCode::FORBIDDEN,
            "Method doesn't allow unregistered callers (callers without established identity). \
             Please use API Key or other form of API consumer identity to call this API.",
        ),
    }
}

const API_KEY_INVALID: &str = "API_KEY_INVALID";

/// The name of a status, by `google.rpc.Code`.
fn status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500..=599 => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// What is wrong with a request, in Google's words.
pub(super) fn refuse(invalid: &Invalid) -> Refusal {
    let path = &invalid.path;
    Refusal::bad_request(match &invalid.problem {
        Problem::Missing => format!("* GenerateContentRequest.{path}: {path} is not specified"),
        Problem::Unknown => {
            let (place, name) = path.rsplit_once('.').unwrap_or(("", path));
            let place = match place {
                "" => String::new(),
                place => format!(" at '{place}'"),
            };
            format!(
                "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
            )
        }
        Problem::NotA(kind) => {
            format!("Invalid value at '{path}': a {kind} is expected")
        }
        Problem::Other(words) => format!("* GenerateContentRequest.{path}: {words}"),
    })
}
