//! Which adapters are in an engine's slots, who waits for one, and who makes room: a state machine
//! without I/O. Time is handed to it.
//!
//! Room is made in this order: what nobody knows, what nobody has used for a minute, then what
//! leaves the slots shared more evenly. A tenant takes a slot from another only if that one keeps
//! at least as many as it gets, or if it has none itself: so one who asks for ever new adapters
//! pushes out its own. An adapter with calls under way is never unloaded; it takes no new calls
//! while somebody who may have its slot waits, so that waiting ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::TenantId;
use tenancy::AdapterName;

use super::EngineAdapter;

/// A minute without a call: whoever has an adapter for so long and does not use it has no claim
/// to its slot.
const STALE: Duration = Duration::from_secs(60);
/// 1,024 calls that wait for slots of one upstream: a second of them at full load.
const WAITING_MAX: usize = 1_024;
/// 128 of them of one tenant, so that nobody fills the line alone.
const WAITING_OF_TENANT_MAX: usize = 128;
/// A second after the first failure, twice as long after each further one…
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// … up to a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// 1,024 failed adapters are remembered; beyond them the one that may be tried next is forgotten.
const FAILED_MAX: usize = 1_024;

/// Whoever waits for an adapter.
pub(super) trait Waiter {
    /// Whether it has given up.
    fn is_gone(&self) -> bool;
}

/// What came of asking for an adapter.
#[derive(Debug)]
pub(super) enum Asked<W> {
    /// It is loaded, and held for the caller from now on; and the life that it is in.
    Held(u64, W),
    /// The caller is in line.
    Waiting,
    /// Too many wait already.
    Full,
    /// It could not be loaded; when it may be tried again.
    Failed(Duration),
}

/// What is to be done next. Whoever does it says what came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<W> {
    /// Ask the engine what it has: [`Slots::synced`].
    Sync,
    /// Unload `evicted`, if there is one, and load: [`Slots::loaded`] or [`Slots::failed`].
    Load {
        adapter: Arc<EngineAdapter>,
        evicted: Option<AdapterName>,
    },
    /// Unload what was revoked: [`Slots::unloaded`].
    Unload(AdapterName),
    /// These have it now, in this life of its.
    Grant {
        adapter: AdapterName,
        life: u64,
        waiters: Vec<W>,
    },
}

/// What has been done since it was last asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) loads: u64,
    pub(super) failures: u64,
    pub(super) evictions: u64,
}

/// The slots of one engine.
#[derive(Debug)]
pub(super) struct Slots<W> {
    capacity: usize,
    knowledge: Knowledge,
    held: HashMap<AdapterName, Held>,
    /// They are being unloaded to make room for one that is held already.
    leaving: HashSet<AdapterName>,
    /// What the engine has of an earlier process or catalogue.
    strays: Vec<AdapterName>,
    /// In the order in which they were first asked for; each adapter once.
    line: VecDeque<Want<W>>,
    failed: HashMap<AdapterName, Failure>,
    lives: u64,
    done: Done,
}

/// Whether what the engine has is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    Missing,
    Asking,
    There,
}

#[derive(Debug)]
struct Held {
    adapter: Arc<EngineAdapter>,
    stage: Stage,
    /// Calls under way.
    users: u32,
    last_used: Duration,
    /// Its tenant no longer has it.
    revoked: bool,
    /// It takes no new calls: somebody waits for its slot, or it is revoked.
    closing: bool,
    /// Told apart from earlier times that it was loaded.
    life: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Loaded,
    Unloading,
}

#[derive(Debug)]
struct Want<W> {
    adapter: Arc<EngineAdapter>,
    waiters: Vec<W>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    until: Duration,
    backoff: Duration,
}

/// Whose slot one who waits may have.
enum Room {
    Stray(AdapterName),
    Idle(AdapterName),
    Busy(AdapterName),
    None,
}

impl<W: Waiter> Slots<W> {
    /// So many, with nobody knows what in them.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            knowledge: Knowledge::Missing,
            held: HashMap::new(),
            leaving: HashSet::new(),
            strays: Vec::new(),
            line: VecDeque::new(),
            failed: HashMap::new(),
            lives: 0,
            done: Done::default(),
        }
    }

    /// Asks for an adapter. Follow it with [`Self::next`].
    pub(super) fn ask(
        &mut self,
        adapter: &Arc<EngineAdapter>,
        waiter: W,
        now: Duration,
    ) -> Asked<W> {
        let name = &adapter.engine_name;
        if let Some(held) = self.held.get_mut(name)
            && held.stage == Stage::Loaded
            && !held.closing
        {
            held.users += 1;
            held.last_used = now;
            return Asked::Held(held.life, waiter);
        }
        if let Some(failure) = self.failed.get(name)
            && now < failure.until
        {
            return Asked::Failed(failure.until - now);
        }
        self.prune();
        let waiting = |want: &Want<W>| want.waiters.len();
        let of_tenant = |want: &&Want<W>| want.adapter.tenant == adapter.tenant;
        let in_all: usize = self.line.iter().map(waiting).sum();
        let of_it: usize = self.line.iter().filter(of_tenant).map(waiting).sum();
        if in_all >= WAITING_MAX || of_it >= WAITING_OF_TENANT_MAX {
            return Asked::Full;
        }
        match self.line.iter_mut().find(|it| it.is_for(name)) {
            Some(want) => want.waiters.push(waiter),
            None => self.line.push_back(Want {
                adapter: Arc::clone(adapter),
                waiters: vec![waiter],
            }),
        }
        Asked::Waiting
    }

    /// What is to be done next, if anything is.
    pub(super) fn next(&mut self, now: Duration) -> Option<Step<W>> {
        self.prune();
        if self.knowledge == Knowledge::Missing && !self.line.is_empty() {
            self.knowledge = Knowledge::Asking;
            return Some(Step::Sync);
        }
        if let Some(step) = self.serve_line(now) {
            return Some(step);
        }
        let is_done_with =
            |held: &&mut Held| held.revoked && held.stage == Stage::Loaded && held.users == 0;
        let revoked = self.held.values_mut().find(is_done_with)?;
        revoked.stage = Stage::Unloading;
        Some(Step::Unload(revoked.adapter.engine_name.clone()))
    }

    /// The first in line that can be helped. Those before it that cannot close what they wait for.
    fn serve_line(&mut self, now: Duration) -> Option<Step<W>> {
        for held in self.held.values_mut() {
            held.closing = held.revoked;
        }
        for place in 0..self.line.len() {
            let adapter = Arc::clone(&self.line[place].adapter);
            let name = &adapter.engine_name;
            match self.held.get(name) {
                Some(held) if held.stage == Stage::Loaded && !held.closing => {
                    return self.grant(place, now);
                }
                Some(_) => continue,
                // Unloaded and loaded out of order it would end up unloaded.
                None if self.leaving.contains(name) => continue,
                None if self.knowledge != Knowledge::There => continue,
                None => {}
            }
            // An earlier process may have loaded it: told to load it, the engine says so.
            self.strays.retain(|stray| stray != name);
            if self.held.len() + self.strays.len() < self.capacity {
                return Some(self.begin_load(&adapter, None, now));
            }
            match self.room_for(adapter.tenant, now) {
                Room::Stray(stray) => {
                    self.strays.retain(|it| *it != stray);
                    return Some(self.begin_load(&adapter, Some(stray), now));
                }
                Room::Idle(victim) => {
                    self.held.remove(&victim);
                    self.leaving.insert(victim.clone());
                    self.done.evictions += 1;
                    return Some(self.begin_load(&adapter, Some(victim), now));
                }
                Room::Busy(victim) => {
                    if let Some(held) = self.held.get_mut(&victim) {
                        held.closing = true;
                    }
                }
                Room::None => {}
            }
        }
        None
    }

    fn grant(&mut self, place: usize, now: Duration) -> Option<Step<W>> {
        let Want { adapter, waiters } = self.line.remove(place)?;
        let held = self.held.get_mut(&adapter.engine_name)?;
        held.users += u32::try_from(waiters.len()).unwrap_or(u32::MAX);
        held.last_used = now;
        Some(Step::Grant {
            adapter: adapter.engine_name.clone(),
            life: held.life,
            waiters,
        })
    }

    fn begin_load(
        &mut self,
        adapter: &Arc<EngineAdapter>,
        evicted: Option<AdapterName>,
        now: Duration,
    ) -> Step<W> {
        self.lives += 1;
        let held = Held {
            adapter: Arc::clone(adapter),
            stage: Stage::Loading,
            users: 0,
            last_used: now,
            revoked: false,
            closing: false,
            life: self.lives,
        };
        self.held.insert(adapter.engine_name.clone(), held);
        Step::Load {
            adapter: Arc::clone(adapter),
            evicted,
        }
    }

    /// Whose slot this tenant may have.
    fn room_for(&self, tenant: TenantId, now: Duration) -> Room {
        if let Some(stray) = self.strays.first() {
            return Room::Stray(stray.clone());
        }
        let mut shares: HashMap<TenantId, usize> = HashMap::new();
        for held in self.held.values() {
            *shares.entry(held.adapter.tenant).or_default() += 1;
        }
        let own = shares.get(&tenant).copied().unwrap_or(0);
        // The smaller the rank, the sooner it goes.
        let rank = |held: &Held| {
            let is_idle = held.users == 0;
            let theirs = shares.get(&held.adapter.tenant).copied().unwrap_or(0);
            let is_own = held.adapter.tenant == tenant;
            if is_idle && now.saturating_sub(held.last_used) >= STALE {
                Some(0)
            } else if !is_own && theirs >= own + 2 {
                Some(if is_idle { 1 } else { 3 })
            } else if is_own || own == 0 {
                Some(if is_idle { 2 } else { 4 })
            } else {
                None
            }
        };
        let loaded = self.held.values();
        let loaded = loaded.filter(|held| held.stage == Stage::Loaded && !held.closing);
        let ranked = loaded.filter_map(|held| {
            let theirs = shares.get(&held.adapter.tenant).copied().unwrap_or(0);
            let order = (rank(held)?, usize::MAX - theirs, held.last_used, held.life);
            Some((order, held))
        });
        match ranked.min_by_key(|(order, _)| *order) {
            Some((_, held)) if held.users == 0 => Room::Idle(held.adapter.engine_name.clone()),
            Some((_, held)) => Room::Busy(held.adapter.engine_name.clone()),
            None => Room::None,
        }
    }

    /// The engine was asked what it has; nothing if it did not say.
    pub(super) fn synced(&mut self, listed: Option<Vec<AdapterName>>) {
        self.knowledge = Knowledge::There;
        let Some(listed) = listed else { return };
        // What is idle and not there was lost: the engine began anew.
        self.held.retain(|name, held| {
            held.stage != Stage::Loaded || held.users > 0 || listed.contains(name)
        });
        let is_known =
            |name: &AdapterName| self.held.contains_key(name) || self.leaving.contains(name);
        self.strays = listed.into_iter().filter(|name| !is_known(name)).collect();
    }

    /// The adapter is loaded.
    pub(super) fn loaded(
        &mut self,
        name: &AdapterName,
        evicted: Option<&AdapterName>,
        now: Duration,
    ) {
        self.has_left(evicted);
        self.failed.remove(name);
        self.done.loads += 1;
        if let Some(held) = self.held.get_mut(name) {
            held.stage = Stage::Loaded;
            held.last_used = now;
        }
    }

    /// It could not be loaded. Those who wait for it are given up; and when it may be tried again.
    pub(super) fn failed(
        &mut self,
        name: &AdapterName,
        evicted: Option<&AdapterName>,
        now: Duration,
    ) -> (Vec<W>, Duration) {
        self.has_left(evicted);
        self.held.remove(name);
        self.done.failures += 1;
        // The engine may be another by now, or have more in it than was known.
        self.knowledge = Knowledge::Missing;
        let before = self.failed.get(name).map(|failure| failure.backoff);
        let backoff = before.map_or(BACKOFF_FIRST, |before| (before * 2).min(BACKOFF_MAX));
        if self.failed.len() >= FAILED_MAX && !self.failed.contains_key(name) {
            let first = self.failed.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.failed.remove(&first);
            }
        }
        let until = now + backoff;
        self.failed.insert(name.clone(), Failure { until, backoff });
        let place = self.line.iter().position(|want| want.is_for(name));
        let want = place.and_then(|place| self.line.remove(place));
        (want.map(|want| want.waiters).unwrap_or_default(), backoff)
    }

    fn has_left(&mut self, evicted: Option<&AdapterName>) {
        if let Some(evicted) = evicted {
            self.leaving.remove(evicted);
        }
    }

    /// What was revoked is unloaded.
    pub(super) fn unloaded(&mut self, name: &AdapterName) {
        self.held.remove(name);
    }

    /// A call with it has ended.
    pub(super) fn release(&mut self, name: &AdapterName, life: u64, now: Duration) {
        if let Some(held) = self.held.get_mut(name)
            && held.life == life
        {
            held.users = held.users.saturating_sub(1);
            held.last_used = now;
        }
    }

    /// The engine does not know it any more: it began anew.
    pub(super) fn lost(&mut self, name: &AdapterName, life: u64) {
        if self.held.get(name).is_some_and(|held| held.life == life) {
            self.held.remove(name);
        }
    }

    /// Keeps those that their tenants still have; the others are unloaded once their calls have
    /// ended, and nobody waits for them any more.
    pub(super) fn revoke(&mut self, is_good: impl Fn(&EngineAdapter) -> bool) {
        for held in self.held.values_mut() {
            held.revoked = !is_good(&held.adapter);
            held.closing |= held.revoked;
        }
        self.line.retain(|want| is_good(&want.adapter));
    }

    /// Forgets those who gave up.
    fn prune(&mut self) {
        for want in &mut self.line {
            want.waiters.retain(|waiter| !waiter.is_gone());
        }
        let held = &self.held;
        let is_loading = |name: &AdapterName| {
            held.get(name)
                .is_some_and(|held| held.stage == Stage::Loading)
        };
        self.line
            .retain(|want| !want.waiters.is_empty() || is_loading(&want.adapter.engine_name));
    }

    /// Slots in use.
    pub(super) fn in_use(&self) -> usize {
        self.held.len() + self.strays.len()
    }

    /// Calls that wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.iter().map(|want| want.waiters.len()).sum()
    }

    /// What was done since this was last asked.
    pub(super) fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }
}

impl<W> Want<W> {
    fn is_for(&self, name: &AdapterName) -> bool {
        self.adapter.engine_name == *name
    }
}

#[cfg(test)]
mod tests;
