//! What is noticed to have ended long after it had: a replica stood still, or was gone. In a window
//! that counts from then on, although it was spent before, by when its share still counted: by so
//! much replicas together may count more than the limit, and spend no more.

use std::time::Duration;

use base::{AttemptId, PicoUsd, Timestamp};
use ledger::{AccountId, Record};

use crate::gateway::Stage;
use crate::replica::Replica;
use crate::world::Shared;

/// Clocks are off by less, and an end is noticed within a second.
const IN_TIME: Duration = Duration::from_secs(60);
/// The longest window, of 24 hours, and the hour of which a part counts whole.
const COUNTS_FOR: Duration = Duration::from_secs(25 * 3_600);

/// A call that counts in a window later than it was spent.
pub(crate) struct Late {
    account: AccountId,
    amount: PicoUsd,
    until: Timestamp,
}

impl Replica {
    /// Notes which of these calls, that have been noticed to have ended at `at`, had ended before.
    pub(crate) fn note_late(&mut self, ended: &[AttemptId], at: Timestamp) {
        for attempt in ended {
            let intent = self.records.iter().rev().find_map(|record| match record {
                Record::Intent(intent) if intent.attempt == *attempt => Some(intent),
                _ => None,
            });
            let Some(intent) = intent.filter(|intent| intent.expires_at.plus(IN_TIME) < at) else {
                continue;
            };
            self.late.extend(intent.accounts.iter().map(|account| Late {
                account: *account,
                amount: intent.amount,
                until: at.plus(COUNTS_FOR),
            }));
        }
    }

    /// What an account counts, or holds, that was spent so much earlier.
    pub(crate) fn counted_late(&self, all: &Shared, (tenant, account): (usize, usize)) -> PicoUsd {
        let now = all.now();
        let id = all.tenants[tenant].budgets[account].account;
        let noticed = self.late.iter();
        let noticed = noticed.filter(|late| late.account == id && now < late.until);
        let noticed: PicoUsd = noticed.map(|late| late.amount).sum();
        let held = self.process.calls.values().filter(|call| {
            let is_over = call.expires_at.plus(IN_TIME) < now;
            let holds = matches!(call.stage, Stage::Running { .. });
            call.tenant == tenant && holds && is_over && call.accounts.contains(&account)
        });
        noticed + held.map(|call| call.amount).sum::<PicoUsd>()
    }
}
