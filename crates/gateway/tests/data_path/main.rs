//! The gateway through its sockets, before a simulator that computes nothing: each file is one
//! idea, and tests that guard an invariant of `docs/` carry its number.

#![expect(
    clippy::unwrap_used,
    reason = "in a test that is how an unexpected error is reported"
)]

mod adapters;
mod bodies;
mod budgets;
mod caching;
mod calls;
mod conversations;
mod dialects;
mod drain;
mod failover;
mod faults_under_budget;
mod flavours;
mod guardrails;
mod hops;
mod hops_on_answers;
mod idempotency;
mod isolation;
mod journal;
mod kept_bodies;
mod kubernetes;
mod limits;
mod output_webhooks;
mod parameters;
mod places;
mod prompts;
mod publish;
mod refusals;
mod replicas;
mod responses;
mod retrieval;
mod routing;
mod shared_budgets;
mod shared_rates;
mod streams;
mod telemetry;
mod tokens;
mod vertex;
mod ways;
mod world;
