//! Short-lived tokens: `at+jwt` (RFC 9068), signed with Ed25519, good for at most five minutes.
//!
//! A key is exchanged (RFC 8693) for a token with fewer rights; see [`TokenKeys::exchange`]. A
//! token names the key it comes from, and whoever verifies it looks that key up: revoking the
//! key revokes its tokens at once, and a right that the key loses its tokens lose too.
//!
//! The JWT code is our own, over `ring`: we issue and accept one header, and a general library
//! (algorithm agility, key discovery, optional claims) is where JWT's holes come from.

mod exchange;
mod signing;

use base::{IdKind, KeyId, ModelName, Name, PicoUsd, TenantId, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use exchange::{ExchangeError, ExchangeRequest, IssuedToken};
pub use signing::{TokenKeys, TokenSeed};

/// The kind of a token's id.
#[derive(Debug)]
pub enum TokenKind {}

impl IdKind for TokenKind {
    const PREFIX: &'static str = "tok";
}

/// A token's id: what its spending cap is counted under.
pub type TokenId = base::Id<TokenKind>;

/// 4 KiB: above the longest token that an exchange issues, and what servers accept in a header.
pub const TOKEN_BYTES_MAX: usize = 4_096;
/// Five minutes: how long a stolen token is of use.
pub const TOKEN_LIFETIME_SECONDS_MAX: u32 = 300;
/// 5 s: how far the clocks of replicas may be apart.
const CLOCK_SKEW_SECONDS: i64 = 5;

/// What a token says. An unknown claim is refused: a newer replica may have meant it to take
/// something away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenClaims {
    /// Who issued it: this installation.
    pub iss: String,
    /// Whom it is for: this installation.
    pub aud: String,
    /// The id of the key that it was derived from.
    pub sub: KeyId,
    /// The same: RFC 9068 demands it.
    pub client_id: KeyId,
    /// The name of that key.
    pub key: Name,
    /// The first digits of the hash of what was exchanged: a key that is rotated takes the tokens
    /// of its former self with it.
    pub key_hash: String,
    /// The tenant.
    pub tenant: TenantId,
    /// When it was issued: seconds since 1970.
    pub iat: i64,
    /// When it ends: seconds since 1970.
    pub exp: i64,
    /// Its id.
    pub jti: TokenId,
    /// The models it may call; if absent, its key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelName>>,
    /// The features it may name; if absent, its key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<Name>>,
    /// What it may spend in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_cap: Option<PicoUsd>,
}

/// Why a token was refused. For logs: a client is told no more than that it is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than 4 KiB.
    #[error("the token is longer than 4 KiB")]
    TooLong,
    /// Not three parts of canonical base64url.
    #[error("the token is not a compact JWS")]
    Form,
    /// Another type or algorithm than ours, or a header field that we never write.
    #[error("the token's header is not `at+jwt` with `EdDSA`")]
    Header,
    /// No key of ours has this id, or it has been rotated away.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// Changed, or signed by somebody else.
    #[error("the token's signature is wrong")]
    Signature,
    /// Claims that we never issue.
    #[error("the token's claims are not ours")]
    Claims,
    /// For another installation.
    #[error("the token is for somebody else")]
    Audience,
    /// Longer than five minutes, or from the future.
    #[error("the token's times are impossible")]
    Times,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
}

/// The one header that we issue; `kid` comes from us or is looked up, and is compared, never
/// interpreted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    kid: String,
}

const TYPE: &str = "at+jwt";
const ALGORITHM: &str = "EdDSA";

impl TokenKeys {
    /// Signs a token with the current key.
    fn issue(&self, claims: &TokenClaims) -> String {
        let header = Header {
            typ: TYPE.to_owned(),
            alg: ALGORITHM.to_owned(),
            kid: self.current_id().to_owned(),
        };
        let mut token = encode_part(&header);
        token.push('.');
        token.push_str(&encode_part(claims));
        let signature = self.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// The claims of a token that we signed, that is for us, and that is good `now`. Whether the
    /// key it comes from still exists is for the caller to find out.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says what is wrong with it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Form)?;
        let header: Header =
            serde_json::from_slice(&decode_part(header)?).map_err(|_| TokenError::Header)?;
        if header.typ != TYPE || header.alg != ALGORITHM {
            return Err(TokenError::Header);
        }
        let signature = decode_part(signature)?;
        if !self.is_signature(&header.kid, signed.as_bytes(), &signature)? {
            return Err(TokenError::Signature);
        }
        let claims: TokenClaims =
            serde_json::from_slice(&decode_part(claims)?).map_err(|_| TokenError::Claims)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    fn check(&self, claims: &TokenClaims, now: Timestamp) -> Result<(), TokenError> {
        let now = now.as_seconds();
        if claims.iss != self.issuer() || claims.aud != self.issuer() {
            return Err(TokenError::Audience);
        }
        if claims.sub != claims.client_id {
            return Err(TokenError::Claims);
        }
        // Saturating: the times of a signed token are ours, but arithmetic here must not panic.
        let lifetime = claims.exp.saturating_sub(claims.iat);
        let is_from_the_future = claims.iat > now.saturating_add(CLOCK_SKEW_SECONDS);
        if !(1..=i64::from(TOKEN_LIFETIME_SECONDS_MAX)).contains(&lifetime) || is_from_the_future {
            return Err(TokenError::Times);
        }
        if now >= claims.exp.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

fn encode_part(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("headers and claims have string keys");
    URL_SAFE_NO_PAD.encode(json)
}

fn decode_part(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Form)
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;
    use ring::hmac;
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://ai.example";

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    fn keys_of(seed: u64) -> TokenKeys {
        TokenKeys::new(ISSUER, &TokenSeed::generate(&SeededEntropy::new(seed)))
    }

    fn claims() -> TokenClaims {
        TokenClaims {
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            sub: KeyId::from_bits(3),
            client_id: KeyId::from_bits(3),
            key: "main".parse().unwrap(),
            key_hash: "a5a5a5a5".to_owned(),
            tenant: TenantId::from_bits(1),
            iat: now().as_seconds(),
            exp: now().as_seconds() + 300,
            jti: TokenId::from_bits(9),
            models: Some(vec!["gpt-4o".parse().unwrap()]),
            features: None,
            spend_cap: Some(PicoUsd::dollars(2)),
        }
    }

    /// A token with this header and these claims, signed by `keys` whatever they say.
    fn forge(keys: &TokenKeys, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode_part(header), encode_part(claims));
        let signature = URL_SAFE_NO_PAD.encode(keys.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn header(keys: &TokenKeys) -> Value {
        json!({"typ": "at+jwt", "alg": "EdDSA", "kid": keys.current_id()})
    }

    fn with(mut object: Value, name: &str, value: Value) -> Value {
        object[name] = value;
        object
    }

    #[test]
    fn an_issued_token_verifies() {
        let keys = keys_of(1);
        let token = keys.issue(&claims());
        assert_eq!(keys.verify(&token, now()), Ok(claims()));
        let forged = forge(
            &keys,
            &header(&keys),
            &serde_json::to_value(claims()).unwrap(),
        );
        assert_eq!(
            keys.verify(&forged, now()),
            Ok(claims()),
            "so the forgeries below are sound"
        );
    }

    #[test]
    fn headers_that_are_not_ours_are_refused() {
        let keys = keys_of(1);
        let claims = serde_json::to_value(claims()).unwrap();
        let ours = header(&keys);
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"});
        let foreign = keys_of(2).current_id().to_owned();
        let corpus = [
            (with(ours.clone(), "alg", json!("none")), TokenError::Header),
            (with(ours.clone(), "alg", json!("None")), TokenError::Header),
            (
                with(ours.clone(), "alg", json!("HS256")),
                TokenError::Header,
            ),
            (
                with(ours.clone(), "alg", json!("RS256")),
                TokenError::Header,
            ),
            (
                with(ours.clone(), "alg", json!("Ed25519")),
                TokenError::Header,
            ),
            (with(ours.clone(), "typ", json!("JWT")), TokenError::Header),
            (
                with(ours.clone(), "typ", json!("AT+JWT")),
                TokenError::Header,
            ),
            (with(ours.clone(), "typ", json!(null)), TokenError::Header),
            (with(ours.clone(), "jwk", jwk), TokenError::Header),
            (
                with(ours.clone(), "jku", json!("https://evil.example")),
                TokenError::Header,
            ),
            (
                with(ours.clone(), "crit", json!(["exp"])),
                TokenError::Header,
            ),
            (with(ours.clone(), "b64", json!(false)), TokenError::Header),
            (
                with(ours.clone(), "kid", json!("../../dev/null")),
                TokenError::UnknownKey,
            ),
            (with(ours.clone(), "kid", json!("")), TokenError::UnknownKey),
            (with(ours, "kid", json!(foreign)), TokenError::UnknownKey),
            (json!({"typ": "at+jwt", "alg": "EdDSA"}), TokenError::Header),
            (json!([]), TokenError::Header),
        ];
        for (header, error) in corpus {
            let token = forge(&keys, &header, &claims);
            assert_eq!(keys.verify(&token, now()), Err(error), "{header}");
        }
    }

    #[test]
    fn the_public_key_is_no_hmac_secret_and_no_signature_is_no_signature() {
        let keys = keys_of(1);
        let claims = encode_part(&claims());
        let confused = encode_part(&with(header(&keys), "alg", json!("HS256")));
        let signed = format!("{confused}.{claims}");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, keys.current_id().as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()));
        assert_eq!(
            keys.verify(&format!("{signed}.{tag}"), now()),
            Err(TokenError::Header)
        );

        let signed = format!("{}.{claims}", encode_part(&header(&keys)));
        assert_eq!(
            keys.verify(&format!("{signed}."), now()),
            Err(TokenError::Signature)
        );
        let zeroes = URL_SAFE_NO_PAD.encode([0; 64]);
        assert_eq!(
            keys.verify(&format!("{signed}.{zeroes}"), now()),
            Err(TokenError::Signature)
        );
        let other = keys_of(2);
        let foreign = URL_SAFE_NO_PAD.encode(other.sign(signed.as_bytes()));
        assert_eq!(
            keys.verify(&format!("{signed}.{foreign}"), now()),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let keys = keys_of(1);
        let token = keys.issue(&claims());
        for place in 0..token.len() {
            let mut changed = token.clone();
            let replacement = if &token[place..=place] == "A" {
                "B"
            } else {
                "A"
            };
            changed.replace_range(place..=place, replacement);
            assert!(keys.verify(&changed, now()).is_err(), "character {place}");
            assert!(keys.verify(&token[..place], now()).is_err());
        }
    }

    #[test]
    fn claims_that_are_not_ours_are_refused() {
        let keys = keys_of(1);
        let ours = serde_json::to_value(claims()).unwrap();
        let at = |seconds: i64| json!(now().as_seconds() + seconds);
        let corpus = [
            (
                with(ours.clone(), "aud", json!("https://other.example")),
                TokenError::Audience,
            ),
            (
                with(ours.clone(), "iss", json!("https://other.example")),
                TokenError::Audience,
            ),
            (
                with(ours.clone(), "aud", json!([ISSUER])),
                TokenError::Claims,
            ),
            (with(ours.clone(), "admin", json!(true)), TokenError::Claims),
            (
                with(ours.clone(), "tenant", json!("acme")),
                TokenError::Claims,
            ),
            (
                with(ours.clone(), "client_id", json!(KeyId::from_bits(4))),
                TokenError::Claims,
            ),
            (with(ours.clone(), "exp", json!(null)), TokenError::Claims),
            (with(ours.clone(), "exp", json!(1e300)), TokenError::Claims),
            (with(ours.clone(), "exp", at(301)), TokenError::Times),
            (
                with(ours.clone(), "exp", json!(i64::MAX)),
                TokenError::Times,
            ),
            (with(ours.clone(), "exp", at(0)), TokenError::Times),
            (with(ours.clone(), "exp", at(-1)), TokenError::Times),
            (
                with(ours.clone(), "iat", json!(i64::MIN)),
                TokenError::Times,
            ),
            (with(ours.clone(), "iat", at(6)), TokenError::Times),
            (
                with(with(ours.clone(), "iat", at(-305)), "exp", at(-5)),
                TokenError::Expired,
            ),
        ];
        for (claims, error) in corpus {
            let token = forge(&keys, &header(&keys), &claims);
            assert_eq!(keys.verify(&token, now()), Err(error), "{claims}");
        }
        for (iat, exp) in [(5, 300), (-304, -4)] {
            let claims = with(with(ours.clone(), "iat", at(iat)), "exp", at(exp));
            let token = forge(&keys, &header(&keys), &claims);
            assert!(
                keys.verify(&token, now()).is_ok(),
                "{claims}: within the clocks' skew"
            );
        }
    }

    #[test]
    fn whatever_is_no_token_is_refused() {
        let keys = keys_of(1);
        let huge = format!("{}.{}", keys.issue(&claims()), "A".repeat(TOKEN_BYTES_MAX));
        assert_eq!(keys.verify(&huge, now()), Err(TokenError::TooLong));
        let token = keys.issue(&claims());
        let padded = format!("{token}=");
        let extra = format!("{token}.AAAA");
        for text in ["", ".", "..", "...", "a.b.c", "é.é.é", &padded, &extra] {
            assert!(keys.verify(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn rotation_accepts_the_previous_key_and_forgets_the_one_before() {
        let entropy = SeededEntropy::new(1);
        let seeds: Vec<TokenSeed> = (0..3).map(|_| TokenSeed::generate(&entropy)).collect();
        let first = TokenKeys::new(ISSUER, &seeds[0]);
        let token = first.issue(&claims());
        let second = first.rotated(&seeds[1]);
        assert_eq!(second.verify(&token, now()), Ok(claims()));
        assert_ne!(second.issue(&claims()), token);
        let third = second.rotated(&seeds[2]);
        assert_eq!(third.verify(&token, now()), Err(TokenError::UnknownKey));
        assert_eq!(third.verify(&second.issue(&claims()), now()), Ok(claims()));
        // A restart in between knows both keys.
        let restarted = TokenKeys::new(ISSUER, &seeds[0]).rotated(&seeds[1]);
        assert_eq!(restarted.verify(&token, now()), Ok(claims()));
    }

    #[test]
    fn a_foreign_verifier_finds_all_it_needs_in_the_key_set() {
        let entropy = SeededEntropy::new(1);
        let keys = TokenKeys::new(ISSUER, &TokenSeed::generate(&entropy))
            .rotated(&TokenSeed::generate(&entropy));
        let set: Value = serde_json::from_str(&keys.key_set_json()).unwrap();
        let token = keys.issue(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(set["keys"].as_array().unwrap().len(), 2);
        let key = &set["keys"][0];
        assert_eq!(
            (&key["kty"], &key["crv"]),
            (&json!("OKP"), &json!("Ed25519"))
        );
        assert_eq!((&key["alg"], &key["use"]), (&json!("EdDSA"), &json!("sig")));
        assert_eq!(key["kid"], json!(keys.current_id()));
        assert!(key.get("d").is_none(), "the private key stays private");
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, x);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
    }
}
