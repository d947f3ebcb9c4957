//! What Cohere answers, whole.

use crate::conversation::{Answer, Candidate, Content, Part, StopReason, ToolCall};
use crate::dialect::read::{At, Misread};
use crate::dialect::{UnreadableAnswer, checked};
use crate::usage::Usage;

/// Reads a whole answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    let message = root.need("message")?;
    let mut candidate = Candidate::default();
    message.object(|name, value| {
        match name {
            "content" => value.array(|block| {
                candidate.parts.extend(read_block(&block)?);
                Ok::<_, Misread>(())
            })?,
            "tool_plan" => candidate.parts.extend(said(value.text()?)),
            "tool_calls" => value.array(|call| {
                candidate.parts.push(read_call(&call)?);
                Ok::<_, Misread>(())
            })?,
            _ => {}
        }
        Ok::<_, Misread>(())
    })?;
    // Fields come in any order; calls come last everywhere else, and thoughts first.
    candidate.parts.sort_by_key(|part| match part.content {
        Content::Reasoning(_) => 0,
        Content::ToolCall(_) => 2,
        _ => 1,
    });
    if let Some(reason) = root.get("finish_reason") {
        candidate.stop = Some(read_stop(&reason)?);
    }
    let id = root.get("id");
    Ok(Answer {
        id: id.map(|id| id.text()).transpose()?,
        model: None,
        created: None,
        candidates: vec![candidate],
        usage: root
            .get("usage")
            .map_or(Ok(None), |usage| read_usage(&usage))?,
        service_tier: None,
    })
}

fn said(text: String) -> Option<Part> {
    (!text.is_empty()).then(|| Part::text(text))
}

fn read_block(block: &At<'_>) -> Result<Option<Part>, Misread> {
    match &*block.need("type")?.text()? {
        "text" => Ok(said(block.need("text")?.text()?)),
        "thinking" => {
            let text = block.need("thinking")?.text()?;
            Ok(Some(Content::Reasoning(text).into()))
        }
        _ => Ok(None),
    }
}

fn read_call(call: &At<'_>) -> Result<Part, Misread> {
    let function = call.need("function")?;
    let arguments = function.get("arguments");
    let arguments = arguments.map_or(Ok("{}".to_owned()), |arguments| arguments.text())?;
    let call = ToolCall {
        id: call.need("id")?.text()?,
        name: function.need("name")?.text()?,
        arguments,
    };
    Ok(Content::ToolCall(call).into())
}

pub(super) fn read_stop(reason: &At<'_>) -> Result<StopReason, Misread> {
    Ok(match &*reason.text()? {
        "MAX_TOKENS" => StopReason::Length,
        "STOP_SEQUENCE" => StopReason::StopSequence(None),
        "TOOL_CALL" => StopReason::ToolCalls,
        "ERROR_TOXIC" => StopReason::Refused,
        "ERROR_LIMIT" => StopReason::ContextFull,
        "ERROR" | "TIMEOUT" => return Err(reason.refuse("says that Cohere failed")),
        _ => StopReason::End,
    })
}

/// `billed_units`; `tokens`, which include Cohere's own template, where those are missing.
pub(super) fn read_usage(usage: &At<'_>) -> Result<Option<Usage>, Misread> {
    let units = usage.get("billed_units");
    let units = units.filter(|units| units.get("output_tokens").is_some());
    let Some(counts) = units.or_else(|| usage.get("tokens")) else {
        return Ok(None);
    };
    let count = |name| counts.get(name).map_or(Ok(0), |count| whole(&count));
    let input_tokens = count("input_tokens")?;
    let cached = usage.get("cached_tokens");
    let cached = cached.map_or(Ok(0), |cached| whole(&cached))?;
    let tokens = Usage {
        input_tokens,
        cached_read_tokens: cached.min(input_tokens),
        cached_write_tokens: 0,
        cached_write_1h_tokens: 0,
        output_tokens: count("output_tokens")?,
        // Cohere does not tell.
        reasoning_tokens: 0,
    };
    Ok(Some(tokens))
}

/// Cohere documents its counts as numbers with a fraction; none has one. Upwards, if one does.
pub(in crate::dialect) fn whole(count: &At<'_>) -> Result<u64, Misread> {
    if let Some(count) = count.raw.as_u64() {
        return Ok(count);
    }
    let number = count.number()?.as_f64().unwrap_or_default();
    if !(0.0..=1e15).contains(&number) {
        return Err(count.refuse("must be a number of 0 or more"));
    }
    let digits = format!("{:.0}", number.ceil());
    digits
        .parse()
        .map_err(|_| count.refuse("must be a number of 0 or more"))
}
