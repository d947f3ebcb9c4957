//! Places that serve models: how to reach them, kept connections, and one call.

mod ask;
mod authorization;
mod body;
mod call;
mod collector;
mod deliver;
mod egress;
mod endpoints;
mod fetch;
mod gate;
mod google_accounts;
pub mod google_token;
mod http1;
mod mail;
mod pool;
mod postman;
pub mod sigv4;
mod visit;

use std::sync::Arc;

use base::{Clock, Name, Network, Supervisor};
use http::HeaderValue;
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use tenancy::catalogue::{AdaptiveConcurrency, Salting, SecretRef, UpstreamSpec};

pub(crate) use authorization::{Authorization, NotACredential};
pub use body::UpstreamBody;
pub use call::{AnswerStream, CallError, UpstreamAnswer, UpstreamCall};
pub(crate) use collector::{Collector, CollectorError, Posted};
pub use collector::{CollectorEndpoint, CollectorHeader, CollectorSetupError};
pub(crate) use deliver::ask;
pub use deliver::{Delivery, DeliveryError, Signature, deliver};
pub use egress::{EgressError, Reach, permitted_addresses};
pub(crate) use endpoints::{Beginnings, Caller};
pub use endpoints::{EndpointState, EndpointView};

pub use fetch::Fetch;
pub use http1::AnswerHeaders;

pub(crate) use gate::{Gate, GateView, band_of, terms_of};
pub use mail::{MailError, MailSecurity, MailServer, Message, tls_with_authorities};
pub use postman::{NoMail, Postman};

pub(crate) use pool::ConnectError;
pub(crate) use visit::{AtGate, NoVisit, Visit, Visitor};

use endpoints::Endpoints;
use google_accounts::{GoogleAccounts, Owner};

use crate::adapters::AdapterShelf;
use crate::speech::BESIDE_ITS_VERSION;

/// One upstream, ready to be called: parsed address, credential and kept connections.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the catalogue.
    pub name: Name,
    /// What the catalogue says of it.
    pub spec: UpstreamSpec,
    /// Whose prices apply.
    pub provider: Name,
    origin: Origin,
    authorization: Option<Authorization>,
    google: GoogleAccounts,
    /// Who may call it, and who goes next.
    pub(crate) gate: Arc<Gate>,
    endpoints: Endpoints,
    parts: UpstreamParts,
    /// Tenants' adapters in its slots, if it loads any.
    pub(crate) adapters: Option<Arc<AdapterShelf>>,
}

/// The parsed `base_url`.
#[derive(Debug, Clone)]
struct Origin {
    host: String,
    port: u16,
    /// For the `host` header: with the port where it is not the scheme's own.
    authority: HeaderValue,
    /// What precedes `/chat/completions`; without a slash at the end.
    path: String,
    tls: Option<ServerName<'static>>,
}

/// What an upstream needs of the process.
#[derive(Debug, Clone)]
pub struct UpstreamParts {
    /// Names and connections.
    pub network: Arc<dyn Network>,
    /// For deadlines and idle connections.
    pub clock: Arc<dyn Clock>,
    /// Owns the connections' tasks.
    pub supervisor: Supervisor,
    /// How to encrypt.
    pub tls: Arc<rustls::ClientConfig>,
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The address cannot be used.
    #[error("`base_url` is not an http or https address")]
    BadAddress,
    /// The credential cannot be read. The message names the reference, never the value.
    #[error("the credential {0} cannot be read: {1}")]
    Credential(SecretRef, &'static str),
    /// The credential cannot be sent. The message names the reference, never the value.
    #[error("the credential {0} cannot be sent: {1}")]
    Unsendable(SecretRef, #[source] NotACredential),
}

impl Upstream {
    /// Parses the address and reads the credential. What is known of `previous`, the same
    /// upstream by an earlier version of the catalogue, is kept as far as it holds for this one.
    ///
    /// # Errors
    ///
    /// [`UpstreamError`].
    pub fn new(
        name: Name,
        spec: UpstreamSpec,
        parts: &UpstreamParts,
        previous: Option<&Self>,
    ) -> Result<Self, UpstreamError> {
        let origin = spec
            .address()
            .and_then(Origin::parse)
            .ok_or(UpstreamError::BadAddress)?;
        let authorization = own_authorization(&spec)?;
        let google = GoogleAccounts::new(parts.clone(), reach_of(&spec));
        if let (Some(own), Some(reference)) = (&authorization, &spec.credential) {
            check_account(&google, own, Owner::Installation)
                .map_err(|error| UpstreamError::Unsendable(reference.clone(), error))?;
        }
        let previous = previous.filter(|it| it.is_same_place(&spec));
        let same_account = |it: &&Self| it.is_same_account(&spec, authorization.as_ref());
        let gate = match previous.filter(same_account) {
            Some(previous) => Arc::clone(&previous.gate),
            None => Gate::new(&spec, Arc::clone(&parts.clock)),
        };
        let before = previous.map(|previous| &previous.endpoints);
        let is_kept = previous.is_some_and(|previous| {
            previous.spec.endpoints == spec.endpoints
                && previous.spec.concurrency_max == spec.concurrency_max
                && previous.spec.engine_metrics == spec.engine_metrics
        });
        let endpoints = match before.filter(|_| is_kept) {
            Some(endpoints) => endpoints.clone(),
            None => Endpoints::new(&spec, &origin, parts, before),
        };
        let kept = previous.filter(|previous| previous.spec.adapters == spec.adapters);
        let adapters = spec.adapters.as_ref().map(|adapters| {
            let kept = kept.and_then(|previous| previous.adapters.clone());
            kept.unwrap_or_else(|| {
                let clock = Arc::clone(&parts.clock);
                AdapterShelf::new(adapters, clock, parts.supervisor.clone())
            })
        });
        let provider = spec.provider().parse().expect("an engine's name is a name");
        Ok(Self {
            name,
            spec,
            provider,
            origin,
            authorization,
            google,
            gate,
            endpoints,
            parts: parts.clone(),
            adapters,
        })
    }

    /// Whether connections to this one are as good for `spec`.
    fn is_same_place(&self, spec: &UpstreamSpec) -> bool {
        self.spec.address() == spec.address()
            && self.spec.allow_private_address == spec.allow_private_address
            && self.spec.endpoints.is_some() == spec.endpoints.is_some()
    }

    /// Whether what calls have taught of this one says something of `spec`: the same engine, by
    /// the same credential, whoever decides how many calls there are.
    fn is_same_account(&self, spec: &UpstreamSpec, own: Option<&Authorization>) -> bool {
        let is_same_limit = self.spec.adaptive_concurrency == spec.adaptive_concurrency
            && (spec.adaptive_concurrency == AdaptiveConcurrency::Off
                || self.spec.concurrency_max == spec.concurrency_max);
        is_same_limit
            && self.spec.breaker == spec.breaker
            && self.spec.engine == spec.engine
            && self.spec.credential_of == spec.credential_of
            && self.authorization.as_ref() == own
    }

    /// Says how many calls there may be at one time, where that is not found out.
    pub(crate) fn set_places(&self) {
        if self.spec.adaptive_concurrency == AdaptiveConcurrency::Off {
            let places = self.endpoints.places(self.spec.concurrency_max);
            self.gate.set_places(places);
        }
    }

    /// Whether there are several places for a call.
    pub(crate) fn has_replicas(&self) -> bool {
        matches!(self.endpoints, Endpoints::Many(_))
    }

    /// Whether this upstream would be set up from `spec` in the same way, credential included,
    /// so that a new version of the catalogue may keep it and its connections.
    pub fn is_same(&self, spec: &UpstreamSpec) -> bool {
        self.spec == *spec && own_authorization(spec).is_ok_and(|own| own == self.authorization)
    }

    /// The field in which each call has to carry the tenant's derived salt, if it has to.
    pub fn salt_field(&self) -> Option<&'static str> {
        let field = self.spec.engine.salt_field();
        field.filter(|_| self.spec.salting == Salting::Derived)
    }

    /// Closes kept connections that are too old or were closed by the upstream.
    pub fn sweep_idle(&self) {
        let all = self.endpoints.all();
        all.iter().for_each(|endpoint| endpoint.pool.sweep());
    }

    /// Closes the kept connections: nobody will ask for them again.
    pub fn close_idle(&self) {
        let all = self.endpoints.all();
        all.iter().for_each(|endpoint| endpoint.pool.clear());
    }

    /// Where it may be.
    fn reach(&self) -> Reach {
        reach_of(&self.spec)
    }

    /// Whether calls can go with this credential of a tenant's.
    ///
    /// # Errors
    ///
    /// Why they cannot.
    pub(crate) fn check_own(&self, own: &Authorization) -> Result<(), NotACredential> {
        check_account(&self.google, own, Owner::Tenant)
    }

    /// The path of a call in two parts: `/v1` and `/chat/completions`.
    fn target<'a>(&'a self, below: &'a str) -> [&'a str; 2] {
        let base = &*self.origin.path;
        let base = match below {
            BESIDE_ITS_VERSION => base.strip_suffix("/v1").unwrap_or(base),
            _ => base,
        };
        [base, below]
    }

    /// The path of a call.
    fn path(&self, below: &str) -> PathAndQuery {
        let path = self.target(below).concat();
        path.try_into()
            .expect("a parsed URL's path and an escaped one below it are a path")
    }
}

fn reach_of(spec: &UpstreamSpec) -> Reach {
    if spec.allow_private_address {
        Reach::Anywhere
    } else {
        Reach::Public
    }
}

/// A service account's key file is read, and kept, before the first call needs it.
fn check_account(
    google: &GoogleAccounts,
    authorization: &Authorization,
    owner: Owner,
) -> Result<(), NotACredential> {
    let Authorization::Google(key_file) = authorization else {
        return Ok(());
    };
    match google.tokens(key_file, owner) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a service account cannot be used");
            Err(NotACredential::NotAServiceAccount)
        }
    }
}

impl Origin {
    fn parse(base_url: &str) -> Option<Self> {
        let url = url::Url::parse(base_url).ok()?;
        let host = url.host_str()?.to_owned();
        let port = url.port_or_known_default()?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let tls = match url.scheme() {
            "https" => {
                let bare = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                Some(ServerName::try_from(bare).ok()?)
            }
            "http" => None,
            _ => return None,
        };
        let path = url.path().trim_end_matches('/').to_owned();
        Some(Self {
            host,
            port,
            authority: HeaderValue::from_str(&authority).ok()?,
            path,
            tls,
        })
    }
}

/// 16 KiB: far above any provider's credential.
const CREDENTIAL_BYTES_MAX: usize = 16 << 10;

/// The installation's credential, as the engine takes it.
fn own_authorization(spec: &UpstreamSpec) -> Result<Option<Authorization>, UpstreamError> {
    let Some(reference) = &spec.credential else {
        return Ok(None);
    };
    let refused = |why| UpstreamError::Credential(reference.clone(), why);
    let secret = read_secret(reference).map_err(refused)?;
    let authorization = Authorization::of(spec, &secret)
        .map_err(|error| UpstreamError::Unsendable(reference.clone(), error))?;
    Ok(Some(authorization))
}

/// The text that a reference leads to, without white space around it; or why there is none.
fn read_secret(reference: &SecretRef) -> Result<String, &'static str> {
    let value = match reference {
        SecretRef::Env(name) => std::env::var(name).map_err(|_| "it is not set")?,
        SecretRef::File(path) => {
            std::fs::read_to_string(path).map_err(|_| "the file cannot be read")?
        }
    };
    let value = value.trim();
    if value.is_empty() || value.len() > CREDENTIAL_BYTES_MAX {
        return Err("it is empty or too long");
    }
    Ok(value.to_owned())
}
