//! Signature Version 4, verified as AWS does.

use std::time::Duration;

use base::Timestamp;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use ring::{digest, hmac};

use crate::config::AwsKey;
use crate::http::Call;
use crate::refusal::Refusal;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The name that Bedrock's calls are signed for.
const SERVICE: &str = "bedrock";

/// How far a call's time may be from the server's. 5 minutes: AWS's.
const SKEW_MAX: Duration = Duration::from_secs(300);

/// Whether a request is signed, rightly or not.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    authorization(headers).is_some_and(|value| value.starts_with(ALGORITHM))
}

/// The public part of the key that a request is signed with.
pub(crate) fn key_id(headers: &HeaderMap) -> Option<String> {
    let (_, rest) = authorization(headers)?.split_once("Credential=")?;
    Some(rest.split('/').next()?.to_owned())
}

/// Verifies a call's signature.
///
/// # Errors
///
/// A header that is not whole, another key, another time, a signature that does not match.
pub(super) fn verify(key: &AwsKey, call: &Call, now: Timestamp) -> Result<(), Refusal> {
    let headers = &call.parts.headers;
    let header = authorization(headers).unwrap_or_default();
    let Some(given) = Given::read(header) else {
        return Err(incomplete(
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters.",
        ));
    };
    let date = headers
        .get("x-amz-date")
        .and_then(|date| date.to_str().ok());
    let Some((date, at)) = date.and_then(|date| Some((date, time(date)?))) else {
        return Err(incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        ));
    };
    if given.key_id != key.access_key_id {
        return Err(Refusal {
            code: Some("UnrecognizedClientException"),
            ..Refusal::new(
                StatusCode::FORBIDDEN,
                "The security token included in the request is invalid.",
            )
        });
    }
    if now.since(at).max(at.since(now)) > SKEW_MAX {
        let message = format!("Signature expired: {date} is not within 5 minutes of {now}");
        return Err(wrong(message));
    }
    let scope = format!("{}/{}/{SERVICE}/aws4_request", &date[..8], key.region);
    if given.scope != scope {
        let message = format!("Credential should be scoped to '{scope}'");
        return Err(wrong(message));
    }
    for required in ["host", "x-amz-date"] {
        if !given.signed_headers.split(';').any(|name| name == required) {
            return Err(wrong(format!("'{required}' must be a signed header")));
        }
    }
    let canonical = canonical_request(call, given.signed_headers);
    let expected = signature(&key.secret_access_key, date, &scope, &canonical);
    if expected == given.signature {
        return Ok(());
    }
    Err(wrong(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details."
            .to_owned(),
    ))
}

/// What an `Authorization` header says.
struct Given<'a> {
    key_id: &'a str,
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Given<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix(ALGORITHM)?.trim_start();
        let find = |name: &str| {
            let mut pairs = rest
                .split(',')
                .filter_map(|pair| pair.trim().split_once('='));
            pairs.find_map(|(found, value)| (found == name).then_some(value))
        };
        let (key_id, scope) = find("Credential")?.split_once('/')?;
        Some(Self {
            key_id,
            scope,
            signed_headers: find("SignedHeaders")?,
            signature: find("Signature")?,
        })
    }
}

fn canonical_request(call: &Call, signed_headers: &str) -> String {
    let parts = &call.parts;
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let values = parts.headers.get_all(name).iter();
        let values: Vec<String> = values
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let mut query: Vec<&str> = parts
        .uri
        .query()
        .map(|query| query.split('&').collect())
        .unwrap_or_default();
    query.sort_unstable();
    format!(
        "{}\n{}\n{}\n{headers}\n{signed_headers}\n{}",
        parts.method,
        encoded_path(parts.uri.path()),
        query.join("&"),
        sha256_hex(&call.body),
    )
}

/// The path as it came, encoded once more: all services but S3 sign it so.
fn encoded_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn signature(secret: &str, date: &str, scope: &str, canonical: &str) -> String {
    let to_sign = format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        sha256_hex(canonical.as_bytes())
    );
    let start = format!("AWS4{secret}").into_bytes();
    // The day, the region, the service and the last word, each under the key before it.
    let key = scope
        .split('/')
        .fold(start, |key, part| hmac_sha256(&key, part.as_bytes()));
    hex(&hmac_sha256(&key, to_sign.as_bytes()))
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time of `20150830T123600Z`.
fn time(date: &str) -> Option<Timestamp> {
    if date.len() != 16 || !date.is_ascii() {
        return None;
    }
    let (day, clock) = date.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 8 {
        return None;
    }
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &day[..4],
        &day[4..6],
        &day[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    text.parse().ok()
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()
}

fn incomplete(message: &'static str) -> Refusal {
    Refusal {
        code: Some("IncompleteSignatureException"),
        ..Refusal::bad_request(message)
    }
}

fn wrong(message: String) -> Refusal {
    Refusal {
        code: Some("InvalidSignatureException"),
        ..Refusal::new(StatusCode::FORBIDDEN, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_aws_s_own_test_suite() {
        // `get-vanilla` of the suite.
        let canonical = "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
            host;x-amz-date\n\
            e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let signature = signature(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "20150830T123600Z",
            "20150830/us-east-1/service/aws4_request",
            canonical,
        );
        let expected = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(signature, expected);
    }

    #[test]
    fn paths_are_encoded_once_more() {
        assert_eq!(
            encoded_path("/model/a.b-v1%3A0/converse"),
            "/model/a.b-v1%253A0/converse"
        );
        assert_eq!(encoded_path("/model/a:0/converse"), "/model/a%3A0/converse");
        assert_eq!(
            time("20150830T123600Z").unwrap().as_seconds(),
            1_440_938_160
        );
        assert!(time("2015-08-30T12:36Z").is_none() && time("20150830T1236é0Z").is_none());
    }
}
