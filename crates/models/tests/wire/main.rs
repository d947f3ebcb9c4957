//! The wire suite: one set of inputs against every provider, in both directions.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod answers;
mod hostile;
mod inputs;
mod replays;
mod requests;
mod round_trips;
mod snapshot;
