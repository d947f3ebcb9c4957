//! A call that was sent and whose end nobody saw.

use base::Timestamp;

use crate::hold::HoldState;
use crate::{Expiry, Hold, TenantLedger};

impl TenantLedger {
    /// The call may have cost anything up to its bound, and nobody will say: it counts as spent
    /// in full from now on, until it is reconciled. Journal [`crate::Record::Expired`] for what
    /// is returned as expired.
    pub fn abandon(&mut self, hold: Hold, now: Timestamp) -> Expiry {
        if let Some(entry) = self.holds.get_mut(&hold.attempt)
            && entry.state == HoldState::Live
        {
            entry.expires_at = now;
            self.next_expiry = now;
        }
        self.expire(now)
    }
}
