//! What OpenAI and Mistral refuse and an engine of one's own passes over: names that they do not
//! know, and conversations in which calls of tools and their results do not match.

use std::borrow::Cow;
use std::collections::HashMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
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

/// The names in a chat's messages, those of answers that are sent back among them.
const MESSAGE: Known = Known {
    openai: &[
        "annotations",
        "audio",
        "content",
        "function_call",
        "name",
        "refusal",
        "role",
        "tool_call_id",
        "tool_calls",
    ],
    mistral: &[
        "content",
        "name",
        "prefix",
        "role",
        "tool_call_id",
        "tool_calls",
    ],
};

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

/// An object, with its fields unread.
type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// Refuses names that the provider does not know.
///
/// # Errors
///
/// OpenAI's 400 or Mistral's 422, with the first such name.
pub(super) fn check_names(call: &Call, known: &Known) -> Result<(), Refusal> {
    let provider = call.api.manners();
    if provider == Provider::Vllm {
        return Ok(());
    }
    let body: Members<'_> =
        serde_json::from_slice(&call.body).map_err(|error| unreadable(provider, &error))?;
    known.check(provider, &body, &[])?;
    let Some(messages) = body.get("messages") else {
        return Ok(());
    };
    let messages: Vec<Members<'_>> =
        serde_json::from_str(messages.get()).map_err(|error| unreadable(provider, &error))?;
    for (place, message) in messages.iter().enumerate() {
        MESSAGE.check(provider, message, &["messages", &place.to_string()])?;
    }
    Ok(())
}

impl Known {
    /// Checks an object that stands at `path`.
    fn check(
        &self,
        provider: Provider,
        members: &Members<'_>,
        path: &[&str],
    ) -> Result<(), Refusal> {
        let names = match provider {
            Provider::Mistral => self.mistral,
            Provider::OpenAi | Provider::Vllm => self.openai,
        };
        let unknown = members
            .iter()
            .filter(|(name, _)| !names.contains(&&***name));
        let Some((name, value)) = unknown.min_by(|(left, _), (right, _)| left.cmp(right)) else {
            return Ok(());
        };
        let shown: String = name.chars().take(200).collect();
        if provider == Provider::Mistral {
            let loc = [&["body"], path, &[&shown]].concat();
            return Err(mistral::extra_forbidden(&loc, value.get()));
        }
        let path = match path {
            [list, place] => format!("{list}[{place}].{shown}"),
            _ => shown,
        };
        Err(Refusal {
            code: Some("unknown_parameter"),
            param: Some(path.clone().into()),
            ..Refusal::bad_request(format!("Unknown parameter: '{path}'."))
        })
    }
}

/// Checks a schema that has to be followed to the letter: each of its objects says that it has no
/// further members, and requires all that it has.
///
/// # Errors
///
/// OpenAI's 400.
pub(super) fn check_strict_schema(what: &str, schema: &Value) -> Result<(), Refusal> {
    let problem = match schema {
        Value::Object(members) => {
            let properties = members.get("properties").and_then(Value::as_object);
            let is_object = properties.is_some() || members.get("type") == Some(&"object".into());
            let required = members.get("required").and_then(Value::as_array);
            let is_required = |name: &String| {
                required.is_some_and(|names| names.iter().any(|required| *required == **name))
            };
            if is_object && members.get("additionalProperties") != Some(&Value::Bool(false)) {
                Some("'additionalProperties' is required to be supplied and to be false")
            } else if properties.is_some_and(|properties| !properties.keys().all(is_required)) {
                Some(
                    "'required' is required to be supplied and to be an array including every key \
                     in properties",
                )
            } else {
                None
            }
        }
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(Refusal::bad_request(format!(
            "Invalid schema for {what}: In context=(), {problem}."
        )));
    }
    let inner: Vec<&Value> = match schema {
        Value::Object(members) => members.values().collect(),
        Value::Array(values) => values.iter().collect(),
        _ => Vec::new(),
    };
    inner
        .into_iter()
        .try_for_each(|inner| check_strict_schema(what, inner))
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
