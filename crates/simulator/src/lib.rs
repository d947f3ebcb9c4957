//! An inference engine that behaves like a real one and computes nothing: OpenAI endpoints, a
//! timing model with batch slots, a prefix cache that honours vLLM's `cache_salt`, and faults on
//! request. It stands behind `partywall quickstart`, in tests, in benches and in
//! `partywall simulate`.
//!
//! The life of a call is in `generation.rs`: read the request, plan the output, wait for a slot,
//! look into the prefix cache, let the prefill pass, answer token by token. What a call asks for
//! with markers in its last user message (`[[fault:…]]`, `[[tokens:…]]`, `[[say:…]]`) is in
//! `directives.rs`.
//!
//! Every text follows from the engine's seed, the model, the prompt and the request's own seed.

mod chat;
mod chat_dialect;
mod completions;
mod config;
mod dialect;
mod directives;
mod embeddings;
mod engine;
mod faults;
mod generation;
mod http;
mod metrics;
mod prefix_cache;
mod prompt;
mod refusal;
mod schema;
mod slots;
mod stream;
mod text;
mod tokens;

pub use config::{EngineConfig, Timing};
pub use engine::{Engine, Observed, RecordedRequest};
