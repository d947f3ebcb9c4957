//! Whole answers in Anthropic's dialect.

use bytes::Bytes;

use super::block_reader::{read_call_of, read_signature};
use super::block_writer::write_answer_blocks;
use super::{read_stop, stop_words};
use crate::conversation::{Answer, Candidate, Content, Part};
use crate::dialect::read::{At, Misread};
use crate::dialect::usage::{AnthropicUsage, write_anthropic};
use crate::dialect::write;
use crate::dialect::{AnswerNames, UnreadableAnswer, checked};

/// Reads an upstream's answer.
pub(in crate::dialect) fn read_answer(body: &[u8]) -> Result<Answer, UnreadableAnswer> {
    let root = checked(body)?;
    let text = |name: &str| root.get(name).and_then(|value| value.text().ok());
    let mut parts = Vec::new();
    root.need("content")?.array(|block| {
        parts.extend(read_answer_block(&block)?);
        Ok::<_, Misread>(())
    })?;
    let mut usage = AnthropicUsage::default();
    if let Some(counts) = root.get("usage") {
        usage.read(&counts)?;
    }
    let stop = text("stop_reason").map(|reason| read_stop(&reason, text("stop_sequence")));
    Ok(Answer {
        id: text("id"),
        model: text("model"),
        created: None,
        candidates: vec![Candidate {
            parts,
            stop,
            logprobs: None,
        }],
        usage: usage.tokens(),
        service_tier: None,
    })
}

/// One block; `None` if it is what a tool of Anthropic's own did.
fn read_answer_block(block: &At<'_>) -> Result<Option<Part>, Misread> {
    let mut part = Part::from(match &*block.need("type")?.text()? {
        "text" => Content::Text(block.need("text")?.text()?),
        "thinking" => Content::Reasoning(block.need("thinking")?.text()?),
        "redacted_thinking" => Content::RedactedReasoning,
        "tool_use" => read_call_of(block)?,
        _ => return Ok(None),
    });
    part.signature = read_signature(block)?;
    Ok(Some(part))
}

/// Writes a client's answer. Anthropic's have one candidate.
pub(in crate::dialect) fn write_answer(answer: &Answer, names: &AnswerNames) -> Bytes {
    let candidate = answer.candidates.first();
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("id", answer.id.as_ref().unwrap_or(&names.id));
        to.set("type", "message").set("role", "assistant");
        to.set("model", answer.model.as_ref().unwrap_or(&names.model));
        to.array("content", |to| {
            let parts = candidate.map_or(&[][..], |candidate| &candidate.parts);
            write_answer_blocks(to, parts);
        });
        match candidate.and_then(|candidate| candidate.stop.as_ref()) {
            Some(stop) => {
                let (reason, sequence) = stop_words(stop);
                to.set("stop_reason", reason).set("stop_sequence", sequence);
            }
            None => {
                to.null("stop_reason").null("stop_sequence");
            }
        }
        to.null("stop_details").null("container");
        let usage = answer.usage.unwrap_or_default();
        to.object("usage", |to| write_anthropic(to, &usage));
    });
    out.into()
}
