//! What a conversation asks for.

use std::borrow::Cow;

use serde_json::Value;

use super::blocks::{self, Exchange};
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Problem, Spelling};
use crate::turn::{Format, Speaker, Thinking, Tool, ToolChoice, Turn};

/// Marks at which a prompt may be kept, at most.
const MARKS_MAX: usize = 4;

/// Reads a request.
///
/// # Errors
///
/// What Bedrock would refuse.
pub(super) fn read<'a>(state: &EngineState, body: &'a Value) -> Result<Turn<'a>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let mut turn = Turn::default();
    let has_tools = read_tool_config(&mut fields, &mut turn)?;
    read_inference_config(&mut fields, &mut turn)?;
    read_model_fields(&mut fields, &mut turn)?;
    read_output_config(&mut fields, &mut turn)?;
    for item in fields.list("system")? {
        let mut block = item.fields()?;
        match block.text("text")? {
            Some(text) => {
                turn.prompt.push(text);
                turn.end_block();
            }
            None if blocks::cache_point(&mut block, &mut turn)? => {}
            None => block.accept(&["guardContent"]),
        }
        block.finish()?;
    }
    read_messages(state, &mut fields, &mut turn, has_tools)?;
    turn.begin_message("assistant");
    if turn.marks.len() > MARKS_MAX {
        let words = "You can use at most 4 cache points in a request.";
        return Err(Invalid::other("cachePoint", words));
    }
    fields.accept(&[
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
    ]);
    fields.finish()?;
    Ok(turn)
}

fn read_tool_config<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<HasTools, Invalid> {
    let Some(mut config) = fields.object("toolConfig")? else {
        return Ok(HasTools::No);
    };
    for item in config.need_list("tools")? {
        let mut tool = item.fields()?;
        if blocks::cache_point(&mut tool, turn)? {
            tool.finish()?;
            continue;
        }
        let mut spec = tool.need_object("toolSpec")?;
        let name = spec.need_text("name")?;
        blocks::check_name(&spec, "name", name)?;
        let mut schema = spec.need_object("inputSchema")?;
        let json = schema.need("json")?;
        schema.finish()?;
        if json["type"] != "object" {
            let words = format!(
                "The value at {}.inputSchema.json.type must be one of the following: object.",
                spec.path()
            );
            return Err(Invalid::other(spec.path().to_owned(), words));
        }
        spec.accept(&["description", "strict"]);
        spec.finish()?;
        tool.finish()?;
        turn.prompt.push(&item.value.to_string());
        turn.end_block();
        turn.tools.push(Tool {
            name: Cow::Borrowed(name),
            schema: Some(Cow::Borrowed(json)),
        });
    }
    if let Some(mut choice) = config.object("toolChoice")? {
        if choice.take("auto").is_some() {
            turn.tool_choice = ToolChoice::Auto;
        } else if choice.take("any").is_some() {
            turn.tool_choice = ToolChoice::Required;
        } else {
            let mut tool = choice.need_object("tool")?;
            turn.tool_choice = ToolChoice::Named(Cow::Borrowed(tool.need_text("name")?));
            tool.finish()?;
        }
        choice.finish()?;
    }
    config.finish()?;
    match turn.tool_choice_problem() {
        Some(problem) => Err(Invalid::other("toolConfig.toolChoice", problem)),
        None => Ok(HasTools::Yes),
    }
}

/// Whether a request has a `toolConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HasTools {
    Yes,
    No,
}

fn read_inference_config<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut config) = fields.object("inferenceConfig")? else {
        return Ok(());
    };
    turn.limit = config.count("maxTokens", 1..=u32::MAX)?;
    config.number("temperature", 0.0..=1.0)?;
    config.number("topP", 0.0..=1.0)?;
    let stops = config.texts("stopSequences")?;
    if stops.iter().any(|stop| stop.is_empty()) {
        let words = "A stop sequence must not be empty.";
        return Err(config.wrong("stopSequences", words));
    }
    turn.stops = stops.into_iter().map(str::to_owned).collect();
    config.finish()
}

/// The fields that go to the model as they are: thinking, as Anthropic's models have it.
fn read_model_fields<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut model) = fields.object("additionalModelRequestFields")? else {
        return Ok(());
    };
    let mut thinking = model.object("thinking")?;
    if thinking.is_none() {
        thinking = model.object("reasoning_config")?;
    }
    let Some(mut thinking) = thinking else {
        return Ok(());
    };
    match thinking.need_text("type")? {
        "enabled" => {
            let budget = thinking.count("budget_tokens", 1_024..=u32::MAX)?;
            turn.thinking = Thinking::UpTo(budget.ok_or_else(|| {
                Invalid::new(thinking.path_of("budget_tokens"), Problem::Missing)
            })?);
        }
        "adaptive" => turn.thinking = Thinking::UpTo(u32::MAX),
        _ => {}
    }
    Ok(())
}

/// `outputConfig.textFormat`: a JSON schema, as a text.
fn read_output_config<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut config) = fields.object("outputConfig")? else {
        return Ok(());
    };
    if let Some(mut format) = config.object("textFormat")? {
        if format.need_text("type")? != "json_schema" {
            return Err(format.wrong("type", "The only type of a text format is json_schema."));
        }
        let mut structure = format.need_object("structure")?;
        let mut named = structure.need_object("jsonSchema")?;
        let schema = named.need_text("schema")?;
        let schema: Value = serde_json::from_str(schema)
            .map_err(|_| named.wrong("schema", "The schema is not a valid JSON text."))?;
        turn.format = Format::Schema(Cow::Owned(schema));
        named.accept(&["name", "description"]);
        named.finish()?;
        structure.finish()?;
        format.finish()?;
    }
    config.finish()
}

fn read_messages<'a>(
    state: &EngineState,
    fields: &mut Fields<'a>,
    turn: &mut Turn<'a>,
    has_tools: HasTools,
) -> Result<(), Invalid> {
    let messages = fields.need_list("messages")?;
    let mut exchange = Exchange::default();
    for (at, item) in messages.iter().enumerate() {
        let mut message = item.fields()?;
        let role = message.need_text("role")?;
        let expected = if at.is_multiple_of(2) {
            "user"
        } else {
            "assistant"
        };
        if !["user", "assistant"].contains(&role) {
            let words = "The role in a message must be user or assistant.";
            return Err(message.wrong("role", words));
        }
        if role != expected {
            return Err(message.wrong(
                "role",
                match at {
                    0 => {
                        "A conversation must start with a user message. Try again with a \
                    conversation that starts with a user message."
                    }
                    _ => {
                        "A conversation must alternate between user and assistant roles. Make sure \
                    the conversation alternates between user and assistant roles and try again."
                    }
                },
            ));
        }
        turn.begin_message(role);
        match role {
            "user" => turn.user_speaks(),
            _ => turn.speaker = Speaker::Other,
        }
        for block in message.need_list("content")? {
            blocks::read(state, &block, turn, role, &mut exchange)?;
        }
        message.finish()?;
        exchange.end_message(at)?;
    }
    exchange.end(messages.len())?;
    if exchange.uses_tools() && has_tools == HasTools::No {
        return Err(Invalid::other(
            "toolConfig",
            "The toolConfig field must be defined when using toolUse and toolResult content \
             blocks.",
        ));
    }
    Ok(())
}
