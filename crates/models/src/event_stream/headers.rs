//! Headers of event-stream messages: a name, a type and a value each.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::EventStreamError;

/// One header.
#[derive(Debug, Clone, PartialEq)]
pub struct EventHeader {
    /// 1 to 255 bytes; those of the protocol begin with a colon.
    pub name: String,
    /// Its value.
    pub value: EventHeaderValue,
}

/// The types that a header's value can have.
#[derive(Debug, Clone, PartialEq)]
pub enum EventHeaderValue {
    /// True or false.
    Bool(bool),
    /// 8 bits.
    Byte(i8),
    /// 16 bits.
    Short(i16),
    /// 32 bits.
    Int(i32),
    /// 64 bits.
    Long(i64),
    /// At most 65,535 bytes.
    Bytes(Bytes),
    /// At most 65,535 bytes of UTF-8.
    Text(String),
    /// Milliseconds since 1970.
    TimestampMs(i64),
    /// 128 bits.
    Uuid([u8; 16]),
}

/// 64: Bedrock sends three a message.
const HEADERS_MAX: usize = 64;

impl EventHeader {
    /// A header of text.
    pub fn text(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: EventHeaderValue::Text(value.to_owned()),
        }
    }

    pub(super) fn encode(&self, into: &mut BytesMut) -> Result<(), EventStreamError> {
        let length = u8::try_from(self.name.len()).unwrap_or(0);
        if length == 0 {
            return Err(EventStreamError::Header("a name has 1 to 255 bytes"));
        }
        into.put_u8(length);
        into.put_slice(self.name.as_bytes());
        match &self.value {
            EventHeaderValue::Bool(true) => into.put_u8(0),
            EventHeaderValue::Bool(false) => into.put_u8(1),
            EventHeaderValue::Byte(value) => {
                into.put_u8(2);
                into.put_i8(*value);
            }
            EventHeaderValue::Short(value) => {
                into.put_u8(3);
                into.put_i16(*value);
            }
            EventHeaderValue::Int(value) => {
                into.put_u8(4);
                into.put_i32(*value);
            }
            EventHeaderValue::Long(value) => {
                into.put_u8(5);
                into.put_i64(*value);
            }
            EventHeaderValue::Bytes(value) => put_long(into, 6, value)?,
            EventHeaderValue::Text(value) => put_long(into, 7, value.as_bytes())?,
            EventHeaderValue::TimestampMs(value) => {
                into.put_u8(8);
                into.put_i64(*value);
            }
            EventHeaderValue::Uuid(value) => {
                into.put_u8(9);
                into.put_slice(value);
            }
        }
        Ok(())
    }
}

/// A value with its length before it.
fn put_long(into: &mut BytesMut, kind: u8, value: &[u8]) -> Result<(), EventStreamError> {
    let length = u16::try_from(value.len());
    let length =
        length.map_err(|_| EventStreamError::Header("a value has at most 65,535 bytes"))?;
    into.put_u8(kind);
    into.put_u16(length);
    into.put_slice(value);
    Ok(())
}

/// Reads all headers of a message.
pub(super) fn decode_all(mut bytes: Bytes) -> Result<Vec<EventHeader>, EventStreamError> {
    let mut headers = Vec::new();
    while bytes.has_remaining() {
        if headers.len() == HEADERS_MAX {
            return Err(EventStreamError::Header("a message has at most 64"));
        }
        headers.push(decode(&mut bytes)?);
    }
    Ok(headers)
}

fn decode(bytes: &mut Bytes) -> Result<EventHeader, EventStreamError> {
    let length = bytes.try_get_u8().map_err(cut)?;
    let name = text(take(bytes, usize::from(length))?)?;
    let kind = bytes.try_get_u8().map_err(cut)?;
    let value = match kind {
        0 => EventHeaderValue::Bool(true),
        1 => EventHeaderValue::Bool(false),
        2 => EventHeaderValue::Byte(bytes.try_get_i8().map_err(cut)?),
        3 => EventHeaderValue::Short(bytes.try_get_i16().map_err(cut)?),
        4 => EventHeaderValue::Int(bytes.try_get_i32().map_err(cut)?),
        5 => EventHeaderValue::Long(bytes.try_get_i64().map_err(cut)?),
        6 => EventHeaderValue::Bytes(take_long(bytes)?),
        7 => EventHeaderValue::Text(text(take_long(bytes)?)?),
        8 => EventHeaderValue::TimestampMs(bytes.try_get_i64().map_err(cut)?),
        9 => {
            let mut uuid = [0; 16];
            bytes.try_copy_to_slice(&mut uuid).map_err(cut)?;
            EventHeaderValue::Uuid(uuid)
        }
        _ => return Err(EventStreamError::Header("its type is unknown")),
    };
    Ok(EventHeader { name, value })
}

fn take_long(bytes: &mut Bytes) -> Result<Bytes, EventStreamError> {
    let length = bytes.try_get_u16().map_err(cut)?;
    take(bytes, usize::from(length))
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, EventStreamError> {
    if bytes.len() < length {
        return Err(EventStreamError::Header(CUT));
    }
    Ok(bytes.split_to(length))
}

fn text(bytes: Bytes) -> Result<String, EventStreamError> {
    let text = String::from_utf8(bytes.into());
    text.map_err(|_| EventStreamError::Header("its text is no UTF-8"))
}

const CUT: &str = "it ends before its value does";

fn cut(_: bytes::TryGetError) -> EventStreamError {
    EventStreamError::Header(CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_was_written() {
        let values = [
            EventHeaderValue::Bool(true),
            EventHeaderValue::Bool(false),
            EventHeaderValue::Byte(-2),
            EventHeaderValue::Short(-300),
            EventHeaderValue::Int(70_000),
            EventHeaderValue::Long(i64::MIN),
            EventHeaderValue::Bytes(Bytes::from_static(b"\0\xff")),
            EventHeaderValue::Text("é".to_owned()),
            EventHeaderValue::TimestampMs(8_675_309),
            EventHeaderValue::Uuid([7; 16]),
        ];
        let headers = values.map(|value| EventHeader {
            name: "n".to_owned(),
            value,
        });
        let mut written = BytesMut::new();
        for header in &headers {
            header.encode(&mut written).unwrap();
        }
        let written = written.freeze();
        assert_eq!(decode_all(written.clone()).unwrap(), headers);
        let mut whole = 0;
        for end in 0..written.len() {
            whole += usize::from(decode_all(written.slice(..end)).is_ok());
        }
        assert_eq!(whole, headers.len(), "only between headers may it be cut");
    }

    #[test]
    fn what_the_framing_cannot_say_is_refused() {
        let mut into = BytesMut::new();
        for name in [String::new(), "n".repeat(256)] {
            assert!(EventHeader::text(&name, "").encode(&mut into).is_err());
        }
        let long = "x".repeat(65_536);
        assert!(EventHeader::text("n", &long).encode(&mut into).is_err());
        let many = b"\x01n\x00".repeat(65);
        assert!(decode_all(many.into()).is_err());
    }
}
