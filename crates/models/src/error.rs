//! What a client is told, in OpenAI's form.

use bytes::Bytes;
use serde::Serialize;

use crate::envelope::Kind;
use crate::scan::BodyError;

/// A request that is JSON and still not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// What is wrong, in OpenAI's words where it has some.
    pub message: String,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// OpenAI's code: `invalid_type`, `missing_required_parameter` …
    pub code: &'static str,
}

/// An error as a client receives it: an HTTP status and the fields of OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// The HTTP status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// `type`: `invalid_request_error`, `insufficient_quota`, `server_error` …
    pub kind: &'static str,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<&'static str>,
}

impl WireError {
    /// An error without parameter and code.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code: None,
        }
    }

    /// The same, with a code.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        let code = Some(code);
        Self { code, ..self }
    }

    /// The same, with the parameter that is wrong.
    #[must_use]
    pub fn with_param(self, param: impl Into<String>) -> Self {
        let param = Some(param.into());
        Self { param, ..self }
    }

    /// The body: `{"error":{"message","type","param","code"}}`.
    pub fn to_json(&self) -> Bytes {
        self.write(b"", b"")
    }

    /// A frame that ends a stream which has begun: OpenAI's SDKs raise it.
    pub fn to_sse_frame(&self) -> Bytes {
        self.write(b"data: ", b"\n\n")
    }

    fn write(&self, before: &[u8], after: &[u8]) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        let error = Inner {
            message: &self.message,
            kind: self.kind,
            param: self.param.as_deref(),
            code: self.code,
        };
        let mut text = before.to_vec();
        serde_json::to_writer(&mut text, &Body { error })
            .expect("four texts always have a JSON form");
        text.extend_from_slice(after);
        text.into()
    }
}

impl InvalidRequest {
    /// A request whose parameter `param` is wrong.
    pub fn new(message: impl Into<String>, param: &str, code: &'static str) -> Self {
        Self {
            message: message.into(),
            param: Some(param.to_owned()),
            code,
        }
    }

    /// `Invalid type for 'n': expected an integer, but got a string instead.`
    pub(crate) fn wrong_type(param: &str, expected: &str, kind: Kind) -> Self {
        let got = kind.with_article();
        Self::new(
            format!("Invalid type for '{param}': expected {expected}, but got {got} instead."),
            param,
            "invalid_type",
        )
    }

    /// A request without the parameter `param`.
    pub fn missing(param: &str) -> Self {
        Self::new(
            format!("Missing required parameter: '{param}'."),
            param,
            "missing_required_parameter",
        )
    }
}

impl From<InvalidRequest> for WireError {
    fn from(invalid: InvalidRequest) -> Self {
        Self {
            status: 400,
            message: invalid.message,
            kind: "invalid_request_error",
            param: invalid.param,
            code: Some(invalid.code),
        }
    }
}

impl From<BodyError> for WireError {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        let wire = Self::new(400, "invalid_request_error", message);
        match error {
            BodyError::Syntax { .. } | BodyError::NotUtf8 { .. } => wire.with_code("invalid_json"),
            BodyError::NotAnObject => wire.with_code("invalid_type"),
            BodyError::TooDeep { .. } | BodyError::TooManyFields { .. } => {
                wire.with_code("body_too_complex")
            }
            BodyError::DuplicateField { name, .. } => {
                wire.with_code("duplicate_parameter").with_param(name)
            }
            BodyError::RefusedField { name, .. } => {
                wire.with_code("unsupported_parameter").with_param(name)
            }
            BodyError::TooLong => Self {
                status: 413,
                ..wire.with_code("request_too_large")
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_error_is_openais() {
        let error = WireError::new(429, "insufficient_quota", "Spent \"all\"\n.")
            .with_code("budget_exhausted")
            .with_param("model");
        let expected = json!({"error": {
            "message": "Spent \"all\"\n.", "type": "insufficient_quota",
            "param": "model", "code": "budget_exhausted",
        }});
        let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(body, expected);
        let frame = error.to_sse_frame();
        let data = frame.strip_prefix(b"data: ").unwrap();
        let data = data.strip_suffix(b"\n\n").unwrap();
        assert!(!data.contains(&b'\n'));
        assert_eq!(serde_json::from_slice::<Value>(data).unwrap(), expected);
    }

    #[test]
    fn what_is_absent_is_null() {
        let body = WireError::new(500, "server_error", "x").to_json();
        assert_eq!(
            body,
            r#"{"error":{"message":"x","type":"server_error","param":null,"code":null}}"#
        );
    }

    #[test]
    fn a_refused_field_is_named() {
        let error = BodyError::RefusedField {
            name: "cache_salt",
            offset: 3,
        };
        let wire = WireError::from(error);
        assert_eq!(
            (wire.status, wire.param.as_deref()),
            (400, Some("cache_salt"))
        );
    }
}
