//! A gateway in small: admits, dispatches, answers and settles as the real one must.

use std::time::Duration;

use base::{AttemptId, Clock as _, PicoUsd, RequestId, Timestamp};
use ledger::{
    Actual, Admission, AdmitError, Consumption, ConsumptionBound, Ended, Hold, Hop, Intent,
    LeaseRequest, LimitUse, Lsn, Metering, Outcome, Record, ReleaseReason, Reservation, Settled,
    ShareNews, cost, upper_bound,
};

use crate::Mutant;
use crate::dice::Dice;
use crate::replica::Replica;
use crate::tenants::{self, TENANT_ACCOUNT, TENANTS, Tenant};
use crate::truth::TrueCall;
use crate::world::{Breach, Event, Shared};

/// How long a hold lives.
const HOLD_SECONDS: u64 = 60;
/// A call that waits for others gives up after as many tries.
const TRIES_MAX: u32 = 20;

/// A call as the gateway knows it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) tenant: usize,
    /// The accounts that hold its amount.
    pub(crate) accounts: Vec<usize>,
    pub(crate) amount: PicoUsd,
    pub(crate) expires_at: Timestamp,
    pub(crate) stage: Stage,
    pub(crate) plan: Plan,
}

/// How far a call has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its lease is being made durable.
    WaitsForLease { lsn: Lsn, request: LeaseRequest },
    /// Live calls hold what it needs.
    WaitsForOthers { tries: u32 },
    /// It is at the upstream.
    Running {
        hold: Hold,
        intent: Lsn,
        has_first_byte: bool,
        is_answered: bool,
    },
}

/// What its upstream is going to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    bound: ConsumptionBound,
    consumption: Consumption,
    cost: PicoUsd,
    ending: Ending,
    first_byte_millis: u64,
    rest_millis: u64,
}

/// How a call is going to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Costs(Outcome),
    /// Refused by the upstream: costs nothing.
    Refused,
    /// Never: its task is gone when its hold expires.
    Hangs,
}

impl Replica {
    /// A client calls.
    pub(crate) fn arrive(&mut self, all: &mut Shared) -> Result<(), Breach> {
        let tenant = all.dice.below(TENANTS as u64) as usize;
        let plan = plan(&all.dice);
        let amount = upper_bound(&tenants::price(), &plan.bound);
        let mut accounts = Tenant::accounts_of_call(all.dice.below(1 << 32));
        let forgets_scope = all.mutant == Mutant::DroppedScope && all.dice.chance(10);
        if forgets_scope {
            accounts.retain(|account| *account != TENANT_ACCOUNT);
        }
        let attempt = AttemptId::from_bits(all.dice.bits());
        let call = Call {
            tenant,
            accounts,
            amount,
            expires_at: self.now(),
            stage: Stage::WaitsForOthers { tries: 0 },
            plan,
        };
        self.try_call(all, attempt, call, 0)
    }

    /// Asks for admission; what happens then depends on the answer.
    fn try_call(
        &mut self,
        all: &mut Shared,
        attempt: AttemptId,
        mut call: Call,
        tries: u32,
    ) -> Result<(), Breach> {
        if !self.process.journal.is_accepting() {
            all.report.refused += 1;
            return Ok(());
        }
        call.expires_at = self.now().plus(Duration::from_secs(HOLD_SECONDS));
        match self.admit(all, attempt, &call) {
            Ok(admission) => {
                if let Some(refill) = admission.refill {
                    let lsn = self.ask_for_lease(&refill)?;
                    self.process.refills.push((lsn, call.tenant, refill));
                }
                self.dispatch(all, attempt, call, admission.hold)?;
                match admission.shares_run_low {
                    true => self.talk(all, ShareNews::Needed),
                    false => Ok(()),
                }
            }
            Err(AdmitError::NeedsLease(request)) => {
                let lsn = self.ask_for_lease(&request)?;
                call.stage = Stage::WaitsForLease { lsn, request };
                self.process.calls.insert(attempt, call);
                Ok(())
            }
            Err(AdmitError::HeldByOthers { .. }) if tries < TRIES_MAX => {
                call.stage = Stage::WaitsForOthers { tries: tries + 1 };
                self.process.calls.insert(attempt, call);
                Ok(())
            }
            Err(AdmitError::NeedsShare) if tries < TRIES_MAX => {
                call.stage = Stage::WaitsForOthers { tries: tries + 1 };
                self.process.calls.insert(attempt, call);
                self.talk(all, ShareNews::Needed)
            }
            Err(AdmitError::Duplicate) => Err("an attempt was admitted twice".into()),
            Err(_) => {
                all.report.refused += 1;
                Ok(())
            }
        }
    }

    fn admit(
        &mut self,
        all: &mut Shared,
        attempt: AttemptId,
        call: &Call,
    ) -> Result<Admission, AdmitError> {
        let tenant = &all.tenants[call.tenant];
        let accounts: Vec<_> = call
            .accounts
            .iter()
            .map(|account| tenant.budgets[*account].used())
            .collect();
        let limits = [LimitUse {
            limit: tenant.limit,
            terms: &tenant.limit_terms,
        }];
        let (now, elapsed) = (self.now(), self.clock.elapsed());
        self.ledger(all, call.tenant).admit(&Reservation {
            attempt,
            limits: &limits,
            accounts: &accounts,
            amount: call.amount,
            tokens: call.plan.bound.input_tokens + call.plan.bound.output_tokens,
            now,
            elapsed,
            expires_at: call.expires_at,
        })
    }

    /// Journals a lease, which is granted by the commit that holds it.
    fn ask_for_lease(&mut self, request: &LeaseRequest) -> Result<Lsn, Breach> {
        let mut lsn = Lsn::ZERO;
        for record in request.records() {
            lsn = self.append(record.clone())?;
        }
        Ok(lsn)
    }

    /// Journals the intent and lets the call go, without waiting for the disk.
    fn dispatch(
        &mut self,
        all: &mut Shared,
        attempt: AttemptId,
        mut call: Call,
        hold: Hold,
    ) -> Result<(), Breach> {
        let tenant = &all.tenants[call.tenant];
        let accounts = call.accounts.iter();
        let intent = Intent {
            attempt,
            request: RequestId::from_bits(attempt.bits()),
            parent: None,
            prompt: None,
            tenant: tenant.id,
            team: None,
            user: None,
            key: tenant.key,
            feature: tenant.canary.clone(),
            session: None,
            turn: None,
            hop: Hop::Generate,
            model: "model".parse().expect("a plain name"),
            upstream: "upstream".parse().expect("a plain name"),
            price_version: tenants::price().version,
            amount: call.amount,
            input_bound: call.plan.bound.input_tokens,
            output_bound: call.plan.bound.output_tokens,
            accounts: accounts
                .map(|account| tenant.budgets[*account].account)
                .collect(),
            at: self.now(),
            expires_at: call.expires_at,
        };
        let intent = self.append(Record::Intent(Box::new(intent)))?;
        // The truth knows of every account that has to pay, whatever the gateway forgot.
        let mut accounts = call.accounts.clone();
        if !accounts.contains(&TENANT_ACCOUNT) {
            accounts.push(TENANT_ACCOUNT);
        }
        let true_call = TrueCall {
            replica: self.number,
            tenant: call.tenant,
            accounts,
            cost: call.plan.cost,
            is_answered: false,
            settled: None,
            is_lost: false,
        };
        all.truth.dispatch(attempt, true_call);
        all.report.dispatched += 1;
        let plan = call.plan;
        if plan.ending != Ending::Hangs {
            all.after_millis(
                self.number,
                plan.first_byte_millis,
                Event::FirstByte(attempt),
            );
            let whole = plan.first_byte_millis + plan.rest_millis;
            all.after_millis(self.number, whole, Event::End(attempt));
        }
        call.stage = Stage::Running {
            hold,
            intent,
            has_first_byte: false,
            is_answered: false,
        };
        self.process.calls.insert(attempt, call);
        Ok(())
    }

    /// A commit makes durable what was appended: leases are granted, bytes may go to clients.
    pub(crate) fn commit(&mut self, all: &mut Shared) -> Result<(), Breach> {
        // A disk that is full or failing says so; the journal then refuses calls by itself.
        let is_committed = self.process.journal.commit_now().is_ok();
        if !is_committed {
            return Ok(());
        }
        let durable = self.process.journal.durable_lsn();
        for (lsn, tenant, refill) in std::mem::take(&mut self.process.refills) {
            if lsn <= durable {
                self.ledger(all, tenant).grant(&refill);
            } else {
                self.process.refills.push((lsn, tenant, refill));
            }
        }
        let is_granted = |call: &Call| matches!(&call.stage, Stage::WaitsForLease { lsn, .. } if *lsn <= durable);
        let granted: Vec<_> = self
            .process
            .calls
            .iter()
            .filter(|(_, call)| is_granted(call))
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in granted {
            let Some(call) = self.process.calls.remove(&attempt) else {
                continue;
            };
            if let Stage::WaitsForLease { request, .. } = &call.stage {
                self.ledger(all, call.tenant).grant(request);
            }
            self.try_call(all, attempt, call, 0)?;
        }
        let running: Vec<_> = self.process.calls.keys().copied().collect();
        for attempt in running {
            self.answer(all, attempt);
        }
        self.send(all);
        Ok(())
    }

    /// The upstream's first byte has come; it goes on to the client once the intent is durable.
    pub(crate) fn first_byte(&mut self, all: &mut Shared, attempt: AttemptId) {
        if let Some(call) = self.process.calls.get_mut(&attempt)
            && let Stage::Running { has_first_byte, .. } = &mut call.stage
        {
            *has_first_byte = true;
            self.answer(all, attempt);
        }
    }

    fn answer(&mut self, all: &mut Shared, attempt: AttemptId) {
        let durable = self.process.journal.durable_lsn();
        let Some(call) = self.process.calls.get_mut(&attempt) else {
            return;
        };
        if let Stage::Running {
            intent,
            has_first_byte: true,
            is_answered,
            ..
        } = &mut call.stage
            && *intent <= durable
            && !*is_answered
            && call.plan.ending != Ending::Refused
        {
            *is_answered = true;
            all.report.answered += 1;
            if let Some(true_call) = all.truth.calls.get_mut(&attempt) {
                true_call.is_answered = true;
            }
        }
    }

    /// The upstream is done, or the client is gone.
    pub(crate) fn end(&mut self, all: &mut Shared, attempt: AttemptId) -> Result<(), Breach> {
        let Some(call) = self.process.calls.remove(&attempt) else {
            return Ok(());
        };
        let Stage::Running { hold, .. } = call.stage else {
            return Err(format!("{attempt} ends and was never dispatched"));
        };
        let at = self.now();
        let (settlement, record) = match call.plan.ending {
            Ending::Refused => {
                if all.mutant == Mutant::DroppedRelease && all.dice.chance(20) {
                    return Ok(());
                }
                let reason = ReleaseReason::Refused;
                let record = Record::Released {
                    attempt,
                    reason,
                    at,
                };
                (self.ledger(all, call.tenant).release(hold, at), record)
            }
            Ending::Costs(outcome) => {
                let Plan {
                    consumption, cost, ..
                } = call.plan;
                let tokens = consumption.input_tokens + consumption.output_tokens;
                let settlement =
                    self.ledger(all, call.tenant)
                        .settle(hold, Actual { cost, tokens }, at);
                let record = Record::Settled(Settled {
                    attempt,
                    consumption,
                    cost,
                    outcome,
                    metering: Metering::Reported,
                    served: None,
                    at,
                });
                (settlement, record)
            }
            Ending::Hangs => return Err(format!("{attempt} hangs and yet ends")),
        };
        if settlement.overshoot > PicoUsd::ZERO {
            return Err(format!("invariant 5: {attempt} cost more than its bound"));
        }
        if settlement.ended != Ended::Already {
            let lsn = self.append(record)?;
            if let Some(true_call) = all.truth.calls.get_mut(&attempt) {
                true_call.settled = Some((lsn, settlement.charged));
            }
        }
        self.retry_waiting(all, call.tenant)
    }

    /// Something was freed: those who wait for it try again.
    pub(crate) fn retry_waiting(&mut self, all: &mut Shared, tenant: usize) -> Result<(), Breach> {
        let waiting: Vec<_> = self
            .process
            .calls
            .iter()
            .filter(|(_, call)| {
                call.tenant == tenant && matches!(call.stage, Stage::WaitsForOthers { .. })
            })
            .map(|(attempt, _)| *attempt)
            .collect();
        for attempt in waiting {
            let Some(call) = self.process.calls.remove(&attempt) else {
                continue;
            };
            if let Stage::WaitsForOthers { tries } = call.stage {
                self.try_call(all, attempt, call, tries)?;
            }
        }
        Ok(())
    }

    /// Tasks of calls that hang end with their holds.
    pub(crate) fn drop_hanging(&mut self) {
        let now = self.now();
        self.process.calls.retain(|_, call| {
            let hangs = call.plan.ending == Ending::Hangs;
            let is_running = matches!(call.stage, Stage::Running { .. });
            !(hangs && is_running && now >= call.expires_at)
        });
    }
}

/// What a call is, and what becomes of it at its upstream.
fn plan(dice: &Dice) -> Plan {
    let bound = ConsumptionBound {
        input_tokens: dice.between(10, 2_000),
        output_tokens: dice.between(1, 1_000),
        images: 0,
        requests: 1,
    };
    let input_tokens = dice.between(1, bound.input_tokens + 1);
    let ending = match dice.below(100) {
        0..70 => Ending::Costs(Outcome::Completed),
        70..76 => Ending::Costs(Outcome::Cut),
        76..84 => Ending::Costs(Outcome::ClientGone),
        84..90 => Ending::Costs(Outcome::UpstreamFailed),
        90..97 => Ending::Refused,
        _ => Ending::Hangs,
    };
    let consumption = match ending {
        Ending::Refused => Consumption::default(),
        _ => Consumption {
            input_tokens,
            cached_read_tokens: dice.below(input_tokens),
            cached_write_tokens: dice.below(input_tokens),
            cached_write_1h_tokens: dice.below(input_tokens),
            // Answers are a sixth of their bound, as a rule.
            output_tokens: dice.below(bound.output_tokens + 1) / dice.between(1, 7),
            images: 0,
            requests: 1,
        },
    };
    let slow = if dice.chance(3) { 90_000 } else { 0 };
    Plan {
        bound,
        consumption,
        cost: cost(&tenants::price(), &consumption),
        ending,
        first_byte_millis: dice.between(0, 40),
        rest_millis: dice.between(0, 120) + slow,
    }
}

impl Call {
    /// Whether its upstream is going to answer at all.
    pub(crate) fn can_end(&self) -> bool {
        matches!(self.stage, Stage::Running { .. }) && self.plan.ending != Ending::Hangs
    }
}
