//! What must hold, after every event, after every recovery and at the end.

use std::collections::{BTreeMap, BTreeSet};

use base::{AttemptId, PicoUsd, Timestamp};
use ledger::{AccountId, AccountView, Fault, Record, Subject, VerifyReport, Window};

use crate::coordinator::Database;
use crate::gateway::{Call, Stage};
use crate::replica::Replica;
use crate::tenants::{IN_FLIGHT_MAX, TENANT_ACCOUNT};
use crate::world::{Breach, Shared, World};

impl Call {
    /// Whether its hold is live.
    fn holds(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }
}

impl Replica {
    pub(crate) fn view(
        &self,
        all: &Shared,
        tenant: usize,
        account: usize,
        now: Timestamp,
    ) -> Option<AccountView> {
        let tenant = &all.tenants[tenant];
        let ledger = self.process.ledgers.get(&tenant.id)?;
        ledger.account(tenant.budgets[account].account, now)
    }

    /// Whether its process is there, be it that it stands still.
    fn is_here(&self) -> bool {
        !self.away.is_some_and(|away| away.is_down)
    }

    /// Whether it has seen what time it is.
    fn is_awake(&self) -> bool {
        self.away.is_none() && !self.has_slept
    }

    /// Its live calls for a tenant, as its ledger should see them.
    fn live(&self, all: &Shared, tenant: usize) -> Vec<&Call> {
        let ledger = self.process.ledgers.get(&all.tenants[tenant].id);
        let expired: BTreeSet<AttemptId> = ledger
            .map(|ledger| ledger.unsettled())
            .unwrap_or_default()
            .into_iter()
            .map(|unsettled| unsettled.attempt)
            .collect();
        self.process
            .calls
            .iter()
            .filter(|(attempt, call)| {
                call.tenant == tenant && call.holds() && !expired.contains(attempt)
            })
            .map(|(_, call)| call)
            .collect()
    }

    /// One account by one replica's books.
    fn check_books(
        &self,
        all: &Shared,
        (tenant, account): (usize, usize),
        live: &[&Call],
    ) -> Result<Option<AccountView>, Breach> {
        let budget = &all.tenants[tenant].budgets[account];
        let Some(view) = self.view(all, tenant, account, self.now()) else {
            return Ok(None);
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
        let billed = all.truth.billed((self.number, tenant, account));
        if is_total && view.spent + view.held < billed {
            return Err(format!(
                "invariant 7: {:?} has {} spent and {} held, and was billed {billed}",
                budget.subject, view.spent, view.held
            ));
        }
        Ok(Some(view))
    }

    /// After a crash: which calls did the journal never hear of?
    pub(crate) fn mark_lost(&mut self, all: &mut Shared) {
        let known = self.known();
        let number = self.number;
        let calls = all.truth.calls.iter_mut();
        for (attempt, call) in calls.filter(|(_, call)| call.replica == number) {
            if !call.is_lost && !known.contains(attempt) {
                call.is_lost = true;
                all.report.lost += 1;
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
    pub(crate) fn check_recovered(&self, all: &Shared) -> Result<(), Breach> {
        let calls = all.truth.calls.iter();
        for (attempt, call) in calls.filter(|(_, call)| call.replica == self.number) {
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
    pub(crate) fn check_reconciled(&self, all: &Shared) -> Result<(), Breach> {
        for tenant in 0..all.tenants.len() {
            for (account, budget) in all.tenants[tenant].budgets.iter().enumerate() {
                let is_total = matches!(budget.terms.window, Window::Total);
                let books = (self.number, tenant, account);
                if !is_total || all.truth.was_forgotten(books) {
                    continue;
                }
                let view = self.view(all, tenant, account, self.now());
                let counted = view.map_or(PicoUsd::ZERO, |view| view.spent + view.held);
                let billed = all.truth.billed(books);
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

impl World {
    /// After every event.
    pub(crate) fn check(&self) -> Result<(), Breach> {
        let all = &self.all;
        let alive = || {
            let replicas = self.replicas.iter();
            replicas.filter(|replica| replica.is_here())
        };
        for tenant in 0..all.tenants.len() {
            let live: Vec<_> = alive()
                .map(|replica| (replica, replica.live(all, tenant)))
                .collect();
            let in_flight: usize = live.iter().map(|(_, live)| live.len()).sum();
            if in_flight > IN_FLIGHT_MAX as usize {
                return Err(format!("{in_flight} calls at the same time"));
            }
            for account in 0..all.tenants[tenant].budgets.len() {
                let mut views = Vec::with_capacity(live.len());
                for (replica, live) in &live {
                    let view = replica.check_books(all, (tenant, account), live)?;
                    views.extend(view.map(|view| (*replica, view)));
                }
                self.check_budget(tenant, account, &views)?;
            }
        }
        Ok(())
    }

    /// One budget over all replicas.
    fn check_budget(
        &self,
        tenant: usize,
        account: usize,
        views: &[(&Replica, AccountView)],
    ) -> Result<(), Breach> {
        let budget = &self.all.tenants[tenant].budgets[account];
        let (subject, terms) = (&budget.subject, &budget.terms);
        let is_total = matches!(terms.window, Window::Total);
        // What is never forgotten; of one replica, sessions neither.
        let is_lasting = is_total && (self.replicas.len() == 1 || !subject.is_ephemeral());
        // A crash under a clock that went back may over-count what is in a window: the journal
        // need not have seen the one that the ledger had moved on to. And what a replica that comes
        // back after hours cannot report counts from then on, whenever it was spent.
        let may_count_more = |(replica, view): &(&Replica, AccountView)| {
            let is_late = replica.has_jumped_back || self.replicas.len() > 1;
            is_late && view.unreported > PicoUsd::ZERO
        };
        let is_exact = is_lasting || !views.iter().any(may_count_more);
        let Some(limit) = terms.limit.filter(|_| is_exact) else {
            return Ok(());
        };
        // By its own books alone a window has nothing beyond its limit, whenever it was noticed.
        let is_spent_in_time = is_total || self.replicas.len() == 1;
        let used = views.iter().map(|(replica, view)| {
            let late = match is_spent_in_time {
                true => PicoUsd::ZERO,
                false => replica.counted_late(&self.all, (tenant, account)),
            };
            (view.spent + view.held).saturating_sub(late)
        });
        let used: PicoUsd = used.sum();
        if used > limit {
            return Err(format!(
                "invariant 5: {subject:?} has {used} spent and held, of {limit}"
            ));
        }
        let billed = (0..self.replicas.len())
            .map(|replica| self.all.truth.billed((replica, tenant, account)))
            .sum::<PicoUsd>();
        let was_forgotten = (0..self.replicas.len())
            .any(|replica| self.all.truth.was_forgotten((replica, tenant, account)));
        if is_total && !was_forgotten && billed > limit {
            return Err(format!(
                "invariant 5: {subject:?} was billed {billed}, of {limit}"
            ));
        }
        match &self.all.database {
            Some(database) => {
                let budget = (budget.account, subject, limit, is_lasting);
                self.check_shares(database, budget, views)
            }
            None => Ok(()),
        }
    }

    /// One budget's shares: what each replica has, and what it does with it.
    fn check_shares(
        &self,
        database: &Database,
        (account, subject, limit, is_lasting): (AccountId, &Subject, PicoUsd, bool),
        views: &[(&Replica, AccountView)],
    ) -> Result<(), Breach> {
        let now = self.all.now();
        for (replica, view) in views {
            let (used, number) = (view.spent + view.held, replica.number);
            let share = database.share_of(account, number, now);
            // Of windows and sessions more may count than was spent.
            if is_lasting && used > share.unwrap_or_default() {
                return Err(format!(
                    "invariant 5: replica {number} has used {used} of {subject:?}, and its share is {share:?}"
                ));
            }
            if replica.is_awake() && share.is_none() && view.held > PicoUsd::ZERO {
                return Err(format!(
                    "invariant 5: replica {number} holds {} of {subject:?}, and has no share any more",
                    view.held
                ));
            }
        }
        let shares = database.shares(account, now);
        if is_lasting && shares > limit {
            return Err(format!(
                "invariant 5: {subject:?} was divided into {shares}, of {limit}"
            ));
        }
        Ok(())
    }

    /// At the end: one line per call that a journal knows, with the cost that was billed; and
    /// exactly what was billed is counted.
    pub(crate) fn check_end(&self) -> Result<(), Breach> {
        let all = &self.all;
        let mut from_lines: BTreeMap<usize, PicoUsd> = BTreeMap::new();
        for (attempt, call) in &all.truth.calls {
            let line = all.lines.get(attempt);
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
        for replica in &self.replicas {
            replica.check_reconciled(all)?;
        }
        for tenant in 0..all.tenants.len() {
            let books = (0..self.replicas.len()).map(|replica| (replica, tenant, TENANT_ACCOUNT));
            let billed: PicoUsd = books.clone().map(|books| all.truth.billed(books)).sum();
            let lost: PicoUsd = books.map(|books| all.truth.lost(books)).sum();
            let lines = from_lines.get(&tenant).copied().unwrap_or_default();
            if lines + lost != billed {
                return Err(format!(
                    "invariant 6: lines come to {lines}, {lost} was lost, and {billed} was billed"
                ));
            }
        }
        Ok(())
    }
}
