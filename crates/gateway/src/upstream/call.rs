//! One call of one upstream: a permit, a connection, a head sent and a head received.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::pool::{ConnectError, Connection};
use super::{Upstream, UpstreamBody};
use crate::telemetry::TRACEPARENT;

/// One call, as it is to be sent.
#[derive(Debug)]
pub struct UpstreamCall {
    /// The path below the upstream's `base_url`.
    pub operation: &'static str,
    /// The body.
    pub body: UpstreamBody,
    /// The trace that it goes on with, where calls are traced.
    pub traceparent: Option<HeaderValue>,
    /// How long it may wait for one of the upstream's places.
    pub patience: Duration,
    /// How long the head of the answer may take.
    pub first_byte: Duration,
}

/// An upstream's answer: its head, and its body as it arrives.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers, all of them: whoever passes them on lists what may go on.
    pub headers: HeaderMap,
    /// The body. Dropping it before its end closes the connection, which cancels the call.
    pub body: AnswerStream,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// As many calls are under way as the upstream may have.
    #[error("the upstream has no free place")]
    Busy,
    /// Nothing was sent: another upstream may be tried.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The call was sent, and the connection ended before an answer came.
    #[error("the upstream closed the connection before it answered")]
    Broken(#[source] hyper::Error),
    /// The call was sent, and no answer came in time.
    #[error("the upstream did not answer in time")]
    TimedOut,
}

impl CallError {
    /// Whether the upstream cannot have begun to work on the call.
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::Busy | Self::Connect(_))
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
        call: UpstreamCall,
        on_send: impl FnOnce(),
    ) -> Result<UpstreamAnswer, CallError> {
        let permit = self.place(call.patience).await?;
        let kept = match self.pool.take() {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        on_send();
        match self.send(kept, &call).await {
            Ok((answer, connection)) => Ok(self.answer(answer, connection, permit)),
            Err(SendError::Failed(error)) => Err(error),
            Err(SendError::NeverSent) => {
                let fresh = self.connect().await?;
                match self.send(fresh, &call).await {
                    Ok((answer, connection)) => Ok(self.answer(answer, connection, permit)),
                    Err(SendError::Failed(error)) => Err(error),
                    Err(SendError::NeverSent) => Err(CallError::Connect(ConnectError::Refused(
                        std::io::ErrorKind::BrokenPipe.into(),
                    ))),
                }
            }
        }
    }

    /// One of the upstream's places, first come, first served.
    async fn place(&self, patience: Duration) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(CallError::Busy),
        }
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let connect = Duration::from_millis(self.spec.timeouts.connect_ms);
        self.pool.connect(&self.origin, self.reach(), connect).await
    }

    async fn send(
        &self,
        mut connection: Connection,
        call: &UpstreamCall,
    ) -> Result<(http::Response<Incoming>, Connection), SendError> {
        let request = self.request(call);
        let sending = async {
            // A connection that just came back may still be finishing its last call.
            if connection.sender.ready().await.is_err() {
                return None;
            }
            Some(connection.sender.try_send_request(request).await)
        };
        match tokio::time::timeout(call.first_byte, sending).await {
            Ok(None) => Err(SendError::NeverSent),
            Err(_) => Err(SendError::Failed(CallError::TimedOut)),
            Ok(Some(Ok(answer))) => Ok((answer, connection)),
            // hyper gives the request back if it wrote nothing of it.
            Ok(Some(Err(mut failed))) => Err(match failed.take_message() {
                Some(_) => SendError::NeverSent,
                None => SendError::Failed(CallError::Broken(failed.into_error())),
            }),
        }
    }

    /// Built from nothing: no header of the client's reaches an upstream.
    fn request(&self, call: &UpstreamCall) -> Request<UpstreamBody> {
        let body = call.body.clone();
        let is_get = body.is_end_stream();
        let length = body.size_hint().exact().unwrap_or(0);
        let mut request = Request::new(body);
        *request.uri_mut() = self.path(call.operation).into();
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(credential) = &self.authorization {
            headers.insert(AUTHORIZATION, credential.clone());
        }
        if let Some(traceparent) = &call.traceparent {
            headers.insert(TRACEPARENT, traceparent.clone());
        }
        if !is_get {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            *request.method_mut() = Method::POST;
        }
        request
    }

    fn answer(
        self: &Arc<Self>,
        answer: http::Response<Incoming>,
        connection: Connection,
        permit: OwnedSemaphorePermit,
    ) -> UpstreamAnswer {
        let (head, incoming) = answer.into_parts();
        let lease = Lease {
            upstream: Arc::clone(self),
            connection,
            _permit: permit,
        };
        let mut body = AnswerStream {
            incoming,
            lease: Some(lease),
        };
        body.release_if_ended();
        UpstreamAnswer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }
}

/// What upstreams see of us.
pub(super) const OUR_NAME: &str = concat!("partywall/", env!("CARGO_PKG_VERSION"));

enum SendError {
    NeverSent,
    Failed(CallError),
}

/// A connection and a place, lent to one call.
struct Lease {
    upstream: Arc<Upstream>,
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

/// The body of an answer. At its end the connection goes back to the pool; dropped before, the
/// connection is closed.
pub struct AnswerStream {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl AnswerStream {
    fn release_if_ended(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(Lease {
                upstream,
                connection,
                ..
            }) = self.lease.take()
        {
            upstream.pool.put_back(connection);
        }
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.release_if_ended(),
            Poll::Ready(None) => {
                if let Some(Lease {
                    upstream,
                    connection,
                    ..
                }) = self.lease.take()
                {
                    upstream.pool.put_back(connection);
                }
            }
            Poll::Ready(Some(Err(_))) => drop(self.lease.take()),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerStream")
    }
}
