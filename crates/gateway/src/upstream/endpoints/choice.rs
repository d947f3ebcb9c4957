//! Which of an engine's replicas a call goes to.
//!
//! The fair scheduler has decided before that the call goes now; this only says where. So nothing
//! here can make another tenant wait: a replica that is warm for the call is preferred within
//! [`QUANTUM`] of the least load, and never over one that has a free place if it has none.

/// What speaks for a replica and against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Healthy, as far as anybody knows.
    pub(super) is_fit: bool,
    /// Calls that it has: ours, and what its own figures say of others'.
    pub(super) load: u32,
    /// Calls of ours that it may have at one time.
    pub(super) places: u32,
    /// Ours.
    pub(super) own: u32,
    /// How full its cache of keys and values is, in thousandths, if it says so.
    pub(super) kv_permille: Option<u32>,
}

/// 4 calls: about what an engine's batch changes by between two looks at its figures, so that a
/// smaller difference says little.
const QUANTUM: u32 = 4;

/// 90% of the cache of keys and values: beyond, engines begin to preempt calls and to do their
/// work again.
const KV_PERMILLE_CROWDED: u32 = 900;

impl Candidate {
    /// The lower the better: first whether it is fit, then whether it has room, then its load. A
    /// crowded cache counts as up to twice the load.
    fn rank(&self) -> (bool, bool, u32) {
        let crowding = self.kv_permille.unwrap_or(0).min(1_000);
        let crowding = crowding.saturating_sub(KV_PERMILLE_CROWDED);
        let most = 1_000 - KV_PERMILLE_CROWDED;
        // A quantum at the least: a crowded replica without calls is crowded all the same.
        let more = self.load.max(QUANTUM) as u64 * u64::from(crowding) / u64::from(most);
        let load = self
            .load
            .saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        (!self.is_fit, self.own >= self.places, load)
    }
}

/// The candidate to call: the least loaded, where equals take turns; or the warm one, if it is
/// hardly more loaded. None if there is none at all.
pub(super) fn choose(candidates: &[Candidate], warm: Option<usize>, turn: usize) -> Option<usize> {
    let best = candidates.iter().map(Candidate::rank).min()?;
    let warm = warm.filter(|at| {
        let warm = candidates[*at].rank();
        (warm.0, warm.1) == (best.0, best.1) && warm.2 <= best.2.saturating_add(QUANTUM)
    });
    let equals = || (0..candidates.len()).filter(|at| candidates[*at].rank() == best);
    warm.or_else(|| equals().nth(turn % equals().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_load(load: u32) -> Candidate {
        Candidate {
            is_fit: true,
            load,
            places: 64,
            own: load,
            kv_permille: None,
        }
    }

    fn check(candidates: &[Candidate], warm: Option<usize>, expected: Option<usize>) {
        assert_eq!(choose(candidates, warm, 0), expected, "{candidates:?}");
    }

    #[test]
    fn the_least_loaded_goes_first_and_equals_take_turns() {
        check(&[with_load(3), with_load(1), with_load(2)], None, Some(1));
        check(&[], None, None);
        let equal = [with_load(1); 3];
        let chosen: Vec<_> = (0..6).map(|turn| choose(&equal, None, turn)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2].map(Some));
        // Who is passed over leaves its turn to nobody in particular.
        let one_busy = [with_load(1), with_load(9), with_load(1)];
        let chosen: Vec<_> = (0..4).map(|turn| choose(&one_busy, None, turn)).collect();
        assert_eq!(chosen, [0, 2, 0, 2].map(Some));
    }

    #[test]
    fn warmth_decides_within_a_quantum_and_never_beyond() {
        check(&[with_load(0), with_load(4)], Some(1), Some(1));
        check(&[with_load(0), with_load(5)], Some(1), Some(0));
        let unfit = Candidate {
            is_fit: false,
            ..with_load(0)
        };
        check(&[with_load(3), unfit], Some(1), Some(0));
        let full = Candidate {
            places: 1,
            ..with_load(1)
        };
        check(&[with_load(3), full], Some(1), Some(0));
    }

    #[test]
    fn a_crowded_cache_counts_as_load_and_whoever_is_unfit_comes_last() {
        let crowded = |load, permille| Candidate {
            kv_permille: Some(permille),
            ..with_load(load)
        };
        check(&[crowded(6, 1_000), with_load(10)], None, Some(1));
        check(&[crowded(6, 899), with_load(7)], None, Some(0));
        check(&[crowded(0, 990), with_load(2)], None, Some(1));
        let unfit = Candidate {
            is_fit: false,
            ..with_load(0)
        };
        check(&[unfit, with_load(63)], None, Some(1));
        // A call that may fail is better than one that must.
        check(&[unfit], None, Some(0));
    }
}
