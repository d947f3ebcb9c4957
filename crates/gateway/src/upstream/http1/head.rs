//! The head of an answer, and what it says of the body behind it.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use memchr::{memchr, memmem::Finder};

use super::chunked::Chunks;
use super::{Body, WireError};

/// 64 KiB: more than any provider's head by far.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// 100: hyper's bound.
const HEADERS_MAX: usize = 100;

static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// The head of an answer.
#[derive(Debug)]
pub(in super::super) struct AnswerHead {
    pub(in super::super) status: StatusCode,
    pub(in super::super) headers: AnswerHeaders,
}

/// The headers of an answer, as they came. A call looks at two or three of a dozen, so that they
/// are not sorted into a map: whoever asks for one walks over the lines.
#[derive(Clone)]
pub struct AnswerHeaders {
    /// The whole head, checked: a line that says the status, lines with a colon, an empty one.
    head: Bytes,
}

impl AnswerHeaders {
    /// Names, as they are spelled, and values without the white space around them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut lines = Lines(&self.head);
        lines.next();
        lines.filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The first value of a header whose name is in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut named = self
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()));
        named.next().map(|(_, value)| value)
    }

    /// The same, if it is text.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }
}

impl std::fmt::Debug for AnswerHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.iter().map(|(name, _)| name.escape_ascii().to_string());
        f.debug_list().entries(names).finish()
    }
}

/// The lines of a head.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.0)?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(line)
    }
}

/// A head, and how the connection goes on behind it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) head: AnswerHead,
    pub(super) body: Body,
    pub(super) is_kept_alive: bool,
}

/// Takes a head off `received` if all of it has come. `searched` is how far its end was looked
/// for, so that a head which comes in drops is not searched over and over.
pub(super) fn take(
    received: &mut BytesMut,
    searched: &mut usize,
) -> Result<Option<Parsed>, WireError> {
    let from = searched.saturating_sub(3);
    *searched = received.len();
    let Some(end) = END.find(&received[from..]) else {
        return match received.len() {
            0..=HEAD_BYTES_MAX => Ok(None),
            _ => Err(WireError::TooLong),
        };
    };
    let length = from + end + 4;
    if length > HEAD_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    *searched = 0;
    parse(received.split_to(length).freeze()).map(Some)
}

fn parse(head: Bytes) -> Result<Parsed, WireError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut answer, &head, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(WireError::BadHead("its end is not where its lines end")),
        Err(httparse::Error::TooManyHeaders) => return Err(WireError::TooLong),
        Err(_) => return Err(WireError::BadHead("it is not HTTP/1")),
    }
    let status = answer
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(WireError::BadHead("its status is none"))?;
    let framing = Framing::of(answer.headers)?;
    let (body, is_framed_once) = framing.body(status)?;
    let is_kept_alive = is_framed_once
        && answer.version == Some(1)
        && !matches!(body, Body::UntilClosed)
        && !framing.says_close;
    Ok(Parsed {
        head: AnswerHead {
            status,
            headers: AnswerHeaders { head },
        },
        body,
        is_kept_alive,
    })
}

/// What the headers say of the body and of the connection.
#[derive(Default)]
struct Framing<'a> {
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    encodings: usize,
    says_close: bool,
}

impl<'a> Framing<'a> {
    fn of(headers: &[httparse::Header<'a>]) -> Result<Self, WireError> {
        let mut framing = Self::default();
        for header in headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let other = framing.length.replace(header.value);
                if other.is_some_and(|other| other != header.value) {
                    return Err(WireError::BadHead("it has two lengths"));
                }
            } else if is("transfer-encoding") {
                framing.encoding = Some(header.value);
                framing.encodings += 1;
            } else if is("connection") {
                framing.says_close |= says_close(header.value);
            }
        }
        Ok(framing)
    }

    /// The body's framing, and whether the head says it once: a peer that gives a length beside its
    /// chunks is read by them, and not used again (RFC 9112, section 6.3).
    fn body(&self, status: StatusCode) -> Result<(Body, bool), WireError> {
        if status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok((Body::Ended, true));
        }
        match (self.encoding, self.length) {
            (None, None) => Ok((Body::UntilClosed, true)),
            (None, Some(length)) => Ok((
                match number(length)? {
                    0 => Body::Ended,
                    length => Body::Length(length),
                },
                true,
            )),
            (Some(only), length)
                if self.encodings == 1 && only.eq_ignore_ascii_case(b"chunked") =>
            {
                Ok((Body::Chunked(Chunks::default()), length.is_none()))
            }
            _ => Err(WireError::BadHead("its transfer coding is not `chunked`")),
        }
    }
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Result<u64, WireError> {
    let digits = Some(text).filter(|text| text.iter().all(u8::is_ascii_digit));
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(WireError::BadHead("its length is not a number"))
}

fn says_close(connection: &[u8]) -> bool {
    let mut options = connection.split(|byte| *byte == b',');
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(u16, Body, bool), WireError> {
        let mut received = BytesMut::from(text);
        let parsed = take(&mut received, &mut 0)?.expect("it is whole");
        assert!(received.is_empty());
        let status = parsed.head.status.as_u16();
        Ok((status, parsed.body, parsed.is_kept_alive))
    }

    #[test]
    fn framing_is_as_the_rfc_says() {
        for (head, body, is_kept_alive) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                "Length(5)",
                true,
            ),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "Ended", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "Chunked",
                true,
            ),
            (
                "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n",
                "Ended",
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", "UntilClosed", false),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
                "Length(5)",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n\r\n",
                "Length(5)",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                "Chunked",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
                "Length(5)",
                true,
            ),
        ] {
            let (_, framed, kept) = read(head).expect(head);
            let framed = format!("{framed:?}");
            assert!(framed.starts_with(body), "{head}: {framed}");
            assert_eq!(kept, is_kept_alive, "{head}");
        }
    }

    #[test]
    fn headers_are_found_however_they_are_spelled() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type:  text/event-stream \r\nX:\r\nx: 2\r\nx-y: a:b\r\ncontent-length: 1\r\n\r\n";
        let mut received = BytesMut::from(text);
        received.extend_from_slice(b"{");
        let parsed = take(&mut received, &mut 0).expect("good").expect("whole");
        let headers = parsed.head.headers;
        assert_eq!(received, "{");
        assert_eq!(headers.get_str("content-type"), Some("text/event-stream"));
        assert_eq!(headers.get("x"), Some(b"".as_slice()), "the first of two");
        assert_eq!(headers.get_str("x-y"), Some("a:b"));
        assert_eq!(headers.get("content"), None);
        assert_eq!(headers.iter().count(), 5);
        assert!(!format!("{headers:?}").contains("event-stream"));
    }

    #[test]
    fn what_says_two_things_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconte nt: b\r\n\r\n",
            "HTTP/1.1 200 OK\n\ncontent-length: 5\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 99 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(read(head).is_err(), "{head}");
        }
    }

    #[test]
    fn a_head_has_a_bound_and_may_come_in_drops() {
        let text = "HTTP/1.1 200 OK\r\na: b\r\n\r\n";
        let (mut received, mut searched) = (BytesMut::new(), 0);
        for (at, byte) in text.bytes().enumerate() {
            received.extend_from_slice(&[byte]);
            let head = take(&mut received, &mut searched).expect("it is good");
            assert_eq!(head.is_some(), at + 1 == text.len());
        }
        let mut endless = BytesMut::from(&*format!(
            "HTTP/1.1 200 OK\r\na: {}",
            "b".repeat(HEAD_BYTES_MAX)
        ));
        let refused = take(&mut endless, &mut 0).expect_err("it is too long");
        assert!(matches!(refused, WireError::TooLong));
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert!(matches!(read(&many), Err(WireError::TooLong)));
    }
}
