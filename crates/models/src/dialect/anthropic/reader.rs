//! What a client asks in Anthropic's dialect.

use super::block_reader::read_content;
use crate::conversation::{
    Conversation, Effort, Extra, Format, FunctionTool, Message, Part, Reasoning, Role,
    SchemaFormat, Tool, ToolChoice,
};
use crate::dialect::cache_mark::read_cache_mark;
use crate::dialect::read::{At, Misread};
use crate::dialect::{Dialect, Untranslatable};
use crate::envelope::{Envelope, Kind};

/// Reads a request of `/v1/messages` or of `count_tokens`. What has no neutral meaning lands in
/// `extras`; what stands deeper than the top level and is unknown is refused.
pub(in crate::dialect) fn read_request(
    envelope: &Envelope,
) -> Result<Conversation, Untranslatable> {
    let mut conversation = Conversation::new(Dialect::Anthropic);
    let mut system = Vec::new();
    for field in envelope.fields() {
        if field.kind != Kind::Null {
            let value = At::field(&field.name, field.value);
            read_field(&mut conversation, &mut system, &field.name, value)?;
        }
    }
    if !system.is_empty() {
        let system = Message::new(Role::System, system);
        conversation.messages.insert(0, system);
    }
    Ok(conversation)
}

fn read_field(
    to: &mut Conversation,
    system: &mut Vec<Part>,
    name: &str,
    value: At<'_>,
) -> Result<(), Untranslatable> {
    let sampling = &mut to.sampling;
    match name {
        // The gateway says it.
        "model" => {}
        "max_tokens" => to.output_tokens_max = Some(value.u64()?),
        "system" => *system = read_content(&value)?,
        "messages" => value.array(|message| {
            to.messages.push(read_message(&message)?);
            Ok::<_, Untranslatable>(())
        })?,
        "tools" => value.array(|tool| {
            to.tools.push(read_tool(&tool)?);
            Ok::<_, Untranslatable>(())
        })?,
        "tool_choice" => read_tool_choice(to, &value)?,
        "temperature" => sampling.temperature = Some(value.number()?),
        "top_p" => sampling.top_p = Some(value.number()?),
        "top_k" => sampling.top_k = Some(value.number()?),
        "stop_sequences" => value.array(|stop| {
            sampling.stop.push(stop.text()?);
            Ok::<_, Misread>(())
        })?,
        "thinking" => read_thinking(to.reasoning.get_or_insert_default(), &value)?,
        "output_config" => read_output_config(to, &value)?,
        // The beta's name for `output_config.format`.
        "output_format" => to.format = Some(read_format(&value)?),
        "stream" => to.stream = value.bool()?,
        "metadata" => value.object(|name, value| {
            match name {
                "user_id" => to.user = Some(value.text()?),
                _ => return Err(value.unknown()),
            }
            Ok(())
        })?,
        "service_tier" => {
            let tiers = [("auto", "auto"), ("standard_only", "default")];
            to.service_tier = Some(value.word(&tiers)?.to_owned());
        }
        _ => to.extras.push(Extra {
            name: name.to_owned(),
            value: value.json(),
        }),
    }
    Ok(())
}

fn read_message(message: &At<'_>) -> Result<Message, Misread> {
    let roles = [
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("system", Role::System),
    ];
    let role = message.need("role")?.word(&roles)?;
    let mut parts = Vec::new();
    message.object(|name, value| {
        match name {
            "role" => {}
            "content" => parts = read_content(&value)?,
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    message.need("content")?;
    Ok(Message::new(role, parts))
}

fn read_tool(tool: &At<'_>) -> Result<Tool, Misread> {
    if let Some(kind) = tool.get("type") {
        let kind = kind.text()?;
        if kind != "custom" {
            return Ok(Tool::Native {
                kind,
                definition: tool.json(),
            });
        }
    }
    let mut function = FunctionTool {
        name: tool.need("name")?.text()?,
        description: None,
        parameters: None,
        strict: None,
        cache: None,
    };
    tool.object(|name, value| {
        match name {
            "type" | "name" => {}
            "description" => function.description = Some(value.text()?),
            "input_schema" => function.parameters = Some(value.json_object()?),
            "strict" => function.strict = Some(value.bool()?),
            "cache_control" => function.cache = Some(read_cache_mark(&value)?),
            // How arguments are streamed: each upstream does it in its way.
            "eager_input_streaming" => {}
            "defer_loading" if value.raw.as_bool() == Some(false) => {}
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(Tool::Function(function))
}

fn read_tool_choice(to: &mut Conversation, choice: &At<'_>) -> Result<(), Misread> {
    to.tool_choice = Some(match &*choice.need("type")?.text()? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.need("name")?.text()?),
        _ => {
            let kind = choice.need("type")?;
            return Err(kind.refuse("must be 'auto', 'any', 'tool' or 'none'"));
        }
    });
    choice.object(|name, value| {
        match name {
            "type" | "name" => {}
            "disable_parallel_tool_use" => to.parallel_tool_calls = Some(!value.bool()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}

fn read_thinking(to: &mut Reasoning, thinking: &At<'_>) -> Result<(), Misread> {
    match &*thinking.need("type")?.text()? {
        "enabled" => to.budget_tokens = Some(thinking.need("budget_tokens")?.u64()?),
        "disabled" => to.effort = Some(Effort::None),
        "adaptive" => {}
        _ => {
            let kind = thinking.need("type")?;
            return Err(kind.refuse("must be 'enabled', 'disabled' or 'adaptive'"));
        }
    }
    thinking.object(|name, value| {
        match name {
            "type" | "budget_tokens" => {}
            "display" => {
                let summaries = [("summarized", "auto"), ("omitted", "none")];
                to.summary = Some(value.word(&summaries)?.to_owned());
            }
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}

fn read_output_config(to: &mut Conversation, config: &At<'_>) -> Result<(), Misread> {
    config.object(|name, value| {
        match name {
            "effort" => {
                let effort = Effort::from_name(&value.text()?).ok_or_else(|| {
                    value.refuse("must be 'low', 'medium', 'high', 'xhigh' or 'max'")
                })?;
                let reasoning = to.reasoning.get_or_insert_default();
                // Thinking that is switched off stays off, wherever it was said.
                if reasoning.effort != Some(Effort::None) {
                    reasoning.effort = Some(effort);
                }
            }
            "format" => to.format = Some(read_format(&value)?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}

fn read_format(format: &At<'_>) -> Result<Format, Misread> {
    let kind = format.need("type")?;
    if kind.text()? != "json_schema" {
        return Err(kind.refuse("must be 'json_schema'"));
    }
    format.object(|name, value| match name {
        "type" | "schema" => Ok(()),
        _ => Err(value.unknown()),
    })?;
    Ok(Format::JsonSchema(SchemaFormat {
        name: None,
        description: None,
        schema: format.need("schema")?.json_object()?,
        strict: None,
    }))
}
