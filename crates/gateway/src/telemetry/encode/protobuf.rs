//! Protobuf's wire format, as far as OTLP's messages need it.
//! <https://protobuf.dev/programming-guides/encoding/>

/// How a field's value is written.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// A message at the end of a buffer. A field that holds its default is not written, unless
/// its method says so.
#[derive(Debug)]
pub(super) struct Message<'a>(&'a mut Vec<u8>);

/// A whole message, for which there is room for so many bytes.
pub(super) fn encode(room: usize, write: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(room);
    append(&mut buffer, write);
    buffer
}

/// Further fields of a message.
pub(super) fn append(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Message<'_>)) {
    write(&mut Message(buffer));
}

impl Message<'_> {
    /// Numbers of fields are below 16 everywhere in OTLP but for one, which is 16.
    fn tag(&mut self, field: u32, wire: Wire) {
        self.push_varint(u64::from(field << 3 | wire as u32));
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// `uint32`, `enum`.
    pub(super) fn number(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.kept_number(field, i64::from(value));
        }
    }

    /// `int64` or `bool` of a `oneof`: written even if it is 0.
    pub(super) fn kept_number(&mut self, field: u32, value: i64) {
        self.tag(field, Wire::Varint);
        self.push_varint(value as u64);
    }

    /// `fixed64`, `sfixed64`: written even if it is 0.
    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, Wire::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `double`: written even if it is 0.
    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// `fixed32`.
    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.tag(field, Wire::Fixed32);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `string`.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.kept_bytes(field, text.as_bytes());
        }
    }

    /// `string`, in parts.
    pub(super) fn text_of(&mut self, field: u32, parts: [&str; 3]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.tag(field, Wire::Length);
        self.push_varint(length as u64);
        for part in parts {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    /// `bytes`, or `string` of a `oneof`: written even if it is empty.
    pub(super) fn kept_bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, Wire::Length);
        self.push_varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// `repeated fixed64` and `repeated double`, packed.
    pub(super) fn packed(&mut self, field: u32, values: impl ExactSizeIterator<Item = u64>) {
        self.tag(field, Wire::Length);
        self.push_varint(8 * values.len() as u64);
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// A message in a field, even if it is empty.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message<'_>)) {
        self.tag(field, Wire::Length);
        // Nearly all are so short that their length takes one byte.
        self.0.push(0);
        let start = self.0.len();
        write(&mut Message(self.0));
        let length = self.0.len() - start;
        if length < 0x80 {
            self.0[start - 1] = length as u8;
        } else {
            self.make_room_for_length(start, length);
        }
    }

    /// The same, of a message that is never so short: its length takes so many bytes, which the
    /// format allows of every length, and more if it must.
    pub(super) fn long_message<const BYTES: usize>(
        &mut self,
        field: u32,
        write: impl FnOnce(&mut Message<'_>),
    ) {
        self.tag(field, Wire::Length);
        self.0.extend_from_slice(&[0; BYTES]);
        let start = self.0.len();
        write(&mut Message(self.0));
        let length = self.0.len() - start;
        if length >> (7 * BYTES) == 0 {
            for (place, byte) in self.0[start - BYTES..start].iter_mut().enumerate() {
                let is_last = place + 1 == BYTES;
                *byte = (length >> (7 * place)) as u8 & 0x7f | u8::from(!is_last) << 7;
            }
        } else {
            let unused = BYTES - 1;
            self.0.drain(start - unused..start);
            self.make_room_for_length(start - unused, length);
        }
    }

    /// Moves a message of this `length` at `start`, so that its length fits before it.
    #[cold]
    fn make_room_for_length(&mut self, start: usize, length: usize) {
        let mut varint = Vec::with_capacity(10);
        Message(&mut varint).push_varint(length as u64);
        self.0.splice(start - 1..start, varint);
    }

    /// An attribute (`{1: key, 2: value}`), and true, if it is so short that each of its lengths
    /// takes one byte; nothing otherwise. The value's message is two bytes, and more. The field is
    /// below 16.
    #[inline]
    pub(super) fn short_entry(
        &mut self,
        field: u32,
        key: &str,
        value: [u8; 2],
        more: &[u8],
    ) -> bool {
        const KEY: u8 = 1 << 3 | Wire::Length as u8;
        const VALUE: u8 = 2 << 3 | Wire::Length as u8;
        let length = 2 + key.len() + 4 + more.len();
        if length >= 0x80 {
            return false;
        }
        let tag = (field << 3 | Wire::Length as u32) as u8;
        self.0.reserve(2 + length);
        self.0
            .extend_from_slice(&[tag, length as u8, KEY, key.len() as u8]);
        self.0.extend_from_slice(key.as_bytes());
        self.0
            .extend_from_slice(&[VALUE, 2 + more.len() as u8, value[0], value[1]]);
        self.0.extend_from_slice(more);
        true
    }

    /// Fields that were written before as messages of one number, under this one. Both are below
    /// 16.
    pub(super) fn written_as(&mut self, field: u32, fields: &[u8]) {
        let start = self.0.len();
        self.0.extend_from_slice(fields);
        let mut rest = &mut self.0[start..];
        while let Some((tag, after)) = rest.split_first_mut() {
            *tag = (field << 3 | Wire::Length as u32) as u8;
            let (mut length, mut shift, mut at) = (0, 0, 0);
            while let Some(byte) = after.get(at) {
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                at += 1;
                if *byte < 0x80 {
                    break;
                }
            }
            rest = after.split_at_mut(at + length).1;
        }
    }

    /// What has been written before, in place of fields.
    pub(super) fn written(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of protobuf's own description of its wire format.
    #[test]
    fn what_is_written_is_what_the_format_says() {
        let number = encode(0, |message| message.number(1, 150));
        assert_eq!(number, [0x08, 0x96, 0x01]);
        let text = encode(0, |message| message.text(2, "testing"));
        assert_eq!(text, *b"\x12\x07testing");
        let inner = encode(0, |message| {
            message.message(3, |inner| inner.number(1, 150))
        });
        assert_eq!(inner, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let negative = encode(0, |message| message.kept_number(1, -1));
        assert_eq!(negative.len(), 11);
        let high = encode(0, |message| message.fixed32(16, 1));
        assert_eq!(high, [0x85, 0x01, 1, 0, 0, 0]);
        let packed = encode(0, |message| message.packed(6, [1, 2].into_iter()));
        assert_eq!(packed[..3], [0x32, 16, 1]);
    }

    #[test]
    fn defaults_are_left_out_unless_they_say_something() {
        let left_out = encode(0, |message| {
            message.number(1, 0);
            message.text(2, "");
            message.fixed32(3, 0);
        });
        assert!(left_out.is_empty(), "{left_out:?}");
        let kept = encode(0, |message| {
            message.kept_number(1, 0);
            message.kept_bytes(2, b"");
        });
        assert_eq!(kept, [0x08, 0, 0x12, 0]);
    }

    #[test]
    fn a_short_entry_is_what_the_fields_one_by_one_are() {
        for length in [0, 1, 100, 118, 119, 120, 121, 300] {
            let (key, head, tail) = ("key", *b"\x0a\x01", "x".repeat(length));
            let mut is_short = false;
            let entry = encode(0, |message| {
                is_short = message.short_entry(6, key, head, tail.as_bytes());
            });
            let one_by_one = encode(0, |message| {
                message.message(6, |entry| {
                    entry.kept_bytes(1, key.as_bytes());
                    entry.message(2, |value| {
                        value.written(&head);
                        value.written(tail.as_bytes());
                    });
                });
            });
            assert_eq!(is_short, one_by_one.len() < 2 + 0x80, "{length}");
            assert_eq!(entry, if is_short { one_by_one } else { Vec::new() });
        }
    }

    #[test]
    fn a_long_message_has_its_length_in_two_bytes_or_more() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            let inner = vec![7; length];
            let long = encode(0, |message| {
                message.long_message::<2>(2, |message| message.written(&inner));
                message.number(3, 7);
            });
            let usual = encode(0, |message| {
                message.message(2, |message| message.written(&inner));
                message.number(3, 7);
            });
            match length {
                // The same number, with a byte that adds nothing.
                0..128 => assert_eq!(long[..3], [0x12, 0x80 | length as u8, 0]),
                _ => assert!(long == usual, "{length}"),
            }
            assert_eq!(long.len(), usual.len() + usize::from(length < 128));
        }
    }

    #[test]
    fn a_length_has_as_many_bytes_as_were_left_for_it() {
        let long = encode(0, |message| {
            message.long_message::<4>(2, |message| message.written(&[7; 300]));
        });
        // 300 is 2 * 128 + 44.
        assert_eq!(long[..5], [0x12, 0x80 | 44, 0x80 | 2, 0x80, 0]);
        assert_eq!(long.len(), 305);
    }

    #[test]
    fn a_text_in_parts_is_the_whole_text() {
        let parts = encode(0, |message| message.text_of(5, ["chat", " ", "model"]));
        assert_eq!(parts, encode(0, |message| message.text(5, "chat model")));
    }

    #[test]
    fn fields_are_written_again_under_another_number() {
        let fields = |number| {
            encode(0, |message| {
                for length in [0, 1, 127, 128, 20_000] {
                    message.message(number, |inner| inner.written(&vec![0xff; length]));
                }
            })
        };
        let again = encode(0, |message| {
            message.number(1, 7);
            message.written_as(6, &fields(9));
            message.number(2, 7);
        });
        let expected = encode(0, |message| {
            message.number(1, 7);
            message.written(&fields(6));
            message.number(2, 7);
        });
        assert_eq!(again, expected);
    }

    #[test]
    fn lengths_of_every_size_are_written_before_what_they_count() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            let text = "x".repeat(length);
            let nested = encode(0, |message| {
                message.number(1, 7);
                message.message(2, |inner| inner.written(text.as_bytes()));
                message.number(3, 7);
            });
            let flat = encode(0, |message| {
                message.number(1, 7);
                message.kept_bytes(2, text.as_bytes());
                message.number(3, 7);
            });
            assert!(nested == flat, "{length}");
        }
    }
}
