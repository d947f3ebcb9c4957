//! Where a tenant's calls wait for each other: a line for each budget or limit that is in the way.
//! Whoever waits for one holds up nobody who waits for another.

use std::sync::Arc;

use hashbrown::HashMap;
use ledger::{AccountId, LimitId};
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{MutexGuard, Notify};

/// What is in the way of a call until others have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bottleneck {
    /// What is left of this account is held.
    Account(AccountId),
    /// As many calls as this limit allows are under way.
    Limit(LimitId),
    /// Others use up each lease before this call has it.
    Lease,
    /// The coordinator of shared budgets gives no answer.
    Share,
}

type Places = Arc<tokio::sync::Mutex<()>>;

/// The lines of one tenant. A line exists while somebody stands in it, so that there are never
/// more than waiting calls.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    places: Mutex<HashMap<Bottleneck, Places>>,
    /// A call ended: the first of each line asks again.
    changed: Notify,
}

/// A line that somebody stands in.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    lines: &'a Lines,
    bottleneck: Bottleneck,
    places: Places,
}

impl Lines {
    /// Joins the line before a bottleneck.
    pub(crate) fn line(&self, bottleneck: Bottleneck) -> Line<'_> {
        let places = Arc::clone(self.places.lock().entry(bottleneck).or_default());
        Line {
            lines: self,
            bottleneck,
            places,
        }
    }

    /// Resolves at the first [`Lines::notify`] after this was called, polled or not.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Something was settled, released or expired.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }
}

impl Line<'_> {
    /// Waits until those before have left the line.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the line up.
    pub(crate) async fn first(&self) -> MutexGuard<'_, ()> {
        self.places.lock().await
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut places = self.lines.places.lock();
        // The map's and our own: nobody else stands here.
        if Arc::strong_count(&self.places) == 2 {
            places.remove(&self.bottleneck);
        }
    }
}

#[cfg(test)]
mod tests {
    use base::TenantId;
    use ledger::Subject;

    use super::*;

    fn limit(name: &str) -> Bottleneck {
        let feature = Subject::Feature(name.parse().expect("a name"));
        Bottleneck::Limit(LimitId::of(TenantId::from_bits(1), &[feature]))
    }

    #[tokio::test]
    async fn one_line_waits_in_order_and_another_does_not_wait() {
        let lines = Lines::default();
        let (first, second, other) = (
            lines.line(limit("a")),
            lines.line(limit("a")),
            lines.line(limit("b")),
        );
        let place = first.first().await;
        drop(other.first().await);
        assert!(second.places.try_lock().is_err());
        drop(place);
        drop(second.first().await);
        drop((first, second, other));
        assert!(lines.places.lock().is_empty(), "nobody stands there");
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let lines = Lines::default();
        let changed = lines.changed();
        lines.notify();
        changed.await;
    }
}
