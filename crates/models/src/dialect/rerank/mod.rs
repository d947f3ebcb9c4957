//! Reranking: clients ask as Cohere's and Jina's do (`/v1/rerank`), upstreams hear their own words.

mod answer;
mod request;

pub use answer::{Ranked, RerankAnswer, RerankUsage};
pub use request::{RerankDocument, RerankRequest};

/// How an upstream is asked to rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RerankDialect {
    /// Cohere's `/v2/rerank`.
    Cohere,
    /// Jina's `/v1/rerank`.
    Jina,
    /// vLLM's `/v1/rerank`, and whoever speaks alike: SGLang, llama.cpp, Infinity, LiteLLM.
    Vllm,
    /// Hugging Face's text-embeddings-inference: `/rerank`.
    Tei,
}

impl RerankDialect {
    fn name(self) -> &'static str {
        match self {
            Self::Cohere => "Cohere",
            Self::Jina => "Jina",
            Self::Vllm => "vLLM",
            Self::Tei => "text-embeddings-inference",
        }
    }
}

#[cfg(test)]
mod tests;
