//! The head of an answer, and what it says of the body behind it.

use std::sync::LazyLock;

use bytes::{Buf as _, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memmem::Finder;

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
    pub(in super::super) headers: HeaderMap,
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
    let parsed = parse(&received[..length])?;
    received.advance(length);
    Ok(Some(parsed))
}

fn parse(bytes: &[u8]) -> Result<Parsed, WireError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(WireError::BadHead("its end is not where its lines end")),
        Err(httparse::Error::TooManyHeaders) => return Err(WireError::TooLong),
        Err(_) => return Err(WireError::BadHead("it is not HTTP/1")),
    }
    let status = answer
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(WireError::BadHead("its status is none"))?;
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for header in answer.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(WireError::BadHead("a header is malformed"));
        };
        headers.append(name, value);
    }
    let (body, is_framed_once) = body(status, &headers)?;
    let is_kept_alive = is_framed_once
        && answer.version == Some(1)
        && !matches!(body, Body::UntilClosed)
        && !says_close(&headers);
    Ok(Parsed {
        head: AnswerHead { status, headers },
        body,
        is_kept_alive,
    })
}

/// The body's framing, and whether the head says it once: a peer that gives a length beside its
/// chunks is read by them, and not used again (RFC 9112, section 6.3).
fn body(status: StatusCode, headers: &HeaderMap) -> Result<(Body, bool), WireError> {
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok((Body::Ended, true));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return Err(WireError::BadHead("it has two lengths"));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next(), length) {
        (None, _, None) => Ok((Body::UntilClosed, true)),
        (None, _, Some(length)) => Ok((
            match number(length.as_bytes())? {
                0 => Body::Ended,
                length => Body::Length(length),
            },
            true,
        )),
        (Some(only), None, length) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok((Body::Chunked(Chunks::default()), length.is_none()))
        }
        _ => Err(WireError::BadHead("its transfer coding is not `chunked`")),
    }
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Result<u64, WireError> {
    let digits = Some(text).filter(|text| text.iter().all(u8::is_ascii_digit));
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(WireError::BadHead("its length is not a number"))
}

fn says_close(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
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
