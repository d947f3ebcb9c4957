//! A loaded adapter, for as long as a call needs it.

use std::sync::Arc;
use std::time::Duration;

use tenancy::AdapterName;

use super::AdapterShelf;
use crate::upstream::Upstream;

/// Keeps an adapter loaded. Dropping it says that the call has ended.
#[derive(Debug)]
pub(crate) struct AdapterLease {
    pub(super) upstream: Arc<Upstream>,
    pub(super) shelf: Arc<AdapterShelf>,
    pub(super) name: AdapterName,
    pub(super) life: u64,
}

/// Why a call does not get its adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAdapter {
    /// The engine could not load it; when it may be tried again.
    #[error("the adapter could not be loaded")]
    Failed(Duration),
    /// No slot in time, or too many who wait.
    #[error("no slot was free for the adapter in time")]
    Busy,
}

impl AdapterLease {
    /// The engine does not know the adapter: it began anew since it was loaded.
    pub(crate) fn lost(self) {
        self.shelf.lost(&self.name, self.life);
    }
}

impl Drop for AdapterLease {
    fn drop(&mut self) {
        self.shelf.release(&self.upstream, &self.name, self.life);
    }
}
