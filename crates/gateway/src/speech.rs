//! How an upstream is spoken to: in its own dialect, whichever the client speaks.

use std::borrow::Cow;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use models::{
    CountDialect, Dialect, EmbeddingDialect, Envelope, Flavour, Operation, RerankDialect,
    Translation, Untranslatable,
};
use tenancy::catalogue::{Engine, UpstreamSpec};

/// How the calls of one operation are said to one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// In the client's own words, but for what is ours to say.
    Same,
    /// Translated, and the answer back.
    Translated(Translation),
    /// Texts to be embedded, in the upstream's own words.
    Embedding(EmbeddingDialect),
    /// Documents to be ranked, in the upstream's own words.
    Rerank(RerankDialect),
    /// A message whose tokens are to be counted, in the upstream's own words.
    Count(CountDialect),
}

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
pub(crate) const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
/// The version of Anthropic's API that all of its SDKs ask for.
const ANTHROPIC_VERSION_ASKED: HeaderValue = HeaderValue::from_static("2023-06-01");

/// The dialect of an operation's clients.
pub(crate) const fn dialect_of(operation: Operation) -> Dialect {
    match operation {
        Operation::Messages | Operation::CountTokens => Dialect::Anthropic,
        Operation::Responses => Dialect::OpenAiResponses,
        Operation::Chat
        | Operation::Completion
        | Operation::Embedding
        | Operation::Moderation
        | Operation::Rerank => Dialect::OpenAiChat,
    }
}

/// What an engine speaks.
pub(crate) const fn spoken_by(engine: Engine) -> (Dialect, Flavour) {
    match engine {
        Engine::Anthropic => (Dialect::Anthropic, Flavour::OpenAi),
        Engine::Gemini | Engine::Vertex => (Dialect::Gemini, Flavour::OpenAi),
        Engine::Bedrock => (Dialect::Bedrock, Flavour::OpenAi),
        Engine::Cohere => (Dialect::Cohere, Flavour::OpenAi),
        Engine::OpenAi | Engine::Compatible => (Dialect::OpenAiChat, Flavour::OpenAi),
        Engine::Azure => (Dialect::OpenAiChat, Flavour::Azure),
        Engine::Mistral => (Dialect::OpenAiChat, Flavour::Mistral),
        Engine::Vllm | Engine::TensorrtLlm => (Dialect::OpenAiChat, Flavour::Vllm),
        Engine::Sglang => (Dialect::OpenAiChat, Flavour::Sglang),
        Engine::Tgi | Engine::Lorax => (Dialect::OpenAiChat, Flavour::Tgi),
        Engine::Ollama => (Dialect::OpenAiChat, Flavour::Ollama),
        Engine::LlamaCpp => (Dialect::OpenAiChat, Flavour::LlamaCpp),
        Engine::Groq => (Dialect::OpenAiChat, Flavour::Groq),
        Engine::Together => (Dialect::OpenAiChat, Flavour::Together),
        Engine::Openrouter => (Dialect::OpenAiChat, Flavour::OpenRouter),
        Engine::Deepseek => (Dialect::OpenAiChat, Flavour::DeepSeek),
        Engine::Xai => (Dialect::OpenAiChat, Flavour::Xai),
        Engine::Fireworks => (Dialect::OpenAiChat, Flavour::Fireworks),
        Engine::Cerebras => (Dialect::OpenAiChat, Flavour::Cerebras),
        Engine::Perplexity => (Dialect::OpenAiChat, Flavour::Perplexity),
    }
}

impl Speech {
    /// Between a client of this operation and an engine that has the model under this name; none
    /// if the engine has nothing like it.
    pub(crate) fn between(operation: Operation, engine: Engine, model: &str) -> Option<Self> {
        let inbound = dialect_of(operation);
        let (outbound, flavour) = spoken_by(engine);
        let translation = Translation::new(inbound, outbound, flavour);
        match operation {
            Operation::Rerank => reranked_by(engine).map(Self::Rerank),
            Operation::Chat if !flavour.takes_chats_as_written() => {
                Some(Self::Translated(translation))
            }
            _ if translation.is_native() => Some(Self::Same),
            Operation::Embedding => embedded_by(engine, model).map(Self::Embedding),
            Operation::Chat | Operation::Messages | Operation::Responses => {
                Some(Self::Translated(translation))
            }
            Operation::CountTokens => counted_by(engine).map(Self::Count),
            Operation::Completion | Operation::Moderation => None,
        }
    }

    /// Where below the upstream's address the call goes.
    pub(crate) fn path(
        self,
        operation: Operation,
        spec: &UpstreamSpec,
        model: &str,
        streams: bool,
    ) -> Cow<'static, str> {
        let path = match self {
            Self::Same => Cow::Borrowed(operation_path(operation)),
            Self::Translated(_) => chat_path(spoken_by(spec.engine).0, model, streams),
            Self::Embedding(dialect) => embedding_path(dialect, model),
            Self::Rerank(_) => Cow::Borrowed(operation_path(Operation::Rerank)),
            Self::Count(dialect) => count_path(dialect, model),
        };
        match (&spec.api_version, spec.engine) {
            (Some(version), Engine::Azure) => format!("{path}?api-version={version}").into(),
            _ => path,
        }
    }
}

/// Refuses a chat that an engine gets as it is written for what that engine does not take.
pub(crate) fn check_native(engine: Engine, envelope: &Envelope) -> Result<(), Untranslatable> {
    let (dialect, flavour) = spoken_by(engine);
    Translation::new(dialect, dialect, flavour).check_native(envelope)
}

/// What an operation is called below the address of an upstream that speaks its clients' dialect.
pub(crate) const fn operation_path(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "/chat/completions",
        Operation::Completion => "/completions",
        Operation::Embedding => "/embeddings",
        Operation::Messages => "/messages",
        Operation::CountTokens => "/messages/count_tokens",
        Operation::Responses => "/responses",
        Operation::Rerank => "/rerank",
        Operation::Moderation => "/moderations",
    }
}

fn chat_path(dialect: Dialect, model: &str, streams: bool) -> Cow<'static, str> {
    let model = || Escaped(model);
    match (dialect, streams) {
        (Dialect::OpenAiChat, _) => "/chat/completions".into(),
        (Dialect::OpenAiResponses, _) => "/responses".into(),
        (Dialect::Anthropic, _) => "/messages".into(),
        (Dialect::Gemini, false) => format!("/models/{}:generateContent", model()).into(),
        (Dialect::Gemini, true) => {
            format!("/models/{}:streamGenerateContent?alt=sse", model()).into()
        }
        (Dialect::Bedrock, false) => format!("/model/{}/converse", model()).into(),
        (Dialect::Bedrock, true) => format!("/model/{}/converse-stream", model()).into(),
        (Dialect::Cohere, _) => "/chat".into(),
    }
}

/// How an engine of another dialect than OpenAI's embeds. On Bedrock each maker's models have
/// words of their own.
fn embedded_by(engine: Engine, model: &str) -> Option<EmbeddingDialect> {
    match engine {
        Engine::Cohere => Some(EmbeddingDialect::Cohere),
        Engine::Gemini => Some(EmbeddingDialect::Gemini),
        Engine::Vertex => Some(EmbeddingDialect::Vertex),
        Engine::Bedrock if model.contains("cohere.embed") => Some(EmbeddingDialect::BedrockCohere),
        Engine::Bedrock if model.contains("amazon.titan-embed") => {
            Some(EmbeddingDialect::BedrockTitan)
        }
        _ => None,
    }
}

/// How an engine ranks.
fn reranked_by(engine: Engine) -> Option<RerankDialect> {
    match engine {
        Engine::Cohere => Some(RerankDialect::Cohere),
        Engine::Vllm | Engine::Sglang | Engine::LlamaCpp => Some(RerankDialect::Vllm),
        Engine::Compatible | Engine::Together | Engine::Fireworks => Some(RerankDialect::Jina),
        // Hugging Face's server of this family that ranks: text-embeddings-inference.
        Engine::Tgi => Some(RerankDialect::Tei),
        _ => None,
    }
}

fn embedding_path(dialect: EmbeddingDialect, model: &str) -> Cow<'static, str> {
    let model = Escaped(model);
    match dialect {
        EmbeddingDialect::OpenAi => operation_path(Operation::Embedding).into(),
        EmbeddingDialect::Cohere => "/embed".into(),
        EmbeddingDialect::Gemini => format!("/models/{model}:batchEmbedContents").into(),
        EmbeddingDialect::Vertex => format!("/models/{model}:predict").into(),
        EmbeddingDialect::BedrockTitan | EmbeddingDialect::BedrockCohere => {
            format!("/model/{model}/invoke").into()
        }
    }
}

/// How an engine counts the tokens of a message. Others have no such endpoint, or one that knows
/// nothing of messages and would count too few.
fn counted_by(engine: Engine) -> Option<CountDialect> {
    match engine {
        Engine::OpenAi => Some(CountDialect::OpenAi),
        Engine::Gemini => Some(CountDialect::Gemini),
        Engine::Vertex => Some(CountDialect::Vertex),
        Engine::Bedrock => Some(CountDialect::Bedrock),
        Engine::Vllm => Some(CountDialect::Vllm),
        _ => None,
    }
}

fn count_path(dialect: CountDialect, model: &str) -> Cow<'static, str> {
    let model = Escaped(model);
    match dialect {
        CountDialect::OpenAi => "/responses/input_tokens".into(),
        CountDialect::Gemini | CountDialect::Vertex => {
            format!("/models/{model}:countTokens").into()
        }
        CountDialect::Bedrock => format!("/model/{model}/count-tokens").into(),
        CountDialect::Vllm => BESIDE_ITS_VERSION.into(),
    }
}

/// What vLLM has beside its `/v1`, and not below it: a call of it begins there.
pub(crate) const BESIDE_ITS_VERSION: &str = "/tokenize";

/// A model's name as one segment of a path.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// The headers that an engine's dialect wants. What of a client's own may go on is listed here.
pub(crate) fn headers(spec: &UpstreamSpec, speech: Speech, client: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if spec.engine == Engine::Anthropic {
        let version = spec.api_version.as_deref().map(HeaderValue::from_str);
        let version = version
            .and_then(Result::ok)
            .unwrap_or(ANTHROPIC_VERSION_ASKED);
        headers.insert(ANTHROPIC_VERSION, version);
        // What is only being tried is asked for by name, and only of the provider itself.
        if speech == Speech::Same {
            for asked in client.get_all(ANTHROPIC_BETA) {
                headers.append(ANTHROPIC_BETA, asked.clone());
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(engine: Engine) -> UpstreamSpec {
        let text = serde_json::json!({"engine": engine, "base_url": "https://x.test"}).to_string();
        serde_json::from_str(&text).expect("an upstream")
    }

    fn path(operation: Operation, engine: Engine, model: &str, streams: bool) -> String {
        let speech = Speech::between(operation, engine, model).expect("it is spoken");
        speech
            .path(operation, &spec(engine), model, streams)
            .into_owned()
    }

    #[test]
    fn each_engine_is_called_where_its_documentation_says() {
        let chat = Operation::Chat;
        for (engine, streams, expected) in [
            (Engine::OpenAi, false, "/chat/completions"),
            (Engine::Vllm, true, "/chat/completions"),
            (Engine::Anthropic, true, "/messages"),
            (Engine::Gemini, false, "/models/a:generateContent"),
            (
                Engine::Vertex,
                true,
                "/models/a:streamGenerateContent?alt=sse",
            ),
            (Engine::Bedrock, false, "/model/a/converse"),
            (Engine::Bedrock, true, "/model/a/converse-stream"),
            (Engine::Cohere, false, "/chat"),
        ] {
            assert_eq!(path(chat, engine, "a", streams), expected, "{engine:?}");
        }
        let bedrock = path(chat, Engine::Bedrock, "eu.anthropic.claude:0/x", false);
        assert_eq!(bedrock, "/model/eu.anthropic.claude%3A0%2Fx/converse");
        assert_eq!(
            path(Operation::Messages, Engine::Groq, "a", true),
            "/chat/completions"
        );
        assert_eq!(
            path(Operation::Messages, Engine::Anthropic, "a", true),
            "/messages"
        );
        assert_eq!(
            Speech::between(Operation::Completion, Engine::Anthropic, "a"),
            None
        );
    }

    #[test]
    fn retrieval_is_asked_where_each_engine_has_it() {
        for (operation, engine, model, expected) in [
            (Operation::Embedding, Engine::Vllm, "a", "/embeddings"),
            (Operation::Embedding, Engine::Cohere, "a", "/embed"),
            (
                Operation::Embedding,
                Engine::Gemini,
                "a",
                "/models/a:batchEmbedContents",
            ),
            (
                Operation::Embedding,
                Engine::Vertex,
                "a",
                "/models/a:predict",
            ),
            (
                Operation::Embedding,
                Engine::Bedrock,
                "eu.cohere.embed-v4:0",
                "/model/eu.cohere.embed-v4%3A0/invoke",
            ),
            (Operation::Rerank, Engine::Cohere, "a", "/rerank"),
            (Operation::Rerank, Engine::Tgi, "a", "/rerank"),
        ] {
            assert_eq!(
                path(operation, engine, model, false),
                expected,
                "{engine:?}"
            );
        }
        for (engine, expected) in [
            (Engine::Anthropic, "/messages/count_tokens"),
            (Engine::OpenAi, "/responses/input_tokens"),
            (Engine::Vertex, "/models/a%3Ab:countTokens"),
            (Engine::Bedrock, "/model/a%3Ab/count-tokens"),
            (Engine::Vllm, "/tokenize"),
        ] {
            let found = path(Operation::CountTokens, engine, "a:b", false);
            assert_eq!(found, expected, "{engine:?}");
        }
        for (operation, engine) in [
            (Operation::CountTokens, Engine::Cohere),
            (Operation::CountTokens, Engine::Groq),
            (Operation::Embedding, Engine::Anthropic),
            (Operation::Embedding, Engine::Bedrock),
            (Operation::Rerank, Engine::OpenAi),
        ] {
            assert_eq!(Speech::between(operation, engine, "a"), None, "{engine:?}");
        }
    }

    #[test]
    fn a_client_asks_for_what_is_tried_of_the_provider_itself_alone() {
        let mut client = HeaderMap::new();
        client.append(ANTHROPIC_BETA, HeaderValue::from_static("files-api"));
        let anthropic = spec(Engine::Anthropic);
        let native = headers(&anthropic, Speech::Same, &client);
        assert_eq!(native[ANTHROPIC_VERSION], "2023-06-01");
        assert_eq!(native[ANTHROPIC_BETA], "files-api");
        let speech = Speech::between(Operation::Chat, Engine::Anthropic, "a").expect("spoken");
        assert!(
            headers(&anthropic, speech, &client)
                .get(ANTHROPIC_BETA)
                .is_none()
        );
        assert!(headers(&spec(Engine::Vllm), Speech::Same, &client).is_empty());
    }
}
