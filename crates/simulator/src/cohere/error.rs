//! Cohere's errors.

use http::StatusCode;
use serde_json::json;

use crate::engine::EngineState;
use crate::fields::{Invalid, Problem};
use crate::generation::check_model;
use crate::refusal::Refusal;

/// The body of an error.
pub(crate) fn body(refusal: &Refusal, request_id: &str) -> String {
    json!({"id": request_id, "message": refusal.message}).to_string()
}

/// What is wrong with a request, in Cohere's words.
pub(super) fn refuse(invalid: &Invalid) -> Refusal {
    let path = &invalid.path;
    match &invalid.problem {
        Problem::Missing => Refusal::bad_request(format!("invalid request: {path} is required")),
        Problem::Unknown => Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("unknown field: parameter '{path}' is not a valid field"),
        ),
        Problem::NotA(kind) => {
            Refusal::bad_request(format!("invalid type: parameter {path} must be a {kind}"))
        }
        Problem::Other(words) => Refusal::bad_request(format!("invalid request: {path}: {words}")),
    }
}

/// Checks that the model is served.
///
/// # Errors
///
/// Cohere's 404 if it is not.
pub(super) fn check_served(state: &EngineState, model: &str) -> Result<(), Refusal> {
    check_model(state, model).map_err(|_| {
        let shown: String = model.chars().take(200).collect();
        let message = format!(
            "model '{shown}' not found, make sure the correct model ID was used and that you have \
             access to the model."
        );
        Refusal::new(StatusCode::NOT_FOUND, message)
    })
}
