//! The crate from outside, as the pipeline and the control plane use it.

#![expect(
    clippy::unwrap_used,
    reason = "in a test's helper too, a panic is the report"
)]

mod act_for;
mod authenticate;
mod exchange;
mod keyring;
mod world;
