//! What goes wrong: crashes, restarts, clocks, disks. And what the program does about it by
//! itself: expiry, reconciliation, compaction.

use std::time::Duration;

use base::{AttemptId, Clock as _, PicoUsd};
use ledger::{LedgerLine, Lsn, Projection, Record, Window, verify};
use store::Posted;

use crate::disk::Power;
use crate::gateway::Stage;
use crate::tenants::TENANT_ACCOUNT;
use crate::world::{Breach, Process, World, open};

/// After an hour the upstream's bill says what an unsettled call cost.
const BILL_AFTER: Duration = Duration::from_secs(3_600);

impl World {
    /// One fault, or an hour in which nothing happens.
    pub(crate) fn chaos(&mut self) -> Result<(), Breach> {
        match self.dice.below(100) {
            0..25 => self.crash(),
            25..30 => self.restart(),
            30..45 => {
                self.jump();
                Ok(())
            }
            45..60 => {
                let hours = self.dice.below(30);
                self.clock.advance(Duration::from_secs(hours * 3_600));
                Ok(())
            }
            60..70 => {
                self.report.disk_faults += 1;
                if self.dice.chance(50) {
                    self.disk.memory.set_capacity(Some(0));
                } else {
                    self.disk.memory.set_sync_fails(true);
                }
                Ok(())
            }
            70..85 => {
                self.heal_disk();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn heal_disk(&mut self) {
        self.disk.memory.set_capacity(None);
        self.disk.memory.set_sync_fails(false);
    }

    fn jump(&mut self) {
        self.report.jumps += 1;
        let by = Duration::from_secs(self.dice.below(100_000));
        let now = self.now();
        if self.dice.chance(50) {
            self.has_jumped_back = true;
            self.clock.jump_to(now.minus(by));
        } else {
            self.clock.jump_to(now.plus(by));
        }
    }

    /// Holds expire, idle sessions go, and what the upstreams billed is looked up.
    pub(crate) fn maintain(&mut self) -> Result<(), Breach> {
        let (at, elapsed) = (self.now(), self.clock.elapsed());
        for tenant in 0..self.tenants.len() {
            let expiry = self.ledger(tenant).expire(at);
            for expired in expiry.expired {
                self.report.expired += 1;
                let attempt = expired.attempt;
                self.append(Record::Expired { attempt, at })?;
            }
            for record in self.ledger(tenant).return_idle_leases(at) {
                self.report.returned += 1;
                self.append(record)?;
            }
            for record in self.ledger(tenant).sweep(at, elapsed) {
                if let Record::AccountForgotten { account } = &record {
                    let budgets = &self.tenants[tenant].budgets;
                    let place = budgets.iter().position(|budget| budget.account == *account);
                    let place = place.ok_or("an unknown account was forgotten")?;
                    self.truth.forget(tenant, place);
                }
                self.append(record)?;
            }
            for unsettled in self.ledger(tenant).unsettled() {
                let attempt = unsettled.attempt;
                let is_running = self.process.calls.contains_key(&attempt);
                if !is_running && at.since(unsettled.since) >= BILL_AFTER {
                    self.reconcile(tenant, attempt)?;
                }
            }
            self.retry_waiting(tenant)?;
        }
        self.drop_hanging();
        Ok(())
    }

    fn reconcile(&mut self, tenant: usize, attempt: AttemptId) -> Result<(), Breach> {
        let at = self.now();
        let billed = self.truth.calls.get(&attempt).map(|call| call.cost);
        let cost = billed.ok_or_else(|| format!("{attempt} is unsettled and never left"))?;
        self.ledger(tenant)
            .reconcile(attempt, cost, at)
            .map_err(|error| format!("{attempt}: {error}"))?;
        let lsn = self.append(Record::Reconciled { attempt, cost, at })?;
        if let Some(call) = self.truth.calls.get_mut(&attempt) {
            call.settled = Some((lsn, cost));
        }
        Ok(())
    }

    /// Sealed segments become lines in the tenants' stores.
    pub(crate) fn compact(&mut self) -> Result<(), Breach> {
        if self.dice.chance(30) {
            self.process.journal.seal();
        }
        let canaries: Vec<_> = self
            .tenants
            .iter()
            .map(|tenant| (tenant.id, tenant.canary.clone()))
            .collect();
        let lines = &mut self.lines;
        let mut breach = None;
        let compacted = self
            .process
            .compactor
            .compact_sealed(&mut |tenant, posted| {
                for line in posted {
                    let is_own = canaries
                        .iter()
                        .any(|(id, canary)| *id == tenant && *canary == line.intent.feature);
                    if !is_own || line.intent.tenant != tenant {
                        breach = Some(format!(
                            "invariant 1: {tenant} was given a line of its twin"
                        ));
                    }
                    keep(lines, line);
                }
                Ok(Posted::Durable)
            });
        // A disk that is full or failing keeps the segments; nothing else may.
        if let Ok(compacted) = compacted {
            self.report.segments += compacted.segments as u64;
        }
        breach.map_or(Ok(()), Err)
    }

    /// The power goes: of what was not synced any part is lost.
    fn crash(&mut self) -> Result<(), Breach> {
        self.report.crashes += 1;
        let power = match self.dice.below(3) {
            0 => Power::On,
            1 => Power::CutBefore,
            _ => Power::CutAfter,
        };
        if power != Power::On {
            // In the middle of a commit: its records are written, and not synced.
            self.disk.set_power(power);
            let cut = self.process.journal.commit_now();
            self.disk.set_power(Power::On);
            drop(cut);
        }
        let dice = &self.dice;
        let memory = &self.disk.memory;
        if dice.chance(50) {
            memory.crash(|unsynced| dice.below(unsynced as u64 + 1) as usize);
        } else {
            // A disk writes sectors in whatever order it likes.
            memory.crash_in_sectors(|| dice.chance(50));
        }
        self.heal_disk();
        self.recover()?;
        self.check_recovered()?;
        // An operator looks at what some of the crashes left, and others pile up.
        if self.dice.chance(50) {
            self.reconcile_all()?;
            self.report.reconciled += 1;
        }
        Ok(())
    }

    /// The process is told to stop: it cuts what runs, says that it is done, and ends.
    pub(crate) fn restart(&mut self) -> Result<(), Breach> {
        self.report.restarts += 1;
        self.heal_disk();
        self.stop_calls()?;
        let at = self.now();
        self.append(Record::Closed { at })?;
        self.process
            .journal
            .close()
            .map_err(|error| format!("a healthy disk took no last commit: {error}"))?;
        let unreported = self.unreported();
        self.disk.memory.crash(|_| 0);
        self.recover()?;
        if self.unreported() != unreported {
            return Err("invariant 7: a clean end left something unreported".into());
        }
        self.check_recovered()
    }

    /// Ends all that runs. What hangs is abandoned: its bill will tell.
    fn stop_calls(&mut self) -> Result<(), Breach> {
        let running: Vec<_> = self.process.calls.keys().copied().collect();
        for attempt in running {
            let Some(call) = self.process.calls.remove(&attempt) else {
                continue;
            };
            if call.can_end() {
                self.process.calls.insert(attempt, call);
                self.end(attempt)?;
            } else if let Stage::Running { hold, .. } = call.stage {
                let at = self.now();
                for abandoned in self.ledger(call.tenant).abandon(hold, at).expired {
                    let attempt = abandoned.attempt;
                    self.append(Record::Expired { attempt, at })?;
                }
            }
        }
        // Whoever waited goes without.
        self.process.calls.clear();
        Ok(())
    }

    fn unreported(&mut self) -> Vec<PicoUsd> {
        let now = self.now();
        let mut unreported = Vec::new();
        for tenant in 0..self.tenants.len() {
            let view = self.view(tenant, TENANT_ACCOUNT, now);
            unreported.push(view.map_or(PicoUsd::ZERO, |view| view.unreported));
        }
        unreported
    }

    /// Another process opens what is on the disk.
    fn recover(&mut self) -> Result<(), Breach> {
        let (journal, recovered) = open(&self.disk)
            .map_err(|error| format!("invariant 7: the journal does not open: {error}"))?;
        self.report.torn_bytes += recovered.cut_bytes;
        let last = recovered.last_lsn.number() as usize;
        if last > self.records.len() {
            return Err("the journal holds records that nobody appended".into());
        }
        self.records.truncate(last);
        if recovered.projection != self.replay() {
            return Err("the journal gave back other records than were appended".into());
        }
        self.process = Process::new(journal);
        self.mark_lost();
        self.start()
    }

    /// A process starts: what its predecessor left open is unsettled from now on.
    pub(crate) fn start(&mut self) -> Result<(), Breach> {
        let at = self.now();
        self.append(Record::Started { at })?;
        let ledgers = self.replay().ledgers();
        self.process.ledgers = ledgers.map_err(|error| error.to_string())?;
        self.commit()
    }

    /// What all records add up to.
    pub(crate) fn replay(&self) -> Projection {
        let mut projection = Projection::new();
        let mut lines = Vec::new();
        for (place, record) in self.records.iter().enumerate() {
            projection.apply(Lsn::new(place as u64 + 1), record, &mut lines);
        }
        projection
    }

    /// Brings the run to an end: everything is settled or reconciled, and adds up.
    pub(crate) fn finish(&mut self) -> Result<(), Breach> {
        self.heal_disk();
        self.crash()?;
        self.check()?;
        self.clock.advance(BILL_AFTER * 2);
        self.check()?;
        self.reconcile_all()?;
        self.restart()?;
        self.process.journal.seal();
        self.commit()?;
        self.compact()?;
        self.check_end()?;
        let numbered = self.records.iter().enumerate();
        let report = verify(numbered.map(|(place, record)| (Lsn::new(place as u64 + 1), record)));
        self.check_verified(&report)
    }

    /// Nothing runs, and the bill has come: every call of unknown cost and every lease that a
    /// crash cut is put right. Exactly what was billed is counted then.
    fn reconcile_all(&mut self) -> Result<(), Breach> {
        for tenant in 0..self.tenants.len() {
            for unsettled in self.ledger(tenant).unsettled() {
                self.reconcile(tenant, unsettled.attempt)?;
            }
            for account in 0..self.tenants[tenant].budgets.len() {
                self.reconcile_lease(tenant, account)?;
            }
        }
        self.check_reconciled()
    }

    /// The bill says which of the unreported money was not spent.
    fn reconcile_lease(&mut self, tenant: usize, place: usize) -> Result<(), Breach> {
        let at = self.now();
        let Some(view) = self.view(tenant, place, at) else {
            return Ok(());
        };
        let lost = self.truth.lost(tenant, place);
        let budget = &self.tenants[tenant].budgets[place];
        // What was lost in a window that has ended is not unreported in this one.
        let is_total = matches!(budget.terms.window, Window::Total);
        if is_total && lost > view.unreported {
            let (subject, unreported) = (&budget.subject, view.unreported);
            return Err(format!(
                "invariant 7: {subject:?} lost {lost}, and {unreported} is unreported"
            ));
        }
        let account = budget.account;
        let unspent = view.unreported.saturating_sub(lost);
        self.ledger(tenant).reconcile_lease(account, unspent, at);
        self.append(Record::LeaseReconciled {
            account,
            unspent,
            at,
        })?;
        Ok(())
    }
}

/// As a tenant's store does: the later line of a call stays.
fn keep(lines: &mut std::collections::BTreeMap<AttemptId, LedgerLine>, line: &LedgerLine) {
    let attempt = line.intent.attempt;
    let is_newer = lines.get(&attempt).is_none_or(|kept| kept.lsn < line.lsn);
    if is_newer {
        lines.insert(attempt, line.clone());
    }
}
