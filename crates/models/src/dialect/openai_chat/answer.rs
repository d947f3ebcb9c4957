//! Whole answers in OpenAI's chat dialect.

use bytes::Bytes;

use super::message_reader::{Strictness, read_message};
use super::message_writer::{any_signed, thoughts, write_calls, write_details, write_refusal};
use crate::conversation::{Answer, Candidate, Content, Part, StopReason};
use crate::dialect::ids::call_id;
use crate::dialect::read::{At, Misread};
use crate::dialect::usage::{read_openai, write_openai};
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{AnswerNames, UnreadableAnswer, checked};
use crate::envelope::Kind;
use crate::json::Json;

/// Reads an upstream's answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    let text = |name: &str| root.get(name).and_then(|value| value.text().ok());
    let mut answer = Answer {
        id: text("id"),
        model: text("model"),
        created: root.get("created").and_then(|created| created.u64().ok()),
        candidates: Vec::new(),
        usage: root.get("usage").and_then(|usage| read_openai(&usage)),
        service_tier: text("service_tier"),
    };
    root.need("choices")?.array(|choice| {
        let mut candidate = read_choice(&choice)?;
        let id = answer.id.as_deref().unwrap_or_default();
        name_calls(&mut candidate.parts, id, answer.candidates.len());
        answer.candidates.push(candidate);
        Ok::<_, Misread>(())
    })?;
    if answer.candidates.is_empty() {
        return Err(UnreadableAnswer::new("it has no choices"));
    }
    Ok(answer)
}

fn read_choice(choice: &At<'_>) -> Result<Candidate, Misread> {
    let message = choice.need("message")?;
    let message = read_message(&message, Strictness::Answer)?;
    let parts = message.map_or_else(Vec::new, |message| message.parts);
    let calls = |part: &Part| matches!(part.content, Content::ToolCall(_));
    let stop = read_stop(choice)?.map(|stop| called_for(stop, parts.iter().any(calls)));
    let logprobs = choice.get("logprobs");
    let logprobs = logprobs.and_then(|logprobs| read_logprobs(&logprobs));
    Ok(Candidate {
        parts,
        stop,
        logprobs,
    })
}

/// Some engines give their calls no ids.
fn name_calls(parts: &mut [Part], answer: &str, candidate: usize) {
    let calls = parts.iter_mut().filter_map(|part| match &mut part.content {
        Content::ToolCall(call) => Some(call),
        _ => None,
    });
    for (index, call) in calls.enumerate() {
        if call.id.is_empty() {
            call.id = call_id(answer, candidate, index);
        }
    }
}

/// The array `content` of `logprobs`.
pub(super) fn read_logprobs(logprobs: &At<'_>) -> Option<Json> {
    let content = logprobs.get("content")?;
    (content.kind() == Kind::Array && !content.is_empty()).then(|| content.json())
}

/// Some engines say `stop` where tools are to be called.
pub(super) fn called_for(stop: StopReason, calls_tools: bool) -> StopReason {
    match stop {
        StopReason::End if calls_tools => StopReason::ToolCalls,
        stop => stop,
    }
}

/// `finish_reason`, in the words of all flavours; vLLM says in `stop_reason` which text ended it.
pub(super) fn read_stop(choice: &At<'_>) -> Result<Option<StopReason>, Misread> {
    let Some(reason) = choice.get("finish_reason") else {
        return Ok(None);
    };
    let sequence = || {
        let text = choice
            .get("stop_reason")
            .filter(|text| text.kind() == Kind::String);
        text.and_then(|text| text.text().ok())
    };
    Ok(Some(match &*reason.text()? {
        "length" => StopReason::Length,
        "model_length" => StopReason::ContextFull,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "content_filter" => StopReason::Refused,
        "stop_sequence" => StopReason::StopSequence(sequence()),
        // `stop`, TGI's `eos_token`, and whatever comes new.
        _ => match sequence() {
            Some(text) => StopReason::StopSequence(Some(text)),
            None => StopReason::End,
        },
    }))
}

/// `finish_reason`
pub(super) fn stop_word(stop: &StopReason) -> &'static str {
    match stop {
        StopReason::End | StopReason::StopSequence(_) | StopReason::Paused => "stop",
        StopReason::Length | StopReason::ContextFull => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::Refused => "content_filter",
    }
}

/// Writes a client's answer.
pub(in crate::dialect) fn write_answer(answer: &Answer, names: &AnswerNames) -> Bytes {
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("id", answer.id.as_ref().unwrap_or(&names.id));
        to.set("object", "chat.completion");
        to.set("created", answer.created.unwrap_or(names.created));
        to.set("model", answer.model.as_ref().unwrap_or(&names.model));
        to.array("choices", |to| {
            for (index, candidate) in answer.candidates.iter().enumerate() {
                to.object(|to| write_choice(to, candidate, index));
            }
        });
        if let Some(usage) = &answer.usage {
            to.object("usage", |to| write_openai(to, usage));
        }
        to.maybe("service_tier", answer.service_tier.as_deref());
    });
    out.into()
}

fn write_choice(to: &mut ObjectWriter<'_>, candidate: &Candidate, index: usize) {
    let parts = &candidate.parts;
    to.set("index", index);
    to.object("message", |to| {
        to.set("role", "assistant");
        to.maybe("content", text(parts));
        if text(parts).is_none() {
            to.null("content");
        }
        if !parts
            .iter()
            .any(|part| matches!(part.content, Content::Refusal(_)))
        {
            to.null("refusal");
        }
        write_refusal(to, parts);
        to.maybe("reasoning_content", thoughts(parts));
        if any_signed(parts) {
            write_details(to, parts);
        }
        write_calls(to, parts, str::to_owned);
    });
    match &candidate.logprobs {
        Some(content) => to.object("logprobs", |to| {
            to.json("content", content).null("refusal");
        }),
        None => {
            to.null("logprobs");
        }
    }
    match &candidate.stop {
        Some(stop) => to.set("finish_reason", stop_word(stop)),
        None => to.null("finish_reason"),
    };
    write_stop_sequence(to, candidate.stop.as_ref());
}

/// vLLM's `stop_reason`: which text ended the answer.
pub(super) fn write_stop_sequence(to: &mut ObjectWriter<'_>, stop: Option<&StopReason>) {
    if let Some(StopReason::StopSequence(Some(text))) = stop {
        to.set("stop_reason", text);
    }
}

/// All texts as one: an answer's content is no array.
fn text(parts: &[Part]) -> Option<String> {
    let texts = parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let mut texts = texts.peekable();
    texts.peek()?;
    Some(texts.collect())
}
