//! Content blocks of Anthropic's dialect.

use super::detached;
use crate::conversation::{Content, Part, Signature, Source, ToolCall, ToolResult};
use crate::dialect::Dialect;
use crate::dialect::cache_mark::read_cache_mark;
use crate::dialect::read::{At, Misread};
use crate::envelope::Kind;

/// A text or an array of blocks, of a client.
pub(super) fn read_content(content: &At<'_>) -> Result<Vec<Part>, Misread> {
    if content.kind() == Kind::String {
        return Ok(vec![Part::text(content.text()?)]);
    }
    let mut parts = Vec::new();
    content.array(|block| {
        if let Some(part) = read_block(&block, &mut parts)? {
            parts.push(part);
        }
        Ok::<_, Misread>(())
    })?;
    Ok(parts)
}

/// One block of a client; `None` if it only signs the part before.
fn read_block(block: &At<'_>, before: &mut [Part]) -> Result<Option<Part>, Misread> {
    let kind = block.need("type")?;
    let mut part = Part::from(match &*kind.text()? {
        "text" => read_text(block)?,
        "image" => Content::Image {
            source: read_source(&block.need("source")?)?,
            detail: None,
        },
        "document" => read_document(block)?,
        "tool_use" => read_call(block)?,
        "tool_result" => read_result(block)?,
        "thinking" => {
            only(block, &["thinking", "signature"])?;
            Content::Reasoning(block.need("thinking")?.text()?)
        }
        "redacted_thinking" => {
            only(block, &["data"])?;
            let signature = detached(&block.need("data")?.text()?);
            if let (Some(signature), Some(last)) = (signature, before.last_mut()) {
                last.signature = Some(signature);
                return Ok(None);
            }
            Content::RedactedReasoning
        }
        _ => return Err(kind.refuse("is of a kind that only Anthropic's models read: remove it")),
    });
    if let Some(mark) = block.get("cache_control") {
        part.cache = Some(read_cache_mark(&mark)?);
    }
    part.signature = read_signature(block)?;
    Ok(Some(part))
}

/// The signature of thoughts: `signature` or `data`.
pub(super) fn read_signature(block: &At<'_>) -> Result<Option<Signature>, Misread> {
    let Some(signature) = block.get("signature").or_else(|| block.get("data")) else {
        return Ok(None);
    };
    let text = signature.text()?;
    // Thoughts of models that do not sign have "".
    Ok((!text.is_empty()).then(|| Signature::from_carried(&text, Dialect::Anthropic)))
}

/// Refuses all fields but these, `type` and `cache_control`.
fn only(block: &At<'_>, known: &[&str]) -> Result<(), Misread> {
    block.object(|name, value| match name {
        "type" | "cache_control" => Ok(()),
        _ if known.contains(&name) || value.is_empty() => Ok(()),
        _ => Err(value.unknown()),
    })
}

fn read_text(block: &At<'_>) -> Result<Content, Misread> {
    // What a model said of its own words: no model reads it again.
    only(block, &["text", "citations"])?;
    Ok(Content::Text(block.need("text")?.text()?))
}

fn read_source(source: &At<'_>) -> Result<Source, Misread> {
    let kind = source.need("type")?;
    let text = |name: &str| source.need(name)?.text();
    match &*kind.text()? {
        "base64" => Ok(Source::Base64 {
            media_type: text("media_type")?,
            data: text("data")?,
        }),
        "url" => Ok(Source::Url(text("url")?)),
        "file" => Ok(Source::File(text("file_id")?)),
        "text" => Ok(Source::Text(text("data")?)),
        _ => Err(kind.refuse("must be 'base64', 'url', 'file' or 'text'")),
    }
}

fn read_document(block: &At<'_>) -> Result<Content, Misread> {
    only(block, &["source", "title", "citations"])?;
    if let Some(citations) = block.get("citations") {
        let wanted = citations
            .get("enabled")
            .is_some_and(|on| on.raw.as_bool() == Some(true));
        if wanted {
            return Err(citations.refuse("are only Anthropic's models' to give: remove them"));
        }
    }
    Ok(Content::Document {
        source: read_source(&block.need("source")?)?,
        title: block.get("title").map(|title| title.text()).transpose()?,
    })
}

fn read_call(block: &At<'_>) -> Result<Content, Misread> {
    // Who called: the model itself, unless a tool of Anthropic's own did.
    only(block, &["id", "name", "input", "caller"])?;
    read_call_of(block)
}

/// A call without looking at unknown fields, for answers.
pub(super) fn read_call_of(block: &At<'_>) -> Result<Content, Misread> {
    let input = block.need("input")?.json_object()?;
    Ok(Content::ToolCall(ToolCall {
        id: block.need("id")?.text()?,
        name: block.need("name")?.text()?,
        arguments: String::from_utf8_lossy(input.as_bytes()).into_owned(),
    }))
}

fn read_result(block: &At<'_>) -> Result<Content, Misread> {
    only(block, &["tool_use_id", "content", "is_error"])?;
    let parts = match block.get("content") {
        Some(content) => read_content(&content)?,
        None => Vec::new(),
    };
    let is_error = block
        .get("is_error")
        .map(|error| error.bool())
        .transpose()?;
    Ok(Content::ToolResult(ToolResult {
        call: block.need("tool_use_id")?.text()?,
        name: None,
        parts,
        is_error: is_error.unwrap_or_default(),
    }))
}
