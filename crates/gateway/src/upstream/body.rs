//! A request body made of slices that are sent as they are.

use bytes::Bytes;
use smallvec::SmallVec;

/// The pieces of a body, in order: nothing is copied on the way to the socket.
#[derive(Debug, Clone, Default)]
pub struct UpstreamBody {
    pieces: SmallVec<[Bytes; 8]>,
}

impl UpstreamBody {
    /// A body of these pieces.
    pub fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
        Self {
            pieces: pieces.collect(),
        }
    }

    /// The pieces; none of them is empty.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Bytes in all.
    pub(crate) fn length(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}
