//! `POST /oauth/token`: a key is exchanged for a short-lived token with fewer rights (RFC 8693).

use base::{ModelName, Name, PicoUsd};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use tenancy::{ExchangeRequest, PresentedCredential};

use super::arrive::Arrived;
use super::authenticate::verify;
use super::trail::Trail;
use crate::refusal::Refusal;

/// 16 KiB: a token may name models and features up to its own 4 KiB.
const FORM_BYTES_MAX: usize = 16 << 10;
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Five minutes, the longest that a token lives.
const LIFETIME_SECONDS: u32 = 300;

impl Arrived {
    /// Reads the form, verifies the key in it or in the headers, and issues a token.
    pub(super) async fn exchange(mut self: Box<Self>, trail: &mut Trail) -> Result<Bytes, Refusal> {
        let limited = Limited::new(&mut self.body, FORM_BYTES_MAX);
        let patience = self.shared.bounds.body_timeout;
        let form = match tokio::time::timeout(patience, limited.collect()).await {
            Ok(Ok(form)) => form.to_bytes(),
            Ok(Err(_)) => {
                return Err(Refusal::TooLarge {
                    limit: FORM_BYTES_MAX as u64,
                });
            }
            Err(_) => return Err(Refusal::BodyTooSlow),
        };
        let form = Form::parse(&form)?;
        let principal = match &form.subject_token {
            None => self.verify()?,
            Some(token) => {
                let presented = PresentedCredential::from_headers(None, Some(token.as_bytes()));
                verify(&self, presented)?
            }
        };
        trail.tenant = Some(std::sync::Arc::clone(principal.tenant()));
        trail.key = principal.grant().key().map(|key| key.name.clone());
        let shared = &self.shared;
        let issued = shared
            .token_keys
            .load()
            .exchange(&principal, &form.request, &*shared.clock, &*shared.entropy)
            .map_err(|error| Refusal::TokenExchange("invalid_scope", error.to_string()))?;
        let lifetime = issued.claims.exp - issued.claims.iat;
        let answer = json!({
            "access_token": issued.token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": lifetime,
        });
        Ok(answer.to_string().into())
    }
}

/// The parameters of an exchange.
struct Form {
    subject_token: Option<String>,
    request: ExchangeRequest,
}

impl Form {
    fn parse(form: &[u8]) -> Result<Self, Refusal> {
        let invalid = |what: &str| Refusal::TokenExchange("invalid_request", what.to_owned());
        let mut parsed = Self {
            subject_token: None,
            request: ExchangeRequest {
                models: None,
                features: None,
                spend_cap: None,
                lifetime_seconds: LIFETIME_SECONDS,
            },
        };
        let mut grant_type = None;
        for (name, value) in url::form_urlencoded::parse(form) {
            match &*name {
                "grant_type" => grant_type = Some(value.into_owned()),
                "subject_token" => parsed.subject_token = Some(value.into_owned()),
                "models" => {
                    let models = value.split_whitespace().map(str::parse::<ModelName>);
                    let models = models.collect::<Result<_, _>>();
                    parsed.request.models =
                        Some(models.map_err(|error| invalid(&error.to_string()))?);
                }
                "features" => {
                    let features = value.split_whitespace().map(str::parse::<Name>);
                    let features = features.collect::<Result<_, _>>();
                    parsed.request.features =
                        Some(features.map_err(|error| invalid(&error.to_string()))?);
                }
                "spend_cap" => {
                    let cap = value.parse::<PicoUsd>();
                    parsed.request.spend_cap =
                        Some(cap.map_err(|error| invalid(&error.to_string()))?);
                }
                "expires_in" => {
                    parsed.request.lifetime_seconds = value
                        .parse()
                        .map_err(|_| invalid("`expires_in` is 1 to 300 seconds"))?;
                }
                // RFC 8693: what is not understood is ignored; types, resource, audience, actor.
                _ => {}
            }
        }
        match grant_type.as_deref() {
            Some(GRANT_TYPE) => Ok(parsed),
            _ => Err(Refusal::TokenExchange(
                "unsupported_grant_type",
                format!("`grant_type` is `{GRANT_TYPE}`"),
            )),
        }
    }
}
