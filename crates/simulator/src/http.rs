//! Requests in, answers out: the routes, the key, the bodies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::Supervisor;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::json;

use crate::engine::EngineState;
use crate::refusal::Refusal;
use crate::stream::TokenStream;
use crate::{chat, completions, embeddings, metrics};

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
    pub(crate) body: EngineBody,
}

/// What an answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    EventStream,
    /// Prometheus.
    Metrics,
}

/// A request's parts and its whole body.
#[derive(Debug)]
pub(crate) struct Call {
    /// Its number in this engine.
    pub(crate) number: u64,
    pub(crate) parts: request::Parts,
    pub(crate) body: Bytes,
}

/// Answers one request. An error closes the connection without an answer.
pub(crate) async fn answer(
    state: Arc<EngineState>,
    supervisor: Supervisor,
    request: Request<Incoming>,
) -> Result<Response<EngineBody>, Cut> {
    match route(&state, &supervisor, request).await {
        Ok(answer) => Ok(answer.into_response()),
        Err(Unanswered::Refused(refusal)) => Ok(refused(&refusal)),
        Err(Unanswered::Dropped) => Err(Cut),
    }
}

async fn route(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    request: Request<Incoming>,
) -> Result<Answer, Unanswered> {
    let path = request.uri().path();
    if path.starts_with("/v1/") {
        check_key(state, &request)?;
    }
    let is_post = request.method() == Method::POST;
    let is_get = request.method() == Method::GET;
    match path {
        "/v1/chat/completions" if is_post => {
            let call = receive(state, request).await?;
            chat::answer(state, supervisor, &call).await
        }
        "/v1/completions" if is_post => {
            let call = receive(state, request).await?;
            completions::answer(state, supervisor, &call).await
        }
        "/v1/embeddings" if is_post => {
            let call = receive(state, request).await?;
            embeddings::answer(state, supervisor, &call).await
        }
        "/v1/models" if is_get => Ok(Answer::json(models(state).to_string())),
        "/health" if is_get => Ok(Answer::json(json!({"status": "ok"}).to_string())),
        "/metrics" if is_get => Ok(Answer {
            content_type: ContentType::Metrics,
            body: EngineBody::Whole(Some(metrics::render(state).into())),
        }),
        "/v1/chat/completions"
        | "/v1/completions"
        | "/v1/embeddings"
        | "/v1/models"
        | "/health"
        | "/metrics" => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "This method is not allowed here.",
        )
        .into()),
        path => match path.strip_prefix("/v1/models/").filter(|_| is_get) {
            // Clients escape the slash in `openai/gpt-4o`, and nothing else in the names we know.
            Some(model) => Ok(model_answer(state, &model.replace("%2F", "/"))?),
            None => Err(Refusal::new(StatusCode::NOT_FOUND, "There is nothing here.").into()),
        },
    }
}

fn check_key(state: &EngineState, request: &Request<Incoming>) -> Result<(), Refusal> {
    let Some(key) = &state.config.api_key else {
        return Ok(());
    };
    let given = request.headers().get(AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if given == Some(key.as_bytes()) {
        Ok(())
    } else {
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "Incorrect API key provided.",
        ))
    }
}

/// Reads the whole body, within bounds, and counts the call.
async fn receive(state: &EngineState, request: Request<Incoming>) -> Result<Call, Refusal> {
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
    let number = state.note_call(&parts, &body);
    Ok(Call {
        number,
        parts,
        body,
    })
}

fn models(state: &EngineState) -> serde_json::Value {
    let models = state.config.models.iter();
    let data: Vec<_> = models.map(|model| model_object(state, model)).collect();
    json!({"object": "list", "data": data})
}

fn model_object(state: &EngineState, model: &str) -> serde_json::Value {
    json!({"id": model, "object": "model", "created": state.created(), "owned_by": "simulator"})
}

fn model_answer(state: &EngineState, model: &str) -> Result<Answer, Refusal> {
    crate::generation::check_model(state, model)?;
    Ok(Answer::json(model_object(state, model).to_string()))
}

fn refused(refusal: &Refusal) -> Response<EngineBody> {
    let mut response = Answer::json(refusal.body()).into_response();
    *response.status_mut() = refusal.status;
    if let Some(seconds) = refusal.retry_after_seconds {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

impl Answer {
    fn json(text: String) -> Self {
        Self {
            content_type: ContentType::Json,
            body: EngineBody::Whole(Some(text.into())),
        }
    }

    fn into_response(self) -> Response<EngineBody> {
        let content_type = match self.content_type {
            ContentType::Json => "application/json",
            ContentType::EventStream => "text/event-stream; charset=utf-8",
            ContentType::Metrics => "text/plain; version=0.0.4; charset=utf-8",
        };
        let mut response = Response::new(self.body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.content_type == ContentType::EventStream {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        response
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum EngineBody {
    /// In one piece, which hyper sends together with the head; `None` once it was taken.
    Whole(Option<Bytes>),
    /// The first half of a body whose whole length was announced; then the connection breaks.
    Half {
        /// Until it was taken.
        first: Option<Bytes>,
        /// Whether hyper had its turn to flush it.
        flushed: Flushed,
        /// Bytes that the head promises.
        announced: u64,
    },
    /// Frame by frame.
    Stream(Box<TokenStream>),
}

/// Whether hyper had its turn to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    NotYet,
    Done,
}

impl EngineBody {
    /// Announces `body` and breaks the connection in its middle.
    pub(crate) fn cut_in_the_middle(body: Vec<u8>) -> Self {
        let announced = body.len() as u64;
        let mut first = Bytes::from(body);
        first.truncate(first.len() / 2);
        Self::Half {
            first: Some(first),
            flushed: Flushed::NotYet,
            announced,
        }
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Half { first, flushed, .. } => match (first.take(), &flushed) {
                (Some(bytes), _) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                (None, Flushed::NotYet) => {
                    *flushed = Flushed::Done;
                    // hyper flushes what it has while this waits, and drops it on an error.
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                (None, Flushed::Done) => Poll::Ready(Some(Err(Cut))),
            },
            Self::Stream(stream) => stream
                .poll_next(cx)
                .map(|next| next.map(|frame| frame.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Half { .. } => false,
            Self::Stream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Half { announced, .. } => SizeHint::with_exact(*announced),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
