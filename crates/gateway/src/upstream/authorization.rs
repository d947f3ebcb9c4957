//! How a call says whose customer it is: one header, in its provider's form.

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use tenancy::catalogue::Engine;

/// The header that carries a credential. Its `Debug` shows no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorization {
    name: HeaderName,
    value: HeaderValue,
}

/// The credential has characters that no header can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has characters that no header can carry")]
pub(crate) struct NotAHeader;

impl Authorization {
    /// The header by which `engine` takes this credential.
    pub(crate) fn of(engine: Engine, secret: &str) -> Result<Self, NotAHeader> {
        let (name, text) = match engine {
            Engine::Anthropic => (HeaderName::from_static("x-api-key"), secret.to_owned()),
            Engine::Azure => (HeaderName::from_static("api-key"), secret.to_owned()),
            Engine::Gemini => (HeaderName::from_static("x-goog-api-key"), secret.to_owned()),
            _ => (AUTHORIZATION, format!("Bearer {secret}")),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| NotAHeader)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }

    /// Puts it into the head of a call.
    pub(super) fn put_into(&self, headers: &mut HeaderMap) {
        headers.insert(self.name.clone(), self.value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_its_header_and_none_is_shown() {
        for (engine, name, value) in [
            (Engine::OpenAi, "authorization", "Bearer s3cret"),
            (Engine::Anthropic, "x-api-key", "s3cret"),
            (Engine::Azure, "api-key", "s3cret"),
            (Engine::Gemini, "x-goog-api-key", "s3cret"),
        ] {
            let authorization = Authorization::of(engine, "s3cret").expect("a header");
            assert!(!format!("{authorization:?}").contains("s3cret"));
            let mut headers = HeaderMap::new();
            authorization.put_into(&mut headers);
            assert_eq!(headers.get(name).expect("there"), value);
        }
        assert!(Authorization::of(Engine::OpenAi, "two\nlines").is_err());
    }
}
