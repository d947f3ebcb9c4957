//! Stage 1, authenticate: a credential is verified against the directory's snapshot.

use base::TenantId;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};
use models::Operation;
use tenancy::{AuthError, Authority, PresentedCredential, Principal};

use super::arrive::{Arrived, ArrivedCall};
use crate::refusal::Refusal;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request whose caller is known.
pub(super) struct Authenticated<Target> {
    pub(super) arrived: Box<Arrived>,
    pub(super) target: Target,
    principal: Principal,
}

impl<Target> Authenticated<Target> {
    /// Whose credential it is.
    pub(super) fn tenant(&self) -> TenantId {
        self.principal.tenant().id()
    }

    /// Gives up the parts; the principal goes to the next stage alone.
    pub(super) fn into_parts(self) -> (Box<Arrived>, Target, Principal) {
        (self.arrived, self.target, self.principal)
    }
}

impl ArrivedCall {
    /// Verifies who calls.
    pub(super) fn authenticate(self) -> Result<Authenticated<Operation>, Refusal> {
        let principal = self.arrived.verify()?;
        Ok(Authenticated {
            arrived: self.arrived,
            target: self.operation,
            principal,
        })
    }
}

impl Arrived {
    /// Verifies who asks for something that is no call of a model.
    pub(super) fn authenticate(self: Box<Self>) -> Result<Authenticated<()>, Refusal> {
        let principal = self.verify()?;
        Ok(Authenticated {
            arrived: self,
            target: (),
            principal,
        })
    }

    /// Verifies the credential in the headers.
    pub(super) fn verify(&self) -> Result<Principal, Refusal> {
        let headers = &self.head.headers;
        let presented = PresentedCredential::from_headers(
            sole(headers, &AUTHORIZATION)?.map(HeaderValue::as_bytes),
            sole(headers, &X_API_KEY)?.map(HeaderValue::as_bytes),
        );
        verify(
            self,
            presented.map(|presented| presented.on_connection(&self.connection.key)),
        )
    }
}

/// Verifies what was presented, in the headers or in a form.
pub(super) fn verify(
    arrived: &Arrived,
    presented: Result<PresentedCredential<'_>, AuthError>,
) -> Result<Principal, Refusal> {
    let token_keys = arrived.shared.token_keys.load();
    let authority = Authority {
        snapshot: &arrived.configuration.snapshot,
        hasher: &arrived.shared.key_hasher,
        tokens: &token_keys,
    };
    presented
        .and_then(|presented| {
            authority.authenticate(&presented, arrived.connection.peer, arrived.at)
        })
        .map_err(|error| refusal(&error))
}

/// The one value of a header. Two are refused: which of them counts is nothing to guess about.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::Unauthenticated("a credential is sent once")),
    }
}

/// One answer for all but what a caller can do something about; the reason is for the log.
fn refusal(error: &AuthError) -> Refusal {
    tracing::debug!(%error, "a credential was refused");
    Refusal::Unauthenticated(match error {
        AuthError::Missing => "no API key was sent; send it as `Authorization: Bearer pw_…`",
        AuthError::Expired => "the credential has expired",
        // OpenAI's own words: clients tell by them what the 401 is for.
        _ => "Incorrect API key provided",
    })
}
