//! `POST /v1/responses`: what can be asked without anything being stored. What is read from the
//! items of `input` is in `responses_input.rs`, how it is answered in `responses_dialect.rs`.

use std::borrow::Cow;
use std::sync::Arc;

use base::Supervisor;
use http::StatusCode;
use serde_json::{Value, json};

use super::responses_dialect::ResponsesDialect;
use super::{responses_input, strict};
use crate::config::Provider;
use crate::dialect::to_json;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Spelling};
use crate::generation::{
    Asked, Delivery, account_caching, check_model, compute, generate, read_json,
};
use crate::http::{Answer, Call, Unanswered};
use crate::refusal::Refusal;
use crate::turn::{Format, Thinking, Tool, ToolChoice, Turn};
use crate::vllm;

/// The smallest maximum of an answer's tokens.
const LIMIT_MIN: u32 = 16;

/// A request for a response.
struct ResponseRequest<'a> {
    model: &'a str,
    turn: Turn<'a>,
    delivery: Delivery,
    salt: Option<&'a str>,
    cache_key: &'a str,
    /// A response that this one should go on from: the simulator stores none.
    previous: Option<&'a str>,
    dialect: ResponsesDialect,
}

/// Answers a response.
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
    let provider = call.api.manners();
    let request = read(state, provider, &body).map_err(|invalid| super::refuse(&invalid))?;
    if let Some(previous) = request.previous {
        return Err(Refusal {
            code: Some("previous_response_not_found"),
            param: Some("previous_response_id".into()),
            ..Refusal::bad_request(format!("Previous response with id '{previous}' not found."))
        }
        .into());
    }
    let caching = match provider {
        Provider::Vllm => {
            vllm::check_model(state, request.model)?;
            vllm::caching(state, request.model, request.salt)?
        }
        Provider::OpenAi => {
            check_model(state, request.model)?;
            account_caching(
                state,
                "openai",
                call.account,
                request.model,
                request.cache_key,
            )
        }
        // Mistral has no such endpoint.
        Provider::Mistral => {
            return Err(
                Refusal::new(StatusCode::NOT_FOUND, "no Route matched with those values").into(),
            );
        }
    };
    let directives = request.turn.directives(&call.parts.headers)?;
    let asked = Asked {
        call: call.number,
        model: request.model.to_owned(),
        caching,
        salted: request.salt.is_some(),
        priority: 0,
        replies: request.turn.replies(state, request.model, &directives),
        faults: directives.faults,
        delivery: request.delivery,
        dialect: Box::new(request.dialect),
        prompts: vec![request.turn.prompt],
    };
    generate(state, supervisor, asked).await
}

/// What counting does not take, though a response does.
const NOT_COUNTED: [&str; 9] = [
    "include",
    "max_output_tokens",
    "metadata",
    "prompt_cache_key",
    "service_tier",
    "store",
    "stream",
    "temperature",
    "top_p",
];

/// Counts the tokens of a response that would be asked for: `POST /v1/responses/input_tokens`.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn count_tokens(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    if let Some(name) = NOT_COUNTED.into_iter().find(|name| !body[name].is_null()) {
        let message = format!("Unknown parameter: '{name}'.");
        return Err(Refusal::bad_field(name, message).into());
    }
    let provider = call.api.manners();
    let request = read(state, provider, &body).map_err(|invalid| super::refuse(&invalid))?;
    check_model(state, request.model)?;
    let faults = request.turn.directives(&call.parts.headers)?.faults;
    let tokens = request.turn.prompt.tokens();
    let count = json!({"object": "response.input_tokens", "input_tokens": tokens});
    compute(state, supervisor, &faults, 0, || to_json(&count)).await
}

fn read<'a>(
    state: &EngineState,
    provider: Provider,
    body: &'a Value,
) -> Result<ResponseRequest<'a>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let model = fields.need_text("model")?;
    let delivery = Delivery::read(fields.flag("stream")?);
    let mut turn = Turn {
        thinking: Thinking::Possible,
        limit: fields.count("max_output_tokens", LIMIT_MIN..=u32::MAX)?,
        ..Turn::default()
    };
    fields.number("temperature", 0.0..=2.0)?;
    fields.number("top_p", 0.0..=1.0)?;
    let mut shows_summary = false;
    if let Some(mut reasoning) = fields.object("reasoning")? {
        turn.thinking = match reasoning.text("effort")? {
            None => Thinking::Possible,
            Some("none") => Thinking::Off,
            Some("minimal" | "low" | "medium" | "high" | "xhigh") => Thinking::UpTo(u32::MAX),
            Some(_) => return Err(reasoning.wrong("effort", "it is no effort")),
        };
        let summary = reasoning.text("summary")?;
        shows_summary = reasoning.text("generate_summary")?.or(summary).is_some();
        reasoning.finish()?;
    }
    read_tools(&mut fields, &mut turn)?;
    read_text(&mut fields, &mut turn)?;
    if let Some(instructions) = fields.text("instructions")? {
        turn.begin_message("developer");
        turn.prompt.push(instructions);
    }
    responses_input::read(state, fields.need("input")?, &mut turn)?;
    turn.begin_message("assistant");
    let include = fields.texts("include")?;
    let salt = match provider {
        Provider::Vllm => fields.text("cache_salt")?,
        _ => None,
    };
    let cache_key = fields.text("prompt_cache_key")?.unwrap_or_default();
    let previous = fields.text("previous_response_id")?;
    let conversation = fields.take("conversation").map(|_| "conv");
    fields.accept(&[
        "background",
        "context_management",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "top_logprobs",
        "truncation",
        "user",
    ]);
    if provider != Provider::Vllm {
        fields.finish()?;
    }
    Ok(ResponseRequest {
        model,
        turn,
        delivery,
        salt,
        cache_key,
        previous: previous.or(conversation),
        dialect: ResponsesDialect::new(
            state.config.seed,
            echo(body),
            shows_summary,
            include.contains(&"reasoning.encrypted_content"),
        ),
    })
}

fn read_tools<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    for item in fields.list("tools")? {
        let mut tool = item.fields()?;
        if tool.need_text("type")? != "function" {
            return Err(tool.wrong("type", "the simulator has functions alone"));
        }
        let name = tool.need_text("name")?;
        let schema = tool.take("parameters");
        if let (Some(true), Some(schema)) = (tool.flag("strict")?, schema) {
            let what = format!("function '{name}'");
            strict::check_strict_schema(&what, schema)
                .map_err(|refusal| tool.wrong("parameters", refusal.message))?;
        }
        turn.tools.push(Tool {
            name: Cow::Borrowed(name),
            schema: schema.map(Cow::Borrowed),
        });
        tool.accept(&["description"]);
        tool.finish()?;
        turn.prompt.push(&item.value.to_string());
    }
    let choice = fields.take("tool_choice");
    turn.tool_choice = match choice.map(|choice| (choice.as_str(), choice)) {
        None | Some((Some("auto"), _)) => ToolChoice::Auto,
        Some((Some("none"), _)) => ToolChoice::Never,
        Some((Some("required"), _)) => ToolChoice::Required,
        Some((None, choice)) if choice["type"] == "function" && choice["name"].is_string() => {
            ToolChoice::Named(Cow::Borrowed(choice["name"].as_str().unwrap_or_default()))
        }
        Some(_) => {
            let words = "it is none, auto, required or a function";
            return Err(fields.wrong("tool_choice", words));
        }
    };
    match turn.tool_choice_problem() {
        Some(problem) => Err(fields.wrong("tool_choice", problem)),
        None => Ok(()),
    }
}

fn read_text<'a>(fields: &mut Fields<'a>, turn: &mut Turn<'a>) -> Result<(), Invalid> {
    let Some(mut text) = fields.object("text")? else {
        return Ok(());
    };
    if let Some(mut format) = text.object("format")? {
        turn.format = match format.need_text("type")? {
            "text" => Format::Text,
            "json_object" => Format::Object,
            "json_schema" => {
                let name = format.need_text("name")?;
                let schema = format.need("schema")?;
                if format.flag("strict")? == Some(true) {
                    let what = format!("response_format '{name}'");
                    strict::check_strict_schema(&what, schema)
                        .map_err(|refusal| format.wrong("schema", refusal.message))?;
                }
                Format::Schema(Cow::Borrowed(schema))
            }
            _ => {
                let words = "it is text, json_object or json_schema";
                return Err(format.wrong("type", words));
            }
        };
        format.accept(&["strict", "description"]);
        format.finish()?;
    }
    text.accept(&["verbosity"]);
    text.finish()
}

/// The fields of a response that repeat the request's.
fn echo(body: &Value) -> Value {
    let or = |name: &str, default: Value| match &body[name] {
        Value::Null => default,
        given => given.clone(),
    };
    json!({
        "background": false,
        "error": null,
        "instructions": body["instructions"],
        "max_output_tokens": body["max_output_tokens"],
        "metadata": or("metadata", json!({})),
        "parallel_tool_calls": or("parallel_tool_calls", json!(true)),
        "previous_response_id": null,
        "reasoning": {
            "effort": body["reasoning"]["effort"],
            "summary": body["reasoning"]["summary"],
        },
        "store": or("store", json!(true)),
        "temperature": or("temperature", json!(1.0)),
        "text": or("text", json!({"format": {"type": "text"}})),
        "tool_choice": or("tool_choice", json!("auto")),
        "tools": or("tools", json!([])),
        "top_p": or("top_p", json!(1.0)),
        "truncation": or("truncation", json!("disabled")),
        "user": body["user"],
    })
}
