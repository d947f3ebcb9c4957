//! Saying no by name: what writers refuse, in the words of the client's own dialect.

use serde_json::Number;

use super::{Dialect, Untranslatable};
use crate::conversation::{Conversation, Reasoning, Sampling, Tool, ToolChoice};

/// What of a request a provider's own dialect has words for, beside what all have: messages,
/// functions, `temperature`, `top_p` and the bound of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ability {
    Candidates,
    FrequencyPenalty,
    Logprobs,
    PresencePenalty,
    Reasoning,
    Seed,
    SerialToolCalls,
    ServiceTier,
    Stop,
    TopK,
}

/// Refuses whatever a provider's own dialect cannot say: fields, extras, others' tools, names.
pub(super) fn refuse_all_but(
    abilities: &[Ability],
    provider: &str,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    refuse_fields(abilities, provider, conversation)?;
    let mut extras = conversation.extras.iter();
    if let Some(extra) = extras.find(|extra| !HARMLESS.contains(&&*extra.name)) {
        return Err(cannot_be_said(&extra.name, provider));
    }
    refuse_native_tools(provider, conversation)?;
    refuse_names(provider, conversation)
}

/// Extras that change no answer: whom to blame for abuse, as `user`, and how long OpenAI keeps
/// its cache.
const HARMLESS: &[&str] = &["prompt_cache_retention", "safety_identifier"];

fn cannot_be_said(field: &str, provider: &str) -> Untranslatable {
    let why = format!("cannot be said to {provider}: remove it, or use another model");
    Untranslatable::new(field, why)
}

/// Refuses the first field that says something which a provider cannot hear. What says only what
/// the provider does anyway (`n: 1`, a penalty of 0) passes.
pub(super) fn refuse_fields(
    abilities: &[Ability],
    provider: &str,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    for (ability, field) in said(conversation) {
        if !ability.is_some_and(|ability| abilities.contains(&ability)) {
            return Err(cannot_be_said(
                name_in(conversation.dialect, field),
                provider,
            ));
        }
    }
    Ok(())
}

/// Refuses tools of providers' own.
pub(super) fn refuse_native_tools(
    provider: &str,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    for (index, tool) in conversation.tools.iter().enumerate() {
        if let Tool::Native { kind, .. } = tool {
            let kind = &kind[..kind.floor_char_boundary(64)];
            return Err(Untranslatable::new(
                format!("tools.{index}"),
                format!("is another provider's own tool '{kind}', which {provider} has not"),
            ));
        }
    }
    Ok(())
}

/// Refuses names of speakers.
pub(super) fn refuse_names(
    provider: &str,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let named = conversation
        .messages
        .iter()
        .position(|message| message.name.is_some());
    named.map_or(Ok(()), |index| {
        Err(Untranslatable::new(
            format!("messages.{index}.name"),
            format!("cannot be said to {provider}: put the name into the text"),
        ))
    })
}

/// The fields that say something, and what it takes to hear them.
fn said(conversation: &Conversation) -> Vec<(Option<Ability>, &'static str)> {
    let Sampling {
        temperature: _,
        top_p: _,
        top_k,
        min_p,
        frequency_penalty,
        presence_penalty,
        repetition_penalty,
        seed,
        stop,
        logit_bias,
        logprobs,
        top_logprobs,
    } = &conversation.sampling;
    let bias = logit_bias.as_ref();
    let bias = bias.is_some_and(|bias| bias.raw().fields().next().is_some());
    let tier = conversation.service_tier.as_deref();
    let tier = tier.is_some_and(|tier| !matches!(tier, "auto" | "default"));
    let says = |number: &Option<Number>, nothing| {
        number.as_ref().is_some_and(|number| !is(number, nothing))
    };
    [
        (top_k.is_some(), Some(Ability::TopK), "top_k"),
        (says(min_p, 0.0), None, "min_p"),
        (
            says(frequency_penalty, 0.0),
            Some(Ability::FrequencyPenalty),
            "frequency_penalty",
        ),
        (
            says(presence_penalty, 0.0),
            Some(Ability::PresencePenalty),
            "presence_penalty",
        ),
        (says(repetition_penalty, 1.0), None, "repetition_penalty"),
        (seed.is_some(), Some(Ability::Seed), "seed"),
        (!stop.is_empty(), Some(Ability::Stop), "stop"),
        (bias, None, "logit_bias"),
        (
            *logprobs == Some(true) || says(top_logprobs, 0.0),
            Some(Ability::Logprobs),
            "logprobs",
        ),
        (
            conversation.candidates.is_some_and(|n| n != 1),
            Some(Ability::Candidates),
            "n",
        ),
        (
            conversation.parallel_tool_calls == Some(false) && may_call(conversation),
            Some(Ability::SerialToolCalls),
            "parallel_tool_calls",
        ),
        (
            conversation
                .reasoning
                .as_ref()
                .is_some_and(asks_for_something),
            Some(Ability::Reasoning),
            "reasoning_effort",
        ),
        (tier, Some(Ability::ServiceTier), "service_tier"),
    ]
    .into_iter()
    .filter_map(|(says_something, ability, field)| says_something.then_some((ability, field)))
    .collect()
}

/// A client that leaves it to the model asks for nothing.
fn asks_for_something(reasoning: &Reasoning) -> bool {
    reasoning.effort.is_some() || reasoning.budget_tokens.is_some()
}

fn may_call(conversation: &Conversation) -> bool {
    !conversation.tools.is_empty() && conversation.tool_choice != Some(ToolChoice::None)
}

pub(super) fn is(number: &Number, value: f64) -> bool {
    let number = number.as_f64();
    number.is_some_and(|number| (number - value).abs() < f64::EPSILON)
}

/// What a client's dialect calls a field that OpenAI's chat calls `field`.
pub(super) fn name_in(dialect: Dialect, field: &'static str) -> &'static str {
    match (dialect, field) {
        (Dialect::Anthropic, "stop") => "stop_sequences",
        (Dialect::Anthropic, "reasoning_effort") => "thinking",
        (Dialect::Anthropic, "parallel_tool_calls") => "tool_choice.disable_parallel_tool_use",
        (Dialect::Anthropic, "response_format") => "output_config.format",
        (Dialect::OpenAiResponses, "reasoning_effort") => "reasoning",
        (Dialect::OpenAiResponses, "response_format") => "text.format",
        (Dialect::OpenAiResponses, "logprobs") => "top_logprobs",
        _ => field,
    }
}

/// A field that is there and cannot be said, in the client's word for it.
pub(super) fn refuse(
    conversation: &Conversation,
    field: &'static str,
    why: impl Into<String>,
) -> Untranslatable {
    Untranslatable::new(name_in(conversation.dialect, field), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Effort, Extra, Message, Part, Role};
    use crate::json::Json;

    fn check(dialect: Dialect, edit: impl FnOnce(&mut Conversation), refused: Option<&str>) {
        let mut conversation = Conversation::new(dialect);
        edit(&mut conversation);
        let refusal = refuse_all_but(&[Ability::TopK], "Bedrock", &conversation);
        assert_eq!(refusal.err().map(|error| error.field).as_deref(), refused);
    }

    #[test]
    fn what_says_nothing_passes_and_all_else_is_named() {
        let chat = Dialect::OpenAiChat;
        check(
            chat,
            |conversation| {
                let sampling = &mut conversation.sampling;
                sampling.top_k = Some(7.into());
                sampling.min_p = Some(0.into());
                sampling.frequency_penalty = Number::from_f64(0.0);
                sampling.repetition_penalty = Some(1.into());
                sampling.logit_bias = Some(Json::valid("{}"));
                sampling.logprobs = Some(false);
                conversation.candidates = Some(1);
                conversation.parallel_tool_calls = Some(false);
                conversation.service_tier = Some("auto".into());
                conversation.reasoning = Some(Reasoning::default());
            },
            None,
        );
        check(chat, |c| c.sampling.seed = Some(1.into()), Some("seed"));
        check(chat, |c| c.candidates = Some(2), Some("n"));
        let stop = |c: &mut Conversation| c.sampling.stop.push("x".into());
        check(chat, stop, Some("stop"));
        check(Dialect::Anthropic, stop, Some("stop_sequences"));
        let effort = |c: &mut Conversation| {
            c.reasoning.get_or_insert_default().effort = Some(Effort::Low);
        };
        check(Dialect::OpenAiResponses, effort, Some("reasoning"));
        let extra = |c: &mut Conversation| {
            c.extras.push(Extra {
                name: "guided_regex".into(),
                value: Json::from("x"),
            });
        };
        check(chat, extra, Some("guided_regex"));
        let native = |c: &mut Conversation| {
            c.tools.push(Tool::Native {
                kind: "web_search".into(),
                definition: Json::valid("{}"),
            });
        };
        check(chat, native, Some("tools.0"));
        let named = |c: &mut Conversation| {
            let mut message = Message::new(Role::User, vec![Part::text("x")]);
            message.name = Some("ann".into());
            c.messages.push(message);
        };
        check(chat, named, Some("messages.0.name"));
    }
}
