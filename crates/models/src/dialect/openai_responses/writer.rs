//! What an upstream is asked in Responses.

use bytes::Bytes;

use super::item::BETWEEN;
use super::{INCLUDE_ENCRYPTED, INCLUDE_LOGPROBS};
use crate::conversation::{
    Content, Conversation, Effort, Format, Message, Part, Role, Source, Tool, ToolChoice,
    ToolResult,
};
use crate::dialect::refusal::{self, Ability};
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::dialect::{Dialect, Flavour, Forced, Untranslatable};

const ABILITIES: &[Ability] = &[
    Ability::Logprobs,
    Ability::Reasoning,
    Ability::SerialToolCalls,
    Ability::ServiceTier,
];

/// Writes a request of which nothing is stored. Of a flavour only the salt's field matters here.
pub(in crate::dialect) fn write_request(
    flavour: Flavour,
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    let native = conversation.dialect == Dialect::OpenAiResponses;
    refusal::refuse_fields(ABILITIES, "OpenAI's Responses", conversation)?;
    refusal::refuse_names("OpenAI's Responses", conversation)?;
    if !native {
        refusal::refuse_native_tools("OpenAI's Responses", conversation)?;
    }
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("model", forced.model);
        to.array("input", |to| {
            let mut messages = conversation.messages.iter().enumerate();
            messages.try_for_each(|(index, message)| {
                write_message(to, message, &format!("messages.{index}.content"))
            })
        })?;
        tools(to, conversation);
        let sampling = &conversation.sampling;
        to.maybe("temperature", sampling.temperature.as_ref());
        to.maybe("top_p", sampling.top_p.as_ref());
        to.maybe("top_logprobs", sampling.top_logprobs.as_ref());
        to.set("max_output_tokens", forced.output_tokens);
        text(to, conversation)?;
        reasoning(to, conversation);
        include(to, conversation);
        if forced.stream {
            to.set("stream", true);
        }
        to.set("store", false);
        to.maybe("user", conversation.user.as_deref());
        to.maybe_json("metadata", conversation.metadata.as_ref());
        to.maybe("service_tier", conversation.service_tier.as_deref());
        extras(to, conversation, native)?;
        if let (Some(field), Some(salt)) = (flavour.salt_field(), forced.salt) {
            to.set(field, salt);
        }
        Ok::<_, Untranslatable>(())
    })?;
    Ok(out.into())
}

/// A message becomes items: results of tools first, then what is said.
fn write_message(
    to: &mut ArrayWriter<'_>,
    message: &Message,
    place: &str,
) -> Result<(), Untranslatable> {
    for part in &message.parts {
        if let Content::ToolResult(result) = &part.content {
            to.object(|to| write_result(to, result, place))?;
        }
    }
    if message.role == Role::Assistant {
        message
            .parts
            .iter()
            .for_each(|part| write_assistant(to, part));
        return message
            .parts
            .iter()
            .try_for_each(|part| refuse_assistant(part, place));
    }
    let said: Vec<_> = message
        .parts
        .iter()
        .filter(|part| !matches!(part.content, Content::ToolResult(_)))
        .collect();
    if said.is_empty() {
        return Ok(());
    }
    to.object(|to| {
        to.set("type", "message");
        let role = match message.role {
            Role::System => "system",
            Role::Developer => "developer",
            _ => "user",
        };
        to.set("role", role);
        write_content(to, "content", &said, place)
    })
}

/// One item for each part.
fn write_assistant(to: &mut ArrayWriter<'_>, part: &Part) {
    match &part.content {
        Content::Text(text) if !text.is_empty() => to.object(|to| {
            to.set("type", "message").set("role", "assistant");
            to.set("content", text);
        }),
        Content::Refusal(text) => to.object(|to| {
            to.set("type", "message").set("role", "assistant");
            to.array("content", |to| {
                to.object(|to| {
                    to.set("type", "refusal").set("refusal", text);
                });
            });
        }),
        // Others' thoughts cannot be read there.
        Content::Reasoning(_) | Content::RedactedReasoning => {
            if let Some(own) = part.signature_of(Dialect::OpenAiResponses) {
                to.object(|to| {
                    to.set("type", "reasoning");
                    write_summary(to, &part.content);
                    to.set("encrypted_content", own);
                });
            }
        }
        Content::ToolCall(call) => to.object(|to| {
            let arguments = match call.arguments.trim() {
                "" => "{}",
                _ => &call.arguments,
            };
            to.set("type", "function_call").set("call_id", &call.id);
            to.set("name", &call.name).set("arguments", arguments);
        }),
        _ => {}
    }
}

fn write_summary(to: &mut ObjectWriter<'_>, content: &Content) {
    to.array("summary", |to| {
        if let Content::Reasoning(text) = content {
            for piece in text.split(BETWEEN) {
                to.object(|to| {
                    to.set("type", "summary_text").set("text", piece);
                });
            }
        }
    });
}

fn refuse_assistant(part: &Part, place: &str) -> Result<(), Untranslatable> {
    match part.content {
        Content::Image { .. } | Content::Document { .. } | Content::Audio { .. } => {
            Err(Untranslatable::new(
                place,
                "has more than text from the model, which OpenAI's Responses cannot hear",
            ))
        }
        _ => Ok(()),
    }
}

fn write_result(
    to: &mut ObjectWriter<'_>,
    result: &ToolResult,
    place: &str,
) -> Result<(), Untranslatable> {
    to.set("type", "function_call_output");
    to.set("call_id", &result.call);
    // There is no field for it, and the model must not take it for a result.
    let error = result.is_error.then(|| Part::text("Error:"));
    let parts: Vec<_> = error.iter().chain(&result.parts).collect();
    write_content(to, "output", &parts, place)
}

/// A single text as a text, and all else as an array of parts.
fn write_content(
    to: &mut ObjectWriter<'_>,
    name: &str,
    parts: &[&Part],
    place: &str,
) -> Result<(), Untranslatable> {
    if let [part] = parts
        && let Content::Text(text) = &part.content
    {
        to.set(name, text);
        return Ok(());
    }
    if parts.is_empty() {
        to.set(name, "");
        return Ok(());
    }
    to.array(name, |to| {
        parts
            .iter()
            .try_for_each(|part| to.object(|to| write_part(to, &part.content, place)))
    })
}

fn write_part(
    to: &mut ObjectWriter<'_>,
    content: &Content,
    place: &str,
) -> Result<(), Untranslatable> {
    let refuse = |why: &str| Err(Untranslatable::new(place, why));
    match content {
        Content::Text(text) | Content::Refusal(text) => {
            to.set("type", "input_text").set("text", text);
        }
        Content::Image { source, detail } => {
            to.set("type", "input_image");
            match source {
                Source::Url(url) => to.set("image_url", url),
                Source::Base64 { media_type, data } => {
                    to.set("image_url", format!("data:{media_type};base64,{data}"))
                }
                Source::File(id) => to.set("file_id", id),
                Source::Text(_) => return refuse("has text in the place of an image"),
            };
            to.maybe("detail", detail.as_deref());
        }
        Content::Document {
            source: Source::Text(text),
            title,
        } => {
            let titled = title.as_ref().map(|title| format!("{title}\n\n{text}"));
            to.set("type", "input_text");
            to.set("text", titled.as_ref().unwrap_or(text));
        }
        Content::Document { source, title } => {
            to.set("type", "input_file");
            match source {
                Source::Url(url) => to.set("file_url", url),
                Source::File(id) => to.set("file_id", id),
                Source::Base64 { media_type, data } => {
                    to.set("filename", title.as_deref().unwrap_or("document"));
                    to.set("file_data", format!("data:{media_type};base64,{data}"))
                }
                Source::Text(_) => to,
            };
        }
        Content::Audio { .. } => {
            return refuse("has audio, which OpenAI's Responses cannot hear: send a transcript");
        }
        _ => return refuse("has a part that its role cannot have"),
    }
    Ok(())
}

fn tools(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    if !conversation.tools.is_empty() {
        to.array("tools", |to| {
            for tool in &conversation.tools {
                match tool {
                    Tool::Native { definition, .. } => to.json(definition),
                    Tool::Function(function) => to.object(|to| {
                        to.set("type", "function").set("name", &function.name);
                        to.maybe("description", function.description.as_deref());
                        match &function.parameters {
                            Some(parameters) => to.json("parameters", parameters),
                            None => to.null("parameters"),
                        };
                        // Here silence means strict, and elsewhere that it is not.
                        let loose =
                            (conversation.dialect != Dialect::OpenAiResponses).then_some(false);
                        to.maybe("strict", function.strict.or(loose));
                    }),
                }
            }
        });
    }
    match &conversation.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => {
            to.set("tool_choice", "auto");
        }
        Some(ToolChoice::None) => {
            to.set("tool_choice", "none");
        }
        Some(ToolChoice::Required) => {
            to.set("tool_choice", "required");
        }
        Some(ToolChoice::Named(name)) => to.object("tool_choice", |to| {
            to.set("type", "function").set("name", name);
        }),
    }
    to.maybe("parallel_tool_calls", conversation.parallel_tool_calls);
}

/// `text`: the format, and how many words.
fn text(to: &mut ObjectWriter<'_>, conversation: &Conversation) -> Result<(), Untranslatable> {
    let verbosity = conversation
        .extras
        .iter()
        .find(|extra| extra.name == VERBOSITY);
    if conversation.format.is_none() && verbosity.is_none() {
        return Ok(());
    }
    to.object("text", |to| {
        if let Some(format) = &conversation.format {
            to.object("format", |to| {
                write_format(to, format, conversation.dialect)
            });
        }
        to.maybe_json("verbosity", verbosity.map(|extra| &extra.value));
    });
    Ok(())
}

/// A field of its own in OpenAI's chat.
const VERBOSITY: &str = "verbosity";

fn write_format(to: &mut ObjectWriter<'_>, format: &Format, from: Dialect) {
    match format {
        Format::Text => {
            to.set("type", "text");
        }
        Format::JsonObject => {
            to.set("type", "json_object");
        }
        Format::JsonSchema(schema) => {
            to.set("type", "json_schema");
            // Required here, and unknown to dialects without names.
            to.set("name", schema.name.as_deref().unwrap_or("answer"));
            to.maybe("description", schema.description.as_deref());
            to.json("schema", &schema.schema);
            // Dialects without the word always keep to the schema.
            let openai = matches!(from, Dialect::OpenAiChat | Dialect::OpenAiResponses);
            to.maybe("strict", schema.strict.or((!openai).then_some(true)));
        }
    }
}

fn reasoning(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    let Some(reasoning) = &conversation.reasoning else {
        return;
    };
    to.object("reasoning", |to| {
        let effort = match reasoning.effort_or_of_budget() {
            // OpenAI's word for all it can.
            Some(Effort::Max) => Some(Effort::XHigh),
            effort => effort,
        };
        to.maybe("effort", effort.map(Effort::as_str));
        to.maybe("summary", reasoning.summary.as_deref());
    });
}

/// Models that do not think refuse to be asked for their thoughts.
fn include(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    let mut parts = conversation
        .messages
        .iter()
        .flat_map(|message| &message.parts);
    let signed = parts.any(|part| part.signature_of(Dialect::OpenAiResponses).is_some());
    let mut include = Vec::new();
    if conversation.reasoning.is_some() || signed {
        include.push(INCLUDE_ENCRYPTED);
    }
    if conversation.sampling.logprobs == Some(true) {
        include.push(INCLUDE_LOGPROBS);
    }
    if !include.is_empty() {
        to.set("include", include);
    }
}

fn extras(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
    native: bool,
) -> Result<(), Untranslatable> {
    for extra in &conversation.extras {
        let shared = conversation.dialect == Dialect::OpenAiChat && SHARED.contains(&&*extra.name);
        if extra.name == VERBOSITY && (native || conversation.dialect == Dialect::OpenAiChat) {
            continue;
        }
        if !native && !shared {
            return Err(Untranslatable::new(
                &extra.name,
                "cannot be said in OpenAI's Responses: remove it",
            ));
        }
        to.json(&extra.name, &extra.value);
    }
    Ok(())
}

/// Fields that OpenAI's chat and Responses have alike.
const SHARED: &[&str] = &["prompt_cache_retention", "safety_identifier"];
