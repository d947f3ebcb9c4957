//! Log records: one for each call of a model, as its line in the log has it, and what the process
//! itself says.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::spans::attributes;
use super::{
    Attribute, Decimal, Resource, ResourceAttributes, SCOPE, Scope, Value, nanos, to_json,
};
use crate::telemetry::names::{self, Names};
use crate::telemetry::process_log::{ProcessField, ProcessRecord, Severity};
use crate::telemetry::span::{CallSpan, micros};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_logs: [ResourceLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    resource: ResourceAttributes<'a>,
    scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    scope: Scope,
    log_records: Vec<LogRecord<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    schema_url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord<'a> {
    time_unix_nano: Decimal<u64>,
    observed_time_unix_nano: Decimal<u64>,
    severity_number: u8,
    severity_text: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    event_name: &'static str,
    body: Value<'a>,
    attributes: Vec<Attribute<'a>>,
    #[serde(flatten)]
    span: Option<OfSpan>,
}

/// The span that a record belongs to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfSpan {
    trace_id: String,
    span_id: String,
    flags: u32,
}

/// The body of a request to `/v1/logs`.
pub(crate) fn records_request(
    resource: &Resource,
    names: &Names,
    spans: &[Arc<CallSpan>],
) -> Bytes {
    let records = spans.iter().map(|span| encode(span, names)).collect();
    request(resource, names.schema_url, records)
}

/// The same, of what the process has logged.
pub(crate) fn process_request(resource: &Resource, records: &[ProcessRecord]) -> Bytes {
    let records = records.iter().map(encode_record).collect();
    // No schema says anything of its fields.
    request(resource, "", records)
}

fn request(
    resource: &Resource,
    schema_url: &'static str,
    log_records: Vec<LogRecord<'_>>,
) -> Bytes {
    to_json(&Request {
        resource_logs: [ResourceLogs {
            resource: resource.attributes(),
            scope_logs: [ScopeLogs {
                scope: SCOPE,
                log_records,
                schema_url,
            }],
        }],
    })
}

fn encode_record(record: &ProcessRecord) -> LogRecord<'_> {
    let at = nanos(record.at);
    let (severity_number, severity_text) = record.severity.parts();
    let mut attributes = vec![Attribute::new(names::LOG_TARGET, record.target)];
    let fields = record.fields.iter();
    attributes.extend(fields.map(|(name, field)| match field {
        ProcessField::Text(text) => Attribute::new(name, text.as_str()),
        ProcessField::Int(number) => Attribute::new(name, *number),
        ProcessField::Double(number) => Attribute::new(name, *number),
        ProcessField::Bool(truth) => Attribute::new(name, *truth),
    }));
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number,
        severity_text,
        event_name: "",
        body: record.message.as_str().into(),
        attributes,
        span: None,
    }
}

fn encode<'a>(span: &'a CallSpan, names: &Names) -> LogRecord<'a> {
    let ending = &span.ending;
    let (severity_number, severity_text) = Severity::Info.parts();
    let ended = nanos(span.began.plus(ending.duration));
    let mut attributes = attributes(span, names);
    attributes.push(Attribute::new(names::STATUS, u64::from(ending.status)));
    let cost = ending.cost.map(|cost| cost.to_text());
    let cost = cost.map(|cost| Attribute::shown(names::COST, cost.as_str()));
    attributes.extend(cost);
    let milliseconds = micros(ending.duration) as f64 / 1e3;
    attributes.push(Attribute::new(names::DURATION_MS, milliseconds));
    LogRecord {
        time_unix_nano: ended,
        observed_time_unix_nano: ended,
        severity_number,
        severity_text,
        event_name: names::CALL_EVENT,
        body: "call".into(),
        attributes,
        span: Some(OfSpan {
            trace_id: format!("{:032x}", span.context.trace),
            span_id: format!("{:016x}", span.context.span),
            flags: u32::from(span.context.is_sampled),
        }),
    }
}
