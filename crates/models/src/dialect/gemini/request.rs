//! What Gemini is asked.

use bytes::Bytes;

use super::contents::write_contents;
use crate::conversation::{
    Conversation, Effort, Format, FunctionTool, Reasoning, Tool, ToolChoice,
};
use crate::dialect::refusal::{self, Ability};
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{Forced, Untranslatable};

const ABILITIES: &[Ability] = &[
    Ability::Candidates,
    Ability::FrequencyPenalty,
    Ability::Logprobs,
    Ability::PresencePenalty,
    Ability::Reasoning,
    Ability::Seed,
    Ability::Stop,
    Ability::TopK,
];

/// Tokens to think with, by Google's own table of OpenAI's efforts ("OpenAI compatibility").
const BUDGET_LOW: u64 = 1_024;
const BUDGET_MEDIUM: u64 = 8_192;
const BUDGET_HIGH: u64 = 24_576;

/// 512: the least that all models take, beside none.
const BUDGET_MIN: u64 = 512;

/// Writes a request. The model and whether to stream stand in the address.
pub(in crate::dialect) fn write_request(
    conversation: &Conversation,
    forced: &Forced<'_>,
) -> Result<Bytes, Untranslatable> {
    refusal::refuse_all_but(ABILITIES, "Gemini", conversation)?;
    let mut out = Vec::new();
    write::object(&mut out, |to| {
        to.array("contents", |to| {
            write_contents(to, conversation, forced.model)
        })?;
        system(to, conversation)?;
        tools(to, conversation);
        tool_choice(to, conversation);
        to.object("generationConfig", |to| {
            sampling(to, conversation);
            to.set("maxOutputTokens", forced.output_tokens);
            format(to, conversation);
            if let Some(reasoning) = &conversation.reasoning {
                thinking(to, reasoning, forced);
            }
        });
        Ok::<_, Untranslatable>(())
    })?;
    Ok(out.into())
}

fn system(to: &mut ObjectWriter<'_>, conversation: &Conversation) -> Result<(), Untranslatable> {
    let mut parts = conversation.system_parts().peekable();
    if parts.peek().is_none() {
        return Ok(());
    }
    to.object("systemInstruction", |to| {
        to.array("parts", |to| {
            parts.try_for_each(|part| super::contents::write_spoken(to, part, "messages"))
        })
    })
}

fn tools(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    if conversation.tools.is_empty() {
        return;
    }
    to.array("tools", |to| {
        to.object(|to| {
            to.array("functionDeclarations", |to| {
                for function in functions(conversation) {
                    to.object(|to| {
                        to.set("name", &function.name);
                        to.maybe("description", function.description.as_deref());
                        to.maybe_json("parametersJsonSchema", function.parameters.as_ref());
                    });
                }
            });
        });
    });
}

fn functions(conversation: &Conversation) -> impl Iterator<Item = &FunctionTool> {
    conversation.tools.iter().filter_map(|tool| match tool {
        Tool::Function(function) => Some(function),
        Tool::Native { .. } => None,
    })
}

fn tool_choice(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    // `VALIDATED`: the model may call, and its calls keep to their schemas.
    let strict = functions(conversation).any(|function| function.strict == Some(true));
    let (mode, only) = match &conversation.tool_choice {
        _ if conversation.tools.is_empty() => return,
        None | Some(ToolChoice::Auto) if strict => ("VALIDATED", None),
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name)),
    };
    to.object("toolConfig", |to| {
        to.object("functionCallingConfig", |to| {
            to.set("mode", mode);
            to.maybe("allowedFunctionNames", only.map(|name| [name]));
        });
    });
}

fn sampling(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    let sampling = &conversation.sampling;
    to.maybe("temperature", sampling.temperature.as_ref());
    to.maybe("topP", sampling.top_p.as_ref());
    to.maybe("topK", sampling.top_k.as_ref());
    to.maybe(
        "candidateCount",
        conversation.candidates.filter(|n| *n != 1),
    );
    if !sampling.stop.is_empty() {
        to.set("stopSequences", &sampling.stop);
    }
    to.maybe("presencePenalty", sampling.presence_penalty.as_ref());
    to.maybe("frequencyPenalty", sampling.frequency_penalty.as_ref());
    to.maybe("seed", sampling.seed.as_ref());
    let alternatives = sampling.top_logprobs.as_ref();
    let alternatives = alternatives.filter(|count| !refusal::is(count, 0.0));
    if sampling.logprobs == Some(true) || alternatives.is_some() {
        to.set("responseLogprobs", true);
        to.maybe("logprobs", alternatives);
    }
}

fn format(to: &mut ObjectWriter<'_>, conversation: &Conversation) {
    match &conversation.format {
        None | Some(Format::Text) => {}
        Some(Format::JsonObject) => {
            to.set("responseMimeType", "application/json");
        }
        Some(Format::JsonSchema(schema)) => {
            to.set("responseMimeType", "application/json");
            to.json("responseJsonSchema", &schema.schema);
        }
    }
}

fn thinking(to: &mut ObjectWriter<'_>, reasoning: &Reasoning, forced: &Forced<'_>) {
    let asked = reasoning.effort != Some(Effort::None) && reasoning.budget_tokens != Some(0);
    to.object("thinkingConfig", |to| {
        // Whoever asks for thoughts is shown them; hidden ones cost the same.
        to.set("includeThoughts", asked);
        if knows_levels(forced.model) {
            let effort = reasoning.effort_or_of_budget();
            to.maybe(
                "thinkingLevel",
                effort.map(|effort| level(effort, forced.model)),
            );
        } else {
            let asked = reasoning.budget_tokens;
            let asked = asked.map(|budget| budget.min(forced.output_tokens));
            let budget = asked.or_else(|| Some(budget(reasoning.effort?, forced.output_tokens)));
            to.maybe("thinkingBudget", budget);
        }
    });
}

/// From Gemini 3 on thinking has levels, and calls must carry their signatures.
pub(super) fn knows_levels(model: &str) -> bool {
    let version = model.split_once("gemini-").map(|(_, version)| version);
    let digits = version.and_then(|version| version.bytes().next());
    digits.is_some_and(|digit| matches!(digit, b'3'..=b'9'))
}

fn level(effort: Effort, model: &str) -> &'static str {
    // Gemini 3 Pro had two levels; thinking cannot be turned off.
    let two_levels = model.contains("gemini-3-pro");
    match effort {
        Effort::None | Effort::Minimal if !model.contains("pro") => "minimal",
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium if !two_levels => "medium",
        Effort::Medium | Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}

/// At most four fifths of the output, so that there is room for an answer.
fn budget(effort: Effort, output_tokens: u64) -> u64 {
    let budget = match effort {
        Effort::None => return 0,
        Effort::Minimal | Effort::Low => BUDGET_LOW,
        Effort::Medium => BUDGET_MEDIUM,
        Effort::High | Effort::XHigh | Effort::Max => BUDGET_HIGH,
    };
    budget.min(output_tokens / 5 * 4).max(BUDGET_MIN)
}
