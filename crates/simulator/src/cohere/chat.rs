//! `POST /v2/chat`.

use std::borrow::Cow;
use std::sync::Arc;

use base::Supervisor;
use serde_json::Value;

use super::dialect::CohereDialect;
use super::{error, messages};
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Spelling};
use crate::generation::{Asked, Delivery, account_caching, generate, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::turn::{Format, Thinking, Tool, ToolChoice, Turn};

/// Answers a chat.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let (model, turn, delivery) = read(&body).map_err(|invalid| error::refuse(&invalid))?;
    error::check_served(state, model)?;
    let directives = turn.directives(&call.parts.headers)?;
    let asked = Asked {
        call: call.number,
        model: model.to_owned(),
        caching: account_caching(state, "cohere", call.account, model, ""),
        salted: false,
        priority: 0,
        replies: turn.replies(state, model, &directives),
        faults: directives.faults,
        delivery,
        dialect: Box::new(CohereDialect),
        prompts: vec![turn.prompt],
    };
    generate(state, supervisor, asked).await
}

fn read(body: &Value) -> Result<(&str, Turn<'_>, Delivery), Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let model = fields.need_text("model")?;
    let delivery = Delivery::read(fields.flag("stream")?);
    let mut turn = Turn {
        thinking: Thinking::Possible,
        limit: fields.count("max_tokens", 1..=u32::MAX)?,
        seed: fields.count("seed", 0..=u32::MAX)?.unwrap_or(0).into(),
        ..Turn::default()
    };
    read_tools(&mut fields, &mut turn)?;
    read_format(&mut fields, &mut turn)?;
    if let Some(mut thinking) = fields.object("thinking")? {
        let budget = thinking.count("token_budget", 0..=u32::MAX)?;
        turn.thinking = match thinking.need_text("type")? {
            "enabled" => Thinking::UpTo(budget.unwrap_or(u32::MAX)),
            "disabled" => Thinking::Off,
            _ => return Err(thinking.wrong("type", "it must be enabled or disabled")),
        };
        thinking.finish()?;
    }
    let stops = fields.texts("stop_sequences")?;
    if stops.len() > 5 || stops.iter().any(|stop| stop.is_empty()) {
        return Err(fields.wrong("stop_sequences", "up to 5, none of them empty"));
    }
    turn.stops = stops.into_iter().map(str::to_owned).collect();
    fields.number("temperature", 0.0..=1.0)?;
    fields.number("frequency_penalty", 0.0..=1.0)?;
    fields.number("presence_penalty", 0.0..=1.0)?;
    fields.number("p", 0.01..=0.99)?;
    fields.count("k", 0..=500)?;
    for item in fields.list("documents")? {
        turn.prompt.push(&item.value.to_string());
    }
    messages::read(&mut fields, &mut turn)?;
    turn.begin_message("assistant");
    fields.accept(&[
        "citation_options",
        "logprobs",
        "priority",
        "safety_mode",
        "strict_tools",
    ]);
    fields.finish()?;
    Ok((model, turn, delivery))
}

fn read_tools<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    for item in fields.list("tools")? {
        let mut tool = item.fields()?;
        if tool.need_text("type")? != "function" {
            return Err(tool.wrong("type", "it must be function"));
        }
        let mut function = tool.need_object("function")?;
        turn.tools.push(Tool {
            name: Cow::Borrowed(function.need_text("name")?),
            schema: function.take("parameters").map(Cow::Borrowed),
        });
        function.accept(&["description"]);
        function.finish()?;
        tool.finish()?;
        turn.prompt.push(&item.value.to_string());
    }
    turn.tool_choice = match fields.text("tool_choice")? {
        None => ToolChoice::Auto,
        Some("REQUIRED") => ToolChoice::Required,
        Some("NONE") => ToolChoice::Never,
        Some(_) => return Err(fields.wrong("tool_choice", "it must be REQUIRED or NONE")),
    };
    match turn.tool_choice_problem() {
        Some(problem) => Err(fields.wrong("tool_choice", problem)),
        None => Ok(()),
    }
}

fn read_format<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut format) = fields.object("response_format")? else {
        return Ok(());
    };
    let kind = format.need_text("type")?;
    let schema = format.take("json_schema").or(format.take("schema"));
    turn.format = match (kind, schema) {
        ("text", None) => Format::Text,
        ("json_object", None) => Format::Object,
        ("json_object", Some(schema)) => Format::Schema(Cow::Borrowed(schema)),
        _ => return Err(format.wrong("type", "it must be text or json_object")),
    };
    if kind == "json_object" && !turn.tools.is_empty() {
        let words = "cannot be specified with tools";
        return Err(Invalid::other("response_format", words));
    }
    format.finish()
}
