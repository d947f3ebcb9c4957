//! A provider's public keys, by its JWKS (RFC 7517), and what they have signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// 32: providers have two or three, and some keep old ones for a while.
const KEYS_MAX: usize = 32;

/// The keys that verify ID tokens. What else a provider has is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet(Vec<PublicKey>);

#[derive(Debug, Clone)]
struct PublicKey {
    id: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// 4, x and y.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(rename = "use", default)]
    purpose: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWKS; nothing, if it is none.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let jwks: Jwks = serde_json::from_slice(text).ok()?;
        let keys = jwks.keys.into_iter().take(KEYS_MAX);
        let keys = keys.filter_map(|key| PublicKey::read(serde_json::from_value(key).ok()?));
        Some(Self(keys.collect()))
    }

    /// Whether it has a key of this id.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        self.named(id).next().is_some()
    }

    /// Whether one of its keys, of this id if one is given, has signed that by this algorithm. The
    /// algorithm is the key's own: a token chooses none.
    pub(super) fn has_signed(
        &self,
        id: Option<&str>,
        algorithm: &str,
        said: &[u8],
        signature: &[u8],
    ) -> bool {
        let mut fit = self
            .named(id)
            .filter(|key| key.material.algorithm() == algorithm);
        fit.any(|key| key.material.has_signed(said, signature))
    }

    fn named<'k>(&'k self, id: Option<&'k str>) -> impl Iterator<Item = &'k PublicKey> {
        let keys = self.0.iter();
        keys.filter(move |key| id.is_none_or(|id| key.id.as_deref() == Some(id)))
    }
}

impl PublicKey {
    fn read(key: Jwk) -> Option<Self> {
        if key.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let material = match (key.kty.as_str(), key.crv.as_deref()) {
            ("RSA", _) => Material::Rsa {
                modulus: bytes(key.n)?,
                exponent: bytes(key.e)?,
            },
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(key.x)?, bytes(key.y)?);
                Material::P256([&[4][..], &x, &y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(key.x)?),
            _ => return None,
        };
        Some(Self {
            id: key.kid,
            material,
        })
    }
}

impl Material {
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa { .. } => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn has_signed(&self, said: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, said, signature)
            }
            Self::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(said, signature)
            }
            Self::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(said, signature),
        };
        verified.is_ok()
    }
}
