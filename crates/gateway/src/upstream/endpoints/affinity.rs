//! Which replica has probably a prompt's beginning in its cache.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tenancy::CacheSalt;

/// How far into a prompt its beginnings reach, in bytes. From 512, eight blocks of an engine's
/// cache, each twice the one before, up to 64 KiB: a prompt of 16,000 tokens.
const REACHES: [usize; 8] = [
    512,
    1 << 10,
    2 << 10,
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
];

/// Digests of a prompt's beginnings, the shortest first. They are keyed by the tenant's salt, so
/// that those of two tenants are never the same, whatever the prompts; nothing of a prompt can
/// be had from them. None for a prompt that is too short to matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Beginnings(SmallVec<[u64; REACHES.len()]>);

impl Beginnings {
    /// Those of a prompt, as it is written in the request.
    pub(crate) fn of(salt: &CacheSalt, prompt: &[u8]) -> Self {
        Self::keyed(salt.as_str(), prompt)
    }

    fn keyed(salt: &str, prompt: &[u8]) -> Self {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(salt.as_bytes());
        let mut from = 0;
        let mut digests = SmallVec::new();
        for reach in REACHES {
            let Some(piece) = prompt.get(from..reach) else {
                break;
            };
            hasher.write(piece);
            digests.push(hasher.finish());
            from = reach;
        }
        Self(digests)
    }
}

/// 8,192 digests in a generation, of which there are two: two thousand conversations of four
/// digests each, in half a mebibyte.
const GENERATION_MAX: usize = 8_192;

/// Where which beginnings went last. What was used least recently is forgotten first, by halves.
#[derive(Debug, Default)]
pub(super) struct Warm {
    young: HashMap<u64, u32>,
    old: HashMap<u64, u32>,
}

impl Warm {
    /// The replica that had the longest of these beginnings last.
    pub(super) fn find(&self, beginnings: &Beginnings) -> Option<u32> {
        let mut longest_first = beginnings.0.iter().rev();
        longest_first
            .find_map(|digest| self.young.get(digest).or_else(|| self.old.get(digest)))
            .copied()
    }

    /// A call with these beginnings goes to a replica.
    pub(super) fn went(&mut self, beginnings: &Beginnings, replica: u32) {
        for digest in &beginnings.0 {
            if self.young.len() >= GENERATION_MAX {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(*digest, replica);
        }
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(bytes: usize, end: u8) -> Vec<u8> {
        let mut prompt: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
        prompt[bytes - 1] = end;
        prompt
    }

    #[test]
    fn a_longer_conversation_begins_as_the_shorter_one_did() {
        let short = Beginnings::keyed("salt", &prompt(3_000, 1));
        let long = Beginnings::keyed("salt", &prompt(9_000, 1));
        assert_eq!((short.0.len(), long.0.len()), (3, 5));
        assert_eq!(short.0[..], long.0[..3]);
        let other = Beginnings::keyed("salt", &prompt(2_048, 7));
        assert_eq!(other.0[..2], short.0[..2]);
        assert_ne!(other.0[2], short.0[2]);
        assert_eq!(Beginnings::keyed("salt", b"hi"), Beginnings::default());
        assert_eq!(Beginnings::keyed("salt", &prompt(1 << 20, 1)).0.len(), 8);
    }

    /// Another tenant's call with the same words finds nothing.
    #[test]
    fn beginnings_are_one_tenants() {
        let [own, other] = ["salt", "tals"].map(|salt| Beginnings::keyed(salt, &prompt(4_096, 1)));
        assert!(own.0.iter().all(|digest| !other.0.contains(digest)));
        let mut warm = Warm::default();
        warm.went(&own, 3);
        assert_eq!((warm.find(&own), warm.find(&other)), (Some(3), None));
    }

    #[test]
    fn the_longest_beginning_decides_and_old_ones_are_forgotten() {
        let mut warm = Warm::default();
        let short = Beginnings::keyed("salt", &prompt(600, 1));
        let long = Beginnings::keyed("salt", &prompt(3_000, 1));
        warm.went(&long, 1);
        warm.went(&short, 2);
        assert_eq!((warm.find(&short), warm.find(&long)), (Some(2), Some(1)));
        for number in 0..2 * GENERATION_MAX as u64 {
            warm.went(&Beginnings(SmallVec::from_slice(&[number])), 0);
        }
        assert!(warm.known() <= 2 * GENERATION_MAX);
        assert_eq!(warm.find(&long), None);
    }
}
