//! OTLP's JSON encoding, the part of it that we send: protobuf's JSON mapping with ids in hex,
//! enums as numbers, and 64-bit integers as text (OTLP specification, "JSON Protobuf Encoding").

mod metrics;
mod records;
mod spans;

use std::borrow::Cow;
use std::fmt::Display;

use base::Timestamp;
use bytes::Bytes;
use models::Operation;
use serde::{Serialize, Serializer};

use super::names;

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

/// An attribute.
#[derive(Debug, Clone, Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Debug, Clone, Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(Cow<'a, str>),
    #[serde(rename = "intValue")]
    Int(Decimal<i64>),
    #[serde(rename = "doubleValue")]
    Double(f64),
    #[serde(rename = "boolValue")]
    Bool(bool),
    #[serde(rename = "arrayValue")]
    Array { values: Vec<Value<'a>> },
}

impl<'a> Attribute<'a> {
    fn new(key: &'static str, value: impl Into<Value<'a>>) -> Self {
        Self {
            key,
            value: value.into(),
        }
    }

    /// The name of what shows itself.
    fn shown(key: &'static str, value: impl Display) -> Self {
        Self::new(key, Value::Text(value.to_string().into()))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(Decimal(number))
    }
}

/// Counts are far below 2^63; one that is not is shown as the largest.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Int(Decimal(i64::try_from(number).unwrap_or(i64::MAX)))
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

/// A 64-bit integer, as text.
#[derive(Debug, Clone, Copy)]
struct Decimal<T>(T);

impl<T: Display> Serialize for Decimal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time in nanoseconds since 1970, as text.
fn nanos(at: Timestamp) -> Decimal<u64> {
    let micros = u64::try_from(at.as_micros()).unwrap_or(0);
    Decimal(micros.saturating_mul(1_000))
}

#[derive(Debug, Serialize)]
struct ResourceAttributes<'a> {
    attributes: [Attribute<'a>; 3],
}

impl Resource {
    fn attributes(&self) -> ResourceAttributes<'_> {
        ResourceAttributes {
            attributes: [
                Attribute::new(names::SERVICE_NAME, self.service_name.as_str()),
                Attribute::new(names::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
                Attribute::new(names::SERVICE_INSTANCE_ID, self.instance.as_str()),
            ],
        }
    }
}

/// What made the spans and metrics.
#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

const SCOPE: Scope = Scope {
    name: names::SCOPE,
    version: env!("CARGO_PKG_VERSION"),
};

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

fn to_json(request: &impl Serialize) -> Bytes {
    serde_json::to_vec(request)
        .expect("numbers and text are JSON")
        .into()
}
