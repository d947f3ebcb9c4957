//! The blocks of a conversation's messages.

use serde_json::Value;

use crate::caching::Life;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item};
use crate::signature::sign;
use crate::turn::Turn;

/// The calls of tools and their results, from message to message.
#[derive(Debug, Default)]
pub(super) struct Exchange<'a> {
    /// Calls of the message before, that this one has to answer.
    open: Vec<&'a str>,
    /// Calls of this message.
    made: Vec<&'a str>,
    count: usize,
}

impl<'a> Exchange<'a> {
    /// Ends the message at this place.
    ///
    /// # Errors
    ///
    /// A call of the message before without its result.
    pub(super) fn end_message(&mut self, at: usize) -> Result<(), Invalid> {
        if !self.open.is_empty() {
            return Err(self.unanswered(at));
        }
        self.open = std::mem::take(&mut self.made);
        Ok(())
    }

    /// Ends the conversation.
    ///
    /// # Errors
    ///
    /// A call without its result.
    pub(super) fn end(&self, at: usize) -> Result<(), Invalid> {
        if self.open.is_empty() {
            return Ok(());
        }
        Err(self.unanswered(at))
    }

    /// Whether there are calls or results.
    pub(super) fn uses_tools(&self) -> bool {
        self.count > 0
    }

    fn call(&mut self, id: &'a str) {
        self.count += 1;
        self.made.push(id);
    }

    fn answer(&mut self, id: &str) -> Result<(), Invalid> {
        self.count += 1;
        let before = self.open.len();
        self.open.retain(|open| *open != id);
        if self.open.len() < before {
            return Ok(());
        }
        Err(Invalid::other(
            "messages",
            "The number of toolResult blocks exceeds the number of toolUse blocks of previous \
             turn.",
        ))
    }

    fn unanswered(&self, at: usize) -> Invalid {
        let ids = self.open.join(", ");
        let words = format!(
            "Expected toolResult blocks at messages.{at}.content for the following Ids: {ids}"
        );
        Invalid::other("messages", words)
    }
}

/// Reads a block of a message.
///
/// # Errors
///
/// What Bedrock would refuse.
pub(super) fn read<'a>(
    state: &EngineState,
    item: &Item<'a>,
    turn: &mut Turn<'a>,
    role: &str,
    exchange: &mut Exchange<'a>,
) -> Result<(), Invalid> {
    let mut block = item.fields()?;
    if cache_point(&mut block, turn)? {
        return block.finish();
    }
    let is_user = role == "user";
    let mut members = 0;
    if let Some(text) = block.text("text")? {
        members += 1;
        if text.trim().is_empty() {
            let words = format!(
                "The text field in the ContentBlock object at {} is blank. Add text to the text \
                 field, and try again.",
                item.path
            );
            return Err(block.wrong("text", words));
        }
        if is_user {
            turn.user_text(text);
        } else {
            turn.prompt.push(text);
        }
    }
    for (name, formats) in [
        ("image", IMAGES),
        ("document", DOCUMENTS),
        ("video", VIDEOS),
    ] {
        if let Some(mut media) = block.object(name)? {
            members += 1;
            read_media(&mut media, turn, formats)?;
        }
    }
    if let Some(mut call) = block.object("toolUse")? {
        members += 1;
        let id = call.need_text("toolUseId")?;
        check_name(&call, "toolUseId", id)?;
        exchange.call(id);
        turn.prompt.push(call.need_text("name")?);
        turn.prompt.push(&call.need("input")?.to_string());
        call.finish()?;
    }
    if let Some(mut result) = block.object("toolResult")? {
        members += 1;
        exchange.answer(result.need_text("toolUseId")?)?;
        turn.tool_answers();
        read_result(&mut result, turn)?;
    }
    if let Some(mut reasoning) = block.object("reasoningContent")? {
        members += 1;
        read_reasoning(state, &mut reasoning, turn)?;
    }
    if members == 0 {
        block.accept(&["guardContent", "citationsContent"]);
    } else if members > 1 {
        let words = format!(
            "The ContentBlock object at {} must set exactly one field.",
            item.path
        );
        return Err(Invalid::other(item.path.clone(), words));
    }
    turn.end_block();
    block.finish()
}

/// Reads a `cachePoint`, if the block is one, and keeps the prompt up to here.
pub(super) fn cache_point(block: &mut Fields<'_>, turn: &mut Turn<'_>) -> Result<bool, Invalid> {
    let Some(mut point) = block.object("cachePoint")? else {
        return Ok(false);
    };
    if point.need_text("type")? != "default" {
        return Err(point.wrong("type", "The only type of a cachePoint is default."));
    }
    let life = match point.text("ttl")? {
        None | Some("5m") => Life::FiveMinutes,
        Some("1h") => Life::Hour,
        Some(_) => return Err(point.wrong("ttl", "The ttl of a cachePoint is 5m or 1h.")),
    };
    point.finish()?;
    turn.mark(life);
    Ok(true)
}

/// Checks that a name or id is of letters, digits, `_` and `-`, and at most 64 of them.
///
/// # Errors
///
/// Another one.
pub(super) fn check_name(fields: &Fields<'_>, field: &str, name: &str) -> Result<(), Invalid> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    let words = format!(
        "1 validation error detected: Value at '{}' failed to satisfy constraint: Member must \
         satisfy regular expression pattern: [a-zA-Z0-9_-]+",
        fields.path_of(field)
    );
    Err(fields.wrong(field, words))
}

const IMAGES: &[&str] = &["png", "jpeg", "gif", "webp"];
const DOCUMENTS: &[&str] = &[
    "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md",
];
const VIDEOS: &[&str] = &[
    "mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp",
];

fn read_media(
    media: &mut Fields<'_>,
    turn: &mut Turn<'_>,
    formats: &[&str],
) -> Result<(), Invalid> {
    let format = media.need_text("format")?;
    if !formats.contains(&format) {
        let words = format!("The format {format} is not one of {}.", formats.join(", "));
        return Err(media.wrong("format", words));
    }
    let mut source = media.need_object("source")?;
    match (source.text("bytes")?, source.text("text")?) {
        (Some(bytes), None) => turn.prompt.push_image(bytes),
        (None, Some(text)) => turn.prompt.push(text),
        _ => {
            let mut location = source.need_object("s3Location")?;
            turn.prompt.push_image(location.need_text("uri")?);
            location.accept(&["bucketOwner"]);
            location.finish()?;
        }
    }
    source.finish()?;
    media.accept(&["name", "context", "citations"]);
    media.finish()
}

fn read_result(result: &mut Fields<'_>, turn: &mut Turn<'_>) -> Result<(), Invalid> {
    if let Some(status) = result.text("status")?
        && !["success", "error"].contains(&status)
    {
        return Err(result.wrong("status", "The status is success or error."));
    }
    for item in result.list("content")? {
        let mut block = item.fields()?;
        match (block.text("text")?, block.take("json")) {
            (Some(text), None) => turn.prompt.push(text),
            (None, Some(Value::Object(json))) => {
                turn.prompt.push(&Value::Object(json.clone()).to_string());
            }
            (None, None) => {
                for (name, formats) in [("image", IMAGES), ("document", DOCUMENTS)] {
                    if let Some(mut media) = block.object(name)? {
                        read_media(&mut media, turn, formats)?;
                    }
                }
            }
            _ => {
                let words = "The format of the value at a toolResult's json is invalid. Provide a \
                    json object for the field and try again.";
                return Err(block.wrong("json", words));
            }
        }
        block.finish()?;
    }
    result.finish()
}

fn read_reasoning<'a>(
    state: &EngineState,
    reasoning: &mut Fields<'a>,
    turn: &mut Turn<'a>,
) -> Result<(), Invalid> {
    if let Some(redacted) = reasoning.text("redactedContent")? {
        turn.prompt.push(redacted);
        return reasoning.finish();
    }
    let mut text = reasoning.need_object("reasoningText")?;
    let thought = text.need_text("text")?;
    if text.text("signature")? != Some(&sign(state.config.seed, thought)) {
        let words = format!("{}: Invalid `signature` in `thinking` block", text.path());
        return Err(text.wrong("signature", words));
    }
    turn.prompt.push(thought);
    text.finish()?;
    reasoning.finish()
}
