//! How fair the gateway's scheduler is, and how far one tenant's failures reach, in virtual time.
//!
//! The scheduler, the breakers and the retry budgets are the gateway's own; what is simulated is
//! the time, the clients and the upstream. [`overload`] repeats the two-client overload of VTC's
//! artifact and measures it with the artifact's own formula; its module says what is the same and
//! what is not. A seed determines all.

mod chance;
mod crowd;
mod engine;
mod gate;
mod overload;
mod service;
mod shares;

pub use crowd::{Crowd, Experience, Neighbour, crowd};
pub use gate::Prediction;
pub use overload::{Difference, overload};
pub use shares::{Shares, shares};
