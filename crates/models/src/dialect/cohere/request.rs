//! What Cohere is asked.

use bytes::Bytes;

use crate::conversation::{
    Content, Conversation, Effort, Format, Message, Part, Reasoning, Role, Source, Tool, ToolCall,
    ToolChoice, ToolResult,
};
use crate::dialect::refusal::{self, Ability, refuse};
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::dialect::{Forced, Untranslatable};

const ABILITIES: &[Ability] = &[
    Ability::FrequencyPenalty,
    Ability::PresencePenalty,
    Ability::Reasoning,
    Ability::Seed,
    Ability::Stop,
    Ability::TopK,
];

/// Writes a request.
pub(in crate::dialect) fn write_request(
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    refusal::refuse_all_but(ABILITIES, "Cohere", conversation)?;
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("model", forced.model);
        to.array("messages", |to| {
            let mut messages = conversation.messages.iter();
            messages.try_for_each(|message| write_message(to, message))
        })?;
        tools(to, conversation)?;
        format(to, conversation);
        to.set("max_tokens", forced.output_tokens);
        let sampling = &conversation.sampling;
        if !sampling.stop.is_empty() {
            to.set("stop_sequences", &sampling.stop);
        }
        to.maybe("temperature", sampling.temperature.as_ref());
        to.maybe("seed", sampling.seed.as_ref());
        to.maybe("frequency_penalty", sampling.frequency_penalty.as_ref());
        to.maybe("presence_penalty", sampling.presence_penalty.as_ref());
        to.maybe("k", sampling.top_k.as_ref());
        to.maybe("p", sampling.top_p.as_ref());
        if let Some(reasoning) = &conversation.reasoning {
            thinking(to, reasoning, forced);
        }
        to.set("stream", forced.stream);
        Ok::<_, Untranslatable>(())
    })?;
    Ok(out.into())
}

/// One message; results of tools become messages of their own before it.
fn write_message(to: &mut ArrayWriter<'_>, message: &Message) -> Result<(), Untranslatable> {
    for part in &message.parts {
        if let Content::ToolResult(result) = &part.content {
            to.object(|to| write_result(to, result))?;
        }
    }
    let said: Vec<_> = message
        .parts
        .iter()
        .filter(|part| !is_result(part))
        .collect();
    match message.role {
        _ if said.is_empty() => Ok(()),
        Role::System | Role::Developer => to.object(|to| {
            to.set("role", "system");
            write_content(to, &said)
        }),
        Role::User => to.object(|to| {
            to.set("role", "user");
            write_content(to, &said)
        }),
        Role::Assistant => write_assistant(to, &said),
    }
}

fn is_result(part: &Part) -> bool {
    matches!(part.content, Content::ToolResult(_))
}

fn write_result(to: &mut ObjectWriter<'_>, result: &ToolResult) -> Result<(), Untranslatable> {
    to.set("role", "tool").set("tool_call_id", &result.call);
    // There is no field for it, and the model must not take it for a result.
    let error = result.is_error.then(|| Part::text("Error:"));
    let parts: Vec<_> = error.iter().chain(&result.parts).collect();
    write_content(to, &parts)
}

fn write_assistant(to: &mut ArrayWriter<'_>, said: &[&Part]) -> Result<(), Untranslatable> {
    let calls = said.iter().filter_map(|part| match &part.content {
        Content::ToolCall(call) => Some(call),
        _ => None,
    });
    let calls: Vec<_> = calls.collect();
    let spoken: Vec<_> = said
        .iter()
        .copied()
        .filter(|part| match &part.content {
            Content::Text(text) | Content::Refusal(text) => !text.is_empty(),
            // Only Cohere's own could be read there, and it gives no signature to know it by.
            Content::Reasoning(_) | Content::RedactedReasoning | Content::ToolCall(_) => false,
            _ => true,
        })
        .collect();
    if calls.is_empty() && spoken.is_empty() {
        return Ok(());
    }
    to.object(|to| {
        to.set("role", "assistant");
        if calls.is_empty() {
            return write_content(to, &spoken);
        }
        if !spoken.is_empty() {
            to.set("tool_plan", only_text(&spoken)?);
        }
        to.array("tool_calls", |to| {
            for call in &calls {
                to.object(|to| write_call(to, call));
            }
        });
        Ok(())
    })
}

fn write_call(to: &mut ObjectWriter<'_>, call: &ToolCall) {
    let arguments = match call.arguments.trim() {
        "" => "{}",
        _ => &call.arguments,
    };
    to.set("id", &call.id).set("type", "function");
    to.object("function", |to| {
        to.set("name", &call.name).set("arguments", arguments);
    });
}

fn only_text(parts: &[&Part]) -> Result<String, Untranslatable> {
    let mut text = String::new();
    for part in parts {
        match &part.content {
            Content::Text(more) | Content::Refusal(more) => text.push_str(more),
            _ => {
                return Err(Untranslatable::new(
                    "messages",
                    "has more than text beside tool calls, which Cohere cannot hear",
                ));
            }
        }
    }
    Ok(text)
}

/// A single text as a text, and all else as an array of blocks.
fn write_content(to: &mut ObjectWriter<'_>, parts: &[&Part]) -> Result<(), Untranslatable> {
    if let [part] = parts
        && let Content::Text(text) | Content::Refusal(text) = &part.content
    {
        to.set("content", text);
        return Ok(());
    }
    to.array("content", |to| {
        parts
            .iter()
            .try_for_each(|part| to.object(|to| write_block(to, part)))
    })
}

fn write_block(to: &mut ObjectWriter<'_>, part: &Part) -> Result<(), Untranslatable> {
    let refuse = |why: &str| Err(Untranslatable::new("messages", why));
    match &part.content {
        Content::Text(text) | Content::Refusal(text) => {
            to.set("type", "text").set("text", text);
        }
        Content::Image { source, detail } => {
            let url = match source {
                Source::Url(url) => url.clone(),
                Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
                Source::File(_) | Source::Text(_) => {
                    return refuse("has an image that another provider keeps: send it inline");
                }
            };
            to.set("type", "image_url");
            to.object("image_url", |to| {
                to.set("url", url).maybe("detail", detail.as_deref());
            });
        }
        Content::Document {
            source: Source::Text(text),
            title,
        } => {
            let titled = title.as_ref().map(|title| format!("{title}\n\n{text}"));
            to.set("type", "text");
            to.set("text", titled.as_ref().unwrap_or(text));
        }
        Content::Document { .. } => {
            return refuse("has a document, which Cohere can only read as text: send its text");
        }
        Content::Audio { .. } => {
            return refuse("has audio, which Cohere cannot hear: send a transcript");
        }
        _ => return refuse("has a part that its role cannot have"),
    }
    Ok(())
}

fn tools(to: &mut ObjectWriter<'_>, conversation: &Conversation) -> Result<(), Untranslatable> {
    let functions = conversation.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => Some(function),
        Tool::Native { .. } => None,
    });
    let functions: Vec<_> = functions.collect();
    if functions.is_empty() {
        return Ok(());
    }
    to.array("tools", |to| {
        for function in &functions {
            to.object(|to| {
                to.set("type", "function");
                to.object("function", |to| {
                    to.set("name", &function.name);
                    to.maybe("description", function.description.as_deref());
                    match &function.parameters {
                        Some(parameters) => {
                            to.json("parameters", parameters);
                        }
                        // Required here: no arguments.
                        None => to.object("parameters", |to| {
                            to.set("type", "object");
                        }),
                    }
                });
            });
        }
    });
    if functions
        .iter()
        .any(|function| function.strict == Some(true))
    {
        to.set("strict_tools", true);
    }
    match &conversation.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        Some(ToolChoice::None) => {
            to.set("tool_choice", "NONE");
        }
        Some(ToolChoice::Required) => {
            to.set("tool_choice", "REQUIRED");
        }
        Some(ToolChoice::Named(name)) if functions.len() == 1 && functions[0].name == *name => {
            to.set("tool_choice", "REQUIRED");
        }
        Some(ToolChoice::Named(_)) => {
            return Err(refuse(
                conversation,
                "tool_choice",
                "cannot name one of several tools for Cohere: send that tool alone",
            ));
        }
    }
    to.object("citation_options", |to| {
        to.set("mode", "OFF");
    });
    Ok(())
}

fn format(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    match &conversation.format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject) => to.object("response_format", |to| {
            to.set("type", "json_object");
        }),
        Some(Format::JsonSchema(schema)) => to.object("response_format", |to| {
            to.set("type", "json_object");
            to.json("json_schema", &schema.schema);
        }),
    }
}

fn thinking(to: &mut ObjectWriter<'_>, reasoning: &Reasoning, forced: &Forced<'_>) {
    match reasoning.effort_or_of_budget() {
        None => {}
        Some(Effort::None) => to.object("thinking", |to| {
            to.set("type", "disabled");
        }),
        Some(_) => to.object("thinking", |to| {
            to.set("type", "enabled");
            let budget = reasoning.budget_within(forced.output_tokens);
            // At least one token, which is what Cohere takes as the least.
            to.maybe("token_budget", budget.map(|budget| budget.max(1)));
        }),
    }
}
