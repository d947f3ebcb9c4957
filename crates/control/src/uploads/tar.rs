//! Reads a tar archive as it arrives, piece by piece: plain files in one folder, and nothing else.

/// A block of a tar archive.
const BLOCK: usize = 512;
/// 1 MiB: what an archiver says about a file in records of its own.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A file of this name and length begins.
    Begin(String, u64),
    /// Some of its bytes.
    Bytes(&'a [u8]),
    /// That was all of it.
    End,
}

/// Why an archive is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TarError {
    /// Not a tar archive, or a damaged one.
    #[error("the body is no tar archive: send `tar -cf - -C FOLDER .`, not compressed")]
    NotTar,
    /// A link, a device or the like.
    #[error("`{0}` is no plain file")]
    NotAFile(String),
    /// It ended in the middle.
    #[error("the archive ended in the middle")]
    Incomplete,
}

/// Where in the archive the next byte stands.
#[derive(Debug)]
enum State {
    Header {
        block: Box<[u8; BLOCK]>,
        filled: usize,
    },
    File {
        left: u64,
        padding: u64,
    },
    /// Of no interest: padding, folders, an archiver's own records.
    Skip {
        left: u64,
    },
    /// Behind the end: zeros.
    Ended,
}

/// Reads one archive.
#[derive(Debug)]
pub(super) struct TarReader {
    state: State,
}

impl TarReader {
    pub(super) fn new() -> Self {
        Self { state: header() }
    }

    /// The next piece of `bytes`, which it takes from them; none where they are used up.
    ///
    /// # Errors
    ///
    /// [`TarError`].
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, TarError> {
        loop {
            match &mut self.state {
                State::Header { block, filled } => {
                    let taken = take(bytes, (BLOCK - *filled) as u64);
                    block[*filled..*filled + taken.len()].copy_from_slice(taken);
                    *filled += taken.len();
                    if *filled < BLOCK {
                        return Ok(None);
                    }
                    let (next, piece) = begin(block)?;
                    self.state = next;
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
                State::File { left: 0, padding } => {
                    self.state = State::Skip { left: *padding };
                    return Ok(Some(Piece::End));
                }
                State::File { left, .. } => {
                    let taken = take(bytes, *left);
                    *left -= taken.len() as u64;
                    return Ok((!taken.is_empty()).then_some(Piece::Bytes(taken)));
                }
                State::Skip { left: 0 } => self.state = header(),
                State::Skip { left } => {
                    let taken = take(bytes, *left);
                    *left -= taken.len() as u64;
                    if taken.is_empty() {
                        return Ok(None);
                    }
                }
                State::Ended => {
                    *bytes = &[];
                    return Ok(None);
                }
            }
        }
    }

    /// There are no more bytes.
    ///
    /// # Errors
    ///
    /// [`TarError::Incomplete`].
    pub(super) fn finish(self) -> Result<(), TarError> {
        match self.state {
            // Some archivers leave the zeros at the end out.
            State::Header { filled: 0, .. } | State::Ended => Ok(()),
            _ => Err(TarError::Incomplete),
        }
    }
}

fn header() -> State {
    State::Header {
        block: Box::new([0; BLOCK]),
        filled: 0,
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

/// What a header begins.
fn begin(block: &[u8; BLOCK]) -> Result<(State, Option<Piece<'static>>), TarError> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok((State::Ended, None));
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            // The sum counts its own place as spaces.
            148..156 => u64::from(b' '),
            _ => u64::from(*byte),
        })
        .sum();
    if octal(&block[148..156]) != Some(sum) {
        return Err(TarError::NotTar);
    }
    let size = octal(&block[124..136]).ok_or(TarError::NotTar)?;
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    let name = text(&block[..100]);
    match block[156] {
        b'0' | 0 => {
            let plain = name.strip_prefix("./").unwrap_or(&name).to_owned();
            let state = State::File {
                left: size,
                padding,
            };
            Ok((state, Some(Piece::Begin(plain, size))))
        }
        // A folder, and what archivers say in records of their own.
        b'5' | b'x' | b'g' if size <= RECORD_BYTES_MAX => {
            let left = size + padding;
            Ok((State::Skip { left }, None))
        }
        _ => Err(TarError::NotAFile(name)),
    }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = text(field);
    let digits = text.trim_matches(' ');
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An archive of these files, as `tar` writes it.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Vec::new();
        for (name, bytes) in files {
            tar.extend(entry(name, b'0', bytes));
        }
        tar.extend([0; 2 * BLOCK]);
        tar
    }

    pub(crate) fn entry(name: &str, kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        block[148..156].fill(b' ');
        block[156] = kind;
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut entry = block.to_vec();
        entry.extend(bytes);
        entry.resize(entry.len().next_multiple_of(BLOCK), 0);
        entry
    }

    /// The files of an archive that arrives in pieces of this length.
    fn read(tar: &[u8], piece: usize) -> Result<Vec<(String, Vec<u8>)>, TarError> {
        let mut reader = TarReader::new();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let mut ended = 0;
        for mut bytes in tar.chunks(piece) {
            while let Some(piece) = reader.next(&mut bytes)? {
                match piece {
                    Piece::Begin(name, _) => files.push((name, Vec::new())),
                    Piece::Bytes(bytes) => files.last_mut().unwrap().1.extend(bytes),
                    Piece::End => ended += 1,
                }
            }
        }
        reader.finish()?;
        assert_eq!(ended, files.len());
        Ok(files)
    }

    #[test]
    fn files_come_out_as_they_went_in_however_they_arrive() {
        let long = vec![7; 1_300];
        let files: [(&str, &[u8]); 3] = [("./a.json", b"{}"), ("empty", b""), ("b", &long)];
        let mut tar = entry("./", b'5', b"");
        tar.extend(entry("pax", b'x', b"30 mtime=1\n"));
        tar.extend(archive(&files));
        for piece in [1, 511, 512, 513, 100_000] {
            let read = read(&tar, piece).unwrap();
            let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["a.json", "empty", "b"]);
            assert_eq!(read[2].1, long);
        }
    }

    #[test]
    fn what_is_no_plain_archive_is_refused() {
        assert_eq!(read(&[1; 2_048], 512), Err(TarError::NotTar));
        let link = entry("link", b'2', b"");
        assert_eq!(read(&link, 512), Err(TarError::NotAFile("link".into())));
        let cut = archive(&[("a", &[1; 600])]);
        assert_eq!(read(&cut[..700], 512), Err(TarError::Incomplete));
        let mut damaged = archive(&[("a", b"b")]);
        damaged[0] = b'z';
        assert_eq!(read(&damaged, 512), Err(TarError::NotTar));
    }
}
