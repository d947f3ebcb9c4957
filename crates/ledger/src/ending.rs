//! How a hold ends: settled, released or cancelled by its call, or expired and reconciled.

use base::{AttemptId, PicoUsd, Timestamp};

use crate::account::{Crossed, Elsewhere};
use crate::hold::HoldState;
use crate::sharing::Sharing;
use crate::tenant_ledger::{HAS_ACCOUNT, NEVER};
use crate::{AccountId, Actual, Ended, Expiry, Hold, Settlement, TenantLedger, Unsettled};

/// How a hold ends.
enum End {
    Settled(Actual),
    Released,
    Cancelled,
}

/// The attempt cannot be reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// Its hold is live: the call itself will settle it.
    #[error("the call is still under way")]
    StillLive,
    /// Nothing of it is open.
    #[error("no such unsettled call")]
    Unknown,
}

impl TenantLedger {
    /// The call ended and is known to have cost `actual`. Journal [`crate::Record::Settled`],
    /// unless it had ended [already](Ended::Already).
    pub fn settle(&mut self, hold: Hold, actual: Actual, now: Timestamp) -> Settlement {
        self.end(hold, &End::Settled(actual), now)
    }

    /// The call ended and cost nothing. Journal [`crate::Record::Released`], unless it had ended
    /// [already](Ended::Already).
    pub fn release(&mut self, hold: Hold, now: Timestamp) -> Settlement {
        self.end(hold, &End::Released, now)
    }

    /// The call never left and no intent of it was journaled: it is as if it had not been.
    pub fn cancel(&mut self, hold: Hold, now: Timestamp) -> Settlement {
        self.end(hold, &End::Cancelled, now)
    }

    /// Counts every hold that has passed its deadline as spent, until it is settled late or
    /// reconciled. Costs nothing while none has.
    pub fn expire(&mut self, now: Timestamp) -> Expiry {
        let mut expiry = Expiry::default();
        if now < self.next_expiry {
            return expiry;
        }
        self.next_expiry = NEVER;
        for (attempt, entry) in &mut self.holds {
            if entry.state != HoldState::Live {
                continue;
            }
            if entry.expires_at > now {
                self.next_expiry = self.next_expiry.min(entry.expires_at);
                continue;
            }
            let mut marks = Vec::with_capacity(entry.accounts.len());
            for id in &entry.accounts {
                let account = self.accounts.get_mut(id).expect(HAS_ACCOUNT);
                account.held -= entry.amount;
                let elsewhere = posted(&mut self.sharing, *id, now);
                let (mark, crossed) = account.post(entry.amount, now, elsewhere);
                marks.push(mark);
                note(
                    *id,
                    crossed,
                    &mut expiry.soft_crossed,
                    &mut expiry.exhausted,
                );
            }
            self.limits.leave(&entry.limits);
            entry.state = HoldState::Unsettled { since: now, marks };
            expiry.expired.push(Unsettled {
                attempt: *attempt,
                amount: entry.amount,
                since: now,
            });
        }
        expiry.expired.sort_by_key(|unsettled| unsettled.attempt);
        expiry
    }

    /// What an expired or crashed call cost was found out. Journal [`crate::Record::Reconciled`].
    ///
    /// # Errors
    ///
    /// [`ReconcileError`]; nothing has changed.
    pub fn reconcile(
        &mut self,
        attempt: AttemptId,
        cost: PicoUsd,
        now: Timestamp,
    ) -> Result<Settlement, ReconcileError> {
        match self.holds.get(&attempt).map(|entry| &entry.state) {
            None => Err(ReconcileError::Unknown),
            Some(HoldState::Live) => Err(ReconcileError::StillLive),
            Some(HoldState::Unsettled { .. }) => {
                let tokens = self.holds[&attempt].tokens;
                Ok(self.end_attempt(attempt, &End::Settled(Actual { cost, tokens }), now))
            }
        }
    }

    /// Of what a crash left unreported on an account, `unspent` was found not to be spent.
    /// Journal [`crate::Record::LeaseReconciled`].
    pub fn reconcile_lease(&mut self, id: AccountId, unspent: PicoUsd, now: Timestamp) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.stranded.reconcile(&mut account.spend, unspent, now);
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.changed(id);
        }
    }

    fn end(&mut self, hold: Hold, end: &End, now: Timestamp) -> Settlement {
        assert_eq!(
            hold.tenant,
            self.tenant(),
            "a hold ends in the ledger that made it"
        );
        self.end_attempt(hold.attempt, end, now)
    }

    fn end_attempt(&mut self, attempt: AttemptId, end: &End, now: Timestamp) -> Settlement {
        let mut settlement = Settlement {
            ended: Ended::Already,
            charged: PicoUsd::ZERO,
            overshoot: PicoUsd::ZERO,
            freed: PicoUsd::ZERO,
            soft_crossed: Vec::new(),
            exhausted: Vec::new(),
        };
        let Some(entry) = self.holds.remove(&attempt) else {
            return settlement;
        };
        let cost = match end {
            End::Settled(actual) => actual.cost,
            End::Released | End::Cancelled => PicoUsd::ZERO,
        };
        for (place, id) in entry.accounts.iter().enumerate() {
            let account = self.accounts.get_mut(id).expect(HAS_ACCOUNT);
            account.open -= 1;
            if !matches!(end, End::Settled(_)) {
                account.calls = account.calls.saturating_sub(1);
            }
            if matches!(end, End::Cancelled) {
                account.lease.dispatched -= entry.amount;
            }
            let elsewhere = posted(&mut self.sharing, *id, now);
            let crossed = match &entry.state {
                HoldState::Live => {
                    account.held -= entry.amount;
                    account.post(cost, now, elsewhere).1
                }
                HoldState::Unsettled { marks, .. } => {
                    account.correct(entry.amount, marks[place], cost, now, elsewhere)
                }
            };
            let Settlement {
                soft_crossed,
                exhausted,
                ..
            } = &mut settlement;
            note(*id, crossed, soft_crossed, exhausted);
        }
        settlement.ended = match entry.state {
            HoldState::Live => {
                self.limits.leave(&entry.limits);
                Ended::InTime
            }
            HoldState::Unsettled { .. } => Ended::Late,
        };
        match end {
            End::Settled(actual) => {
                self.limits
                    .true_up(&entry.limits, entry.tokens, actual.tokens);
            }
            End::Released | End::Cancelled => self.limits.undo(&entry.limits, entry.tokens),
        }
        settlement.charged = cost;
        settlement.overshoot = cost.saturating_sub(entry.amount);
        settlement.freed = entry.amount.saturating_sub(cost);
        settlement
    }
}

/// What the other replicas have spent meanwhile, where budgets are shared.
fn posted(sharing: &mut Option<Box<Sharing>>, id: AccountId, now: Timestamp) -> Elsewhere {
    match sharing {
        Some(sharing) => sharing.posted(id, now),
        None => Elsewhere::default(),
    }
}

fn note(
    id: AccountId,
    crossed: Crossed,
    soft_crossed: &mut Vec<AccountId>,
    exhausted: &mut Vec<AccountId>,
) {
    if crossed.soft {
        soft_crossed.push(id);
    }
    if crossed.exhausted {
        exhausted.push(id);
    }
}
