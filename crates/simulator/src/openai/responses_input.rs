//! The items of a response's `input`.

use serde_json::Value;

use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item, Problem, Spelling};
use crate::signature::sign;
use crate::turn::{Speaker, Turn};

/// Reads a text, or a list of items.
///
/// # Errors
///
/// What OpenAI would refuse.
pub(super) fn read<'a>(
    state: &EngineState,
    input: &'a Value,
    turn: &mut Turn<'a>,
) -> Result<(), Invalid> {
    let values = match input {
        Value::String(text) => {
            turn.begin_message("user");
            turn.user_speaks();
            turn.user_text(text);
            return Ok(());
        }
        Value::Array(values) => values,
        _ => return Err(Invalid::new("input", Problem::NotA("string or list"))),
    };
    let mut calls = Calls::default();
    for item in crate::fields::items("input", values, Spelling::Exact) {
        read_item(state, &item, turn, &mut calls)?;
    }
    match calls.open.first() {
        None => Ok(()),
        Some(id) => Err(Invalid::other(
            "input",
            format!("No tool output found for function call {id}"),
        )),
    }
}

/// The calls without an output so far.
#[derive(Default)]
struct Calls<'a> {
    open: Vec<&'a str>,
}

fn read_item<'a>(
    state: &EngineState,
    item: &Item<'a>,
    turn: &mut Turn<'a>,
    calls: &mut Calls<'a>,
) -> Result<(), Invalid> {
    let mut fields = item.fields()?;
    let kind = match fields.text("type")? {
        None if item.value.get("role").is_some() => "message",
        None => return Err(Invalid::new(fields.path_of("type"), Problem::Missing)),
        Some(kind) => kind,
    };
    match kind {
        "message" => read_message(&mut fields, turn)?,
        "function_call" => {
            turn.speaker = Speaker::Other;
            calls.open.push(fields.need_text("call_id")?);
            turn.prompt.push(fields.need_text("name")?);
            turn.prompt.push(fields.need_text("arguments")?);
        }
        "function_call_output" => {
            turn.tool_answers();
            let id = fields.need_text("call_id")?;
            let before = calls.open.len();
            calls.open.retain(|open| *open != id);
            if calls.open.len() == before {
                let words =
                    format!("No tool call found for function call output with call_id {id}");
                return Err(Invalid::other("input", words));
            }
            match fields.need("output")? {
                Value::String(text) => turn.prompt.push(text),
                Value::Array(values) => {
                    let path = fields.path_of("output");
                    for part in crate::fields::items(&path, values, Spelling::Exact) {
                        read_part(&part, turn, "tool")?;
                    }
                }
                _ => {
                    let path = fields.path_of("output");
                    return Err(Invalid::new(path, Problem::NotA("string or list")));
                }
            }
        }
        "reasoning" => {
            let id = fields.need_text("id")?;
            if let Some(encrypted) = fields.text("encrypted_content")?
                && encrypted != sign(state.config.seed, id)
            {
                let words = format!("The encrypted content for item {id} could not be verified");
                return Err(Invalid::other("input", words));
            }
            fields.accept(&["summary", "content"]);
        }
        "item_reference" => {
            let id = fields.need_text("id")?;
            let words = format!("Item with id '{id}' not found");
            return Err(Invalid::other("input", words));
        }
        other => {
            let words = format!("'{other}' is no item that the simulator reads");
            return Err(fields.wrong("type", words));
        }
    }
    fields.accept(&["id", "status"]);
    fields.finish()
}

fn read_message<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let role = fields.need_text("role")?;
    turn.begin_message(role);
    match role {
        "user" => turn.user_speaks(),
        "assistant" | "system" | "developer" => turn.speaker = Speaker::Other,
        _ => {
            let words = "it is assistant, system, developer or user";
            return Err(fields.wrong("role", words));
        }
    }
    let path = fields.path_of("content");
    match fields.need("content")? {
        Value::String(text) if role == "user" => turn.user_text(text),
        Value::String(text) => turn.prompt.push(text),
        Value::Array(values) => {
            for part in crate::fields::items(&path, values, Spelling::Exact) {
                read_part(&part, turn, role)?;
            }
        }
        _ => return Err(Invalid::new(path, Problem::NotA("string or list"))),
    }
    fields.accept(&["phase"]);
    Ok(())
}

fn read_part<'a>(item: &Item<'a>, turn: &mut Turn<'a>, role: &str) -> Result<(), Invalid> {
    let mut part = item.fields()?;
    let kind = part.need_text("type")?;
    let is_assistant = role == "assistant";
    match kind {
        "input_text" if role == "user" => turn.user_text(part.need_text("text")?),
        "input_text" if !is_assistant => turn.prompt.push(part.need_text("text")?),
        "output_text" if is_assistant => {
            turn.prompt.push(part.need_text("text")?);
            part.accept(&["annotations", "logprobs"]);
        }
        "refusal" if is_assistant => turn.prompt.push(part.need_text("refusal")?),
        "input_image" if !is_assistant => {
            let url = part.text("image_url")?;
            let image = url.or(part.text("file_id")?);
            let missing = || Invalid::new(part.path_of("image_url"), Problem::Missing);
            turn.prompt.push_image(image.ok_or_else(missing)?);
            part.accept(&["detail"]);
        }
        "input_file" if !is_assistant => {
            turn.prompt.push_image(&item.value.to_string());
            part.accept(&["file_id", "file_data", "file_url", "filename"]);
        }
        _ => {
            let words = format!("'{kind}' cannot stand in a message of {role}");
            return Err(part.wrong("type", words));
        }
    }
    part.finish()
}
