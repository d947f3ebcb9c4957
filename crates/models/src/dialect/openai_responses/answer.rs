//! Whole answers in Responses.

use bytes::Bytes;

use super::ResponseEcho;
use super::item::{read_reasoning, read_signature};
use super::output::{Response, Status};
use crate::conversation::{Answer, Candidate, Content, Part, Signature, StopReason, ToolCall};
use crate::dialect::read::{At, Misread};
use crate::dialect::{AnswerNames, UnreadableAnswer, checked, write};
use crate::json::Json;
use crate::usage::Usage;

/// Reads an upstream's answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    if let Some(error) = root.get("error") {
        let code = error.get("code").and_then(|code| code.text().ok());
        let code = code.unwrap_or_default();
        let code = &code[..code.floor_char_boundary(64)];
        return Err(UnreadableAnswer::new(format!("it failed with '{code}'")));
    }
    let mut candidate = Candidate::default();
    let mut logprobs = Vec::new();
    root.need("output")?.array(|item| {
        read_item(&mut candidate.parts, &mut logprobs, &item)?;
        Ok::<_, Misread>(())
    })?;
    candidate.logprobs = joined(&logprobs);
    let calls = candidate.parts.iter().any(is_call);
    candidate.stop = read_stop(&root, calls)?;
    let text = |name: &str| root.get(name).map(|text| text.text()).transpose();
    Ok(Answer {
        id: text("id")?,
        model: text("model")?,
        created: root
            .get("created_at")
            .and_then(|created| created.u64().ok()),
        candidates: vec![candidate],
        usage: root
            .get("usage")
            .map_or(Ok(None), |usage| read_usage(&usage))?,
        service_tier: text("service_tier")?,
    })
}

pub(super) fn is_call(part: &Part) -> bool {
    matches!(part.content, Content::ToolCall(_))
}

/// Items of other types (searches, programs that the provider ran) cannot be carried.
fn read_item(
    parts: &mut Vec<Part>,
    logprobs: &mut Vec<Json>,
    item: &At<'_>,
) -> Result<(), Misread> {
    match &*item.need("type")?.text()? {
        "message" => item.need("content")?.array(|content| {
            parts.extend(read_content(&content)?);
            if let Some(array) = content.get("logprobs").filter(|array| !array.is_empty()) {
                logprobs.push(array.json());
            }
            Ok(())
        }),
        "reasoning" => {
            parts.extend(read_reasoning(item)?);
            Ok(())
        }
        "function_call" => {
            parts.push(read_call(item)?);
            Ok(())
        }
        _ => Err(item.refuse("is of a type that no client's dialect can carry")),
    }
}

fn read_content(content: &At<'_>) -> Result<Option<Part>, Misread> {
    let mut part = Part::from(match &*content.need("type")?.text()? {
        "output_text" => Content::Text(content.need("text")?.text()?),
        "refusal" => Content::Refusal(content.need("refusal")?.text()?),
        _ => return Ok(None),
    });
    part.signature = signature(content)?;
    Ok(Some(part))
}

pub(super) fn signature(of: &At<'_>) -> Result<Option<Signature>, Misread> {
    let signature = of.get("signature");
    signature
        .map(|signature| read_signature(&signature))
        .transpose()
}

fn read_call(item: &At<'_>) -> Result<Part, Misread> {
    let mut part = Part::from(Content::ToolCall(ToolCall {
        id: item.need("call_id")?.text()?,
        name: item.need("name")?.text()?,
        arguments: item.need("arguments")?.text()?,
    }));
    part.signature = signature(item)?;
    Ok(part)
}

/// Why a response ended; `None` if it has not.
pub(super) fn read_stop(response: &At<'_>, calls: bool) -> Result<Option<StopReason>, Misread> {
    let details = response.get("incomplete_details");
    let reason = details.as_ref().and_then(|details| details.get("reason"));
    let reason = reason.map(|reason| reason.text()).transpose()?;
    let status = response.get("status");
    let status = status.map(|status| status.text()).transpose()?;
    Ok(match (reason.as_deref(), status.as_deref()) {
        (Some("content_filter"), _) => Some(StopReason::Refused),
        (Some(_), _) | (None, Some("incomplete")) => Some(StopReason::Length),
        (None, Some("in_progress" | "queued" | "cancelled" | "failed")) => None,
        (None, _) if calls => Some(StopReason::ToolCalls),
        (None, _) => Some(StopReason::End),
    })
}

pub(in crate::dialect) fn read_usage(usage: &At<'_>) -> Result<Option<Usage>, Misread> {
    if usage.get("input_tokens").is_none() && usage.get("output_tokens").is_none() {
        return Ok(None);
    }
    let count = |of: Option<&At<'_>>, name: &str| {
        let count = of.and_then(|of| of.get(name).map(|count| count.u64()));
        count.unwrap_or(Ok(0))
    };
    let input = usage.get("input_tokens_details");
    let output = usage.get("output_tokens_details");
    let input_tokens = count(Some(usage), "input_tokens")?;
    let output_tokens = count(Some(usage), "output_tokens")?;
    let read = count(input.as_ref(), "cached_tokens")?.min(input_tokens);
    let written = count(input.as_ref(), "cache_write_tokens")?.min(input_tokens - read);
    let hour = count(input.as_ref(), "cache_write_1h_tokens")?;
    Ok(Some(Usage {
        input_tokens,
        cached_read_tokens: read,
        cached_write_tokens: written,
        output_tokens,
        reasoning_tokens: count(output.as_ref(), "reasoning_tokens")?.min(output_tokens),
        cached_write_1h_tokens: hour.min(written),
    }))
}

/// Several arrays as one; `None` if there is none.
pub(super) fn joined(arrays: &[Json]) -> Option<Json> {
    if arrays.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    write::array(&mut out, |to| {
        for array in arrays {
            for element in array.raw().elements() {
                to.json(&Json::valid(Bytes::copy_from_slice(element.bytes())));
            }
        }
    });
    Some(Json::valid(out))
}

/// Writes a client's answer. A response has one candidate, and the id that the gateway stores it
/// by: the upstream's own would find nothing.
pub(in crate::dialect) fn write_answer(
    answer: &Answer,
    names: &AnswerNames,
    echo: &ResponseEcho,
) -> Bytes {
    let nothing = Candidate::default();
    let candidate = answer.candidates.first().unwrap_or(&nothing);
    let names = &AnswerNames {
        created: answer.created.unwrap_or(names.created),
        ..names.clone()
    };
    let response = Response {
        names,
        echo,
        model: answer.model.as_ref().unwrap_or(&names.model),
        status: Status::of(candidate.stop.as_ref()),
        stop: candidate.stop.as_ref(),
        failure: None,
        parts: &candidate.parts,
        logprobs: candidate.logprobs.as_ref(),
        usage: answer.usage.as_ref(),
        tier: answer.service_tier.as_deref(),
    };
    let mut out = Vec::new();
    write::object(&mut out, |to| response.write(to));
    out.into()
}
