//! OTLP's messages, in protobuf's binary encoding: the one that every collector takes. The numbers are
//! those of `opentelemetry-proto` 1.x, where fields never change theirs.

mod metrics;
mod protobuf;
mod records;
mod spans;

use base::{Id, IdKind, Timestamp};
use models::Operation;

use super::names;
use protobuf::Message;

pub(super) use metrics::{Window, metrics_request};
pub(super) use records::{process_request, records_request};
pub(super) use spans::spans_request;

/// Who sends.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) service_name: String,
    /// Tells replicas apart: their sums are not each other's.
    pub(super) instance: String,
}

/// An attribute's value (`AnyValue`).
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// Counts are far below 2^63; one that is not is shown as the largest.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl Value<'_> {
    fn write(self, value: &mut Message<'_>) {
        match self {
            Self::Text(text) => value.kept_bytes(1, text.as_bytes()),
            Self::Bool(truth) => value.kept_number(2, i64::from(truth)),
            Self::Int(number) => value.kept_number(3, number),
            Self::Double(number) => value.double(4, number),
        }
    }
}

/// The tags of an `AnyValue`'s text, truth and number.
const TEXT: u8 = 1 << 3 | 2;
const BOOL: u8 = 2 << 3;
const INT: u8 = 3 << 3;

/// Where a message's attributes (`KeyValue`) are written. Most are short.
struct Attributes<'a, 'b> {
    of: &'a mut Message<'b>,
    field: u32,
}

impl Attributes<'_, '_> {
    fn add<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        match value.into() {
            Value::Text(text) => self.add_text(key, text.as_bytes()),
            // Below 128 a number is its own encoding.
            Value::Int(number @ 0..0x80) => self.add_short(key, [INT, number as u8]),
            Value::Bool(truth) => self.add_short(key, [BOOL, u8::from(truth)]),
            value => self.add_written(key, |message| value.write(message)),
        }
    }

    fn add_short(&mut self, key: &str, value: [u8; 2]) {
        if !self.of.short_entry(self.field, key, value, &[]) {
            self.add_written(key, |message| message.written(&value));
        }
    }

    fn add_text(&mut self, key: &str, text: &[u8]) {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        if !self.of.short_entry(self.field, key, [TEXT, length], text) {
            self.add_written(key, |value| value.kept_bytes(1, text));
        }
    }

    fn add_known<'v>(&mut self, key: &str, value: Option<impl Into<Value<'v>>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn add_id<K: IdKind>(&mut self, key: &str, id: Id<K>) {
        self.add_text(key, &id.to_ascii());
    }

    /// An `ArrayValue` of texts.
    fn add_list<'v>(&mut self, key: &str, values: impl Iterator<Item = &'v str>) {
        self.add_written(key, |value| {
            value.message(5, |list| {
                for text in values {
                    list.message(1, |value| Value::Text(text).write(value));
                }
            });
        });
    }

    fn add_written(&mut self, key: &str, write: impl FnOnce(&mut Message<'_>)) {
        self.of.message(self.field, |attribute| {
            attribute.kept_bytes(1, key.as_bytes());
            attribute.message(2, write);
        });
    }
}

/// Room for the length of a whole request: nothing in it is moved when that is known. 256 MiB, a
/// hundred times what is ever sent at once.
const LENGTH_BYTES: usize = 4;

/// A request: one resource (who sends), one scope (what made the items), and what `write_items` puts
/// into that. All three signals have the same numbers here.
fn request(
    resource: &Resource,
    schema_url: &str,
    room: usize,
    write_items: impl FnOnce(&mut Message<'_>),
) -> Vec<u8> {
    protobuf::encode(room, |request| {
        request.long_message::<LENGTH_BYTES>(1, |of_resource| {
            of_resource.message(1, |message| resource.write(message));
            of_resource.long_message::<LENGTH_BYTES>(2, |of_scope| {
                of_scope.message(1, |scope| {
                    scope.text(1, names::SCOPE);
                    scope.text(2, env!("CARGO_PKG_VERSION"));
                });
                write_items(of_scope);
                of_scope.text(3, schema_url);
            });
        });
    })
}

impl Resource {
    fn write(&self, message: &mut Message<'_>) {
        let mut attributes = Attributes {
            of: message,
            field: 1,
        };
        attributes.add(names::SERVICE_NAME, self.service_name.as_str());
        attributes.add(names::SERVICE_VERSION, env!("CARGO_PKG_VERSION"));
        attributes.add(names::SERVICE_INSTANCE_ID, self.instance.as_str());
    }
}

/// A time in nanoseconds since 1970.
fn nanos(at: Timestamp) -> u64 {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    micros.saturating_mul(1_000)
}

/// What the conventions call an operation.
const fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat | Operation::Messages | Operation::Responses => "chat",
        Operation::Completion => "text_completion",
        Operation::Embedding => "embeddings",
        // The conventions have no names for these.
        Operation::CountTokens => "count_tokens",
        Operation::Rerank => "rerank",
        Operation::Moderation => "moderation",
    }
}
