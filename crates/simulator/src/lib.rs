//! An inference engine that behaves like a real one and computes nothing: the APIs of the
//! providers that a gateway speaks to, a timing model with batch slots, prompt caches that keep
//! callers apart as each provider does, and faults on request. It stands behind
//! `partywall quickstart`, in tests, in benches and in `partywall simulate`.
//!
//! The life of a call: `http.rs` receives it, `routes.rs` says where it goes, a provider's folder
//! reads it into a `Turn` (`turn.rs`), which decides what is answered; `generation.rs` waits for a
//! slot, looks into the cache, lets the prefill pass, and answers token by token; the provider's
//! `Dialect` writes that. What a call asks for with markers in its last user message
//! (`[[fault:…]]`, `[[tokens:…]]`, `[[say:…]]`) is in `directives.rs`.
//!
//! It is an oracle for the gateway's translations, so it shares no code with them: requests are
//! read as strictly as the providers read them (`fields.rs`).
//!
//! Every text follows from the engine's seed, the model, the prompt and the request's own seed.

mod anthropic;
mod api;
mod beats;
mod bedrock;
mod body;
mod caching;
mod cohere;
mod config;
mod dialect;
mod directives;
mod embedding;
mod engine;
mod faults;
mod fields;
mod gemini;
mod generation;
mod http;
mod openai;
mod prefix_cache;
mod prompt;
mod refusal;
mod reply;
mod routes;
mod schema;
mod signature;
mod slots;
mod stream;
mod text;
mod tokens;
mod turn;
mod vllm;

pub use config::{AwsKey, EngineConfig, Provider, Scheduling, Timing};
pub use engine::{Engine, Observed, RecordedRequest};
