//! Answers of one tenant that are kept in memory, to be given again.
//!
//! Each tenant has a cache of its own behind its own lock, and a key that only its scope makes:
//! there is no entry that two tenants could reach. What is kept is of one version of the tenant's
//! configuration and guardrails; with another it begins anew. A restart forgets all of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use ledger::Consumption;
use parking_lot::Mutex;
use tenancy::{CacheKey, TenantEntry};

use crate::flights::Flights;
use crate::in_flight::{ByteCap, HeldBytes};

/// 512 bytes: the key in three maps, the entry, and what allocating them costs.
const ENTRY_BYTES: u64 = 512;
/// 1,000 questions that differ in meaning alone: looking through them all, at 1,536 dimensions,
/// is a millisecond's work.
const ALIKE_MAX: usize = 1_000;
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
    /// The answers that are being made.
    pub(crate) flights: Flights,
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

/// What a question means, as a vector of length one, and the requests that it is compared with:
/// those that are the same in all else.
#[derive(Debug, Clone)]
pub(crate) struct Meaning {
    pub(crate) partition: CacheKey,
    pub(crate) vector: Arc<[f32]>,
}

impl Meaning {
    /// None for a vector without a direction.
    pub(crate) fn of(partition: CacheKey, vector: &[f32]) -> Option<Self> {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        (length.is_normal()).then(|| Self {
            partition,
            vector: vector.iter().map(|x| x / length).collect(),
        })
    }

    /// The cosine; of another model's vector, none.
    fn likeness(&self, other: &[f32]) -> Option<f32> {
        let pairs = self.vector.iter().zip(other);
        (self.vector.len() == other.len()).then(|| pairs.map(|(one, other)| one * other).sum())
    }
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

/// The answer's key, and what its question means.
type AskedBefore = (CacheKey, Arc<[f32]>);

#[derive(Debug)]
struct Kept {
    /// Whose answers these are, in the version that they were made under.
    of: Arc<TenantEntry>,
    version: u64,
    entries: HashMap<CacheKey, Entry>,
    /// What the questions of each partition mean, the oldest first.
    meanings: HashMap<CacheKey, VecDeque<AskedBefore>>,
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
    partition: Option<CacheKey>,
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

    /// A call that was counted as missing looks for its answer once more.
    pub(crate) fn look_again(&self) {
        self.misses.fetch_sub(1, Ordering::Relaxed);
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
        kept.touch(key, reader.now, age_max)
    }

    /// The answer to the question that is most like this one, if it is so by `least` and its
    /// answer not older than `age_max`.
    pub(crate) fn get_alike(
        &self,
        meaning: &Meaning,
        least: f32,
        reader: Reader<'_>,
        age_max: Duration,
    ) -> Option<Arc<KeptAnswer>> {
        let mut kept = self.kept.lock();
        let found = kept.as_mut().and_then(|kept| {
            if !kept.is_for(reader) {
                return None;
            }
            kept.expire(reader.now);
            let key = kept.most_alike(meaning, least)?;
            kept.touch(&key, reader.now, age_max)
        });
        if found.is_some() {
            // It was counted as missing when it was not found by its key.
            self.misses.fetch_sub(1, Ordering::Relaxed);
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// Keeps an answer, in place of those that were not asked for the longest.
    pub(crate) fn put(
        &self,
        key: CacheKey,
        answer: KeptAnswer,
        meaning: Option<Meaning>,
        reader: Reader<'_>,
        room: &Room<'_>,
    ) {
        let vector_bytes = meaning.as_ref().map_or(0, |it| size_of_val(&*it.vector));
        let bytes = (answer.body.len() + vector_bytes) as u64 + ENTRY_BYTES;
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
        if let Some(meaning) = meaning {
            kept.mean(key, meaning);
        }
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
            meanings: HashMap::new(),
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

    /// Gives an answer, which was asked for last from now on.
    fn touch(
        &mut self,
        key: &CacheKey,
        now: Duration,
        age_max: Duration,
    ) -> Option<Arc<KeptAnswer>> {
        let turn = self.next_turn();
        let entry = self.entries.get_mut(key)?;
        if now.saturating_sub(entry.answer.at) > age_max {
            return None;
        }
        self.by_use
            .remove(&std::mem::replace(&mut entry.used, turn));
        self.by_use.insert(turn, *key);
        Some(Arc::clone(&entry.answer))
    }

    fn most_alike(&self, meaning: &Meaning, least: f32) -> Option<CacheKey> {
        let others = self.meanings.get(&meaning.partition)?.iter();
        let alike = others
            .filter_map(|(key, vector)| Some((meaning.likeness(vector)?, key)))
            .filter(|(likeness, _)| *likeness >= least);
        let most = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
        most.map(|(_, key)| *key)
    }

    /// Notes what the question behind an answer means, in place of the oldest where there are too
    /// many.
    fn mean(&mut self, key: CacheKey, meaning: Meaning) {
        let known = self.meanings.get(&meaning.partition);
        let oldest = known.filter(|known| known.len() >= ALIKE_MAX);
        if let Some((oldest, _)) = oldest.and_then(|known| known.front()).cloned() {
            self.remove(&oldest);
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.partition = Some(meaning.partition);
            let known = self.meanings.entry(meaning.partition).or_default();
            known.push_back((key, meaning.vector));
        }
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
            partition: None,
            held,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.by_expiry.remove(&entry.expiry);
            self.bytes -= entry.held.bytes();
            if let Some(partition) = entry.partition
                && let Some(known) = self.meanings.get_mut(&partition)
            {
                known.retain(|(other, _)| other != key);
                if known.is_empty() {
                    self.meanings.remove(&partition);
                }
            }
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
mod tests;
