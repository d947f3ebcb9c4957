//! What a message asks for.

use std::borrow::Cow;

use serde_json::Value;

use super::blocks::{self, Place};
use crate::caching::Life;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item, Problem, Spelling};
use crate::generation::Delivery;
use crate::turn::{Format, Speaker, Thinking, Tool, ToolChoice, Turn};

/// A message's request.
#[derive(Debug)]
pub(super) struct MessageRequest<'a> {
    pub(super) model: &'a str,
    pub(super) turn: Turn<'a>,
    pub(super) delivery: Delivery,
}

/// What a request is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Answer,
    /// To count its tokens; it has no terms of an answer.
    Count,
}

/// Blocks that may be kept, at most.
const MARKS_MAX: usize = 4;

/// The smallest budget of thinking, in tokens.
const BUDGET_MIN: u32 = 1_024;

/// Reads a request.
///
/// # Errors
///
/// What Anthropic would refuse.
pub(super) fn read<'a>(
    state: &EngineState,
    body: &'a Value,
    purpose: Purpose,
) -> Result<MessageRequest<'a>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let mut turn = Turn::default();
    let model = fields.need_text("model")?;
    let mut delivery = Delivery::Whole;
    if purpose == Purpose::Answer {
        let limit = fields.count("max_tokens", 1..=u32::MAX)?;
        turn.limit = Some(limit.ok_or_else(|| Invalid::new("max_tokens", Problem::Missing))?);
        delivery = Delivery::read(fields.flag("stream")?);
        turn.stops = stop_sequences(&mut fields)?;
    }
    read_thinking(&mut fields, &mut turn, purpose)?;
    read_tools(&mut fields, &mut turn)?;
    read_tool_choice(&mut fields, &mut turn)?;
    read_format(&mut fields, &mut turn)?;
    read_system(&mut fields, &mut turn)?;
    read_messages(state, &mut fields, &mut turn)?;
    if let Some(life) = blocks::cache_control(&mut fields)? {
        turn.mark(life);
    }
    turn.begin_message("assistant");
    check_marks(&turn)?;
    if purpose == Purpose::Answer {
        fields.accept(&["metadata", "service_tier", "container", "inference_geo"]);
    }
    fields.accept(&["context_management"]);
    fields.finish()?;
    Ok(MessageRequest {
        model,
        turn,
        delivery,
    })
}

fn stop_sequences(fields: &mut Fields<'_>) -> Result<Vec<String>, Invalid> {
    let stops = fields.texts("stop_sequences")?;
    if stops.iter().any(|stop| stop.trim().is_empty()) {
        return Err(fields.wrong(
            "stop_sequences",
            "each stop sequence must contain non-whitespace",
        ));
    }
    Ok(stops.into_iter().map(str::to_owned).collect())
}

/// `thinking`, and what it rules out.
fn read_thinking(
    fields: &mut Fields<'_>,
    turn: &mut Turn<'_>,
    purpose: Purpose,
) -> Result<(), Invalid> {
    if let Some(mut thinking) = fields.object("thinking")? {
        match thinking.need_text("type")? {
            "enabled" => {
                let budget = thinking.count("budget_tokens", BUDGET_MIN..=u32::MAX)?;
                let budget = budget.ok_or_else(|| {
                    Invalid::new(thinking.path_of("budget_tokens"), Problem::Missing)
                })?;
                if purpose == Purpose::Answer && turn.limit.is_some_and(|limit| limit <= budget) {
                    return Err(Invalid::other(
                        "max_tokens",
                        "`max_tokens` must be greater than `thinking.budget_tokens`",
                    ));
                }
                turn.thinking = Thinking::UpTo(budget);
            }
            "adaptive" => turn.thinking = Thinking::UpTo(u32::MAX),
            "disabled" => {}
            _ => {
                let words = "Input tag does not match any of the expected tags: 'adaptive', \
                    'disabled', 'enabled'";
                return Err(thinking.wrong("type", words));
            }
        }
        thinking.accept(&["display"]);
        thinking.finish()?;
    }
    if purpose == Purpose::Count {
        return Ok(());
    }
    let temperature = fields.number("temperature", 0.0..=1.0)?;
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    let top_k = fields.count("top_k", 0..=u32::MAX)?;
    if turn.thinking == Thinking::Off {
        return Ok(());
    }
    if temperature.is_some_and(|temperature| temperature < 1.0) {
        let words = "`temperature` may only be set to 1 when thinking is enabled";
        return Err(Invalid::other("temperature", words));
    }
    if top_k.is_some() {
        let words = "`top_k` must be unset when thinking is enabled";
        return Err(Invalid::other("top_k", words));
    }
    if top_p.is_some_and(|top_p| top_p < 0.95) {
        let words = "`top_p` must be greater than or equal to 0.95 when thinking is enabled";
        return Err(Invalid::other("top_p", words));
    }
    Ok(())
}

fn read_tools<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    for item in fields.list("tools")? {
        let mut tool = item.fields()?;
        let kind = tool.text("type")?.unwrap_or("custom");
        if kind != "custom" {
            return Err(tool.wrong("type", format!("the simulator has no tool '{kind}'")));
        }
        let name = tool.need_text("name")?;
        blocks::check_name(&tool, "name", name, 128)?;
        if turn.tools.iter().any(|other| other.name == name) {
            return Err(Invalid::other("tools", "Tool names must be unique."));
        }
        let description = tool.text("description")?;
        let schema = tool.need("input_schema")?;
        if schema["type"] != "object" {
            return Err(tool.wrong("input_schema.type", "Input should be 'object'"));
        }
        for text in [name, description.unwrap_or_default(), &schema.to_string()] {
            turn.prompt.push(text);
        }
        blocks::end(&mut tool, turn)?;
        tool.accept(&[
            "strict",
            "eager_input_streaming",
            "input_examples",
            "defer_loading",
        ]);
        tool.finish()?;
        turn.tools.push(Tool {
            name: Cow::Borrowed(name),
            schema: Some(Cow::Borrowed(schema)),
        });
    }
    Ok(())
}

fn read_tool_choice<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok(());
    };
    turn.tool_choice = match choice.need_text("type")? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::Never,
        "tool" => ToolChoice::Named(Cow::Borrowed(choice.need_text("name")?)),
        _ => {
            let words = "Input tag does not match any of the expected tags: 'auto', 'any', 'none', \
                'tool'";
            return Err(choice.wrong("type", words));
        }
    };
    choice.flag("disable_parallel_tool_use")?;
    choice.finish()?;
    let is_forced = matches!(
        turn.tool_choice,
        ToolChoice::Required | ToolChoice::Named(_)
    );
    if is_forced && turn.thinking != Thinking::Off {
        let words = "Thinking may not be enabled when tool_choice forces tool use.";
        return Err(Invalid::other("tool_choice", words));
    }
    match turn.tool_choice_problem() {
        Some(problem) => Err(Invalid::other("tool_choice", problem)),
        None => Ok(()),
    }
}

/// `output_config.format`, or `output_format` as the beta had it.
fn read_format<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let mut format = fields.object("output_format")?;
    if let Some(mut config) = fields.object("output_config")? {
        if let Some(newer) = config.object("format")? {
            format = Some(newer);
        }
        config.accept(&["effort"]);
        config.finish()?;
    }
    let Some(mut format) = format else {
        return Ok(());
    };
    if format.need_text("type")? != "json_schema" {
        return Err(format.wrong("type", "Input should be 'json_schema'"));
    }
    turn.format = Format::Schema(Cow::Borrowed(format.need("schema")?));
    format.finish()
}

fn read_system<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    match fields.take("system") {
        None => Ok(()),
        Some(Value::String(text)) => {
            turn.prompt.push(text);
            turn.end_block();
            Ok(())
        }
        Some(Value::Array(items)) => {
            for item in crate::fields::items("system", items, Spelling::Exact) {
                blocks::read_text_block(&item, turn)?;
            }
            Ok(())
        }
        Some(_) => Err(Invalid::new("system", Problem::NotA("string or list"))),
    }
}

fn read_messages<'a>(
    state: &EngineState,
    fields: &mut Fields<'a>,
    turn: &mut Turn<'a>,
) -> Result<(), Invalid> {
    let messages = fields.need_list("messages")?;
    let last = messages.len() - 1;
    // Calls of tools that the next message has to answer.
    let mut open: Vec<&str> = Vec::new();
    for (at, item) in messages.iter().enumerate() {
        let mut message = item.fields()?;
        let role = message.need_text("role")?;
        let place = match role {
            "user" => Place::User,
            "assistant" if at == 0 => {
                let words = "first message must use the \"user\" role";
                return Err(Invalid::other("messages", words));
            }
            "assistant" => Place::Assistant,
            _ => {
                let words = "Input should be 'user' or 'assistant'";
                return Err(message.wrong("role", words));
            }
        };
        turn.begin_message(role);
        match place {
            Place::User => turn.user_speaks(),
            Place::Assistant => turn.speaker = Speaker::Other,
        }
        let calls = read_content(state, &mut message, turn, place, &mut open, at == last)?;
        message.finish()?;
        if !open.is_empty() {
            let path = format!("messages.{}", at.saturating_sub(1));
            return Err(unanswered(path, &open));
        }
        open = calls;
    }
    if !open.is_empty() {
        return Err(unanswered(format!("messages.{last}"), &open));
    }
    Ok(())
}

/// Reads a message's content, and returns the ids of its calls. The results in it answer `open`.
fn read_content<'a>(
    state: &EngineState,
    message: &mut Fields<'a>,
    turn: &mut Turn<'a>,
    place: Place,
    open: &mut Vec<&'a str>,
    is_last: bool,
) -> Result<Vec<&'a str>, Invalid> {
    let is_prefill = is_last && place == Place::Assistant;
    let empty = || {
        let words = "all messages must have non-empty content except for the optional final \
            assistant message";
        Invalid::other(message.path().to_owned(), words)
    };
    let empty = empty();
    match message.need("content")? {
        Value::String(text) if text.is_empty() && !is_prefill => Err(empty),
        Value::String(text) if is_prefill && text.ends_with(char::is_whitespace) => {
            let words = "final assistant content cannot end with trailing whitespace";
            Err(Invalid::other("messages", words))
        }
        Value::String(text) => {
            match place {
                Place::User => turn.user_text(text),
                Place::Assistant => turn.prompt.push(text),
            }
            turn.end_block();
            Ok(Vec::new())
        }
        Value::Array(items) if items.is_empty() && !is_prefill => Err(empty),
        Value::Array(items) => {
            let path = message.path_of("content");
            let items: Vec<Item<'a>> = crate::fields::items(&path, items, Spelling::Exact);
            let mut calls = Vec::new();
            for item in &items {
                blocks::read(state, item, turn, place, open, &mut calls)?;
            }
            check_thought_first(turn, &items, &calls)?;
            Ok(calls)
        }
        _ => Err(Invalid::new(
            message.path_of("content"),
            Problem::NotA("string or list"),
        )),
    }
}

/// A turn that thinks and called a tool has to be sent back with its thought.
fn check_thought_first(turn: &Turn<'_>, items: &[Item<'_>], calls: &[&str]) -> Result<(), Invalid> {
    let first = items
        .first()
        .map(|item| (item, item.value["type"].as_str()));
    match first {
        Some((item, Some(kind)))
            if turn.thinking != Thinking::Off
                && !calls.is_empty()
                && !matches!(kind, "thinking" | "redacted_thinking") =>
        {
            Err(Invalid::other(
                item.path.clone(),
                format!("Expected `thinking` or `redacted_thinking`, but found `{kind}`."),
            ))
        }
        _ => Ok(()),
    }
}

fn unanswered(path: String, open: &[&str]) -> Invalid {
    Invalid::other(
        path,
        format!(
            "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
             `tool_use` block must have a corresponding `tool_result` block in the next message.",
            open.join(", ")
        ),
    )
}

fn check_marks(turn: &Turn<'_>) -> Result<(), Invalid> {
    let found = turn.marks.len();
    if found > MARKS_MAX {
        return Err(Invalid::other(
            "cache_control",
            format!("A maximum of 4 blocks with cache_control may be provided. Found {found}."),
        ));
    }
    let lives: Vec<Life> = turn.marks.iter().map(|mark| mark.life).collect();
    if lives.is_sorted() {
        return Ok(());
    }
    Err(Invalid::other(
        "cache_control.ttl",
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block",
    ))
}
