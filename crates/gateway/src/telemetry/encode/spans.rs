//! Spans, one for each call of a model.

use std::sync::Arc;

use models::Operation;

use super::protobuf::Message;
use super::{Attributes, Resource, nanos, operation_name, protobuf, request};
use crate::telemetry::names::{self, Names};
use crate::telemetry::span::CallSpan;

/// `SPAN_KIND_CLIENT`: the conventions' kind of a model's call.
const CLIENT: u32 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;
/// The context's sampled flag, and that it is known whether the parent is remote.
const FLAGS: u32 = 0x101;
/// That it is known where a link leads: elsewhere.
const LINK_FLAGS: u32 = 0x300;
/// The parent is remote.
const PARENT_IS_REMOTE: u32 = 0x200;

/// The number of a span's attributes.
const ATTRIBUTES: u32 = 9;
/// 1 KiB: nearly all spans take less.
pub(super) const ROOM: usize = 1 << 10;

/// The body of a request to `/v1/traces`.
pub(crate) fn spans_request(
    resource: &Resource,
    names: &Names,
    spans: &[Arc<CallSpan>],
) -> Vec<u8> {
    request(resource, names.schema_url, spans.len() * ROOM, |of_scope| {
        for span in spans {
            of_scope.long_message::<2>(2, |message| write(message, span, names));
        }
    })
}

/// A `Span`.
fn write(message: &mut Message<'_>, span: &CallSpan, names: &Names) {
    let context = &span.context;
    let (joined, linked) = match span.caller.as_deref() {
        Some(caller) if caller.trace == context.trace => (Some(caller), None),
        other => (None, other),
    };
    message.kept_bytes(1, &context.trace.get().to_be_bytes());
    message.kept_bytes(2, &context.span.get().to_be_bytes());
    message.text(3, joined.map_or("", |caller| &caller.state));
    if let Some(parent) = context.parent {
        message.kept_bytes(4, &parent.get().to_be_bytes());
    }
    // `{operation} {model}`
    let operation = operation_name(span.operation);
    match &span.ending.model {
        Some(model) => message.text_of(5, [operation, " ", model.as_str()]),
        None => message.text(5, operation),
    }
    message.number(6, CLIENT);
    message.fixed64(7, nanos(span.began));
    message.fixed64(8, nanos(span.began.plus(span.ending.duration)));
    message.written(attributes(span, names));
    if let Some(caller) = linked {
        // The caller's trace, where it is not this one.
        message.message(13, |link| {
            link.kept_bytes(1, &caller.trace.get().to_be_bytes());
            link.kept_bytes(2, &caller.span.get().to_be_bytes());
            link.text(3, &caller.state);
            link.fixed32(6, LINK_FLAGS | u32::from(caller.flags));
        });
    }
    if span.ending.error.is_some() {
        message.message(15, |status| status.number(3, ERROR));
    }
    let remote = joined.map_or(0, |_| PARENT_IS_REMOTE);
    message.fixed32(16, FLAGS | remote);
}

/// What is said of a call, on its span and on its record: written once, as a span has it.
pub(super) fn attributes<'a>(span: &'a CallSpan, names: &Names) -> &'a [u8] {
    span.attributes.get_or_init(|| {
        protobuf::encode(ROOM, |message| {
            let mut attributes = Attributes {
                of: message,
                field: ATTRIBUTES,
            };
            add_attributes(&mut attributes, span, names);
        })
    })
}

fn add_attributes(to: &mut Attributes<'_, '_>, span: &CallSpan, names: &Names) {
    to.add(names::OPERATION_NAME, operation_name(span.operation));
    let provider = span.provider.as_ref().map(|provider| provider.as_str());
    to.add(names::PROVIDER_NAME, provider.unwrap_or(names::OURSELVES));
    let ending = &span.ending;
    let model = ending.model.as_ref().map(|model| model.as_str());
    to.add_known(names::REQUEST_MODEL, model);
    to.add_known(names::ERROR_TYPE, ending.error);
    let conversation = span.conversation.as_ref().map(|name| name.as_str());
    to.add_known(names::CONVERSATION_ID, conversation);
    add_asked(to, span);
    add_response(to, span);
    add_usage(to, span, names);
    add_ours(to, span);
}

fn add_asked(to: &mut Attributes<'_, '_>, span: &CallSpan) {
    let asked = &span.asked;
    let choice_count = asked.choice_count.map(u64::from);
    to.add_known(names::REQUEST_STREAM, asked.stream.then_some(true));
    to.add_known(names::REQUEST_CHOICE_COUNT, choice_count);
    to.add_known(names::REQUEST_MAX_TOKENS, asked.max_tokens);
    to.add_known(names::REQUEST_TEMPERATURE, asked.temperature);
    to.add_known(names::REQUEST_TOP_P, asked.top_p);
    to.add_known(names::REQUEST_FREQUENCY_PENALTY, asked.frequency_penalty);
    to.add_known(names::REQUEST_PRESENCE_PENALTY, asked.presence_penalty);
    to.add_known(names::REQUEST_SEED, asked.seed);
}

fn add_response(to: &mut Attributes<'_, '_>, span: &CallSpan) {
    let response = &span.response;
    if let Some(id) = &response.id {
        to.add_text(names::RESPONSE_ID, id);
    }
    let model = response.model.as_ref().map(|model| model.as_str());
    to.add_known(names::RESPONSE_MODEL, model);
    // An answer that was cut has reasons that never came: the conventions say `error`.
    let missing = if span.ending.error.is_some() {
        "error"
    } else {
        "_OTHER"
    };
    if !response.finish_reasons.is_empty() {
        let reasons = response.finish_reasons.iter();
        let reasons = reasons.map(|reason| reason.unwrap_or(missing));
        to.add_list(names::RESPONSE_FINISH_REASONS, reasons);
    }
    let first_chunk = span.first_chunk.filter(|_| span.asked.stream);
    let seconds = first_chunk.map(|after| after.as_secs_f64());
    to.add_known(names::RESPONSE_TIME_TO_FIRST_CHUNK, seconds);
}

fn add_usage(to: &mut Attributes<'_, '_>, span: &CallSpan, names: &Names) {
    let Some(usage) = &span.usage else { return };
    let applicable = |tokens: u64| Some(tokens).filter(|tokens| *tokens > 0);
    to.add(names::USAGE_INPUT, usage.input_tokens);
    if span.operation != Operation::Embedding {
        to.add(names::USAGE_OUTPUT, usage.output_tokens);
    }
    to.add_known(
        names::USAGE_CACHE_READ,
        applicable(usage.cached_read_tokens),
    );
    to.add_known(names.cache_write, applicable(usage.cached_write_tokens));
    to.add_known(names::USAGE_REASONING, applicable(usage.reasoning_tokens));
}

fn add_ours(to: &mut Attributes<'_, '_>, span: &CallSpan) {
    let ending = &span.ending;
    if let Some(tenant) = ending.tenant {
        to.add_id(names::TENANT_ID, tenant);
    }
    if let Some(key) = span.key {
        to.add_id(names::KEY_ID, key);
    }
    to.add_id(names::REQUEST_ID, span.request);
    let feature = ending.feature.as_ref().map(|feature| feature.as_str());
    to.add_known(names::FEATURE, feature);
    to.add(names::HOP, ending.hop.as_str());
    to.add_known(names::PROMPT, ending.prompt.as_deref());
    let upstream = ending.upstream.as_ref().map(|upstream| upstream.as_str());
    to.add_known(names::UPSTREAM, upstream);
    to.add_known(names::CACHE, ending.cache);
}
