//! A request out, and the head of its answer in.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use base::Stream;
use bytes::Bytes;
use http::{Request, StatusCode};
use tokio::io::AsyncWrite as _;

use super::head::{self, Parsed};
use super::{AnswerHead, Connection, WireError, request};
use crate::upstream::UpstreamBody;

/// 16 slices a write: a head, and a body that was rebuilt in a few places.
const SLICES_MAX: usize = 16;
/// Answers of `100` and `103` before the real one; more is somebody's joke.
const INTERIM_MAX: usize = 8;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Not a byte of the request went out, so another connection may be tried.
    #[error("the connection had been closed")]
    NeverSent,
    /// Whether the peer has begun to work on it is not known.
    #[error(transparent)]
    Broken(WireError),
}

impl Connection {
    /// Sends a request and waits for the head of its answer; the body is then to be polled.
    ///
    /// # Cancel safety
    ///
    /// None: a connection whose exchange was dropped is to be dropped too.
    pub(in super::super) async fn exchange(
        &mut self,
        request: &Request<()>,
        body: &UpstreamBody,
    ) -> Result<AnswerHead, ExchangeError> {
        self.exchange_written(request::head(request), body).await
    }

    /// The same, with a head that is written already.
    pub(in super::super) async fn exchange_written(
        &mut self,
        head: Bytes,
        body: &UpstreamBody,
    ) -> Result<AnswerHead, ExchangeError> {
        let mut outgoing = Outgoing::new(head, body);
        let mut incoming = Incoming::default();
        let answered =
            poll_fn(|context| self.poll_exchange(&mut outgoing, &mut incoming, context)).await;
        match answered {
            Ok(parsed) => {
                self.body = parsed.body;
                self.is_kept_alive = parsed.is_kept_alive && outgoing.state == Sending::Sent;
                Ok(parsed.head)
            }
            Err(WireError::Io(_) | WireError::Closed) if !outgoing.has_begun => {
                Err(ExchangeError::NeverSent)
            }
            Err(error) => Err(ExchangeError::Broken(error)),
        }
    }

    fn poll_exchange(
        &mut self,
        outgoing: &mut Outgoing<'_>,
        incoming: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Result<Parsed, WireError>> {
        let is_sending = match outgoing.poll_send(&mut self.stream, context) {
            Poll::Ready(Err(error)) if !outgoing.has_begun => {
                return Poll::Ready(Err(error.into()));
            }
            // A peer that refuses a body may say why before it closes.
            Poll::Ready(Err(_)) => {
                outgoing.give_up();
                false
            }
            Poll::Ready(Ok(())) => false,
            Poll::Pending => true,
        };
        loop {
            if let Some(parsed) = incoming.take(self)? {
                // One that accepts a call before it has read it all reads on.
                if is_sending && parsed.head.status.is_success() {
                    incoming.early = Some(parsed);
                    return Poll::Pending;
                }
                return Poll::Ready(Ok(parsed));
            }
            if std::task::ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
        }
    }
}

/// What is still to be written.
struct Outgoing<'a> {
    head: Bytes,
    body: &'a [Bytes],
    /// Bytes of the first of them that went out already.
    written: usize,
    has_begun: bool,
    state: Sending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    UnderWay,
    Sent,
    GivenUp,
}

impl<'a> Outgoing<'a> {
    fn new(head: Bytes, body: &'a UpstreamBody) -> Self {
        Self {
            head,
            body: body.pieces(),
            written: 0,
            has_begun: false,
            state: Sending::UnderWay,
        }
    }

    /// What goes out next, of so many slices at most.
    fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>; SLICES_MAX]) -> usize {
        let head = (!self.head.is_empty()).then_some(&*self.head);
        let body = self.body.iter().map(AsRef::as_ref);
        let mut pieces = head.into_iter().chain(body).take(SLICES_MAX);
        let mut count = 0;
        if let Some(first) = pieces.next() {
            slices[0] = IoSlice::new(&first[self.written..]);
            count = 1;
        }
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Sends no more.
    fn give_up(&mut self) {
        self.state = Sending::GivenUp;
    }

    fn poll_send(
        &mut self,
        stream: &mut Box<dyn Stream>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state != Sending::UnderWay {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.slices(&mut slices);
            if count == 0 {
                break;
            }
            let writing = Pin::new(&mut *stream).poll_write_vectored(context, &slices[..count]);
            match std::task::ready!(writing)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        std::task::ready!(Pin::new(stream).poll_flush(context))?;
        self.state = Sending::Sent;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.has_begun = true;
        self.written += written;
        if !self.head.is_empty() {
            if self.written < self.head.len() {
                return;
            }
            self.written -= self.head.len();
            self.head = Bytes::new();
        }
        while let Some((piece, rest)) = self.body.split_first()
            && self.written >= piece.len()
        {
            self.written -= piece.len();
            self.body = rest;
        }
    }
}

/// What was looked at of the answer.
#[derive(Default)]
struct Incoming {
    searched: usize,
    interim: usize,
    /// It came while the request was still being sent.
    early: Option<Parsed>,
}

impl Incoming {
    /// The answer's head, once it has come. Interim answers are passed over.
    fn take(&mut self, connection: &mut Connection) -> Result<Option<Parsed>, WireError> {
        if let Some(early) = self.early.take() {
            return Ok(Some(early));
        }
        while let Some(parsed) = head::take(&mut connection.received, &mut self.searched)? {
            if !parsed.head.status.is_informational() {
                return Ok(Some(parsed));
            }
            self.interim += 1;
            if parsed.head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(WireError::BadHead("it switches to a protocol of its own"));
            }
            if self.interim > INTERIM_MAX {
                return Err(WireError::TooLong);
            }
        }
        Ok(None)
    }
}
