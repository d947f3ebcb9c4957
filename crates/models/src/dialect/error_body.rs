//! Errors in the form of the dialect that the client speaks.

use bytes::Bytes;

use super::stream::named_frame;
use super::{Dialect, anthropic};
use crate::error::WireError;

impl Dialect {
    /// The status of an error: Anthropic's clients know an overloaded server by 529.
    pub fn error_status(self, error: &WireError) -> u16 {
        match (self, error.status) {
            (Self::Anthropic, 503) => 529,
            (_, status) => status,
        }
    }

    /// The body of an error.
    pub fn error_body(self, error: &WireError, request_id: Option<&str>) -> Bytes {
        if self != Self::Anthropic {
            return error.to_json();
        }
        let mut out = Vec::new();
        let kind = anthropic::error_kind(error);
        anthropic::write_error(&mut out, kind, &told(error), request_id);
        out.into()
    }

    /// The frame of an error that ends a stream which has begun: SDKs raise it.
    pub fn error_frame(self, error: &WireError, request_id: Option<&str>) -> Bytes {
        if self != Self::Anthropic {
            return error.to_sse_frame();
        }
        let mut out = Vec::new();
        named_frame(&mut out, "error", |out| {
            out.extend_from_slice(&self.error_body(error, request_id));
        });
        out.into()
    }
}

/// The message, with the parameter in it: Anthropic's form has no field for it.
fn told(error: &WireError) -> String {
    match &error.param {
        Some(param) if !error.message.contains(param.as_str()) => {
            format!("{param}: {}", error.message)
        }
        _ => error.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn errors_are_the_clients_own() {
        let error = WireError::new(400, "invalid_request_error", "must be a number")
            .with_param("temperature")
            .with_code("invalid_type");
        let body = Dialect::Anthropic.error_body(&error, Some("req_1"));
        let body: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({"type": "error", "request_id": "req_1", "error": {
            "type": "invalid_request_error", "message": "temperature: must be a number",
        }});
        assert_eq!(body, expected);
        assert_eq!(
            Dialect::OpenAiChat.error_body(&error, Some("req_1")),
            error.to_json()
        );

        let busy = WireError::new(503, "server_error", "busy");
        assert_eq!(Dialect::Anthropic.error_status(&busy), 529);
        assert_eq!(Dialect::OpenAiChat.error_status(&busy), 503);
        assert_eq!(
            Dialect::Anthropic.error_frame(&busy, None),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\
             \"message\":\"busy\"}}\n\n"
        );
    }
}
