//! The operator's collector of telemetry: one POST after another over a kept connection.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tenancy::catalogue::SecretRef;

use super::call::OUR_NAME;
use super::http1::{Connection, ExchangeError};
use super::pool::{ConnectError, Pool};
use super::{Origin, Reach, UpstreamBody, UpstreamParts, read_secret};

/// 10 s for a connection, and as much for an answer: OTLP's default.
const PATIENCE: Duration = Duration::from_secs(10);
/// 64 KiB: an answer is a count and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where a collector is: the address that precedes `/v1/traces`.
#[derive(Debug, Clone)]
pub struct CollectorEndpoint(Origin);

/// Why telemetry cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectorSetupError {
    /// The address cannot be used.
    #[error("a collector's address begins with http:// or https://, as in http://127.0.0.1:4318")]
    BadAddress,
    /// No header has this name, or it is none that may be set.
    #[error("`{0}` is not a header that can be set")]
    BadHeader(String),
    /// The header's value cannot be read. The message names the reference, never the value.
    #[error("the value of `{0}` cannot be read from {1}: {2}")]
    Secret(String, SecretRef, &'static str),
}

impl FromStr for CollectorEndpoint {
    type Err = CollectorSetupError;

    fn from_str(text: &str) -> Result<Self, CollectorSetupError> {
        let origin = Origin::parse(text).ok_or(CollectorSetupError::BadAddress)?;
        Ok(Self(origin))
    }
}

/// A header of every request to a collector. Its `Debug` shows no value.
#[derive(Debug, Clone)]
pub struct CollectorHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl CollectorHeader {
    /// Reads a header's value from where the reference leads.
    ///
    /// # Errors
    ///
    /// [`CollectorSetupError`].
    pub fn read(name: &str, secret: &SecretRef) -> Result<Self, CollectorSetupError> {
        let bad_header = || CollectorSetupError::BadHeader(name.to_owned());
        let header: HeaderName = name.parse().map_err(|_| bad_header())?;
        if [HOST, CONTENT_LENGTH, CONTENT_TYPE].contains(&header) {
            return Err(bad_header());
        }
        let refused = |why| CollectorSetupError::Secret(name.to_owned(), secret.clone(), why);
        let value = read_secret(secret).map_err(refused)?;
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| refused("it has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Self {
            name: header,
            value,
        })
    }
}

/// A collector, ready to be sent to.
#[derive(Debug)]
pub(crate) struct Collector {
    origin: Origin,
    headers: HeaderMap,
    pool: Pool,
}

/// What a collector said.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) status: StatusCode,
    /// When to come back, if it said so.
    pub(crate) retry_after: Option<Duration>,
    /// Items that it did not take of a request that it took.
    pub(crate) rejected: u64,
}

/// Why a collector said nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectorError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the collector did not answer as HTTP/1 asks for")]
    Broken(#[from] ExchangeError),
    #[error("the collector did not answer in time")]
    TimedOut,
}

impl Collector {
    pub(crate) fn new(
        endpoint: CollectorEndpoint,
        headers: Vec<CollectorHeader>,
        parts: &UpstreamParts,
    ) -> Self {
        let headers = headers
            .into_iter()
            .map(|header| (header.name, header.value));
        Self {
            origin: endpoint.0,
            headers: headers.collect(),
            pool: Pool::new(parts.clone(), 1),
        }
    }

    /// Sends a message of protobuf to a path below the endpoint.
    ///
    /// # Errors
    ///
    /// [`CollectorError`]: whether it was received is not known.
    pub(crate) async fn post(&self, path: &str, body: Bytes) -> Result<Posted, CollectorError> {
        let connection = match self.pool.take() {
            Some(kept) => kept,
            // The operator chose the address.
            None => {
                let connecting = self.pool.connect(&self.origin, Reach::Anywhere, PATIENCE);
                connecting.await?
            }
        };
        tokio::time::timeout(PATIENCE, self.send(connection, path, body))
            .await
            .unwrap_or(Err(CollectorError::TimedOut))
    }

    async fn send(
        &self,
        mut connection: Connection,
        path: &str,
        body: Bytes,
    ) -> Result<Posted, CollectorError> {
        let body = UpstreamBody::of([body]);
        let request = self.request(path, &body);
        let head = connection.exchange(&request, &body).await?;
        let retry_after = head
            .headers
            .get_str(RETRY_AFTER.as_str())
            .and_then(|value| value.parse().ok())
            .map(Duration::from_secs);
        let rejected = match connection.whole_body(ANSWER_BYTES_MAX).await {
            Ok(body) => {
                self.pool.put_back(connection);
                rejected(&body)
            }
            // Too much, or cut: the status stands, the connection goes.
            Err(_) => 0,
        };
        Ok(Posted {
            status: head.status,
            retry_after,
            rejected,
        })
    }

    fn request(&self, path: &str, body: &UpstreamBody) -> Request<()> {
        let target: PathAndQuery = format!("{}{path}", self.origin.path)
            .try_into()
            .expect("a parsed URL's path and a constant are a path");
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target.into();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.extend(self.headers.clone());
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length()));
        request
    }
}

/// `partial_success.rejected_spans`, `…_log_records` or `…_data_points`: in the answers to all three
/// signals the first field of the first. What cannot be read rejects nothing.
fn rejected(answer: &[u8]) -> u64 {
    let partial = first_field(answer).and_then(|field| match field {
        Field::Bytes(partial) => first_field(partial),
        Field::Number(_) => None,
    });
    match partial {
        Some(Field::Number(count)) => count,
        _ => 0,
    }
}

/// A field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The field with the number 1, if the message begins with it, as fields are written in order.
fn first_field(mut message: &[u8]) -> Option<Field<'_>> {
    const NUMBER: u64 = 1 << 3;
    const BYTES: u64 = 1 << 3 | 2;
    match varint(&mut message)? {
        NUMBER => varint(&mut message).map(Field::Number),
        BYTES => {
            let length = usize::try_from(varint(&mut message)?).ok()?;
            message.get(..length).map(Field::Bytes)
        }
        _ => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_says_how_much_was_rejected() {
        for (answer, expected) in [
            (&b""[..], 0),
            (b"{}", 0),
            (b"<html>", 0),
            // An empty partial success, and one with a warning alone.
            (b"\x0a\x00", 0),
            (b"\x0a\x06\x12\x04slow", 0),
            (b"\x0a\x02\x08\x03", 3),
            (b"\x0a\x09\x08\xac\x02\x12\x04full", 300),
            // Cut, and longer than any number.
            (b"\x0a\x09\x08", 0),
            (
                b"\x0a\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                0,
            ),
        ] {
            assert_eq!(rejected(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn an_endpoint_is_an_address_and_a_header_a_reference() {
        assert!("http://[::1]:4318".parse::<CollectorEndpoint>().is_ok());
        for bad in ["", "127.0.0.1:4318", "grpc://collector:4317", "/v1"] {
            assert!(bad.parse::<CollectorEndpoint>().is_err(), "{bad}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Bearer secret-token\n").unwrap();
        let secret = SecretRef::File(file.path().to_str().unwrap().to_owned());
        let header = CollectorHeader::read("authorization", &secret).unwrap();
        assert!(!format!("{header:?}").contains("secret-token"));
        assert!(CollectorHeader::read("host", &secret).is_err());
        assert!(CollectorHeader::read("not a header", &secret).is_err());
        let absent = SecretRef::File("/nowhere/at/all".to_owned());
        assert!(CollectorHeader::read("authorization", &absent).is_err());
    }
}
