//! Waiting that has a bound, and costs nothing where there is nothing to wait for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// What `future` comes to, if that is there at once or within `patience`. Whoever need not wait
/// asks no clock and sets no timer.
///
/// # Errors
///
/// [`Elapsed`]: it took longer.
///
/// # Cancel safety
///
/// That of `future`.
pub(crate) async fn in_time<F: Future>(
    patience: impl FnOnce() -> Duration,
    future: F,
) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let at_once = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
    match at_once {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => tokio::time::timeout(patience(), future).await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_not_waited_for_and_what_is_not_has_its_bound() {
        let never = || unreachable!("nobody asks how long");
        assert_eq!(in_time(never, ready(1)).await, Ok(1));
        let second = || Duration::from_secs(1);
        let soon = tokio::time::sleep(Duration::from_millis(10));
        assert_eq!(in_time(second, soon).await, Ok(()));
        assert!(in_time(second, pending::<()>()).await.is_err());
    }
}
