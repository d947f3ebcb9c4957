//! What a client is sent: a whole body, or a stream that meters itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::metered_stream::MeteredStream;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Metered(Box<MeteredStream>),
}

/// The stream was cut: the connection closes without an end, so that no client takes it for
/// complete.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut")]
pub struct AnswerCut;

impl AnswerBody {
    /// A whole body.
    pub(super) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// The bytes of a whole body; none of a stream.
    pub(super) fn into_whole(self) -> Option<Bytes> {
        match self.0 {
            Kind::Full(bytes) => Some(bytes.unwrap_or_default()),
            Kind::Metered(_) => None,
        }
    }

    /// A stream that settles its call when it ends.
    pub(super) fn metered(stream: MeteredStream) -> Self {
        Self(Kind::Metered(Box::new(stream)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Metered(stream) => Pin::new(&mut **stream)
                .poll_piece(context)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Metered(stream) => stream.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Metered(_) => SizeHint::new(),
        }
    }
}
