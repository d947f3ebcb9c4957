//! The engine through its sockets, as a client sees it. One binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test reports, in its helpers too"
)]

mod anthropic;
mod anthropic_refusals;
mod bedrock;
mod cache;
mod chat;
mod cohere;
mod completions;
mod embeddings;
mod faults;
mod gemini;
mod harness;
mod lora;
mod manners;
mod moderations;
mod responses;
mod service;
mod slots;
mod streaming;
mod tools;
