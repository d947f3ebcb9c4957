//! The month goes through the ledger as calls do: reserved, written into the journal, settled, and
//! brought from there into the tenants' stores. Only time is made up: it is handed to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use base::{
    AttemptId, Clock as _, ManualClock, Name, PicoUsd, RequestId, SystemDisk, SystemEntropy,
    TenantId, Timestamp,
};
use ledger::{
    AccountId, AccountTerms, AccountUse, Actual, AdmitError, Consumption, ConsumptionBound, Hold,
    Hop, Intent, Lsn, Metering, Outcome, Price, Record, ReleaseReason, Reservation, Settled,
    Subject, TenantLedger, Window, Zone,
};
use store::{Compactor, Journal, JournalError, JournalOptions, Posted, Stores, StoresOptions};
use tenancy::catalogue::{BudgetSpec, Subject as Whose, WindowSpec};
use tenancy::{ServiceIdentity, ServicePurpose, Snapshot, TenantEntry};

use super::people::EVERYBODY;
use super::prices::price;
use super::traffic::{Call, Fate};
use crate::installation::Installation;

/// Ten minutes: as long as the default of upstreams.
const HOLD_LIFE: Duration = Duration::from_secs(600);
/// A minute of waiting for a disk that has too much to write.
const PATIENCE_TURNS: u32 = 60_000;
const TURN: Duration = Duration::from_millis(1);

/// What came of a month.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) calls: u64,
    /// Calls that a budget had no room for: they are in no book.
    pub(super) over_budget: u64,
    pub(super) cost: PicoUsd,
}

/// Everything that a call meets.
struct House {
    clock: ManualClock,
    began: Timestamp,
    journal: Arc<Journal>,
    tenants: Vec<Tenant>,
    /// Calls under way, by when they end.
    open: BinaryHeap<Reverse<(Timestamp, usize)>>,
    ends: HashMap<usize, Open>,
    /// One client's request is one id, however many calls it takes.
    requests: HashMap<(usize, u64), RequestId>,
    kept: Kept,
}

struct Tenant {
    entry: Arc<TenantEntry>,
    ledger: TenantLedger,
    budgets: Vec<(AccountId, Name, AccountTerms)>,
}

struct Open {
    tenant: usize,
    hold: Hold,
    call: Call,
    cost: PicoUsd,
}

/// Puts the calls into the books of an installation that nobody serves. Blocks.
///
/// # Errors
///
/// What the disk refuses.
pub(super) fn keep(
    installation: &Installation,
    calls: Vec<Call>,
    began: Timestamp,
) -> anyhow::Result<Kept> {
    let snapshot = control::load(&installation.catalogue, &*installation.root)?.snapshot;
    let folder = installation.lock.journal_folder();
    let options = JournalOptions::new(installation.id);
    let (journal, mut recovered) = Journal::open(Arc::new(SystemDisk), &folder, options)?;
    let started = Record::Started { at: began };
    let lsn = journal.append(&started)?;
    recovered.projection.apply(lsn, &started, &mut Vec::new());
    let mut house = House {
        clock: ManualClock::at(began),
        began,
        journal,
        tenants: tenants(&snapshot, recovered.projection.ledgers()?)?,
        open: BinaryHeap::new(),
        ends: HashMap::new(),
        requests: HashMap::new(),
        kept: Kept::default(),
    };
    for (number, call) in calls.into_iter().enumerate() {
        house.end_until(call.at)?;
        house.begin(number, call)?;
    }
    house.end_until(Timestamp::from_micros(i64::MAX))?;
    let last = house.close()?;
    house.post(installation, &snapshot, last)?;
    house.journal.close()?;
    Ok(house.kept)
}

fn tenants(
    snapshot: &Snapshot,
    mut ledgers: HashMap<TenantId, TenantLedger>,
) -> anyhow::Result<Vec<Tenant>> {
    let tenant = |name: &str| {
        let entry = snapshot.tenant_named(name);
        let entry =
            entry.with_context(|| format!("tenant {name} was declared and is not there"))?;
        let ledger = ledgers.remove(&entry.id());
        Ok(Tenant {
            ledger: ledger.unwrap_or_else(|| TenantLedger::new(entry.id())),
            budgets: budgets(snapshot, entry),
            entry: Arc::clone(entry),
        })
    };
    EVERYBODY
        .iter()
        .map(|persona| persona.name)
        .map(tenant)
        .collect()
}

/// The budgets over all that the tenant spends, its own in place of its tier's; and the account
/// that every call has.
fn budgets(snapshot: &Snapshot, entry: &TenantEntry) -> Vec<(AccountId, Name, AccountTerms)> {
    let inherited = snapshot.tier_of(entry).budgets.iter();
    let mut in_force: BTreeMap<&Name, &BudgetSpec> = inherited.collect();
    in_force.extend(entry.budgets.iter().map(|(name, spec)| (name, &**spec)));
    let account = |name: &Name, terms| {
        let account = AccountId::of(entry.id(), name, &Subject::Tenant);
        (account, name.clone(), terms)
    };
    let everything: Name = "everything".parse().expect("the constant is a name");
    let counted = AccountTerms {
        limit: None,
        window: Window::Total,
        soft_percent: 100,
        calls_max: None,
    };
    let of_all = in_force
        .into_iter()
        .filter(|(_, spec)| spec.subject == Whose::Tenant);
    let limited = of_all.map(|(name, spec)| {
        let terms = AccountTerms {
            limit: Some(spec.limit),
            window: match spec.window {
                WindowSpec::Daily => Window::Daily { zone: Zone::UTC },
                WindowSpec::Monthly => Window::Monthly { zone: Zone::UTC },
                _ => Window::Total,
            },
            soft_percent: spec.soft_percent,
            calls_max: spec.calls_max,
        };
        account(name, terms)
    });
    std::iter::once(account(&everything, counted))
        .chain(limited)
        .collect()
}

impl House {
    fn elapsed(&self, now: Timestamp) -> Duration {
        now.since(self.began)
    }

    /// Lets a call through, if the tenant's budgets do.
    fn begin(&mut self, number: usize, call: Call) -> anyhow::Result<()> {
        self.clock.jump_to(call.at);
        let attempt = AttemptId::generate(&self.clock, &SystemEntropy);
        let request = *self
            .requests
            .entry((call.tenant, call.request))
            .or_insert_with(|| RequestId::generate(&self.clock, &SystemEntropy));
        let price = price(call.model)?;
        let bound = bound(&call);
        let amount = ledger::upper_bound(&price, &bound);
        let Some(hold) = self.admit(&call, attempt, amount, &bound)? else {
            self.kept.over_budget += 1;
            return Ok(());
        };
        let own = RequestId::generate(&self.clock, &SystemEntropy);
        let ids = (attempt, request, own);
        let intent = intent(&self.tenants[call.tenant], &call, ids, &price)?;
        self.append(&[Record::Intent(Box::new(Intent {
            amount,
            input_bound: bound.input_tokens,
            output_bound: bound.output_tokens,
            ..intent
        }))])?;
        let cost = match call.fate {
            Fate::Refused => PicoUsd::ZERO,
            Fate::Answered | Fate::Abandoned => ledger::cost(&price, &consumption(&call)),
        };
        self.kept.calls += 1;
        self.kept.cost += cost;
        self.open.push(Reverse((call.at.plus(call.lasts), number)));
        let open = Open {
            tenant: call.tenant,
            hold,
            call,
            cost,
        };
        self.ends.insert(number, open);
        Ok(())
    }

    fn admit(
        &mut self,
        call: &Call,
        attempt: AttemptId,
        amount: PicoUsd,
        bound: &ConsumptionBound,
    ) -> anyhow::Result<Option<Hold>> {
        let elapsed = self.elapsed(call.at);
        // Once for its leases, once with them.
        for _ in 0..3 {
            let tenant = &mut self.tenants[call.tenant];
            let accounts: Vec<AccountUse<'_>> = tenant
                .budgets
                .iter()
                .map(|(account, budget, terms)| AccountUse {
                    account: *account,
                    budget,
                    subject: &Subject::Tenant,
                    terms,
                })
                .collect();
            let admitted = tenant.ledger.admit(&Reservation {
                attempt,
                limits: &[],
                accounts: &accounts,
                amount,
                tokens: bound.input_tokens + bound.output_tokens,
                now: call.at,
                elapsed,
                expires_at: call.at.plus(HOLD_LIFE),
            });
            // No upstream is called: nothing is lost if a lease is not on disk yet.
            let wanted = match admitted {
                Ok(admission) => {
                    if let Some(refill) = admission.refill {
                        self.append(refill.records())?;
                        self.tenants[call.tenant].ledger.grant(&refill);
                    }
                    return Ok(Some(admission.hold));
                }
                Err(AdmitError::NeedsLease(wanted)) => wanted,
                Err(AdmitError::OverBudget { .. } | AdmitError::HeldByOthers { .. }) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            self.append(wanted.records())?;
            self.tenants[call.tenant].ledger.grant(&wanted);
        }
        bail!("a lease that was granted is not enough")
    }

    /// Ends all calls that do by `now`.
    fn end_until(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while let Some(Reverse((at, number))) = self.open.peek().copied() {
            if at > now {
                break;
            }
            self.open.pop();
            if let Some(open) = self.ends.remove(&number) {
                self.end(open, at)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, open: Open, at: Timestamp) -> anyhow::Result<()> {
        let attempt = open.hold.attempt();
        let consumption = consumption(&open.call);
        let ledger = &mut self.tenants[open.tenant].ledger;
        let record = match open.call.fate {
            Fate::Refused => {
                drop(ledger.release(open.hold, at));
                Record::Released {
                    attempt,
                    reason: ReleaseReason::Refused,
                    at,
                }
            }
            fate @ (Fate::Answered | Fate::Abandoned) => {
                let cost = open.cost;
                let tokens = consumption.input_tokens + consumption.output_tokens;
                drop(ledger.settle(open.hold, Actual { cost, tokens }, at));
                Record::Settled(Settled {
                    attempt,
                    consumption,
                    cost,
                    outcome: match fate {
                        Fate::Abandoned => Outcome::ClientGone,
                        _ => Outcome::Completed,
                    },
                    metering: Metering::Reported,
                    served: open.call.model.parse().ok(),
                    at,
                })
            }
        };
        self.append(&[record])?;
        Ok(())
    }

    /// Appends to the journal; waits for its disk where that has too much to write.
    fn append(&self, records: &[Record]) -> anyhow::Result<Lsn> {
        for _ in 0..PATIENCE_TURNS {
            match self.journal.append_all(records) {
                Ok(lsn) => return Ok(lsn),
                Err(JournalError::Overloaded) => std::thread::sleep(TURN),
                Err(error) => return Err(error.into()),
            }
        }
        Err(anyhow!("the journal's disk is too slow"))
    }

    /// Gives back what is left of leases, and notes a clean end.
    fn close(&mut self) -> anyhow::Result<Lsn> {
        let at = self.clock.now().plus(HOLD_LIFE);
        for tenant in 0..self.tenants.len() {
            let returned = self.tenants[tenant].ledger.return_idle_leases(at);
            if !returned.is_empty() {
                self.append(&returned)?;
            }
        }
        self.append(&[Record::Closed { at }])
    }

    /// Brings all of it, up to the last record, from the journal into the tenants' stores.
    fn post(
        &self,
        installation: &Installation,
        snapshot: &Snapshot,
        last: Lsn,
    ) -> anyhow::Result<()> {
        let clock = Arc::new(ManualClock::at(self.clock.now()));
        let options = StoresOptions {
            replica: installation.replica,
            ..StoresOptions::default()
        };
        let stores = Stores::new(&installation.folder, clock, options)?;
        for tenant in snapshot.tenants() {
            stores.assign(tenant.id(), tenant.spec.placement())?;
        }
        let service = ServiceIdentity::of(&installation.platform_keys);
        for _ in 0..PATIENCE_TURNS {
            if self.journal.sealed_until() >= last {
                break;
            }
            self.journal.seal();
            std::thread::sleep(TURN);
        }
        let mut compactor = Compactor::new(Arc::clone(&self.journal));
        compactor.compact_sealed(&mut |tenant, lines| {
            let Some(entry) = snapshot.tenant(tenant) else {
                return Ok(Posted::TenantGone);
            };
            let scope = service.scope(Arc::clone(&entry.unlocked), ServicePurpose::Compaction);
            stores.open(&scope).post_lines(lines)?;
            Ok(Posted::Durable)
        })?;
        Ok(())
    }
}

/// As the gateway bounds a call: its bytes, and the output that it forces.
fn bound(call: &Call) -> ConsumptionBound {
    ConsumptionBound {
        input_tokens: call.input_tokens * 4,
        output_tokens: call.output_tokens.next_power_of_two().max(64),
        images: 0,
        requests: 1,
    }
}

pub(super) fn consumption(call: &Call) -> Consumption {
    Consumption {
        input_tokens: call.input_tokens,
        cached_read_tokens: call.cached_tokens,
        output_tokens: call.output_tokens,
        requests: 1,
        ..Consumption::default()
    }
}

fn intent(
    tenant: &Tenant,
    call: &Call,
    (attempt, request, own): (AttemptId, RequestId, RequestId),
    price: &Price,
) -> anyhow::Result<Intent> {
    let (team, user) = call.person;
    let key: Name = format!("{team}-app").parse()?;
    let (team, user): (Name, Name) = (team.parse()?, user.parse()?);
    let entry = &tenant.entry;
    let key = entry.keys.get(&key).context("a key was declared")?;
    Ok(Intent {
        attempt,
        // A call that goes before the answer is a hop of its request, and has an id of its own.
        request: match call.hop {
            Hop::Generate => request,
            _ => own,
        },
        parent: (call.hop != Hop::Generate).then_some(request),
        tenant: entry.id(),
        team: entry.team_id(&team),
        user: entry.user_id(&user),
        key: key.id,
        feature: call.feature.parse()?,
        session: None,
        turn: None,
        hop: call.hop,
        prompt: None,
        model: call.model.parse()?,
        upstream: "simulator".parse()?,
        price_version: price.version,
        amount: PicoUsd::ZERO,
        input_bound: 0,
        output_bound: 0,
        accounts: tenant
            .budgets
            .iter()
            .map(|(account, ..)| *account)
            .collect(),
        at: call.at,
        expires_at: call.at.plus(HOLD_LIFE),
    })
}
