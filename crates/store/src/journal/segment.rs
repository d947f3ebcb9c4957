//! The shape of a segment: a header, then the frames of records, one after the other. Behind the
//! last one of the open segment stand zeros, which the next ones are written over: a frame whose
//! length is 0 is none. Each segment is a new file, so that nothing but zeros and torn writes can
//! stand there.
//!
//! A segment ends where the next one begins. After a failed sync its last bytes are in doubt, and
//! the records in question are written again, at the start of the next segment: what is left of
//! them here does not count.

use std::path::{Path, PathBuf};

use ledger::Lsn;

/// `PWJRNL`, a zero and the kind of file.
const SEGMENT_MAGIC: [u8; 8] = *b"PWJRNL\0S";
const FORMAT_VERSION: u32 = 1;
/// Magic, version, installation, first LSN, checksum.
pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 4;
/// Which installation wrote a file: a journal is never replayed into another.
pub type InstallationId = [u8; 16];

/// `first_lsn` in 20 digits, so that names sort as segments do.
pub(super) fn segment_path(folder: &Path, first: Lsn) -> PathBuf {
    folder.join(format!("{:020}.log", first.number()))
}

/// The first LSN of the segment that has this name; none if the name is another file's.
pub(super) fn first_lsn_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".log")?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok().map(Lsn::new))?
}

pub(super) fn header(installation: &InstallationId, first: Lsn) -> [u8; HEADER_BYTES] {
    let mut header = [0_u8; HEADER_BYTES];
    header[..8].copy_from_slice(&SEGMENT_MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..28].copy_from_slice(installation);
    header[28..36].copy_from_slice(&first.number().to_le_bytes());
    let checksum = crc32c::crc32c(&header[..36]);
    header[36..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Why a segment's header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Newer { found: u32 },
    Foreign,
}

pub(super) fn check_header(
    bytes: &[u8],
    installation: &InstallationId,
    first: Lsn,
) -> Result<(), BadHeader> {
    let header = bytes.get(..HEADER_BYTES).ok_or(BadHeader::Damaged)?;
    let checksum = u32_at(header, 36);
    if header[..8] != SEGMENT_MAGIC || crc32c::crc32c(&header[..36]) != checksum {
        return Err(BadHeader::Damaged);
    }
    let found = u32_at(header, 8);
    if found > FORMAT_VERSION {
        return Err(BadHeader::Newer { found });
    }
    if header[12..28] != *installation {
        return Err(BadHeader::Foreign);
    }
    if u64_at(header, 28) != first.number() {
        return Err(BadHeader::Damaged);
    }
    Ok(())
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0_u8; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0_u8; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_segments_do() {
        let path = segment_path(Path::new("journal"), Lsn::new(42));
        assert_eq!(path, Path::new("journal/00000000000000000042.log"));
        assert_eq!(first_lsn_of("00000000000000000042.log"), Some(Lsn::new(42)));
        for other in [
            "42.log",
            "checkpoint-00000000000000000042",
            "+0000000000000000042.log",
        ] {
            assert_eq!(first_lsn_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_is_refused_for_its_reason() {
        let ours = [7; 16];
        let good = header(&ours, Lsn::new(3));
        assert_eq!(check_header(&good, &ours, Lsn::new(3)), Ok(()));
        assert_eq!(
            check_header(&good, &[8; 16], Lsn::new(3)),
            Err(BadHeader::Foreign)
        );
        assert_eq!(
            check_header(&good, &ours, Lsn::new(4)),
            Err(BadHeader::Damaged)
        );
        for place in 0..HEADER_BYTES {
            let mut bad = good;
            bad[place] ^= 1;
            assert_eq!(
                check_header(&bad, &ours, Lsn::new(3)),
                Err(BadHeader::Damaged)
            );
        }
    }

    #[test]
    fn a_newer_format_says_so() {
        let mut newer = header(&[0; 16], Lsn::new(1));
        newer[8..12].copy_from_slice(&9_u32.to_le_bytes());
        let checksum = crc32c::crc32c(&newer[..36]);
        newer[36..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(
            check_header(&newer, &[0; 16], Lsn::new(1)),
            Err(BadHeader::Newer { found: 9 })
        );
    }
}
