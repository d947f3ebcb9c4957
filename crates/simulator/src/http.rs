//! Requests in, answers out: the route, the key, the body, and the answer's head.

use std::sync::Arc;

use base::Supervisor;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use crate::api::Api;
use crate::body::EngineBody;
use crate::engine::EngineState;
use crate::prefix_cache::Account;
use crate::refusal::Refusal;
use crate::routes::{self, Endpoint, Route};
use crate::{anthropic, bedrock, cohere, gemini, openai, vllm};

/// The connection breaks here, as the request asked, or because the engine stops.
#[derive(Debug, thiserror::Error)]
#[error("the simulator cuts this connection")]
pub(crate) struct Cut;

/// Why a call gets no answer of its own.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It gets an error.
    Refused(Refusal),
    /// It gets nothing at all.
    Dropped,
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) content_type: ContentType,
    pub(crate) headers: HeaderMap,
    pub(crate) body: EngineBody,
}

/// What an answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    /// Server-sent events.
    EventStream,
    /// AWS's binary frames.
    AwsEventStream,
    Text,
    /// Prometheus.
    Metrics,
}

/// A request's parts and its whole body, and what its head says.
#[derive(Debug)]
pub(crate) struct Call {
    /// Its number in this engine.
    pub(crate) number: u64,
    pub(crate) parts: request::Parts,
    pub(crate) body: Bytes,
    /// Whose manners it wants.
    pub(crate) api: Api,
    /// Who calls.
    pub(crate) account: Account,
    /// The model or deployment that the path names; else empty.
    pub(crate) path_model: String,
}

/// Answers one request. An error closes the connection without an answer.
pub(crate) async fn answer(
    state: Arc<EngineState>,
    supervisor: Supervisor,
    request: Request<Incoming>,
) -> Result<Response<EngineBody>, Cut> {
    let api = Api::of(&state.config, &request);
    match serve(&state, &supervisor, request, api).await {
        Ok(answer) => Ok(answer.into_response(api, &state)),
        Err(Unanswered::Refused(refusal)) => Ok(refused(&state, api, &refusal)),
        Err(Unanswered::Dropped) => Err(Cut),
    }
}

async fn serve(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    request: Request<Incoming>,
    api: Api,
) -> Result<Answer, Unanswered> {
    let route = routes::find(state, api, &request)?;
    if route.endpoint.needs_key() {
        api.check_key(&state.config, &request)?;
    }
    match &route.endpoint {
        Endpoint::Health => return Ok(Answer::json("{\"status\":\"ok\"}")),
        Endpoint::Metrics => {
            let body = EngineBody::whole(vllm::metrics::render(state));
            return Ok(Answer::new(ContentType::Metrics, body));
        }
        Endpoint::Models => return Ok(api.models(state)),
        Endpoint::Model(model) => return Ok(api.model(state, model)?),
        _ => {}
    }
    let (endpoint, call) = receive(state, request, route, api).await?;
    if api == Api::Bedrock {
        bedrock::check_signature(state, &call)?;
    }
    dispatch(state, supervisor, endpoint, &call).await
}

async fn dispatch(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    endpoint: Endpoint,
    call: &Call,
) -> Result<Answer, Unanswered> {
    match endpoint {
        Endpoint::Chat => openai::chat::answer(state, supervisor, call).await,
        Endpoint::Completions => openai::completions::answer(state, supervisor, call).await,
        Endpoint::Embeddings => openai::embeddings::answer(state, supervisor, call).await,
        Endpoint::Responses => openai::responses::answer(state, supervisor, call).await,
        Endpoint::Moderations => openai::moderations::answer(state, supervisor, call).await,
        Endpoint::LoadAdapter => vllm::lora::load(state, supervisor, call).await,
        Endpoint::UnloadAdapter => vllm::lora::unload(state, supervisor, call).await,
        Endpoint::LoraxGenerate(delivery) => {
            vllm::lorax::answer(state, supervisor, call, delivery).await
        }
        Endpoint::Messages => anthropic::answer(state, supervisor, call).await,
        Endpoint::CountTokens => anthropic::count_tokens(state, supervisor, call).await,
        Endpoint::ResponseInputTokens => {
            openai::responses::count_tokens(state, supervisor, call).await
        }
        Endpoint::Tokenize => openai::chat::tokenize(state, supervisor, call).await,
        Endpoint::Gemini(action) => gemini::answer(state, supervisor, call, action).await,
        Endpoint::Converse(delivery) => bedrock::answer(state, supervisor, call, delivery).await,
        Endpoint::ConverseTokens => bedrock::count_tokens(state, supervisor, call).await,
        Endpoint::CohereChat => cohere::chat::answer(state, supervisor, call).await,
        Endpoint::CohereEmbed => cohere::embed::answer(state, supervisor, call).await,
        Endpoint::Rerank(shape) => cohere::rerank::answer(state, supervisor, call, shape).await,
        Endpoint::Health | Endpoint::Metrics | Endpoint::Models | Endpoint::Model(_) => {
            Err(Refusal::not_found().into())
        }
    }
}

async fn receive(
    state: &EngineState,
    request: Request<Incoming>,
    route: Route,
    api: Api,
) -> Result<(Endpoint, Call), Refusal> {
    let credential = api.credential(&request);
    let account = Account::of(credential.as_deref());
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, state.config.body_bytes_max);
    let body = limited.collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.")
        } else {
            Refusal::bad_request("The body did not arrive whole.")
        }
    })?;
    let body = body.to_bytes();
    let call = Call {
        number: state.note_call(&parts, &body),
        parts,
        body,
        api,
        account,
        path_model: route.model,
    };
    Ok((route.endpoint, call))
}

fn refused(state: &EngineState, api: Api, refusal: &Refusal) -> Response<EngineBody> {
    let error = api.error(refusal, &state.request_id());
    let answer = Answer {
        content_type: ContentType::Json,
        headers: error.headers,
        body: EngineBody::whole(error.body),
    };
    let mut response = answer.into_response(api, state);
    *response.status_mut() = error.status;
    if let Some(seconds) = refusal.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

impl Answer {
    /// An answer without headers of its own.
    pub(crate) fn new(content_type: ContentType, body: EngineBody) -> Self {
        Self {
            content_type,
            headers: HeaderMap::new(),
            body,
        }
    }

    /// A small JSON answer.
    pub(crate) fn json(json: impl Into<Bytes>) -> Self {
        Self::new(ContentType::Json, EngineBody::whole(json))
    }

    fn into_response(self, api: Api, state: &EngineState) -> Response<EngineBody> {
        let content_type = match self.content_type {
            ContentType::Json => "application/json",
            ContentType::EventStream => "text/event-stream; charset=utf-8",
            ContentType::AwsEventStream => "application/vnd.amazon.eventstream",
            ContentType::Text => "text/plain; charset=utf-8",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        };
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        *headers = self.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.content_type == ContentType::EventStream {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        api.write_headers(state, headers);
        response
    }
}
