//! One upstream's adapters: who needs one asks here, and the engine is told.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Supervisor};
use parking_lot::Mutex;
use tenancy::catalogue::{Engine, UpstreamAdapters};
use tenancy::{AdapterName, Snapshot};
use tokio::sync::oneshot;

use super::slots::{Asked, Slots, Step, Waiter};
use super::{AdapterLease, EngineAdapter, NoAdapter, engine};
use crate::upstream::Upstream;

/// The adapters of one upstream. Its lock is short and never held across an await.
#[derive(Debug)]
pub(crate) struct AdapterShelf {
    slots: Mutex<Slots<Caller>>,
    capacity: usize,
    load: Duration,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
}

/// How a shelf is now, and what was done since the last time that this was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShelfView {
    pub(crate) slots: usize,
    pub(crate) in_use: usize,
    pub(crate) waiting: usize,
    pub(crate) loads: u64,
    pub(crate) failures: u64,
    pub(crate) evictions: u64,
}

/// A call that waits for its adapter.
#[derive(Debug)]
struct Caller(oneshot::Sender<Result<AdapterLease, NoAdapter>>);

impl Waiter for Caller {
    fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

impl AdapterShelf {
    /// A shelf of which nothing is known yet.
    pub(crate) fn new(
        spec: &UpstreamAdapters,
        clock: Arc<dyn Clock>,
        supervisor: Supervisor,
    ) -> Arc<Self> {
        let capacity = spec.slots as usize;
        Arc::new(Self {
            slots: Mutex::new(Slots::new(capacity)),
            capacity,
            load: Duration::from_millis(spec.load_ms),
            clock,
            supervisor,
        })
    }

    /// Gets an adapter loaded, and keeps it so while the lease lives. A load that is under way
    /// goes on for others when this caller gives up.
    ///
    /// # Errors
    ///
    /// [`NoAdapter`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line.
    pub(crate) async fn take(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        adapter: &Arc<EngineAdapter>,
        patience: Duration,
    ) -> Result<AdapterLease, NoAdapter> {
        let (sender, receiver) = oneshot::channel();
        let now = self.clock.elapsed();
        let asked = self.slots.lock().ask(adapter, Caller(sender), now);
        match asked {
            Asked::Held(life, _) => return Ok(self.lease(upstream, &adapter.engine_name, life)),
            Asked::Full => return Err(NoAdapter::Busy),
            Asked::Failed(again) => return Err(NoAdapter::Failed(again)),
            Asked::Waiting => self.drive(upstream),
        }
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(answered)) => answered,
            // Out of patience; or its tenant has lost it meanwhile.
            Err(_) | Ok(Err(_)) => Err(NoAdapter::Busy),
        }
    }

    fn lease(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        name: &AdapterName,
        life: u64,
    ) -> AdapterLease {
        AdapterLease {
            upstream: Arc::clone(upstream),
            shelf: Arc::clone(self),
            name: name.clone(),
            life,
        }
    }

    /// Does what there is to do now.
    pub(crate) fn drive(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        // A call may end after the runtime has: then nobody waits for anything.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        loop {
            let step = self.slots.lock().next(self.clock.elapsed());
            let Some(step) = step else { return };
            self.take_step(upstream, step);
        }
    }

    fn take_step(self: &Arc<Self>, upstream: &Arc<Upstream>, step: Step<Caller>) {
        // LoRAX loads what a call names, by itself: here its slots are only shared out.
        let loads_by_itself = upstream.spec.engine == Engine::Lorax;
        let (shelf, upstream) = (Arc::clone(self), Arc::clone(upstream));
        match step {
            Step::Grant {
                adapter,
                life,
                waiters,
            } => {
                for Caller(waiter) in waiters {
                    // Whoever has gone gives its lease back by dropping it.
                    drop(waiter.send(Ok(shelf.lease(&upstream, &adapter, life))));
                }
            }
            Step::Sync if loads_by_itself => self.slots.lock().synced(None),
            Step::Load { adapter, evicted } if loads_by_itself => {
                let now = self.clock.elapsed();
                let mut slots = self.slots.lock();
                slots.loaded(&adapter.engine_name, evicted.as_ref(), now);
            }
            Step::Unload(name) if loads_by_itself => self.slots.lock().unloaded(&name),
            Step::Sync => self
                .supervisor
                .spawn(async move { shelf.sync(&upstream).await }),
            Step::Load { adapter, evicted } => self
                .supervisor
                .spawn(async move { shelf.load(&upstream, &adapter, evicted).await }),
            Step::Unload(name) => self
                .supervisor
                .spawn(async move { shelf.unload(&upstream, &name).await }),
        }
    }

    async fn sync(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        let listed = engine::list(upstream, &*self.clock).await;
        let listed = listed.inspect_err(|error| {
            tracing::warn!(%error, upstream = %upstream.name, "an engine did not say which adapters it has");
        });
        self.slots.lock().synced(listed.ok());
        self.drive(upstream);
    }

    async fn load(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        adapter: &Arc<EngineAdapter>,
        evicted: Option<AdapterName>,
    ) {
        if let Some(evicted) = &evicted {
            self.tell_to_unload(upstream, evicted).await;
        }
        let name = &adapter.engine_name;
        let loaded = engine::load(upstream, adapter, self.load, &*self.clock).await;
        let now = self.clock.elapsed();
        match loaded {
            Ok(()) => self.slots.lock().loaded(name, evicted.as_ref(), now),
            Err(error) => {
                tracing::warn!(
                    %error, upstream = %upstream.name, tenant = %adapter.tenant,
                    adapter = %adapter.name, location = adapter.spec.location(),
                    "an adapter could not be loaded"
                );
                let (waiters, again) = self.slots.lock().failed(name, evicted.as_ref(), now);
                for Caller(waiter) in waiters {
                    // Whoever has gone need not know.
                    drop(waiter.send(Err(NoAdapter::Failed(again))));
                }
            }
        }
        self.drive(upstream);
    }

    async fn unload(self: &Arc<Self>, upstream: &Arc<Upstream>, name: &AdapterName) {
        self.tell_to_unload(upstream, name).await;
        self.slots.lock().unloaded(name);
        self.drive(upstream);
    }

    /// An engine that cannot be told has lost it, or is found out at the next load.
    async fn tell_to_unload(&self, upstream: &Arc<Upstream>, name: &AdapterName) {
        if let Err(error) = engine::unload(upstream, name, &*self.clock).await {
            tracing::warn!(%error, upstream = %upstream.name, "an adapter could not be unloaded");
        }
    }

    pub(super) fn release(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        name: &AdapterName,
        life: u64,
    ) {
        let now = self.clock.elapsed();
        self.slots.lock().release(name, life, now);
        self.drive(upstream);
    }

    pub(super) fn lost(&self, name: &AdapterName, life: u64) {
        self.slots.lock().lost(name, life);
    }

    /// Unloads what its tenant no longer has, once its calls have ended.
    pub(crate) fn keep_those_in(self: &Arc<Self>, upstream: &Arc<Upstream>, snapshot: &Snapshot) {
        let is_good = |adapter: &EngineAdapter| adapter.is_in(snapshot);
        self.slots.lock().revoke(is_good);
        self.drive(upstream);
    }

    /// How it is now.
    pub(crate) fn view(&self) -> ShelfView {
        let mut slots = self.slots.lock();
        let done = slots.take_done();
        ShelfView {
            slots: self.capacity,
            in_use: slots.in_use(),
            waiting: slots.waiting(),
            loads: done.loads,
            failures: done.failures,
            evictions: done.evictions,
        }
    }
}
