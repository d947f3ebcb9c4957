//! Somebody whom an identity provider vouches for: no key of theirs is in the directory. The process
//! that verified the provider's word writes down who it is, and until when, under a key that it
//! alone has and that ends with it. What is not sealed by that key is nobody.

use std::fmt;

use base::{Entropy, Name, TenantId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How the text begins: no key and no token does.
const PREFIX: &str = "pwv~";

/// Who somebody is, by the word of an identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// What they are called on record.
    pub name: Name,
    /// As what they came in.
    pub role: VouchedRole,
    /// From when on they have to come in anew.
    pub until: Timestamp,
}

/// What a provider's word can make of somebody. It makes nobody a caller of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VouchedRole {
    /// Runs the platform.
    Operator,
    /// Reads the platform's figures.
    Auditor,
    /// Runs this tenant.
    TenantAdmin(TenantId),
}

/// Seals the word, and opens it again: one for each process.
pub struct VouchingKey(hmac::Key);

impl VouchingKey {
    /// A key of 32 random bytes, which are kept nowhere.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes))
    }

    /// What stands for somebody until their time is over.
    pub fn seal(&self, vouched: &Vouched) -> Zeroizing<String> {
        let said = serde_json::to_vec(vouched).expect("names, ids and times are JSON");
        let tag = hmac::sign(&self.0, &said);
        let (said, tag) = (URL_SAFE_NO_PAD.encode(&said), URL_SAFE_NO_PAD.encode(tag));
        Zeroizing::new(format!("{PREFIX}{said}~{tag}"))
    }

    /// Whether a credential claims to be of this kind.
    pub fn claims(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Whom it stands for, if this key has sealed it.
    pub(crate) fn open(&self, text: &str) -> Option<Vouched> {
        let (said, tag) = text.strip_prefix(PREFIX)?.split_once('~')?;
        let said = URL_SAFE_NO_PAD.decode(said).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.0, &said, &tag).ok()?;
        serde_json::from_slice(&said).ok()
    }
}

impl fmt::Debug for VouchingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VouchingKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;

    #[test]
    fn a_word_is_opened_by_its_key_alone_and_unchanged() {
        let key = VouchingKey::generate(&SeededEntropy::new(1));
        let other = VouchingKey::generate(&SeededEntropy::new(2));
        let vouched = Vouched {
            name: "sso.ada".parse().unwrap(),
            role: VouchedRole::TenantAdmin(TenantId::from_bits(7)),
            until: Timestamp::from_micros(9),
        };
        let text = key.seal(&vouched);
        assert_eq!(key.open(&text), Some(vouched.clone()));
        assert_eq!(other.open(&text), None);
        let (said, tag) = text[PREFIX.len()..].split_once('~').unwrap();
        let operator = Vouched {
            role: VouchedRole::Operator,
            ..vouched
        };
        let raised = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&operator).unwrap());
        for forged in [
            format!("{PREFIX}{raised}~{tag}"),
            format!("{PREFIX}{said}~"),
            format!("{PREFIX}{said}"),
            format!("{said}~{tag}"),
            String::new(),
        ] {
            assert_eq!(key.open(&forged), None, "{forged}");
        }
    }
}
