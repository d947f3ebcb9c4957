//! A projection as bytes, so that a start need not replay the whole journal.

use base::AttemptId;
use serde::{Deserialize, Serialize};

use crate::projection::{OpenAttempt, ProjectedAccount};
use crate::{AccountId, Lsn, Projection};

/// Says what the bytes are.
const MAGIC: &[u8; 4] = b"PWCK";
/// The second format: an account remembers what each crash left, and the windows before its own.
const VERSION: u32 = 2;
/// Magic, version and checksum.
const HEADER_BYTES: usize = 12;

/// Why bytes are not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// They begin otherwise.
    #[error("this is not a ledger checkpoint")]
    NotACheckpoint,
    /// A version with another format wrote them.
    #[error("the checkpoint has format {found}, and this version reads format {VERSION}")]
    OtherFormat {
        /// Their format.
        found: u32,
    },
    /// They are damaged.
    #[error("the checkpoint is damaged: its checksum does not hold")]
    Damaged,
}

/// What a checkpoint holds, in an order that does not depend on a hash.
#[derive(Serialize, Deserialize)]
struct Body {
    last: Lsn,
    strays: u64,
    is_at_start: bool,
    accounts: Vec<(AccountId, ProjectedAccount)>,
    open: Vec<(AttemptId, OpenAttempt)>,
}

impl Projection {
    /// The projection as bytes: equal projections give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut accounts: Vec<_> = self.accounts.iter().collect();
        accounts.sort_by_key(|(id, _)| **id);
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(id, _)| **id);
        let body = Body {
            last: self.last,
            strays: self.strays,
            is_at_start: self.is_at_start,
            accounts: accounts
                .into_iter()
                .map(|(id, account)| (*id, account.clone()))
                .collect(),
            open: open
                .into_iter()
                .map(|(id, attempt)| (*id, attempt.clone()))
                .collect(),
        };
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        let mut bytes =
            postcard::to_extend(&body, bytes).expect("a vector takes whatever is written to it");
        let sum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        bytes[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The projection that [`Projection::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: then the journal is to be replayed from an older checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        if bytes.len() < HEADER_BYTES || bytes[..4] != *MAGIC {
            return Err(CheckpointError::NotACheckpoint);
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if word(4) != VERSION {
            return Err(CheckpointError::OtherFormat { found: word(4) });
        }
        let payload = &bytes[HEADER_BYTES..];
        if crc32c::crc32c(payload) != word(8) {
            return Err(CheckpointError::Damaged);
        }
        let body: Body = postcard::from_bytes(payload).map_err(|_| CheckpointError::Damaged)?;
        Ok(Self {
            last: body.last,
            strays: body.strays,
            is_at_start: body.is_at_start,
            accounts: body.accounts.into_iter().collect(),
            open: body.open.into_iter().collect(),
        })
    }
}
