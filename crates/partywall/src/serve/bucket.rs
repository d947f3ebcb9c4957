//! A bucket of an object store that speaks S3's API: path-style addresses, signed by SigV4.

use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, Redacted};
use bytes::Bytes;
use control::{Object, PushFormat, PushOptions, Reading, Storing};
use gateway::sigv4::{AwsCredential, SigningScope, Unsigned, payload_sha256, sign};
use gateway::{Fetch, Postman, Reach};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tenancy::catalogue::SecretRef;
use zeroize::Zeroizing;

use crate::config::{ExportsFormat, ExportsOptions};
use crate::folder::follow;

/// 1 MiB: a manifest of ten thousand tenants has fifty files.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The bucket.
struct S3Bucket {
    postman: Postman,
    clock: Arc<dyn Clock>,
    /// `https://host[:port]/bucket`.
    address: String,
    /// What is signed of it.
    host: String,
    region: String,
    credential: SecretRef,
}

/// A credential, as its reference leads to it.
#[derive(Deserialize)]
struct Given {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
}

/// Where costs are pushed, if anywhere.
///
/// # Errors
///
/// An address that is none, or a credential that cannot be read.
pub(super) fn pushing(
    options: &ExportsOptions,
    postman: Postman,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Option<PushOptions>> {
    let (Some(endpoint), Some(bucket), Some(credential)) =
        (&options.endpoint, &options.bucket, &options.credential)
    else {
        return Ok(None);
    };
    read_credential(credential)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("`exports.credential` in partywall.toml: {credential}"))?;
    let url = url::Url::parse(endpoint).context("`exports.endpoint` in partywall.toml")?;
    let host = url.host_str().context("`exports.endpoint` has no host")?;
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let bucket = S3Bucket {
        postman,
        clock,
        address: format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        host,
        region: options.region.clone(),
        credential: credential.clone(),
    };
    Ok(Some(PushOptions {
        bucket: Arc::new(bucket),
        prefix: options.prefix.clone(),
        format: match options.format {
            ExportsFormat::FocusCsv => PushFormat::Csv,
            ExportsFormat::FocusParquet => PushFormat::Parquet,
        },
    }))
}

/// Read anew for each request: temporary credentials change.
fn read_credential(reference: &SecretRef) -> Result<AwsCredential, String> {
    let text = Zeroizing::new(follow(reference).map_err(|error| error.to_string())?);
    let given: Given = serde_json::from_str(&text).map_err(|_| {
        "a credential is JSON with `access_key_id` and `secret_access_key`".to_owned()
    })?;
    Ok(AwsCredential {
        access_key_id: given.access_key_id,
        secret_access_key: Redacted::new(Zeroizing::new(given.secret_access_key)),
        session_token: given.session_token.map(Zeroizing::new).map(Redacted::new),
    })
}

impl S3Bucket {
    async fn ask(
        &self,
        method: Method,
        key: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let url = format!("{}/{key}", self.address);
        let parsed = url::Url::parse(&url).map_err(|_| "the address is none".to_owned())?;
        let credential = read_credential(&self.credential)?;
        let payload = payload_sha256([&body[..]]);
        let payload_text: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = sign(
            &Unsigned {
                method: method.as_str(),
                path: parsed.path(),
                query: "",
                headers: &[
                    ("host", &self.host),
                    ("x-amz-content-sha256", &payload_text),
                ],
                payload_sha256: payload,
            },
            &credential,
            SigningScope {
                region: &self.region,
                service: "s3",
            },
            self.clock.now(),
        );
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, text: &str| -> Result<(), String> {
            let mut value = HeaderValue::from_str(text)
                .map_err(|_| format!("{name} cannot be a header's value"))?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
            Ok(())
        };
        add("x-amz-content-sha256", &payload_text)?;
        add("x-amz-date", &signature.date)?;
        add("authorization", &signature.authorization)?;
        if let Some(token) = &signature.security_token {
            add("x-amz-security-token", token.expose())?;
        }
        if let Some(content_type) = content_type {
            add("content-type", content_type)?;
        }
        let asked = Fetch {
            method,
            url,
            // The operator has named it.
            reach: Reach::Anywhere,
            headers,
            body,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let fetched = self.postman.fetch(asked).await;
        fetched.map_err(|error| error.to_string())
    }
}

impl control::Bucket for S3Bucket {
    fn put(&self, object: Object) -> Storing<'_> {
        Box::pin(async move {
            let kind = Some(object.content_type);
            let asked = self.ask(Method::PUT, &object.key, kind, object.body);
            match asked.await? {
                (status, _) if status.is_success() => Ok(()),
                (status, said) => Err(refused(status, &said)),
            }
        })
    }

    fn get(&self, key: String) -> Reading<'_> {
        Box::pin(async move {
            match self.ask(Method::GET, &key, None, Bytes::new()).await? {
                (status, body) if status.is_success() => Ok(Some(body)),
                (StatusCode::NOT_FOUND, _) => Ok(None),
                (status, said) => Err(refused(status, &said)),
            }
        })
    }
}

/// The store's own code for it, where it says one.
fn refused(status: StatusCode, said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    match code {
        Some(code) => format!("status {} ({code})", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    }
}
