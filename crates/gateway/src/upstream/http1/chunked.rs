//! Chunked bodies (RFC 9112, section 7.1): whatever of them has been read becomes one piece.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr;

use super::WireError;

/// 4 KiB: a size, and any extension that somebody might send.
const LINE_BYTES_MAX: usize = 4 << 10;
/// 16 KiB: nobody reads trailers.
const TRAILER_BYTES_MAX: usize = 16 << 10;
/// 15 digits are below 2⁶⁰: no sum of them overflows.
const SIZE_DIGITS_MAX: usize = 15;

/// How far a chunked body is.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    trailer_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The line with a chunk's size comes.
    #[default]
    Size,
    /// So many bytes of a chunk come.
    Data(u64),
    /// The line end behind a chunk comes.
    DataEnd,
    /// Trailers come, or the empty line that ends everything.
    Trailers,
    Ended,
}

impl Chunks {
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Bytes of the current chunk that are still to come.
    pub(super) fn rest_of_chunk(&self) -> u64 {
        match self.state {
            State::Data(rest) => rest,
            _ => 0,
        }
    }

    /// Takes all data out of `received`. What remains there is the beginning of a line, or what
    /// follows the body's end.
    pub(super) fn take(&mut self, received: &mut BytesMut) -> Result<Bytes, WireError> {
        // The inside of a large chunk needs no copy.
        if let State::Data(rest) = self.state
            && rest >= received.len() as u64
        {
            let piece = received.split();
            self.advance_data(rest, piece.len());
            return Ok(piece.freeze());
        }
        let mut data = BytesMut::with_capacity(received.len());
        let mut at = 0;
        while let Some(taken) = self.step(&received[at..], &mut data)? {
            at += taken;
        }
        received.advance(at);
        Ok(data.freeze())
    }

    /// One line or chunk; how many bytes it had. None if it needs more than there is.
    fn step(&mut self, bytes: &[u8], data: &mut BytesMut) -> Result<Option<usize>, WireError> {
        match self.state {
            State::Ended => Ok(None),
            State::Data(_) if bytes.is_empty() => Ok(None),
            State::Data(rest) => {
                let taken = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
                data.extend_from_slice(&bytes[..taken]);
                self.advance_data(rest, taken);
                Ok(Some(taken))
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Some(2))
                }
                [] | [b'\r'] => Ok(None),
                _ => Err(WireError::BadChunk),
            },
            State::Size => {
                let (size, taken) = match plain_size(bytes) {
                    Some(read) => read,
                    None => match line(bytes)? {
                        Some(line) => (size(line)?, line.len() + 2),
                        None => return Ok(None),
                    },
                };
                self.state = match size {
                    0 => State::Trailers,
                    size => State::Data(size),
                };
                Ok(Some(taken))
            }
            State::Trailers => {
                let Some(line) = line(bytes)? else {
                    return Ok(None);
                };
                self.trailer_bytes += line.len() + 2;
                if line.is_empty() {
                    self.state = State::Ended;
                } else if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return Err(WireError::TooLong);
                }
                Ok(Some(line.len() + 2))
            }
        }
    }

    fn advance_data(&mut self, rest: u64, taken: usize) {
        self.state = match rest - taken as u64 {
            0 => State::DataEnd,
            rest => State::Data(rest),
        };
    }
}

/// The line that `bytes` begin with, without its end, if it is all there. A line feed alone ends
/// no line: who reads it otherwise than we do could be told two things.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr(b'\n', searched) {
        Some(end) => bytes[..end]
            .strip_suffix(b"\r")
            .map(Some)
            .ok_or(WireError::BadChunk),
        None if searched.len() == LINE_BYTES_MAX => Err(WireError::TooLong),
        None => Ok(None),
    }
}

/// The line that nearly every chunk has: a few digits and nothing else. How large the chunk is,
/// and how long the line.
fn plain_size(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate().take(SIZE_DIGITS_MAX + 1) {
        match char::from(*byte).to_digit(16) {
            Some(digit) if at < SIZE_DIGITS_MAX => size = size << 4 | u64::from(digit),
            None if at > 0 && bytes[at..].starts_with(b"\r\n") => return Some((size, at + 2)),
            _ => return None,
        }
    }
    None
}

/// Hexadecimal digits; what follows a semicolon is an extension, and is ignored.
fn size(line: &[u8]) -> Result<u64, WireError> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let digits = line[..end].trim_ascii_end();
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return Err(WireError::BadChunk);
    }
    digits.iter().try_fold(0, |size, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(WireError::BadChunk)?;
        Ok(size << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a body that arrives in these parts, and what stands behind its end.
    fn read(parts: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), WireError> {
        let mut chunks = Chunks::default();
        let mut received = BytesMut::new();
        let mut data = Vec::new();
        for part in parts {
            received.extend_from_slice(part);
            data.extend_from_slice(&chunks.take(&mut received)?);
        }
        Ok((data, chunks.has_ended(), received.to_vec()))
    }

    #[test]
    fn a_body_is_the_same_wherever_it_is_cut() {
        let body = b"5\r\nhello\r\n1;ext=\"a\"\r\n \r\n00A \r\n0123456789\r\n0\r\nx: y\r\n\r\nrest";
        for one in 0..=body.len() {
            for other in one..=body.len() {
                let parts = [&body[..one], &body[one..other], &body[other..]];
                let (data, has_ended, behind) = read(&parts).expect("it is well formed");
                assert_eq!(data, b"hello 0123456789");
                assert!(has_ended);
                assert_eq!(behind, b"rest", "nothing behind the end is taken");
            }
        }
    }

    #[test]
    fn all_chunks_of_a_read_become_one_piece() {
        let mut received = BytesMut::from(&b"1\r\na\r\n1\r\nb\r\n2\r\ncd\r\n1\r"[..]);
        let mut chunks = Chunks::default();
        assert_eq!(chunks.take(&mut received).expect("good"), "abcd");
        assert_eq!(received, "1\r");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long_line = [b"1;".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(TRAILER_BYTES_MAX)].concat();
        for bad in [
            b"1\na\r\n".as_slice(),
            b"+1\r\na\r\n",
            b"-1\r\n",
            b"0x1\r\na\r\n",
            b" 1\r\na\r\n",
            b"\r\n",
            b";\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1000000000000000\r\n",
            b"0\r\nx: y\n\r\n",
            &long_line,
            &trailers,
        ] {
            let text = String::from_utf8_lossy(&bad[..bad.len().min(40)]);
            assert!(read(&[bad]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_body_that_stops_has_not_ended() {
        for part in [
            b"".as_slice(),
            b"3\r\nab",
            b"2\r\nab\r\n",
            b"0\r\n",
            b"0\r\nx: y\r\n",
        ] {
            assert!(!read(&[part]).expect("so far it is good").1);
        }
    }
}
