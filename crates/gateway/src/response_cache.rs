//! Answers of one tenant that are kept in memory, to be given again.
//!
//! Each tenant has a cache of its own behind its own lock, and a key that only its scope makes:
//! there is no entry that two tenants could reach. What is kept is of one version of the tenant's
//! configuration and guardrails; with another it begins anew. A restart forgets all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use ledger::Consumption;
use parking_lot::Mutex;
use tenancy::{CacheKey, TenantEntry};

use crate::in_flight::{ByteCap, HeldBytes};

/// 512 bytes: the key in three maps, the entry, and what allocating them costs.
const ENTRY_BYTES: u64 = 512;
/// Four answers at least find room: one alone does not push out all others.
const SHARE_OF_ONE: u64 = 4;

/// One tenant's cache.
#[derive(Debug, Default)]
pub(crate) struct ResponseCache {
    /// None while nothing is kept, as for most tenants.
    kept: Mutex<Option<Box<Kept>>>,
    /// Counted up when somebody empties it, so that calls under way do not fill it again.
    generation: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// An answer as a client had it.
#[derive(Debug)]
pub(crate) struct KeptAnswer {
    /// The body: after translation and guardrails.
    pub(crate) body: Bytes,
    pub(crate) form: Form,
    /// What it consumed when it was made.
    pub(crate) consumption: Consumption,
    /// When that was, on the monotonic clock.
    pub(crate) at: Duration,
}

/// How an answer is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// In one piece.
    Whole,
    /// As events; of OpenAI's, those that say the usage or not.
    Stream {
        /// Whether the client asked for the usage.
        with_usage: bool,
    },
}

/// The version of a tenant that a request reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) tenant: &'a Arc<TenantEntry>,
    pub(crate) version: u64,
    /// The monotonic clock.
    pub(crate) now: Duration,
}

/// Where an answer goes that is to be kept.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    /// The most bytes of the tenant's answers.
    pub(crate) bytes_max: u64,
    /// The bytes of all tenants' answers.
    pub(crate) all: &'a Arc<ByteCap>,
    /// The cache's generation when the call looked for the answer.
    pub(crate) generation: u64,
    pub(crate) ttl: Duration,
}

/// What is in a cache, and how often it helped since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Answers that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Calls that were given one of them.
    pub hits: u64,
    /// Calls for which there was none.
    pub misses: u64,
}

#[derive(Debug)]
struct Kept {
    /// Whose answers these are, in the version that they were made under.
    of: Arc<TenantEntry>,
    version: u64,
    entries: HashMap<CacheKey, Entry>,
    /// The longest unused first.
    by_use: BTreeMap<u64, CacheKey>,
    by_expiry: BTreeMap<(Duration, u64), CacheKey>,
    turn: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Arc<KeptAnswer>,
    used: u64,
    expiry: (Duration, u64),
    held: HeldBytes,
}

impl ResponseCache {
    /// The answer under `key`, if there is one that is not older than `age_max`.
    pub(crate) fn get(
        &self,
        key: &CacheKey,
        reader: Reader<'_>,
        age_max: Duration,
    ) -> Option<Arc<KeptAnswer>> {
        let found = self.find(key, reader, age_max);
        let counter = match found {
            Some(_) => &self.hits,
            None => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn find(
        &self,
        key: &CacheKey,
        reader: Reader<'_>,
        age_max: Duration,
    ) -> Option<Arc<KeptAnswer>> {
        let mut kept = self.kept.lock();
        let kept = kept.as_mut()?;
        if !kept.is_for(reader) {
            return None;
        }
        kept.expire(reader.now);
        let turn = kept.next_turn();
        let entry = kept.entries.get_mut(key)?;
        if reader.now.saturating_sub(entry.answer.at) > age_max {
            return None;
        }
        kept.by_use
            .remove(&std::mem::replace(&mut entry.used, turn));
        kept.by_use.insert(turn, *key);
        Some(Arc::clone(&entry.answer))
    }

    /// Keeps an answer, in place of those that were not asked for the longest.
    pub(crate) fn put(
        &self,
        key: CacheKey,
        answer: KeptAnswer,
        reader: Reader<'_>,
        room: &Room<'_>,
    ) {
        let bytes = answer.body.len() as u64 + ENTRY_BYTES;
        if bytes > room.bytes_max / SHARE_OF_ONE {
            return;
        }
        let mut kept = self.kept.lock();
        if self.generation() != room.generation {
            return;
        }
        let kept = kept.get_or_insert_with(|| Box::new(Kept::new(reader)));
        if !kept.is_for(reader) {
            return;
        }
        kept.expire(reader.now);
        kept.remove(&key);
        while kept.bytes + bytes > room.bytes_max && kept.evict() {}
        // A tenant makes room at its own cost alone: where all of the process's is used by
        // others, it keeps less.
        let held = loop {
            match room.all.hold(bytes) {
                Some(held) => break held,
                None if kept.evict() => {}
                None => return,
            }
        };
        kept.insert(key, answer, reader.now + room.ttl, held);
    }

    /// See [`Room::generation`].
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Forgets every answer, those of calls under way included.
    pub(crate) fn clear(&self) {
        let mut kept = self.kept.lock();
        self.generation.fetch_add(1, Ordering::Relaxed);
        *kept = None;
    }

    /// Forgets what was made under another version of the tenant; all, if none serves calls.
    pub(crate) fn follow(&self, serves: Option<Reader<'_>>) {
        let mut kept = self.kept.lock();
        match (kept.as_mut(), serves) {
            (None, _) => {}
            (Some(it), Some(reader)) => {
                let _is_newer = it.is_for(reader);
            }
            (Some(_), None) => *kept = None,
        }
    }

    /// Forgets what is too old, of a tenant that does not call too.
    pub(crate) fn expire(&self, now: Duration) {
        let mut kept = self.kept.lock();
        if let Some(it) = kept.as_mut() {
            it.expire(now);
        }
        kept.take_if(|kept| kept.entries.is_empty());
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        let kept = self.kept.lock();
        let (entries, bytes) = kept
            .as_ref()
            .map_or((0, 0), |kept| (kept.entries.len() as u64, kept.bytes));
        CacheFigures {
            entries,
            bytes,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

impl Kept {
    fn new(reader: Reader<'_>) -> Self {
        Self {
            of: Arc::clone(reader.tenant),
            version: reader.version,
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            by_expiry: BTreeMap::new(),
            turn: 0,
            bytes: 0,
        }
    }

    /// Whether these answers are of the reader's version of the tenant. A newer version takes
    /// them over, or begins anew; an older one does neither.
    fn is_for(&mut self, reader: Reader<'_>) -> bool {
        if Arc::ptr_eq(&self.of, reader.tenant) {
            return true;
        }
        let is_alike = answers_alike(&self.of, reader.tenant);
        if reader.version < self.version {
            return is_alike;
        }
        if !is_alike {
            *self = Self::new(reader);
        }
        self.of = Arc::clone(reader.tenant);
        self.version = reader.version;
        true
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn insert(&mut self, key: CacheKey, answer: KeptAnswer, expires: Duration, held: HeldBytes) {
        let turn = self.next_turn();
        let expiry = (expires, turn);
        self.bytes += held.bytes();
        self.by_use.insert(turn, key);
        self.by_expiry.insert(expiry, key);
        let entry = Entry {
            answer: Arc::new(answer),
            used: turn,
            expiry,
            held,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.by_expiry.remove(&entry.expiry);
            self.bytes -= entry.held.bytes();
        }
    }

    /// Removes the answer that was not asked for the longest; false if there is none.
    fn evict(&mut self) -> bool {
        let Some((_, key)) = self.by_use.first_key_value() else {
            return false;
        };
        let key = *key;
        self.remove(&key);
        true
    }

    fn expire(&mut self, now: Duration) {
        while let Some(((expires, _), key)) = self.by_expiry.first_key_value()
            && *expires <= now
        {
            let key = *key;
            self.remove(&key);
        }
    }
}

/// Whether two versions of a tenant answer the same request alike, beyond what its key says.
fn answers_alike(one: &TenantEntry, other: &TenantEntry) -> bool {
    let is_config = Arc::ptr_eq(&one.config, &other.config) || one.config == other.config;
    let is_epoch = one.spec.salt_epoch == other.spec.salt_epoch;
    is_config && is_epoch && one.guardrails == other.guardrails
}

#[cfg(test)]
mod tests {
    use base::{SeededEntropy, TenantId};
    use serde_json::json;
    use tenancy::catalogue::{Address, Kind, Resource};
    use tenancy::{
        CachePurpose, Change, LocalRootKey, PlatformKeys, ServiceIdentity, ServicePurpose,
        Snapshot, TenantKeys, TenantScope,
    };

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// One tenant, its scope, and the room that its cache has.
    struct World {
        snapshot: Snapshot,
        scope: TenantScope,
        all: Arc<ByteCap>,
        cache: ResponseCache,
    }

    fn put(address: Address, spec: serde_json::Value) -> Change {
        let resource = Resource::from_json(address.kind, spec.to_string().as_bytes());
        let resource = Some(resource.expect("a specification"));
        Change { address, resource }
    }

    impl World {
        fn new(all: u64) -> Self {
            let entropy = SeededEntropy::new(1);
            let root = LocalRootKey::generate(&entropy);
            let id = TenantId::from_bits(1);
            let (keys, _) = TenantKeys::generate(&root, id, &entropy).expect("keys");
            let (platform, _) = PlatformKeys::generate(&root, &entropy).expect("keys");
            let keys = Arc::new(keys);
            let scope =
                ServiceIdentity::of(&platform).scope(Arc::clone(&keys), ServicePurpose::Recovery);
            let changes = vec![
                put(Address::platform(Kind::Tier, "free"), json!({})),
                put(
                    Address::platform(Kind::Tenant, "acme"),
                    json!({"id": id, "tier": "free"}),
                ),
            ];
            let source = |_| Some(Arc::clone(&keys));
            let snapshot = Snapshot::empty().with(1, changes, &source);
            Self {
                snapshot: snapshot.expect("it is valid"),
                scope,
                all: ByteCap::new(all),
                cache: ResponseCache::default(),
            }
        }

        fn key(&self, name: &str) -> CacheKey {
            self.scope
                .cache_key(CachePurpose::Answer, &[name.as_bytes()])
        }

        fn put(&self, name: &str, length: usize, bytes_max: u64, now: Duration) {
            let answer = KeptAnswer {
                body: vec![b'x'; length].into(),
                form: Form::Whole,
                consumption: Consumption::default(),
                at: now,
            };
            let room = Room {
                bytes_max,
                all: &self.all,
                generation: self.cache.generation(),
                ttl: MINUTE,
            };
            let reader = reader(&self.snapshot, now);
            self.cache.put(self.key(name), answer, reader, &room);
        }

        fn has(&self, name: &str, now: Duration) -> bool {
            let reader = reader(&self.snapshot, now);
            let found = self.cache.get(&self.key(name), reader, Duration::MAX);
            found.is_some()
        }
    }

    fn reader(snapshot: &Snapshot, now: Duration) -> Reader<'_> {
        Reader {
            tenant: snapshot.tenant_named("acme").expect("it is there"),
            version: snapshot.version(),
            now,
        }
    }

    #[test]
    fn an_answer_lives_for_its_time_and_gives_its_bytes_back() {
        let world = World::new(1 << 20);
        world.put("a", 100, 1 << 20, Duration::ZERO);
        assert!(world.has("a", MINUTE - Duration::from_micros(1)));
        let (key, young) = (world.key("a"), Duration::from_secs(5));
        let at_ten = reader(&world.snapshot, 2 * young);
        assert!(world.cache.get(&key, at_ten, young).is_none());
        assert!(world.cache.get(&key, at_ten, 2 * young).is_some());
        assert_eq!(world.all.used(), 100 + ENTRY_BYTES);
        assert!(!world.has("a", MINUTE));
        assert_eq!((world.all.used(), world.cache.figures().entries), (0, 0));
        world.put("b", 100, 1 << 20, MINUTE);
        world.cache.expire(2 * MINUTE);
        assert_eq!(world.all.used(), 0);
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let world = World::new(1 << 20);
        // Room for four of them.
        let room = 4 * (1_000 + ENTRY_BYTES);
        for name in ["a", "b", "c", "d"] {
            world.put(name, 1_000, room, Duration::ZERO);
        }
        assert!(world.has("a", Duration::ZERO));
        world.put("e", 1_000, room, Duration::ZERO);
        let kept = ["a", "b", "c", "d", "e"].map(|name| world.has(name, Duration::ZERO));
        assert_eq!(kept, [true, false, true, true, true]);
        assert_eq!(world.cache.figures().bytes, room);
        // One that would take more than a quarter is not kept, and pushes none out.
        world.put("f", 1_001, room, Duration::ZERO);
        assert_eq!(world.cache.figures().entries, 4);
        // The same again takes its own place.
        world.put("e", 1_000, room, Duration::ZERO);
        assert_eq!(world.cache.figures().bytes, room);
    }

    #[test]
    fn where_others_use_all_room_a_tenant_gives_up_its_own_alone() {
        let one = 1_000 + ENTRY_BYTES;
        let world = World::new(3 * one);
        let others = world.all.hold(2 * one).expect("it fits");
        world.put("a", 1_000, 1 << 20, Duration::ZERO);
        world.put("b", 1_000, 1 << 20, Duration::ZERO);
        let kept = ["a", "b"].map(|name| world.has(name, Duration::ZERO));
        assert_eq!(kept, [false, true]);
        assert_eq!(world.all.used(), 3 * one);
        drop(others);
    }

    #[test]
    fn an_older_request_neither_reads_nor_writes_what_a_newer_version_keeps() {
        let world = World::new(1 << 20);
        let now = Duration::ZERO;
        world.put("a", 10, 1 << 20, now);
        let config = json!({"models": ["m"]});
        let address = Address::in_tenant(TenantId::from_bits(1), Kind::Config, "config");
        let newer = world
            .snapshot
            .with(2, vec![put(address, config)], &|_| None);
        let newer = newer.expect("it is valid");
        let key = world.key("a");
        let found = world.cache.get(&key, reader(&newer, now), Duration::MAX);
        assert!(found.is_none(), "it was made under another configuration");
        world.put("a", 10, 1 << 20, now);
        assert!(!world.has("a", now), "the cache is the newer version's");
        assert_eq!(world.cache.figures().entries, 0);
    }

    #[test]
    fn what_is_emptied_stays_empty_for_calls_under_way() {
        let world = World::new(1 << 20);
        let generation = world.cache.generation();
        world.cache.clear();
        let answer = KeptAnswer {
            body: Bytes::new(),
            form: Form::Whole,
            consumption: Consumption::default(),
            at: Duration::ZERO,
        };
        let room = Room {
            bytes_max: 1 << 20,
            all: &world.all,
            generation,
            ttl: MINUTE,
        };
        let reader = reader(&world.snapshot, Duration::ZERO);
        world.cache.put(world.key("a"), answer, reader, &room);
        assert_eq!(world.cache.figures().entries, 0);
    }
}
