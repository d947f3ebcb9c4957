//! Log records: one for each call of a model, as its line in the log has it, and what the process
//! itself says.

use std::sync::Arc;

use super::protobuf::Message;
use super::spans::{ROOM, attributes};
use super::{Attributes, Resource, Value, nanos, request};
use crate::telemetry::names::{self, Names};
use crate::telemetry::process_log::{ProcessField, ProcessRecord, Severity};
use crate::telemetry::span::{CallSpan, micros};

/// The number of a record's attributes.
const ATTRIBUTES: u32 = 6;

/// The body of a request to `/v1/logs`.
pub(crate) fn records_request(
    resource: &Resource,
    names: &Names,
    spans: &[Arc<CallSpan>],
) -> Vec<u8> {
    let room = spans.len() * ROOM;
    request(resource, names.schema_url, room, |of_scope| {
        for span in spans {
            of_scope.long_message::<2>(2, |record| write_call(record, span, names));
        }
    })
}

/// The same, of what the process has logged.
pub(crate) fn process_request(resource: &Resource, records: &[ProcessRecord]) -> Vec<u8> {
    // No schema says anything of its fields.
    request(resource, "", records.len() * ROOM, |of_scope| {
        for record in records {
            of_scope.message(2, |message| write_logged(message, record));
        }
    })
}

fn write_logged(record: &mut Message<'_>, logged: &ProcessRecord) {
    let at = nanos(logged.at);
    write_head(record, at, logged.severity, &logged.message);
    let mut attributes = Attributes {
        of: record,
        field: ATTRIBUTES,
    };
    attributes.add(names::LOG_TARGET, logged.target);
    for (name, field) in &logged.fields {
        attributes.add(
            name,
            match field {
                ProcessField::Text(text) => Value::Text(text),
                ProcessField::Int(number) => Value::Int(*number),
                ProcessField::Double(number) => Value::Double(*number),
                ProcessField::Bool(truth) => Value::Bool(*truth),
            },
        );
    }
    record.fixed64(11, at);
}

fn write_call(record: &mut Message<'_>, span: &CallSpan, names: &Names) {
    let ending = &span.ending;
    let ended = nanos(span.began.plus(ending.duration));
    write_head(record, ended, Severity::Info, "call");
    record.written_as(ATTRIBUTES, attributes(span, names));
    let mut attributes = Attributes {
        of: record,
        field: ATTRIBUTES,
    };
    attributes.add(names::STATUS, u64::from(ending.status));
    if let Some(cost) = ending.cost {
        attributes.add_text(names::COST, cost.to_text().as_bytes());
    }
    let milliseconds = micros(ending.duration) as f64 / 1e3;
    attributes.add(names::DURATION_MS, milliseconds);
    record.fixed32(8, u32::from(span.context.is_sampled));
    record.kept_bytes(9, &span.context.trace.get().to_be_bytes());
    record.kept_bytes(10, &span.context.span.get().to_be_bytes());
    record.fixed64(11, ended);
    record.text(12, names::CALL_EVENT);
}

/// When, how much it matters, and what it says.
fn write_head(record: &mut Message<'_>, at: u64, severity: Severity, body: &str) {
    let (severity_number, severity_text) = severity.parts();
    record.fixed64(1, at);
    record.number(2, severity_number);
    record.text(3, severity_text);
    record.message(5, |value| Value::Text(body).write(value));
}
