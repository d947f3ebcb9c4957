//! Which tenant a trace belongs to: the one whose call was in it first.

use std::collections::HashMap;
use std::num::NonZeroU128;

use base::TenantId;
use parking_lot::Mutex;

/// 32,768 traces a generation, and two generations: some 4 MB, and minutes of the highest load. An
/// older trace is nobody's again; its 128 bits are still to be guessed.
const GENERATION_MAX: usize = 32_768;

/// The tenants of the traces that callers named lately.
#[derive(Debug, Default)]
pub(super) struct TraceOwners(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    recent: HashMap<NonZeroU128, TenantId>,
    before: HashMap<NonZeroU128, TenantId>,
}

impl TraceOwners {
    /// Whether the trace is this tenant's; one that is nobody's becomes its own.
    pub(super) fn is_owner(&self, trace: NonZeroU128, tenant: TenantId) -> bool {
        let mut generations = self.0.lock();
        let Generations { recent, before } = &mut *generations;
        if let Some(owner) = recent.get(&trace) {
            return *owner == tenant;
        }
        let owner = before.remove(&trace).unwrap_or(tenant);
        if recent.len() >= GENERATION_MAX {
            *before = std::mem::take(recent);
        }
        recent.insert(trace, owner);
        owner == tenant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_one_tenant_and_memory_has_a_bound() {
        let owners = TraceOwners::default();
        let [one, other] = [1, 2].map(TenantId::from_bits);
        let trace = |number: usize| NonZeroU128::new(number as u128 + 1).unwrap();
        assert!(owners.is_owner(trace(0), one));
        for number in 1..=GENERATION_MAX + 1 {
            assert!(owners.is_owner(trace(number), other));
        }
        assert!(!owners.is_owner(trace(0), other), "it is remembered");
        assert!(owners.is_owner(trace(0), one));
        for number in 0..3 * GENERATION_MAX {
            owners.is_owner(trace(1_000_000 + number), other);
        }
        let generations = owners.0.lock();
        assert!(generations.recent.len() <= GENERATION_MAX);
        assert!(generations.before.len() <= GENERATION_MAX);
    }
}
