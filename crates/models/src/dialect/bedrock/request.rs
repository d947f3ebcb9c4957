//! What Bedrock is asked.

use bytes::Bytes;

use super::Maker;
use super::content::{write_cache_point, write_messages, write_system};
use crate::conversation::{Conversation, Effort, Format, Reasoning, Tool, ToolChoice};
use crate::dialect::refusal::{self, Ability, refuse};
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::dialect::{Forced, Untranslatable};

const ABILITIES: &[Ability] = &[
    Ability::Reasoning,
    Ability::ServiceTier,
    Ability::Stop,
    Ability::TopK,
];

/// Anthropic's smallest budget of thinking.
const THINKING_TOKENS_MIN: u64 = 1_024;

/// Writes a request. The model and whether to stream stand in the address.
pub(in crate::dialect) fn write_request(
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    refusal::refuse_all_but(ABILITIES, "Bedrock", conversation)?;
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        write_system(to, conversation)?;
        to.array("messages", |to| write_messages(to, conversation))?;
        to.object("inferenceConfig", |to| {
            to.set("maxTokens", forced.output_tokens);
            to.maybe("temperature", conversation.sampling.temperature.as_ref());
            to.maybe("topP", conversation.sampling.top_p.as_ref());
            if !conversation.sampling.stop.is_empty() {
                to.set("stopSequences", &conversation.sampling.stop);
            }
        });
        tools(to, conversation)?;
        format(to, conversation)?;
        additional(to, conversation, forced)?;
        service_tier(to, conversation)
    })?;
    Ok(out.into())
}

fn tools(to: &mut ObjectWriter<'_>, conversation: &Conversation) -> Result<(), Untranslatable> {
    if conversation.tools.is_empty() {
        return Ok(());
    }
    if conversation.tool_choice == Some(ToolChoice::None) {
        // Converse has no word for it; without tools the model cannot call any.
        if has_called(conversation) {
            return Err(refuse(
                conversation,
                "tool_choice",
                "'none' cannot be said to Bedrock in a conversation with tool calls: use 'auto'",
            ));
        }
        return Ok(());
    }
    to.object("toolConfig", |to| {
        to.array("tools", |to| {
            for tool in &conversation.tools {
                write_tool(to, tool);
            }
        });
        match &conversation.tool_choice {
            None | Some(ToolChoice::None) => {}
            Some(ToolChoice::Auto) => choice(to, "auto"),
            Some(ToolChoice::Required) => choice(to, "any"),
            Some(ToolChoice::Named(name)) => to.object("toolChoice", |to| {
                to.object("tool", |to| {
                    to.set("name", name);
                });
            }),
        }
    });
    Ok(())
}

fn choice(to: &mut ObjectWriter<'_>, name: &str) {
    to.object("toolChoice", |to| to.object(name, |_| ()));
}

fn has_called(conversation: &Conversation) -> bool {
    use crate::conversation::Content::{ToolCall, ToolResult};
    let mut parts = conversation
        .messages
        .iter()
        .flat_map(|message| &message.parts);
    parts.any(|part| matches!(part.content, ToolCall(_) | ToolResult(_)))
}

fn write_tool(to: &mut ArrayWriter<'_>, tool: &Tool) {
    // Others were refused before.
    let Tool::Function(tool) = tool else {
        return;
    };
    to.object(|to| {
        to.object("toolSpec", |to| {
            to.set("name", &tool.name);
            to.maybe("description", tool.description.as_deref());
            to.object("inputSchema", |to| match &tool.parameters {
                Some(schema) => {
                    to.json("json", schema);
                }
                // Required here: no arguments.
                None => to.object("json", |to| {
                    to.set("type", "object");
                }),
            });
            to.maybe("strict", tool.strict.filter(|strict| *strict));
        });
    });
    if let Some(mark) = tool.cache {
        to.object(|to| write_cache_point(to, mark));
    }
}

fn format(to: &mut ObjectWriter<'_>, conversation: &Conversation) -> Result<(), Untranslatable> {
    match &conversation.format {
        None | Some(Format::Text) => Ok(()),
        Some(Format::JsonObject) => Err(refuse(
            conversation,
            "response_format",
            "cannot be 'json_object' for Bedrock: give a schema, with 'json_schema'",
        )),
        Some(Format::JsonSchema(schema)) => {
            let text = std::str::from_utf8(schema.schema.as_bytes()).unwrap_or_default();
            to.object("outputConfig", |to| {
                to.object("textFormat", |to| {
                    to.set("type", "json_schema");
                    to.object("structure", |to| {
                        to.object("jsonSchema", |to| {
                            // The schema is a text here.
                            to.set("schema", text);
                            to.maybe("name", schema.name.as_deref());
                            to.maybe("description", schema.description.as_deref());
                        });
                    });
                });
            });
            Ok(())
        }
    }
}

/// What Converse has no words for, in the words of the model's maker.
fn additional(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<(), Untranslatable> {
    let maker = Maker::of(forced.model);
    let top_k = conversation.sampling.top_k.as_ref();
    let reasoning = conversation.reasoning.as_ref();
    let reasoning = reasoning.filter(|asked| match asked.effort_or_of_budget() {
        None => false,
        // These think only if they are told to.
        Some(Effort::None) => matches!(maker, Maker::Nova | Maker::OpenAi),
        Some(_) => true,
    });
    if top_k.is_none() && reasoning.is_none() {
        return Ok(());
    }
    to.object("additionalModelRequestFields", |to| {
        match (top_k, maker) {
            (None, _) => {}
            (Some(top_k), Maker::Anthropic) => {
                to.set("top_k", top_k);
            }
            (Some(top_k), Maker::Nova) => to.object("inferenceConfig", |to| {
                to.set("topK", top_k);
            }),
            (Some(_), Maker::OpenAi | Maker::Other) => {
                let why = "cannot be said to this model on Bedrock: remove it";
                return Err(refuse(conversation, "top_k", why));
            }
        }
        match reasoning {
            Some(reasoning) => thinking(to, conversation, reasoning, forced, maker),
            None => Ok(()),
        }
    })
}

fn thinking(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
    reasoning: &Reasoning,
    forced: &Forced<'_>,
    maker: Maker,
) -> Result<(), Untranslatable> {
    let refuse = |why: &str| Err(refuse(conversation, "reasoning_effort", why));
    let off = reasoning.effort_or_of_budget() == Some(Effort::None);
    match maker {
        Maker::Anthropic => {
            let budget = reasoning
                .budget_within(forced.output_tokens)
                .unwrap_or_default();
            let budget = budget.max(THINKING_TOKENS_MIN);
            if budget >= forced.output_tokens {
                return refuse(
                    "leaves no tokens for an answer: ask for more output tokens, at least 1,025",
                );
            }
            to.object("thinking", |to| {
                to.set("type", "enabled").set("budget_tokens", budget);
            });
        }
        Maker::Nova => to.object("reasoningConfig", |to| {
            if off {
                to.set("type", "disabled");
                return;
            }
            to.set("type", "enabled");
            to.set("maxReasoningEffort", low_to_high(reasoning));
        }),
        Maker::OpenAi if off => return refuse("cannot be turned off for this model: use 'low'"),
        Maker::OpenAi => {
            to.set("reasoning_effort", low_to_high(reasoning));
        }
        Maker::Other => return refuse("cannot be said to this model on Bedrock: remove it"),
    }
    Ok(())
}

/// For models that know three efforts.
fn low_to_high(reasoning: &Reasoning) -> &'static str {
    match reasoning.effort_or_of_budget() {
        Some(Effort::None | Effort::Minimal | Effort::Low) => "low",
        None | Some(Effort::Medium) => "medium",
        Some(Effort::High | Effort::XHigh | Effort::Max) => "high",
    }
}

fn service_tier(
    to: &mut ObjectWriter<'_>,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    match conversation.service_tier.as_deref() {
        None | Some("auto") => Ok(()),
        Some(tier @ ("default" | "flex" | "priority")) => {
            to.object("serviceTier", |to| {
                to.set("type", tier);
            });
            Ok(())
        }
        Some(_) => Err(Untranslatable::new(
            "service_tier",
            "must be 'auto', 'default', 'flex' or 'priority' for Bedrock",
        )),
    }
}
