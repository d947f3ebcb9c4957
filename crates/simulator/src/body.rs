//! The bodies of answers, as hyper takes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::Cut;
use crate::stream::TokenStream;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum EngineBody {
    /// In one piece, which hyper sends together with the head; `None` once it was taken.
    Whole(Option<Bytes>),
    /// The first half of a body whose whole length was announced; then the connection breaks.
    Half {
        /// Until it was taken.
        first: Option<Bytes>,
        /// Whether hyper had its turn to flush it.
        flushed: Flushed,
        /// Bytes that the head promises.
        announced: u64,
    },
    /// Frame by frame.
    Stream(Box<TokenStream>),
}

/// Whether hyper had its turn to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    NotYet,
    Done,
}

impl EngineBody {
    /// A body in one piece.
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// Announces `body` and breaks the connection in its middle.
    pub(crate) fn cut_in_the_middle(body: Vec<u8>) -> Self {
        let announced = body.len() as u64;
        let mut first = Bytes::from(body);
        first.truncate(first.len() / 2);
        Self::Half {
            first: Some(first),
            flushed: Flushed::NotYet,
            announced,
        }
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Half { first, flushed, .. } => match (first.take(), &flushed) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Flushed::NotYet) => {
                    *flushed = Flushed::Done;
                    // hyper flushes what it has while this waits, and drops it on an error.
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                (None, Flushed::Done) => Poll::Ready(Some(Err(Cut))),
            },
            Self::Stream(stream) => stream
                .poll_next(cx)
                .map(|next| next.map(|frame| frame.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Half { .. } => false,
            Self::Stream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Half { announced, .. } => SizeHint::with_exact(*announced),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
