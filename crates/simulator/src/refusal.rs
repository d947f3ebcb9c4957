//! Answers that are errors. How they are written is each provider's own business; without one it
//! is OpenAI's.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::json;

/// A call that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    pub(crate) kind: &'static str,
    /// OpenAI's `code`.
    pub(crate) code: Option<&'static str>,
    /// The request's field that is at fault.
    pub(crate) param: Option<Cow<'static, str>>,
    /// What a person reads.
    pub(crate) message: Cow<'static, str>,
    /// The header `retry-after`, in seconds.
    pub(crate) retry_after_seconds: Option<u32>,
}

impl Refusal {
    /// A refusal with this status, of the type that OpenAI gives it.
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let (kind, code) = match status {
            StatusCode::UNAUTHORIZED => ("authentication_error", Some("invalid_api_key")),
            StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", Some("rate_limit_exceeded")),
            status if status.is_server_error() => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        Self {
            status,
            kind,
            code,
            param: None,
            message: message.into(),
            retry_after_seconds: None,
        }
    }

    /// A request that makes no sense.
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field whose value makes no sense.
    pub(crate) fn bad_field(param: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::bad_request(message)
        }
    }

    /// A path that leads nowhere.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here.")
    }

    /// A model that the engine does not serve.
    pub(crate) fn no_such_model(model: &str) -> Self {
        // Names are as long as a client makes them; the answer is not.
        let shown: String = model.chars().take(200).collect();
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::new(
                StatusCode::NOT_FOUND,
                format!("The model `{shown}` does not exist or you do not have access to it."),
            )
        }
    }

    /// A body that is not what the endpoint reads.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self::bad_request(format!(
            "We could not parse the JSON body of your request: {error}"
        ))
    }

    /// The body of the answer, and of an error frame in mid-stream.
    pub(crate) fn body(&self) -> String {
        // An engine's own errors are Python's, and their code is the status.
        let is_engine_s = self
            .kind
            .starts_with(|initial: char| initial.is_ascii_uppercase());
        let code = match self.code {
            None if is_engine_s => json!(self.status.as_u16()),
            code => json!(code),
        };
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": code,
        }})
        .to_string()
    }
}
