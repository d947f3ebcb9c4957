//! What tenants' stores forget with time.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Timestamp};
use gateway::Gateway;
use store::{StoreError, Stores};
use tenancy::{ServiceIdentity, ServicePurpose};

/// 100 days: a quarter, and a week to look at it. Hours are most of what sums take; older ones are
/// asked of the lines.
const HOURS_KEPT: Duration = Duration::from_secs(100 * 24 * 3600);

/// Forgets the old hours of tenants' usage.
pub(super) struct Retention {
    pub(super) stores: Stores,
    pub(super) gateway: Gateway,
    pub(super) service: ServiceIdentity,
    pub(super) clock: Arc<dyn Clock>,
}

impl Retention {
    /// Goes through all tenants, one after the other. What fails is tried again the next time.
    pub(super) fn forget(&self) {
        let hours_until = self.clock.now().minus(HOURS_KEPT);
        let no_lines = Timestamp::from_micros(i64::MIN);
        for entry in self.gateway.snapshot().tenants() {
            let keys = Arc::clone(&entry.unlocked);
            let scope = self.service.scope(keys, ServicePurpose::Compaction);
            let forgotten = self.stores.open(&scope).forget(hours_until, no_lines);
            if let Err(error) = forgotten {
                let tenant = &entry.name;
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%tenant, %error, cause, "old hours of usage are not forgotten");
                if matches!(error, StoreError::ShuttingDown) {
                    return;
                }
            }
        }
    }
}
