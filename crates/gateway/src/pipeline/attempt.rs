//! One call under way, as the books see it. Whoever holds it must say how it ended; if nobody
//! does, it says so itself (invariant 6).

use std::sync::Arc;

use base::{AttemptId, ModelName, PicoUsd};
use ledger::{
    Actual, Consumption, ConsumptionBound, Ended, Hold, Lsn, Metering, Outcome, Price, Record,
    ReleaseReason, Settled, Settlement,
};
use tenancy::TenantEntry;

use super::resolve::Inside;
use super::served::{PIECES_MAX, served_as};
use super::terms::Terms;
use crate::notices::{BudgetNotice, Notice, NoticeKind};
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::tenants::TenantRuntime;

/// A call whose hold is taken and whose intent is in the journal.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is settled by what is known of it"]
pub(super) struct Attempt {
    shared: Arc<Shared>,
    runtime: Arc<TenantRuntime>,
    hold: Option<Hold>,
    intent: Lsn,
    is_sent: bool,
    /// What the upstream called the model.
    served: Option<ModelName>,
    tenant: Arc<TenantEntry>,
    terms: Arc<Terms>,
    pub(super) price: Arc<Price>,
    pub(super) bound: ConsumptionBound,
}

impl Attempt {
    /// An attempt whose intent the journal has taken.
    pub(super) fn begun(
        inside: &Inside,
        terms: Arc<Terms>,
        hold: Hold,
        intent: Lsn,
        price: Arc<Price>,
        bound: ConsumptionBound,
    ) -> Self {
        Self {
            shared: Arc::clone(&inside.shared),
            runtime: Arc::clone(&inside.runtime),
            tenant: Arc::clone(&inside.tenant),
            terms,
            hold: Some(hold),
            intent,
            is_sent: false,
            served: None,
            price,
            bound,
        }
    }

    /// From here on an upstream may bill it.
    pub(super) fn mark_sent(&mut self) {
        self.is_sent = true;
    }

    /// Reads what the upstream calls the model, if this text says it and none did before.
    pub(super) fn read_name(&mut self, answer: &[u8]) {
        if self.served.is_none() {
            self.served = served_as(answer);
        }
    }

    /// The same, of a stream of whose pieces so many said nothing. So many do now; none is left to
    /// look through once the name is known.
    pub(super) fn read_name_of_stream(&mut self, piece: &[u8], nameless: u8) -> u8 {
        self.read_name(piece);
        match self.served {
            Some(_) => PIECES_MAX,
            None => nameless + 1,
        }
    }

    /// What the upstream calls the model, as far as it has said.
    pub(super) fn served(&self) -> Option<&ModelName> {
        self.served.as_ref()
    }

    /// Waits until the intent is on disk: no byte reaches a client before (invariant 7).
    pub(super) async fn durable(&self) -> Result<(), Refusal> {
        self.shared
            .journal
            .durable(self.intent)
            .await
            .map_err(|error| {
                tracing::error!(%error, "an intent could not be made durable");
                Refusal::NotDurable
            })
    }

    /// It ended, and this is what it consumed.
    pub(super) fn settle(
        mut self,
        consumption: Consumption,
        outcome: Outcome,
        metering: Metering,
    ) -> PicoUsd {
        let cost = ledger::cost(&self.price, &consumption);
        if let Some(hold) = self.hold.take() {
            self.end_settled(hold, consumption, cost, outcome, metering);
        }
        cost
    }

    /// An answer was given again that had been kept: it costs what was held, and consumed nothing.
    /// An upstream would have cost `anew`.
    pub(super) fn settle_cached(mut self, anew: PicoUsd) -> PicoUsd {
        let cost = ledger::upper_bound(&self.price, &self.bound);
        if let Some(hold) = self.hold.take() {
            let nothing = Consumption::default();
            let metering = Metering::Cached { anew };
            self.end_settled(hold, nothing, cost, Outcome::Completed, metering);
        }
        cost
    }

    /// It ended, and no upstream bills it.
    pub(super) fn release(mut self, reason: ReleaseReason) {
        if let Some(hold) = self.hold.take() {
            self.end_released(hold, reason);
        }
    }

    fn end_settled(
        &self,
        hold: Hold,
        consumption: Consumption,
        cost: PicoUsd,
        outcome: Outcome,
        metering: Metering,
    ) {
        let attempt = hold.attempt();
        let at = self.shared.clock.now();
        let tokens = consumption.input_tokens + consumption.output_tokens;
        let settlement = {
            let mut ledger = self.runtime.ledger.lock();
            let settlement = ledger.settle(hold, Actual { cost, tokens }, at);
            let settled = Settled {
                attempt,
                consumption,
                cost,
                outcome,
                metering,
                served: self.served.clone(),
                at,
            };
            self.journal(&settlement, &Record::Settled(settled));
            settlement
        };
        self.after(attempt, &settlement);
    }

    fn end_released(&self, hold: Hold, reason: ReleaseReason) {
        let attempt = hold.attempt();
        let at = self.shared.clock.now();
        let settlement = {
            let mut ledger = self.runtime.ledger.lock();
            let settlement = ledger.release(hold, at);
            self.journal(
                &settlement,
                &Record::Released {
                    attempt,
                    reason,
                    at,
                },
            );
            settlement
        };
        self.after(attempt, &settlement);
    }

    /// The journal may refuse: then the call stands at its upper bound after a restart, which
    /// over-counts and never under-counts.
    fn journal(&self, settlement: &Settlement, record: &Record) {
        if settlement.ended == Ended::Already {
            return; // It was reconciled in the meantime, and that is the last word.
        }
        if let Err(error) = self.shared.journal.append_quietly(record) {
            tracing::error!(%error, "the end of a call could not be journaled");
        }
    }

    fn after(&self, attempt: AttemptId, settlement: &Settlement) {
        if settlement.overshoot > PicoUsd::ZERO {
            tracing::error!(%attempt, overshoot = %settlement.overshoot, "a call cost more than its bound");
        }
        if !settlement.soft_crossed.is_empty() || !settlement.exhausted.is_empty() {
            self.notify(settlement);
        }
        self.runtime.lines.notify();
    }

    /// Tells the tenant which budgets came near their end, or to it.
    fn notify(&self, settlement: &Settlement) {
        let Some(to) = &self.tenant.spec.webhook_url else {
            return;
        };
        let now = self.shared.clock.now();
        let crossed = settlement
            .soft_crossed
            .iter()
            .map(|id| (NoticeKind::SoftThreshold, id));
        let exhausted = settlement
            .exhausted
            .iter()
            .map(|id| (NoticeKind::Exhausted, id));
        for (kind, account) in crossed.chain(exhausted) {
            let Some(budget) = self.terms.budget(*account) else {
                continue;
            };
            let Some(view) = self.runtime.ledger.lock().account(*account, now) else {
                continue;
            };
            let data = BudgetNotice {
                tenant: self.tenant.name.clone(),
                tenant_id: self.tenant.id(),
                budget: budget.budget.clone(),
                subject: budget.subject_text.to_string(),
                limit: budget.terms.limit,
                spent: view.spent + view.spent_elsewhere,
            };
            self.shared.notices.send(Notice {
                kind,
                timestamp: now,
                data,
                to: to.to_string(),
            });
        }
    }
}

/// Dropped without a word: its client went away, or the process is stopping. What was never sent
/// costs nothing; what was sent may be billed in full, and counts so until it is reconciled.
impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        if !self.is_sent {
            return self.end_released(hold, ReleaseReason::NotDispatched);
        }
        let at = self.shared.clock.now();
        {
            let mut ledger = self.runtime.ledger.lock();
            for expired in ledger.abandon(hold, at).expired {
                let record = Record::Expired {
                    attempt: expired.attempt,
                    at,
                };
                if let Err(error) = self.shared.journal.append_quietly(&record) {
                    tracing::error!(%error, "the end of a call could not be journaled");
                }
            }
        }
        self.runtime.lines.notify();
    }
}
