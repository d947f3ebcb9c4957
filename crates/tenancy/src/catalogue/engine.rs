//! What kind of place an upstream is, and what is known of each kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of engine or provider an upstream is: which dialect it speaks, how it takes its
/// credential and a tenant's salt, and where it is unless the upstream says otherwise.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// OpenAI's own API.
    OpenAi,
    /// Azure OpenAI: `https://{resource}.openai.azure.com/openai/v1`.
    Azure,
    /// Anthropic's own API.
    Anthropic,
    /// Google Gemini with an API key.
    Gemini,
    /// Google Gemini on Vertex AI:
    /// `https://{location}-aiplatform.googleapis.com/v1/projects/{project}/locations/{location}/publishers/google`.
    Vertex,
    /// AWS Bedrock (Converse): `https://bedrock-runtime.{region}.amazonaws.com`.
    Bedrock,
    /// Mistral's own API.
    Mistral,
    /// Cohere's own API.
    Cohere,
    /// vLLM, or an engine that takes `cache_salt` as vLLM does.
    Vllm,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM's OpenAI-compatible server.
    TensorrtLlm,
    /// Hugging Face's text-generation-inference.
    Tgi,
    /// LoRAX.
    Lorax,
    /// Ollama.
    Ollama,
    /// llama.cpp's server.
    LlamaCpp,
    /// Groq.
    Groq,
    /// Together AI.
    Together,
    /// OpenRouter.
    Openrouter,
    /// DeepSeek.
    Deepseek,
    /// xAI.
    Xai,
    /// Fireworks AI.
    Fireworks,
    /// Cerebras.
    Cerebras,
    /// Perplexity.
    Perplexity,
    /// An OpenAI-compatible API of which nothing more is known.
    #[default]
    Compatible,
}

impl Engine {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::OpenAi,
        Self::Azure,
        Self::Anthropic,
        Self::Gemini,
        Self::Vertex,
        Self::Bedrock,
        Self::Mistral,
        Self::Cohere,
        Self::Vllm,
        Self::Sglang,
        Self::TensorrtLlm,
        Self::Tgi,
        Self::Lorax,
        Self::Ollama,
        Self::LlamaCpp,
        Self::Groq,
        Self::Together,
        Self::Openrouter,
        Self::Deepseek,
        Self::Xai,
        Self::Fireworks,
        Self::Cerebras,
        Self::Perplexity,
        Self::Compatible,
    ];

    /// Whose prices apply where an upstream names no provider: `openai`.
    pub const fn provider(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            other => other.as_str(),
        }
    }

    /// The kind's name: `open-ai`, `anthropic`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "open-ai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
            Self::Mistral => "mistral",
            Self::Cohere => "cohere",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::TensorrtLlm => "tensorrt-llm",
            Self::Tgi => "tgi",
            Self::Lorax => "lorax",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama-cpp",
            Self::Groq => "groq",
            Self::Together => "together",
            Self::Openrouter => "openrouter",
            Self::Deepseek => "deepseek",
            Self::Xai => "xai",
            Self::Fireworks => "fireworks",
            Self::Cerebras => "cerebras",
            Self::Perplexity => "perplexity",
            Self::Compatible => "compatible",
        }
    }

    /// Where its API begins, as its provider documents it; none where each customer or
    /// installation has an address of its own.
    pub const fn base_url(self) -> Option<&'static str> {
        Some(match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Mistral => "https://api.mistral.ai/v1",
            Self::Cohere => "https://api.cohere.com/v2",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::Together => "https://api.together.xyz/v1",
            Self::Openrouter => "https://openrouter.ai/api/v1",
            Self::Deepseek => "https://api.deepseek.com/v1",
            Self::Xai => "https://api.x.ai/v1",
            Self::Fireworks => "https://api.fireworks.ai/inference/v1",
            Self::Cerebras => "https://api.cerebras.ai/v1",
            Self::Perplexity => "https://api.perplexity.ai",
            Self::Azure
            | Self::Vertex
            | Self::Bedrock
            | Self::Vllm
            | Self::Sglang
            | Self::TensorrtLlm
            | Self::Tgi
            | Self::Lorax
            | Self::Ollama
            | Self::LlamaCpp
            | Self::Compatible => return None,
        })
    }

    /// The environment variable in which its own tools look for a key.
    pub const fn key_variable(self) -> Option<&'static str> {
        Some(match self {
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
            Self::Mistral => "MISTRAL_API_KEY",
            Self::Cohere => "CO_API_KEY",
            Self::Groq => "GROQ_API_KEY",
            Self::Together => "TOGETHER_API_KEY",
            Self::Openrouter => "OPENROUTER_API_KEY",
            Self::Deepseek => "DEEPSEEK_API_KEY",
            Self::Xai => "XAI_API_KEY",
            Self::Fireworks => "FIREWORKS_API_KEY",
            Self::Cerebras => "CEREBRAS_API_KEY",
            Self::Perplexity => "PERPLEXITY_API_KEY",
            _ => return None,
        })
    }

    /// The field in which it takes a salt for its prefix cache; none if it ignores one.
    pub const fn salt_field(self) -> Option<&'static str> {
        match self {
            Self::Vllm | Self::TensorrtLlm => Some("cache_salt"),
            Self::Sglang => Some("extra_key"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json_form() {
        for engine in Engine::ALL {
            let json = serde_json::to_value(engine).expect("an engine is text");
            assert_eq!(json, engine.as_str());
            assert!(engine.as_str().parse::<base::Name>().is_ok());
        }
    }

    #[test]
    fn every_address_is_one() {
        for url in Engine::ALL.into_iter().filter_map(Engine::base_url) {
            let parsed = url::Url::parse(url).expect("an address");
            assert!(parsed.scheme() == "https" && !url.ends_with('/'), "{url}");
        }
    }
}
