//! A checked body and where its top-level fields are.

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::error::InvalidRequest;
use crate::raw::{self, Raw};

/// A client's body, checked by [`Envelope::parse`]: one JSON object whose top-level keys are
/// distinct. Cloning copies no text.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub(crate) body: Bytes,
    /// Offset of the opening brace.
    pub(crate) open: u32,
    /// Offset of the closing brace.
    pub(crate) close: u32,
    /// 8: most chats have six; more are on the heap.
    pub(crate) fields: SmallVec<[Field; 8]>,
}

/// A top-level field: where it is, in bytes from the beginning, and what was counted in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// After the opening quote.
    pub(crate) key_start: u32,
    /// Before the closing quote.
    pub(crate) key_end: u32,
    pub(crate) key_escaped: bool,
    pub(crate) value_start: u32,
    pub(crate) value_end: u32,
    pub(crate) kind: Kind,
    pub(crate) tally: Tally,
}

/// What the scanner counted within one value, at all depths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Elements, if the value is an array: its own, not those of arrays inside.
    pub(crate) items: u32,
    /// Strings that are no keys.
    pub(crate) strings: u32,
    pub(crate) numbers: u32,
    /// Braces, brackets, commas and colons.
    pub(crate) structure: u32,
    /// Something inside may be of another modality than text.
    pub(crate) marked: bool,
}

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A top-level field as a reader sees it.
#[derive(Debug, Clone)]
pub struct EnvelopeField<'a> {
    /// The key, its escapes decoded.
    pub name: Cow<'a, str>,
    /// The kind of the value.
    pub kind: Kind,
    /// The value.
    pub value: Raw<'a>,
}

impl Envelope {
    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The top-level fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = EnvelopeField<'_>> {
        self.fields.iter().map(|field| EnvelopeField {
            name: self.name(field),
            kind: field.kind,
            value: self.value(field),
        })
    }

    /// The kind of a field's value; `None` if the field is absent.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.find(name).map(|field| field.kind)
    }

    /// A field's value, as JSON, without a copy.
    pub fn raw(&self, name: &str) -> Option<Bytes> {
        self.find(name).map(|field| self.value_bytes(field))
    }

    /// A field's value, to be walked.
    pub fn get(&self, name: &str) -> Option<Raw<'_>> {
        self.find(name).map(|field| self.value(field))
    }

    /// A string field. `None` if it is absent or null; an error if it is of another kind.
    pub fn str(&self, name: &str) -> Option<Result<Cow<'_, str>, InvalidRequest>> {
        let field = self.find_given(name)?;
        let text = self.value(field).as_str();
        Some(text.ok_or_else(|| InvalidRequest::wrong_type(name, "a string", field.kind)))
    }

    /// A field that is an integer of 0 or more. `None` if it is absent or null; an error if it is
    /// of another kind.
    pub fn u64(&self, name: &str) -> Option<Result<u64, InvalidRequest>> {
        let field = self.find_given(name)?;
        Some(self.field_u64(field, name))
    }

    /// A boolean field. `None` if it is absent or null; an error if it is of another kind.
    pub fn bool(&self, name: &str) -> Option<Result<bool, InvalidRequest>> {
        let field = self.find_given(name)?;
        let value = self.value(field).as_bool();
        Some(value.ok_or_else(|| InvalidRequest::wrong_type(name, "a boolean", field.kind)))
    }

    pub(crate) fn field_u64(&self, field: &Field, name: &str) -> Result<u64, InvalidRequest> {
        let value = self.value(field);
        value.as_u64().ok_or_else(|| match field.kind {
            Kind::Number => InvalidRequest::new(
                format!("Invalid value for '{name}': expected an integer of 0 or more."),
                name,
                "invalid_value",
            ),
            kind => InvalidRequest::wrong_type(name, "an integer", kind),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|index| &self.fields[index])
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|field| raw::key_is(self.key(field), field.key_escaped, name))
    }

    /// A field that says something: OpenAI reads null as absent.
    fn find_given(&self, name: &str) -> Option<&Field> {
        self.find(name).filter(|field| field.kind != Kind::Null)
    }

    pub(crate) fn name(&self, field: &Field) -> Cow<'_, str> {
        raw::decode_escaped(self.key(field), field.key_escaped)
    }

    pub(crate) fn value(&self, field: &Field) -> Raw<'_> {
        Raw::new(&self.body[field.value_start as usize..field.value_end as usize])
    }

    pub(crate) fn value_bytes(&self, field: &Field) -> Bytes {
        self.body
            .slice(field.value_start as usize..field.value_end as usize)
    }

    fn key(&self, field: &Field) -> &[u8] {
        &self.body[field.key_start as usize..field.key_end as usize]
    }
}

impl Field {
    pub(crate) fn value_length(&self) -> u64 {
        u64::from(self.value_end - self.value_start)
    }
}

impl Kind {
    /// The kind of a value that begins with this byte.
    pub(crate) fn of(first: Option<u8>) -> Option<Self> {
        Some(match first? {
            b'n' => Self::Null,
            b't' | b'f' => Self::Bool,
            b'-' | b'0'..=b'9' => Self::Number,
            b'"' => Self::String,
            b'[' => Self::Array,
            b'{' => Self::Object,
            _ => return None,
        })
    }

    /// As OpenAI's messages call it: `a string`.
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Bounds;

    #[test]
    fn accessors_read_and_refuse() {
        let text = br#" {"a":"x\u00e9","\u0062":7,"c":true,"d":null,"e":-1,"f":[1, 2]} "#;
        let envelope = Envelope::parse(Bytes::from_static(text), &Bounds::default()).unwrap();
        assert_eq!(envelope.str("a").unwrap().unwrap(), "xé");
        assert_eq!(envelope.u64("b").unwrap().unwrap(), 7);
        assert!(envelope.bool("c").unwrap().unwrap());
        assert!(envelope.str("d").is_none() && envelope.str("z").is_none());
        assert_eq!(envelope.kind("d"), Some(Kind::Null));
        assert_eq!(envelope.raw("f").unwrap(), "[1, 2]");
        assert!(envelope.u64("e").unwrap().is_err());
        assert_eq!(
            envelope.str("b").unwrap().unwrap_err().message,
            "Invalid type for 'b': expected a string, but got a number instead."
        );
        let names: Vec<_> = envelope.fields().map(|field| field.name).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    }
}
