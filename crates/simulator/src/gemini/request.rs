//! What `generateContent` asks for.

use std::borrow::Cow;

use serde_json::Value;

use super::dialect::Thoughts;
use super::{parts, schema};
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Problem, Spelling};
use crate::http::Call;
use crate::turn::{Format, Thinking, Tool, ToolChoice, Turn};

/// A request to generate.
#[derive(Debug)]
pub(super) struct GeminiRequest<'a> {
    pub(super) turn: Turn<'a>,
    /// Whether the client gets to see thoughts.
    pub(super) thoughts: Thoughts,
    /// Whether it names a `cachedContent`: the simulator has none.
    pub(super) names_a_cache: bool,
}

/// Reads a request.
///
/// # Errors
///
/// What Google would refuse.
pub(super) fn read<'a>(
    state: &EngineState,
    call: &Call,
    body: &'a Value,
) -> Result<GeminiRequest<'a>, Invalid> {
    let fields = Fields::root(body, Spelling::CamelOrSnake)?;
    read_fields(state, call, fields)
}

/// Reads what `countTokens` counts: contents, or a whole request.
///
/// # Errors
///
/// What Google would refuse.
pub(super) fn read_counted<'a>(
    state: &EngineState,
    call: &Call,
    body: &'a Value,
) -> Result<Turn<'a>, Invalid> {
    let mut fields = Fields::root(body, Spelling::CamelOrSnake)?;
    let inner = fields.object("generateContentRequest")?;
    let request = match inner {
        Some(inner) => {
            fields.finish()?;
            inner
        }
        None => Fields::root(body, Spelling::CamelOrSnake)?,
    };
    Ok(read_fields(state, call, request)?.turn)
}

fn read_fields<'a>(
    state: &EngineState,
    call: &Call,
    mut fields: Fields<'a>,
) -> Result<GeminiRequest<'a>, Invalid> {
    let mut turn = Turn {
        thinking: Thinking::Possible,
        ..Turn::default()
    };
    let mut thoughts = Thoughts::Hidden;
    read_tools(&mut fields, &mut turn)?;
    read_tool_config(&mut fields, &mut turn)?;
    if let Some(mut config) = fields.object("generationConfig")? {
        thoughts = read_config(&mut config, &mut turn)?;
        config.finish()?;
    }
    if !matches!(turn.format, Format::Text) && !turn.tools.is_empty() {
        return Err(Invalid::other(
            "generation_config.response_mime_type",
            "Function calling with a response mime type: 'application/json' is unsupported",
        ));
    }
    if let Some(mut system) = fields.object("systemInstruction")? {
        for item in system.need_list("parts")? {
            let mut part = item.fields()?;
            turn.prompt.push(part.need_text("text")?);
            part.finish()?;
        }
        system.accept(&["role"]);
        system.finish()?;
    }
    let contents = fields.list("contents")?;
    if contents.is_empty() {
        return Err(Invalid::new("contents", Problem::Missing));
    }
    parts::read_contents(state, &call.path_model, &contents, &mut turn)?;
    turn.begin_message("model");
    let names_a_cache = fields.take("cachedContent").is_some();
    fields.accept(&["safetySettings", "model", "labels", "serviceTier", "store"]);
    fields.finish()?;
    Ok(GeminiRequest {
        turn,
        thoughts,
        names_a_cache,
    })
}

fn read_tools<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    for item in fields.list("tools")? {
        let mut tool = item.fields()?;
        for item in tool.list("functionDeclarations")? {
            let mut function = item.fields()?;
            let name = function.need_text("name")?;
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
                return Err(function.wrong(
                    "name",
                    "Invalid function name. Must start with a letter or an underscore, and be at \
                     most 64 characters.",
                ));
            }
            let json_schema = function.take("parametersJsonSchema").map(Cow::Borrowed);
            let parameters = match function.take("parameters") {
                Some(value) => {
                    let path = function.path_of("parameters");
                    Some(Cow::Owned(schema::read(&path, value)?))
                }
                None => None,
            };
            if parameters.is_some() && json_schema.is_some() {
                let words = "parameters and parameters_json_schema are mutually exclusive";
                return Err(Invalid::other(function.path().to_owned(), words));
            }
            function.accept(&["description", "response", "responseJsonSchema", "behavior"]);
            function.finish()?;
            turn.prompt.push(&item.value.to_string());
            turn.tools.push(Tool {
                name: Cow::Borrowed(name),
                schema: parameters.or(json_schema),
            });
        }
        tool.accept(&[
            "googleSearch",
            "googleSearchRetrieval",
            "codeExecution",
            "urlContext",
            "googleMaps",
        ]);
        tool.finish()?;
    }
    Ok(())
}

fn read_tool_config<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut config) = fields.object("toolConfig")? else {
        return Ok(());
    };
    if let Some(mut calling) = config.object("functionCallingConfig")? {
        let allowed = calling.texts("allowedFunctionNames")?;
        let mode = calling.text("mode")?.unwrap_or("AUTO");
        turn.tool_choice = match (mode, &allowed[..]) {
            ("AUTO" | "VALIDATED" | "MODE_UNSPECIFIED", []) => ToolChoice::Auto,
            ("VALIDATED", _) => ToolChoice::Auto,
            ("NONE", _) => ToolChoice::Never,
            ("ANY", []) => ToolChoice::Required,
            ("ANY", [first, ..]) => ToolChoice::Named(Cow::Borrowed(first)),
            (_, [_, ..]) => {
                let words = "allowed_function_names should only be set when the mode is ANY";
                return Err(calling.wrong("allowedFunctionNames", words));
            }
            _ => return Err(calling.wrong("mode", "it is AUTO, ANY, NONE or VALIDATED")),
        };
        calling.finish()?;
    }
    config.accept(&["retrievalConfig"]);
    config.finish()?;
    match turn.tool_choice_problem() {
        Some(problem) => Err(Invalid::other("tool_config", problem)),
        None => Ok(()),
    }
}

fn read_config<'a>(config: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<Thoughts, Invalid> {
    turn.limit = config.count("maxOutputTokens", 1..=u32::MAX)?;
    config.number("temperature", 0.0..=2.0)?;
    config.number("topP", 0.0..=1.0)?;
    config.number("topK", 0.0..=1_000.0)?;
    turn.more_choices = config
        .count("candidateCount", 1..=8)?
        .map_or(0, |count| count as usize - 1);
    let stops = config.texts("stopSequences")?;
    if stops.len() > 5 || stops.iter().any(|stop| stop.is_empty()) {
        let words = "up to 5 sequences, none of them empty";
        return Err(config.wrong("stopSequences", words));
    }
    turn.stops = stops.into_iter().map(str::to_owned).collect();
    turn.seed = config.number("seed", -2e9..=2.2e9)?.unwrap_or(0.0) as i64;
    read_format(config, turn)?;
    config.accept(&[
        "presencePenalty",
        "frequencyPenalty",
        "responseLogprobs",
        "logprobs",
        "responseModalities",
        "mediaResolution",
        "speechConfig",
        "imageConfig",
    ]);
    let Some(mut thinking) = config.object("thinkingConfig")? else {
        return Ok(Thoughts::Hidden);
    };
    let budget = thinking.number("thinkingBudget", -1.0..=65_536.0)?;
    let level = thinking.text("thinkingLevel")?;
    if budget.is_some() && level.is_some() {
        let words = "You can only set only one of thinking budget and thinking level.";
        return Err(Invalid::other(thinking.path().to_owned(), words));
    }
    let shows = thinking.flag("includeThoughts")?.unwrap_or(false);
    thinking.finish()?;
    turn.thinking = match budget.map(|budget| budget as i64) {
        Some(0) => Thinking::Off,
        Some(budget) => Thinking::UpTo(u32::try_from(budget).unwrap_or(u32::MAX)),
        None => Thinking::UpTo(u32::MAX),
    };
    Ok(if shows {
        Thoughts::Shown
    } else {
        Thoughts::Hidden
    })
}

fn read_format<'a>(config: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let mime_type = config.text("responseMimeType")?.unwrap_or("text/plain");
    let own = config.take("responseSchema");
    let json_schema = config.take("responseJsonSchema");
    match mime_type {
        "application/json" => {}
        "text/plain" | "text/x.enum" if own.is_none() && json_schema.is_none() => return Ok(()),
        "text/plain" => {
            let words = "a response schema is only allowed with the response mime type \
                'application/json'";
            return Err(config.wrong("responseSchema", words));
        }
        _ => {
            return Err(config.wrong(
                "responseMimeType",
                "allowed mimetypes are `text/plain`, \
            `application/json`, `text/x.enum`",
            ));
        }
    }
    turn.format = match (own, json_schema) {
        (Some(_), Some(_)) => {
            let words = "responseSchema and responseJsonSchema are mutually exclusive";
            return Err(config.wrong("responseSchema", words));
        }
        (Some(own), None) => {
            let path = config.path_of("responseSchema");
            Format::Schema(Cow::Owned(schema::read(&path, own)?))
        }
        (None, Some(schema)) => Format::Schema(Cow::Borrowed(schema)),
        (None, None) => Format::Object,
    };
    Ok(())
}
