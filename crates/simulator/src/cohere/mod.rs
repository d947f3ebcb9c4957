//! Cohere's API, version 2: chats, embeddings, and ranking. Ranking also as Jina and vLLM have it.

pub(crate) mod chat;
mod dialect;
pub(crate) mod embed;
pub(crate) mod error;
mod messages;
pub(crate) mod rerank;
