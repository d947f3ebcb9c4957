//! The blocks of a message's content.

use serde_json::Value;

use crate::caching::Life;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item, Problem, Spelling};
use crate::signature::sign;
use crate::turn::Turn;

/// In whose message a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    User,
    Assistant,
}

/// Reads a block. A result answers one of `open`; a call goes to `calls`.
///
/// # Errors
///
/// What Anthropic would refuse.
pub(super) fn read<'a>(
    state: &EngineState,
    item: &Item<'a>,
    turn: &mut Turn<'a>,
    place: Place,
    open: &mut Vec<&'a str>,
    calls: &mut Vec<&'a str>,
) -> Result<(), Invalid> {
    let mut block = item.fields()?;
    let kind = block.need_text("type")?;
    match (kind, place) {
        ("text", _) => {
            let text = non_empty_text(&mut block)?;
            block.accept(&["citations"]);
            match place {
                Place::User => turn.user_text(text),
                Place::Assistant => turn.prompt.push(text),
            }
        }
        ("image", Place::User) => read_source(&mut block, turn, IMAGE_SOURCES)?,
        ("document", Place::User) => read_document(&mut block, turn)?,
        ("tool_result", Place::User) => read_result(&mut block, turn, open)?,
        ("tool_use", Place::Assistant) => {
            let id = block.need_text("id")?;
            check_name(&block, "id", id, usize::MAX)?;
            let name = block.need_text("name")?;
            check_name(&block, "name", name, 200)?;
            let input = block.need("input")?;
            if !input.is_object() {
                let words = "Input should be a valid dictionary";
                return Err(block.wrong("input", words));
            }
            block.accept(&["caller"]);
            turn.prompt.push(name);
            turn.prompt.push(&input.to_string());
            calls.push(id);
        }
        ("thinking", Place::Assistant) => {
            let thought = block.need_text("thinking")?;
            let signature = block.need_text("signature")?;
            if signature != sign(state.config.seed, thought) {
                let words = "Invalid `signature` in `thinking` block";
                return Err(Invalid::other(item.path.clone(), words));
            }
            turn.prompt.push(thought);
            turn.end_block();
            return block.finish();
        }
        ("redacted_thinking", Place::Assistant) => {
            turn.prompt.push(block.need_text("data")?);
            turn.end_block();
            return block.finish();
        }
        _ => {
            let role = match place {
                Place::User => "user",
                Place::Assistant => "assistant",
            };
            return Err(Invalid::other(
                item.path.clone(),
                format!("`{kind}` blocks can not be in {role} messages, or do not exist"),
            ));
        }
    }
    end(&mut block, turn)?;
    block.finish()
}

/// Reads a block that can only be text.
///
/// # Errors
///
/// Another block, or an empty one.
pub(super) fn read_text_block<'a>(item: &Item<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let mut block = item.fields()?;
    if block.need_text("type")? != "text" {
        return Err(block.wrong("type", "Input should be 'text'"));
    }
    let text = non_empty_text(&mut block)?;
    turn.prompt.push(text);
    block.accept(&["citations"]);
    end(&mut block, turn)?;
    block.finish()
}

/// Ends a block, and keeps the prompt up to here if it says so.
pub(super) fn end(block: &mut Fields<'_>, turn: &mut Turn<'_>) -> Result<(), Invalid> {
    turn.end_block();
    if let Some(life) = cache_control(block)? {
        turn.mark(life);
    }
    Ok(())
}

/// A block's `cache_control`.
///
/// # Errors
///
/// A type that is not `ephemeral`, or a ttl that is neither `5m` nor `1h`.
pub(super) fn cache_control(block: &mut Fields<'_>) -> Result<Option<Life>, Invalid> {
    let Some(mut control) = block.object("cache_control")? else {
        return Ok(None);
    };
    if control.need_text("type")? != "ephemeral" {
        return Err(control.wrong("type", "Input should be 'ephemeral'"));
    }
    let life = match control.text("ttl")? {
        None | Some("5m") => Life::FiveMinutes,
        Some("1h") => Life::Hour,
        Some(_) => return Err(control.wrong("ttl", "Input should be '5m' or '1h'")),
    };
    control.finish()?;
    Ok(Some(life))
}

/// Checks that a name or id is of letters, digits, `_` and `-`.
///
/// # Errors
///
/// Another one, or one that is too long.
pub(super) fn check_name(
    fields: &Fields<'_>,
    field: &str,
    name: &str,
    chars_max: usize,
) -> Result<(), Invalid> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= chars_max && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(fields.wrong(
        field,
        "String should match pattern '^[a-zA-Z0-9_-]+$', and not be too long",
    ))
}

fn non_empty_text<'a>(block: &mut Fields<'a>) -> Result<&'a str, Invalid> {
    let text = block.need_text("text")?;
    if text.is_empty() {
        let words = "text content blocks must be non-empty";
        return Err(Invalid::other("messages", words));
    }
    Ok(text)
}

/// Media types of images.
const IMAGE_SOURCES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];

/// `source`, by base64, URL or file.
fn read_source(
    block: &mut Fields<'_>,
    turn: &mut Turn<'_>,
    media_types: &[&str],
) -> Result<(), Invalid> {
    let mut source = block.need_object("source")?;
    let description = match source.need_text("type")? {
        "base64" => {
            let media_type = source.need_text("media_type")?;
            if !media_types.contains(&media_type) {
                let words = format!("Input should be one of '{}'", media_types.join("', '"));
                return Err(source.wrong("media_type", words));
            }
            source.need_text("data")?
        }
        "url" => source.need_text("url")?,
        "file" => source.need_text("file_id")?,
        _ => return Err(source.wrong("type", "Input should be 'base64', 'url' or 'file'")),
    };
    turn.prompt.push_image(description);
    source.finish()
}

fn read_document<'a>(block: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    block.accept(&["title", "context", "citations"]);
    let mut source = block.need_object("source")?;
    match source.need_text("type")? {
        "text" => {
            source.accept(&["media_type"]);
            turn.prompt.push(source.need_text("data")?);
        }
        "base64" => {
            if source.need_text("media_type")? != "application/pdf" {
                return Err(source.wrong("media_type", "Input should be 'application/pdf'"));
            }
            turn.prompt.push_image(source.need_text("data")?);
        }
        "url" => turn.prompt.push_image(source.need_text("url")?),
        "file" => turn.prompt.push_image(source.need_text("file_id")?),
        "content" => turn.prompt.push(&source.need("content")?.to_string()),
        _ => {
            let words = "Input should be 'base64', 'text', 'content', 'url' or 'file'";
            return Err(source.wrong("type", words));
        }
    }
    source.finish()
}

fn read_result<'a>(
    block: &mut Fields<'a>,
    turn: &mut Turn<'a>,
    open: &mut Vec<&'a str>,
) -> Result<(), Invalid> {
    let id = block.need_text("tool_use_id")?;
    let before = open.len();
    open.retain(|called| *called != id);
    if open.len() == before {
        return Err(Invalid::other(
            block.path().to_owned(),
            format!(
                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` \
                 block must have a corresponding `tool_use` block in the previous message."
            ),
        ));
    }
    block.flag("is_error")?;
    turn.tool_answers();
    match block.take("content") {
        None => {}
        Some(Value::String(text)) => turn.prompt.push(text),
        Some(Value::Array(values)) => {
            let path = block.path_of("content");
            for item in crate::fields::items(&path, values, Spelling::Exact) {
                let mut inner = item.fields()?;
                match inner.need_text("type")? {
                    "text" => turn.prompt.push(inner.need_text("text")?),
                    "image" => read_source(&mut inner, turn, IMAGE_SOURCES)?,
                    "document" => read_document(&mut inner, turn)?,
                    _ => {
                        let words = "Input should be 'text', 'image' or 'document'";
                        return Err(inner.wrong("type", words));
                    }
                }
                inner.accept(&["cache_control"]);
                inner.finish()?;
            }
        }
        Some(_) => {
            let path = block.path_of("content");
            return Err(Invalid::new(path, Problem::NotA("string or list")));
        }
    }
    Ok(())
}
