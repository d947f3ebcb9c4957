//! Google's Gemini API, and the same in a project of Google Cloud (Vertex AI):
//! `…/models/{model}:{action}`.

mod dialect;
mod embed;
pub(crate) mod error;
pub(crate) mod models;
mod parts;
mod request;
mod schema;

use std::sync::Arc;

use base::Supervisor;
use http::StatusCode;
use serde_json::json;

use self::dialect::{Framing, GeminiDialect};
use crate::api::Api;
use crate::dialect::to_json;
use crate::engine::EngineState;
use crate::generation::{
    Asked, Delivery, account_caching, check_model, compute, generate, read_json,
};
use crate::http::{Answer, Call, Unanswered};
use crate::refusal::Refusal;

pub(crate) use error::wrong_key;

/// What a call asks a model to do: the word after the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Generate,
    Stream,
    CountTokens,
    Embed,
    BatchEmbed,
    /// Vertex's way to embed.
    Predict,
}

impl Action {
    /// The action of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "generateContent" => Some(Self::Generate),
            "streamGenerateContent" => Some(Self::Stream),
            "countTokens" => Some(Self::CountTokens),
            "embedContent" => Some(Self::Embed),
            "batchEmbedContents" => Some(Self::BatchEmbed),
            "predict" => Some(Self::Predict),
            _ => None,
        }
    }
}

/// Answers an action.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
    action: Action,
) -> Result<Answer, Unanswered> {
    let model = &call.path_model;
    check_served(state, model)?;
    let delivery = match action {
        Action::Generate => Delivery::Whole,
        Action::Stream => Delivery::Stream,
        Action::CountTokens => return count_tokens(state, supervisor, call).await,
        Action::Embed => return embed::one(state, supervisor, call).await,
        Action::BatchEmbed => return embed::batch(state, supervisor, call).await,
        Action::Predict if call.api == Api::Vertex => {
            return embed::predict(state, supervisor, call).await;
        }
        Action::Predict => return Err(Refusal::not_found().into()),
    };
    let body = read_json(call)?;
    let request = request::read(state, call, &body).map_err(|invalid| error::refuse(&invalid))?;
    if request.names_a_cache {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "CachedContent not found (or permission denied)",
        )
        .into());
    }
    let directives = request.turn.directives(&call.parts.headers)?;
    let asked = Asked {
        call: call.number,
        model: model.clone(),
        caching: account_caching(state, "gemini", call.account, model, project(call)),
        salted: false,
        priority: 0,
        replies: request.turn.replies(state, model, &directives),
        faults: directives.faults,
        delivery,
        dialect: Box::new(GeminiDialect::new(
            state.config.seed,
            request.thoughts,
            Framing::of(call.parts.uri.query()),
        )),
        prompts: vec![request.turn.prompt],
    };
    generate(state, supervisor, asked).await
}

async fn count_tokens(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let turn =
        request::read_counted(state, call, &body).map_err(|invalid| error::refuse(&invalid))?;
    let faults = turn.directives(&call.parts.headers)?.faults;
    let tokens = turn.prompt.tokens();
    let count = json!({
        "totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    });
    compute(state, supervisor, &faults, 0, || to_json(&count)).await
}

/// The project that a path of Vertex names, whose cache is its own; else nothing.
fn project(call: &Call) -> &str {
    let path = call.parts.uri.path();
    let rest = path.split_once("/projects/").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split('/').next())
        .unwrap_or_default()
}

fn check_served(state: &EngineState, model: &str) -> Result<(), Refusal> {
    check_model(state, model).map_err(|_| {
        let shown: String = model.chars().take(200).collect();
        let message = format!(
            "models/{shown} is not found for API version v1beta, or is not supported for \
             generateContent. Call ListModels to see the list of available models and their \
             supported methods."
        );
        Refusal::new(StatusCode::NOT_FOUND, message)
    })
}
