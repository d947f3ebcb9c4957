//! What an upstream is asked in Anthropic's dialect.

use bytes::Bytes;
use serde_json::Number;

use super::block_writer::{is_said, write_blocks};
use crate::conversation::{
    Content, Conversation, Effort, Format, Part, Reasoning, Role, SchemaFormat, Tool, ToolChoice,
};
use crate::dialect::cache_mark::write_cache_mark;
use crate::dialect::refusal::{Ability, refuse, refuse_all_but};
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{Dialect, Forced, Untranslatable};
use crate::json::Json;

/// 1,024: the least that Anthropic lets a model think.
const THINKING_TOKENS_MIN: u64 = 1_024;

/// Parts of names of models that are told in tokens how much to think; later ones are told in
/// words, and refuse tokens.
const MODELS_WITH_BUDGET: &[&str] = &[
    "claude-3",
    "-4-0",
    "-4-1",
    "-4-5",
    "-4-2025",
    "opus-4@",
    "sonnet-4@",
];

/// Writes a request.
pub(in crate::dialect) fn write_request(
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    refuse_what_has_no_word(conversation)?;
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("model", forced.model);
        to.set("max_tokens", forced.output_tokens);
        write_system(to, conversation)?;
        to.array("messages", |to| {
            for turn in conversation.turns() {
                if turn.parts.iter().any(|part| is_said(part)) {
                    to.object(|to| {
                        let role = match turn.role {
                            Role::Assistant => "assistant",
                            _ => "user",
                        };
                        to.set("role", role);
                        write_turn(to, &turn.parts)
                    })?;
                }
            }
            Ok::<_, Untranslatable>(())
        })?;
        write_tools(to, conversation);
        let sampling = &conversation.sampling;
        to.maybe("temperature", sampling.temperature.as_ref());
        to.maybe("top_p", sampling.top_p.as_ref());
        to.maybe("top_k", sampling.top_k.as_ref());
        if !sampling.stop.is_empty() {
            to.set("stop_sequences", &sampling.stop);
        }
        write_output(to, conversation, forced)?;
        if forced.stream {
            to.set("stream", true);
        }
        if let Some(user) = &conversation.user {
            to.object("metadata", |to| {
                to.set("user_id", user);
            });
        }
        write_service_tier(to, conversation)?;
        if conversation.dialect == Dialect::Anthropic {
            for extra in &conversation.extras {
                to.json(&extra.name, &extra.value);
            }
        }
        Ok::<_, Untranslatable>(())
    })?;
    Ok(out.into())
}

/// What Anthropic has no word for. What it said itself it can say again.
fn refuse_what_has_no_word(conversation: &Conversation) -> Result<(), Untranslatable> {
    if conversation.dialect == Dialect::Anthropic {
        return Ok(());
    }
    let abilities = [
        Ability::Reasoning,
        Ability::SerialToolCalls,
        Ability::ServiceTier,
        Ability::Stop,
        Ability::TopK,
    ];
    refuse_all_but(&abilities, "Anthropic's models", conversation)?;
    let temperature = conversation.sampling.temperature.as_ref();
    if temperature
        .and_then(Number::as_f64)
        .is_some_and(|value| value > 1.0)
    {
        let why = "must be from 0 to 1 for Anthropic's models";
        return Err(refuse(conversation, "temperature", why));
    }
    Ok(())
}

fn write_system(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let parts: Vec<_> = conversation
        .system_parts()
        .filter(|part| is_said(part))
        .collect();
    let plain = |part: &&Part| matches!(part.content, Content::Text(_));
    if !parts.iter().all(plain) {
        return Err(Untranslatable::new(
            "messages",
            "have a system message with more than text, which Anthropic's models do not take",
        ));
    }
    match parts.as_slice() {
        [] => Ok(()),
        _ => write_content(to, "system", &parts, "messages"),
    }
}

fn write_turn(to: &mut ObjectWriter<'_>, parts: &[&Part]) -> Result<(), Untranslatable> {
    let said: Vec<_> = parts.iter().copied().filter(|part| is_said(part)).collect();
    write_content(to, "content", &said, "messages")
}

/// A single unmarked text as a text, all else as blocks.
fn write_content(
    to: &mut ObjectWriter<'_>,
    name: &str,
    parts: &[&Part],
    place: &str,
) -> Result<(), Untranslatable> {
    if let [only] = parts
        && let (Content::Text(text), None) = (&only.content, only.cache)
    {
        to.set(name, text);
        return Ok(());
    }
    to.array(name, |to| write_blocks(to, parts.iter().copied(), place))
}

fn write_tools(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    if conversation.tools.is_empty() {
        return;
    }
    to.array("tools", |to| {
        for tool in &conversation.tools {
            match tool {
                Tool::Function(tool) => to.object(|to| {
                    to.set("name", &tool.name);
                    to.maybe("description", tool.description.as_deref());
                    match &tool.parameters {
                        Some(schema) => to.json("input_schema", &typed(schema)),
                        None => to.json("input_schema", &nothing()),
                    };
                    to.maybe("strict", tool.strict.filter(|strict| *strict));
                    write_cache_mark(to, tool.cache);
                }),
                // Anthropic's own: all others were refused.
                Tool::Native { definition, .. } => to.json(definition),
            }
        }
    });
    write_tool_choice(to, conversation);
}

/// The schema with its type, which OpenAI's clients may leave out and Anthropic demands.
fn typed(schema: &Json) -> Json {
    if schema.raw().get("type").is_some() {
        return schema.clone();
    }
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("type", "object");
        for (key, value) in schema.raw().fields() {
            to.raw(&key.decode(), value);
        }
    });
    Json::valid(out)
}

/// The schema of a function without arguments.
fn nothing() -> Json {
    Json::valid(&br#"{"type":"object","properties":{}}"#[..])
}

fn write_tool_choice(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    let one_at_once = conversation.parallel_tool_calls == Some(false);
    let choice = match &conversation.tool_choice {
        None if !one_at_once => return,
        None => &ToolChoice::Auto,
        Some(choice) => choice,
    };
    to.object("tool_choice", |to| {
        match choice {
            ToolChoice::Auto => to.set("type", "auto"),
            ToolChoice::Required => to.set("type", "any"),
            ToolChoice::None => to.set("type", "none"),
            ToolChoice::Named(name) => to.set("type", "tool").set("name", name),
        };
        match conversation.parallel_tool_calls {
            Some(parallel) if *choice != ToolChoice::None => {
                to.set("disable_parallel_tool_use", !parallel);
            }
            _ => {}
        }
    });
}

/// `thinking` and `output_config`.
fn write_output(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<(), Untranslatable> {
    let mut effort = None;
    if let Some(reasoning) = &conversation.reasoning {
        effort = write_thinking(to, conversation, reasoning, forced)?;
    }
    let schema = match &conversation.format {
        Some(Format::JsonSchema(schema)) => Some(schema),
        Some(Format::JsonObject) => {
            return Err(refuse(
                conversation,
                "response_format",
                "'json_object' has no schema, which Anthropic's models must have: use 'json_schema'",
            ));
        }
        Some(Format::Text) | None => None,
    };
    if effort.is_some() || schema.is_some() {
        to.object("output_config", |to| {
            to.maybe("effort", effort);
            if let Some(schema) = schema {
                to.object("format", |to| {
                    to.set("type", "json_schema");
                    to.json("schema", &described(schema));
                });
            }
        });
    }
    Ok(())
}

/// Writes `thinking`, and gives the effort that is to be said beside it.
fn write_thinking(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
    reasoning: &Reasoning,
    forced: &Forced<'_>,
) -> Result<Option<&'static str>, Untranslatable> {
    if reasoning.effort == Some(Effort::None) {
        to.object("thinking", |to| {
            to.set("type", "disabled");
        });
        return Ok(None);
    }
    let display = reasoning.summary.as_deref().map(|summary| match summary {
        "none" => "omitted",
        _ => "summarized",
    });
    // A budget that the client itself gave is the client's to know.
    let in_tokens = MODELS_WITH_BUDGET
        .iter()
        .any(|part| forced.model.contains(part));
    let budget = match reasoning.budget_tokens {
        None if !in_tokens => None,
        _ => reasoning.budget_within(forced.output_tokens),
    };
    let Some(budget) = budget else {
        to.object("thinking", |to| {
            to.set("type", "adaptive").maybe("display", display);
        });
        return Ok(reasoning.effort.map(anthropic_effort));
    };
    if forced.output_tokens <= THINKING_TOKENS_MIN {
        let why = format!(
            "needs an answer of more than {THINKING_TOKENS_MIN} tokens with this model, and it \
             is bounded to {}: allow more, or remove it",
            forced.output_tokens
        );
        return Err(refuse(conversation, "reasoning_effort", why));
    }
    let budget = budget.clamp(THINKING_TOKENS_MIN, forced.output_tokens - 1);
    to.object("thinking", |to| {
        to.set("type", "enabled").set("budget_tokens", budget);
        to.maybe("display", display);
    });
    // Said beside the budget only by clients who said both.
    let both = reasoning
        .effort
        .filter(|_| reasoning.budget_tokens.is_some());
    Ok(both.map(anthropic_effort))
}

fn anthropic_effort(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => Effort::Low.as_str(),
        effort => effort.as_str(),
    }
}

/// The schema, with the description that OpenAI's clients write beside it.
fn described(schema: &SchemaFormat) -> Json {
    let own = schema.schema.raw();
    let Some(description) = schema
        .description
        .as_ref()
        .filter(|_| own.get("description").is_none())
    else {
        return schema.schema.clone();
    };
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.set("description", description);
        for (key, value) in own.fields() {
            to.raw(&key.decode(), value);
        }
    });
    Json::valid(out)
}

fn write_service_tier(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let tier = match conversation.service_tier.as_deref() {
        None => return Ok(()),
        Some("auto") => "auto",
        Some("default") => "standard_only",
        Some(_) => {
            let why = "must be 'auto' or 'default' for Anthropic's models";
            return Err(refuse(conversation, "service_tier", why));
        }
    };
    to.set("service_tier", tier);
    Ok(())
}
