//! Whose credential a hash is. Copies share what did not change, as [`crate::shards`] do, and a
//! key costs one pointer here: its hash is in its entry already.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Name;
use hashbrown::HashTable;

use crate::key_entry::KeyEntry;
use crate::keys::KeyHash;

/// 256, by a hash's first byte: at 100,000 keys a change copies 400 pointers.
const SHARD_COUNT: usize = 256;

/// Whose credential a hash is.
#[derive(Debug, Clone, Copy)]
pub enum CredentialOwner<'a> {
    /// A tenant's key.
    Key(&'a Arc<KeyEntry>),
    /// An operator, by name.
    Operator(&'a Name),
}

/// All keys and operators by their hashes. A hash has one owner.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Keys by their present hash.
    keys: Box<[Arc<HashTable<Arc<KeyEntry>>>]>,
    /// Keys by the hash that a rotation replaced. A rotation's overlap ends, so these are few.
    retiring: Arc<BTreeMap<[u8; 32], Arc<KeyEntry>>>,
    operators: Arc<BTreeMap<[u8; 32], Name>>,
}

/// The hash that somebody else has already.
#[derive(Debug)]
pub(crate) struct TakenHash;

impl Credentials {
    pub(crate) fn new() -> Self {
        let empty = Arc::new(HashTable::new());
        Self {
            keys: vec![empty; SHARD_COUNT].into(),
            retiring: Arc::default(),
            operators: Arc::default(),
        }
    }

    pub(crate) fn get(&self, hash: &KeyHash) -> Option<CredentialOwner<'_>> {
        let (shard, slot) = place(hash);
        let key = self.keys[shard].find(slot, |key| key.hash == *hash);
        key.or_else(|| self.retiring.get(&hash.to_bytes()))
            .map(CredentialOwner::Key)
            .or_else(|| {
                let operator = self.operators.get(&hash.to_bytes())?;
                Some(CredentialOwner::Operator(operator))
            })
    }

    /// Takes in a key under its hash, and under the one that it is retiring. Of a key with a
    /// taken hash nothing is kept.
    pub(crate) fn insert_key(&mut self, key: &Arc<KeyEntry>) -> Result<(), TakenHash> {
        let retiring = key.retiring().map(|retiring| &retiring.hash);
        let taken = |hash: &KeyHash| self.get(hash).is_some();
        if taken(&key.hash) || retiring.is_some_and(taken) || retiring == Some(&key.hash) {
            return Err(TakenHash);
        }
        let (shard, slot) = place(&key.hash);
        let slot_of = |key: &Arc<KeyEntry>| place(&key.hash).1;
        Arc::make_mut(&mut self.keys[shard]).insert_unique(slot, Arc::clone(key), slot_of);
        if let Some(hash) = retiring {
            Arc::make_mut(&mut self.retiring).insert(hash.to_bytes(), Arc::clone(key));
        }
        Ok(())
    }

    pub(crate) fn remove_key(&mut self, key: &Arc<KeyEntry>) {
        let (shard, slot) = place(&key.hash);
        let is_it = |other: &Arc<KeyEntry>| Arc::ptr_eq(other, key);
        if let Ok(found) = Arc::make_mut(&mut self.keys[shard]).find_entry(slot, is_it) {
            found.remove();
        }
        if let Some(retiring) = key.retiring() {
            let hash = retiring.hash.to_bytes();
            if self.retiring.get(&hash).is_some_and(is_it) {
                Arc::make_mut(&mut self.retiring).remove(&hash);
            }
        }
    }

    pub(crate) fn insert_operator(&mut self, hash: &KeyHash, name: Name) -> Result<(), TakenHash> {
        if self.get(hash).is_some() {
            return Err(TakenHash);
        }
        Arc::make_mut(&mut self.operators).insert(hash.to_bytes(), name);
        Ok(())
    }

    pub(crate) fn remove_operator(&mut self, hash: &KeyHash, name: &Name) {
        if self.operators.get(&hash.to_bytes()) == Some(name) {
            Arc::make_mut(&mut self.operators).remove(&hash.to_bytes());
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: usize = self.keys.iter().map(|shard| shard.len()).sum();
        write!(f, "Credentials({keys})")
    }
}

/// The shard, and the slot's hash in it. A keyed hash is uniform, and nobody without the pepper
/// can aim for a collision, so its own bytes serve: the first chooses the shard, the next eight
/// the slot.
fn place(hash: &KeyHash) -> (usize, u64) {
    let bytes = hash.to_bytes();
    let slot = bytes[1..9].try_into().expect("eight bytes");
    (usize::from(bytes[0]), u64::from_le_bytes(slot))
}

#[cfg(test)]
mod tests {
    use base::{KeyId, TenantId};
    use serde_json::json;

    use super::*;

    fn hash(number: u16) -> KeyHash {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        KeyHash::from_bytes(bytes)
    }

    fn key(number: u16, retiring: Option<u16>) -> Arc<KeyEntry> {
        let id = KeyId::from_bits(u128::from(number));
        let mut spec = json!({"id": id, "hash": hash(number)});
        if let Some(former) = retiring {
            spec["retiring"] = json!({"hash": hash(former), "until": "2026-01-01T00:00:00Z"});
        }
        let name = format!("key-{number}").parse().unwrap();
        let spec = serde_json::from_value(spec).unwrap();
        Arc::new(KeyEntry::new(TenantId::from_bits(1), name, spec))
    }

    fn owner(all: &Credentials, number: u16) -> Option<String> {
        all.get(&hash(number)).map(|owner| match owner {
            CredentialOwner::Key(key) => key.name.to_string(),
            CredentialOwner::Operator(name) => format!("operator {name}"),
        })
    }

    #[test]
    fn a_hash_finds_its_owner_and_nobody_else() {
        let mut all = Credentials::new();
        let keys: Vec<_> = (0..2_000).map(|number| key(number, None)).collect();
        for key in &keys {
            all.insert_key(key).unwrap();
        }
        for number in 0..2_000 {
            assert_eq!(owner(&all, number), Some(format!("key-{number}")));
        }
        assert_eq!(owner(&all, 2_000), None);
        let before = all.clone();
        all.remove_key(&keys[7]);
        assert_eq!(owner(&all, 7), None);
        assert_eq!(owner(&before, 7), Some("key-7".to_owned()));
        let shared = |i: &usize| Arc::ptr_eq(&before.keys[*i], &all.keys[*i]);
        assert_eq!((0..SHARD_COUNT).filter(shared).count(), SHARD_COUNT - 1);
    }

    #[test]
    fn a_rotated_key_is_found_by_both_hashes_until_it_goes() {
        let mut all = Credentials::new();
        let rotated = key(2, Some(1));
        all.insert_key(&rotated).unwrap();
        assert_eq!(owner(&all, 1), Some("key-2".to_owned()));
        assert_eq!(owner(&all, 2), Some("key-2".to_owned()));
        all.remove_key(&rotated);
        assert_eq!((owner(&all, 1), owner(&all, 2)), (None, None));
    }

    #[test]
    fn a_hash_has_one_owner_whichever_way_it_is_held() {
        let mut all = Credentials::new();
        all.insert_key(&key(2, Some(1))).unwrap();
        all.insert_operator(&hash(3), "root".parse().unwrap())
            .unwrap();
        for (number, retiring) in [(1, None), (2, None), (3, None), (9, Some(1)), (9, Some(3))] {
            let taken = all.insert_key(&key(number, retiring));
            assert!(taken.is_err(), "{number} {retiring:?}");
        }
        assert_eq!(owner(&all, 9), None);
        for number in [1, 2, 3] {
            let name = "other".parse().unwrap();
            assert!(all.insert_operator(&hash(number), name).is_err());
        }
        assert_eq!(owner(&all, 3), Some("operator root".to_owned()));
        // Whoever never had the hash does not take it away.
        all.remove_key(&key(2, Some(1)));
        all.remove_operator(&hash(3), &"other".parse().unwrap());
        assert_eq!(owner(&all, 2), Some("key-2".to_owned()));
        assert_eq!(owner(&all, 3), Some("operator root".to_owned()));
        all.remove_operator(&hash(3), &"root".parse().unwrap());
        assert_eq!(owner(&all, 3), None);
    }
}
