//! The life of a call that generates: a slot, the prefill, the tokens, the answer. What differs
//! between protocols is their `Dialect`.

use std::sync::Arc;

use base::Supervisor;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::beats::steps;
use crate::body::EngineBody;
use crate::caching::{Caching, Rounding};
use crate::dialect::{Counts, Dialect, Told};
use crate::engine::{EngineState, Work};
use crate::faults::{Faults, Load, Spoil};
use crate::http::{Answer, Call, ContentType, Unanswered};
use crate::prefix_cache::{Account, Namespace};
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::slots::Slot;
use crate::stream::{GARBAGE, TokenStream};

/// What a call asks for, whatever its endpoint.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The call's number in this engine.
    pub(crate) call: u64,
    /// The model, which the engine serves.
    pub(crate) model: String,
    /// How the prompts are cached.
    pub(crate) caching: Caching,
    /// Whether the request has a salt of its own.
    pub(crate) salted: bool,
    /// When it is the call's turn, lower first.
    pub(crate) priority: i64,
    /// What the engine reads.
    pub(crate) prompts: Vec<Prompt>,
    /// What it will say: the choices, in order.
    pub(crate) replies: Vec<Reply>,
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
    /// As events.
    Stream,
}

impl Delivery {
    /// From a request's `stream`.
    pub(crate) fn read(stream: Option<bool>) -> Self {
        match stream {
            Some(true) => Self::Stream,
            _ => Self::Whole,
        }
    }
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
    let slot = take_slot(state, supervisor, &asked.faults, asked.priority).await?;
    let work = state.prefill(slot, &asked.caching, &asked.prompts).await;
    let counts = count(&asked, &work);
    let steps = steps(&asked.replies);
    let told = Told {
        call: asked.call,
        model: asked.model,
        created: state.created(),
        salted: asked.salted,
        counts,
        report: asked.faults.usage,
        latency_ms: state.latency_ms(counts.prompt - counts.cached, steps),
        replies: asked.replies,
    };
    let mut headers = HeaderMap::new();
    asked.dialect.write_headers(&told, &mut headers);
    let (content_type, body) = match asked.delivery {
        Delivery::Whole => {
            if let Some(due) = work.due(steps) {
                tokio::time::sleep_until(due).await;
            }
            work.count_tokens(counts.output);
            work.finish();
            let json = asked.dialect.write_whole(&told);
            (ContentType::Json, spoiled(json, asked.faults.spoil)?)
        }
        Delivery::Stream => {
            let content_type = asked.dialect.stream_type();
            let stream = TokenStream::new(work, asked.dialect, told, asked.faults.spoil);
            (content_type, EngineBody::Stream(Box::new(stream)))
        }
    };
    Ok(Answer {
        content_type,
        headers,
        body,
    })
}

fn count(asked: &Asked, work: &Work) -> Counts {
    Counts {
        prompt: asked.prompts.iter().map(Prompt::tokens).sum(),
        cached: work.cache.read,
        written_5m: work.cache.written_5m,
        written_1h: work.cache.written_1h,
        output: asked.replies.iter().map(Reply::tokens).sum(),
        thought: asked.replies.iter().map(Reply::thought_tokens).sum(),
    }
}

/// Waits for a slot, and then lets those faults happen that come before any answer.
pub(crate) async fn take_slot(
    state: &EngineState,
    supervisor: &Supervisor,
    faults: &Faults,
    priority: i64,
) -> Result<Slot, Unanswered> {
    let slot = state.slots.enter(priority).await?;
    match befall(supervisor, faults).await {
        Ok(()) => Ok(slot),
        Err(Unanswered::Dropped) => Err(Unanswered::Dropped),
        Err(refused) => {
            slot.finish();
            Err(refused)
        }
    }
}

/// Lets those faults happen that come before any answer.
///
/// # Errors
///
/// What they ask for.
pub(crate) async fn befall(supervisor: &Supervisor, faults: &Faults) -> Result<(), Unanswered> {
    if let Some(delay) = faults.delay {
        tokio::time::sleep(delay).await;
    }
    if faults.spoil == Some(Spoil::Hang) {
        supervisor.stopping().await;
        return Err(Unanswered::Dropped);
    }
    if let Some(fault) = faults.status {
        return Err(Refusal::from(fault).into());
    }
    if faults.load == Load::Overloaded {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded").into());
    }
    Ok(())
}

/// A call that generates nothing token by token: it waits for a slot, reads `tokens`, and answers
/// with what `render` makes.
///
/// # Errors
///
/// Faults that were asked for, and a full queue.
pub(crate) async fn compute(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    faults: &Faults,
    tokens: usize,
    render: impl FnOnce() -> Vec<u8>,
) -> Result<Answer, Unanswered> {
    let slot = take_slot(state, supervisor, faults, 0).await?;
    state.pass_prefill(tokens).await;
    let json = render();
    slot.finish();
    Ok(Answer::new(ContentType::Json, spoiled(json, faults.spoil)?))
}

/// A whole body, or what `spoil` makes of it.
///
/// # Errors
///
/// The error that was asked for.
fn spoiled(body: Vec<u8>, spoil: Option<Spoil>) -> Result<EngineBody, Refusal> {
    match spoil {
        None | Some(Spoil::Hang) => Ok(EngineBody::Whole(Some(Bytes::from(body)))),
        Some(Spoil::Cut(_)) => Ok(EngineBody::cut_in_the_middle(body)),
        Some(Spoil::Garbage) => Ok(EngineBody::Whole(Some(Bytes::from_static(GARBAGE)))),
        Some(Spoil::Error(_)) => Err(error_fault()),
    }
}

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

/// The caching of a provider that keeps prompts of its own accord, for each account by itself.
pub(crate) fn account_caching(
    state: &EngineState,
    provider: &str,
    account: Account,
    model: &str,
    key: &str,
) -> Caching {
    Caching::Blocks {
        namespace: Namespace::of_account(provider, account, model, key),
        rounding: Rounding {
            least: state.config.provider_cache_tokens_min,
            step: PROVIDER_CACHE_STEP,
        },
    }
}

/// 128: OpenAI's increment.
const PROVIDER_CACHE_STEP: usize = 128;

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

/// Reads a body as JSON.
///
/// # Errors
///
/// A body that is none.
pub(crate) fn read_json(call: &Call) -> Result<serde_json::Value, Refusal> {
    serde_json::from_slice(&call.body).map_err(|error| Refusal::unreadable(&error))
}
