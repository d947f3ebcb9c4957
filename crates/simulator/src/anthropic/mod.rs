//! Anthropic's Messages API: `POST /v1/messages`, `/v1/messages/count_tokens`, `GET /v1/models`.

mod blocks;
mod dialect;
pub(crate) mod error;
pub(crate) mod models;
mod request;

use std::sync::Arc;

use base::Supervisor;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use self::dialect::MessageDialect;
use self::request::Purpose;
use crate::caching::{Caching, Marks};
use crate::dialect::to_json;
use crate::engine::EngineState;
use crate::generation::{Asked, check_model, compute, generate, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::prefix_cache::Namespace;
use crate::refusal::Refusal;

/// Versions of the API that there ever were.
const VERSIONS: [&str; 2] = ["2023-06-01", "2023-01-01"];

/// Answers a message.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    check_version(&call.parts.headers)?;
    let body = read_json(call)?;
    let request =
        request::read(state, &body, Purpose::Answer).map_err(|invalid| error::refuse(&invalid))?;
    check_served(state, request.model)?;
    let mut turn = request.turn;
    let directives = turn.directives(&call.parts.headers)?;
    let caching = Caching::Marks(Marks {
        namespace: Namespace::of_account("anthropic", call.account, request.model, ""),
        marks: std::mem::take(&mut turn.marks),
        block_ends: std::mem::take(&mut turn.block_ends),
        least: state.config.provider_cache_tokens_min,
    });
    let asked = Asked {
        call: call.number,
        model: request.model.to_owned(),
        caching,
        salted: false,
        priority: 0,
        replies: turn.replies(state, request.model, &directives),
        faults: directives.faults,
        delivery: request.delivery,
        dialect: Box::new(MessageDialect::new(state)),
        prompts: vec![turn.prompt],
    };
    generate(state, supervisor, asked).await
}

/// Counts the tokens of a message that would be sent.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn count_tokens(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    check_version(&call.parts.headers)?;
    let body = read_json(call)?;
    let request =
        request::read(state, &body, Purpose::Count).map_err(|invalid| error::refuse(&invalid))?;
    check_served(state, request.model)?;
    let faults = request.turn.directives(&call.parts.headers)?.faults;
    let count = json!({"input_tokens": request.turn.prompt.tokens()});
    compute(state, supervisor, &faults, 0, || to_json(&count)).await
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let version = headers.get("anthropic-version");
    match version.map(|version| version.to_str().unwrap_or_default()) {
        None => Err(Refusal::bad_request(
            "anthropic-version: header is required",
        )),
        Some(version) if VERSIONS.contains(&version) => Ok(()),
        Some(_) => Err(Refusal::bad_request(
            "anthropic-version: is not a valid version",
        )),
    }
}

fn check_served(state: &EngineState, model: &str) -> Result<(), Refusal> {
    check_model(state, model).map_err(|_| {
        let shown: String = model.chars().take(200).collect();
        Refusal::new(StatusCode::NOT_FOUND, format!("model: {shown}"))
    })
}
