//! Calls of one tenant that want the same answer at the same time: one asks for it, and the others
//! are given what it keeps.

use std::sync::Arc;
use std::time::Duration;

use tenancy::CacheKey;
use tokio::sync::watch;

use super::caching::{Caching, Wish};
use super::compile::Compiled;
use super::resolve::Inside;
use crate::flights::Boarding;

/// 30 s: longer than most answers take. Then the call asks for itself.
const FOLLOW_MAX: Duration = Duration::from_secs(30);

/// The call that asks. Dropped with what it was to keep, it lets go whoever waits.
#[derive(Debug)]
pub(super) struct Flight {
    inside: Arc<Inside>,
    key: CacheKey,
    _others_wait_for: watch::Sender<()>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.inside.runtime.cache.flights.land(&self.key);
    }
}

impl Compiled {
    /// Where another call is asking for the same, waits until that has ended, and says so. One that
    /// streams does not wait: its first word would come as late as the other's last.
    pub(super) async fn has_followed(&mut self) -> bool {
        let takes_kept = matches!(Wish::of(&self.headers), Wish::UpTo(age) if !age.is_zero());
        let Caching::Miss(keeping) = &mut self.caching else {
            return false;
        };
        if !takes_kept {
            return false;
        }
        let cache = &self.inside.runtime.cache;
        match cache.flights.board(keeping.key) {
            Boarding::Leads(sender) => {
                keeping.flight = Some(Flight {
                    inside: Arc::clone(&self.inside),
                    key: keeping.key,
                    _others_wait_for: sender,
                });
                false
            }
            Boarding::Follows(_) if self.call.stream => false,
            Boarding::Follows(mut led) => {
                // It closes without a word.
                drop(tokio::time::timeout(FOLLOW_MAX, led.changed()).await);
                cache.look_again();
                true
            }
        }
    }
}
