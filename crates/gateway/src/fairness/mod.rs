//! Who goes next when an upstream has fewer places than callers.
//!
//! Priority bands, each with a guaranteed share; inside a band a weighted virtual token counter
//! over the tenants that wait; inside a tenant first come, first served. The counter is the one
//! of VTC (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): whoever has
//! been served least, by weight, goes next, and who comes back from idling starts where the
//! others are. On top of it come predicted outputs that are charged at dispatch, reserved and
//! capped places, bounded queues and an honest time to come back.
//!
//! [`Scheduler`] is a state machine: no clock, no I/O, no randomness; time is passed in.
//! [`Turnstile`] is the same for tasks that wait. `docs/fairness.md` has the figures.

mod bands;
mod estimate;
mod line;
mod options;
mod predictor;
mod rate;
mod scheduler;
mod slots;
mod tenant;
mod ticket;
mod turnstile;
mod warmth;

pub use estimate::PlaceInLine;
pub use options::{CostWeights, FairnessOptions};
pub use predictor::{OutputPredictor, PredictorOptions};
pub use scheduler::{Scheduler, SchedulerView, TenantView};
pub use ticket::{Band, CallId, Offer, Prefix, Refused, TenantTerms, Ticket, Tokens, Weight};
pub use turnstile::{EnterError, Entry, Place, Turnstile, Waiting};
