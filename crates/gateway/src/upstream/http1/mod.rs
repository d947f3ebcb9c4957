//! HTTP/1.1 towards upstreams, as far as a gateway needs it: one request at a time, its answer
//! pulled by whoever waits for it.
//!
//! hyper's client gives each connection a task of its own and hands a stream over chunk by chunk,
//! which costs two wake-ups and, with the server's own habits, one write a chunk. Here the
//! request's own task reads: what one read brought is taken out of its chunks and given on as one
//! piece. Nothing is read ahead of who asks, so a slow client slows its upstream down.

mod chunked;
mod exchange;
mod head;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use base::Stream;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};

use chunked::Chunks;

pub(super) use exchange::ExchangeError;
pub(super) use head::AnswerHead;
pub use head::AnswerHeaders;
pub(super) use request::{RequestHead, head as request_head};

/// 8 KiB: an answer's head, or some thirty chunks of a stream.
const READ_BYTES_MIN: usize = 8 << 10;
/// 64 KiB: the most that is read ahead of a client. A read that fills its buffer doubles the next.
const READ_BYTES_MAX: usize = 64 << 10;

/// A connection that serves one call at a time. Dropping it closes it, whatever is under way.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// What was read and not yet given on.
    received: BytesMut,
    read_bytes: usize,
    body: Body,
    /// Whether both sides would go on after this answer.
    is_kept_alive: bool,
}

/// How far the answer's body is, by its framing (RFC 9112, section 6.3).
#[derive(Debug)]
enum Body {
    /// Nothing more comes.
    Ended,
    /// So many bytes more.
    Length(u64),
    Chunked(Chunks),
    /// Whatever comes until the peer closes.
    UntilClosed,
}

/// What went wrong between two peers.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer closed it too early.
    #[error("the connection was closed before the answer was whole")]
    Closed,
    /// The head is not HTTP/1, or says two things at once.
    #[error("the answer's head is malformed: {0}")]
    BadHead(&'static str),
    /// The head, a line between two chunks or the trailers are too long.
    #[error("the answer's framing is longer than its bound")]
    TooLong,
    /// The body is not framed as its head says.
    #[error("the answer's chunks are malformed")]
    BadChunk,
}

impl Connection {
    /// A connection that nothing was sent on yet.
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            body: Body::Ended,
            is_kept_alive: true,
        }
    }

    /// The next bytes of the answer's body: all that one read brought.
    ///
    /// # Errors
    ///
    /// [`WireError`]. The connection is then of no more use.
    pub(super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, WireError>>> {
        loop {
            match self.take_body() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) if self.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error)))),
            }
            match std::task::ready!(self.poll_fill(context)) {
                Ok(0) if matches!(self.body, Body::UntilClosed) => {
                    self.body = Body::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(self.broken(WireError::Closed)))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broken(error.into())))),
            }
        }
    }

    /// The whole body of a short answer.
    ///
    /// # Errors
    ///
    /// [`WireError`]; [`WireError::TooLong`] beyond `bytes_max`.
    pub(super) async fn whole_body(&mut self, bytes_max: usize) -> Result<Bytes, WireError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = poll_fn(|context| self.poll_body(context)).await {
            whole.extend_from_slice(&piece?);
            if whole.len() > bytes_max {
                return Err(self.broken(WireError::TooLong));
            }
        }
        Ok(whole.freeze())
    }

    /// Whether the answer's body is known to have ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.body, Body::Ended)
    }

    /// How many bytes of the body are still to come, at the least.
    pub(super) fn remaining_min(&self) -> u64 {
        match &self.body {
            Body::Length(rest) => *rest,
            Body::Chunked(chunks) => chunks.rest_of_chunk(),
            Body::Ended | Body::UntilClosed => 0,
        }
    }

    /// Whether another call may follow: the last one has ended as it should, and not a byte came
    /// behind it.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_kept_alive && self.has_ended() && self.received.is_empty()
    }

    /// Gives up what only a call under way needs.
    pub(super) fn rest(&mut self) {
        self.received = BytesMut::new();
        self.read_bytes = READ_BYTES_MIN;
    }

    /// Whether an idle connection was closed by its peer, or said something unasked, which makes
    /// it as useless.
    pub(super) fn is_stale(&mut self) -> bool {
        let mut unasked = [0; 1];
        let mut unasked = ReadBuf::new(&mut unasked);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream)
            .poll_read(&mut context, &mut unasked)
            .is_ready()
    }

    /// What of the body has been read. None if nothing has, or it ended.
    fn take_body(&mut self) -> Result<Option<Bytes>, WireError> {
        let piece = match &mut self.body {
            Body::Ended => return Ok(None),
            Body::Length(rest) => {
                let taken = usize::try_from(*rest)
                    .unwrap_or(usize::MAX)
                    .min(self.received.len());
                *rest -= taken as u64;
                let has_ended = *rest == 0;
                let piece = self.received.split_to(taken).freeze();
                if has_ended {
                    self.body = Body::Ended;
                }
                piece
            }
            Body::Chunked(chunks) => {
                let piece = chunks.take(&mut self.received)?;
                if chunks.has_ended() {
                    self.body = Body::Ended;
                }
                piece
            }
            Body::UntilClosed => self.received.split().freeze(),
        };
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    /// One read into the buffer; 0 at the end of the stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.is_empty() && self.read_bytes == READ_BYTES_MIN {
            return self.poll_begin(context);
        }
        self.received.reserve(self.read_bytes);
        let room = self.received.capacity() - self.received.len();
        // The future of one read keeps nothing, so it can be made anew at each poll.
        let read = pin!(self.stream.read_buf(&mut self.received)).poll(context)?;
        if read == Poll::Ready(room) {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        read.map(Ok)
    }

    /// A read by way of the stack: an engine takes seconds to answer, and who waits for it holds no
    /// buffer meanwhile. What came is copied to room of its size, which costs less than the buffer.
    fn poll_begin(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; READ_BYTES_MIN];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut room))?;
        let read = room.filled();
        self.received.extend_from_slice(read);
        if read.len() == READ_BYTES_MIN {
            self.read_bytes *= 2;
        }
        Poll::Ready(Ok(read.len()))
    }

    fn broken(&mut self, error: WireError) -> WireError {
        self.is_kept_alive = false;
        self.body = Body::Ended;
        error
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:?})", self.body)
    }
}
