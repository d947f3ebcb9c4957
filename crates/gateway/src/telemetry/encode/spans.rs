//! Spans, one for each call of a model.

use std::sync::Arc;

use bytes::Bytes;
use models::Operation;
use serde::Serialize;

use super::{
    Attribute, Decimal, Resource, ResourceAttributes, SCOPE, Scope, Value, nanos, operation_name,
    to_json,
};
use crate::telemetry::names::{self, Names};
use crate::telemetry::span::CallSpan;

/// `SPAN_KIND_CLIENT`: the conventions' kind of a model's call.
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// The context's sampled flag, and that it is known whether the parent is remote.
const FLAGS: u32 = 0x101;
/// That it is known where a link leads: elsewhere.
const LINK_FLAGS: u32 = 0x300;
/// The parent is remote.
const PARENT_IS_REMOTE: u32 = 0x200;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: ResourceAttributes<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    schema_url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    trace_state: &'a str,
    flags: u32,
    name: String,
    kind: u8,
    start_time_unix_nano: Decimal<u64>,
    end_time_unix_nano: Decimal<u64>,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<[Link<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// The caller's trace, where it is not this one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    trace_state: &'a str,
    flags: u32,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

/// The body of a request to `/v1/traces`.
pub(crate) fn spans_request(resource: &Resource, names: &Names, spans: &[Arc<CallSpan>]) -> Bytes {
    to_json(&Request {
        resource_spans: [ResourceSpans {
            resource: resource.attributes(),
            scope_spans: [ScopeSpans {
                scope: SCOPE,
                spans: spans.iter().map(|span| encode(span, names)).collect(),
                schema_url: names.schema_url,
            }],
        }],
    })
}

fn encode<'a>(span: &'a CallSpan, names: &Names) -> Span<'a> {
    let context = &span.context;
    let parent = context.parent.map(|parent| format!("{parent:016x}"));
    let operation = operation_name(span.operation);
    let name = match &span.ending.model {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    };
    let error = span.ending.error;
    let (joined, linked) = match span.caller.as_deref() {
        Some(caller) if caller.trace == context.trace => (Some(caller), None),
        other => (None, other),
    };
    let remote = joined.map_or(0, |_| PARENT_IS_REMOTE);
    Span {
        trace_id: format!("{:032x}", context.trace),
        span_id: format!("{:016x}", context.span),
        parent_span_id: parent.unwrap_or_default(),
        trace_state: joined.map_or("", |caller| &caller.state),
        flags: FLAGS | remote,
        name,
        kind: CLIENT,
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.began.plus(span.ending.duration)),
        attributes: attributes(span, names),
        links: linked.map(|caller| {
            [Link {
                trace_id: format!("{:032x}", caller.trace),
                span_id: format!("{:016x}", caller.span),
                trace_state: &caller.state,
                flags: LINK_FLAGS | u32::from(caller.flags),
            }]
        }),
        status: error.map(|_| Status { code: ERROR }),
    }
}

pub(super) fn attributes<'a>(span: &'a CallSpan, names: &Names) -> Vec<Attribute<'a>> {
    let mut list = List(Vec::with_capacity(28));
    list.add(names::OPERATION_NAME, operation_name(span.operation));
    let provider = span.provider.as_ref().map(|provider| provider.as_str());
    list.add(names::PROVIDER_NAME, provider.unwrap_or(names::OURSELVES));
    let ending = &span.ending;
    let model = ending.model.as_ref().map(|model| model.as_str());
    list.add_known(names::REQUEST_MODEL, model);
    list.add_known(names::ERROR_TYPE, ending.error);
    let conversation = span.conversation.as_ref().map(|name| name.as_str());
    list.add_known(names::CONVERSATION_ID, conversation);
    list.add_asked(span);
    list.add_response(span);
    list.add_usage(span, names);
    list.add_ours(span);
    list.0
}

struct List<'a>(Vec<Attribute<'a>>);

impl<'a> List<'a> {
    fn add(&mut self, key: &'static str, value: impl Into<Value<'a>>) {
        self.0.push(Attribute::new(key, value));
    }

    fn add_known(&mut self, key: &'static str, value: Option<impl Into<Value<'a>>>) {
        self.0.extend(value.map(|value| Attribute::new(key, value)));
    }

    fn add_asked(&mut self, span: &CallSpan) {
        let asked = &span.asked;
        let choice_count = asked.choice_count.map(u64::from);
        self.add_known(names::REQUEST_STREAM, asked.stream.then_some(true));
        self.add_known(names::REQUEST_CHOICE_COUNT, choice_count);
        self.add_known(names::REQUEST_MAX_TOKENS, asked.max_tokens);
        self.add_known(names::REQUEST_TEMPERATURE, asked.temperature);
        self.add_known(names::REQUEST_TOP_P, asked.top_p);
        self.add_known(names::REQUEST_FREQUENCY_PENALTY, asked.frequency_penalty);
        self.add_known(names::REQUEST_PRESENCE_PENALTY, asked.presence_penalty);
        self.add_known(names::REQUEST_SEED, asked.seed);
    }

    fn add_response(&mut self, span: &'a CallSpan) {
        let response = &span.response;
        self.add_known(names::RESPONSE_ID, response.id.as_deref());
        self.add_known(names::RESPONSE_MODEL, response.model.as_deref());
        // An answer that was cut has reasons that never came: the conventions say `error`.
        let missing = if span.ending.error.is_some() {
            "error"
        } else {
            "_OTHER"
        };
        let reasons = response.finish_reasons.iter();
        let reasons: Vec<_> = reasons
            .map(|reason| reason.unwrap_or(missing).into())
            .collect();
        if !reasons.is_empty() {
            let value = Value::Array { values: reasons };
            self.add(names::RESPONSE_FINISH_REASONS, value);
        }
        let first_chunk = span.first_chunk.filter(|_| span.asked.stream);
        let seconds = first_chunk.map(|after| after.as_secs_f64());
        self.add_known(names::RESPONSE_TIME_TO_FIRST_CHUNK, seconds);
    }

    fn add_usage(&mut self, span: &CallSpan, names: &Names) {
        let Some(usage) = &span.usage else { return };
        let applicable = |tokens: u64| Some(tokens).filter(|tokens| *tokens > 0);
        self.add(names::USAGE_INPUT, usage.input_tokens);
        if span.operation != Operation::Embedding {
            self.add(names::USAGE_OUTPUT, usage.output_tokens);
        }
        self.add_known(
            names::USAGE_CACHE_READ,
            applicable(usage.cached_read_tokens),
        );
        self.add_known(names.cache_write, applicable(usage.cached_write_tokens));
        self.add_known(names::USAGE_REASONING, applicable(usage.reasoning_tokens));
    }

    fn add_ours(&mut self, span: &'a CallSpan) {
        let ending = &span.ending;
        let tenant = ending
            .tenant
            .map(|tenant| Attribute::shown(names::TENANT_ID, tenant));
        let key = span.key.map(|key| Attribute::shown(names::KEY_ID, key));
        self.0.extend(tenant.into_iter().chain(key));
        self.0
            .push(Attribute::shown(names::REQUEST_ID, span.request));
        let feature = ending.feature.as_ref().map(|feature| feature.as_str());
        self.add_known(names::FEATURE, feature);
        self.add(names::HOP, ending.hop.as_str());
        self.add_known(names::PROMPT, ending.prompt.as_deref());
        let upstream = ending.upstream.as_ref().map(|upstream| upstream.as_str());
        self.add_known(names::UPSTREAM, upstream);
        self.add_known(names::CACHE, ending.cache);
    }
}
