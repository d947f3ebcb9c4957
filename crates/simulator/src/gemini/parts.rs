//! Contents and their parts.

use serde_json::Value;

use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item};
use crate::signature::sign;
use crate::turn::{Speaker, Turn};

/// A signature that Google takes for any: its documentation names it for calls that another model
/// made.
const SKIPPED_SIGNATURE: &str = "skip_thought_signature_validator";

/// How far the calls of functions have been answered.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Those of the last content.
    open: usize,
}

/// Reads the contents.
///
/// # Errors
///
/// What Google would refuse.
pub(super) fn read_contents<'a>(
    state: &EngineState,
    model: &str,
    contents: &[Item<'a>],
    turn: &mut Turn<'a>,
) -> Result<(), Invalid> {
    let mut calls = Calls::default();
    for item in contents {
        let mut content = item.fields()?;
        let role = match content.text("role")? {
            None | Some("user" | "function") => "user",
            Some("model") => "model",
            Some(_) => {
                return Err(content.wrong("role", "Please use a valid role: user, model."));
            }
        };
        turn.begin_message(role);
        match role {
            "user" => turn.user_speaks(),
            _ => turn.speaker = Speaker::Other,
        }
        let parts = content.need_list("parts")?;
        let mut made = 0;
        let mut answered = 0;
        for part in &parts {
            match read_part(state, model, part, role, turn)? {
                PartKind::Call => made += 1,
                PartKind::Response => answered += 1,
                PartKind::Other => {}
            }
        }
        content.finish()?;
        if answered != calls.open {
            return Err(Invalid::other(
                "contents",
                "Please ensure that the number of function response parts is equal to the number \
                 of function call parts of the function call turn.",
            ));
        }
        calls.open = made;
    }
    if calls.open > 0 {
        return Err(Invalid::other(
            "contents",
            "Please ensure that function call turn is followed by a function response turn.",
        ));
    }
    Ok(())
}

enum PartKind {
    Call,
    Response,
    Other,
}

fn read_part<'a>(
    state: &EngineState,
    model: &str,
    item: &Item<'a>,
    role: &str,
    turn: &mut Turn<'a>,
) -> Result<PartKind, Invalid> {
    let mut part = item.fields()?;
    let is_thought = part.flag("thought")?.unwrap_or(false);
    let signature = part.text("thoughtSignature")?;
    let mut kind = PartKind::Other;
    let mut signed = "text";
    let mut data = 0;
    if let Some(text) = part.text("text")? {
        data += 1;
        match role {
            "user" => turn.user_text(text),
            // A thought that is sent back is passed over.
            _ if is_thought => {}
            _ => turn.prompt.push(text),
        }
    }
    if let Some(mut inline) = part.object("inlineData")? {
        data += 1;
        let mime_type = inline.need_text("mimeType")?;
        if !mime_type.contains('/') {
            return Err(inline.wrong("mimeType", "Unsupported MIME type"));
        }
        turn.prompt.push_image(inline.need_text("data")?);
        inline.accept(&["displayName"]);
        inline.finish()?;
    }
    if let Some(mut file) = part.object("fileData")? {
        data += 1;
        turn.prompt.push_image(file.need_text("fileUri")?);
        file.accept(&["mimeType", "displayName"]);
        file.finish()?;
    }
    if let Some(mut call) = part.object("functionCall")? {
        data += 1;
        kind = PartKind::Call;
        signed = call.need_text("name")?;
        if role != "model" {
            return Err(part.wrong("functionCall", "only a model calls functions"));
        }
        turn.prompt.push(signed);
        push_struct(&mut call, "args", turn)?;
        call.accept(&["id"]);
        call.finish()?;
    }
    if let Some(mut response) = part.object("functionResponse")? {
        data += 1;
        kind = PartKind::Response;
        turn.tool_answers();
        turn.prompt.push(response.need_text("name")?);
        response.need_object("response")?;
        let value = item.value.get("functionResponse");
        turn.prompt
            .push(&value.map(Value::to_string).unwrap_or_default());
        response.accept(&["id", "willContinue", "scheduling", "parts"]);
        response.finish()?;
    }
    part.accept(&["videoMetadata", "mediaResolution", "partMetadata"]);
    if data != 1 {
        let words = "required oneof field 'data' must have one initialized field";
        return Err(Invalid::other(part.path().to_owned(), words));
    }
    check_signature(state, model, &part, &kind, signature, signed)?;
    part.finish()?;
    Ok(kind)
}

/// Signatures are right where they stand; the third generation of models wants them on calls.
fn check_signature(
    state: &EngineState,
    model: &str,
    part: &Fields<'_>,
    kind: &PartKind,
    signature: Option<&str>,
    signed: &str,
) -> Result<(), Invalid> {
    match signature {
        Some(SKIPPED_SIGNATURE) => Ok(()),
        Some(signature) if signature == sign(state.config.seed, signed) => Ok(()),
        Some(_) => Err(part.wrong("thoughtSignature", "Thought signature is not valid.")),
        None if matches!(kind, PartKind::Call) && model.starts_with("gemini-3") => {
            let words = "Function call is missing a thought_signature in functionCall parts.";
            Err(Invalid::other(part.path().to_owned(), words))
        }
        None => Ok(()),
    }
}

fn push_struct(fields: &mut Fields<'_>, name: &str, turn: &mut Turn<'_>) -> Result<(), Invalid> {
    let Some(value) = fields.take(name) else {
        return Ok(());
    };
    if !value.is_object() {
        return Err(fields.wrong(name, "it is a Struct"));
    }
    turn.prompt.push(&value.to_string());
    Ok(())
}
