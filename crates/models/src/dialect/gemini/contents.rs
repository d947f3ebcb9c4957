//! Messages as Gemini's contents.

use super::GIVEN;
use super::request::knows_levels;
use crate::conversation::{Content, Conversation, Part, Role, Source, ToolCall, ToolResult, Turn};
use crate::dialect::media::{argument_object, extension_type};
use crate::dialect::write::{ArrayWriter, ObjectWriter};
use crate::dialect::{Dialect, Untranslatable};
use crate::envelope::Kind;
use crate::json::Json;

/// What Google documents for calls that another model made.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes all turns.
pub(super) fn write_contents(
    to: &mut ArrayWriter<'_>,
    conversation: &Conversation,
    model: &str,
) -> Result<(), Untranslatable> {
    conversation.turns().iter().try_for_each(|turn| {
        if turn.parts.iter().all(|part| is_left_out(part)) {
            return Ok(());
        }
        to.object(|to| {
            let role = match turn.role {
                Role::Assistant => "model",
                _ => "user",
            };
            to.set("role", role);
            to.array("parts", |to| write_turn(to, turn, conversation, model))
        })
    })
}

/// Thoughts without Gemini's signature: no provider reads another's.
fn is_left_out(part: &Part) -> bool {
    match &part.content {
        Content::Reasoning(_) | Content::RedactedReasoning => signature(part).is_none(),
        Content::Text(text) => text.is_empty() && signature(part).is_none(),
        _ => false,
    }
}

fn signature(part: &Part) -> Option<&str> {
    part.signature_of(Dialect::Gemini)
}

fn write_turn(
    to: &mut ArrayWriter<'_>,
    turn: &Turn<'_>,
    conversation: &Conversation,
    model: &str,
) -> Result<(), Untranslatable> {
    // Of calls that were made together the first carries the signature.
    let mut first_call = knows_levels(model);
    for part in turn.parts.iter().filter(|part| !is_left_out(part)) {
        match &part.content {
            Content::ToolCall(call) => {
                let stand_in = std::mem::take(&mut first_call).then_some(NO_SIGNATURE);
                to.object(|to| {
                    write_call(to, call)?;
                    to.maybe("thoughtSignature", signature(part).or(stand_in));
                    Ok::<_, Untranslatable>(())
                })?;
            }
            Content::ToolResult(result) => {
                to.object(|to| write_result(to, result, conversation))?;
            }
            _ => write_spoken(to, part, "messages")?,
        }
    }
    Ok(())
}

/// The id that Gemini gave, if it gave this one.
fn given(id: &str) -> Option<&str> {
    id.strip_prefix(GIVEN)
}

fn write_call(to: &mut ObjectWriter<'_>, call: &ToolCall) -> Result<(), Untranslatable> {
    let arguments = argument_object(call)?;
    to.object("functionCall", |to| {
        to.maybe("id", given(&call.id));
        to.set("name", &call.name).json("args", &arguments);
    });
    Ok(())
}

fn write_result(
    to: &mut ObjectWriter<'_>,
    result: &ToolResult,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let called = conversation.tool_name(&result.call);
    let name = result.name.as_deref().or(called).ok_or_else(|| {
        Untranslatable::new(
            "messages",
            "has a tool's result without the call that it answers: send the call before it",
        )
    })?;
    let texts = result.parts.iter().filter_map(|part| match &part.content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join("\n");
    let others = result.parts.iter();
    let mut others = others.filter(|part| !matches!(part.content, Content::Text(_)));
    to.object("functionResponse", |to| {
        to.maybe("id", given(&result.call)).set("name", name);
        let object = Json::parse(text.clone().into()).ok();
        let object = object.filter(|json| json.raw().kind() == Some(Kind::Object));
        match object {
            Some(object) if !result.is_error => {
                to.json("response", &object);
            }
            _ => to.object("response", |to| {
                let key = if result.is_error { "error" } else { "output" };
                to.set(key, &text);
            }),
        }
        if others.clone().next().is_none() {
            return Ok(());
        }
        to.array("parts", |to| {
            others.try_for_each(|part| write_spoken(to, part, "messages"))
        })
    })
}

/// Writes what a role says, beside calls and results.
pub(super) fn write_spoken(
    to: &mut ArrayWriter<'_>,
    part: &Part,
    place: &str,
) -> Result<(), Untranslatable> {
    to.object(|to| {
        match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                to.set("text", text);
            }
            Content::Reasoning(text) => {
                to.set("text", text).set("thought", true);
            }
            Content::RedactedReasoning => {
                to.set("text", "").set("thought", true);
            }
            Content::Image { source, .. } => media(to, source, "image", place)?,
            Content::Document { source, title } => match source {
                Source::Text(text) => {
                    let titled = title.as_ref().map(|title| format!("{title}\n\n{text}"));
                    to.set("text", titled.as_ref().unwrap_or(text));
                }
                _ => media(to, source, "document", place)?,
            },
            Content::Audio { data, format } => to.object("inlineData", |to| {
                to.set("mimeType", format!("audio/{format}"));
                to.set("data", data);
            }),
            Content::ToolCall(_) | Content::ToolResult(_) => {
                return Err(Untranslatable::new(
                    place,
                    "has a tool's call or result where no provider takes one",
                ));
            }
        }
        to.maybe("thoughtSignature", signature(part));
        Ok(())
    })
}

fn media(
    to: &mut ObjectWriter<'_>,
    source: &Source,
    what: &str,
    place: &str,
) -> Result<(), Untranslatable> {
    let refuse = |why: String| Err(Untranslatable::new(place, why));
    match source {
        Source::Base64 { media_type, data } => to.object("inlineData", |to| {
            to.set("mimeType", media_type).set("data", data);
        }),
        Source::Url(url) => {
            let Some(media_type) = extension_type(url) else {
                return refuse(format!(
                    "has a {what} whose address does not tell its type, which Gemini needs: send \
                     it inline, as a 'data:' URL"
                ));
            };
            to.object("fileData", |to| {
                to.set("mimeType", media_type).set("fileUri", url);
            });
        }
        Source::File(_) => {
            return refuse(format!(
                "has a {what} that another provider keeps: send it inline"
            ));
        }
        Source::Text(_) => return refuse(format!("has text in the place of a {what}")),
    }
    Ok(())
}
