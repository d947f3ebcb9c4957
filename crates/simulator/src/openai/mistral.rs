//! What Mistral does otherwise than OpenAI: its errors, and ids of tools of nine letters and
//! digits.

use http::StatusCode;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::tokens::Draw;

/// Letters and digits in an id of a tool's call.
const TOOL_ID_CHARS: usize = 9;

/// The body of an error. A message that is JSON stands there as such, as FastAPI's details do.
pub(crate) fn error(refusal: &Refusal) -> String {
    let message = match serde_json::from_str::<Value>(&refusal.message) {
        Ok(details @ Value::Object(_)) => details,
        _ => Value::String(refusal.message.clone().into_owned()),
    };
    let kind = match refusal.status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::TOO_MANY_REQUESTS => "rate_limited",
        status if status.is_server_error() => "internal_server_error",
        _ => refusal.kind,
    };
    json!({
        "object": "error",
        "message": message,
        "type": kind,
        "param": refusal.param,
        "code": refusal.code,
    })
    .to_string()
}

/// A field that Mistral does not know: `loc` is the way to it, `input` its JSON.
pub(super) fn extra_forbidden(loc: &[&str], input: &str) -> Refusal {
    let input: Value = serde_json::from_str(input).unwrap_or_default();
    // Places in lists are numbers, as pydantic has them.
    let loc = loc.iter().map(|step| match step.parse::<usize>() {
        Ok(place) => Value::from(place),
        Err(_) => Value::from(*step),
    });
    let loc: Vec<Value> = loc.collect();
    let details = json!({"detail": [{
        "type": "extra_forbidden",
        "loc": loc,
        "msg": "Extra inputs are not permitted",
        "input": input,
    }]});
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, details.to_string())
}

/// Calls and results that do not match.
pub(super) fn unmatched_calls() -> Refusal {
    Refusal {
        kind: "invalid_request_message_order",
        code: Some("3230"),
        ..Refusal::bad_request("Not the same number of function calls and responses")
    }
}

/// Checks the id of a call that is sent back.
///
/// # Errors
///
/// An id that is not nine letters and digits.
pub(super) fn check_tool_id(id: &str) -> Result<(), Refusal> {
    if id.len() == TOOL_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let shown: String = id.chars().take(100).collect();
    Err(Refusal {
        kind: "invalid_function_call",
        code: Some("3280"),
        ..Refusal::bad_request(format!(
            "Tool call id was {shown} but must be a-z, A-Z, 0-9, with a length of 9."
        ))
    })
}

/// An id that Mistral would give.
pub(super) fn tool_id(seed: u64) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut draw = Draw::new(seed);
    let letter = |_| char::from(ALPHABET[draw.below(ALPHABET.len())]);
    (0..TOOL_ID_CHARS).map(letter).collect()
}
