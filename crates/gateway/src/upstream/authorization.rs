//! How a call says whose customer it is, in its provider's form.

use base::{Redacted, Timestamp};
use http::header::{AUTHORIZATION, HOST, HeaderName};
use http::{HeaderValue, Request};
use models::Raw;
use tenancy::catalogue::{Engine, UpstreamSpec};
use zeroize::Zeroizing;

use super::UpstreamBody;
use super::google_accounts::KeyFile;
use super::sigv4::{AwsCredential, SigningScope, Unsigned, payload_sha256, sign};

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Bedrock's name in signatures.
const BEDROCK: &str = "bedrock";

/// A credential, ready to be sent. Its `Debug` shows none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// A header that is the same for every call.
    Header(HeaderName, HeaderValue),
    /// A signature of each call by itself.
    Aws {
        /// Whose it is.
        credential: Box<AwsCredential>,
        /// The region that the signature is for.
        region: String,
    },
    /// A token that a service account's key file is exchanged for.
    Google(KeyFile),
}

/// Why a credential cannot be sent. Has none of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotACredential {
    /// A header would carry it.
    #[error("it has characters that no header can carry")]
    NotAHeader,
    /// An object was expected.
    #[error("it is neither an API key nor an object with `access_key_id` and `secret_access_key`")]
    NotAnAwsCredential,
    /// Neither its address nor its region says where the signature is for.
    #[error("the upstream's AWS region is not known: set `region`")]
    NoRegion,
    /// The JSON is none of Google's, or leads where it may not.
    #[error(
        "it is no service account's key file: JSON with `type`, `client_email`, `private_key` and a `token_uri` that begins with https://"
    )]
    NotAServiceAccount,
}

impl Authorization {
    /// As the upstream takes this credential.
    pub(crate) fn of(spec: &UpstreamSpec, secret: &str) -> Result<Self, NotACredential> {
        if spec.engine == Engine::Bedrock && secret.starts_with('{') {
            return Ok(Self::Aws {
                credential: Box::new(aws(secret).ok_or(NotACredential::NotAnAwsCredential)?),
                region: aws_region(spec).ok_or(NotACredential::NoRegion)?,
            });
        }
        if spec.engine == Engine::Vertex && secret.starts_with('{') {
            let key_file = Zeroizing::new(secret.to_owned());
            return Ok(Self::Google(Redacted::new(key_file)));
        }
        let (name, text) = match spec.engine {
            Engine::Anthropic => (HeaderName::from_static("x-api-key"), secret.to_owned()),
            Engine::Azure => (HeaderName::from_static("api-key"), secret.to_owned()),
            Engine::Gemini => (HeaderName::from_static("x-goog-api-key"), secret.to_owned()),
            _ => (AUTHORIZATION, format!("Bearer {secret}")),
        };
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| NotACredential::NotAHeader)?;
        value.set_sensitive(true);
        Ok(Self::Header(name, value))
    }

    /// As the bearer of this token.
    pub(super) fn bearer(token: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        Some(Self::Header(AUTHORIZATION, value))
    }

    /// Whether it depends on what else the call's head says.
    pub(super) fn signs_the_request(&self) -> bool {
        matches!(self, Self::Aws { .. })
    }

    /// Puts it into the head of a call, which is whole but for this.
    pub(super) fn put_into(&self, request: &mut Request<()>, body: &UpstreamBody, at: Timestamp) {
        match self {
            Self::Header(name, value) => {
                request.headers_mut().insert(name.clone(), value.clone());
            }
            Self::Aws { credential, region } => {
                put_signature(request, body, credential, region, at)
            }
            // It is exchanged for a bearer before a call is sent.
            Self::Google(_) => {}
        }
    }
}

fn put_signature(
    request: &mut Request<()>,
    body: &UpstreamBody,
    credential: &AwsCredential,
    region: &str,
    at: Timestamp,
) {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let unsigned = Unsigned {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: &[("host", host.unwrap_or_default())],
        payload_sha256: payload_sha256(body.pieces().iter().map(AsRef::as_ref)),
    };
    let scope = SigningScope {
        region,
        service: BEDROCK,
    };
    let signature = sign(&unsigned, credential, scope, at);
    let token = signature.security_token.as_ref();
    let values = [
        (X_AMZ_DATE, Some(signature.date.as_str())),
        (AUTHORIZATION, Some(signature.authorization.as_str())),
        (
            X_AMZ_SECURITY_TOKEN,
            token.map(|token| token.expose().as_str()),
        ),
    ];
    for (name, value) in values {
        // What no header can carry was refused when the credential was read.
        if let Some(Ok(mut value)) = value.map(HeaderValue::from_str) {
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
    }
}

/// `{"access_key_id": …, "secret_access_key": …, "session_token": …}`
fn aws(secret: &str) -> Option<AwsCredential> {
    let object = Raw::new(secret.as_bytes());
    let field = |name| {
        let text = object.get(name)?.as_str()?.into_owned();
        HeaderValue::from_str(&text).ok().map(|_| text)
    };
    let redacted = |text: String| Redacted::new(Zeroizing::new(text));
    Some(AwsCredential {
        access_key_id: field("access_key_id")?,
        secret_access_key: redacted(field("secret_access_key")?),
        session_token: field("session_token").map(redacted),
    })
}

/// From `bedrock-runtime.{region}.amazonaws.com`, or else as the upstream says.
fn aws_region(spec: &UpstreamSpec) -> Option<String> {
    let url = url::Url::parse(spec.address()?).ok()?;
    let host = url.host_str()?.strip_prefix("bedrock-runtime.");
    let by_host = host.and_then(|host| host.strip_suffix(".amazonaws.com"));
    let stated = spec.region.as_ref().map(ToString::to_string);
    by_host.map(str::to_owned).or(stated)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn spec(engine: Engine, base_url: &str) -> UpstreamSpec {
        serde_json::from_value(json!({"engine": engine, "base_url": base_url})).unwrap()
    }

    fn sent(spec: &UpstreamSpec, secret: &str) -> Request<()> {
        let authorization = Authorization::of(spec, secret).expect("a credential");
        assert!(!format!("{authorization:?}").contains("s3cret"));
        let mut request = Request::post("/model/m/converse").body(()).unwrap();
        request.headers_mut().insert(
            HOST,
            HeaderValue::from_static("bedrock-runtime.eu-west-1.amazonaws.com"),
        );
        let body = UpstreamBody::of([Bytes::from_static(b"{}")]);
        authorization.put_into(
            &mut request,
            &body,
            Timestamp::from_micros(1_700_000_000_000_000),
        );
        request
    }

    #[test]
    fn each_provider_has_its_header_and_none_is_shown() {
        for (engine, name, value) in [
            (Engine::OpenAi, "authorization", "Bearer s3cret"),
            (Engine::Anthropic, "x-api-key", "s3cret"),
            (Engine::Azure, "api-key", "s3cret"),
            (Engine::Gemini, "x-goog-api-key", "s3cret"),
            (Engine::Bedrock, "authorization", "Bearer s3cret"),
        ] {
            let request = sent(&spec(engine, "https://x.test"), "s3cret");
            assert_eq!(request.headers()[name], value);
        }
        let refused = Authorization::of(&spec(Engine::OpenAi, "https://x.test"), "two\nlines");
        assert_eq!(refused, Err(NotACredential::NotAHeader));
    }

    #[test]
    fn bedrock_is_signed_for_its_region() {
        let secret =
            r#"{"access_key_id":"AKID","secret_access_key":"s3cret","session_token":"tok"}"#;
        let upstream = spec(
            Engine::Bedrock,
            "https://bedrock-runtime.eu-west-1.amazonaws.com",
        );
        let request = sent(&upstream, secret);
        let authorization = request.headers()[AUTHORIZATION].to_str().unwrap();
        assert!(
            authorization.contains("Credential=AKID/20231114/eu-west-1/bedrock/aws4_request"),
            "{authorization}"
        );
        assert_eq!(request.headers()[X_AMZ_SECURITY_TOKEN], "tok");
        let elsewhere = spec(Engine::Bedrock, "https://vpce-1.test");
        assert_eq!(
            Authorization::of(&elsewhere, secret),
            Err(NotACredential::NoRegion)
        );
        let half = Authorization::of(&upstream, r#"{"access_key_id":"AKID"}"#);
        assert_eq!(half, Err(NotACredential::NotAnAwsCredential));
    }
}
