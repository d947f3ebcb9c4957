//! The life of a call that generates: a slot, the prefill, the tokens, the answer. What differs
//! between chats and completions is their `Dialect`.

use std::sync::Arc;

use base::Supervisor;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::dialect::{Dialect, write_json};
use crate::engine::{EngineState, Work};
use crate::faults::{Faults, Spoil, UsageReport};
use crate::http::{Answer, ContentType, EngineBody, Unanswered};
use crate::prefix_cache::Namespace;
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::slots::Slot;
use crate::stream::{Frames, TokenStream};
use crate::text::Output;

/// Choices of one call at most. 128: OpenAI's bound of `n`.
pub(crate) const CHOICES_MAX: usize = 128;

/// Characters of a `cache_salt` at most, as in vLLM.
const SALT_CHARS_MAX: usize = 128;

/// What a call asks for, whatever its endpoint.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The call's number in this engine.
    pub(crate) call: u64,
    /// The model, which the engine serves.
    pub(crate) model: String,
    /// The salt of the prefix cache, which fits vLLM's rule.
    pub(crate) salt: Option<String>,
    /// What the engine reads.
    pub(crate) prompts: Vec<Prompt>,
    /// What it will say: the choices, in order.
    pub(crate) outputs: Vec<Output>,
    /// What shall go wrong.
    pub(crate) faults: Faults,
    /// How the answer travels.
    pub(crate) delivery: Delivery,
    /// How it is written.
    pub(crate) dialect: Box<dyn Dialect>,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In one piece.
    Whole,
    /// A chunk per token; with the usage in a chunk of its own at the end, or without.
    Stream(StreamUsage),
}

/// Whether a stream ends with a chunk that says what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamUsage {
    /// `include_usage` was not asked for.
    NotAsked,
    /// The last chunk has it, and the others a `null`.
    Asked,
}

/// A request's `stream_options`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    include_usage: Option<bool>,
}

/// OpenAI's `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PromptTokensDetails {
    cached_tokens: usize,
}

/// Generates what was asked for.
///
/// # Errors
///
/// Faults that were asked for, and a full queue.
///
/// # Cancel safety
///
/// Dropped, the call frees its slot and counts as cancelled; so does a stream that is dropped.
pub(crate) async fn generate(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    asked: Asked,
) -> Result<Answer, Unanswered> {
    let slot = take_slot(state, supervisor, &asked.faults).await?;
    let namespace = Namespace::new(&asked.model, asked.salt.as_deref());
    let work = state.prefill(slot, namespace, &asked.prompts).await;
    let usage = Usage::new(&asked, &work);
    let mut head = Vec::with_capacity(512);
    write_head(&mut head, &asked, &work, state);
    match asked.delivery {
        Delivery::Whole => answer_whole(asked, work, usage, head).await,
        Delivery::Stream(wanted) => {
            let usage = (wanted == StreamUsage::Asked).then_some(usage);
            let report = asked.faults.usage;
            let frames = Frames::new(head, asked.dialect, asked.outputs, usage, report);
            let stream = TokenStream::new(work, frames, asked.faults.spoil);
            Ok(Answer {
                content_type: ContentType::EventStream,
                body: EngineBody::Stream(Box::new(stream)),
            })
        }
    }
}

/// Waits for a slot, and lets those faults happen that come before any answer.
pub(crate) async fn take_slot(
    state: &EngineState,
    supervisor: &Supervisor,
    faults: &Faults,
) -> Result<Slot, Unanswered> {
    let slot = state.slots.enter().await?;
    if let Some(delay) = faults.delay {
        tokio::time::sleep(delay).await;
    }
    if faults.spoil == Some(Spoil::Hang) {
        supervisor.stopping().await;
        return Err(Unanswered::Dropped);
    }
    if let Some(fault) = faults.status {
        slot.finish();
        return Err(Refusal::from(fault).into());
    }
    Ok(slot)
}

/// A whole body, or what `spoil` makes of it.
///
/// # Errors
///
/// The error that was asked for.
pub(crate) fn spoiled(body: Vec<u8>, spoil: Option<Spoil>) -> Result<EngineBody, Refusal> {
    match spoil {
        None | Some(Spoil::Hang) => Ok(EngineBody::Whole(Some(Bytes::from(body)))),
        Some(Spoil::Cut(_)) => Ok(EngineBody::cut_in_the_middle(body)),
        Some(Spoil::Garbage) => Ok(EngineBody::Whole(Some(Bytes::from_static(GARBAGE)))),
        Some(Spoil::Error(_)) => Err(error_fault()),
    }
}

/// No JSON, and no UTF-8 either.
pub(crate) const GARBAGE: &[u8] = b"{\"id\": \"garbage\", \"choices\": [{\xff\xfe<<< not json";

/// The error that the fault `error` asks for.
pub(crate) fn error_fault() -> Refusal {
    Refusal {
        code: Some("sim_error"),
        ..Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The simulator fails, as this request asked.",
        )
    }
}

/// Checks a salt by vLLM's rule.
///
/// # Errors
///
/// A salt that vLLM refuses; none, where the engine requires one.
pub(crate) fn check_salt(state: &EngineState, salt: Option<&str>) -> Result<(), Refusal> {
    let refused = |message: &'static str| Err(Refusal::bad_field("cache_salt", message));
    match salt {
        None if state.config.require_salt => {
            refused("This engine is shared: `cache_salt` is required.")
        }
        None => Ok(()),
        Some("") => refused("`cache_salt` must not be empty."),
        Some(salt) if salt.chars().count() > SALT_CHARS_MAX => {
            refused("`cache_salt` has at most 128 characters.")
        }
        Some(salt) if salt.contains(['@', '/', '\\', '\0']) => {
            refused("`cache_salt` must not contain '@', '/', '\\' or NUL.")
        }
        Some(_) => Ok(()),
    }
}

/// Checks that the engine serves `model`.
///
/// # Errors
///
/// OpenAI's 404 if it does not.
pub(crate) fn check_model(state: &EngineState, model: &str) -> Result<(), Refusal> {
    if state.config.models.iter().any(|served| served == model) {
        Ok(())
    } else {
        Err(Refusal::no_such_model(model))
    }
}

impl Delivery {
    /// From a request's `stream` and `stream_options`.
    pub(crate) fn read(stream: Option<bool>, options: Option<&StreamOptions>) -> Self {
        let include_usage = options.and_then(|options| options.include_usage);
        match (stream, include_usage) {
            (Some(true), Some(true)) => Self::Stream(StreamUsage::Asked),
            (Some(true), _) => Self::Stream(StreamUsage::NotAsked),
            _ => Self::Whole,
        }
    }
}

impl Usage {
    fn new(asked: &Asked, work: &Work) -> Self {
        let prompt_tokens = asked.prompts.iter().map(Prompt::tokens).sum();
        let completion_tokens = asked
            .outputs
            .iter()
            .map(|output| u64::from(output.tokens))
            .sum();
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens as u64 + completion_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: work.cached_tokens,
            },
        }
    }
}

/// The fields before `choices`, from the opening brace on.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    x_sim: Extra,
}

/// A field that no API knows, so that passing on what is unknown can be tested.
#[derive(Serialize)]
struct Extra {
    call: u64,
    salted: bool,
    cached_tokens: usize,
}

/// Appends all up to where the choices stand: `{…,"choices":[`.
fn write_head(json: &mut Vec<u8>, asked: &Asked, work: &Work, state: &EngineState) {
    let names = asked.dialect.names();
    let head = Head {
        id: format!("{}sim-{}", names.id_prefix, asked.call),
        object: match asked.delivery {
            Delivery::Whole => names.whole,
            Delivery::Stream(_) => names.chunk,
        },
        created: state.created(),
        model: &asked.model,
        system_fingerprint: "fp_simulator",
        x_sim: Extra {
            call: asked.call,
            salted: asked.salt.is_some(),
            cached_tokens: work.cached_tokens,
        },
    };
    write_json(json, &head);
    json.pop();
    json.extend_from_slice(b",\"choices\":[");
}

async fn answer_whole(
    asked: Asked,
    work: Work,
    usage: Usage,
    head: Vec<u8>,
) -> Result<Answer, Unanswered> {
    let steps = asked.outputs.iter().map(|output| output.tokens).max();
    if let Some(due) = work.due(steps.unwrap_or(0).into()) {
        tokio::time::sleep_until(due).await;
    }
    work.count_tokens(usage.completion_tokens);
    let mut json = head;
    for (index, output) in asked.outputs.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        asked.dialect.write_choice(&mut json, index, output);
    }
    json.push(b']');
    if asked.faults.usage == UsageReport::Given {
        json.extend_from_slice(b",\"usage\":");
        write_json(&mut json, &usage);
    }
    json.push(b'}');
    work.finish();
    Ok(Answer {
        content_type: ContentType::Json,
        body: spoiled(json, asked.faults.spoil)?,
    })
}
