//! The real binary, as a person uses it: started, called, administered, stopped.

mod adapters;
mod administer;
mod alerts;
mod behaviour;
mod bodies;
mod demo;
mod moving_replicas;
mod outages;
mod outward;
mod placements;
#[expect(clippy::unwrap_used, reason = "a panic in a test is the report")]
mod postgres {
    include!("../../../../tests/postgres.rs");
}
mod product;
mod relay;
mod replicas;
mod replicas_health;
mod secrets;
mod start;
mod upgrading;
