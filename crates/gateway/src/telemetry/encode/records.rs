//! Log records, one for each call of a model: what its line in the process's own log says.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::spans::attributes;
use super::{
    Attribute, Decimal, Resource, ResourceAttributes, SCOPE, Scope, Value, nanos, to_json,
};
use crate::telemetry::names::{self, Names};
use crate::telemetry::span::{CallSpan, micros};

/// `SEVERITY_NUMBER_INFO`.
const INFO: u8 = 9;

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
    event_name: &'static str,
    body: Value<'a>,
    attributes: Vec<Attribute<'a>>,
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
    to_json(&Request {
        resource_logs: [ResourceLogs {
            resource: resource.attributes(),
            scope_logs: [ScopeLogs {
                scope: SCOPE,
                log_records: spans.iter().map(|span| encode(span, names)).collect(),
                schema_url: names.schema_url,
            }],
        }],
    })
}

fn encode<'a>(span: &'a CallSpan, names: &Names) -> LogRecord<'a> {
    let ending = &span.ending;
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
        severity_number: INFO,
        severity_text: "INFO",
        event_name: names::CALL_EVENT,
        body: "call".into(),
        attributes,
        trace_id: format!("{:032x}", span.context.trace),
        span_id: format!("{:016x}", span.context.span),
        flags: u32::from(span.context.is_sampled),
    }
}
