//! What Gemini answers, whole. A chunk of its stream has the same shape.

use super::GIVEN;
use crate::conversation::{Answer, Candidate, Content, Part, Signature, StopReason, ToolCall};
use crate::dialect::read::{At, Misread};
use crate::dialect::write;
use crate::dialect::{Dialect, UnreadableAnswer, checked};
use crate::json::Json;
use crate::usage::Usage;

/// What stands around the candidates.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Usage>,
    /// Why the prompt was not answered, if it was not.
    pub(super) blocked: bool,
}

/// Reads a whole answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    let frame = read_frame(&root)?;
    let mut candidates = Vec::new();
    if let Some(array) = root.get("candidates") {
        array.array(|candidate| {
            let index = candidates.len();
            candidates.push(read_candidate(&candidate, index, frame.id.as_deref())?);
            Ok::<_, Misread>(())
        })?;
    }
    if candidates.is_empty() {
        if !frame.blocked {
            return Err(UnreadableAnswer::new("it has no 'candidates'"));
        }
        candidates.push(Candidate {
            stop: Some(StopReason::Refused),
            ..Candidate::default()
        });
    }
    Ok(Answer {
        id: frame.id,
        model: frame.model,
        created: None,
        candidates,
        usage: frame.usage,
        service_tier: None,
    })
}

pub(super) fn read_frame(root: &At<'_>) -> Result<Frame, Misread> {
    let mut frame = Frame::default();
    root.object(|name, value| {
        match name {
            "responseId" => frame.id = Some(value.text()?),
            "modelVersion" => frame.model = Some(value.text()?),
            "usageMetadata" => frame.usage = read_usage(&value)?,
            "promptFeedback" => frame.blocked = value.get("blockReason").is_some(),
            _ => {}
        }
        Ok::<_, Misread>(())
    })?;
    Ok(frame)
}

/// Thoughts and the results of Google's own tools are beside the counts of candidates and prompt.
fn read_usage(usage: &At<'_>) -> Result<Option<Usage>, Misread> {
    if usage.get("promptTokenCount").is_none() && usage.get("candidatesTokenCount").is_none() {
        return Ok(None);
    }
    let count = |name| usage.get(name).map_or(Ok(0), |count| count.u64());
    let input_tokens = count("promptTokenCount")?.saturating_add(count("toolUsePromptTokenCount")?);
    let reasoning_tokens = count("thoughtsTokenCount")?;
    let tokens = Usage {
        input_tokens,
        cached_read_tokens: count("cachedContentTokenCount")?.min(input_tokens),
        cached_write_tokens: 0,
        cached_write_1h_tokens: 0,
        output_tokens: count("candidatesTokenCount")?.saturating_add(reasoning_tokens),
        reasoning_tokens,
    };
    Ok(Some(tokens))
}

fn read_candidate(
    candidate: &At<'_>,
    index: usize,
    answer: Option<&str>,
) -> Result<Candidate, Misread> {
    let mut read = Candidate::default();
    let mut calls = 0;
    each_part(candidate, |part| {
        if let Some(part) = read_part(&part, answer, index, calls)? {
            calls += usize::from(matches!(part.content, Content::ToolCall(_)));
            push(&mut read.parts, part);
        }
        Ok(())
    })?;
    read.stop = read_stop(candidate, calls > 0)?;
    if let Some(result) = candidate.get("logprobsResult") {
        read.logprobs = Some(read_logprobs(&result)?);
    }
    Ok(read)
}

/// Calls `read` with each of a candidate's parts.
pub(super) fn each_part(
    candidate: &At<'_>,
    mut read: impl FnMut(At<'_>) -> Result<(), Misread>,
) -> Result<(), Misread> {
    let Some(content) = candidate.get("content") else {
        return Ok(());
    };
    match content.get("parts") {
        Some(parts) => parts.array(&mut read),
        None => Ok(()),
    }
}

/// Texts of one kind that follow each other are one part, as in a stream; a signed one is whole.
fn push(parts: &mut Vec<Part>, part: Part) {
    if let Some(last) = parts.last_mut()
        && last.signature.is_none()
    {
        match (&mut last.content, &part.content) {
            (Content::Text(text), Content::Text(more))
            | (Content::Reasoning(text), Content::Reasoning(more)) => {
                text.push_str(more);
                last.signature = part.signature;
                return;
            }
            _ => {}
        }
    }
    parts.push(part);
}

/// One part; `None` if it says nothing. `number`: calls that came before it.
pub(super) fn read_part(
    part: &At<'_>,
    answer: Option<&str>,
    candidate: usize,
    number: usize,
) -> Result<Option<Part>, Misread> {
    let mut content = None;
    let mut thought = false;
    let mut signature = None;
    part.object(|name, value| {
        match name {
            "text" => content = Some(Content::Text(value.text()?)),
            "functionCall" => {
                let derived = || derived_id(answer, candidate, number);
                content = Some(Content::ToolCall(read_call(&value, derived)?));
            }
            "thought" => thought = value.bool()?,
            "thoughtSignature" => signature = Some(value.text()?),
            "inlineData" | "fileData" | "executableCode" | "codeExecutionResult" => {
                return Err(value.refuse("is no text, and no client's dialect can carry it"));
            }
            _ => {}
        }
        Ok(())
    })?;
    let content = match content {
        Some(Content::Text(text)) if thought => Content::Reasoning(text),
        Some(content) => content,
        // A signature may come alone, after the text that it belongs to.
        None if signature.is_some() => Content::Text(String::new()),
        None => return Ok(None),
    };
    if signature.is_none() && matches!(&content, Content::Text(text) if text.is_empty()) {
        return Ok(None);
    }
    let mut read = Part::from(content);
    read.signature = signature.map(|data| Signature {
        origin: Dialect::Gemini,
        data,
    });
    Ok(Some(read))
}

fn read_call(call: &At<'_>, derived: impl Fn() -> String) -> Result<ToolCall, Misread> {
    let id = match call.get("id") {
        Some(id) => {
            let given = id.text()?;
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            // Other dialects take no other letters in an id, and no more than 64.
            if given.is_empty() || given.len() > 56 || !given.bytes().all(is_word) {
                derived()
            } else {
                format!("{GIVEN}{given}")
            }
        }
        None => derived(),
    };
    let arguments = match call.get("args") {
        Some(args) => args.json_object()?,
        None => Json::valid("{}"),
    };
    let arguments = std::str::from_utf8(arguments.as_bytes());
    Ok(ToolCall {
        id,
        name: call.need("name")?.text()?,
        arguments: arguments
            .map_err(|_| call.refuse("is no UTF-8"))?
            .to_owned(),
    })
}

/// An id out of the answer's and the call's place in it: in a conversation no other has it.
fn derived_id(answer: Option<&str>, candidate: usize, number: usize) -> String {
    let answer = answer.unwrap_or_default().bytes();
    let answer = answer.filter(u8::is_ascii_alphanumeric).map(char::from);
    let answer: String = answer.take(24).collect();
    format!("call_{answer}_{candidate}_{number}")
}

/// Why a candidate ended; `None` if it has not.
pub(super) fn read_stop(candidate: &At<'_>, calls: bool) -> Result<Option<StopReason>, Misread> {
    let Some(reason) = candidate.get("finishReason") else {
        return Ok(None);
    };
    Ok(Some(match &*reason.text()? {
        "MAX_TOKENS" => StopReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::Refused,
        _ if calls => StopReason::ToolCalls,
        _ => StopReason::End,
    }))
}

/// In OpenAI's shape: `[{"token", "logprob", "bytes", "top_logprobs": […]}]`.
pub(super) fn read_logprobs(result: &At<'_>) -> Result<Json, Misread> {
    let mut alternatives = Vec::new();
    if let Some(tops) = result.get("topCandidates") {
        tops.array(|top| {
            let mut tokens = Vec::new();
            if let Some(candidates) = top.get("candidates") {
                candidates.array(|token| {
                    tokens.push(read_token(&token)?);
                    Ok::<_, Misread>(())
                })?;
            }
            alternatives.push(tokens);
            Ok::<_, Misread>(())
        })?;
    }
    let mut chosen = Vec::new();
    if let Some(tokens) = result.get("chosenCandidates") {
        tokens.array(|token| {
            chosen.push(read_token(&token)?);
            Ok::<_, Misread>(())
        })?;
    }
    let mut out = Vec::new();
    write::array(&mut out, |to| {
        for (index, token) in chosen.iter().enumerate() {
            to.object(|to| {
                write_token(to, token);
                to.array("top_logprobs", |to| {
                    for token in alternatives.get(index).into_iter().flatten() {
                        to.object(|to| write_token(to, token));
                    }
                });
            });
        }
    });
    Ok(Json::valid(out))
}

struct Token {
    text: String,
    logprob: serde_json::Number,
}

fn read_token(token: &At<'_>) -> Result<Token, Misread> {
    Ok(Token {
        text: token
            .get("token")
            .map_or(Ok(String::new()), |text| text.text())?,
        logprob: token.need("logProbability")?.number()?,
    })
}

fn write_token(to: &mut write::ObjectWriter<'_>, token: &Token) {
    to.set("token", &token.text).set("logprob", &token.logprob);
    to.set("bytes", token.text.as_bytes());
}
