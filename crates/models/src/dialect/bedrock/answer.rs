//! What Bedrock answers, whole.

use crate::conversation::{Answer, Candidate, Content, Part, Signature, StopReason, ToolCall};
use crate::dialect::read::{At, Misread};
use crate::dialect::{Dialect, UnreadableAnswer, checked};
use crate::usage::Usage;

/// Reads a whole answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    let mut candidate = Candidate::default();
    let output = root.need("output")?;
    let message = output.need("message")?;
    message.need("content")?.array(|block| {
        candidate.parts.extend(read_block(&block)?);
        Ok::<_, Misread>(())
    })?;
    if let Some(reason) = root.get("stopReason") {
        candidate.stop = Some(read_stop(&reason, &root)?);
    }
    Ok(Answer {
        id: None,
        model: None,
        created: None,
        candidates: vec![candidate],
        usage: root
            .get("usage")
            .map_or(Ok(None), |usage| read_usage(&usage))?,
        service_tier: read_tier(&root)?,
    })
}

/// `serviceTier`, in OpenAI's words.
pub(super) fn read_tier(root: &At<'_>) -> Result<Option<String>, Misread> {
    let tier = root.get("serviceTier");
    let kind = tier.as_ref().and_then(|tier| tier.get("type"));
    kind.map(|kind| kind.text()).transpose()
}

/// One block; `None` if it is of a kind that says nothing to a client.
fn read_block(block: &At<'_>) -> Result<Option<Part>, Misread> {
    let mut part = None;
    block.object(|name, value| {
        match name {
            "text" => part = Some(Part::text(value.text()?)),
            "toolUse" => {
                let input = value.get("input");
                let arguments = input.map_or("{}".into(), |input| {
                    String::from_utf8_lossy(input.raw.bytes()).into_owned()
                });
                part = Some(Part::from(Content::ToolCall(ToolCall {
                    id: value.need("toolUseId")?.text()?,
                    name: value.need("name")?.text()?,
                    arguments,
                })));
            }
            "reasoningContent" => part = Some(read_reasoning(&value)?),
            "image" | "audio" | "video" | "document" => {
                return Err(value.refuse("is no text, and no client's dialect can carry it"));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(part)
}

fn read_reasoning(reasoning: &At<'_>) -> Result<Part, Misread> {
    if let Some(redacted) = reasoning.get("redactedContent") {
        let mut part = Part::from(Content::RedactedReasoning);
        part.signature = Some(signed(redacted.text()?));
        return Ok(part);
    }
    let text = reasoning.need("reasoningText")?;
    let mut part = Part::from(Content::Reasoning(text.need("text")?.text()?));
    if let Some(signature) = text.get("signature") {
        part.signature = Some(signed(signature.text()?));
    }
    Ok(part)
}

pub(super) fn signed(data: String) -> Signature {
    Signature {
        origin: Dialect::Bedrock,
        data,
    }
}

/// `stopReason`; Anthropic's models may say beside it which sequence it was.
pub(super) fn read_stop(reason: &At<'_>, beside: &At<'_>) -> Result<StopReason, Misread> {
    Ok(match &*reason.text()? {
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" => StopReason::Length,
        "stop_sequence" => {
            let additional = beside.get("additionalModelResponseFields");
            let sequence = additional
                .as_ref()
                .and_then(|fields| fields.get("stop_sequence"));
            StopReason::StopSequence(sequence.and_then(|text| text.text().ok()))
        }
        "guardrail_intervened" | "content_filtered" => StopReason::Refused,
        "model_context_window_exceeded" => StopReason::ContextFull,
        _ => StopReason::End,
    })
}

/// As Anthropic's, `inputTokens` has none of what was read from a cache or written to it.
pub(super) fn read_usage(usage: &At<'_>) -> Result<Option<Usage>, Misread> {
    if usage.get("inputTokens").is_none() && usage.get("outputTokens").is_none() {
        return Ok(None);
    }
    let count = |name| usage.get(name).map_or(Ok(0), |count| count.u64());
    let cached_read_tokens = count("cacheReadInputTokens")?;
    let cached_write_tokens = count("cacheWriteInputTokens")?;
    let mut hour: u64 = 0;
    if let Some(details) = usage.get("cacheDetails") {
        details.array(|detail| {
            let ttl = detail.get("ttl").map(|ttl| ttl.text()).transpose()?;
            if ttl.as_deref() == Some("1h") {
                hour = hour.saturating_add(detail.need("inputTokens")?.u64()?);
            }
            Ok::<_, Misread>(())
        })?;
    }
    Ok(Some(Usage {
        input_tokens: count("inputTokens")?
            .saturating_add(cached_read_tokens)
            .saturating_add(cached_write_tokens),
        cached_read_tokens,
        cached_write_tokens,
        output_tokens: count("outputTokens")?,
        // Bedrock does not tell.
        reasoning_tokens: 0,
        cached_write_1h_tokens: hour.min(cached_write_tokens),
    }))
}
