//! What a client asks in Responses.

use super::input::read_input;
use super::{INCLUDE_ENCRYPTED, INCLUDE_LOGPROBS};
use crate::conversation::{
    Conversation, Effort, Extra, Format, FunctionTool, Message, Part, Reasoning, Role,
    SchemaFormat, Tool, ToolChoice,
};
use crate::dialect::read::{At, Misread};
use crate::dialect::{Dialect, Untranslatable};
use crate::envelope::{Envelope, Kind};

/// Reads a request whose stored items were joined with its own.
pub(in crate::dialect) fn read_request(
    envelope: &Envelope,
) -> Result<Conversation, Untranslatable> {
    let mut conversation = Conversation::new(Dialect::OpenAiResponses);
    for field in envelope.fields() {
        if field.kind != Kind::Null {
            let value = At::field(&field.name, field.value);
            read_field(&mut conversation, &field.name, value)?;
        }
    }
    if conversation.messages.is_empty() {
        return Err(Untranslatable::new("input", "is missing: say something"));
    }
    // Instructions precede whatever else is said, wherever their field stands.
    let instructions = envelope.get("instructions");
    if let Some(instructions) = instructions.filter(|raw| raw.kind() != Some(Kind::Null)) {
        let text = At::field("instructions", instructions).text()?;
        let message = Message::new(Role::System, vec![Part::text(text)]);
        conversation.messages.insert(0, message);
    }
    Ok(conversation)
}

fn read_field(to: &mut Conversation, name: &str, value: At<'_>) -> Result<(), Untranslatable> {
    match name {
        // The gateway says one, and reads the other after this.
        "model" | "instructions" => {}
        "input" => to.messages = read_input(&value)?,
        "tools" => value.array(|tool| {
            to.tools.push(read_tool(&tool)?);
            Ok::<_, Untranslatable>(())
        })?,
        "tool_choice" => to.tool_choice = Some(read_tool_choice(&value)?),
        "parallel_tool_calls" => to.parallel_tool_calls = Some(value.bool()?),
        "max_output_tokens" => to.output_tokens_max = Some(value.u64()?),
        "temperature" => to.sampling.temperature = Some(value.number()?),
        "top_p" => to.sampling.top_p = Some(value.number()?),
        "top_logprobs" => to.sampling.top_logprobs = Some(value.number()?),
        "text" => read_text(to, &value)?,
        "reasoning" => read_reasoning(to.reasoning.get_or_insert_default(), &value)?,
        "include" => value.array(|item| {
            match &*item.text()? {
                // Thoughts are always given back in a form that can be sent again.
                INCLUDE_ENCRYPTED => {}
                INCLUDE_LOGPROBS => to.sampling.logprobs = Some(true),
                _ => return Err(item.unknown()),
            }
            Ok(())
        })?,
        "stream" => to.stream = value.bool()?,
        // Padding against timing: each answer has its own.
        "stream_options" => {}
        "user" => to.user = Some(value.text()?),
        "metadata" => to.metadata = Some(value.json_object()?),
        "service_tier" => to.service_tier = Some(value.text()?),
        // What is stored is the gateway's.
        "store" => {}
        "previous_response_id" | "conversation" => {
            return Err(value
                .refuse("names what is not stored here: send its items")
                .into());
        }
        // What every other dialect does anyway.
        "truncation" if value.raw.as_str().as_deref() == Some("disabled") => {}
        "background" if value.raw.as_bool() == Some(false) => {}
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
        let definition = tool.json();
        return Ok(Tool::Native { kind, definition });
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
            "parameters" => function.parameters = Some(value.json_object()?),
            "strict" => function.strict = Some(value.bool()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(Tool::Function(function))
}

fn read_tool_choice(choice: &At<'_>) -> Result<ToolChoice, Misread> {
    if choice.kind() == Kind::String {
        return choice
            .word(&[("auto", 0), ("none", 1), ("required", 2)])
            .map(|word| match word {
                0 => ToolChoice::Auto,
                1 => ToolChoice::None,
                _ => ToolChoice::Required,
            });
    }
    if choice.need("type")?.text()? != "function" {
        return Err(choice.refuse("cannot be translated: use 'auto', 'required' or one function"));
    }
    Ok(ToolChoice::Named(choice.need("name")?.text()?))
}

/// `{"format", "verbosity"}`
fn read_text(to: &mut Conversation, text: &At<'_>) -> Result<(), Misread> {
    text.object(|name, value| {
        match name {
            "format" => to.format = Some(read_format(&value)?),
            // What every model does anyway.
            "verbosity" if value.raw.as_str().as_deref() == Some("medium") => {}
            // As OpenAI's chat calls it.
            "verbosity" => to.extras.push(Extra {
                name: name.to_owned(),
                value: value.json(),
            }),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}

fn read_format(format: &At<'_>) -> Result<Format, Misread> {
    match &*format.need("type")?.text()? {
        "text" => return Ok(Format::Text),
        "json_object" => return Ok(Format::JsonObject),
        "json_schema" => {}
        _ => {
            return Err(format.refuse("must be of the type 'text', 'json_object' or 'json_schema'"));
        }
    }
    let mut schema = SchemaFormat {
        name: None,
        description: None,
        schema: format.need("schema")?.json_object()?,
        strict: None,
    };
    format.object(|name, value| {
        match name {
            "type" | "schema" => {}
            "name" => schema.name = Some(value.text()?),
            "description" => schema.description = Some(value.text()?),
            "strict" => schema.strict = Some(value.bool()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(Format::JsonSchema(schema))
}

fn read_reasoning(to: &mut Reasoning, value: &At<'_>) -> Result<(), Misread> {
    value.object(|name, value| {
        match name {
            "effort" => {
                let effort = Effort::from_name(&value.text()?);
                to.effort = Some(effort.ok_or_else(|| {
                    value.refuse(
                        "must be 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'",
                    )
                })?);
            }
            // The second is its older name.
            "summary" | "generate_summary" => to.summary = Some(value.text()?),
            _ => return Err(value.unknown()),
        }
        Ok(())
    })
}
