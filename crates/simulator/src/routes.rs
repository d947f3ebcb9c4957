//! Which path is which endpoint.

use http::{Method, Request, StatusCode};

use crate::api::Api;
use crate::cohere::rerank::RerankShape;
use crate::engine::EngineState;
use crate::gemini::Action;
use crate::generation::Delivery;
use crate::refusal::Refusal;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    /// The model or deployment that the path names; else empty.
    pub(crate) model: String,
}

/// All that the simulator answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Moderations,
    Models,
    Model(String),
    LoadAdapter,
    UnloadAdapter,
    LoraxGenerate(Delivery),
    Messages,
    CountTokens,
    ResponseInputTokens,
    Tokenize,
    Gemini(Action),
    Converse(Delivery),
    ConverseTokens,
    CohereChat,
    CohereEmbed,
    Rerank(RerankShape),
    Health,
    Metrics,
}

impl Endpoint {
    /// Whether callers need a key. Probes and an engine's own routes have none.
    pub(crate) fn needs_key(&self) -> bool {
        !matches!(self, Self::Health | Self::Metrics)
    }

    fn method(&self) -> Method {
        match self {
            Self::Models | Self::Model(_) | Self::Health | Self::Metrics => Method::GET,
            _ => Method::POST,
        }
    }
}

/// Finds the endpoint of a request.
///
/// # Errors
///
/// A path that leads nowhere, and a method that the path does not have.
pub(crate) fn find<B>(
    state: &EngineState,
    api: Api,
    request: &Request<B>,
) -> Result<Route, Refusal> {
    let path = request.uri().path();
    let route = match api {
        Api::OpenAi(_) | Api::Anthropic | Api::Cohere | Api::Lorax => {
            shared(path).or_else(|| engine(state, path))
        }
        Api::Azure => azure(path),
        Api::Gemini | Api::Vertex => google(path),
        Api::Bedrock => bedrock(path),
    };
    let route = route.ok_or_else(Refusal::not_found)?;
    if *request.method() != route.endpoint.method() {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "This method is not allowed here.",
        ));
    }
    if api == Api::Azure
        && path.contains("/deployments/")
        && query(request, "api-version").is_none()
    {
        // Azure finds nothing where no version is named.
        return Err(Refusal::not_found());
    }
    Ok(route)
}

fn shared(path: &str) -> Option<Route> {
    let endpoint = match path {
        "/v1/chat/completions" => Endpoint::Chat,
        "/v1/completions" => Endpoint::Completions,
        "/v1/embeddings" => Endpoint::Embeddings,
        "/v1/responses" => Endpoint::Responses,
        "/v1/responses/input_tokens" => Endpoint::ResponseInputTokens,
        "/v1/moderations" => Endpoint::Moderations,
        "/v1/models" => Endpoint::Models,
        "/v1/messages" => Endpoint::Messages,
        "/v1/messages/count_tokens" => Endpoint::CountTokens,
        "/v2/chat" => Endpoint::CohereChat,
        "/v2/embed" => Endpoint::CohereEmbed,
        "/v2/rerank" => Endpoint::Rerank(RerankShape::Cohere),
        "/v1/rerank" | "/rerank" => Endpoint::Rerank(RerankShape::Jina),
        path => Endpoint::Model(decoded(path.strip_prefix("/v1/models/")?)),
    };
    Some(endpoint.into())
}

/// What only an engine of one's own has.
fn engine(state: &EngineState, path: &str) -> Option<Route> {
    let endpoint = match path {
        "/health" => Endpoint::Health,
        "/metrics" => Endpoint::Metrics,
        "/tokenize" => Endpoint::Tokenize,
        "/generate" => Endpoint::LoraxGenerate(Delivery::Whole),
        "/generate_stream" => Endpoint::LoraxGenerate(Delivery::Stream),
        "/v1/load_lora_adapter" if loads_by_command(state) => Endpoint::LoadAdapter,
        "/v1/unload_lora_adapter" if loads_by_command(state) => Endpoint::UnloadAdapter,
        _ => return None,
    };
    Some(endpoint.into())
}

/// Whether it is told which adapters to load.
fn loads_by_command(state: &EngineState) -> bool {
    state.config.lora_slots > 0 && !state.config.lora_by_call
}

fn azure(path: &str) -> Option<Route> {
    let rest = path.strip_prefix("/openai/")?;
    if let Some(rest) = rest.strip_prefix("deployments/") {
        let (deployment, operation) = rest.split_once('/')?;
        let endpoint = match operation {
            "chat/completions" => Endpoint::Chat,
            "completions" => Endpoint::Completions,
            "embeddings" => Endpoint::Embeddings,
            _ => return None,
        };
        return Some(Route {
            endpoint,
            model: decoded(deployment),
        });
    }
    let endpoint = match rest {
        "v1/chat/completions" => Endpoint::Chat,
        "v1/completions" => Endpoint::Completions,
        "v1/embeddings" => Endpoint::Embeddings,
        "v1/responses" => Endpoint::Responses,
        "v1/models" => Endpoint::Models,
        _ => return None,
    };
    Some(endpoint.into())
}

/// `…/models/{model}:{action}`, at Gemini's own path or at Vertex's.
fn google(path: &str) -> Option<Route> {
    if path == "/v1beta/models" {
        return Some(Endpoint::Models.into());
    }
    let rest = match path.strip_prefix("/v1beta/models/") {
        Some(rest) => rest,
        None => {
            let (_, rest) = path.split_once("/projects/")?;
            let mut parts = rest.splitn(7, '/');
            let named = [parts.next()?, parts.nth(1)?];
            let fixed = [parts.next()?, parts.next()?, parts.next()?];
            if named.contains(&"") || fixed != ["publishers", "google", "models"] {
                return None;
            }
            parts.next()?
        }
    };
    if let Some((model, action)) = rest.rsplit_once(':') {
        return Some(Route {
            endpoint: Endpoint::Gemini(Action::named(action)?),
            model: decoded(model),
        });
    }
    Some(Endpoint::Model(decoded(rest)).into())
}

fn bedrock(path: &str) -> Option<Route> {
    let (model, operation) = path.strip_prefix("/model/")?.split_once('/')?;
    let endpoint = match operation {
        "converse" => Endpoint::Converse(Delivery::Whole),
        "converse-stream" => Endpoint::Converse(Delivery::Stream),
        "count-tokens" => Endpoint::ConverseTokens,
        _ => return None,
    };
    Some(Route {
        endpoint,
        model: decoded(model),
    })
}

impl From<Endpoint> for Route {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            model: String::new(),
        }
    }
}

/// A parameter of the query.
pub(crate) fn query<'a, B>(request: &'a Request<B>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// A part of a path without its percent signs; bytes that make no text are left out.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .split_at_checked(2)
            .filter(|_| first == b'%')
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, after))
            });
        let (byte, after) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_google_name_their_model_and_action() {
        let found = |path| google(path).map(|route| (route.endpoint, route.model));
        let generate = Endpoint::Gemini(Action::named("generateContent").unwrap());
        let expected = Some((generate, "sim-small".to_owned()));
        assert_eq!(found("/v1beta/models/sim-small:generateContent"), expected);
        let vertex =
            "/v1/projects/p/locations/l/publishers/google/models/sim-small:generateContent";
        assert_eq!(found(vertex), expected);
        assert_eq!(found("/v1beta/models/sim-small:destroy"), None);
        assert_eq!(
            found("/v1/projects/p/locations/l/publishers/x/models/m:generateContent"),
            None
        );
        assert_eq!(found("/v1/projects/p/models/m:generateContent"), None);
    }

    #[test]
    fn names_in_paths_are_decoded() {
        assert_eq!(decoded("anthropic.claude-v1%3A0"), "anthropic.claude-v1:0");
        assert_eq!(decoded("openai%2fgpt%20%zz%"), "openai/gpt %zz%");
    }
}
