//! What goes wrong: crashes, restarts, clocks, disks. And what the program does about it by
//! itself: expiry, reconciliation, compaction.

use std::time::Duration;

use base::{AttemptId, Clock as _, PicoUsd};
use ledger::{LedgerLine, Lsn, Projection, Record, Window, verify};
use store::Posted;

use crate::disk::Power;
use crate::gateway::Stage;
use crate::replica::{Away, Process, Replica, open, share, skewed};
use crate::tenants::TENANT_ACCOUNT;
use crate::world::{Breach, Shared};

/// After an hour the upstream's bill says what an unsettled call cost.
pub(crate) const BILL_AFTER: Duration = Duration::from_secs(3_600);

impl Replica {
    /// One fault, or an hour in which nothing happens.
    pub(crate) fn chaos(&mut self, all: &mut Shared) -> Result<(), Breach> {
        match all.dice.below(100) {
            0..25 => self.crash(all),
            25..30 => self.restart(all),
            30..45 => {
                self.jump(all);
                Ok(())
            }
            45..60 => {
                all.idle = self.idle(all);
                Ok(())
            }
            60..70 => {
                all.report.disk_faults += 1;
                if all.dice.chance(50) {
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
            _ => {
                self.part(all);
                Ok(())
            }
        }
    }

    /// Hours without a call; where there are several replicas, seconds too.
    fn idle(&self, all: &Shared) -> Duration {
        let has_seconds = all.database.is_some() && all.dice.chance(60);
        Duration::from_secs(match has_seconds {
            true => all.dice.below(120),
            false => all.dice.below(30) * 3_600,
        })
    }

    /// What happens between replicas: one stands still, or the database is out of reach.
    fn part(&mut self, all: &mut Shared) {
        let Some(database) = &mut all.database else {
            return;
        };
        let dice = &all.dice;
        match dice.below(4) {
            0 => {
                all.report.pauses += 1;
                self.away = Some(away(all, false));
            }
            1 => {
                all.report.partitions += 1;
                database.cut_off[self.number] = true;
            }
            2 => {
                all.report.partitions += 1;
                database.is_gone = true;
            }
            _ => database.heal(),
        }
    }

    fn heal_disk(&mut self) {
        self.disk.memory.set_capacity(None);
        self.disk.memory.set_sync_fails(false);
    }

    fn jump(&mut self, all: &mut Shared) {
        all.report.jumps += 1;
        if all.database.is_some() {
            // Clocks of replicas that share budgets are nearly right.
            let shown = skewed(all);
            self.has_jumped_back |= shown < self.now();
            self.clock.jump_to(shown);
            return;
        }
        let by = Duration::from_secs(all.dice.below(100_000));
        let now = self.now();
        if all.dice.chance(50) {
            self.has_jumped_back = true;
            self.clock.jump_to(now.minus(by));
        } else {
            self.clock.jump_to(now.plus(by));
        }
    }

    /// Holds expire, idle sessions go, and what the upstreams billed is looked up.
    pub(crate) fn maintain(&mut self, all: &mut Shared) -> Result<(), Breach> {
        let (at, elapsed) = (self.now(), self.clock.elapsed());
        for tenant in 0..all.tenants.len() {
            let expiry = self.ledger(all, tenant).expire(at);
            let expired = expiry.expired.iter().map(|expired| expired.attempt);
            let expired: Vec<_> = expired.collect();
            for attempt in &expired {
                all.report.expired += 1;
                let attempt = *attempt;
                self.append(Record::Expired { attempt, at })?;
            }
            self.note_late(&expired, at);
            for record in self.ledger(all, tenant).return_idle_leases(at) {
                all.report.returned += 1;
                self.append(record)?;
            }
            for record in self.ledger(all, tenant).sweep(at, elapsed) {
                self.forget(all, tenant, record)?;
            }
            for unsettled in self.ledger(all, tenant).unsettled() {
                let attempt = unsettled.attempt;
                let is_running = self.process.calls.contains_key(&attempt);
                if !is_running && at.since(unsettled.since) >= BILL_AFTER {
                    self.reconcile(all, tenant, attempt)?;
                }
            }
            self.retry_waiting(all, tenant)?;
        }
        self.drop_hanging();
        Ok(())
    }

    /// Journals what a ledger did, and notes what it has forgotten.
    pub(crate) fn forget(
        &mut self,
        all: &mut Shared,
        tenant: usize,
        record: Record,
    ) -> Result<(), Breach> {
        if let Record::AccountForgotten { account } = &record {
            let budgets = &all.tenants[tenant].budgets;
            let place = budgets.iter().position(|budget| budget.account == *account);
            let place = place.ok_or("an unknown account was forgotten")?;
            all.truth.forget((self.number, tenant, place));
        }
        self.append(record)?;
        Ok(())
    }

    fn reconcile(
        &mut self,
        all: &mut Shared,
        tenant: usize,
        attempt: AttemptId,
    ) -> Result<(), Breach> {
        let at = self.now();
        let billed = all.truth.calls.get(&attempt).map(|call| call.cost);
        let cost = billed.ok_or_else(|| format!("{attempt} is unsettled and never left"))?;
        self.ledger(all, tenant)
            .reconcile(attempt, cost, at)
            .map_err(|error| format!("{attempt}: {error}"))?;
        let lsn = self.append(Record::Reconciled { attempt, cost, at })?;
        if let Some(call) = all.truth.calls.get_mut(&attempt) {
            call.settled = Some((lsn, cost));
        }
        Ok(())
    }

    /// Sealed segments become lines in the tenants' stores.
    pub(crate) fn compact(&mut self, all: &mut Shared) -> Result<(), Breach> {
        if all.dice.chance(30) {
            self.process.journal.seal();
        }
        let canaries: Vec<_> = all
            .tenants
            .iter()
            .map(|tenant| (tenant.id, tenant.canary.clone()))
            .collect();
        let lines = &mut all.lines;
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
            all.report.segments += compacted.segments as u64;
        }
        breach.map_or(Ok(()), Err)
    }

    /// The power goes: of what was not synced any part is lost. Another process starts at once, or
    /// after a while.
    fn crash(&mut self, all: &mut Shared) -> Result<(), Breach> {
        self.lose_power(all);
        let is_slow = all.database.is_some() && all.dice.chance(40);
        if is_slow || !all.reaches_database(self.number) {
            self.away = Some(away(all, true));
            return Ok(());
        }
        self.come_back(all)
    }

    /// The power goes, and comes back at once.
    pub(crate) fn die(&mut self, all: &mut Shared) -> Result<(), Breach> {
        self.away = None;
        self.lose_power(all);
        self.come_back(all)
    }

    /// Starts again if the database lets it, and says whether it has.
    pub(crate) fn rise(&mut self, all: &mut Shared) -> Result<bool, Breach> {
        if all.dice.chance(10)
            && let Some(database) = &mut all.database
        {
            database.heal();
        }
        let can_rise = all.reaches_database(self.number);
        if can_rise {
            self.come_back(all)?;
        }
        Ok(can_rise)
    }

    fn lose_power(&mut self, all: &mut Shared) {
        all.report.crashes += 1;
        let power = match all.dice.below(3) {
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
        let dice = &all.dice;
        let memory = &self.disk.memory;
        if dice.chance(50) {
            memory.crash(|unsynced| dice.below(unsynced as u64 + 1) as usize);
        } else {
            // A disk writes sectors in whatever order it likes.
            memory.crash_in_sectors(|| dice.chance(50));
        }
    }

    fn come_back(&mut self, all: &mut Shared) -> Result<(), Breach> {
        self.heal_disk();
        self.recover(all)?;
        self.check_recovered(all)?;
        // An operator looks at what some of the crashes left, and others pile up.
        if all.dice.chance(50) {
            self.reconcile_all(all)?;
            all.report.reconciled += 1;
        }
        Ok(())
    }

    /// The process is told to stop: it cuts what runs, says that it is done, and ends.
    pub(crate) fn restart(&mut self, all: &mut Shared) -> Result<(), Breach> {
        all.report.restarts += 1;
        self.heal_disk();
        self.stop_calls(all)?;
        self.take_leave(all)?;
        let at = self.now();
        self.append(Record::Closed { at })?;
        self.process
            .journal
            .close()
            .map_err(|error| format!("a healthy disk took no last commit: {error}"))?;
        let unreported = self.unreported(all);
        self.disk.memory.crash(|_| 0);
        self.recover(all)?;
        if self.unreported(all) != unreported {
            return Err("invariant 7: a clean end left something unreported".into());
        }
        self.check_recovered(all)
    }

    /// Ends all that runs. What hangs is abandoned: its bill will tell.
    fn stop_calls(&mut self, all: &mut Shared) -> Result<(), Breach> {
        let running: Vec<_> = self.process.calls.keys().copied().collect();
        for attempt in running {
            let Some(call) = self.process.calls.remove(&attempt) else {
                continue;
            };
            if call.can_end() {
                self.process.calls.insert(attempt, call);
                self.end(all, attempt)?;
            } else if let Stage::Running { hold, .. } = call.stage {
                let at = self.now();
                for abandoned in self.ledger(all, call.tenant).abandon(hold, at).expired {
                    let attempt = abandoned.attempt;
                    self.append(Record::Expired { attempt, at })?;
                }
            }
        }
        // Whoever waited goes without.
        self.process.calls.clear();
        Ok(())
    }

    fn unreported(&mut self, all: &Shared) -> Vec<PicoUsd> {
        let now = self.now();
        let mut unreported = Vec::new();
        for tenant in 0..all.tenants.len() {
            let view = self.view(all, tenant, TENANT_ACCOUNT, now);
            unreported.push(view.map_or(PicoUsd::ZERO, |view| view.unreported));
        }
        unreported
    }

    /// Another process opens what is on the disk.
    fn recover(&mut self, all: &mut Shared) -> Result<(), Breach> {
        let (journal, recovered) = open(&self.disk, self.number)
            .map_err(|error| format!("invariant 7: the journal does not open: {error}"))?;
        all.report.torn_bytes += recovered.cut_bytes;
        let last = recovered.last_lsn.number() as usize;
        if last > self.records.len() {
            return Err("the journal holds records that nobody appended".into());
        }
        self.records.truncate(last);
        if recovered.projection != self.replay() {
            return Err("the journal gave back other records than were appended".into());
        }
        self.process = Process::new(journal);
        if let Some(database) = &mut all.database {
            self.process.epoch = database.take_place(self.number);
        }
        self.mark_lost(all);
        self.start(all)
    }

    /// A process starts: what its predecessor left open is unsettled from now on.
    pub(crate) fn start(&mut self, all: &mut Shared) -> Result<(), Breach> {
        let at = self.now();
        self.append(Record::Started { at })?;
        let ledgers = self.replay().ledgers();
        self.process.ledgers = ledgers.map_err(|error| error.to_string())?;
        let mut left_open = Vec::new();
        for ledger in self.process.ledgers.values_mut() {
            share(ledger, all.replicas());
            let unsettled = ledger.unsettled().into_iter();
            let unsettled = unsettled.filter(|unsettled| unsettled.since == at);
            left_open.extend(unsettled.map(|unsettled| unsettled.attempt));
        }
        self.note_late(&left_open, at);
        self.commit(all)
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

    /// At the end of a run: all bills have come, nothing is open, and all lines are in the stores.
    pub(crate) fn wind_up(&mut self, all: &mut Shared) -> Result<(), Breach> {
        self.reconcile_all(all)?;
        self.restart(all)?;
        self.process.journal.seal();
        self.commit(all)?;
        self.compact(all)
    }

    /// The journal, as an auditor reads it.
    pub(crate) fn verify(&self) -> Result<(), Breach> {
        let numbered = self.records.iter().enumerate();
        let report = verify(numbered.map(|(place, record)| (Lsn::new(place as u64 + 1), record)));
        self.check_verified(&report)
    }

    /// Nothing runs, and the bill has come: every call of unknown cost and every lease that a
    /// crash cut is put right. Exactly what was billed is counted then.
    fn reconcile_all(&mut self, all: &mut Shared) -> Result<(), Breach> {
        for tenant in 0..all.tenants.len() {
            for unsettled in self.ledger(all, tenant).unsettled() {
                self.reconcile(all, tenant, unsettled.attempt)?;
            }
            for account in 0..all.tenants[tenant].budgets.len() {
                self.reconcile_lease(all, tenant, account)?;
            }
        }
        self.check_reconciled(all)
    }

    /// The bill says which of the unreported money was not spent.
    fn reconcile_lease(
        &mut self,
        all: &mut Shared,
        tenant: usize,
        place: usize,
    ) -> Result<(), Breach> {
        let at = self.now();
        let Some(view) = self.view(all, tenant, place, at) else {
            return Ok(());
        };
        let lost = all.truth.lost((self.number, tenant, place));
        let budget = &all.tenants[tenant].budgets[place];
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
        self.ledger(all, tenant)
            .reconcile_lease(account, unspent, at);
        self.append(Record::LeaseReconciled {
            account,
            unspent,
            at,
        })?;
        Ok(())
    }
}

/// Milliseconds, seconds or hours from now.
fn away(all: &Shared, is_down: bool) -> Away {
    let dice = &all.dice;
    let millis = match dice.below(3) {
        0 => dice.below(1_000),
        1 => dice.below(200_000),
        _ => dice.below(30) * 3_600_000,
    };
    Away {
        until: all.elapsed + Duration::from_millis(millis),
        is_down,
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
