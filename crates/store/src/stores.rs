//! Placement `file`: one SQLCipher file per tenant, under the tenant's own key. A file that is
//! moved to another tenant's place does not open.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, TenantId};
use parking_lot::Mutex;
use rusqlite::Connection;
use tenancy::{PlacementKey, TenantKeys, TenantScope};
use tokio::sync::Semaphore;

use crate::schema;
use crate::sqlite::{self, IfMissing, OpenError, PageCache};
use crate::tenant::{StoreError, TenantStore};

mod rotation;

pub use rotation::Rotated;

/// 1,000 open tenants are 190 MB at most and 3,000 descriptors.
const OPEN_MAX: usize = 1_000;
/// 8 threads: enough to keep a disk busy, few enough to leave the processors to the data path.
const THREADS_MAX: usize = 8;
/// Above the capacity by so many, opening a tenant closes another one first.
const OPEN_OVERHANG: usize = 64;

/// How many tenants are kept open, and how many threads may work on them.
#[derive(Debug, Clone)]
pub struct StoresOptions {
    /// How many tenants [`Stores::evict`] leaves open.
    pub open_max: usize,
    /// How many calls of [`Stores::with`] run at a time.
    pub threads_max: usize,
    /// [`Stores::evict`] closes tenants that nobody has used for this long.
    pub idle_max: Duration,
}

impl Default for StoresOptions {
    fn default() -> Self {
        Self {
            open_max: OPEN_MAX,
            threads_max: THREADS_MAX,
            idle_max: Duration::from_secs(10 * 60),
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
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
    threads: Semaphore,
}

/// A tenant's place among the open ones. Its connection is opened by whoever needs it first, and
/// used by one at a time.
pub(crate) struct Slot {
    connection: Mutex<Option<Connection>>,
    /// On the clock's monotonic time, in microseconds.
    last_used: AtomicU64,
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
        let folder = data_folder.join("tenants");
        sqlite::create_folder(&folder)?;
        let threads = Semaphore::new(options.threads_max.max(1));
        Ok(Self {
            inner: Arc::new(Inner {
                folder,
                clock,
                options,
                slots: Mutex::default(),
                threads,
            }),
        })
    }

    /// Makes the tenant's store if it is not there; what is there stays. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Open`].
    pub fn provision(&self, scope: &TenantScope) -> Result<(), StoreError> {
        let slot = self.slot(scope.tenant());
        let mut connection = slot.connection.lock();
        if connection.is_none() {
            let path = self.path_of(scope.tenant());
            let opened = open_file(&path, scope.keys(), IfMissing::Create)?;
            sqlite::sync_parent(&path).map_err(|source| OpenError::Disk { path, source })?;
            *connection = Some(opened);
        }
        Ok(())
    }

    /// The store of the scope's tenant. Its methods block: see [`Stores::with`]. A file that is
    /// missing or does not open shows when the store is first used.
    pub fn open<'a>(&self, scope: &'a TenantScope) -> TenantStore<'a> {
        self.open_by_keys(Arc::clone(scope.keys()))
    }

    fn open_by_keys<'a>(&self, keys: Arc<TenantKeys>) -> TenantStore<'a> {
        let tenant = keys.tenant();
        TenantStore {
            slot: self.slot(tenant),
            path: self.path_of(tenant),
            keys,
            scope: PhantomData,
        }
    }

    /// Does something with the store of the scope's tenant on a thread that may block; at most 8
    /// do at a time, and others wait.
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
        let Ok(_permit) = self.inner.threads.acquire().await else {
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
    /// [`StoreError::Open`] if a file cannot be removed.
    pub fn remove(&self, scope: &TenantScope) -> Result<(), StoreError> {
        let slot = self.slot(scope.tenant());
        let mut connection = slot.connection.lock();
        // Closed first, so that no write-ahead log appears again behind us.
        drop(connection.take());
        let path = self.path_of(scope.tenant());
        for path in [rotation::next_path(&path), path] {
            sqlite::remove_files(&path).map_err(|source| OpenError::Disk { path, source })?;
        }
        Ok(())
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

    fn path_of(&self, tenant: TenantId) -> PathBuf {
        self.inner.folder.join(format!("{tenant}.db"))
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
            connection: Mutex::new(None),
            last_used: AtomicU64::new(0),
        }
    }
}

impl Slot {
    /// Does something with the connection, which is opened if it is not.
    pub(crate) fn with_connection<T, E: From<StoreError>>(
        &self,
        path: &Path,
        keys: &TenantKeys,
        act: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.connection.lock();
        let open = match &mut *connection {
            Some(open) => open,
            closed => {
                closed.insert(open_file(path, keys, IfMissing::Fail).map_err(StoreError::from)?)
            }
        };
        act(open)
    }
}

/// Opens a tenant's file under the current key, or, while a rotation is under way, the previous.
fn open_file(
    path: &Path,
    keys: &TenantKeys,
    if_missing: IfMissing,
) -> Result<Connection, OpenError> {
    let opened = open_under(path, &keys.placement_key(), if_missing);
    match (opened, keys.previous_placement_key()) {
        (Err(OpenError::WrongKey { .. }), Some(previous)) => {
            open_under(path, &previous, if_missing)
        }
        (opened, _) => opened,
    }
}

fn open_under(
    path: &Path,
    key: &PlacementKey,
    if_missing: IfMissing,
) -> Result<Connection, OpenError> {
    sqlite::open(path, key, if_missing, PageCache::Small, schema::TENANT)
}

fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
