//! What must hold, after every event, after every recovery and at the end.

use std::collections::{BTreeMap, BTreeSet};

use base::{AttemptId, PicoUsd, Timestamp};
use ledger::{AccountView, Fault, Record, VerifyReport, Window};

use crate::gateway::{Call, Stage};
use crate::tenants::{IN_FLIGHT_MAX, TENANT_ACCOUNT};
use crate::world::{Breach, World};

impl Call {
    /// Whether its hold is live.
    fn holds(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }
}

impl World {
    pub(crate) fn view(
        &self,
        tenant: usize,
        account: usize,
        now: Timestamp,
    ) -> Option<AccountView> {
        let tenant = &self.tenants[tenant];
        let ledger = self.process.ledgers.get(&tenant.id)?;
        ledger.account(tenant.budgets[account].account, now)
    }

    /// After every event.
    pub(crate) fn check(&self) -> Result<(), Breach> {
        let now = self.now();
        for tenant in 0..self.tenants.len() {
            let ledger = self.process.ledgers.get(&self.tenants[tenant].id);
            let expired: BTreeSet<AttemptId> = ledger
                .map(|ledger| ledger.unsettled())
                .unwrap_or_default()
                .into_iter()
                .map(|unsettled| unsettled.attempt)
                .collect();
            let live: Vec<&Call> = self
                .process
                .calls
                .iter()
                .filter(|(attempt, call)| {
                    call.tenant == tenant && call.holds() && !expired.contains(attempt)
                })
                .map(|(_, call)| call)
                .collect();
            if live.len() > IN_FLIGHT_MAX as usize {
                return Err(format!("{} calls at the same time", live.len()));
            }
            for account in 0..self.tenants[tenant].budgets.len() {
                self.check_account(tenant, account, &live, now)?;
            }
        }
        Ok(())
    }

    fn check_account(
        &self,
        tenant: usize,
        account: usize,
        live: &[&Call],
        now: Timestamp,
    ) -> Result<(), Breach> {
        let budget = &self.tenants[tenant].budgets[account];
        let Some(view) = self.view(tenant, account, now) else {
            return Ok(());
        };
        let live_amounts: PicoUsd = live
            .iter()
            .filter(|call| call.accounts.contains(&account))
            .map(|call| call.amount)
            .sum();
        if view.held != live_amounts {
            let subject = &budget.subject;
            return Err(format!(
                "invariant 8: {subject:?} holds {}, and its live calls come to {live_amounts}",
                view.held
            ));
        }
        let is_total = matches!(budget.terms.window, Window::Total);
        // A crash under a clock that went back may over-count what is in a window: the journal
        // need not have seen the one that the ledger had moved on to.
        let is_exact = is_total || !self.has_jumped_back || view.unreported == PicoUsd::ZERO;
        if let Some(limit) = budget.terms.limit
            && is_exact
            && view.spent + view.held > limit
        {
            return Err(format!(
                "invariant 5: {:?} has {} spent and {} held, of {limit}",
                budget.subject, view.spent, view.held
            ));
        }
        let billed = self.truth.billed(tenant, account);
        if is_total && view.spent + view.held < billed {
            return Err(format!(
                "invariant 7: {:?} has {} spent and {} held, and was billed {billed}",
                budget.subject, view.spent, view.held
            ));
        }
        Ok(())
    }

    /// After a crash: which calls did the journal never hear of?
    pub(crate) fn mark_lost(&mut self) {
        let known = self.known();
        for (attempt, call) in &mut self.truth.calls {
            if !call.is_lost && !known.contains(attempt) {
                call.is_lost = true;
                self.report.lost += 1;
            }
            if let Some((lsn, _)) = call.settled
                && lsn.number() as usize > self.records.len()
            {
                call.settled = None;
            }
        }
    }

    /// The calls whose intents are in the journal.
    fn known(&self) -> BTreeSet<AttemptId> {
        self.records
            .iter()
            .filter_map(|record| match record {
                Record::Intent(intent) => Some(intent.attempt),
                _ => None,
            })
            .collect()
    }

    /// After a recovery: every answered call is in the journal, and none is held.
    pub(crate) fn check_recovered(&self) -> Result<(), Breach> {
        for (attempt, call) in &self.truth.calls {
            if call.is_answered && call.is_lost {
                return Err(format!(
                    "invariant 7: {attempt} was answered, and the journal has no intent of it"
                ));
            }
        }
        let is_held = self
            .process
            .ledgers
            .values()
            .any(|ledger| ledger.live_holds() > 0);
        if is_held {
            return Err("invariant 8: a hold outlived its process".into());
        }
        Ok(())
    }

    /// After everything was reconciled: exactly what was billed is counted, on every account
    /// that was never forgotten and whose window has not ended.
    pub(crate) fn check_reconciled(&self) -> Result<(), Breach> {
        for tenant in 0..self.tenants.len() {
            for (account, budget) in self.tenants[tenant].budgets.iter().enumerate() {
                let is_total = matches!(budget.terms.window, Window::Total);
                if !is_total || self.truth.was_forgotten(tenant, account) {
                    continue;
                }
                let view = self.view(tenant, account, self.now());
                let counted = view.map_or(PicoUsd::ZERO, |view| view.spent + view.held);
                let billed = self.truth.billed(tenant, account);
                if counted != billed {
                    return Err(format!(
                        "invariant 6: {:?} has {counted} counted, and {billed} was billed",
                        budget.subject
                    ));
                }
            }
        }
        Ok(())
    }

    /// At the end: one line per call that the journal knows, with the cost that was billed; and
    /// exactly what was billed is counted.
    pub(crate) fn check_end(&self) -> Result<(), Breach> {
        let mut from_lines: BTreeMap<usize, PicoUsd> = BTreeMap::new();
        for (attempt, call) in &self.truth.calls {
            let line = self.lines.get(attempt);
            match line {
                None if call.is_lost => {}
                None => return Err(format!("invariant 7: {attempt} has no line")),
                Some(_) if call.is_lost => {
                    return Err(format!("{attempt} was lost and has a line"));
                }
                Some(line) if line.cost != call.cost => {
                    return Err(format!(
                        "invariant 6: {attempt} was billed {}, and its line says {}",
                        call.cost, line.cost
                    ));
                }
                Some(line) => *from_lines.entry(call.tenant).or_default() += line.cost,
            }
        }
        self.check_reconciled()?;
        for tenant in 0..self.tenants.len() {
            let billed = self.truth.billed(tenant, TENANT_ACCOUNT);
            let lost = self.truth.lost(tenant, TENANT_ACCOUNT);
            let lines = from_lines.get(&tenant).copied().unwrap_or_default();
            if lines + lost != billed {
                return Err(format!(
                    "invariant 6: lines come to {lines}, {lost} was lost, and {billed} was billed"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn check_verified(&self, report: &VerifyReport) -> Result<(), Breach> {
        let is_fault =
            |fault: &&Fault| !(self.has_jumped_back && matches!(fault, Fault::BeyondLimit { .. }));
        if let Some(fault) = report.faults.iter().find(is_fault) {
            return Err(format!("the journal does not verify: {fault}"));
        }
        if report.open > 0 {
            return Err(format!("invariant 6: {} calls never ended", report.open));
        }
        let ended = report.settled + report.released + report.reconciled;
        if report.attempts != ended {
            return Err(format!(
                "invariant 6: {} calls began and {ended} ended",
                report.attempts
            ));
        }
        Ok(())
    }
}
