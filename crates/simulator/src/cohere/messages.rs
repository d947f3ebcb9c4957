//! The messages of a chat.

use serde_json::Value;

use crate::fields::{Fields, Invalid, Problem, Spelling};
use crate::turn::{Speaker, Turn};

/// Reads the messages.
///
/// # Errors
///
/// What Cohere would refuse.
pub(super) fn read<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    // Calls that wait for their results.
    let mut open: Vec<&str> = Vec::new();
    for item in fields.need_list("messages")? {
        let mut message = item.fields()?;
        let role = message.need_text("role")?;
        if role != "tool" && !open.is_empty() {
            return Err(unanswered(&open));
        }
        turn.begin_message(role);
        match role {
            "user" => {
                turn.user_speaks();
                read_content(&mut message, turn, Author::User)?;
            }
            "system" => {
                turn.speaker = Speaker::Other;
                read_content(&mut message, turn, Author::Other)?;
            }
            "assistant" => {
                turn.speaker = Speaker::Other;
                if let Some(plan) = message.text("tool_plan")? {
                    turn.prompt.push(plan);
                }
                read_content(&mut message, turn, Author::Other)?;
                open = read_calls(&mut message, turn)?;
                message.accept(&["citations"]);
            }
            "tool" => {
                turn.tool_answers();
                let id = message.need_text("tool_call_id")?;
                let before = open.len();
                open.retain(|called| *called != id);
                if open.len() == before {
                    let words = format!("tool call id not found in previous tool calls: {id}");
                    return Err(message.wrong("tool_call_id", words));
                }
                read_content(&mut message, turn, Author::Other)?;
            }
            _ => {
                let words = "it must be system, user, assistant or tool";
                return Err(message.wrong("role", words));
            }
        }
        message.finish()?;
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(unanswered(&open))
}

/// Who wrote a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    User,
    Other,
}

fn read_content<'a>(
    message: &mut Fields<'a>,
    turn: &mut Turn<'a>,
    author: Author,
) -> Result<(), Invalid> {
    let push = |turn: &mut Turn<'a>, text: &'a str| match author {
        Author::User => turn.user_text(text),
        Author::Other => turn.prompt.push(text),
    };
    let path = message.path_of("content");
    match message.take("content") {
        None if author == Author::User => Err(Invalid::new(path, Problem::Missing)),
        None => Ok(()),
        Some(Value::String(text)) => {
            push(turn, text);
            Ok(())
        }
        Some(Value::Array(values)) => {
            for item in crate::fields::items(&path, values, Spelling::Exact) {
                let mut block = item.fields()?;
                match block.need_text("type")? {
                    "text" => push(turn, block.need_text("text")?),
                    "thinking" => turn.prompt.push(block.need_text("thinking")?),
                    "image_url" if author == Author::User => {
                        let mut image = block.need_object("image_url")?;
                        turn.prompt.push_image(image.need_text("url")?);
                        image.accept(&["detail"]);
                        image.finish()?;
                    }
                    "document" => turn.prompt.push(&block.need("document")?.to_string()),
                    _ => return Err(block.wrong("type", "no such content is here")),
                }
                block.finish()?;
            }
            Ok(())
        }
        Some(_) => Err(Invalid::new(path, Problem::NotA("string or list"))),
    }
}

fn read_calls<'a>(message: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<Vec<&'a str>, Invalid> {
    let mut ids = Vec::new();
    for item in message.list("tool_calls")? {
        let mut call = item.fields()?;
        ids.push(call.need_text("id")?);
        if call.need_text("type")? != "function" {
            return Err(call.wrong("type", "it must be function"));
        }
        let mut function = call.need_object("function")?;
        turn.prompt.push(function.need_text("name")?);
        turn.prompt.push(function.need_text("arguments")?);
        function.finish()?;
        call.finish()?;
    }
    Ok(ids)
}

fn unanswered(open: &[&str]) -> Invalid {
    let words = format!("tool calls without tool results: {}", open.join(", "));
    Invalid::other("messages", words)
}
