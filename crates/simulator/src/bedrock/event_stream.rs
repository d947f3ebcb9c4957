//! AWS's event streams: binary frames with headers, a payload and two checksums.
//!
//! A frame is: the total length, the headers' length, the CRC32 of those two; the headers; the
//! payload; the CRC32 of all before it. Numbers are 32 bits, big-endian.

/// The type of a header whose value is a string.
const STRING: u8 = 7;

/// Bytes of a frame beside its headers and payload.
const FRAME_BYTES: usize = 16;

/// A frame of one event.
pub(super) fn event(kind: &str, payload: &[u8]) -> Vec<u8> {
    frame(
        &[(":message-type", "event"), (":event-type", kind)],
        payload,
    )
}

/// A frame that ends a stream with an exception.
pub(super) fn exception(kind: &str, payload: &[u8]) -> Vec<u8> {
    frame(
        &[(":message-type", "exception"), (":exception-type", kind)],
        payload,
    )
}

fn frame(kinds: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut headers = Vec::with_capacity(96);
    for (name, value) in kinds.iter().chain(&[(":content-type", "application/json")]) {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(STRING);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let total = FRAME_BYTES + headers.len() + payload.len();
    let mut frame = Vec::with_capacity(total);
    frame.extend_from_slice(&(total as u32).to_be_bytes());
    frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame.extend_from_slice(&headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32(&frame).to_be_bytes());
    frame
}

/// CRC-32 as in Ethernet and zlib: reflected, polynomial 0x04C11DB7.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(u32::MAX, step)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xEDB8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        let frame = event("messageStart", b"{}");
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        assert_eq!(number(0) as usize, frame.len());
        assert_eq!(number(4) as usize, frame.len() - FRAME_BYTES - 2);
        assert_eq!(number(8), crc32(&frame[..8]));
        assert_eq!(number(frame.len() - 4), crc32(&frame[..frame.len() - 4]));
        assert_eq!(&frame[12..26], b"\x0d:message-type");
    }
}
