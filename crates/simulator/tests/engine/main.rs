//! The engine through its sockets, as a client sees it. One binary, so that it links once.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test reports, in its helpers too"
)]

mod cache;
mod chat;
mod completions;
mod embeddings;
mod faults;
mod harness;
mod service;
mod slots;
mod streaming;
mod tools;
