//! Where tenants' stores are, and what is open of them.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, Name, TenantId};
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use tenancy::catalogue::{Placement, ServerWall};
use tenancy::{TenantKeys, TenantScope};
use tokio::sync::Semaphore;

use crate::catalogue::ReplicaId;
use crate::database::{CHANGES_BYTES_MAX, ChangeLog, Database};
use crate::postgres::{Capacity, Server, ServerError, Servers};
use crate::sqlite::{self, OpenError};
use crate::tenant::{StoreError, TenantStore};

mod backup;
mod beside;
pub(crate) mod copying;
mod file;
mod moving;
mod on_server;
mod rotation;
mod settling;
mod upgrading;

pub use backup::{BackedUp, BackupError, BackupHeader, IfDamaged, RestoreWhat};
pub use moving::{MoveError, MovePhase, MoveProgress, Moved, Moving};
use on_server::{Place, Tried};
pub use rotation::Rotated;
pub use settling::Settled;
pub use upgrading::{NEWEST_STEP, UpgradeError};

/// 1,000 open tenants are 190 MB at most and 3,000 descriptors.
const OPEN_MAX: usize = 1_000;
/// 8 threads: enough to keep a disk busy, few enough to leave the processors to the data path.
const THREADS_MAX: usize = 8;
/// Above the capacity by so many, opening a tenant closes another one first.
const OPEN_OVERHANG: usize = 64;

/// 5 ms: another process lets a tenant go on elsewhere within some tens of them.
const WAIT: Duration = Duration::from_millis(5);
/// 10 s, as long as a server may take to answer.
const HELD_MAX: Duration = Duration::from_secs(10);

/// How many tenants are kept open, and how many threads may work on them.
#[derive(Debug, Clone)]
pub struct StoresOptions {
    /// How many tenants [`Stores::evict`] leaves open.
    pub open_max: usize,
    /// How many calls of [`Stores::with`] run at a time.
    pub threads_max: usize,
    /// [`Stores::evict`] closes tenants that nobody has used for this long.
    pub idle_max: Duration,
    /// For how long an operation waits while another process lets the tenant go on elsewhere.
    pub held_max: Duration,
    /// Whose journal the lines come from that are posted here.
    pub replica: ReplicaId,
}

impl Default for StoresOptions {
    fn default() -> Self {
        Self {
            open_max: OPEN_MAX,
            threads_max: THREADS_MAX,
            idle_max: Duration::from_secs(10 * 60),
            held_max: HELD_MAX,
            replica: ReplicaId::ALONE,
        }
    }
}

/// The tenants' stores. Clones share the open ones.
#[derive(Clone)]
pub struct Stores {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    options: StoresOptions,
    servers: Servers,
    /// Who is on a server; everybody else has a file.
    on_servers: RwLock<HashMap<TenantId, Place>>,
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
    /// For work on files. A server has its own, so that a slow one delays nobody else.
    threads: Semaphore,
}

/// A tenant's place among the open ones. One at a time uses its store.
pub(crate) struct Slot {
    open: Mutex<Open>,
    /// This process moves the store.
    is_moving: AtomicBool,
    /// Calls of [`Stores::with`] take turns here before they take a thread: one tenant's do not
    /// hold what others wait for.
    turn: Semaphore,
    /// On the clock's monotonic time, in microseconds.
    last_used: AtomicU64,
}

/// What is known of a tenant's store while it is open.
#[derive(Default)]
pub(crate) struct Open {
    /// A file's connection, opened by whoever needs it first.
    file: Option<Connection>,
    /// The store was on the server, and its tables as this program knows them.
    is_there: bool,
    /// What was changed in a file since a copy of it began.
    changes: Option<ChangeLog>,
}

impl Open {
    /// Remembers what was changed. Beyond the bound nothing is kept: the copy is given up.
    fn log(&mut self, changed: ChangeLog) {
        if let Some(changes) = &mut self.changes {
            changes.append(changed);
            if changes.bytes as i64 > CHANGES_BYTES_MAX {
                changes.changes = Vec::new();
            }
        }
    }
}

impl Stores {
    /// The stores in the data folder, in `tenants/`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Disk`] if the folder cannot be made.
    pub fn new(
        data_folder: &Path,
        clock: Arc<dyn Clock>,
        options: StoresOptions,
    ) -> Result<Self, OpenError> {
        Self::with_servers(data_folder, clock, options, Servers::none())
    }

    /// The same, and those on these servers.
    ///
    /// # Errors
    ///
    /// As [`Stores::new`].
    pub fn with_servers(
        data_folder: &Path,
        clock: Arc<dyn Clock>,
        options: StoresOptions,
        servers: Servers,
    ) -> Result<Self, OpenError> {
        let folder = data_folder.join("tenants");
        sqlite::create_folder(&folder)?;
        let threads = Semaphore::new(options.threads_max.max(1));
        Ok(Self {
            inner: Arc::new(Inner {
                folder,
                clock,
                options,
                servers,
                on_servers: RwLock::default(),
                slots: Mutex::default(),
                threads,
            }),
        })
    }

    /// Says where a tenant's store is. Whoever has the store open goes on there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Server`] if there is no such server.
    pub fn assign(&self, tenant: TenantId, placement: &Placement) -> Result<(), StoreError> {
        self.go_on_at(tenant, self.place_at(placement)?);
        Ok(())
    }

    fn go_on_at(&self, tenant: TenantId, place: Option<Place>) {
        let mut on_servers = self.inner.on_servers.write();
        let before = match place.clone() {
            Some(place) => on_servers.insert(tenant, place),
            None => on_servers.remove(&tenant),
        };
        drop(on_servers);
        if let Some(before) = before
            && place.as_ref() != Some(&before)
        {
            before.leave(tenant);
        }
    }

    /// The servers, by name.
    pub fn servers(&self) -> Vec<Name> {
        self.inner.servers.names()
    }

    /// A server's region, and how many tenants it may have; none if there is no such server.
    pub fn room(&self, server: &Name) -> Option<(Option<&Name>, Capacity)> {
        self.inner.servers.room(server)
    }

    /// Proves that every server that has pooled tenants keeps them apart. Blocks.
    ///
    /// # Errors
    ///
    /// [`ServerError`] of the first that does not, or that cannot be asked.
    pub fn check_pools(&self) -> Result<(), ServerError> {
        let mut checked: Vec<Arc<Server>> = Vec::new();
        let places: Vec<Place> = self.inner.on_servers.read().values().cloned().collect();
        for place in places {
            let is_known = checked
                .iter()
                .any(|server| Arc::ptr_eq(server, &place.server));
            if place.wall == ServerWall::Pool && !is_known {
                place.server.ready_pool()?;
                checked.push(place.server);
            }
        }
        Ok(())
    }

    /// Makes the tenant's store if it is not there; what is there stays. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] and [`StoreError::Server`].
    pub fn provision(&self, scope: &TenantScope) -> Result<(), StoreError> {
        let slot = self.slot(scope.tenant());
        let mut open = slot.open.lock();
        match self.place_of(scope.tenant()) {
            Some(place) => place.provision(&mut open, scope.keys()),
            None => self.provision_file(&mut open, scope.keys()),
        }
    }

    /// The store of the scope's tenant. Its methods block: see [`Stores::with`]. A store that is
    /// missing or does not open shows when it is first used.
    pub fn open<'a>(&self, scope: &'a TenantScope) -> TenantStore<'a> {
        self.open_by_keys(Arc::clone(scope.keys()))
    }

    /// Whose journal the lines come from that are posted here.
    pub fn replica(&self) -> ReplicaId {
        self.inner.options.replica
    }

    fn open_by_keys<'a>(&self, keys: Arc<TenantKeys>) -> TenantStore<'a> {
        TenantStore {
            slot: self.slot(keys.tenant()),
            stores: self.clone(),
            keys,
            scope: PhantomData,
        }
    }

    /// Does something with the store of the scope's tenant on a thread that may block. One at a
    /// time does of each tenant; so many do of all files, and of each server, and others wait.
    ///
    /// # Errors
    ///
    /// Whatever `act` reports, and [`StoreError::ShuttingDown`].
    ///
    /// # Cancel safety
    ///
    /// What has begun is finished, whether or not anybody waits for it.
    pub async fn with<T, E, F>(&self, scope: &TenantScope, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&TenantStore<'_>) -> Result<T, E> + Send + 'static,
    {
        let keys = Arc::clone(scope.keys());
        let slot = self.slot(keys.tenant());
        let Ok(_turn) = slot.turn.acquire().await else {
            return Err(StoreError::ShuttingDown.into());
        };
        let place = self.place_of(keys.tenant());
        let threads = match &place {
            Some(place) => &place.server.threads,
            None => &self.inner.threads,
        };
        let Ok(_permit) = threads.acquire().await else {
            return Err(StoreError::ShuttingDown.into());
        };
        let stores = self.clone();
        let done = tokio::task::spawn_blocking(move || act(&stores.open_by_keys(keys))).await;
        match done {
            Ok(outcome) => outcome,
            Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
            Err(_) => Err(StoreError::ShuttingDown.into()),
        }
    }

    /// Removes the tenant's store and all that is in it. Nothing happens if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`] if a file cannot be removed, and [`StoreError::Server`].
    pub fn remove(&self, scope: &TenantScope) -> Result<(), StoreError> {
        let slot = self.slot(scope.tenant());
        let mut open = slot.open.lock();
        match self.place_of(scope.tenant()) {
            Some(place) => place.remove(&mut open, scope.tenant()),
            None => self.remove_file(&mut open, scope.tenant()),
        }
    }

    /// Does something with a tenant's database, wherever it is. While another process lets the
    /// tenant go on elsewhere, it is waited for: `act` is done again if nothing of it was done.
    pub(crate) fn with_database<T, E: From<StoreError>>(
        &self,
        slot: &Slot,
        keys: &TenantKeys,
        mut act: impl FnMut(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut open = slot.open.lock();
        let mut was_stale = false;
        let waits_max = self.inner.options.held_max.as_millis() / WAIT.as_millis();
        for _ in 0..=waits_max {
            let Some(place) = self.place_of(keys.tenant()) else {
                return self.with_file(&mut open, keys, &mut act);
            };
            match place.try_with(&mut open, keys, &mut act) {
                Tried::Done(done) => return done,
                Tried::Stale(error) if was_stale => return Err(error),
                Tried::Stale(_) => was_stale = true,
                Tried::Elsewhere => std::thread::sleep(WAIT),
            }
        }
        Err(StoreError::Held.into())
    }

    fn place_of(&self, tenant: TenantId) -> Option<Place> {
        self.inner.on_servers.read().get(&tenant).cloned()
    }

    /// None for a file.
    fn place_at(&self, placement: &Placement) -> Result<Option<Place>, StoreError> {
        match placement {
            Placement::File => Ok(None),
            Placement::Server { wall, server } => {
                let server = server.as_ref().ok_or(StoreError::NoServer)?;
                Ok(Some(Place {
                    wall: *wall,
                    server: Arc::clone(self.inner.servers.get(server)?),
                }))
            }
        }
    }

    /// Closes tenants that have been idle for long, and the least recently used ones beyond the
    /// capacity. Blocks (closing writes back the log): for a worker, not for a request. Returns
    /// how many were closed.
    pub fn evict(&self) -> usize {
        let now = self.inner.clock.elapsed();
        let idle_since = now.saturating_sub(self.inner.options.idle_max);
        let idle = self.take_unused(usize::MAX, |last_used| last_used < idle_since);
        let open = self.inner.slots.lock().len();
        let beyond = open.saturating_sub(self.inner.options.open_max);
        let surplus = self.take_unused(beyond, |_| true);
        for server in self.inner.servers.all() {
            server.close_idle();
        }
        // The connections close here, outside every lock.
        idle.len() + surplus.len()
    }

    /// How many tenants are open.
    pub fn open_count(&self) -> usize {
        self.inner.slots.lock().len()
    }

    fn slot(&self, tenant: TenantId) -> Arc<Slot> {
        let now = as_micros(self.inner.clock.elapsed());
        let (slot, open) = {
            let mut slots = self.inner.slots.lock();
            let slot = Arc::clone(slots.entry(tenant).or_default());
            (slot, slots.len())
        };
        slot.last_used.store(now, Ordering::Relaxed);
        if open > self.inner.options.open_max + OPEN_OVERHANG {
            // The worker does not keep up: whoever opens one closes one.
            drop(self.take_unused(1, |_| true));
        }
        slot
    }

    /// Takes out up to `count` slots that nobody holds, the least recently used first.
    fn take_unused(&self, count: usize, is_due: impl Fn(Duration) -> bool) -> Vec<Arc<Slot>> {
        let mut slots = self.inner.slots.lock();
        let mut unused: Vec<(u64, TenantId)> = slots
            .iter()
            // Slots are handed out under this lock alone: nobody can take one up meanwhile.
            .filter(|(_, slot)| Arc::strong_count(slot) == 1)
            .map(|(tenant, slot)| (slot.last_used.load(Ordering::Relaxed), *tenant))
            .filter(|(last_used, _)| is_due(Duration::from_micros(*last_used)))
            .collect();
        unused.sort_unstable();
        unused
            .into_iter()
            .take(count)
            .filter_map(|(_, tenant)| slots.remove(&tenant))
            .collect()
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stores({})", self.inner.folder.display())
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            is_moving: AtomicBool::new(false),
            turn: Semaphore::new(1),
            last_used: AtomicU64::new(0),
        }
    }
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
