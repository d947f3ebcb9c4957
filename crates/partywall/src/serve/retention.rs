//! What tenants' stores forget with time.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Timestamp};
use gateway::Gateway;
use store::{StoreError, Stores, TooOld};
use tenancy::catalogue::RetentionSpec;
use tenancy::{ServiceIdentity, ServicePurpose, TenantEntry};

/// 100 days: a quarter, and a week to look at it. Hours are most of what sums take; older ones are
/// asked of the lines.
const HOURS_KEPT: Duration = Duration::from_secs(100 * 24 * 3600);
/// 100,000 rows of a tenant in one turn: seconds of a disk. A tenant whose lines are to be forgotten
/// for the first time has more: the rest goes in the turns that follow.
const ROWS_PER_TURN: u64 = 100_000;

/// Forgets what is older than tenants have it kept.
pub(super) struct Retention {
    pub(super) stores: Stores,
    pub(super) gateway: Gateway,
    pub(super) service: ServiceIdentity,
    pub(super) clock: Arc<dyn Clock>,
}

impl Retention {
    /// Goes through all tenants, one after the other. What fails is tried again the next time.
    pub(super) fn forget(&self) {
        let now = self.clock.now();
        let snapshot = self.gateway.snapshot();
        for entry in snapshot.tenants() {
            let too_old = too_old(snapshot.retention_of(entry), bodies_days(entry), now);
            let keys = Arc::clone(&entry.unlocked);
            let scope = self.service.scope(keys, ServicePurpose::Compaction);
            let forgotten = self
                .stores
                .open(&scope)
                .forget(&too_old, now, ROWS_PER_TURN);
            let tenant = &entry.name;
            match forgotten {
                Ok(forgotten) if forgotten.rows > 0 => tracing::info!(
                    %tenant,
                    rows = forgotten.rows,
                    is_done = forgotten.is_done,
                    "what is older than it is kept was forgotten"
                ),
                Ok(_) => {}
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%tenant, %error, cause, "not all that is old is forgotten");
                    if matches!(error, StoreError::ShuttingDown) {
                        return;
                    }
                }
            }
        }
    }
}

/// For how many days the tenant has bodies kept: none, if it does not any more.
fn bodies_days(entry: &TenantEntry) -> u16 {
    let spec = entry.config.bodies.as_ref();
    spec.map_or(0, |spec| spec.days)
}

fn too_old(spec: RetentionSpec, bodies_days: u16, now: Timestamp) -> TooOld {
    let days = |days: u16| now.minus(Duration::from_secs(u64::from(days) * 24 * 3_600));
    TooOld {
        hours: now.minus(HOURS_KEPT),
        lines: spec.lines_days.map(days),
        responses: spec.responses_days.map(days),
        conversations: spec.conversations_days.map(days),
        bodies: days(bodies_days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_kept() {
        let now: Timestamp = "2026-11-22T16:00:00Z".parse().unwrap();
        let nothing = too_old(RetentionSpec::default(), 0, now);
        let day = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(nothing.hours, day("2026-08-14T16:00:00Z"));
        assert_eq!(
            (nothing.lines, nothing.responses, nothing.conversations),
            (None, None, None)
        );
        assert_eq!(
            nothing.bodies, now,
            "none is kept without the tenant's word"
        );
        let spec = RetentionSpec {
            lines_days: Some(30),
            responses_days: Some(1),
            conversations_days: Some(7),
        };
        let some = too_old(spec, 7, now);
        assert_eq!(some.lines, Some(day("2026-10-23T16:00:00Z")));
        assert_eq!(some.responses, Some(day("2026-11-21T16:00:00Z")));
        assert_eq!(some.conversations, Some(day("2026-11-15T16:00:00Z")));
        assert_eq!(some.bodies, day("2026-11-15T16:00:00Z"));
    }
}
