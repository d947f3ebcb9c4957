//! The scheduler, and next to it the books that anybody would keep.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::fairness::{
    Band, CallId, Offer, Prefix, Refused, Scheduler, TenantTerms, Ticket, Tokens, Weight,
};
use proptest::prelude::*;

use crate::{OPTIONS, cost, tenant, ticket};

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Event {
    Offer {
        tenant: u8,
        band: usize,
        input: u32,
        predicted: u32,
        prefix: u8,
    },
    /// The call of this number, of those that run, has taken so many tokens out.
    Report(usize, u32),
    Finish(usize, u32),
    CancelRunning(usize),
    CancelWaiting(usize),
    Limit(u32),
    Terms(u8, u32, u32),
    Pass(u16),
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (0..5_u8, 0..3_usize, 1..500_u32, 1..500_u32, 0..3_u8).prop_map(
            |(tenant, band, input, predicted, prefix)| Event::Offer {
                tenant, band, input, predicted, prefix,
            }),
        2 => (any::<usize>(), 0..800_u32).prop_map(|(which, output)| Event::Report(which, output)),
        5 => (any::<usize>(), 0..800_u32).prop_map(|(which, output)| Event::Finish(which, output)),
        1 => any::<usize>().prop_map(Event::CancelRunning),
        1 => any::<usize>().prop_map(Event::CancelWaiting),
        1 => (0..12_u32).prop_map(Event::Limit),
        1 => (0..5_u8, 0..6_u32, 1..8_u32).prop_map(|(tenant, reserved, cap)| {
            Event::Terms(tenant, reserved, cap)
        }),
        1 => any::<u16>().prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 1..200)
}

#[derive(Debug, Clone)]
pub struct Known {
    tenant: u8,
    input: u32,
    predicted: u32,
    /// Units that it must be charged at this moment.
    charged: u64,
}

/// The scheduler, and next to it the books that anybody would keep.
pub struct World {
    scheduler: Scheduler,
    now: Duration,
    limit: u32,
    terms: BTreeMap<u8, TenantTerms>,
    pub waiting: Vec<(CallId, Known)>,
    pub running: Vec<(CallId, Known)>,
    /// Units of calls that have ended.
    ended: BTreeMap<u8, u64>,
}

impl World {
    pub fn new() -> Self {
        Self {
            scheduler: Scheduler::new(OPTIONS, 4),
            now: Duration::ZERO,
            limit: 4,
            terms: BTreeMap::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            ended: BTreeMap::new(),
        }
    }

    fn terms(&self, tenant: u8) -> TenantTerms {
        self.terms.get(&tenant).copied().unwrap_or_default()
    }

    fn in_flight(&self, tenant: u8) -> u32 {
        self.running
            .iter()
            .filter(|(_, call)| call.tenant == tenant)
            .count() as u32
    }

    /// What a reservation is worth, as documented.
    fn honoured(&self, tenant: u8) -> u32 {
        let sum: u32 = self.terms.values().map(|terms| terms.reserved).sum();
        let room = self.limit * 3 / 4;
        let reserved = self.terms(tenant).reserved;
        if sum <= room {
            reserved
        } else {
            reserved * room / sum
        }
    }

    pub fn apply(&mut self, event: &Event) {
        match *event {
            Event::Offer {
                tenant: number,
                band,
                input,
                predicted,
                prefix,
            } => {
                let ticket = Ticket {
                    terms: self.terms(number),
                    band: Band::ALL[band],
                    prefix: (prefix > 0).then_some(Prefix(prefix.into())),
                    ..ticket(number, input, predicted)
                };
                let known = Known {
                    tenant: number,
                    input,
                    predicted,
                    charged: cost(Tokens {
                        input,
                        output: predicted,
                    }),
                };
                match self.scheduler.offer(&ticket, self.now) {
                    Ok(Offer::Go(call)) => self.start(call, known),
                    Ok(Offer::Wait(call)) => {
                        assert!(
                            self.may_start(number) || self.has_room(number),
                            "tenant {number} waits in a full queue"
                        );
                        self.waiting.push((call, known));
                    }
                    Err(Refused::TooLong { .. }) => panic!("patience does not end here"),
                    Err(_) => self.check_refusal(number),
                }
            }
            Event::Report(which, output) if !self.running.is_empty() => {
                let which = which % self.running.len();
                let (call, known) = &mut self.running[which];
                let taken = Tokens {
                    input: known.input,
                    output,
                };
                self.scheduler.report(*call, taken);
                let output = output.max(known.predicted);
                known.charged = cost(Tokens { output, ..taken });
            }
            Event::Finish(which, output) if !self.running.is_empty() => {
                let (call, known) = self.running.swap_remove(which % self.running.len());
                let taken = Tokens {
                    input: known.input,
                    output,
                };
                self.scheduler.finish(call, taken, self.now);
                *self.ended.entry(known.tenant).or_default() += cost(taken);
                // A second end changes nothing.
                self.scheduler.finish(call, taken, self.now);
            }
            Event::CancelRunning(which) if !self.running.is_empty() => {
                let (call, _) = self.running.swap_remove(which % self.running.len());
                self.scheduler.cancel(call, self.now);
            }
            Event::CancelWaiting(which) if !self.waiting.is_empty() => {
                let (call, _) = self.waiting.remove(which % self.waiting.len());
                self.scheduler.cancel(call, self.now);
            }
            Event::Limit(limit) => {
                self.limit = limit;
                self.scheduler.set_limit(limit, self.now);
            }
            Event::Terms(number, reserved, concurrency_max) => {
                let terms = TenantTerms {
                    weight: Weight::ONE,
                    reserved,
                    concurrency_max,
                };
                self.terms.insert(number, terms);
                self.scheduler.set_terms(tenant(number), terms);
            }
            Event::Pass(millis) => self.now += Duration::from_millis(millis.into()),
            Event::Report(..)
            | Event::Finish(..)
            | Event::CancelRunning(_)
            | Event::CancelWaiting(_) => {}
        }
        while let Some(call) = self.scheduler.dispatch(self.now) {
            let which = self.waiting.iter().position(|(known, _)| *known == call);
            let (call, known) = self
                .waiting
                .remove(which.expect("only who waits is dispatched"));
            self.start(call, known);
        }
    }

    /// Nobody is refused while there is room for it.
    fn check_refusal(&self, number: u8) {
        assert!(
            !self.has_room(number),
            "tenant {number} is refused with room left"
        );
    }

    /// Whether one more call of a tenant may wait.
    fn has_room(&self, number: u8) -> bool {
        let own = self
            .waiting
            .iter()
            .filter(|(_, call)| call.tenant == number);
        let room = OPTIONS.waiting_max as usize - self.waiting.len();
        own.count() < room.min(OPTIONS.waiting_per_tenant_max as usize)
    }

    /// A call starts: only where there is a place for it.
    fn start(&mut self, call: CallId, known: Known) {
        let number = known.tenant;
        assert!(
            self.may_start(number),
            "tenant {number} starts without a place"
        );
        self.running.push((call, known));
    }

    fn may_start(&self, number: u8) -> bool {
        let running = self.running.len() as u32;
        let own = self.in_flight(number);
        let kept_for_others: u32 = (0..5)
            .filter(|other| *other != number)
            .map(|other| self.honoured(other).saturating_sub(self.in_flight(other)))
            .sum();
        running < self.limit
            && own < self.terms(number).concurrency_max
            && (own < self.honoured(number) || running + kept_for_others < self.limit)
    }

    pub fn check(&self) {
        let view = self.scheduler.view();
        assert_eq!(view.in_flight as usize, self.running.len());
        assert_eq!(
            view.waiting.iter().sum::<u32>() as usize,
            self.waiting.len()
        );
        for (_, known) in &self.waiting {
            assert!(!self.may_start(known.tenant), "somebody waits who could go");
        }
        for number in 0..5 {
            let running = self
                .running
                .iter()
                .filter(|(_, call)| call.tenant == number);
            let charged: u64 = running.map(|(_, call)| call.charged).sum();
            let ended = self.ended.get(&number).copied().unwrap_or_default();
            let seen = self.scheduler.tenant(tenant(number));
            assert_eq!(
                seen.charged,
                charged + ended,
                "tenant {number} is charged exactly"
            );
            assert_eq!(seen.in_flight, self.in_flight(number));
        }
    }
}
