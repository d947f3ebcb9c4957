//! What keeps one upstream's or one tenant's failures from becoming everybody's.
//!
//! - [`Fault`] tells a tenant's own failures (its credential, its quota, its bad requests) from
//!   the provider's.
//! - [`UpstreamBreakers`] stop calling what fails: for one tenant by its own evidence, for all
//!   only by evidence from several tenants or from probes (invariant 12).
//! - [`RetryBudget`] bounds what retries add to an upstream's load.
//! - [`GroupHealth`] takes a failing upstream out of a group, and back.
//! - [`AdaptiveLimit`] finds how many calls at once an upstream takes.
//!
//! All are state machines: no clock, no I/O; time is passed in, chance too.

mod adaptive;
mod breaker;
mod breakers;
mod fault;
mod health;
mod retry;

pub use adaptive::{AdaptiveLimit, AdaptiveOptions, Feedback};
pub use breaker::{Breaker, BreakerOptions, BreakerState, Permit};
pub use breakers::{BreakersOptions, Guarded, Open, ProviderState, UpstreamBreakers};
pub use fault::{CallEnd, Credential, Fault, ProviderFault, TenantFault, classify};
pub use health::{GroupHealth, HealthOptions, Probe, Standing};
pub use retry::{Retry, RetryBudget, RetryOptions};
