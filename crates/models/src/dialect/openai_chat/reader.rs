//! What a client asks in OpenAI's chat dialect.

use super::message_reader::{Strictness, read_message};
use crate::conversation::{
    Conversation, Effort, Extra, Format, FunctionTool, Reasoning, SchemaFormat, Tool, ToolChoice,
};
use crate::dialect::cache_mark::read_cache_mark;
use crate::dialect::read::{At, Misread};
use crate::dialect::{Dialect, Untranslatable};
use crate::envelope::{Envelope, Kind};

/// Reads a request. What has no neutral meaning lands in `extras`; what stands deeper than the
/// top level and is unknown is refused.
pub(in crate::dialect) fn read_request(
    envelope: &Envelope,
) -> Result<Conversation, Untranslatable> {
    let mut conversation = Conversation::new(Dialect::OpenAiChat);
    for field in envelope.fields() {
        if field.kind != Kind::Null {
            read_field(
                &mut conversation,
                &field.name,
                At::field(&field.name, field.value),
            )?;
        }
    }
    Ok(conversation)
}

fn read_field(to: &mut Conversation, name: &str, value: At<'_>) -> Result<(), Untranslatable> {
    let sampling = &mut to.sampling;
    match name {
        // The gateway says both.
        "model" => {}
        "max_tokens" | "max_completion_tokens" => to.output_tokens_max = Some(value.u64()?),
        "messages" => value.array(|message| {
            to.messages
                .extend(read_message(&message, Strictness::Request)?);
            Ok::<_, Untranslatable>(())
        })?,
        "tools" => value.array(|tool| {
            to.tools.push(read_tool(&tool)?);
            Ok::<_, Untranslatable>(())
        })?,
        "functions" | "function_call" => {
            return Err(value
                .refuse("is deprecated: use 'tools' and 'tool_choice'")
                .into());
        }
        "tool_choice" => to.tool_choice = Some(read_tool_choice(&value)?),
        "parallel_tool_calls" => to.parallel_tool_calls = Some(value.bool()?),
        "temperature" => sampling.temperature = Some(value.number()?),
        "top_p" => sampling.top_p = Some(value.number()?),
        "top_k" => sampling.top_k = Some(value.number()?),
        "min_p" => sampling.min_p = Some(value.number()?),
        "frequency_penalty" => sampling.frequency_penalty = Some(value.number()?),
        "presence_penalty" => sampling.presence_penalty = Some(value.number()?),
        "repetition_penalty" => sampling.repetition_penalty = Some(value.number()?),
        "seed" => sampling.seed = Some(value.number()?),
        "logit_bias" => sampling.logit_bias = Some(value.json_object()?),
        "logprobs" => sampling.logprobs = Some(value.bool()?),
        "top_logprobs" => sampling.top_logprobs = Some(value.number()?),
        "stop" => match value.kind() {
            Kind::String => sampling.stop.push(value.text()?),
            _ => value.array(|stop| {
                sampling.stop.push(stop.text()?);
                Ok::<_, Misread>(())
            })?,
        },
        "n" => {
            let n = u32::try_from(value.u64()?).map_err(|_| value.refuse("is too large"))?;
            to.candidates = Some(n);
        }
        "response_format" => to.format = Some(read_format(&value)?),
        "reasoning_effort" => {
            to.reasoning.get_or_insert_default().effort = Some(read_effort(&value)?);
        }
        "reasoning" => read_reasoning(to.reasoning.get_or_insert_default(), &value)?,
        "stream" => to.stream = value.bool()?,
        "stream_options" => value.object(|name, option| {
            match name {
                "include_usage" => to.include_usage = option.bool()?,
                // Padding against timing: each answer has its own.
                "include_obfuscation" => {}
                _ => return Err(option.unknown()),
            }
            Ok(())
        })?,
        "user" => to.user = Some(value.text()?),
        "metadata" => to.metadata = Some(value.json_object()?),
        "service_tier" => to.service_tier = Some(value.text()?),
        // What every other dialect does anyway.
        "store" if value.raw.as_bool() == Some(false) => {}
        "modalities" if value.raw.bytes() == b"[\"text\"]" => {}
        _ => to.extras.push(Extra {
            name: name.to_owned(),
            value: value.json(),
        }),
    }
    Ok(())
}

fn read_tool(tool: &At<'_>) -> Result<Tool, Misread> {
    let kind = tool.need("type")?.text()?;
    if kind != "function" {
        return Ok(Tool::Native {
            kind,
            definition: tool.json(),
        });
    }
    let mut function = FunctionTool {
        name: tool.need("function")?.need("name")?.text()?,
        description: None,
        parameters: None,
        strict: None,
        cache: None,
    };
    tool.object(|name, value| {
        match name {
            "type" => {}
            "cache_control" => function.cache = Some(read_cache_mark(&value)?),
            "function" => value.object(|name, value| {
                match name {
                    "name" => {}
                    "description" => function.description = Some(value.text()?),
                    "parameters" => function.parameters = Some(value.json_object()?),
                    "strict" => function.strict = Some(value.bool()?),
                    "cache_control" => function.cache = Some(read_cache_mark(&value)?),
                    _ => return Err(value.unknown()),
                }
                Ok(())
            })?,
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(Tool::Function(function))
}

fn read_tool_choice(choice: &At<'_>) -> Result<ToolChoice, Misread> {
    if choice.kind() == Kind::String {
        return match &*choice.text()? {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            // Mistral's word for it.
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(choice.refuse("must be 'auto', 'none', 'required' or a function")),
        };
    }
    if choice.need("type")?.text()? != "function" {
        return Err(choice.refuse("cannot be translated: use 'auto', 'required' or one function"));
    }
    let name = choice.need("function")?.need("name")?.text()?;
    Ok(ToolChoice::Named(name))
}

fn read_format(format: &At<'_>) -> Result<Format, Misread> {
    match &*format.need("type")?.text()? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::JsonObject),
        "json_schema" => {
            let inner = format.need("json_schema")?;
            let mut schema = SchemaFormat {
                name: None,
                description: None,
                schema: inner.need("schema")?.json_object()?,
                strict: None,
            };
            inner.object(|name, value| {
                match name {
                    "schema" => {}
                    "name" => schema.name = Some(value.text()?),
                    "description" => schema.description = Some(value.text()?),
                    "strict" => schema.strict = Some(value.bool()?),
                    _ => return Err(value.unknown()),
                }
                Ok(())
            })?;
            Ok(Format::JsonSchema(schema))
        }
        _ => Err(format.refuse("must be of the type 'text', 'json_object' or 'json_schema'")),
    }
}

fn read_effort(value: &At<'_>) -> Result<Effort, Misread> {
    Effort::from_name(&value.text()?).ok_or_else(|| {
        value.refuse("must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'")
    })
}

/// OpenRouter's object.
fn read_reasoning(to: &mut Reasoning, value: &At<'_>) -> Result<(), Misread> {
    value.object(|name, value| {
        match name {
            "effort" => to.effort = Some(read_effort(&value)?),
            "max_tokens" => to.budget_tokens = Some(value.u64()?),
            "enabled" if value.bool()? => {}
            "enabled" => to.effort = Some(Effort::None),
            "summary" => to.summary = Some(value.text()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}
