//! Content blocks in Anthropic's dialect.

use super::attached;
use crate::conversation::{Content, Part, Source, ToolResult};
use crate::dialect::cache_mark::write_cache_mark;
use crate::dialect::ids::letters_and_digits;
use crate::dialect::media::argument_object;
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::dialect::{Dialect, Untranslatable};
use crate::json::Json;

/// The blocks of one turn, for an upstream. Empty texts, which Anthropic refuses, and thoughts
/// that it did not sign, which it could not verify, are left out.
pub(super) fn write_blocks<'p>(
    to: &mut ArrayWriter<'_>,
    parts: impl IntoIterator<Item = &'p Part>,
    place: &str,
) -> Result<(), Untranslatable> {
    for part in parts.into_iter().filter(|part| is_said(part)) {
        to.object(|to| {
            write_block(to, part, place)?;
            write_cache_mark(to, part.cache);
            Ok::<_, Untranslatable>(())
        })?;
    }
    Ok(())
}

/// Whether a part goes to an upstream at all.
pub(super) fn is_said(part: &Part) -> bool {
    match &part.content {
        Content::Text(text) => !text.is_empty(),
        Content::Reasoning(_) | Content::RedactedReasoning => {
            part.signature_of(Dialect::Anthropic).is_some()
        }
        _ => true,
    }
}

fn write_block(to: &mut ObjectWriter<'_>, part: &Part, place: &str) -> Result<(), Untranslatable> {
    let signature = part.signature_of(Dialect::Anthropic);
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            to.set("type", "text").set("text", text);
        }
        Content::Image { source, .. } => {
            to.set("type", "image");
            write_source(to, source);
        }
        Content::Document { source, title } => {
            to.set("type", "document");
            write_source(to, source);
            to.maybe("title", title.as_deref());
        }
        Content::Reasoning(text) => {
            to.set("type", "thinking").set("thinking", text);
            to.maybe("signature", signature);
        }
        Content::RedactedReasoning => {
            to.set("type", "redacted_thinking").maybe("data", signature);
        }
        Content::ToolCall(call) => {
            let input = argument_object(call)?;
            to.set("type", "tool_use")
                .set("id", letters_and_digits(&call.id));
            to.set("name", &call.name).json("input", &input);
        }
        Content::ToolResult(result) => return write_result(to, result, place),
        Content::Audio { .. } => {
            return Err(Untranslatable::new(
                place,
                "has audio, which Anthropic's models do not take",
            ));
        }
    }
    Ok(())
}

fn write_source(to: &mut ObjectWriter<'_>, source: &Source) {
    to.object("source", |to| match source {
        Source::Base64 { media_type, data } => {
            to.set("type", "base64");
            to.set("media_type", media_type).set("data", data);
        }
        Source::Url(url) => {
            to.set("type", "url").set("url", url);
        }
        Source::File(id) => {
            to.set("type", "file").set("file_id", id);
        }
        Source::Text(text) => {
            to.set("type", "text").set("media_type", "text/plain");
            to.set("data", text);
        }
    });
}

fn write_result(
    to: &mut ObjectWriter<'_>,
    result: &ToolResult,
    place: &str,
) -> Result<(), Untranslatable> {
    to.set("type", "tool_result");
    to.set("tool_use_id", letters_and_digits(&result.call));
    match result.parts.as_slice() {
        [] => {}
        [
            Part {
                content: Content::Text(text),
                cache: None,
                ..
            },
        ] => {
            to.set("content", text);
        }
        parts => to.array("content", |to| write_blocks(to, parts, place))?,
    }
    if result.is_error {
        to.set("is_error", true);
    }
    Ok(())
}

/// The blocks of an answer, for a client: everything, whoever signed it.
pub(super) fn write_answer_blocks(to: &mut ArrayWriter<'_>, parts: &[Part]) {
    for part in parts {
        to.object(|to| write_answer_block(to, part));
        let is_thought = matches!(
            part.content,
            Content::Reasoning(_) | Content::RedactedReasoning
        );
        if let (Some(signature), false) = (&part.signature, is_thought) {
            to.object(|to| {
                to.set("type", "redacted_thinking");
                to.set("data", attached(signature));
            });
        }
    }
}

fn write_answer_block(to: &mut ObjectWriter<'_>, part: &Part) {
    let carried = part
        .signature
        .as_ref()
        .map(|signature| signature.carried_in(Dialect::Anthropic));
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            to.set("type", "text").set("text", text).null("citations");
        }
        Content::Reasoning(text) => {
            to.set("type", "thinking").set("thinking", text);
            to.set("signature", carried.unwrap_or_default());
        }
        Content::ToolCall(call) => {
            to.set("type", "tool_use").set("id", &call.id);
            to.set("name", &call.name);
            match argument_object(call) {
                Ok(input) => to.json("input", &input),
                // A model that broke its own JSON: the client shall see what it wrote.
                Err(_) => to.json("input", &broken(&call.arguments)),
            };
            write_caller(to);
        }
        // No model answers with the rest.
        _ => {
            to.set("type", "redacted_thinking");
            to.set("data", carried.unwrap_or_default());
        }
    }
}

/// Who called a tool: the model itself, and no code that Anthropic runs.
pub(super) fn write_caller(to: &mut ObjectWriter<'_>) {
    to.object("caller", |to| {
        to.set("type", "direct");
    });
}

/// `{"arguments": "…"}`, around what is no JSON object.
fn broken(arguments: &str) -> Json {
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("arguments", arguments);
    });
    Json::valid(out)
}
