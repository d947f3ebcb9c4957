//! Signing in by an identity provider: OpenID Connect's authorization code with PKCE.
//!
//! Nothing is kept of a sign-in under way: the browser has a token in a cookie of its own, and
//! state, nonce and PKCE's verifier are derived from it. What comes back counts once, in the same
//! browser, within ten minutes. What a provider's word makes of somebody is written under a key of
//! this process and put into a session as keys are; each page presents it anew.

mod id_token;
mod keys;
mod provider;
mod rules;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use base::Entropy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::hmac;
use tenancy::{Vouched, VouchingKey};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::answer::{self, PageError, redirect, with_cookie};
use super::cookies::{Cookie, Transport};
use super::lockers::{SESSIONS, Token};
use super::page::{Fields, House, present};
use super::sign_in::{admitted, is_ours, refused_sign_in};
use crate::caller::recognise;
use crate::gates::Load;
use id_token::Expected;
use provider::{Provider, ProviderError};

pub use provider::is_safe;
pub use rules::{OidcRole, OidcRule};

/// Ten minutes: a password, a second factor, and a coffee.
const FLOW_LIFE: Duration = Duration::from_secs(600);
/// 5 s, as for keys.
const PATIENCE: Duration = Duration::from_secs(5);
/// 10,000 of 48 bytes. Beyond that the one that ends first goes, and the provider's own rule stands
/// alone: a code counts once.
const USED_MAX: usize = 10_000;

/// How the provider is asked, and who its people are here.
#[derive(Clone)]
pub struct OidcOptions {
    /// The provider's issuer, to the letter.
    pub issuer: String,
    /// What the provider calls this installation.
    pub client_id: String,
    /// What proves it; a public client has none, and PKCE alone.
    pub client_secret: Option<Arc<Zeroizing<String>>>,
    /// What is asked for: `openid` and more.
    pub scopes: Vec<String>,
    /// Where the provider sends people back to: the dashboard's address and `/dashboard/oidc/back`.
    pub redirect_url: String,
    /// Who they are here. The first that fits counts, and nobody gets in without one.
    pub rules: Vec<OidcRule>,
    /// For how long the provider's word counts: then it is asked again. Twelve hours at most.
    pub word_counts: Duration,
}

impl fmt::Debug for OidcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OidcOptions({} at {})", self.client_id, self.issuer)
    }
}

/// The provider that people sign in by.
#[derive(Debug)]
pub(super) struct Oidc {
    options: OidcOptions,
    provider: Provider,
    /// Makes states of this process's own.
    flow_key: hmac::Key,
    /// What has come back already, and until when that would be good.
    used: Mutex<HashMap<[u8; 32], Duration>>,
}

/// A step of signing in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// To the provider.
    Start,
    /// Back from it.
    Back,
    /// The provider's own session ends, too.
    Out,
}

/// What one sign-in under way derives from its token.
struct Flow<'t> {
    token: &'t Token,
}

impl Flow<'_> {
    fn derived(&self, purpose: &str) -> String {
        URL_SAFE_NO_PAD.encode(*self.token.derive(&format!("oidc/{purpose}")))
    }

    /// PKCE's challenge (RFC 7636, S256).
    fn challenge(&self) -> String {
        let verifier = self.derived("verifier");
        URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
    }
}

impl Oidc {
    pub(super) fn new(options: OidcOptions, entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        Self {
            options,
            provider: Provider::default(),
            flow_key: hmac::Key::new(hmac::HMAC_SHA256, &*bytes),
            used: Mutex::default(),
        }
    }

    fn signed(token: &Token, until: Duration, next: &str) -> Vec<u8> {
        let proof = token.derive("oidc/state");
        [&proof[..], &until.as_secs().to_be_bytes(), next.as_bytes()].concat()
    }

    /// `end.proof.next`: of this process, this browser and this sign-in.
    fn state(&self, token: &Token, until: Duration, next: &str) -> String {
        let tag = hmac::sign(&self.flow_key, &Self::signed(token, until, next));
        let (tag, next) = (URL_SAFE_NO_PAD.encode(tag), URL_SAFE_NO_PAD.encode(next));
        format!("{}.{tag}.{next}", until.as_secs())
    }

    /// Where to go on, if the state is that of the browser's sign-in and comes back for the first
    /// time.
    fn come_back(&self, token: &Token, state: &str, now: Duration) -> Option<String> {
        let mut parts = state.split('.');
        let until = Duration::from_secs(parts.next()?.parse().ok()?);
        let tag = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        let next = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        let next = String::from_utf8(next).ok()?;
        let signed = Self::signed(token, until, &next);
        hmac::verify(&self.flow_key, &signed, &tag).ok()?;
        let is_first = until > now && parts.next().is_none() && self.use_up(token, until, now);
        is_first.then_some(next)
    }

    fn use_up(&self, token: &Token, until: Duration, now: Duration) -> bool {
        let mut used = self.used.lock();
        used.retain(|_, end| *end > now);
        if used.len() >= USED_MAX {
            let first = used.iter().min_by_key(|(_, end)| **end);
            if let Some(first) = first.map(|(name, _)| *name) {
                used.remove(&first);
            }
        }
        used.insert(*token.derive("oidc/used"), until).is_none()
    }

    /// Where the browser goes to sign in.
    fn authorization(&self, endpoint: &str, token: &Token, state: &str) -> String {
        let flow = Flow { token };
        let mut query = Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.options.client_id)
            .append_pair("redirect_uri", &self.options.redirect_url)
            .append_pair("scope", &self.options.scopes.join(" "))
            .append_pair("state", state)
            .append_pair("nonce", &flow.derived("nonce"))
            .append_pair("code_challenge", &flow.challenge())
            .append_pair("code_challenge_method", "S256");
        with_query(endpoint, &query.finish())
    }
}

fn with_query(address: &str, query: &str) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}{query}")
}

/// Why it did not work, for the log.
#[derive(Debug, thiserror::Error)]
enum SignInError {
    #[error("what came back is not of this browser's sign-in, or came back before")]
    State,
    #[error("the provider says {0:?}")]
    Told(String),
    #[error("it came back from another issuer")]
    Mixed,
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("the ID token: {0}")]
    Token(#[from] id_token::IdTokenError),
    #[error("no rule gives this person a role, or it leads to no tenant")]
    Nobody,
}

impl SignInError {
    fn to_page(&self) -> PageError {
        let (status, message) = match self {
            Self::Provider(ProviderError::Refused(_)) | Self::State | Self::Mixed => (
                StatusCode::UNAUTHORIZED,
                "This sign-in is used up, too old, or was begun elsewhere. Try again.",
            ),
            Self::Provider(_) => (
                StatusCode::BAD_GATEWAY,
                "The identity provider does not answer as it should. Try again, or use a key.",
            ),
            Self::Nobody => (
                StatusCode::FORBIDDEN,
                "You are known to the identity provider, and have no role here. Ask an operator.",
            ),
            Self::Told(_) | Self::Token(_) => (
                StatusCode::UNAUTHORIZED,
                "The identity provider did not sign you in.",
            ),
        };
        PageError::Refused {
            status,
            message: message.to_owned(),
            details: Vec::new(),
        }
    }
}

/// Answers a step. Whoever has no provider has no such page.
pub(super) async fn answer(house: &House, step: Step, parts: Parts) -> Response {
    let transport = Transport::of(&parts.headers);
    let control = &house.control;
    let Some(oidc) = &control.dashboard.oidc else {
        let page = super::layout::refused(&PageError::NotFound, None);
        return answer::html(StatusCode::NOT_FOUND, page);
    };
    let Ok(_place) = control.gates.enter(Load::Small, PATIENCE).await else {
        let busy = PageError::wrong("too many sign in at one time: try again");
        return refused_sign_in(house, transport, &busy);
    };
    let query = Fields::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let done = match step {
        Step::Start => start(house, oidc, &query, transport).await,
        Step::Back => back(house, oidc, &query, parts, transport).await,
        Step::Out => out(house, oidc).await,
    };
    match done {
        Ok(response) => response,
        Err(error) => {
            let response = refused_sign_in(house, transport, &error);
            with_cookie(response, Cookie::Oidc.remove(transport))
        }
    }
}

fn logged(error: SignInError) -> PageError {
    tracing::warn!(%error, "a sign-in by the identity provider did not work");
    error.to_page()
}

async fn start(
    house: &House,
    oidc: &Oidc,
    query: &Fields,
    transport: Transport,
) -> Result<Response, PageError> {
    let control = &house.control;
    let now = control.clock.elapsed();
    let known = oidc.provider.known(&oidc.options, &*control.web, now, None);
    let known = known.await.map_err(|error| logged(error.into()))?;
    let token = Token::generate(control.publisher.mint().entropy);
    let next = query.get("next").filter(|next| is_ours(next));
    let state = oidc.state(&token, now + FLOW_LIFE, next.unwrap_or("/dashboard"));
    let to = oidc.authorization(&known.metadata.authorization_endpoint, &token, &state);
    Ok(with_cookie(
        redirect(&to),
        Cookie::Oidc.set(&token, transport),
    ))
}

async fn back(
    house: &House,
    oidc: &Oidc,
    query: &Fields,
    mut parts: Parts,
    transport: Transport,
) -> Result<Response, PageError> {
    let control = &house.control;
    let token = Cookie::Oidc.read(&parts.headers);
    let token = token.ok_or_else(|| logged(SignInError::State))?;
    let now = control.clock.elapsed();
    let state = query.get("state").unwrap_or_default();
    let next = oidc.come_back(&token, state, now);
    let next = next.ok_or_else(|| logged(SignInError::State))?;
    let vouched = believe(house, oidc, query, &token, now).await;
    let vouched = vouched.map_err(logged)?;
    let text = control.dashboard.vouching.seal(&vouched);
    let nobody = || logged(SignInError::Nobody);
    present(&mut parts, &text).ok_or_else(nobody)?;
    let snapshot = control.publisher.current();
    let visitor = recognise(control, &snapshot, &parts).ok_or_else(nobody)?;
    let session = admitted(house, &visitor, &text, &parts).await?;
    let response = with_cookie(redirect(&next), Cookie::Oidc.remove(transport));
    Ok(with_cookie(
        response,
        Cookie::Session.set(&session, transport),
    ))
}

/// Who it is, by the provider's word.
async fn believe(
    house: &House,
    oidc: &Oidc,
    query: &Fields,
    token: &Token,
    now: Duration,
) -> Result<Vouched, SignInError> {
    if let Some(error) = query.get("error") {
        let error = error.chars().take(100).filter(|it| !it.is_control());
        return Err(SignInError::Told(error.collect()));
    }
    // RFC 9207: of two providers, the one that was asked.
    if query
        .get("iss")
        .is_some_and(|iss| iss != oidc.options.issuer)
    {
        return Err(SignInError::Mixed);
    }
    let code = query.get("code").ok_or(SignInError::State)?;
    let (control, options) = (&house.control, &oidc.options);
    let web = &*control.web;
    let flow = Flow { token };
    let known = oidc.provider.known(options, web, now, None).await?;
    let verifier = Zeroizing::new(flow.derived("verifier"));
    let id_token = known.exchange(options, web, code, &verifier).await?;
    let key = id_token::key_id(&id_token);
    let known = oidc
        .provider
        .known(options, web, now, key.as_deref())
        .await?;
    let expected = Expected {
        issuer: &options.issuer,
        client_id: &options.client_id,
        nonce: &flow.derived("nonce"),
        now: control.clock.now(),
    };
    let claims = id_token::verify(&id_token, &known.keys, expected)?;
    let snapshot = control.publisher.current();
    let role = rules::role(&options.rules, &claims, &snapshot).ok_or(SignInError::Nobody)?;
    Ok(Vouched {
        name: rules::name(&claims).ok_or(SignInError::Nobody)?,
        role,
        until: control
            .clock
            .now()
            .plus(options.word_counts.min(SESSIONS.life)),
    })
}

/// To where the provider ends its own session, if it says where.
async fn out(house: &House, oidc: &Oidc) -> Result<Response, PageError> {
    let control = &house.control;
    let now = control.clock.elapsed();
    let known = oidc.provider.known(&oidc.options, &*control.web, now, None);
    let known = known.await.map_err(|error| logged(error.into()))?;
    let Some(endpoint) = known
        .metadata
        .end_session_endpoint
        .as_deref()
        .filter(|it| is_safe(it))
    else {
        return Ok(redirect("/dashboard/sign-in"));
    };
    let home = oidc.options.redirect_url.replace("/oidc/back", "/sign-in");
    let mut query = Serializer::new(String::new());
    query
        .append_pair("client_id", &oidc.options.client_id)
        .append_pair("post_logout_redirect_uri", &home);
    Ok(redirect(&with_query(endpoint, &query.finish())))
}

/// The key under which this process writes down whom it believes.
pub(super) fn vouching_key(entropy: &dyn Entropy) -> VouchingKey {
    VouchingKey::generate(entropy)
}
