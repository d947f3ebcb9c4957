//! Which prefixes an upstream has probably warm.

use std::collections::VecDeque;

use super::ticket::Prefix;

/// 64 prefixes: what an engine with 200,000 tokens of cache has of prompts of 3,000.
const PREFIXES_MAX: usize = 64;

/// The prefixes that were dispatched last. Digests are of salted prefixes, so that one tenant's
/// never equals another's.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    recent: VecDeque<Prefix>,
}

impl Warmth {
    pub(super) fn dispatched(&mut self, prefix: Prefix) {
        if let Some(place) = self.recent.iter().position(|known| *known == prefix) {
            self.recent.remove(place);
        } else if self.recent.len() == PREFIXES_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(prefix);
    }

    pub(super) fn is_warm(&self, prefix: Option<Prefix>) -> bool {
        prefix.is_some_and(|prefix| self.recent.contains(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_warm_longest() {
        let mut warmth = Warmth::default();
        for digest in 0..PREFIXES_MAX as u64 {
            warmth.dispatched(Prefix(digest));
        }
        warmth.dispatched(Prefix(0));
        warmth.dispatched(Prefix(1_000));
        assert!(warmth.is_warm(Some(Prefix(0))));
        assert!(!warmth.is_warm(Some(Prefix(1))));
        assert!(!warmth.is_warm(None));
    }
}
