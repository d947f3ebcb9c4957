//! What a response says again of the request that it answers.

use bytes::Bytes;

use crate::dialect::write::{self, ObjectWriter};
use crate::envelope::{Envelope, Kind};
use crate::json::Json;
use crate::rebuild::Rebuild;
use crate::scan::Bounds;

/// An upstream's answer: it may say any key, and nests as deep as its request's schemas.
const ANSWER: Bounds = Bounds {
    depth_max: 128,
    fields_max: 128,
    refused_keys: &[],
};

/// The fields of a request that its response repeats, with OpenAI's defaults for those that the
/// client left out. Taken from the client's request, before stored items were joined with it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResponseEcho {
    given: Vec<(&'static str, Json)>,
}

/// What is said where the client said nothing. Without a default a field is left out.
const FIELDS: &[(&str, Option<&str>)] = &[
    ("background", Some("false")),
    ("conversation", None),
    ("instructions", Some("null")),
    ("max_output_tokens", Some("null")),
    ("max_tool_calls", Some("null")),
    ("metadata", Some("{}")),
    ("parallel_tool_calls", Some("true")),
    ("previous_response_id", Some("null")),
    ("prompt", None),
    ("reasoning", Some(r#"{"effort":null,"summary":null}"#)),
    ("safety_identifier", None),
    ("service_tier", Some(r#""auto""#)),
    ("store", Some("true")),
    ("temperature", Some("1.0")),
    ("text", Some(r#"{"format":{"type":"text"}}"#)),
    ("tool_choice", Some(r#""auto""#)),
    ("tools", Some("[]")),
    ("top_logprobs", Some("0")),
    ("top_p", Some("1.0")),
    ("truncation", Some(r#""disabled""#)),
    ("user", None),
];

impl ResponseEcho {
    /// From the request as the client sent it.
    pub fn of(request: &Envelope) -> Self {
        let mut given = Vec::new();
        for (name, _) in FIELDS {
            let value = request
                .raw(name)
                .filter(|_| request.kind(name) != Some(Kind::Null));
            let Some(value) = value.map(Json::valid) else {
                continue;
            };
            // A request may name a conversation by its id; a response has an object.
            let value = match (*name, value.raw().kind()) {
                ("conversation", Some(Kind::String)) => {
                    let mut object = Vec::new();
                    write::object(&mut object, |to| {
                        to.json("id", &value);
                    });
                    Json::valid(object)
                }
                ("text", Some(Kind::Object)) if value.raw().get("format").is_none() => {
                    with_format(&value)
                }
                _ => value,
            };
            given.push((*name, value));
        }
        Self { given }
    }

    /// Whether the response is to be stored: the client did not say `"store": false`.
    pub fn is_stored(&self) -> bool {
        let mut given = self.given.iter();
        let store = given.find(|(name, _)| *name == "store");
        store.and_then(|(_, value)| value.raw().as_bool()) != Some(false)
    }

    /// A native upstream's response under the id that the gateway stores it by, with what the
    /// upstream was not told: that it is stored, and what it goes on from. All else stays as it
    /// is written. `None` if the body is no JSON object.
    pub fn restore(&self, response: &Bytes, id: &str) -> Option<Bytes> {
        let envelope = Envelope::parse(response.clone(), &ANSWER).ok()?;
        let mut rebuild = Rebuild::from(&envelope);
        rebuild.set("id", id).set("store", self.is_stored());
        for (name, value) in &self.given {
            if matches!(
                *name,
                "conversation" | "previous_response_id" | "background"
            ) {
                rebuild.set(name, value.clone());
            }
        }
        Some(rebuild.finish().to_bytes())
    }

    /// The data of an event of a native upstream's stream, with its response [restored], if it
    /// has one.
    ///
    /// [restored]: ResponseEcho::restore
    pub fn restore_event(&self, data: &Bytes, id: &str) -> Option<Bytes> {
        let envelope = Envelope::parse(data.clone(), &ANSWER).ok()?;
        if envelope.kind("response") != Some(Kind::Object) {
            return Some(data.clone());
        }
        let response = self.restore(&envelope.raw("response")?, id)?;
        let mut rebuild = Rebuild::from(&envelope);
        rebuild.set("response", Json::valid(response));
        Some(rebuild.finish().to_bytes())
    }

    /// Writes all fields; `tier` is the one that served the answer.
    pub(super) fn write(&self, to: &mut ObjectWriter<'_>, tier: Option<&str>) {
        for (name, default) in FIELDS {
            let given = self.given.iter().find(|(given, _)| given == name);
            match (given, default) {
                _ if *name == "service_tier" && tier.is_some() => {
                    to.maybe(name, tier);
                }
                (Some((_, value)), _) => {
                    to.json(name, value);
                }
                (None, Some(default)) => {
                    to.json(name, &Json::valid(*default));
                }
                (None, None) => {}
            }
        }
    }
}

/// `text` of a request that only says `verbosity`.
fn with_format(text: &Json) -> Json {
    let mut object = Vec::new();
    write::object(&mut object, |to| {
        to.json("format", &Json::valid(r#"{"type":"text"}"#));
        for (key, value) in text.raw().fields() {
            let value = Bytes::copy_from_slice(value.bytes());
            to.json(&key.decode(), &Json::valid(value));
        }
    });
    Json::valid(object)
}
