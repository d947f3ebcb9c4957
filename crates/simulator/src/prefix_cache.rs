//! The prefix cache: which blocks of which prompts an engine has worked on before.
//!
//! A block's hash covers its tokens and, through the hash before it, everything that led to it,
//! down to the model and the salt. So two salts share no block, whatever the prompts.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::tokens::{TOKEN_BYTES, digest};

/// Where a prompt's chain of hashes begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Namespace(u64);

impl Namespace {
    /// The namespace of this model and salt. Absent is the one that all callers without a salt
    /// share.
    pub(crate) fn new(model: &str, salt: Option<&str>) -> Self {
        let model = digest(0, model.as_bytes());
        Self(salt.map_or(model, |salt| digest(!model, salt.as_bytes())))
    }

    /// The namespace of one account at a provider, for this model and, where the provider has
    /// such, this key of the caller's. Two accounts never share one.
    pub(crate) fn of_account(provider: &str, account: Account, model: &str, key: &str) -> Self {
        let start = digest(account.0, provider.as_bytes());
        Self(digest(digest(start, model.as_bytes()), key.as_bytes()))
    }

    /// The hash of a prompt's beginning.
    pub(crate) fn prefix(self, prompt: &[u8]) -> u64 {
        digest(self.0, prompt)
    }

    /// The hashes of a prompt's full blocks, each of `block_tokens`.
    pub(crate) fn chain(self, prompt: &[u8], block_tokens: usize) -> Vec<u64> {
        let mut before = self.0;
        prompt
            .chunks_exact(block_tokens * TOKEN_BYTES)
            .map(|block| {
                before = digest(before, block);
                before
            })
            .collect()
    }
}

/// Who a provider takes a caller for: the credential that came with the call. Calls without one
/// are one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account(u64);

impl Account {
    /// The account of this credential.
    pub(crate) fn of(credential: Option<&str>) -> Self {
        credential.map_or(Self(0), |credential| Self(digest(1, credential.as_bytes())))
    }
}

/// Blocks by hash, at most `capacity`, the least recently used going first.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    capacity: usize,
    places: HashMap<u64, u32, FixedState>,
    /// A doubly linked list in a vector, from the most recently used to the least.
    blocks: Vec<Block>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    hash: u64,
    newer: u32,
    older: u32,
}

/// No block: the end of the list.
const NONE: u32 = u32::MAX;

impl PrefixCache {
    /// An empty cache for `capacity` blocks.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            // Places are 32 bits wide, and the last one is NONE.
            capacity: capacity.min(NONE as usize),
            places: HashMap::default(),
            blocks: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    /// How many blocks at the beginning of `chain` are here. They become the most recently used.
    pub(crate) fn look_up(&mut self, chain: &[u64]) -> usize {
        let found = chain
            .iter()
            .take_while(|hash| self.places.contains_key(hash))
            .count();
        self.keep(&chain[..found]);
        found
    }

    /// Remembers `chain`, as far as it fits. Its head becomes the most recently used, so that a
    /// chain is lost from its end: a block is of no use without those before it.
    pub(crate) fn keep(&mut self, chain: &[u64]) {
        let fitting = chain.len().min(self.capacity);
        for &hash in chain[..fitting].iter().rev() {
            let place = match self.places.get(&hash) {
                Some(&place) if place == self.newest => continue,
                Some(&place) => {
                    self.unlink(place);
                    place
                }
                None => self.new_place(hash),
            };
            self.link_as_newest(place);
        }
    }

    /// The blocks held, and the most that fit.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.blocks.len(), self.capacity)
    }

    /// An unlinked place that holds `hash`: a fresh one, or the least recently used.
    fn new_place(&mut self, hash: u64) -> u32 {
        let block = Block {
            hash,
            newer: NONE,
            older: NONE,
        };
        let place = if self.blocks.len() < self.capacity {
            self.blocks.push(block);
            (self.blocks.len() - 1) as u32
        } else {
            let place = self.oldest;
            self.unlink(place);
            let forgotten = std::mem::replace(&mut self.blocks[place as usize], block);
            self.places.remove(&forgotten.hash);
            place
        };
        self.places.insert(hash, place);
        place
    }

    fn unlink(&mut self, place: u32) {
        let Block { newer, older, .. } = self.blocks[place as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.blocks[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.blocks[older as usize].newer = newer,
        }
    }

    fn link_as_newest(&mut self, place: u32) {
        let second = self.newest;
        self.blocks[place as usize].newer = NONE;
        self.blocks[place as usize].older = second;
        match second {
            NONE => self.oldest = place,
            second => self.blocks[second as usize].newer = place,
        }
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn salts_and_models_share_no_block() {
        let prompt = [7_u8; 640];
        let chains = [
            Namespace::new("a", None),
            Namespace::new("a", Some("s")),
            Namespace::new("a", Some("t")),
            Namespace::new("b", Some("s")),
        ]
        .map(|namespace| namespace.chain(&prompt, 16));
        for (at, chain) in chains.iter().enumerate() {
            assert_eq!(chain.len(), 10);
            for other in &chains[at + 1..] {
                assert!(chain.iter().all(|hash| !other.contains(hash)));
            }
        }
    }

    #[test]
    fn a_chain_is_lost_from_its_end() {
        let mut cache = PrefixCache::new(4);
        cache.keep(&[1, 2, 3]);
        cache.keep(&[7, 8]);
        assert_eq!(cache.look_up(&[1, 2, 3]), 2);
        cache.keep(&[10, 11, 12, 13, 14, 15]);
        assert_eq!(cache.look_up(&[10, 11, 12, 13, 14, 15]), 4);
        assert_eq!(cache.look_up(&[1]), 0);
        assert_eq!(cache.fill(), (4, 4));
    }

    #[test]
    fn a_cache_without_room_holds_nothing() {
        let mut cache = PrefixCache::new(0);
        cache.keep(&[1, 2]);
        assert_eq!((cache.look_up(&[1, 2]), cache.fill()), (0, (0, 0)));
    }

    proptest! {
        /// Against the plain way to write it: a queue that is searched from end to end.
        #[test]
        fn it_is_a_least_recently_used_list(
            capacity in 1_usize..8,
            chains in prop::collection::vec(prop::collection::hash_set(0_u64..12, 1..6), 1..40),
        ) {
            let mut cache = PrefixCache::new(capacity);
            let mut model: VecDeque<u64> = VecDeque::new();
            for chain in chains {
                let chain: Vec<u64> = chain.into_iter().collect();
                let found = chain.iter().take_while(|hash| model.contains(hash)).count();
                prop_assert_eq!(cache.look_up(&chain), found);
                cache.keep(&chain);
                let used = chain[..found].iter().rev().chain(chain.iter().take(capacity).rev());
                for &hash in used {
                    model.retain(|&held| held != hash);
                    model.push_front(hash);
                    model.truncate(capacity);
                }
                prop_assert_eq!(cache.fill().0, model.len());
            }
        }
    }
}
