//! Books that have to agree: calls, places, lines and reservations.

use std::time::Duration;

use super::super::estimate::Outlook;
use super::super::line::{Order, Standing};
use super::super::rate::Load;
use super::super::ticket::{CallId, TenantTerms};
use super::{Call, CallSlot, Scheduler};

impl Scheduler {
    pub(super) fn find(&self, call: CallId) -> Option<&Call> {
        let slot = self.calls.get(call.slot as usize)?;
        if slot.generation == call.generation {
            slot.call.as_ref()
        } else {
            None
        }
    }

    pub(super) fn keep(&mut self, call: Call) -> CallId {
        let slot = self.free_calls.pop().unwrap_or_else(|| {
            self.calls.push(CallSlot {
                generation: 0,
                call: None,
            });
            u32::try_from(self.calls.len() - 1).expect("places and queues are bounded")
        });
        let kept = &mut self.calls[slot as usize];
        kept.call = Some(call);
        CallId {
            slot,
            generation: kept.generation,
        }
    }

    /// Forgets a call and returns whose it was.
    pub(super) fn release(&mut self, slot: u32) -> u32 {
        let kept = &mut self.calls[slot as usize];
        kept.generation = kept.generation.wrapping_add(1);
        let call = kept.call.take().expect("a call is released once");
        self.free_calls.push(slot);
        call.tenant
    }

    /// Puts a tenant's lines where they belong, after anything about it changed.
    pub(super) fn place(&mut self, number: u32) {
        let tenant = self.tenants.get_mut(number);
        let counted = match tenant.in_flight + tenant.waiting {
            0 => 0,
            _ => u64::from(tenant.terms.weight.get()),
        };
        self.active_weight = self.active_weight - tenant.counted + counted;
        tenant.counted = counted;
        let open = match (tenant.is_capped(), tenant.kept() > 0) {
            (true, _) => Standing::Absent,
            (false, true) => Standing::Entitled,
            (false, false) => Standing::Ready,
        };
        for (line, order) in tenant.lines.iter_mut().zip(&mut self.orders) {
            let to = if line.waiting.is_empty() {
                Standing::Absent
            } else {
                open
            };
            if to != Standing::Absent || line.is_ready() {
                order.place(line, number, tenant.terms.weight, to);
            }
        }
    }

    pub(super) fn renew_terms(&mut self, number: u32, terms: TenantTerms) {
        let tenant = self.tenants.get_mut(number);
        if tenant.terms == terms {
            return;
        }
        let reserved_before = std::mem::replace(&mut tenant.terms, terms).reserved;
        if reserved_before != terms.reserved {
            self.reserved_sum -= u64::from(reserved_before);
            self.reserved_sum += u64::from(terms.reserved);
            self.honour_reservations();
        }
        self.place(number);
    }

    /// Works out anew what each reservation is worth. Rare: a limit or a reservation changed.
    pub(super) fn honour_reservations(&mut self) {
        let all: Vec<u32> = self.tenants.numbers().collect();
        for number in all {
            let tenant = self.tenants.get_mut(number);
            let kept = tenant.kept();
            tenant.reserved = self.slots.worth(tenant.terms.reserved, self.reserved_sum);
            self.slots.keep(kept, tenant.kept());
            self.place(number);
        }
    }

    pub(super) fn waits(&self) -> [bool; 3] {
        [0, 1, 2].map(|band: usize| self.orders[band].is_waited_in())
    }

    pub(super) fn outlook(&self, now: Duration) -> Outlook<'_> {
        Outlook {
            options: &self.options,
            orders: &self.orders,
            rate: &self.rate,
            places: self.slots.limit().max(1),
            waiting: self.waiting,
            load: self.load(),
            now,
        }
    }

    /// Full while somebody waits who could go: places that are free are about to be taken.
    pub(super) fn load(&self) -> Load {
        if self.slots.is_any_free() && !self.orders.iter().any(Order::is_waited_in) {
            Load::Free
        } else {
            Load::Full
        }
    }
}
