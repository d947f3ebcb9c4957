//! AWS's event-stream framing (`application/vnd.amazon.eventstream`), as Bedrock streams it.
//!
//! A message is: its whole length and its headers' length (4 bytes each, big-endian), a CRC-32
//! of those 8 bytes, the headers, the payload, and a CRC-32 of everything before. Layout and
//! limits are those of the Smithy specification "Amazon Event Stream".

mod crc;
mod headers;

use bytes::{BufMut, Bytes, BytesMut};

use crc::Crc32;
pub use headers::{EventHeader, EventHeaderValue};

/// 16 MiB + 128 KiB + 16: the largest payload and headers that the specification allows, and the
/// frame around them.
pub const EVENT_MESSAGE_BYTES_MAX: usize = (16 << 20) + HEADERS_BYTES_MAX + FRAME_BYTES;

/// 128 KiB: the specification's bound.
const HEADERS_BYTES_MAX: usize = 128 << 10;

/// Two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;

/// What is around headers and payload: the prelude and the last checksum.
const FRAME_BYTES: usize = PRELUDE_BYTES + 4;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventMessage {
    /// The headers, in their order.
    pub headers: Vec<EventHeader>,
    /// The payload: JSON, in Bedrock's streams.
    pub payload: Bytes,
}

/// Splits a stream into messages, wherever the network cut it.
#[derive(Debug)]
pub struct EventStreamDecoder {
    message_bytes_max: usize,
    held: BytesMut,
    failed: bool,
}

/// The messages that a chunk completes.
#[derive(Debug)]
pub struct EventMessages<'a>(&'a mut EventStreamDecoder);

/// A stream, or a message to be sent, breaks the framing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventStreamError {
    /// A message exceeds the bound.
    #[error("a message of the stream has {message_bytes} bytes, more than {message_bytes_max}")]
    MessageTooLong {
        /// The length that the message says.
        message_bytes: usize,
        /// The bound.
        message_bytes_max: usize,
    },
    /// The headers exceed the message, or the specification's bound.
    #[error("a message of {message_bytes} bytes says that its headers have {headers_bytes}")]
    WrongLength {
        /// The length that the message says.
        message_bytes: usize,
        /// What it says of its headers.
        headers_bytes: usize,
    },
    /// The lengths were damaged on the way.
    #[error("the checksum of a message's lengths is wrong")]
    PreludeChecksum,
    /// The message was damaged on the way.
    #[error("the checksum of a message is wrong")]
    MessageChecksum,
    /// A header cannot be read.
    #[error("a header of a message is malformed: {0}")]
    Header(&'static str),
}

impl EventMessage {
    /// A message as Bedrock sends an event: its type in the headers, JSON in the payload.
    pub fn event(event_type: &str, payload: Bytes) -> Self {
        let headers = vec![
            EventHeader::text(":event-type", event_type),
            EventHeader::text(":content-type", "application/json"),
            EventHeader::text(":message-type", "event"),
        ];
        Self { headers, payload }
    }

    /// A message as Bedrock sends a failure in mid-stream.
    pub fn exception(exception_type: &str, payload: Bytes) -> Self {
        let headers = vec![
            EventHeader::text(":exception-type", exception_type),
            EventHeader::text(":content-type", "application/json"),
            EventHeader::text(":message-type", "exception"),
        ];
        Self { headers, payload }
    }

    /// The text of a header; `None` if it is absent or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        match &header.value {
            EventHeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The message's bytes.
    ///
    /// # Errors
    /// A header's name or value, all headers, or the whole exceed what the framing can say.
    pub fn encode(&self) -> Result<Bytes, EventStreamError> {
        let mut headers = BytesMut::new();
        for header in &self.headers {
            header.encode(&mut headers)?;
        }
        let message_bytes = FRAME_BYTES + headers.len() + self.payload.len();
        check_lengths(message_bytes, headers.len(), EVENT_MESSAGE_BYTES_MAX)?;
        let mut message = BytesMut::with_capacity(message_bytes);
        message.put_u32(u32_length(message_bytes));
        message.put_u32(u32_length(headers.len()));
        message.put_u32(Crc32::of(&message));
        message.put_slice(&headers);
        message.put_slice(&self.payload);
        message.put_u32(Crc32::of(&message));
        Ok(message.freeze())
    }
}

impl EventStreamDecoder {
    /// A decoder for one stream. [`EVENT_MESSAGE_BYTES_MAX`] is the specification's bound.
    pub fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            held: BytesMut::new(),
            failed: false,
        }
    }

    /// Takes the next chunk, of any size, and gives the messages that it completes. After an
    /// error nothing more is read.
    pub fn feed(&mut self, chunk: &[u8]) -> EventMessages<'_> {
        if !self.failed {
            self.held.extend_from_slice(chunk);
        }
        EventMessages(self)
    }

    /// Whether the next byte begins a message, so that a stream which ends here was not cut.
    pub fn is_between_messages(&self) -> bool {
        self.held.is_empty() && !self.failed
    }

    fn next_message(&mut self) -> Result<Option<EventMessage>, EventStreamError> {
        let Some((prelude, _)) = self.held.split_first_chunk::<PRELUDE_BYTES>() else {
            return Ok(None);
        };
        if Crc32::of(&prelude[..8]) != u32_at(prelude, 8) {
            return Err(EventStreamError::PreludeChecksum);
        }
        let message_bytes = u32_at(prelude, 0) as usize;
        let headers_bytes = u32_at(prelude, 4) as usize;
        check_lengths(message_bytes, headers_bytes, self.message_bytes_max)?;
        if self.held.len() < message_bytes {
            return Ok(None);
        }
        let message = self.held.split_to(message_bytes).freeze();
        let checked = message_bytes - 4;
        if Crc32::of(&message[..checked]) != u32_at(&message, checked) {
            return Err(EventStreamError::MessageChecksum);
        }
        let headers_end = PRELUDE_BYTES + headers_bytes;
        Ok(Some(EventMessage {
            headers: headers::decode_all(message.slice(PRELUDE_BYTES..headers_end))?,
            payload: message.slice(headers_end..checked),
        }))
    }
}

impl Iterator for EventMessages<'_> {
    type Item = Result<EventMessage, EventStreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.failed {
            return None;
        }
        let next = self.0.next_message();
        if next.is_err() {
            self.0.failed = true;
            self.0.held = BytesMut::new();
        }
        next.transpose()
    }
}

/// Lengths are checked before a byte of the message is waited for.
fn check_lengths(
    message_bytes: usize,
    headers_bytes: usize,
    message_bytes_max: usize,
) -> Result<(), EventStreamError> {
    if message_bytes > message_bytes_max {
        return Err(EventStreamError::MessageTooLong {
            message_bytes,
            message_bytes_max,
        });
    }
    if headers_bytes > HEADERS_BYTES_MAX || message_bytes < FRAME_BYTES + headers_bytes {
        return Err(EventStreamError::WrongLength {
            message_bytes,
            headers_bytes,
        });
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + 4].try_into().expect("the range has 4 bytes");
    u32::from_be_bytes(four)
}

fn u32_length(length: usize) -> u32 {
    u32::try_from(length).expect("lengths were checked to be below 17 MiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `empty_message` of AWS's test vectors. Those below are `payload_no_headers` and
    /// `payload_one_str_header`.
    const EMPTY: [u8; 16] = [
        0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff,
    ];

    fn read(chunks: &[&[u8]]) -> Vec<Result<EventMessage, EventStreamError>> {
        let mut decoder = EventStreamDecoder::new(1 << 20);
        let mut read = Vec::new();
        for chunk in chunks {
            read.extend(decoder.feed(chunk));
        }
        read
    }

    #[test]
    fn published_vectors_are_read_and_written() {
        let empty = EventMessage::default();
        assert_eq!(&empty.encode().unwrap()[..], EMPTY);
        assert_eq!(read(&[&EMPTY]), [Ok(empty)]);

        let payload = EventMessage {
            headers: Vec::new(),
            payload: Bytes::from_static(b"{'foo':'bar'}"),
        };
        let written = payload.encode().unwrap();
        assert_eq!(
            written[..12],
            [0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a]
        );
        assert_eq!(written[25..], [0xc3, 0x65, 0x39, 0x36]);

        let header = EventMessage {
            headers: vec![EventHeader::text("content-type", "application/json")],
            payload: payload.payload,
        };
        let written = header.encode().unwrap();
        assert_eq!(
            written[..12],
            [0, 0, 0, 0x3d, 0, 0, 0, 0x20, 0x07, 0xfd, 0x83, 0x96]
        );
        assert_eq!(written[57..], [0x8d, 0x9c, 0x08, 0xb1]);
    }

    #[test]
    fn damage_is_noticed() {
        let whole = EventMessage::event("messageStop", Bytes::from_static(b"{}"));
        let whole = whole.encode().unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x10;
            let expected = if at < PRELUDE_BYTES {
                EventStreamError::PreludeChecksum
            } else {
                EventStreamError::MessageChecksum
            };
            assert_eq!(read(&[&damaged]), [Err(expected)], "byte {at}");
        }
        let read = read(&[&whole[..whole.len() - 1]]);
        assert_eq!(read, []);
    }

    /// A prelude with a right checksum.
    fn prelude(message_bytes: u32, headers_bytes: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&message_bytes.to_be_bytes());
        bytes.extend_from_slice(&headers_bytes.to_be_bytes());
        bytes.extend_from_slice(&Crc32::of(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn lengths_are_refused_before_they_are_waited_for() {
        for (message_bytes, headers_bytes) in [(15, 0), (0, 0), (20, 5), (200_000, 131_073)] {
            let read = read(&[&prelude(message_bytes, headers_bytes)]);
            assert_eq!(
                read,
                [Err(EventStreamError::WrongLength {
                    message_bytes: message_bytes as usize,
                    headers_bytes: headers_bytes as usize,
                })]
            );
        }
        let mut decoder = EventStreamDecoder::new(100);
        let long = prelude(101, 0);
        assert_eq!(
            decoder.feed(&long).next(),
            Some(Err(EventStreamError::MessageTooLong {
                message_bytes: 101,
                message_bytes_max: 100,
            }))
        );
        assert_eq!(
            decoder.feed(&EMPTY).next(),
            None,
            "a failed stream stays so"
        );
        assert!(!decoder.is_between_messages());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(
            payloads in proptest::collection::vec(".{0,40}", 1..5),
            cut in 0usize..400,
        ) {
            let messages: Vec<_> = payloads
                .into_iter()
                .map(|text| EventMessage::event("contentBlockDelta", text.into()))
                .collect();
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend_from_slice(&message.encode().unwrap());
            }
            let cut = cut.min(stream.len());
            let read: Result<Vec<_>, _> = read(&[&stream[..cut], &stream[cut..]]).into_iter().collect();
            prop_assert_eq!(read, Ok(messages));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = prelude(bytes.len() as u32 + 16, (bytes.len() / 2) as u32);
            framed.extend_from_slice(&bytes);
            framed.extend_from_slice(&Crc32::of(&framed).to_be_bytes());
            let whole = read(&[&framed]);
            prop_assert_eq!(whole.len(), 1);
            read(&[&bytes]);
        }
    }
}
