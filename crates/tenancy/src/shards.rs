//! A map whose copies share what did not change, so that publishing one key costs neither a
//! copy of the other hundred thousand nor a lock for those who read.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;

/// 256: at 100,000 entries a change copies 400 of them.
const SHARD_COUNT: usize = 256;

/// A copy-on-write hash map. Cloning costs 256 reference counts.
#[derive(Clone)]
pub(crate) struct Shards<K, V> {
    shards: Box<[Arc<HashMap<K, V, FixedState>>]>,
    hasher: FixedState,
}

impl<K: Eq + Hash + Clone, V: Clone> Shards<K, V> {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(HashMap::with_hasher(FixedState::with_seed(1)));
        Self {
            shards: vec![empty; SHARD_COUNT].into(),
            hasher: FixedState::with_seed(0),
        }
    }

    fn index<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize % SHARD_COUNT
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards[self.index(key)].get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.index(&key);
        Arc::make_mut(&mut self.shards[index]).insert(key, value)
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = self.index(key);
        Arc::make_mut(&mut self.shards[index]).remove(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }
}

impl<K, V> fmt::Debug for Shards<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len: usize = self.shards.iter().map(|shard| shard.len()).sum();
        write!(f, "Shards({len})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut live = Shards::new();
        for number in 0..1_000 {
            live.insert(number, number);
        }
        let kept = live.clone();
        live.insert(1_000, 1_000);
        live.remove(&0);
        assert_eq!((kept.len(), live.len()), (1_000, 1_000));
        assert_eq!((kept.get(&0), live.get(&0)), (Some(&0), None));
        let shared = (0..SHARD_COUNT).filter(|i| Arc::ptr_eq(&kept.shards[*i], &live.shards[*i]));
        assert!(shared.count() >= SHARD_COUNT - 2);
    }
}
