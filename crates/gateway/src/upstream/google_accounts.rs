//! The service accounts that one upstream on Vertex is called with, the installation's and
//! tenants' own, and how their assertions reach Google.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base::Redacted;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::call::OUR_NAME;
use super::google_token::{
    CLOUD_PLATFORM_SCOPE, ExchangeAnswer, ExchangeError, ExchangeFuture, GoogleTokens,
    ServiceAccount, ServiceAccountError, TokenExchange, TokenRequest,
};
use super::pool::Pool;
use super::{Origin, Reach, UpstreamBody, UpstreamParts};

/// 10 s for an exchange: Google answers within one.
const PATIENCE: Duration = Duration::from_secs(10);
/// 16 KiB: a token has 1 KB.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Accounts whose tokens an upstream keeps. Beyond it all are forgotten, and asked for anew.
const ACCOUNTS_MAX: usize = 1_024;
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A service account's key file. Its `Debug` shows nothing.
pub(crate) type KeyFile = Redacted<Zeroizing<String>>;

/// Whose key file it is: a tenant's may lead to no address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The operator's, who vouches for the address where the upstream allows private ones.
    Installation,
    /// A tenant's.
    Tenant,
}

/// The tokens of one upstream's accounts.
pub(super) struct GoogleAccounts {
    parts: UpstreamParts,
    /// Where the installation's own account may be exchanged.
    reach: Reach,
    /// By the digest of the key file.
    tokens: Mutex<Kept>,
}

type Kept = HashMap<(Owner, [u8; 32]), Arc<GoogleTokens>>;

impl GoogleAccounts {
    pub(super) fn new(parts: UpstreamParts, reach: Reach) -> Self {
        Self {
            parts,
            reach,
            tokens: Mutex::default(),
        }
    }

    /// The tokens of an account, which are asked for once however many calls need one.
    ///
    /// # Errors
    ///
    /// [`ServiceAccountError`].
    pub(super) fn tokens(
        &self,
        key_file: &KeyFile,
        owner: Owner,
    ) -> Result<Arc<GoogleTokens>, ServiceAccountError> {
        let text = key_file.expose().as_str();
        let hash = digest(&SHA256, text.as_bytes());
        let hash = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(kept) = self.tokens.lock().get(&(owner, hash)) {
            return Ok(Arc::clone(kept));
        }
        let reach = match owner {
            Owner::Installation => self.reach,
            Owner::Tenant => Reach::Public,
        };
        let account = ServiceAccount::read(text, reach)?;
        let exchange = Arc::new(GoogleExchange {
            parts: self.parts.clone(),
            reach,
        });
        let clock = Arc::clone(&self.parts.clock);
        let made = GoogleTokens::new(account, CLOUD_PLATFORM_SCOPE, clock, exchange);
        let mut tokens = self.tokens.lock();
        if tokens.len() >= ACCOUNTS_MAX {
            tokens.clear();
        }
        let made = tokens
            .entry((owner, hash))
            .or_insert_with(|| Arc::new(made));
        Ok(Arc::clone(made))
    }
}

impl fmt::Debug for GoogleAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoogleAccounts({} kept)", self.tokens.lock().len())
    }
}

/// One POST on a connection of its own: once an hour.
#[derive(Debug)]
struct GoogleExchange {
    parts: UpstreamParts,
    reach: Reach,
}

impl TokenExchange for GoogleExchange {
    fn exchange<'a>(&'a self, request: &'a TokenRequest) -> ExchangeFuture<'a> {
        Box::pin(async move {
            let late = || ExchangeError("it took longer than 10 seconds".to_owned());
            tokio::time::timeout(PATIENCE, self.post(request))
                .await
                .unwrap_or_else(|_| Err(late()))
        })
    }
}

impl GoogleExchange {
    async fn post(&self, token: &TokenRequest) -> Result<ExchangeAnswer, ExchangeError> {
        let failed = |what: &dyn fmt::Display| ExchangeError(what.to_string());
        let bad_address = || ExchangeError("its address cannot be used".to_owned());
        let origin = Origin::parse(&token.uri).ok_or_else(bad_address)?;
        let url = url::Url::parse(&token.uri).map_err(|_| bad_address())?;
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let text = token.body.expose().as_bytes();
        let body = UpstreamBody::of([Bytes::copy_from_slice(text)]);
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.parse().map_err(|_| bad_address())?;
        let headers = request.headers_mut();
        headers.insert(HOST, origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, FORM);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
        let pool = Pool::new(self.parts.clone(), 0);
        let connecting = pool.connect(&origin, self.reach, PATIENCE);
        let mut connection = connecting.await.map_err(|error| failed(&error))?;
        let head = connection.exchange(&request, &body).await;
        let head = head.map_err(|error| failed(&error))?;
        let body = connection.whole_body(ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| failed(&error))?;
        Ok(ExchangeAnswer {
            status: head.status.as_u16(),
            body: Redacted::new(Zeroizing::new(body.to_vec())),
        })
    }
}
