//! What OpenAI and Mistral refuse and an engine of one's own passes over: names that they do not
//! know, and conversations in which calls of tools and their results do not match.

use std::borrow::Cow;
use std::collections::HashMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::mistral;
use super::request::Message;
use crate::config::Provider;
use crate::http::Call;
use crate::refusal::Refusal;

/// The names that an endpoint knows.
pub(super) struct Known {
    openai: &'static [&'static str],
    mistral: &'static [&'static str],
}

/// Those of a chat, by the providers' references.
#[rustfmt::skip]
pub(super) const CHAT: Known = Known {
    openai: &[
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
        "max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier",
        "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature",
        "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    ],
    mistral: &[
        "frequency_penalty", "max_tokens", "messages", "metadata", "model", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_mode", "random_seed",
        "reasoning_effort", "response_format", "safe_prompt", "stop", "stream", "temperature",
        "tool_choice", "tools", "top_p",
    ],
};

/// Those of a completion. Mistral has none.
#[rustfmt::skip]
pub(super) const COMPLETION: Known = Known {
    openai: &[
        "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "model",
        "n", "presence_penalty", "prompt", "seed", "stop", "stream", "stream_options", "suffix",
        "temperature", "top_p", "user",
    ],
    mistral: &[],
};

/// Those of embeddings.
pub(super) const EMBEDDING: Known = Known {
    openai: &["dimensions", "encoding_format", "input", "model", "user"],
    mistral: &[
        "encoding_format",
        "input",
        "metadata",
        "model",
        "output_dimension",
        "output_dtype",
    ],
};

/// Refuses names that the provider does not know.
///
/// # Errors
///
/// OpenAI's 400 or Mistral's 422, with the first such name.
pub(super) fn check_names(call: &Call, known: &Known) -> Result<(), Refusal> {
    let provider = call.api.manners();
    let names = match provider {
        Provider::Vllm => return Ok(()),
        Provider::OpenAi => known.openai,
        Provider::Mistral => known.mistral,
    };
    let members: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(&call.body).map_err(|error| unreadable(provider, &error))?;
    let unknown = members
        .iter()
        .filter(|(name, _)| !names.contains(&&***name));
    match unknown.min_by(|(left, _), (right, _)| left.cmp(right)) {
        None => Ok(()),
        Some((name, value)) if provider == Provider::Mistral => {
            Err(mistral::extra_forbidden(&["body", name], value.get()))
        }
        Some((name, _)) => {
            let shown: String = name.chars().take(200).collect();
            Err(Refusal {
                code: Some("unknown_parameter"),
                param: Some(shown.clone().into()),
                ..Refusal::bad_request(format!("Unknown parameter: '{shown}'."))
            })
        }
    }
}

/// A body that is not what the endpoint reads, in the provider's words.
pub(super) fn unreadable(provider: Provider, error: &serde_json::Error) -> Refusal {
    match provider {
        Provider::Mistral => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        _ => Refusal::unreadable(error),
    }
}

#[derive(Deserialize)]
struct SentCall<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Checks that each call of a tool has its result right after it, and each result its call.
///
/// # Errors
///
/// OpenAI's 400 or Mistral's.
pub(super) fn check_tool_messages(
    provider: Provider,
    messages: &[Message<'_>],
) -> Result<(), Refusal> {
    let mut open: Vec<Cow<'_, str>> = Vec::new();
    for message in messages {
        if message.role == "tool" {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let before = open.len();
            open.retain(|called| called != id);
            if open.len() == before {
                return Err(unmatched(provider, UNCALLED));
            }
            continue;
        }
        if !open.is_empty() {
            return Err(unmatched(provider, UNANSWERED));
        }
        if let Some(calls) = message.tool_calls {
            let calls: Vec<SentCall<'_>> =
                serde_json::from_str(calls.get()).map_err(|error| unreadable(provider, &error))?;
            open = calls.into_iter().map(|call| call.id).collect();
            if provider == Provider::Mistral {
                open.iter().try_for_each(|id| mistral::check_tool_id(id))?;
            }
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    Err(unmatched(provider, UNANSWERED))
}

const UNCALLED: &str = "Invalid parameter: messages with role 'tool' must be a response to a \
    preceeding message with 'tool_calls'.";
const UNANSWERED: &str = "An assistant message with 'tool_calls' must be followed by tool messages \
    responding to each 'tool_call_id'.";

fn unmatched(provider: Provider, words: &'static str) -> Refusal {
    match provider {
        Provider::Mistral => mistral::unmatched_calls(),
        _ => Refusal::bad_field("messages", words),
    }
}
