//! The keys that sign tokens: the current one, and the one before it.

use std::fmt;
use std::sync::Arc;

use base::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::json;
use zeroize::Zeroizing;

use super::TokenError;
use crate::keyring::{OpenError, SealingKey, purpose};

/// The secret of one signing key: 32 random bytes, wiped when dropped. Stored sealed.
pub struct TokenSeed {
    bytes: Zeroizing<[u8; 32]>,
}

impl TokenSeed {
    /// A new seed.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut_slice());
        Self { bytes }
    }

    /// The seed as it is stored.
    pub fn seal(&self, key: &SealingKey<purpose::TokenSigning>, entropy: &dyn Entropy) -> Vec<u8> {
        key.seal(entropy, &[], self.bytes.as_slice())
    }

    /// The seed that [`TokenSeed::seal`] stored.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is damaged, or something else.
    pub fn open(key: &SealingKey<purpose::TokenSigning>, sealed: &[u8]) -> Result<Self, OpenError> {
        let opened = key.open(&[], sealed)?;
        let bytes = opened
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::Malformed)?;
        Ok(Self {
            bytes: Zeroizing::new(bytes),
        })
    }
}

impl fmt::Debug for TokenSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSeed([redacted])")
    }
}

/// Signs tokens with the current key; accepts those of the previous key too, so that a rotation
/// refuses no token in flight. Rotate at most every five minutes. Immutable: a rotation publishes
/// another.
#[derive(Clone)]
pub struct TokenKeys {
    issuer: Arc<str>,
    current: Arc<TokenKey>,
    previous: Option<Arc<TokenKey>>,
}

struct TokenKey {
    id: String,
    public: [u8; 32],
    pair: Ed25519KeyPair,
}

impl TokenKeys {
    /// The keys of an installation that never rotated. `issuer` is its public address: the
    /// issuer and the audience of its tokens.
    pub fn new(issuer: &str, seed: &TokenSeed) -> Self {
        Self {
            issuer: issuer.into(),
            current: Arc::new(TokenKey::new(seed)),
            previous: None,
        }
    }

    /// With `next` as the current key, the current one as the previous, and no other.
    #[must_use]
    pub fn rotated(&self, next: &TokenSeed) -> Self {
        Self {
            issuer: Arc::clone(&self.issuer),
            current: Arc::new(TokenKey::new(next)),
            previous: Some(Arc::clone(&self.current)),
        }
    }

    /// Issuer and audience of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The id of the key that signs: its RFC 7638 thumbprint.
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    /// The public keys as a JWK set (RFC 7517, RFC 8037), the current one first, for others who
    /// verify our tokens.
    pub fn key_set_json(&self) -> String {
        let keys: Vec<_> = self
            .keys()
            .map(|key| {
                json!({
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "use": "sig",
                    "alg": super::ALGORITHM,
                    "kid": key.id,
                    "x": URL_SAFE_NO_PAD.encode(key.public),
                })
            })
            .collect();
        json!({ "keys": keys }).to_string()
    }

    pub(super) fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.current.pair.sign(message)
    }

    pub(super) fn is_signature(
        &self,
        key_id: &str,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, TokenError> {
        let key = self
            .keys()
            .find(|key| key.id == key_id)
            .ok_or(TokenError::UnknownKey)?;
        let public = UnparsedPublicKey::new(&ED25519, &key.public);
        Ok(public.verify(message, signature).is_ok())
    }

    fn keys(&self) -> impl Iterator<Item = &TokenKey> {
        std::iter::once(&*self.current).chain(self.previous.as_deref())
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({}, [redacted])", self.current.id)
    }
}

impl TokenKey {
    fn new(seed: &TokenSeed) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.bytes.as_slice())
            .expect("an Ed25519 seed is any 32 bytes");
        let public: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("an Ed25519 public key has 32 bytes");
        Self {
            id: thumbprint(&public),
            public,
            pair,
        }
    }
}

/// RFC 7638: the hash of the required members, in order, without white space.
fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;
    use crate::keyring::{LocalRootKey, PlatformKeys};

    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_8037() {
        // RFC 8037, appendices A.2 and A.3.
        let public = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        assert_eq!(
            thumbprint(&public.try_into().unwrap()),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn a_sealed_seed_makes_the_same_key_again() {
        let entropy = SeededEntropy::new(1);
        let root = LocalRootKey::generate(&entropy);
        let (platform, _) = PlatformKeys::generate(&root, &entropy).unwrap();
        let key = platform.sealing_key();
        let seed = TokenSeed::generate(&entropy);
        let sealed = seed.seal(&key, &entropy);
        let opened = TokenSeed::open(&key, &sealed).unwrap();
        let id = |seed| TokenKeys::new("i", seed).current_id().to_owned();
        assert_eq!(id(&opened), id(&seed));
        let short = key.seal(&entropy, &[], &[1; 31]);
        assert!(TokenSeed::open(&key, &short).is_err());
        assert_eq!(format!("{seed:?}"), "TokenSeed([redacted])");
    }
}
