//! What a flavour does not take, and whether a conversation says it.

use serde_json::Number;

use crate::conversation::{Conversation, Format, ToolChoice};
use crate::dialect::Untranslatable;
use crate::dialect::flavour::Flavour;
use crate::dialect::refusal::{is, name_in};

/// Refuses the first field that says something which the flavour refuses or, worse, passes over.
pub(crate) fn refuse_what_it_does(
    flavour: Flavour,
    conversation: &Conversation,
) -> Result<(), Untranslatable> {
    let refused = flavour.accent().refuses;
    let present = refused.iter().find(|field| says(conversation, field));
    present.map_or(Ok(()), |field| {
        let (name, value) = field.split_once('.').unwrap_or((field, ""));
        let what = match value {
            "" => String::new(),
            "name" => "have names, and a name ".to_owned(),
            value => format!("'{value}' "),
        };
        let server = flavour.name();
        Err(Untranslatable::new(
            name_in(conversation.dialect, name),
            format!("{what}cannot be said to this model's server ({server}): remove it"),
        ))
    })
}

/// Whether a field is there and asks for something other than what happens anyway.
fn says(conversation: &Conversation, field: &str) -> bool {
    let sampling = &conversation.sampling;
    let format = conversation.format.as_ref();
    let is_not = |number: &Option<Number>, neutral: f64| {
        number.as_ref().is_some_and(|number| !is(number, neutral))
    };
    match field {
        "top_k" => sampling.top_k.is_some(),
        "min_p" => is_not(&sampling.min_p, 0.0),
        "frequency_penalty" => is_not(&sampling.frequency_penalty, 0.0),
        "presence_penalty" => is_not(&sampling.presence_penalty, 0.0),
        "repetition_penalty" => is_not(&sampling.repetition_penalty, 1.0),
        "seed" => sampling.seed.is_some(),
        "stop" => !sampling.stop.is_empty(),
        "logit_bias" => {
            let bias = sampling.logit_bias.as_ref();
            bias.is_some_and(|bias| bias.raw().fields().next().is_some())
        }
        "logprobs" => sampling.logprobs == Some(true),
        "top_logprobs" => is_not(&sampling.top_logprobs, 0.0),
        "n" => conversation.candidates.is_some_and(|n| n != 1),
        "tools" => !conversation.tools.is_empty(),
        "tool_choice" => {
            let choice = conversation.tool_choice.as_ref();
            choice.is_some_and(|choice| *choice != ToolChoice::Auto)
        }
        "parallel_tool_calls" => conversation.parallel_tool_calls == Some(false),
        "reasoning_effort" => conversation.reasoning.as_ref().is_some_and(|reasoning| {
            reasoning.effort.is_some() || reasoning.budget_tokens.is_some()
        }),
        "service_tier" => {
            let tier = conversation.service_tier.as_deref();
            tier.is_some_and(|tier| tier != "auto" && tier != "default")
        }
        "response_format.json_object" => matches!(format, Some(Format::JsonObject)),
        "response_format.json_schema" => matches!(format, Some(Format::JsonSchema(_))),
        "messages.name" => conversation
            .messages
            .iter()
            .any(|message| message.name.is_some()),
        // `user` only says whom to blame: where it is not taken it is left out.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::testing::chat;
    use serde_json::json;

    /// A request in which every field that a flavour may refuse says something.
    #[test]
    fn every_refusal_in_the_table_can_happen() {
        let everything = chat(json!({
            "messages": [{"role": "user", "name": "ann", "content": "x"}],
            "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required",
            "parallel_tool_calls": false, "top_k": 1, "min_p": 0.1, "repetition_penalty": 1.1,
            "frequency_penalty": 0.5, "presence_penalty": 0.5, "seed": 1, "stop": "x",
            "logit_bias": {"1": 1}, "logprobs": true, "top_logprobs": 1, "n": 2, "user": "u",
            "service_tier": "flex", "reasoning_effort": "low",
            "response_format": {"type": "json_object"},
        }));
        let mut schema = everything.clone();
        schema.format = chat(json!({"response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": {}},
        }}))
        .format;
        for flavour in Flavour::ALL {
            let refuses = flavour.accent().refuses.iter();
            for field in refuses.filter(|field| **field != "user") {
                let said = says(&everything, field) || says(&schema, field);
                assert!(said, "{}: '{field}'", flavour.name());
            }
        }
    }

    #[test]
    fn what_happens_anyway_is_no_reason_to_refuse() {
        let neutral = chat(json!({
            "messages": [{"role": "user", "content": "x"}], "n": 1, "logprobs": false,
            "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {},
            "parallel_tool_calls": true, "tool_choice": "auto", "service_tier": "auto",
        }));
        for flavour in Flavour::ALL {
            assert_eq!(refuse_what_it_does(flavour, &neutral), Ok(()));
        }
    }
}
