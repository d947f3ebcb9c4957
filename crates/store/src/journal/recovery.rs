//! What a journal holds after a crash: the newest checkpoint and all whole records after it.

use std::io;
use std::path::{Path, PathBuf};

use base::Disk;
use ledger::{DecodeError, Decoder, Lsn, Projection, Record};

use super::checkpoint::load_checkpoint;
use super::segment::{self, BadHeader, HEADER_BYTES, InstallationId};
use super::{SealedSegment, previous};

/// 256 KiB: a thousand records, and little memory.
const PART_BYTES: usize = 256 * 1024;

/// Why a journal cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The disk reported an error.
    #[error("cannot read or write {}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// Records that were durable cannot be read.
    #[error(
        "{} cannot be read beyond byte {offset}, and records that were durable stand there. \
         Restore the journal folder from a copy of the disk; do not delete the file",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The first byte that is wrong.
        offset: usize,
    },
    /// The checkpoint's bytes have changed.
    #[error(
        "{} is damaged. Restore the journal folder from a copy of the disk; do not delete the file",
        path.display()
    )]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A newer version of the program wrote the file.
    #[error(
        "{} has format {found}, which is newer than this program knows: start the version that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u32,
    },
    /// A record of a kind that only a newer version of the program knows.
    #[error("{} was written by a newer version: start that one", path.display())]
    NewerRecord {
        /// The segment.
        path: PathBuf,
        /// Which record.
        #[source]
        source: DecodeError,
    },
    /// Another installation wrote the file.
    #[error(
        "{} belongs to another installation: give this one a data folder of its own",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A segment is missing.
    #[error(
        "records from {expected} on are missing in {}: a segment was removed. \
         Restore the journal folder from a copy of the disk",
        folder.display()
    )]
    Missing {
        /// The journal's folder.
        folder: PathBuf,
        /// The first record that is not there.
        expected: Lsn,
    },
}

impl RecoveryError {
    pub(super) fn disk(path: PathBuf, source: io::Error) -> Self {
        Self::Disk { path, source }
    }
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// What all records add up to.
    pub projection: Projection,
    /// The last whole record; 0 for an empty journal.
    pub last_lsn: Lsn,
    /// How many records were read, beyond the checkpoint.
    pub replayed: u64,
    /// How many bytes of a torn tail were cut off: a crash caught them on the way to the disk.
    pub cut_bytes: u64,
}

/// How far a segment could be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed {
    /// The record that would come next.
    next: Lsn,
    good_bytes: usize,
    /// Behind them and before the zeros that were written ahead of need.
    torn_bytes: usize,
}

/// Recovers `folder`: the projection, and the segments that hold records.
pub(super) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
) -> Result<(Recovered, Vec<SealedSegment>), RecoveryError> {
    // Whoever compacts makes the lines again, from the checkpoint on.
    let mut lines = Vec::new();
    let (projection, walked) = walk(
        disk,
        folder,
        installation,
        &mut |projection, lsn, record| {
            projection.apply(lsn, record, &mut lines);
            lines.clear();
        },
    )?;
    let mut cut_bytes = 0;
    if let Some((first, read)) = walked.last_segment {
        cut_bytes = read.torn_bytes as u64;
        make_durable(disk, &segment::segment_path(folder, first), read.good_bytes)?;
    }
    let recovered = Recovered {
        projection,
        last_lsn: previous(walked.next),
        replayed: walked.replayed,
        cut_bytes,
    };
    Ok((recovered, walked.sealed))
}

/// Reads all whole records beyond the newest checkpoint, and returns that checkpoint. Changes
/// nothing: also for a journal that another process writes, whose unfinished end is left out.
///
/// # Errors
///
/// [`RecoveryError`].
pub fn read_journal(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
    on_record: &mut dyn FnMut(Lsn, &Record),
) -> Result<Projection, RecoveryError> {
    let read = walk(disk, folder, installation, &mut |_, lsn, record| {
        on_record(lsn, record);
    })?;
    Ok(read.0)
}

/// What [`walk`] saw.
struct Walked {
    sealed: Vec<SealedSegment>,
    next: Lsn,
    replayed: u64,
    last_segment: Option<(Lsn, Replayed)>,
}

/// Hands every record beyond the newest checkpoint to `on_record`, in order.
fn walk(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
    on_record: &mut dyn FnMut(&mut Projection, Lsn, &Record),
) -> Result<(Projection, Walked), RecoveryError> {
    let (mut projection, checkpoint) = load_checkpoint(disk, folder, installation)?;
    let firsts = segments(disk, folder)?;
    let missing = |expected| RecoveryError::Missing {
        folder: folder.to_owned(),
        expected,
    };
    let mut walked = Walked {
        sealed: Vec::with_capacity(firsts.len()),
        next: checkpoint.next(),
        replayed: 0,
        last_segment: None,
    };
    for (place, first) in firsts.iter().copied().enumerate() {
        let until = firsts.get(place + 1).copied();
        if let Some(until) = until
            && until <= checkpoint.next()
        {
            // A crash came between the checkpoint and the removal of what it covers.
            let last = previous(until);
            walked.sealed.push(SealedSegment { first, last });
            continue;
        }
        if first > walked.next {
            return Err(missing(walked.next));
        }
        let handed_on = &mut |lsn, record: &Record| {
            if lsn > checkpoint {
                on_record(&mut projection, lsn, record);
            }
        };
        let read = replay_segment(disk, folder, installation, first, until, handed_on)?;
        walked.replayed += read.next.number() - first.number();
        if read.next > first {
            let last = previous(read.next);
            walked.sealed.push(SealedSegment { first, last });
        }
        walked.next = read.next;
        if until.is_none() {
            walked.last_segment = Some((first, read));
        }
    }
    // The open segment begins behind every checkpoint, and is durable before it: so a journal
    // that ends before its checkpoint, or a checkpoint alone, has lost a segment.
    let has_lost_all = firsts.is_empty() && checkpoint > Lsn::ZERO;
    if has_lost_all || walked.next <= checkpoint {
        return Err(missing(checkpoint.next()));
    }
    Ok((projection, walked))
}

fn segments(disk: &dyn Disk, folder: &Path) -> Result<Vec<Lsn>, RecoveryError> {
    let names = disk
        .list(folder)
        .map_err(|source| RecoveryError::disk(folder.to_owned(), source))?;
    Ok(names
        .iter()
        .filter_map(|name| segment::first_lsn_of(name))
        .collect())
}

/// Cuts the torn tail and the zeros, and syncs what is good: a killed process leaves bytes in the page cache
/// that no disk has yet, and later records are going to rely on them.
fn make_durable(disk: &dyn Disk, path: &Path, good_bytes: usize) -> Result<(), RecoveryError> {
    disk.open_append(path)
        .and_then(|mut file| {
            if file.len()? > good_bytes as u64 {
                file.truncate(good_bytes as u64)?;
            }
            file.sync()
        })
        .map_err(|source| RecoveryError::disk(path.to_owned(), source))
}

/// Reads the segment that begins at `first`, up to the one that begins at `until`; without an
/// `until` it is the last one, which may have a torn tail. Holds a part of it at a time.
pub(crate) fn replay_segment(
    disk: &dyn Disk,
    folder: &Path,
    installation: &InstallationId,
    first: Lsn,
    until: Option<Lsn>,
    on_record: &mut dyn FnMut(Lsn, &Record),
) -> Result<Replayed, RecoveryError> {
    let path = segment::segment_path(folder, first);
    let read_part = |offset: usize, len_max| {
        disk.read_part(&path, offset as u64, len_max)
            .map_err(|source| RecoveryError::disk(path.clone(), source))
    };
    match segment::check_header(&read_part(0, HEADER_BYTES)?, installation, first) {
        Ok(()) => {}
        Err(BadHeader::Damaged) => {
            return Err(RecoveryError::Damaged { path, offset: 0 });
        }
        Err(BadHeader::Newer { found }) => return Err(RecoveryError::Newer { path, found }),
        Err(BadHeader::Foreign) => return Err(RecoveryError::Foreign { path }),
    }
    let (mut offset, mut expected) = (HEADER_BYTES, first);
    let mut len_max = PART_BYTES;
    loop {
        let part = read_part(offset, len_max)?;
        let is_rest = part.len() < len_max;
        let mut frames = Decoder::new(&part, expected);
        let end = read_frames(&mut frames, until, on_record);
        let behind = &part[frames.offset()..];
        offset += frames.offset();
        expected = frames.expected();
        let read = Replayed {
            next: expected,
            good_bytes: offset,
            torn_bytes: len_without_zeros(behind),
        };
        let is_short = until.is_none_or(|until| expected < until);
        if !is_rest && is_short {
            // A frame goes on beyond the part. One that is longer than a part is a bad one, and
            // all that follows it says what became of it.
            len_max = if frames.offset() == 0 {
                usize::MAX
            } else {
                PART_BYTES
            };
            continue;
        }
        return match end {
            Ok(()) if until.is_some() && is_short => Err(RecoveryError::Missing {
                folder: folder.to_owned(),
                expected,
            }),
            Ok(()) => Ok(read),
            Err(DecodeError::Torn { .. }) if until.is_none() => Ok(read),
            Err(source @ DecodeError::Newer { .. }) => {
                Err(RecoveryError::NewerRecord { path, source })
            }
            _ => Err(RecoveryError::Damaged { path, offset }),
        };
    }
}

/// Zeros at the end were written ahead of need. No frame begins with them: none is of length 0.
fn len_without_zeros(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Reads frames up to `until`, or to the end.
fn read_frames(
    frames: &mut Decoder<'_>,
    until: Option<Lsn>,
    on_record: &mut dyn FnMut(Lsn, &Record),
) -> Result<(), DecodeError> {
    while until.is_none_or(|until| frames.expected() < until) {
        let Some(frame) = frames.next() else {
            break;
        };
        let frame = frame?;
        on_record(frame.lsn, &frame.record);
    }
    Ok(())
}
