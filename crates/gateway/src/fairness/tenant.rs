//! What a scheduler knows of one tenant, and the table of those that it knows.

use base::TenantId;
use hashbrown::HashMap;

use super::line::{Line, Order};
use super::ticket::TenantTerms;

/// One tenant at one upstream.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) terms: TenantTerms,
    /// Of the places reserved for it, those that are honoured.
    pub(super) reserved: u32,
    pub(super) in_flight: u32,
    /// Calls that wait, in all bands.
    pub(super) waiting: u32,
    /// Units of service charged and not refunded.
    pub(super) charged: u64,
    /// Its weight while it has calls that wait or are under way; else zero.
    pub(super) counted: u64,
    pub(super) lines: [Line; 3],
}

impl Tenant {
    fn new(id: TenantId) -> Self {
        Self {
            id,
            terms: TenantTerms::default(),
            reserved: 0,
            in_flight: 0,
            waiting: 0,
            charged: 0,
            counted: 0,
            lines: Default::default(),
        }
    }

    /// Reserved places that it does not use.
    pub(super) fn kept(&self) -> u32 {
        self.reserved.saturating_sub(self.in_flight)
    }

    pub(super) fn is_capped(&self) -> bool {
        self.in_flight >= self.terms.concurrency_max
    }

    /// Whether it holds its share of so many places, or more, among tenants of so much weight
    /// together. Alone it has no share: all places are its.
    pub(super) fn holds_its_share(&self, places: u32, weight_in_all: u64) -> bool {
        let weight = u64::from(self.terms.weight.get());
        weight_in_all > self.counted
            && u64::from(self.in_flight) * weight_in_all >= u64::from(places) * weight
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting == 0 && self.terms.reserved == 0
    }

    /// Whether it would be placed no differently if it were forgotten.
    fn is_behind(&self, orders: &[Order; 3]) -> bool {
        self.lines
            .iter()
            .zip(orders)
            .all(|(line, order)| line.served <= order.floor())
    }
}

/// 16,384 idle tenants are remembered, some 5 MB. Beyond that what one was ahead is forgotten:
/// what its last calls cost.
const IDLE_MAX: usize = 16_384;
/// 64: below that, looking for tenants to forget is not worth it.
const SWEEP_MIN: usize = 64;

/// The tenants that a scheduler knows, by number.
#[derive(Debug)]
pub(super) struct Tenants {
    known: Vec<Option<Tenant>>,
    by_id: HashMap<TenantId, u32>,
    free: Vec<u32>,
    sweep_at: usize,
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            by_id: HashMap::new(),
            free: Vec::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

impl Tenants {
    pub(super) fn find(&self, id: TenantId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The tenant's number; made known if it is not.
    pub(super) fn know(&mut self, id: TenantId, orders: &[Order; 3]) -> u32 {
        if let Some(known) = self.find(id) {
            return known;
        }
        if self.by_id.len() >= self.sweep_at {
            self.sweep(orders);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            u32::try_from(self.known.len() - 1).expect("tenants are bounded")
        });
        self.known[number as usize] = Some(Tenant::new(id));
        self.by_id.insert(id, number);
        number
    }

    pub(super) fn get(&self, number: u32) -> &Tenant {
        self.known[number as usize]
            .as_ref()
            .expect("a tenant with calls is not forgotten")
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Tenant {
        self.known[number as usize]
            .as_mut()
            .expect("a tenant with calls is not forgotten")
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_id.values().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Forgets the idle ones that lose nothing by it; all idle ones if those are too many.
    /// Happens once the table has doubled, so that it costs a call next to nothing.
    fn sweep(&mut self, orders: &[Order; 3]) {
        self.forget(|tenant| tenant.is_idle() && tenant.is_behind(orders));
        if self.by_id.len() > IDLE_MAX {
            self.forget(Tenant::is_idle);
        }
        self.sweep_at = (2 * self.by_id.len()).max(SWEEP_MIN);
    }

    fn forget(&mut self, is_forgotten: impl Fn(&Tenant) -> bool) {
        for (number, known) in self.known.iter_mut().enumerate() {
            if known.as_ref().is_some_and(&is_forgotten) {
                let tenant = known.take().expect("it was just looked at");
                self.by_id.remove(&tenant.id);
                self.free
                    .push(u32::try_from(number).expect("tenants are bounded"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_tenants_do_not_add_up() {
        let orders: [Order; 3] = Default::default();
        let mut tenants = Tenants::default();
        for id in 0..1_000 {
            tenants.know(TenantId::from_bits(id), &orders);
        }
        assert!(tenants.len() <= SWEEP_MIN, "{}", tenants.len());
        let mut tenants = Tenants::default();
        for id in 0..5 * IDLE_MAX as u128 {
            let number = tenants.know(TenantId::from_bits(id), &orders);
            tenants.get_mut(number).lines[0].served = 1;
        }
        assert!(tenants.len() <= 2 * IDLE_MAX, "{}", tenants.len());
        let first = tenants.know(TenantId::from_bits(u128::MAX), &orders);
        tenants.get_mut(first).in_flight = 1;
        for id in 0..1_000 {
            tenants.know(TenantId::from_bits(1 << 100 | id), &orders);
        }
        assert_eq!(tenants.find(TenantId::from_bits(u128::MAX)), Some(first));
    }
}
