//! A small HTTP/1.1 client: one kept-alive connection, one call at a time. It parses what it must
//! to know where an answer ends, so that a load generator costs little beside what it measures.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base::{Clock, SystemClock};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// 64 KiB: more than any answer of the bench's engine, so that one read is enough.
const READ_BYTES: usize = 64 * 1024;

/// 64 headers: OpenAI's own answers carry about 25.
const HEADERS_MAX: usize = 64;

/// 64 MiB: the largest answer that is kept, a page of a ledger.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One connection to a server.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has been read and not yet used.
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The `x-request-id` header.
    pub(crate) request_id: Option<String>,
    /// From the request's last byte to the first byte of the answer's body.
    pub(crate) first_byte: Duration,
    /// From the request's last byte to the last byte of the answer.
    pub(crate) total: Duration,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            let start = &self.body[..self.body.len().min(200)];
            format!("{} with {}", self.status, String::from_utf8_lossy(start))
        })
    }
}

/// Where an answer's body ends.
enum Framing {
    Length(usize),
    Chunked(Chunks),
}

/// The head of an answer, and where its body ends.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The `x-request-id` header.
    pub(crate) request_id: Option<String>,
    framing: Framing,
    bytes: usize,
}

impl Connection {
    /// Connects, with `TCP_NODELAY`.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
        })
    }

    /// Sends a whole request and reads its whole answer.
    pub(crate) async fn call(
        &mut self,
        clock: &SystemClock,
        request: &[u8],
    ) -> anyhow::Result<Answer> {
        self.write(request).await?;
        let sent = clock.elapsed();
        let mut head = self.read_head().await?;
        self.wait_for_body(&head).await?;
        let first_byte = clock.elapsed().saturating_sub(sent);
        let body = self.read_body(&mut head.framing).await?;
        Ok(Answer {
            status: head.status,
            request_id: head.request_id,
            first_byte,
            total: clock.elapsed().saturating_sub(sent),
            body,
        })
    }

    /// Sends a whole request and reads the head of its answer alone.
    pub(crate) async fn begin(&mut self, request: &[u8]) -> anyhow::Result<Head> {
        self.write(request).await?;
        self.read_head().await
    }

    /// Waits until some of the body is here, or there is none.
    pub(crate) async fn wait_for_body(&mut self, head: &Head) -> anyhow::Result<()> {
        while self.buffer.is_empty() && !matches!(head.framing, Framing::Length(0)) {
            self.read_more().await?;
        }
        Ok(())
    }

    /// Reads the body of an answer whose head is known.
    pub(crate) async fn finish(&mut self, mut head: Head) -> anyhow::Result<Vec<u8>> {
        self.read_body(&mut head.framing).await
    }

    async fn write(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.buffer.clear();
        self.stream.write_all(request).await.context("writing")
    }

    async fn read_head(&mut self) -> anyhow::Result<Head> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                self.buffer.drain(..head.bytes);
                return Ok(head);
            }
            self.read_more().await?;
        }
    }

    async fn read_body(&mut self, framing: &mut Framing) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let is_whole = match framing {
                Framing::Length(length) => {
                    let length = *length;
                    if self.buffer.len() >= length {
                        body.extend(self.buffer.drain(..length));
                        true
                    } else {
                        false
                    }
                }
                Framing::Chunked(chunks) => {
                    let is_whole = chunks.read(&self.buffer, &mut body)?;
                    self.buffer.clear();
                    is_whole
                }
            };
            if is_whole {
                return Ok(body);
            }
            ensure!(body.len() < ANSWER_BYTES_MAX, "the answer does not end");
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(READ_BYTES);
        let read = self
            .stream
            .read_buf(&mut self.buffer)
            .await
            .context("reading")?;
        if read == 0 {
            let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(closed).context("the connection was closed in mid-answer");
        }
        Ok(())
    }
}

fn parse_head(buffer: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(bytes) = response.parse(buffer).context("reading a head")?
    else {
        return Ok(None);
    };
    let header = |name: &str| {
        response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let framing = match (header("content-length"), header("transfer-encoding")) {
        (Some(length), None) => Framing::Length(length.parse().context("content-length")?),
        (None, Some("chunked")) => Framing::Chunked(Chunks::default()),
        (None, None) if response.code == Some(204) => Framing::Length(0),
        other => bail!("an answer whose end is not told: {other:?}"),
    };
    Ok(Some(Head {
        status: response.code.context("a status")?,
        request_id: header("x-request-id").map(str::to_owned),
        framing,
        bytes,
    }))
}

/// Decodes a chunked body, whatever pieces it comes in.
#[derive(Default)]
struct Chunks {
    state: ChunkState,
}

#[derive(Default, Clone, Copy)]
enum ChunkState {
    /// In a chunk's length: what has been read of it.
    #[default]
    Start,
    Length(usize),
    /// After the length, up to the end of its line.
    Extension(usize),
    /// In a chunk: how much is left.
    Data(usize),
    /// The line end after a chunk.
    AfterData,
    /// In the trailers: whether the line has anything on it.
    Trailer(Line),
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    Filled,
}

impl Chunks {
    /// Appends what `input` holds of the body to `body`; whether the body has ended.
    fn read(&mut self, mut input: &[u8], body: &mut Vec<u8>) -> anyhow::Result<bool> {
        while let Some((&byte, rest)) = input.split_first() {
            if let ChunkState::Data(left) = self.state {
                let taken = left.min(input.len());
                body.extend_from_slice(&input[..taken]);
                input = &input[taken..];
                self.state = match left - taken {
                    0 => ChunkState::AfterData,
                    left => ChunkState::Data(left),
                };
                continue;
            }
            self.state = Self::after(self.state, byte)?;
            input = rest;
        }
        Ok(matches!(self.state, ChunkState::Ended))
    }

    fn after(state: ChunkState, byte: u8) -> anyhow::Result<ChunkState> {
        let digit = char::from(byte).to_digit(16).map(|digit| digit as usize);
        Ok(match (state, byte, digit) {
            (ChunkState::Start, _, Some(digit)) => ChunkState::Length(digit),
            (ChunkState::Length(length), _, Some(digit)) => {
                let length = length * 16 + digit;
                ensure!(length <= ANSWER_BYTES_MAX, "a chunk of {length} bytes");
                ChunkState::Length(length)
            }
            (ChunkState::Length(0) | ChunkState::Extension(0), b'\n', _) => {
                ChunkState::Trailer(Line::Empty)
            }
            (ChunkState::Length(length) | ChunkState::Extension(length), b'\n', _) => {
                ChunkState::Data(length)
            }
            (ChunkState::Length(length) | ChunkState::Extension(length), _, _) => {
                ChunkState::Extension(length)
            }
            (ChunkState::AfterData, b'\r', _) => ChunkState::AfterData,
            (ChunkState::AfterData, b'\n', _) => ChunkState::Start,
            (ChunkState::Trailer(line), b'\r', _) => ChunkState::Trailer(line),
            (ChunkState::Trailer(Line::Empty), b'\n', _) => ChunkState::Ended,
            (ChunkState::Trailer(Line::Filled), b'\n', _) => ChunkState::Trailer(Line::Empty),
            (ChunkState::Trailer(_), _, _) => ChunkState::Trailer(Line::Filled),
            (ChunkState::Start | ChunkState::AfterData | ChunkState::Ended, byte, _) => {
                bail!("byte {byte} in a chunked body's framing")
            }
            (ChunkState::Data(_), _, _) => bail!("data is taken whole"),
        })
    }
}

/// A whole request. `body` is sent as JSON when there is one.
pub(crate) fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    key: &str,
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
         accept: application/json\r\nuser-agent: partywall-xtask\r\n"
    );
    if let Some(body) = body {
        let length = body.len();
        request.push_str("content-type: application/json\r\n");
        request.push_str(&format!("content-length: {length}\r\n"));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> anyhow::Result<(bool, Vec<u8>)> {
        let mut chunks = Chunks::default();
        let mut body = Vec::new();
        let mut has_ended = false;
        for piece in pieces {
            has_ended = chunks.read(piece, &mut body)?;
        }
        Ok((has_ended, body))
    }

    const WIRE: &[u8] = b"5\r\nhello\r\n1;a=b\r\n \r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";

    #[test]
    fn chunks_decode_in_whatever_pieces_they_come() {
        let whole = (true, b"hello 0123456789".to_vec());
        assert_eq!(decode(&[WIRE]).expect("valid"), whole);
        for at in 0..WIRE.len() {
            let pieces = [&WIRE[..at], &WIRE[at..]];
            assert_eq!(decode(&pieces).expect("valid"), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = WIRE.chunks(1).collect();
        assert_eq!(decode(&bytes).expect("valid"), whole);
    }

    #[test]
    fn what_is_cut_has_not_ended_and_nonsense_is_refused() {
        assert!(!decode(&[&WIRE[..WIRE.len() - 1]]).expect("valid").0);
        assert!(decode(&[b"zz\r\n"]).is_err());
        assert!(decode(&[b"fffffffff\r\n"]).is_err());
    }

    #[test]
    fn heads_tell_the_end() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX-Request-Id: r1\r\n\r\nrest";
        let head = parse_head(head).expect("valid").expect("whole");
        assert_eq!((head.status, head.request_id.as_deref()), (200, Some("r1")));
        assert!(matches!(head.framing, Framing::Length(7)));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n").expect("valid").is_none());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
