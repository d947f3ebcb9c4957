//! Items of a request's input, as messages.

use super::item::{read_reasoning, read_signature};
use crate::conversation::{Content, Message, Part, Role, Signature, Source, ToolCall, ToolResult};
use crate::dialect::media::source_of;
use crate::dialect::read::{At, Misread};
use crate::envelope::Kind;

/// A text or an array of items.
pub(super) fn read_input(input: &At<'_>) -> Result<Vec<Message>, Misread> {
    if input.kind() == Kind::String {
        let text = Part::text(input.text()?);
        return Ok(vec![Message::new(Role::User, vec![text])]);
    }
    let mut messages = Vec::new();
    input.array(|item| read_item(&mut messages, &item))?;
    Ok(messages)
}

/// Items of one turn of the model become one message: thoughts, texts and calls, up to the
/// results that follow.
fn read_item(messages: &mut Vec<Message>, item: &At<'_>) -> Result<(), Misread> {
    let kind = match item.get("type") {
        Some(kind) => kind.text()?,
        None => "message".to_owned(),
    };
    match &*kind {
        "message" => {
            let message = read_message(item)?;
            match messages.last_mut() {
                Some(last) if message.role == Role::Assistant && goes_on(last) => {
                    last.parts.extend(message.parts);
                }
                _ => messages.push(message),
            }
        }
        "reasoning" => {
            let Some(part) = read_reasoning(item)? else {
                return Ok(());
            };
            match messages.last_mut() {
                Some(last) if goes_on(last) => last.parts.push(part),
                _ => messages.push(Message::new(Role::Assistant, vec![part])),
            }
        }
        "function_call" => {
            let part = read_call(item)?;
            match messages.last_mut() {
                Some(last) if last.role == Role::Assistant => last.parts.push(part),
                _ => messages.push(Message::new(Role::Assistant, vec![part])),
            }
        }
        "function_call_output" => {
            let part = read_result(item)?;
            match messages.last_mut() {
                Some(last) if last.parts.iter().all(is_result) => last.parts.push(part),
                _ => messages.push(Message::new(Role::User, vec![part])),
            }
        }
        "item_reference" => {
            return Err(item.refuse("names an item that is not stored here: send it whole"));
        }
        _ => {
            let kind = &kind[..kind.floor_char_boundary(64)];
            return Err(item.refuse(format!(
                "is of the type '{kind}', which cannot be translated: leave it out"
            )));
        }
    }
    Ok(())
}

/// Whether the model's turn has thoughts alone so far, or calls without results.
fn goes_on(last: &Message) -> bool {
    let is_thought = |part: &Part| {
        matches!(
            part.content,
            Content::Reasoning(_) | Content::RedactedReasoning
        )
    };
    let is_call = |part: &Part| matches!(part.content, Content::ToolCall(_));
    last.role == Role::Assistant
        && (last.parts.iter().all(is_thought) || last.parts.iter().any(is_call))
}

fn is_result(part: &Part) -> bool {
    matches!(part.content, Content::ToolResult(_))
}

fn read_message(item: &At<'_>) -> Result<Message, Misread> {
    let role = item.need("role")?.word(&[
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("system", Role::System),
        ("developer", Role::Developer),
    ])?;
    let mut parts = Vec::new();
    item.object(|name, value| {
        match name {
            // Ids and states of items are the provider's; a phase is OpenAI's.
            "type" | "role" | "id" | "status" | "phase" => {}
            "content" => parts = read_content(&value)?,
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    if parts.is_empty() && role != Role::Assistant {
        return Err(item.refuse("says nothing: give it a 'content'"));
    }
    Ok(Message::new(role, parts))
}

/// A text or an array of parts, of a message or of a call's output.
fn read_content(content: &At<'_>) -> Result<Vec<Part>, Misread> {
    if content.kind() == Kind::String {
        return Ok(vec![Part::text(content.text()?)]);
    }
    let mut parts = Vec::new();
    content.array(|part| {
        parts.push(read_part(&part)?);
        Ok::<_, Misread>(())
    })?;
    Ok(parts)
}

fn read_part(part: &At<'_>) -> Result<Part, Misread> {
    let kind = part.need("type")?.text()?;
    let mut signature: Option<Signature> = None;
    let content = match &*kind {
        "input_text" | "output_text" | "text" => Content::Text(part.need("text")?.text()?),
        "refusal" => Content::Refusal(part.need("refusal")?.text()?),
        "input_image" => read_image(part)?,
        "input_file" => read_file(part)?,
        "input_audio" => {
            let audio = part.need("input_audio")?;
            Content::Audio {
                data: audio.need("data")?.text()?,
                format: audio.need("format")?.text()?,
            }
        }
        _ => return Err(part.need("type")?.unknown()),
    };
    part.object(|name, value| {
        match (&*kind, name) {
            (_, "type" | "text" | "refusal" | "input_audio") => {}
            // What an upstream said of its own words: no model reads it again.
            (_, "annotations" | "logprobs") => {}
            (_, "signature") => signature = Some(read_signature(&value)?),
            ("input_image", "image_url" | "file_id" | "detail") => {}
            ("input_file", "file_data" | "file_url" | "file_id" | "filename") => {}
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let mut part = Part::from(content);
    part.signature = signature;
    Ok(part)
}

fn read_image(part: &At<'_>) -> Result<Content, Misread> {
    let source = match (part.get("image_url"), part.get("file_id")) {
        (Some(url), None) => source_of(url.text()?).ok_or_else(|| url.refuse(DATA_URL))?,
        (None, Some(id)) => Source::File(id.text()?),
        _ => return Err(part.refuse("must have either 'image_url' or 'file_id'")),
    };
    let detail = part.get("detail");
    Ok(Content::Image {
        source,
        detail: detail.map(|detail| detail.text()).transpose()?,
    })
}

const DATA_URL: &str = "is a data URL of another form than 'data:<type>;base64,<data>'";

fn read_file(part: &At<'_>) -> Result<Content, Misread> {
    let data = part.get("file_data");
    let url = part.get("file_url");
    let source = match (data, url, part.get("file_id")) {
        (Some(data), None, None) => {
            let text = data.text()?;
            let inline = text.starts_with("data:").then(|| source_of(text));
            inline.flatten().ok_or_else(|| data.refuse(DATA_URL))?
        }
        (None, Some(url), None) => Source::Url(url.text()?),
        (None, None, Some(id)) => Source::File(id.text()?),
        _ => return Err(part.refuse("must have one of 'file_data', 'file_url' and 'file_id'")),
    };
    let title = part.get("filename");
    Ok(Content::Document {
        source,
        title: title.map(|title| title.text()).transpose()?,
    })
}

fn read_call(item: &At<'_>) -> Result<Part, Misread> {
    let mut signature = None;
    item.object(|name, value| {
        match name {
            "type" | "id" | "status" | "call_id" | "name" | "arguments" => {}
            "signature" => signature = Some(read_signature(&value)?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    let mut part = Part::from(Content::ToolCall(ToolCall {
        id: item.need("call_id")?.text()?,
        name: item.need("name")?.text()?,
        arguments: item.need("arguments")?.text()?,
    }));
    part.signature = signature;
    Ok(part)
}

fn read_result(item: &At<'_>) -> Result<Part, Misread> {
    item.object(|name, value| match name {
        "type" | "id" | "status" | "call_id" | "output" => Ok(()),
        _ => Err(value.unknown()),
    })?;
    Ok(Part::from(Content::ToolResult(ToolResult {
        call: item.need("call_id")?.text()?,
        name: None,
        parts: read_content(&item.need("output")?)?,
        is_error: false,
    })))
}
