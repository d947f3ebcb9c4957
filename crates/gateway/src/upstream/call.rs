//! One call of one upstream: a connection, a head sent and a head received. Whoever calls has
//! been through the upstream's gate.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Redacted, Timestamp};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::endpoints::{Caller, Chosen, Endpoint};
use super::google_accounts::Owner;
use super::google_token::{AnswerError, GoogleTokens, TokenError};
use super::http1::{
    AnswerHead, AnswerHeaders, Connection, ExchangeError, RequestHead, WireError, request_head,
};
use super::pool::ConnectError;
use super::{Authorization, Upstream, UpstreamBody};
use crate::resilience::CallEnd;
use crate::telemetry::TRACEPARENT;

/// One call, as it is to be sent.
#[derive(Debug)]
pub struct UpstreamCall {
    /// The path below the upstream's `base_url`, with its query.
    pub path: Cow<'static, str>,
    /// What the upstream's dialect wants in the head.
    pub headers: HeaderMap,
    /// The body.
    pub body: UpstreamBody,
    /// The tenant's own credential, where it is called with that.
    pub(crate) authorization: Option<Authorization>,
    /// The trace that it goes on with, where calls are traced.
    pub traceparent: Option<HeaderValue>,
    /// When it is sent: some signatures are good for minutes.
    pub at: Timestamp,
    /// How long the head of the answer may take.
    pub first_byte: Duration,
    /// Who calls, where there are replicas to choose from.
    pub(crate) caller: Option<Box<Caller>>,
}

/// An upstream's answer: its head, and its body as it arrives.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers, all of them: whoever passes them on lists what may go on.
    pub headers: AnswerHeaders,
    /// The body. Dropping it before its end closes the connection, which cancels the call.
    pub body: AnswerStream,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: there is no token to send it with.
    #[error("no token was had for the service account: {0}")]
    NoToken(#[source] TokenError),
    /// Nothing was sent: another upstream may be tried.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The call was sent, and what came back is no answer.
    #[error("the upstream did not answer as HTTP/1 asks for")]
    Broken(#[source] WireError),
    /// The call was sent, and no answer came in time.
    #[error("the upstream did not answer in time")]
    TimedOut,
}

impl CallError {
    /// Whether the upstream cannot have begun to work on the call.
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::NoToken(_) | Self::Connect(_))
    }
}

impl Upstream {
    /// Sends one call and waits for the head of the answer; says so by `on_send` just before it
    /// may reach the upstream.
    ///
    /// A kept connection that its peer closed in the meantime is replaced, once, if the call
    /// was not begun on it.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which cancels the call upstream.
    pub async fn call(
        self: &Arc<Self>,
        call: &mut UpstreamCall,
        on_send: impl FnOnce(),
    ) -> Result<UpstreamAnswer, CallError> {
        let bearer = self.exchange_account(call).await?;
        let answer = pin!(self.call_authorized(call, on_send)).await?;
        if let (Some((tokens, token)), StatusCode::UNAUTHORIZED) = (bearer, answer.status) {
            tokens.refused(&token);
        }
        Ok(answer)
    }

    /// Where the call goes with a service account: gets a token, and makes the call its bearer.
    async fn exchange_account(&self, call: &mut UpstreamCall) -> Result<Option<Bearer>, CallError> {
        let (authorization, owner) = match &call.authorization {
            Some(own) => (Some(own), Owner::Tenant),
            None => (self.authorization.as_ref(), Owner::Installation),
        };
        let Some(Authorization::Google(key_file)) = authorization else {
            return Ok(None);
        };
        let unusable = || CallError::NoToken(TokenError::Answer(AnswerError::Malformed));
        let tokens = self.google.tokens(key_file, owner);
        // It was read before, when it was set or by `check_own`.
        let tokens = tokens.map_err(|_| unusable())?;
        let token = Box::pin(tokens.token()).await.map_err(CallError::NoToken)?;
        let bearer = Authorization::bearer(token.expose()).ok_or_else(unusable)?;
        call.authorization = Some(bearer);
        Ok(Some((tokens, token)))
    }

    async fn call_authorized(
        self: &Arc<Self>,
        call: &UpstreamCall,
        on_send: impl FnOnce(),
    ) -> Result<UpstreamAnswer, CallError> {
        let mut on_send = Some(on_send);
        let mut tried: SmallVec<[u32; PLACES_TRIED_MAX]> = SmallVec::new();
        let mut failed = ConnectError::NoEndpoint;
        while tried.len() < PLACES_TRIED_MAX {
            let caller = call.caller.as_deref();
            let Some(chosen) = self.endpoints.choose(caller, &tried) else {
                break;
            };
            let answered = pin!(self.call_at(&chosen, call, &mut on_send)).await;
            match answered {
                Ok((head, connection)) => return Ok(answer(head, connection, chosen)),
                // Nobody works on it: another replica may.
                Err(CallError::Connect(error)) => {
                    chosen.was_unreachable(&*self.parts.clock);
                    tried.push(chosen.number());
                    failed = error;
                }
                Err(error) => {
                    chosen.ended(match error {
                        CallError::TimedOut => CallEnd::TimedOut,
                        _ => CallEnd::Broken,
                    });
                    return Err(error);
                }
            }
        }
        Err(failed.into())
    }

    /// The call at one place: on a kept connection, or on a fresh one if there is none or its peer
    /// closed it.
    async fn call_at(
        &self,
        chosen: &Chosen,
        call: &UpstreamCall,
        on_send: &mut Option<impl FnOnce()>,
    ) -> Result<(AnswerHead, Connection), CallError> {
        let endpoint = &*chosen.endpoint;
        let kept = match endpoint.pool.take() {
            Some(kept) => kept,
            None => Box::pin(self.connect(endpoint)).await?,
        };
        if let Some(on_send) = on_send.take() {
            on_send();
        }
        let answered = pin!(self.send(kept, call)).await;
        match answered {
            Ok(answered) => Ok(answered),
            Err(SendError::Failed(error)) => Err(error),
            Err(SendError::NeverSent) => {
                let fresh = Box::pin(self.connect(endpoint)).await?;
                match Box::pin(self.send(fresh, call)).await {
                    Ok(answered) => Ok(answered),
                    Err(SendError::Failed(error)) => Err(error),
                    Err(SendError::NeverSent) => Err(CallError::Connect(ConnectError::Refused(
                        std::io::ErrorKind::BrokenPipe.into(),
                    ))),
                }
            }
        }
    }

    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let connect = Duration::from_millis(self.spec.timeouts.connect_ms);
        let origin = endpoint.origin();
        endpoint.pool.connect(origin, self.reach(), connect).await
    }

    async fn send(
        &self,
        mut connection: Connection,
        call: &UpstreamCall,
    ) -> Result<(AnswerHead, Connection), SendError> {
        let exchange = connection.exchange_written(self.head(call), &call.body);
        match tokio::time::timeout(call.first_byte, exchange).await {
            Ok(Ok(head)) => Ok((head, connection)),
            Ok(Err(ExchangeError::NeverSent)) => Err(SendError::NeverSent),
            Ok(Err(ExchangeError::Broken(error))) => {
                Err(SendError::Failed(CallError::Broken(error)))
            }
            Err(_) => Err(SendError::Failed(CallError::TimedOut)),
        }
    }

    /// Built from nothing: no header of the client's reaches an upstream.
    fn head(&self, call: &UpstreamCall) -> Bytes {
        let authorization = call.authorization.as_ref().or(self.authorization.as_ref());
        if let Some(authorization) = authorization
            && authorization.signs_the_request()
        {
            let mut request = self.request(call);
            authorization.put_into(&mut request, &call.body, call.at);
            return request_head(&request);
        }
        let length = call.body.length();
        let method = if length == 0 {
            Method::GET
        } else {
            Method::POST
        };
        let mut head = RequestHead::begin(&method, self.target(&call.path));
        head.add(&HOST, &self.origin.authority);
        head.add_lines(OUR_LINES);
        for (name, value) in &call.headers {
            head.add(name, value);
        }
        if let Some(traceparent) = &call.traceparent {
            head.add(&TRACEPARENT, traceparent);
        }
        if length > 0 {
            head.add_lines(JSON_LINE);
            head.add_length(length);
        }
        if let Some(Authorization::Header(name, value)) = authorization {
            head.add(name, value);
        }
        head.finish()
    }

    /// The same in parts, for who signs it.
    fn request(&self, call: &UpstreamCall) -> Request<()> {
        let length = call.body.length();
        let mut request = Request::new(());
        *request.uri_mut() = self.path(&call.path).into();
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(call.headers.clone());
        if let Some(traceparent) = &call.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        if length > 0 {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            *request.method_mut() = Method::POST;
        }
        request
    }
}

fn answer(head: AnswerHead, connection: Connection, chosen: Chosen) -> UpstreamAnswer {
    chosen.answered(head.status);
    let mut body = AnswerStream(Some(Lease { chosen, connection }));
    body.return_if_ended();
    UpstreamAnswer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// What every call's head has.
const OUR_LINES: &str = concat!(
    "user-agent: partywall/",
    env!("CARGO_PKG_VERSION"),
    "\r\naccept: */*\r\n"
);
const JSON_LINE: &str = "content-type: application/json\r\n";

/// 3: a replica that is gone, and another that goes at the same time. Each may take as long as
/// connecting may.
const PLACES_TRIED_MAX: usize = 3;

/// What upstreams see of us.
pub(super) const OUR_NAME: &str = concat!("partywall/", env!("CARGO_PKG_VERSION"));

/// A token, and where it came from.
type Bearer = (Arc<GoogleTokens>, Redacted<Zeroizing<String>>);

enum SendError {
    NeverSent,
    Failed(CallError),
}

/// A connection, lent to one call.
struct Lease {
    chosen: Chosen,
    connection: Connection,
}

/// The body of an answer. At its end the connection goes back to the pool; dropped before, the
/// connection is closed.
pub struct AnswerStream(Option<Lease>);

impl AnswerStream {
    fn return_if_ended(&mut self) {
        let has_ended = |lease: &mut Lease| lease.connection.has_ended();
        if let Some(lease) = self.0.take_if(has_ended) {
            lease.chosen.endpoint.pool.put_back(lease.connection);
        }
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = WireError;

    /// All that one read brought, out of its chunks: at most 64 KiB.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        let Some(lease) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = lease.connection.poll_body(context);
        if polled.is_ready() {
            if let Poll::Ready(Some(Err(_))) = &polled {
                lease.chosen.ended(CallEnd::Broken);
            }
            self.return_if_ended();
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self
            .0
            .as_ref()
            .map(|lease| lease.connection.remaining_min());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.unwrap_or(0));
        hint
    }
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerStream")
    }
}
