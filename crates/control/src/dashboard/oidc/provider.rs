//! The provider: where its endpoints are (OpenID Connect Discovery), its keys, and the exchange of a
//! code for an ID token. Every answer has a bound, every wait an end, and no redirect is followed.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::OidcOptions;
use super::keys::KeySet;
use crate::web::{Web, WebRequest, ask_within};

/// 10 s: somebody waits in a browser.
const PATIENCE: Duration = Duration::from_secs(10);
/// 256 KiB: metadata have 5 KB, key sets 10, a token with many groups 40.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Ten minutes: a key that the provider withdrew verifies nothing after that.
const FRESH: Duration = Duration::from_secs(600);
/// Half a minute: how often a key that nobody knows has the keys asked for anew.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is known of the provider.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) metadata: Metadata,
    pub(super) keys: KeySet,
    at: Duration,
}

/// What a provider says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    pub(super) end_session_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// Why somebody cannot sign in by the provider now. For the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProviderError {
    #[error("{what} of the identity provider: {why}")]
    Unreachable { what: &'static str, why: String },
    #[error("{0} of the identity provider is not what it should be")]
    Unreadable(&'static str),
    #[error("the identity provider calls itself {0}")]
    AnotherIssuer(String),
    #[error("{0} of the identity provider does not begin with https://")]
    Insecure(&'static str),
    #[error("the identity provider refused the code with status {0}")]
    Refused(u16),
}

/// The provider, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Provider {
    known: Mutex<Option<Arc<Known>>>,
}

/// Whether an address is encrypted, or on this machine.
pub fn is_safe(address: &str) -> bool {
    let Ok(url) = url::Url::parse(address) else {
        return false;
    };
    let is_here = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

impl Provider {
    /// What is known, asked for if it is old, or if it lacks the key of this id and was not asked
    /// for just now.
    pub(super) async fn known(
        &self,
        options: &OidcOptions,
        web: &dyn Web,
        now: Duration,
        key: Option<&str>,
    ) -> Result<Arc<Known>, ProviderError> {
        let known = self.known.lock().clone();
        if let Some(known) = known {
            let age = now.saturating_sub(known.at);
            let lacks_key = key.is_some() && !known.keys.has(key);
            if age < FRESH && (!lacks_key || age < ASK_AGAIN) {
                return Ok(known);
            }
        }
        let known = Arc::new(discover(options, web, now).await?);
        *self.known.lock() = Some(Arc::clone(&known));
        Ok(known)
    }
}

async fn discover(
    options: &OidcOptions,
    web: &dyn Web,
    now: Duration,
) -> Result<Known, ProviderError> {
    let issuer = options.issuer.trim_end_matches('/');
    let url = format!("{issuer}/.well-known/openid-configuration");
    let metadata: Metadata = get(web, url, "the metadata").await?;
    if metadata.issuer != options.issuer {
        return Err(ProviderError::AnotherIssuer(metadata.issuer));
    }
    for (address, what) in [
        (&metadata.authorization_endpoint, "authorization_endpoint"),
        (&metadata.token_endpoint, "token_endpoint"),
        (&metadata.jwks_uri, "jwks_uri"),
    ] {
        if !is_safe(address) {
            return Err(ProviderError::Insecure(what));
        }
    }
    let keys = fetch(web, metadata.jwks_uri.clone(), "the key set").await?;
    let keys = KeySet::read(&keys).ok_or(ProviderError::Unreadable("the key set"))?;
    Ok(Known {
        metadata,
        keys,
        at: now,
    })
}

async fn get<T: DeserializeOwned>(
    web: &dyn Web,
    url: String,
    what: &'static str,
) -> Result<T, ProviderError> {
    let body = fetch(web, url, what).await?;
    serde_json::from_slice(&body).map_err(|_| ProviderError::Unreadable(what))
}

async fn fetch(web: &dyn Web, url: String, what: &'static str) -> Result<Bytes, ProviderError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let request = WebRequest {
        method: Method::GET,
        url,
        headers,
        body: Bytes::new(),
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = ask_within(web, request, PATIENCE).await;
    let answer = answer.map_err(|why| ProviderError::Unreachable { what, why })?;
    match answer.status.is_success() {
        true => Ok(answer.body),
        false => Err(ProviderError::Unreachable {
            what,
            why: format!("status {}", answer.status.as_u16()),
        }),
    }
}

impl Known {
    /// The ID token for a code (RFC 6749 4.1.3, with PKCE's verifier).
    pub(super) async fn exchange(
        &self,
        options: &OidcOptions,
        web: &dyn Web,
        code: &str,
        verifier: &str,
    ) -> Result<String, ProviderError> {
        const WHAT: &str = "the token endpoint";
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        if let Some(secret) = &options.client_secret {
            headers.insert(AUTHORIZATION, basic(&options.client_id, secret)?);
        }
        let request = WebRequest {
            method: Method::POST,
            url: self.metadata.token_endpoint.clone(),
            headers,
            body: exchange_form(options, code, verifier).into(),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = ask_within(web, request, PATIENCE).await;
        let answer = answer.map_err(|why| ProviderError::Unreachable { what: WHAT, why })?;
        if !answer.status.is_success() {
            return Err(ProviderError::Refused(answer.status.as_u16()));
        }
        let tokens: Result<Tokens, _> = serde_json::from_slice(&answer.body);
        Ok(tokens
            .map_err(|_| ProviderError::Unreadable(WHAT))?
            .id_token)
    }
}

fn exchange_form(options: &OidcOptions, code: &str, verifier: &str) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", &options.redirect_url)
        .append_pair("code_verifier", verifier);
    if options.client_secret.is_none() {
        form.append_pair("client_id", &options.client_id);
    }
    form.finish()
}

/// RFC 6749 2.3.1: both parts are form-encoded first.
fn basic(id: &str, secret: &str) -> Result<HeaderValue, ProviderError> {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(id), encode(secret)));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::try_from(text.as_str())
        .map_err(|_| ProviderError::Unreadable("the secret"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_encrypted_stays_on_this_machine() {
        for (address, is_fine) in [
            ("https://id.example.com", true),
            ("http://127.0.0.1:9000/x", true),
            ("http://[::1]:9000", true),
            ("http://localhost:3000", true),
            ("http://id.example.com", false),
            ("http://localhost.example.com", false),
            ("ftp://127.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_safe(address), is_fine, "{address}");
        }
    }
}
