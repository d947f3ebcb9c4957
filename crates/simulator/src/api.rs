//! Whose manners a request wants: where the key stands, how errors are written, which headers
//! come with an answer.

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode};

use crate::config::{EngineConfig, Provider};
use crate::engine::EngineState;
use crate::generation::check_model;
use crate::http::Answer;
use crate::refusal::Refusal;
use crate::routes::query;
use crate::{anthropic, bedrock, cohere, gemini, openai, vllm};

/// An API that the simulator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// The paths that OpenAI and its imitations share, with the manners of one of them.
    OpenAi(Provider),
    Azure,
    Anthropic,
    /// Google's, with an API key.
    Gemini,
    /// Google's, in a project of Google Cloud.
    Vertex,
    Bedrock,
    Cohere,
    Lorax,
}

/// An error as a provider writes it.
#[derive(Debug)]
pub(crate) struct ErrorAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Api {
    /// Known by the path and, where two share one, by a header.
    pub(crate) fn of<B>(config: &EngineConfig, request: &Request<B>) -> Self {
        let path = request.uri().path();
        let is_anthropic = request.headers().contains_key("anthropic-version");
        if path.starts_with("/v1/messages") || (is_anthropic && path.starts_with("/v1/models")) {
            Self::Anthropic
        } else if path.starts_with("/openai/") {
            Self::Azure
        } else if path.starts_with("/v1beta/") {
            Self::Gemini
        } else if path.starts_with("/v1/projects/") || path.starts_with("/v1beta1/projects/") {
            Self::Vertex
        } else if path.starts_with("/model/") {
            Self::Bedrock
        } else if path.starts_with("/generate") {
            Self::Lorax
        } else if path.starts_with("/v2/") {
            Self::Cohere
        } else {
            Self::OpenAi(config.provider)
        }
    }

    /// Whose rules a request at OpenAI's endpoints is read by.
    pub(crate) fn manners(self) -> Provider {
        match self {
            Self::OpenAi(provider) => provider,
            _ => Provider::OpenAi,
        }
    }

    /// The credential of a request, as the provider looks for it.
    pub(crate) fn credential<B>(self, request: &Request<B>) -> Option<String> {
        let headers = request.headers();
        let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let authorization = header(AUTHORIZATION.as_str());
        let bearer = authorization
            .as_deref()
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::to_owned);
        match self {
            Self::OpenAi(_) | Self::Cohere | Self::Vertex | Self::Lorax => bearer,
            Self::Azure => header("api-key").or(bearer),
            Self::Anthropic => header("x-api-key").or(bearer),
            Self::Gemini => {
                let in_query = || query(request, "key").map(str::to_owned);
                header("x-goog-api-key").or_else(in_query).or(bearer)
            }
            Self::Bedrock => bearer.or_else(|| bedrock::key_id(headers)),
        }
    }

    /// Checks the key, where the configuration has one.
    ///
    /// # Errors
    ///
    /// No key, or another.
    pub(crate) fn check_key<B>(
        self,
        config: &EngineConfig,
        request: &Request<B>,
    ) -> Result<(), Refusal> {
        let Some(key) = &config.api_key else {
            return Ok(());
        };
        if self == Self::Bedrock
            && config.aws_key.is_some()
            && bedrock::is_signed(request.headers())
        {
            // The signature is checked once the body is there.
            return Ok(());
        }
        match self.credential(request) {
            Some(given) if given == *key => Ok(()),
            given => Err(self.wrong_key(given.as_deref())),
        }
    }

    fn wrong_key(self, given: Option<&str>) -> Refusal {
        match self {
            Self::OpenAi(_) | Self::Azure | Self::Lorax => {
                Refusal::new(StatusCode::UNAUTHORIZED, "Incorrect API key provided.")
            }
            Self::Anthropic => Refusal::new(StatusCode::UNAUTHORIZED, "invalid x-api-key"),
            Self::Cohere => Refusal::new(StatusCode::UNAUTHORIZED, "invalid api token"),
            Self::Vertex => Refusal::new(
                StatusCode::UNAUTHORIZED,
                "Request had invalid authentication credentials.",
            ),
            Self::Gemini => gemini::wrong_key(given),
            Self::Bedrock => bedrock::wrong_key(given),
        }
    }

    /// How the provider writes an error.
    pub(crate) fn error(self, refusal: &Refusal, request_id: &str) -> ErrorAnswer {
        let mut error = ErrorAnswer {
            status: refusal.status,
            headers: HeaderMap::new(),
            body: Vec::new(),
        };
        error.body = match self {
            Self::OpenAi(Provider::Mistral) => openai::mistral::error(refusal),
            Self::OpenAi(_) | Self::Azure => refusal.body(),
            Self::Lorax => vllm::lorax::error(refusal),
            Self::Anthropic => {
                error.status = anthropic::error::status(refusal.status);
                anthropic::error::body(refusal, request_id)
            }
            Self::Gemini | Self::Vertex => gemini::error::body(refusal),
            Self::Bedrock => {
                let kind = HeaderValue::from_static(bedrock::error::kind(refusal));
                error.headers.insert("x-amzn-errortype", kind);
                bedrock::error::body(refusal)
            }
            Self::Cohere => cohere::error::body(refusal, request_id),
        }
        .into_bytes();
        error
    }

    /// Appends the headers that come with every answer of the provider.
    pub(crate) fn write_headers(self, state: &EngineState, headers: &mut HeaderMap) {
        let name = match self {
            Self::Anthropic => "request-id",
            Self::Bedrock => "x-amzn-requestid",
            Self::OpenAi(_) | Self::Azure => "x-request-id",
            Self::Gemini | Self::Vertex | Self::Cohere | Self::Lorax => return,
        };
        let id = state.request_id();
        let value = HeaderValue::try_from(id).expect("the id is letters, digits and underscores");
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(value);
    }

    /// The models on offer.
    pub(crate) fn models(self, state: &EngineState) -> Answer {
        Answer::json(match self {
            Self::Anthropic => anthropic::models::list(state),
            Self::Gemini | Self::Vertex => gemini::models::list(state),
            _ => openai::models::list(state),
        })
    }

    /// One model.
    ///
    /// # Errors
    ///
    /// There is none of that name.
    pub(crate) fn model(self, state: &EngineState, model: &str) -> Result<Answer, Refusal> {
        if !matches!(self, Self::OpenAi(_)) {
            check_model(state, model)?;
        }
        Ok(Answer::json(match self {
            Self::Anthropic => anthropic::models::one(model),
            Self::Gemini | Self::Vertex => gemini::models::one(model),
            _ => openai::models::one(state, model)?,
        }))
    }
}
