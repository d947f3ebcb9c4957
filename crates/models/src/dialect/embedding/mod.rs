//! Embeddings: clients ask as OpenAI's do, upstreams hear their own words.
//!
//! One extension: `input_type` says what a text is for (`search_document`, `search_query`,
//! `classification`, `clustering`, `semantic_similarity`), which most providers other than
//! OpenAI want to know. Left out, it is a document, which is what Cohere demands a word for.

mod answer;
mod request;

pub use answer::{EmbeddingAnswer, Vector};
pub use request::{EmbeddingInput, EmbeddingRequest, Encoding, Purpose};

/// How an upstream is asked for embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbeddingDialect {
    /// OpenAI, and whoever speaks alike.
    OpenAi,
    /// Cohere's `/v2/embed`.
    Cohere,
    /// Gemini's `batchEmbedContents`, by API key.
    Gemini,
    /// Vertex: `predict`.
    Vertex,
    /// Amazon's Titan on Bedrock: one text a call.
    BedrockTitan,
    /// Cohere's models on Bedrock.
    BedrockCohere,
}

impl EmbeddingDialect {
    /// The most texts that one call takes, as documented. OpenAI's is OpenAI's own; engines that
    /// speak alike may take fewer, or more.
    pub fn inputs_max(self) -> usize {
        match self {
            Self::OpenAi => 2_048,
            Self::Cohere | Self::BedrockCohere => 96,
            Self::Gemini => 100,
            Self::Vertex => 250,
            Self::BedrockTitan => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Cohere | Self::BedrockCohere => "Cohere",
            Self::Gemini | Self::Vertex => "Gemini",
            Self::BedrockTitan => "Titan",
        }
    }
}

#[cfg(test)]
mod tests;
