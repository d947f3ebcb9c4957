//! A backup as a file: what it is, in clear, and then sealed chunks.
//!
//! ```text
//! PARTYWALL TENANT BACKUP\n
//! length (4, big endian) ‖ header (JSON)
//! length (4, big endian) ‖ chunk, sealed under the tenant's key      … as often as needed
//! ```
//!
//! A chunk is bound to its tenant, to the header, to its number and to whether it is the last: one
//! that is changed, missing, moved or of another backup is noticed.

use std::io::{self, Read, Write};
use std::sync::Arc;

use base::{Entropy, TenantId, Timestamp};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tenancy::{SealingKey, TenantKeys, purpose};
use zeroize::Zeroizing;

use super::BackupError;

const MAGIC: &[u8] = b"PARTYWALL TENANT BACKUP\n";
/// The one format there is.
pub(super) const FORMAT: u32 = 1;
/// 4 KiB: ten times what a header has.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// 160 MiB: a row is a body of 32 MiB in JSON at most, and its answer; a chunk ends with the row
/// that fills it.
const CHUNK_BYTES_MAX: usize = 160 << 20;

/// What a backup is. In clear, so that whoever finds the file knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// How the rest is written.
    pub format: u32,
    /// Tells it from all others: 32 digits.
    pub id: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// Under which generation of the tenant's key it is sealed.
    pub key_generation: u32,
    /// The schema of the store.
    pub schema: u32,
    /// When the store was as it is here.
    pub taken_at: Timestamp,
}

/// Writes chunks.
pub(super) struct Sealer<'a, W> {
    to: W,
    key: SealingKey<purpose::Backup>,
    entropy: &'a dyn Entropy,
    header_digest: Vec<u8>,
    chunks: u64,
    pub(super) bytes: u64,
}

/// Reads chunks.
pub(super) struct Opener<R> {
    from: R,
    key: SealingKey<purpose::Backup>,
    header_digest: Vec<u8>,
    chunks: u64,
}

/// What tells the last chunk from the others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    Rows,
    Last,
}

impl Chunk {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Rows => b"rows",
            Self::Last => b"last",
        }
    }
}

impl<'a, W: Write> Sealer<'a, W> {
    /// Begins a backup by its header.
    pub(super) fn begin(
        mut to: W,
        header: &BackupHeader,
        keys: &Arc<TenantKeys>,
        entropy: &'a dyn Entropy,
    ) -> Result<Self, BackupError> {
        let header = serde_json::to_vec(header).expect("a header is plain JSON");
        to.write_all(MAGIC)?;
        to.write_all(&(header.len() as u32).to_be_bytes())?;
        to.write_all(&header)?;
        Ok(Self {
            to,
            key: keys.sealing_key(),
            entropy,
            header_digest: digest(&SHA256, &header).as_ref().to_vec(),
            chunks: 0,
            bytes: (MAGIC.len() + 4 + header.len()) as u64,
        })
    }

    pub(super) fn chunk(&mut self, kind: Chunk, plain: &[u8]) -> Result<(), BackupError> {
        let number = self.chunks.to_be_bytes();
        let context: [&[u8]; 3] = [&self.header_digest, &number, kind.label()];
        let sealed = self.key.seal(self.entropy, &context, plain);
        if sealed.len() > CHUNK_BYTES_MAX {
            return Err(BackupError::RowTooLarge);
        }
        self.to.write_all(&(sealed.len() as u32).to_be_bytes())?;
        self.to.write_all(&sealed)?;
        self.chunks += 1;
        self.bytes += 4 + sealed.len() as u64;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        Ok(self.to.flush()?)
    }
}

/// Reads what a backup is, and leaves `from` at its first chunk.
///
/// # Errors
///
/// [`BackupError`].
fn read_header(from: &mut impl Read) -> Result<(BackupHeader, Vec<u8>), BackupError> {
    let mut magic = [0; MAGIC.len()];
    let is_ours = from.read_exact(&mut magic).map(|()| magic == *MAGIC);
    match is_ours {
        Ok(true) => {}
        Ok(false) => return Err(BackupError::NoBackup),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(BackupError::NoBackup);
        }
        Err(error) => return Err(error.into()),
    }
    let bytes = read_part(from, HEADER_BYTES_MAX)?.ok_or(BackupError::Damaged)?;
    let header: BackupHeader = serde_json::from_slice(&bytes).map_err(|_| BackupError::Damaged)?;
    if header.format != FORMAT {
        return Err(BackupError::NewerFormat {
            found: header.format,
        });
    }
    Ok((header, digest(&SHA256, &bytes).as_ref().to_vec()))
}

impl BackupHeader {
    /// Reads what a backup is from the beginning of its file. Whether the rest is whole, and whether
    /// this is true, is known once it has been opened with the tenant's key.
    ///
    /// # Errors
    ///
    /// [`BackupError::NoBackup`], [`BackupError::NewerFormat`] and [`BackupError::Damaged`].
    pub fn read(mut from: impl Read) -> Result<Self, BackupError> {
        read_header(&mut from).map(|(header, _)| header)
    }
}

impl<R: Read> Opener<R> {
    pub(super) fn open(
        mut from: R,
        keys: &Arc<TenantKeys>,
    ) -> Result<(Self, BackupHeader), BackupError> {
        let (header, header_digest) = read_header(&mut from)?;
        if header.tenant != keys.tenant() {
            return Err(BackupError::AnotherTenants {
                tenant: header.tenant,
            });
        }
        let opener = Self {
            from,
            key: keys.sealing_key(),
            header_digest,
            chunks: 0,
        };
        Ok((opener, header))
    }

    /// The next chunk. The last is followed by nothing.
    pub(super) fn chunk(&mut self) -> Result<(Chunk, Zeroizing<Vec<u8>>), BackupError> {
        let sealed = read_part(&mut self.from, CHUNK_BYTES_MAX)?.ok_or(BackupError::Damaged)?;
        let number = self.chunks.to_be_bytes();
        self.chunks += 1;
        let open = |kind: Chunk| {
            let context: [&[u8]; 3] = [&self.header_digest, &number, kind.label()];
            self.key.open(&context, &sealed)
        };
        match open(Chunk::Rows) {
            Ok(plain) => return Ok((Chunk::Rows, plain)),
            Err(tenancy::OpenError::NotAuthentic) => {}
            Err(tenancy::OpenError::UnknownGeneration { generation }) => {
                return Err(BackupError::KeyGone { generation });
            }
            Err(tenancy::OpenError::Malformed) => return Err(BackupError::Damaged),
        }
        let plain = open(Chunk::Last).map_err(|_| BackupError::Damaged)?;
        let mut beyond = [0];
        match self.from.read(&mut beyond)? {
            0 => Ok((Chunk::Last, plain)),
            _ => Err(BackupError::Damaged),
        }
    }
}

/// A part with its length before it; none where it is not whole or too long.
fn read_part(from: &mut impl Read, bytes_max: usize) -> Result<Option<Vec<u8>>, BackupError> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Ok(None);
    }
    // As it comes, so that a length that is not true takes no memory.
    let mut part = Vec::new();
    from.take(length as u64).read_to_end(&mut part)?;
    Ok((part.len() == length).then_some(part))
}
