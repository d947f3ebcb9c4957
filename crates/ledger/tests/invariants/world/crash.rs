//! The process dies or ends, another takes over; and what must hold all along.

use base::{AttemptId, PicoUsd};
use ledger::{Ended, Fault, Lsn, Projection, Record, ReleaseReason, TenantLedger, Window, verify};

use super::{Budget, Call, CallState, TENANT, World};
use crate::Step;

impl World {
    pub(super) fn crash(&mut self, kept_percent: usize) {
        let kept = self.durable + (self.journal.len() - self.durable) * kept_percent / 100;
        self.journal.truncate(kept);
        self.has_crashed = true;
        self.holds.clear();
        self.projection = self.replay();
        let surviving: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state != CallState::Ended)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in surviving {
            let is_reported = self.is_reported(AttemptId::from_bits(attempt));
            let call = self.calls.get_mut(&attempt).unwrap();
            call.state = match call.state {
                CallState::Admitted => CallState::Ended,
                CallState::Lost => CallState::Lost,
                _ if is_reported => CallState::Unsettled,
                _ => CallState::Lost,
            };
            if call.state == CallState::Ended {
                call.cost = PicoUsd::ZERO;
            }
        }
        // A call whose settlement was lost stands at its bound again, or is lost altogether.
        let open: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.state == CallState::Ended && call.cost > PicoUsd::ZERO)
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in open {
            let id = AttemptId::from_bits(attempt);
            let has_end = self.journal.iter().any(|record| match record {
                Record::Settled(settled) => settled.attempt == id,
                Record::Released { attempt, .. } | Record::Reconciled { attempt, .. } => {
                    *attempt == id
                }
                _ => false,
            });
            if !has_end {
                let is_reported = self.is_reported(id);
                let call = self.calls.get_mut(&attempt).unwrap();
                call.state = if is_reported {
                    CallState::Unsettled
                } else {
                    CallState::Lost
                };
            }
        }
        self.start();
    }

    pub(super) fn restart(&mut self) {
        while let Some(hold) = self.holds.pop() {
            let (attempt, at) = (hold.attempt(), self.now());
            let call = self.calls[&attempt.bits()].clone();
            if call.state == CallState::Admitted {
                let _settlement = self.ledger.cancel(hold, at);
                self.end_in_models(attempt.bits(), PicoUsd::ZERO);
                continue;
            }
            if self.ledger.release(hold, at).ended == Ended::Already {
                continue;
            }
            let reason = ReleaseReason::Refused;
            self.append(Record::Released {
                attempt,
                reason,
                at,
            });
            self.end_in_models(attempt.bits(), PicoUsd::ZERO);
        }
        self.has_restarted = true;
        let at = self.now();
        self.append(Record::Closed { at });
        let unreported: Vec<_> = self.unreported();
        self.projection = self.replay();
        self.start();
        // With a clock that went back the journal need not have seen that a window had ended.
        if !self.has_jumped_back {
            assert_eq!(
                self.unreported(),
                unreported,
                "a clean end leaves nothing unreported"
            );
        }
    }

    pub(super) fn unreported(&self) -> Vec<PicoUsd> {
        let view = |budget: &Budget| self.ledger.account(budget.id, self.now());
        self.budgets
            .iter()
            .map(|budget| view(budget).map_or(PicoUsd::ZERO, |view| view.unreported))
            .collect()
    }

    /// Replays all, by way of a checkpoint in the middle and records that come twice.
    pub(super) fn replay(&mut self) -> Projection {
        self.lines.clear();
        let mut whole = Projection::new();
        let mut resumed = Projection::new();
        for (place, record) in self.journal.iter().enumerate() {
            let lsn = Lsn::new(place as u64 + 1);
            let mut lines = Vec::new();
            whole.apply(lsn, record, &mut lines);
            for line in lines {
                self.lines.insert(line.intent.attempt, line);
            }
            resumed.apply(lsn, record, &mut Vec::new());
            if place == self.journal.len() / 2 {
                let bytes = resumed.to_bytes();
                resumed = Projection::from_bytes(&bytes).expect("own bytes");
                for (place, record) in self.journal[..=place].iter().enumerate() {
                    resumed.apply(Lsn::new(place as u64 + 1), record, &mut Vec::new());
                }
            }
        }
        assert!(
            whole == resumed,
            "a checkpoint and duplicates change nothing"
        );
        whole
    }

    pub(super) fn start(&mut self) {
        let at = self.now();
        self.append(Record::Started { at });
        self.durable = self.journal.len();
        let mut ledgers = self.projection.ledgers().expect("just started");
        self.ledger = ledgers
            .remove(&TENANT)
            .unwrap_or_else(|| TenantLedger::new(TENANT));
        assert!(ledgers.is_empty(), "no other tenant has an account");
    }

    /// All that must hold after every step.
    pub(crate) fn check(&self) {
        let now = self.now();
        for (place, budget) in self.budgets.iter().enumerate() {
            let Some(view) = self.ledger.account(budget.id, now) else {
                continue;
            };
            // A crash under a clock that went back may over-count: the journal need not have seen
            // the window that the ledger had moved on to.
            let may_over_count = self.has_jumped_back && view.unreported > PicoUsd::ZERO;
            if let Some(limit) = budget.terms.limit
                && !may_over_count
            {
                assert!(
                    view.spent + view.held <= limit,
                    "invariant 5: {view:?} of {limit}"
                );
            }
            if self.is_exact() {
                assert_eq!(view.held, self.model_held(place), "invariant 8");
                assert_eq!(view.spent, self.model_spent(place));
            }
            let truth: PicoUsd = self
                .calls
                .values()
                .filter(|call| call.accounts.contains(&place) && call.state != CallState::Admitted)
                .map(|call| call.cost)
                .sum();
            if matches!(budget.terms.window, Window::Total) {
                assert!(
                    view.spent + view.held >= truth,
                    "invariant 7: {view:?} of {truth}"
                );
            }
            // With a clock that only goes forward the journal says the same, but for calls that
            // are admitted and have not left.
            if !self.has_jumped_back
                && self
                    .holds
                    .iter()
                    .all(|hold| self.is_reported(hold.attempt()))
            {
                let known = self.projection.account(budget.id, now).unwrap();
                assert_eq!(
                    (known.spent, known.held),
                    (view.spent, view.held),
                    "{}",
                    budget.name
                );
                assert_eq!(known.calls, view.calls);
            }
        }
        assert_eq!(self.projection.strays(), 0);
    }

    /// Ends everything, and finds that exactly what the upstreams saw was counted.
    pub(crate) fn finish(&mut self) {
        while self
            .holds
            .iter()
            .any(|hold| self.calls[&hold.attempt().bits()].state == CallState::Admitted)
        {
            self.step(&Step::Cancel { which: 0 });
        }
        while !self.holds.is_empty() {
            self.settle(0);
        }
        while !self.ledger.unsettled().is_empty() {
            self.reconcile(0);
        }
        self.check();
        let now = self.now();
        let report = verify(
            self.journal
                .iter()
                .enumerate()
                .map(|(place, record)| (Lsn::new(place as u64 + 1), record)),
        );
        let faults: Vec<_> = report
            .faults
            .iter()
            // A clock that went back may have been ahead where the journal did not see it.
            .filter(|fault| !(self.has_jumped_back && matches!(fault, Fault::BeyondLimit { .. })))
            .collect();
        assert!(faults.is_empty(), "invariants 5 to 8: {faults:?}");
        assert_eq!(report.open, 0, "invariant 6");
        assert_eq!(
            report.attempts,
            report.settled + report.released + report.reconciled
        );
        let lines: PicoUsd = self.lines.values().map(|line| line.cost).sum();
        assert_eq!(lines, report.cost, "each call has one line, with its cost");

        for place in [0, 3] {
            let Some(view) = self.ledger.account(self.budgets[place].id, now) else {
                continue;
            };
            assert_eq!(view.held, PicoUsd::ZERO, "invariant 8: nothing leaked");
            let on = |call: &&Call| call.accounts.contains(&place);
            let truth: PicoUsd = self.calls.values().filter(on).map(|call| call.cost).sum();
            let lost: PicoUsd = self
                .calls
                .values()
                .filter(on)
                .filter(|call| call.state == CallState::Lost)
                .map(|call| call.cost)
                .sum();
            assert!(
                view.unreported >= lost,
                "invariant 7: {view:?}, {lost} lost"
            );
            self.ledger
                .reconcile_lease(self.budgets[place].id, view.unreported - lost, now);
            let view = self.ledger.account(self.budgets[place].id, now).unwrap();
            assert_eq!(
                view.spent, truth,
                "nothing is missing, nothing is counted twice"
            );
        }
    }
}
