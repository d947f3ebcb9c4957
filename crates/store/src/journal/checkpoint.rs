//! A checkpoint: what all records up to an LSN add up to, so that they need not be kept.

use std::path::{Path, PathBuf};

use base::Disk;
use ledger::{Lsn, Projection};

use super::recovery::RecoveryError;
use super::segment::{InstallationId, u32_at, u64_at};

/// `PWJRNL`, a zero and the kind of file.
const CHECKPOINT_MAGIC: [u8; 8] = *b"PWJRNL\0C";
const FORMAT_VERSION: u32 = 1;
/// Magic, version, installation, LSN, checksum over these and the projection.
const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 4;
const NAME_PREFIX: &str = "checkpoint-";

fn checkpoint_path(folder: &Path, lsn: Lsn) -> PathBuf {
    folder.join(format!("{NAME_PREFIX}{:020}", lsn.number()))
}

fn lsn_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok().map(Lsn::new))?
}

fn checkpoints(disk: &dyn Disk, folder: &Path) -> Result<Vec<Lsn>, RecoveryError> {
    let names = disk
        .list(folder)
        .map_err(|source| RecoveryError::disk(folder.to_owned(), source))?;
    Ok(names.iter().filter_map(|name| lsn_of(name)).collect())
}

/// The newest checkpoint and its LSN; an empty projection and 0 if there is none.
pub(crate) fn load_checkpoint(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
) -> Result<(Projection, Lsn), RecoveryError> {
    let Some(lsn) = checkpoints(disk, folder)?.into_iter().max() else {
        return Ok((Projection::default(), Lsn::default()));
    };
    let path = checkpoint_path(folder, lsn);
    let bytes = disk
        .read(&path)
        .map_err(|source| RecoveryError::disk(path.clone(), source))?;
    let damaged = || RecoveryError::BadCheckpoint { path: path.clone() };
    if bytes.len() < HEADER_BYTES || bytes[..8] != CHECKPOINT_MAGIC {
        return Err(damaged());
    }
    let found = u32_at(&bytes, 8);
    if found > FORMAT_VERSION {
        return Err(RecoveryError::Newer { path, found });
    }
    if bytes[12..28] != *installation {
        return Err(RecoveryError::Foreign { path });
    }
    let (header, projection) = bytes.split_at(HEADER_BYTES);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..36]), projection);
    if u64_at(header, 28) != lsn.number() || u32_at(header, 36) != checksum {
        return Err(damaged());
    }
    let projection = Projection::from_bytes(projection).map_err(|_| damaged())?;
    Ok((projection, lsn))
}

/// Makes a checkpoint at `lsn` durable, and removes those before it.
pub(crate) fn write_checkpoint(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
    projection: &Projection,
    lsn: Lsn,
) -> Result<(), RecoveryError> {
    let path = checkpoint_path(folder, lsn);
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&CHECKPOINT_MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(installation);
    bytes.extend_from_slice(&lsn.number().to_le_bytes());
    let projection = projection.to_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &projection);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&projection);
    disk.replace(&path, &bytes)
        .map_err(|source| RecoveryError::disk(path, source))?;
    for older in checkpoints(disk, folder)? {
        if older < lsn {
            let path = checkpoint_path(folder, older);
            disk.remove(&path)
                .map_err(|source| RecoveryError::disk(path, source))?;
        }
    }
    Ok(())
}
