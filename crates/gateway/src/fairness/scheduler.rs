//! The scheduler in front of one upstream: offers in, dispatches out.

mod books;

use std::time::Duration;

use base::TenantId;

use super::bands::{Bands, Served};
use super::estimate::PlaceInLine;
use super::line::{Order, VirtualTime, per_unit};
use super::options::FairnessOptions;
use super::rate::ServiceRate;
use super::slots::Slots;
use super::tenant::Tenants;
use super::ticket::{Band, CallId, Offer, Prefix, Refused, TenantTerms, Ticket, Tokens};
use super::warmth::Warmth;

/// Decides which call goes next to an upstream with few places.
///
/// Whoever holds it calls [`Scheduler::dispatch`] until it returns `None` after every offer that
/// has to wait, every end of a call and every change of the limit or of terms. Times are of one
/// clock that does not go back.
///
/// What holds at every moment, and is tested by `tests/fairness.rs`:
///
/// - no more calls are under way than there are places, no tenant's than its cap, and others
///   leave a tenant's reserved places free;
/// - nobody waits who could go, but for one place in 16, which tenants that hold their shares leave
///   to those that do not;
/// - once a call has ended, its tenant is charged what it really took, and nothing for a call
///   that never ran;
/// - of two tenants that wait in one band all the while, with enough calls allowed, the served by
///   weight differ by a quantum and the dearest call at most, and by what mistaken predictions
///   of the calls under way make of it.
#[derive(Debug)]
pub struct Scheduler {
    options: FairnessOptions,
    slots: Slots,
    tenants: Tenants,
    calls: Vec<CallSlot>,
    free_calls: Vec<u32>,
    orders: [Order; 3],
    bands: Bands,
    rate: ServiceRate,
    warmth: Warmth,
    arrivals: u64,
    /// Calls that wait, of all tenants.
    waiting: u32,
    /// Places reserved, of all tenants.
    reserved_sum: u64,
    /// Units that a call is charged at dispatch, on average.
    mean_cost: u64,
    /// Weights of the tenants that have calls here.
    active_weight: u64,
}

#[derive(Debug)]
struct CallSlot {
    generation: u32,
    call: Option<Call>,
}

#[derive(Debug)]
struct Call {
    tenant: u32,
    band: Band,
    input: u32,
    predicted_output: u32,
    prefix: Option<Prefix>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Waiting {
        arrival: u64,
    },
    Running {
        since: Duration,
        /// Units that it is charged.
        charged: u64,
        /// What a unit is for its tenant; a refund counts as the charge did.
        per_unit: VirtualTime,
        /// The bands in which it is charged: its own, and those in which the tenant waited too;
        /// and how far the tenant's line was lifted then.
        charged_in: [Option<VirtualTime>; 3],
        /// `None`: in a reserved place, which no band's share is taken from.
        served: Option<Served>,
    },
}

/// A tenant at an upstream, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantView {
    /// Calls that wait.
    pub waiting: u32,
    /// Calls under way.
    pub in_flight: u32,
    /// Units of service charged and not refunded since the scheduler knows it.
    pub charged: u64,
}

/// An upstream, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerView {
    /// Places.
    pub limit: u32,
    /// Calls under way.
    pub in_flight: u32,
    /// Calls that wait, by band.
    pub waiting: [u32; 3],
    /// Tenants that are remembered.
    pub tenants: usize,
}

/// 8 of the least served are looked at for a warm prefix: more would find hardly any.
const CANDIDATES_MAX: usize = 8;

impl Scheduler {
    /// A scheduler of an upstream that takes `limit` calls at once.
    pub fn new(options: FairnessOptions, limit: u32) -> Self {
        Self {
            options,
            slots: Slots::new(limit),
            tenants: Tenants::default(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            orders: Default::default(),
            bands: Bands::default(),
            rate: ServiceRate::default(),
            warmth: Warmth::default(),
            arrivals: 0,
            waiting: 0,
            reserved_sum: 0,
            mean_cost: 0,
            active_weight: 0,
        }
    }

    /// Asks for a place. Has one at once if nobody waits who could go and one is free.
    ///
    /// # Errors
    ///
    /// [`Refused`]: nothing is kept of the call.
    pub fn offer(&mut self, ticket: &Ticket, now: Duration) -> Result<Offer, Refused> {
        self.rate.advance(now, self.load());
        let number = self.tenants.know(ticket.tenant, &self.orders);
        self.renew_terms(number, ticket.terms);
        let tenant = self.tenants.get(number);
        let is_free = !tenant.is_capped()
            && tenant.waiting == 0
            && self.slots.is_free_for(tenant.in_flight, tenant.reserved)
            && !(self.slots.are_scarce() && self.holds_its_share(number));
        if !is_free {
            self.outlook(now).check(tenant, ticket)?;
        }
        let goes = is_free && !self.orders.iter().any(Order::is_waited_in);
        self.arrivals += 1;
        let call = self.keep(Call {
            tenant: number,
            band: ticket.band,
            input: ticket.input,
            predicted_output: ticket.predicted_output,
            prefix: ticket.prefix,
            stage: Stage::Waiting {
                arrival: self.arrivals,
            },
        });
        if goes {
            let served = (self.tenants.get(number).kept() == 0).then_some(Served::Surplus);
            self.start(call.slot, served, now);
            return Ok(Offer::Go(call));
        }
        let band = ticket.band.index();
        self.waiting += 1;
        self.orders[band].waiting += 1;
        let tenant = self.tenants.get_mut(number);
        tenant.waiting += 1;
        tenant.lines[band].waiting.insert(self.arrivals, call.slot);
        self.place(number);
        Ok(Offer::Wait(call))
    }

    /// Gives a free place to the call that is next, if there are both.
    pub fn dispatch(&mut self, now: Duration) -> Option<CallId> {
        self.rate.advance(now, self.load());
        let (number, band, served) = self.next()?;
        let tenant = self.tenants.get_mut(number);
        let (_, slot) = tenant.lines[band.index()]
            .waiting
            .pop_first()
            .expect("a line that takes part has somebody waiting");
        tenant.waiting -= 1;
        self.waiting -= 1;
        self.orders[band.index()].waiting -= 1;
        self.start(slot, served, now);
        Some(CallId {
            slot,
            generation: self.calls[slot as usize].generation,
        })
    }

    /// What a call under way has taken up to now, so that its tenant is charged for more than was
    /// predicted as soon as it is taken. Nothing if the call has ended or waits.
    pub fn report(&mut self, call: CallId, taken: Tokens) {
        let Some(known) = self.find(call) else {
            return;
        };
        let output = taken.output.max(known.predicted_output);
        let cost = self.options.weights.cost(Tokens { output, ..taken });
        self.charge(call.slot, cost);
    }

    /// A call ends that took so much; its place is free. Nothing if it has ended before.
    pub fn finish(&mut self, call: CallId, taken: Tokens, now: Duration) {
        let Some(Stage::Running { since, .. }) = self.find(call).map(|known| known.stage) else {
            return;
        };
        self.rate.advance(now, self.load());
        self.charge(call.slot, self.options.weights.cost(taken));
        self.rate.release(now.saturating_sub(since), self.load());
        let number = self.release(call.slot);
        self.slots.free();
        let tenant = self.tenants.get_mut(number);
        let kept = tenant.kept();
        tenant.in_flight -= 1;
        self.slots.keep(kept, tenant.kept());
        self.place(number);
    }

    /// A call leaves: out of the queue, or refunded whole and its place free if it was
    /// dispatched and never ran. Nothing if it has ended before.
    pub fn cancel(&mut self, call: CallId, now: Duration) {
        let Some(known) = self.find(call) else {
            return;
        };
        let (number, band) = (known.tenant, known.band.index());
        let arrival = match known.stage {
            Stage::Running { .. } => return self.finish(call, Tokens::default(), now),
            Stage::Waiting { arrival } => arrival,
        };
        self.release(call.slot);
        self.waiting -= 1;
        self.orders[band].waiting -= 1;
        let tenant = self.tenants.get_mut(number);
        tenant.waiting -= 1;
        tenant.lines[band].waiting.remove(&arrival);
        self.place(number);
    }

    /// The upstream takes so many calls at once from now on. Calls under way stay.
    pub fn set_limit(&mut self, limit: u32, now: Duration) {
        self.rate.advance(now, self.load());
        self.slots.set_limit(limit);
        if self.reserved_sum > 0 {
            self.honour_reservations();
        }
    }

    /// A tenant's terms, for reservations that have to hold before its first call.
    pub fn set_terms(&mut self, tenant: TenantId, terms: TenantTerms) {
        let number = self.tenants.know(tenant, &self.orders);
        self.renew_terms(number, terms);
    }

    /// Where a waiting call stands; `None` if it has been dispatched or has left.
    pub fn place_in_line(&self, call: CallId, now: Duration) -> Option<PlaceInLine> {
        let known = self.find(call)?;
        let Stage::Waiting { arrival } = known.stage else {
            return None;
        };
        let tenant = self.tenants.get(known.tenant);
        let line = &tenant.lines[known.band.index()];
        let own_ahead = line.waiting.range(..arrival).count() as u32;
        Some(self.outlook(now).place(tenant, known.band, own_ahead))
    }

    /// A tenant, as it is now.
    pub fn tenant(&self, tenant: TenantId) -> TenantView {
        let Some(number) = self.tenants.find(tenant) else {
            return TenantView::default();
        };
        let tenant = self.tenants.get(number);
        TenantView {
            waiting: tenant.waiting,
            in_flight: tenant.in_flight,
            charged: tenant.charged,
        }
    }

    /// The upstream, as it is now.
    pub fn view(&self) -> SchedulerView {
        SchedulerView {
            limit: self.slots.limit(),
            in_flight: self.slots.in_flight(),
            waiting: [0, 1, 2].map(|band: usize| self.orders[band].waiting),
            tenants: self.tenants.len(),
        }
    }
}

/// Who goes next, and what it is charged.
impl Scheduler {
    /// The tenant and band to serve: whoever has a reserved place free, since nobody else may
    /// have it; then by band and virtual time.
    fn next(&self) -> Option<(u32, Band, Option<Served>)> {
        if !self.slots.is_any_free() {
            return None;
        }
        for band in Band::ALL {
            if let Some(tenant) = self.orders[band.index()].entitled() {
                return Some((tenant, band, None));
            }
        }
        if !self.slots.is_free_for_all() {
            return None;
        }
        if self.leaves_headroom() {
            return None;
        }
        let (band, served) = self.bands.next(self.waits())?;
        Some((self.least_served(band), band, Some(served)))
    }

    /// Whether the last places stay free: all who wait hold their shares already, while others who
    /// have calls here may want a place at any moment. Looks at no more tenants than hold places.
    fn leaves_headroom(&self) -> bool {
        let mut waiting = self.orders.iter().flat_map(Order::ready);
        self.slots.are_scarce() && waiting.all(|(_, number)| self.holds_its_share(number))
    }

    fn holds_its_share(&self, number: u32) -> bool {
        let tenant = self.tenants.get(number);
        let kept = tenant.in_flight < tenant.reserved;
        !kept && tenant.holds_its_share(self.slots.limit(), self.active_weight)
    }

    /// Of those who are within a quantum of the least served: one whose prefix is warm. Else, of
    /// those within half a quantum, the one that holds the fewest places for its weight, since
    /// what calls under way are charged is a guess. Else the least served.
    fn least_served(&self, band: Band) -> u32 {
        let order = &self.orders[band.index()];
        let quantum = VirtualTime::from(self.mean_cost.min(self.options.quantum_max));
        let least = order.start();
        let (.., (_, number)) = order
            .ready()
            .take(CANDIDATES_MAX)
            .filter_map(|key| {
                let tenant = self.tenants.get(key.1);
                let per_unit = per_unit(tenant.terms.weight);
                let ahead = key.0 - least;
                if ahead > quantum * per_unit {
                    return None;
                }
                let first = tenant.lines[band.index()].waiting.values().next()?;
                let prefix = self.calls[*first as usize].call.as_ref()?.prefix;
                let is_cold = !self.warmth.is_warm(prefix);
                let held = VirtualTime::from(tenant.in_flight) * per_unit;
                let is_near = 2 * ahead <= quantum * per_unit;
                Some((is_cold, if is_near { held } else { VirtualTime::MAX }, key))
            })
            .min()
            .expect("the least served is within a quantum of itself");
        number
    }

    /// A call gets its place and is charged what it is expected to take.
    fn start(&mut self, slot: u32, served: Option<Served>, now: Duration) {
        let call = self.calls[slot as usize]
            .call
            .as_ref()
            .expect("a call that waits is known");
        let (number, band, prefix) = (call.tenant, call.band, call.prefix);
        let cost = self.options.weights.cost(Tokens {
            input: call.input,
            output: call.predicted_output,
        });
        self.slots.take();
        let tenant = self.tenants.get_mut(number);
        let kept = tenant.kept();
        tenant.in_flight += 1;
        self.slots.keep(kept, tenant.kept());
        let order = &mut self.orders[band.index()];
        let line = &mut tenant.lines[band.index()];
        if !line.is_ready() {
            line.lift(order.start());
        }
        order.advance(line.served);
        let charged_in = Band::ALL.map(|other| {
            let line = &tenant.lines[other.index()];
            (other == band || line.is_ready()).then(|| line.mark())
        });
        let stage = Stage::Running {
            since: now,
            charged: 0,
            per_unit: per_unit(tenant.terms.weight),
            charged_in,
            served,
        };
        if let Some(call) = &mut self.calls[slot as usize].call {
            call.stage = stage;
        }
        // A sixteenth: follows within some twenty calls.
        self.mean_cost = match self.mean_cost {
            0 => cost,
            mean => (mean * 15 + cost) / 16,
        };
        if let Some(prefix) = prefix {
            self.warmth.dispatched(prefix);
        }
        self.charge(slot, cost);
        self.place(number);
    }

    /// Brings what a call under way is charged to `cost`, up or down.
    fn charge(&mut self, slot: u32, cost: u64) {
        let waits = self.waits();
        let Some(call) = &mut self.calls[slot as usize].call else {
            return;
        };
        let Stage::Running {
            charged,
            per_unit,
            charged_in,
            served,
            ..
        } = &mut call.stage
        else {
            return;
        };
        if *charged == cost {
            return;
        }
        let more = i64::try_from(i128::from(cost) - i128::from(*charged))
            .expect("a call costs less than 2^63 units");
        *charged = cost;
        let virtual_more = VirtualTime::from(more) * *per_unit;
        let tenant = self.tenants.get_mut(call.tenant);
        tenant.charged = tenant.charged.saturating_add_signed(more);
        for (line, mark) in tenant.lines.iter_mut().zip(*charged_in) {
            if let Some(mark) = mark {
                line.charge(virtual_more, mark);
            }
        }
        if let Some(served) = *served {
            self.bands
                .charge(&self.options, call.band, served, more, waits);
        }
        let number = call.tenant;
        self.place(number);
    }
}
