//! An ID token (OpenID Connect Core 3.1.3.7): whose word it is, for whom, about whom, until when.

use std::time::Duration;

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::keys::KeySet;

/// 32 KiB: a person in some hundred groups.
const TOKEN_BYTES_MAX: usize = 32 << 10;
/// One minute: how far the provider's clock may be from ours.
const SKEW: Duration = Duration::from_secs(60);

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    /// What this browser's sign-in asked for.
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

/// What a token says, once it is believed.
pub(super) type Claims = Map<String, Value>;

/// Why a token is not believed. For the log: whoever signs in is told that it did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdTokenError {
    #[error("it is no signed token in three parts")]
    Form,
    #[error("none of the provider's keys has signed it by that key's algorithm")]
    Signature,
    #[error("it is another issuer's")]
    Issuer,
    #[error("it is for somebody else")]
    Audience,
    #[error("it has expired, or has no end")]
    Expired,
    #[error("it is from the future")]
    NotYet,
    #[error("it was made for another sign-in")]
    Nonce,
    #[error("it is about nobody")]
    Subject,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// The id of the key that a token says to be signed by.
pub(super) fn key_id(token: &str) -> Option<String> {
    header(token).ok()?.kid
}

fn header(token: &str) -> Result<Header, IdTokenError> {
    let first = token.split('.').next().unwrap_or_default();
    let first = URL_SAFE_NO_PAD.decode(first);
    let first = first.map_err(|_| IdTokenError::Form)?;
    serde_json::from_slice(&first).map_err(|_| IdTokenError::Form)
}

/// Believes a token, or not.
pub(super) fn verify(
    token: &str,
    keys: &KeySet,
    expected: Expected<'_>,
) -> Result<Claims, IdTokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(IdTokenError::Form);
    }
    let header = header(token)?;
    let (said, signature) = token.rsplit_once('.').ok_or(IdTokenError::Form)?;
    let (_, claims) = said.split_once('.').ok_or(IdTokenError::Form)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| IdTokenError::Form);
    let (claims, signature) = (decode(claims)?, decode(signature)?);
    let is_signed = header.crit.is_none()
        && keys.has_signed(
            header.kid.as_deref(),
            &header.alg,
            said.as_bytes(),
            &signature,
        );
    if !is_signed {
        return Err(IdTokenError::Signature);
    }
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| IdTokenError::Form)?;
    check(&claims, expected)?;
    Ok(claims)
}

fn check(claims: &Claims, expected: Expected<'_>) -> Result<(), IdTokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(IdTokenError::Issuer);
    }
    let is_ours = |value: &Value| value.as_str() == Some(expected.client_id);
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(all)) if all.len() > 1 => {
            all.iter().any(is_ours) && text("azp") == Some(expected.client_id)
        }
        Some(Value::Array(all)) => all.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if !is_for_us || text("azp").is_some_and(|azp| azp != expected.client_id) {
        return Err(IdTokenError::Audience);
    }
    let time = |name: &str| {
        let seconds = claims.get(name)?.as_f64()?;
        // Seconds since 1970 of any date that this process will see.
        (0.0..1e11).contains(&seconds).then(|| {
            let micros = seconds * 1e6;
            Timestamp::from_micros(micros as i64)
        })
    };
    let end = time("exp").ok_or(IdTokenError::Expired)?;
    if end.plus(SKEW) <= expected.now {
        return Err(IdTokenError::Expired);
    }
    let begins = [time("iat"), time("nbf")];
    if begins
        .into_iter()
        .flatten()
        .any(|at| at > expected.now.plus(SKEW))
    {
        return Err(IdTokenError::NotYet);
    }
    let nonce = text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(IdTokenError::Nonce);
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err(IdTokenError::Subject);
    }
    Ok(())
}
