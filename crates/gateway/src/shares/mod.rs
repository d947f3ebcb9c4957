//! Budgets and rates that several replicas have a part in: who keeps the shares, and who asks for
//! them.
//!
//! The data path never asks the coordinator itself. It finds its share in the tenant's ledger; a
//! call that finds too little waits until the [`Clerk`] has talked to the coordinator.

mod clerk;
mod rates;
mod rounds;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use base::TenantId;
use ledger::{AccountId, RateAsk, RateGiven, ShareAsk, ShareGiven};

pub(crate) use clerk::Clerk;
pub(crate) use rates::RateClerk;

/// What a coordinator answers, in its own time.
pub type Answering<'c, T> = Pin<Box<dyn Future<Output = Result<T, CoordinatorError>> + Send + 'c>>;

/// Keeps what each replica may spend of each budget, by the rule of [`ledger::allot`].
pub trait Coordinator: Send + Sync + fmt::Debug {
    /// Tells how this replica's accounts stand, and asks for more. All or nothing: an answer for
    /// each ask, in order. What comes late, after a later exchange, must change nothing.
    fn exchange(&self, asks: Vec<ShareAsk>) -> Answering<'_, Exchanged>;

    /// Accounts of which an earlier life of this replica has a share that this one has said
    /// nothing of: some of them, or none if there are no more.
    fn left_behind(&self) -> Answering<'_, Vec<(TenantId, AccountId)>>;
}

/// An exchange's answer.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// What each ask was given.
    pub given: Vec<ShareGiven>,
    /// How many replicas serve, with this one.
    pub replicas: u32,
}

/// What pools of rates answer, in their own time.
pub type RatesAnswering<'p> =
    Pin<Box<dyn Future<Output = Result<Vec<RateGiven>, RatePoolsError>> + Send + 'p>>;

/// Keeps the rates that replicas have together, by the rule of [`ledger::RatePool`].
pub trait RatePools: Send + Sync + fmt::Debug {
    /// An answer for each ask, in order. Without asks: whether it is there.
    fn exchange(&self, asks: Vec<RateAsk>) -> RatesAnswering<'_>;
}

/// The pools of rates did not answer. What became of the asks is not known.
#[derive(Debug, thiserror::Error)]
#[error("the server that keeps rates cannot be used")]
pub struct RatePoolsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// It cannot be reached, or did not answer. What became of the exchange is not known.
    #[error("the budgets' coordinator cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It did not answer in time.
    #[error("the budgets' coordinator did not answer in time")]
    TooSlow,
    /// Another process has taken this replica's place.
    #[error("another process has taken this replica's place: this one must end")]
    Fenced,
}
