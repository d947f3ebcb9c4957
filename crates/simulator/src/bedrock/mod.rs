//! AWS Bedrock's Converse API: `POST /model/{id}/converse` and `/converse-stream`.

mod blocks;
mod dialect;
pub(crate) mod error;
mod event_stream;
mod request;
mod signing;

use std::sync::Arc;

use base::Supervisor;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use self::dialect::ConverseDialect;
use crate::caching::{Caching, Marks};
use crate::dialect::to_json;
use crate::engine::EngineState;
use crate::generation::{Asked, Delivery, check_model, compute, generate, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::prefix_cache::Namespace;
use crate::refusal::Refusal;

pub(crate) use error::wrong_key;
pub(crate) use signing::{is_signed, key_id};

/// Answers a conversation.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
    delivery: Delivery,
) -> Result<Answer, Unanswered> {
    let model = &call.path_model;
    check_model(state, model)
        .map_err(|_| Refusal::bad_request("The provided model identifier is invalid."))?;
    let body = read_json(call)?;
    let mut turn = request::read(state, &body).map_err(|invalid| error::refuse(&invalid))?;
    let directives = turn.directives(&call.parts.headers)?;
    let caching = Caching::Marks(Marks {
        namespace: Namespace::of_account("bedrock", call.account, model, ""),
        marks: std::mem::take(&mut turn.marks),
        block_ends: std::mem::take(&mut turn.block_ends),
        least: state.config.provider_cache_tokens_min,
    });
    let asked = Asked {
        call: call.number,
        model: model.clone(),
        caching,
        salted: false,
        priority: 0,
        replies: turn.replies(state, model, &directives),
        faults: directives.faults,
        delivery,
        dialect: Box::new(ConverseDialect {
            seed: state.config.seed,
        }),
        prompts: vec![turn.prompt],
    };
    generate(state, supervisor, asked).await
}

/// What counting takes of a conversation.
const COUNTED: [&str; 4] = [
    "additionalModelRequestFields",
    "messages",
    "system",
    "toolConfig",
];

/// Counts the tokens of a conversation that would be sent: `POST /model/{id}/count-tokens`.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn count_tokens(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    check_model(state, &call.path_model)
        .map_err(|_| Refusal::bad_request("The provided model identifier is invalid."))?;
    let body = read_json(call)?;
    let conversation = &body["input"]["converse"];
    let fields = conversation.as_object().ok_or_else(|| {
        Refusal::bad_request("The request has no conversation in `input.converse`.")
    })?;
    if let Some(name) = fields.keys().find(|name| !COUNTED.contains(&&***name)) {
        let message = format!("extraneous key [{name}] is not permitted");
        return Err(Refusal::bad_request(message).into());
    }
    let turn = request::read(state, conversation).map_err(|invalid| error::refuse(&invalid))?;
    let faults = turn.directives(&call.parts.headers)?.faults;
    let count = json!({"inputTokens": turn.prompt.tokens()});
    compute(state, supervisor, &faults, 0, || to_json(&count)).await
}

/// Checks the signature of a call, where the configuration has a pair of keys.
///
/// # Errors
///
/// A call that is neither signed nor has the API key, and a signature that is not right.
pub(crate) fn check_signature(state: &EngineState, call: &Call) -> Result<(), Refusal> {
    let Some(key) = &state.config.aws_key else {
        return Ok(());
    };
    let headers = &call.parts.headers;
    if is_signed(headers) {
        return signing::verify(key, call, state.clock.now());
    }
    match (&state.config.api_key, has_bearer(headers)) {
        // The API key was right, or the call would not be here.
        (Some(_), true) => Ok(()),
        (None, true) => Err(wrong_key(Some(""))),
        (_, false) => Err(Refusal {
            code: Some("MissingAuthenticationTokenException"),
            ..Refusal::new(StatusCode::FORBIDDEN, "Missing Authentication Token")
        }),
    }
}

fn has_bearer(headers: &HeaderMap) -> bool {
    let authorization = headers.get(AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"Bearer "))
}
