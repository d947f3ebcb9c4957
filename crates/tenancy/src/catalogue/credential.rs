//! A tenant's own credentials for upstreams.

use std::fmt;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// A tenant's own credential for an upstream: with it the tenant is the provider's customer, and
/// what the provider caches by account is the tenant's alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSpec {
    /// The upstream that it is for; its `credential_of` has to allow it.
    pub upstream: Name,
    /// The credential itself, in the form that the upstream's own `credential` would have. It is
    /// written and never shown: it rests under the tenant's key.
    pub secret: SecretText,
}

/// A secret as text. Its `Debug` shows nothing; its memory is wiped.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretText(Zeroizing<String>);

/// 16 KiB: far above any provider's credential, a service account's JSON included.
const SECRET_BYTES_MAX: usize = 16 << 10;

/// The text cannot be a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a credential is 1 to 16,384 bytes of text that is not white space alone")]
pub struct NotACredential;

impl TryFrom<String> for SecretText {
    type Error = NotACredential;

    fn try_from(text: String) -> Result<Self, NotACredential> {
        let text = Zeroizing::new(text);
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > SECRET_BYTES_MAX {
            return Err(NotACredential);
        }
        Ok(Self(Zeroizing::new(trimmed.to_owned())))
    }
}

impl SecretText {
    /// The secret: for the head of a call alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last four characters, by which people know it again; none of one so short that they
    /// would help a guess.
    pub fn hint(&self) -> String {
        // 20: sixteen characters stay unknown.
        if self.0.len() < 20 || !self.0.is_ascii() {
            return "…".to_owned();
        }
        format!("…{}", &self.0[self.0.len() - 4..])
    }
}

impl Serialize for SecretText {
    /// For the catalogue's sealed row alone: what is shown goes without it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A secret: written, never shown",
            "minLength": 1,
            "maxLength": SECRET_BYTES_MAX,
            "writeOnly": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_four_characters_at_most() {
        let secret = SecretText::try_from(" sk-live-0123456789abcdef\n".to_owned()).expect("text");
        assert_eq!(secret.hint(), "…cdef");
        assert_eq!(secret.expose(), "sk-live-0123456789abcdef");
        assert_eq!(format!("{secret:?}"), "SecretText");
        let short = SecretText::try_from("hunter2".to_owned()).expect("text");
        assert_eq!(short.hint(), "…");
        assert!(SecretText::try_from(" \n".to_owned()).is_err());
    }
}
