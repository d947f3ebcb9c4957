//! AWS Signature Version 4, for Bedrock: a function of the request, a credential and the time.
//!
//! The request is described as it goes on the wire. Following AWS's "Signature Version 4 signing
//! process", for services other than S3: the path as sent is normalised and encoded once more,
//! the query is sorted, headers are lower-cased and trimmed.

use std::fmt::Write as _;

use base::{Redacted, Timestamp};
use ring::{digest, hmac};
use zeroize::Zeroizing;

/// Who signs.
#[derive(Debug, Clone)]
pub struct AwsCredential {
    /// Names the key: no secret.
    pub access_key_id: String,
    /// Signs, and is never sent.
    pub secret_access_key: Redacted<Zeroizing<String>>,
    /// Goes along with temporary credentials.
    pub session_token: Option<Redacted<Zeroizing<String>>>,
}

/// Where a signature is valid.
#[derive(Debug, Clone, Copy)]
pub struct SigningScope<'a> {
    /// `us-east-1`, …
    pub region: &'a str,
    /// `bedrock`, also for the host `bedrock-runtime`.
    pub service: &'a str,
}

/// A request before it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned<'a> {
    /// `POST`, …
    pub method: &'a str,
    /// As it is sent: percent-encoded where the wire needs it.
    pub path: &'a str,
    /// As it is sent, without the question mark; empty if there is none.
    pub query: &'a str,
    /// What is to be signed of the headers: at least `host`. Those of [`Signature`] are added.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body.
    pub payload_sha256: [u8; 32],
}

/// The headers that a signed request has in addition.
#[derive(Debug, Clone)]
pub struct Signature {
    /// `x-amz-date`
    pub date: String,
    /// `x-amz-security-token`, with temporary credentials.
    pub security_token: Option<Redacted<Zeroizing<String>>>,
    /// `authorization`
    pub authorization: String,
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

impl PartialEq for AwsCredential {
    fn eq(&self, other: &Self) -> bool {
        let token = |of: &Self| {
            of.session_token
                .as_ref()
                .map(|token| token.expose().clone())
        };
        self.access_key_id == other.access_key_id
            && self.secret_access_key.expose() == other.secret_access_key.expose()
            && token(self) == token(other)
    }
}

impl Eq for AwsCredential {}

/// SHA-256 of a body that comes in chunks, for [`Unsigned::payload_sha256`].
pub fn payload_sha256<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    chunks.into_iter().for_each(|chunk| context.update(chunk));
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Signs a request. Valid for 5 minutes around `at`, as AWS's clocks see it.
pub fn sign(
    request: &Unsigned<'_>,
    credential: &AwsCredential,
    scope: SigningScope<'_>,
    at: Timestamp,
) -> Signature {
    let date = basic_format(at);
    let token = credential.session_token.as_ref();
    let headers = CanonicalHeaders::of(request, &date, token);
    let canonical = canonical_request(request, &headers);
    let scope_text = credential_scope(&date, scope);
    let to_sign = format!(
        "{ALGORITHM}\n{date}\n{scope_text}\n{}",
        hex(&payload_sha256([canonical.as_bytes()]))
    );
    let key = signing_key(credential, &date, scope);
    let signature = hex(hmac::sign(&key, to_sign.as_bytes()).as_ref());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope_text}, SignedHeaders={}, Signature={signature}",
        credential.access_key_id, headers.names,
    );
    Signature {
        date,
        security_token: credential.session_token.clone(),
        authorization,
    }
}

/// `20150830T123600Z`
fn basic_format(at: Timestamp) -> String {
    // The clock's range is wider than the calendar's: no real time falls outside of it.
    let time = jiff::Timestamp::from_second(at.as_seconds()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn credential_scope(date: &str, scope: SigningScope<'_>) -> String {
    let SigningScope { region, service } = scope;
    format!("{}/{region}/{service}/aws4_request", &date[..8])
}

/// The secret, bound to a day, a region and a service.
fn signing_key(credential: &AwsCredential, date: &str, scope: SigningScope<'_>) -> hmac::Key {
    let secret = credential.secret_access_key.expose();
    let first = Zeroizing::new(format!("AWS4{}", secret.as_str()));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
    for part in [&date[..8], scope.region, scope.service, "aws4_request"] {
        let next = hmac::sign(&key, part.as_bytes());
        key = hmac::Key::new(hmac::HMAC_SHA256, next.as_ref());
    }
    key
}

/// The headers that are signed.
struct CanonicalHeaders {
    /// `name:value`, a line each.
    lines: Zeroizing<String>,
    /// Their names, joined by semicolons.
    names: String,
}

impl CanonicalHeaders {
    fn of(request: &Unsigned<'_>, date: &str, token: Option<&Redacted<Zeroizing<String>>>) -> Self {
        let given = request.headers.iter();
        let mut headers: Vec<(String, &str)> = given
            .map(|(name, value)| (name.to_ascii_lowercase(), *value))
            .chain([("x-amz-date".to_owned(), date)])
            .chain(token.map(|token| ("x-amz-security-token".to_owned(), token.expose().as_str())))
            .collect();
        // Stable: values of one name stay in their order.
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let mut lines = Zeroizing::new(String::new());
        let mut names = String::new();
        let mut last = "";
        for (name, value) in &headers {
            if name == last {
                lines.pop();
                lines.push(',');
            } else {
                if !names.is_empty() {
                    names.push(';');
                }
                names.push_str(name);
                lines.push_str(name);
                lines.push(':');
            }
            push_trimmed(&mut lines, value);
            lines.push('\n');
            last = name;
        }
        Self { lines, names }
    }
}

/// Without white space around it, and with one space where there were several.
fn push_trimmed(lines: &mut String, value: &str) {
    let mut words = value.split_ascii_whitespace();
    lines.extend(words.next());
    for word in words {
        lines.push(' ');
        lines.push_str(word);
    }
}

fn canonical_request(request: &Unsigned<'_>, headers: &CanonicalHeaders) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "{}\n{}\n{}\n{}\n{}\n{}",
        request.method,
        canonical_path(request.path),
        canonical_query(request.query),
        headers.lines.as_str(),
        headers.names,
        hex(&request.payload_sha256),
    ))
}

/// Without `.`, `..` and empty segments, and encoded: what was encoded for the wire is so twice.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut canonical = String::new();
    for segment in &segments {
        canonical.push('/');
        push_encoded(&mut canonical, segment.as_bytes());
    }
    if canonical.is_empty() || path.ends_with('/') {
        canonical.push('/');
    }
    canonical
}

/// Names and values encoded anew, and sorted.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded_anew(name), encoded_anew(value))
        })
        .collect();
    pairs.sort();
    let mut canonical = String::new();
    for (name, value) in pairs {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        canonical.push_str(&name);
        canonical.push('=');
        canonical.push_str(&value);
    }
    canonical
}

fn encoded_anew(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if let (b'%', [high, low, ..]) = (byte, after)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            plain.push(high << 4 | low);
            rest = &after[2..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, &plain);
    encoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn push_encoded(into: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            _ => write!(into, "%{byte:02X}").expect("a string takes all that is written"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2015-08-30T12:36:00Z, the time of AWS's test suite.
    const AT: Timestamp = Timestamp::from_micros(1_440_938_160_000_000);
    const SUITE: SigningScope<'_> = SigningScope {
        region: "us-east-1",
        service: "service",
    };
    const HOST: (&str, &str) = ("Host", "example.amazonaws.com");

    fn credential() -> AwsCredential {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned();
        AwsCredential {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Redacted::new(secret.into()),
            session_token: None,
        }
    }

    fn request<'a>(method: &'a str, path: &'a str, query: &'a str) -> Unsigned<'a> {
        Unsigned {
            method,
            path,
            query,
            headers: &[HOST],
            payload_sha256: payload_sha256([]),
        }
    }

    fn check(request: &Unsigned<'_>, names: &str, signature: &str) {
        let signed = sign(request, &credential(), SUITE, AT);
        assert_eq!(signed.date, "20150830T123600Z");
        assert_eq!(
            signed.authorization,
            format!(
                "AWS4-HMAC-SHA256 \
                 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            ),
            "{} {}?{}",
            request.method,
            request.path,
            request.query,
        );
    }

    const GET_VANILLA: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";

    #[test]
    fn requests_of_awss_suite_have_their_signatures() {
        let all = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let path = format!("/{all}");
        let query = format!("{all}={all}");
        let cases = [
            ("GET", "/", "", GET_VANILLA),
            (
                "POST",
                "/",
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                "/",
                "Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                "/",
                &query,
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "GET",
                "/",
                "%E1%88%B4=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "GET",
                "/\u{1234}",
                "",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "GET",
                &path,
                "",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
        ];
        for (method, path, query, signature) in cases {
            check(&request(method, path, query), "host;x-amz-date", signature);
        }
    }

    #[test]
    fn paths_are_normalised() {
        for path in ["/", "//", "/./", "/example/..", "/a/b/../..", ""] {
            check(&request("GET", path, ""), "host;x-amz-date", GET_VANILLA);
        }
        assert_eq!(canonical_path("//example//"), "/example/");
        assert_eq!(
            canonical_path("/model/anthropic.claude-v2%3A1/converse"),
            "/model/anthropic.claude-v2%253A1/converse"
        );
    }

    #[test]
    fn headers_are_sorted_joined_and_trimmed() {
        let repeated = Unsigned {
            headers: &[
                HOST,
                ("My-Header1", "value2"),
                ("My-Header1", "value2"),
                ("My-Header1", "value1"),
            ],
            ..request("GET", "/", "")
        };
        check(
            &repeated,
            "host;my-header1;x-amz-date",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        );
        let spaced = Unsigned {
            headers: &[
                HOST,
                ("My-Header1", " value1"),
                ("My-Header2", " \"a   b   c\""),
            ],
            ..request("GET", "/", "")
        };
        check(
            &spaced,
            "host;my-header1;my-header2;x-amz-date",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        );
        let body = Unsigned {
            headers: &[HOST, ("Content-Type", "application/x-www-form-urlencoded")],
            payload_sha256: payload_sha256([b"Param1=".as_slice(), b"value1"]),
            ..request("POST", "/", "")
        };
        check(
            &body,
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
    }

    #[test]
    fn a_session_token_is_signed_and_sent() {
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwA\
                     eMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8p\
                     hUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT\
                     38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabI\
                     Qwj2ICCR/oLxBA==";
        let credential = AwsCredential {
            session_token: Some(Redacted::new(token.to_owned().into())),
            ..credential()
        };
        let signed = sign(&request("POST", "/", ""), &credential, SUITE, AT);
        assert!(
            signed.authorization.ends_with(
                "SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
            ),
            "{}",
            signed.authorization
        );
        let sent = signed.security_token.unwrap();
        assert_eq!(sent.expose().as_str(), token);
        let shown = format!("{credential:?}");
        assert!(
            !shown.contains("wJalr") && !shown.contains("AQoD"),
            "{shown}"
        );
    }

    #[test]
    fn the_documented_key_is_derived() {
        let scope = SigningScope {
            region: "us-east-1",
            service: "iam",
        };
        let request = Unsigned {
            headers: &[
                (
                    "content-type",
                    "application/x-www-form-urlencoded; charset=utf-8",
                ),
                ("host", "iam.amazonaws.com"),
            ],
            ..request("GET", "/", "Action=ListUsers&Version=2010-05-08")
        };
        let signed = sign(&request, &credential(), scope, AT);
        assert!(signed.authorization.ends_with(
            "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        ));
    }
}
