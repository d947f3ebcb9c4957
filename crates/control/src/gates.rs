//! How much goes on at one time.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::ApiError;

/// 64: administration is rare, and each call may hold a thread.
const CALLS_MAX: usize = 64;
/// 4: four bodies of 16 MiB, and what they become, stay below 512 MiB.
const LARGE_CALLS_MAX: usize = 4;

/// How much a call brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A body of at most 1 MiB.
    Small,
    /// A body of at most 16 MiB.
    Large,
}

/// Bounds on the calls under way.
#[derive(Debug)]
pub(crate) struct Gates {
    calls: Semaphore,
    large_calls: Semaphore,
}

/// A place among the calls under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    _call: SemaphorePermit<'a>,
    _large_call: Option<SemaphorePermit<'a>>,
}

impl Gates {
    pub(crate) fn new() -> Self {
        Self {
            calls: Semaphore::new(CALLS_MAX),
            large_calls: Semaphore::new(LARGE_CALLS_MAX),
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    ///
    /// [`ApiError::Busy`] if there is none in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a place that was not returned is free.
    pub(crate) async fn enter(
        &self,
        load: Load,
        patience: Duration,
    ) -> Result<Place<'_>, ApiError> {
        let entering = async {
            let large_call = match load {
                Load::Large => Some(self.large_calls.acquire().await),
                Load::Small => None,
            };
            (self.calls.acquire().await, large_call.transpose())
        };
        match tokio::time::timeout(patience, entering).await {
            Ok((Ok(call), Ok(large_call))) => Ok(Place {
                _call: call,
                _large_call: large_call,
            }),
            _ => Err(ApiError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_in_time_is_sent_away() {
        let gates = Gates::new();
        let patience = Duration::from_secs(1);
        let mut inside = Vec::new();
        for _ in 0..LARGE_CALLS_MAX {
            inside.push(gates.enter(Load::Large, patience).await.unwrap());
        }
        assert!(matches!(
            gates.enter(Load::Large, patience).await,
            Err(ApiError::Busy)
        ));
        assert!(gates.enter(Load::Small, patience).await.is_ok());
        inside.pop();
        assert!(gates.enter(Load::Large, patience).await.is_ok());
    }
}
