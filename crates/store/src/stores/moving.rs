//! A tenant's store moves from one placement to another while the tenant is served.
//!
//! A copy is made of one state of the store; what is changed meanwhile is logged, statement by
//! statement, and done again on the copy in the same order: both sides speak the same SQL. When
//! little is left, the store is held for a moment, the rest is done, both sides are compared, the
//! new placement is put on record, and the tenant goes on there. Until then the old store is the
//! only one that counts: whatever goes wrong before, the copy is what is removed.
//!
//! A file is one process's, which logs in memory. A store on a server is used by several: what they
//! change is logged beside it by whoever changes it, and the store itself says when it is left
//! (`beside.rs`, `postgres/gate.rs`). What a move leaves behind that was cut short is settled by whoever finds it
//! (`settling.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use base::TenantId;
use tenancy::catalogue::Placement;
use tenancy::{TenantKeys, TenantScope};

use super::copying::{Adding, Content, TABLES, Table};
use super::file::open_file;
use super::on_server::Place;
use super::{Open, Slot, Stores};
use crate::database::{CHANGES_BYTES_MAX, ChangeLog, Database, DatabaseError, OwnedValue};
use crate::postgres::{MoveToken, Visitor};
use crate::sqlite::IfMissing;
use crate::tenant::StoreError;

/// 64 changes are done again within some tens of milliseconds: then the store may be held.
const CHANGES_LEFT_MAX: usize = 64;
/// 50 rounds: each finds what was changed during the one before. A tenant that changes faster than
/// it is copied does not get there.
const ROUNDS_MAX: usize = 50;
/// 256 changes in a transaction: a sync for each would be slower than they came.
const CHANGES_PER_TRANSACTION: usize = 256;

/// Why a store was not moved. It is where it was.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It is there.
    #[error("the tenant's store is there already")]
    AlreadyThere,
    /// It is being moved.
    #[error("the tenant's store is being moved already")]
    UnderWay,
    /// Too much was changed while it was copied.
    #[error("the tenant changes its store faster than it is copied: try at a quieter time")]
    TooBusy,
    /// More was changed than is logged, or another replica has settled this move, since this one
    /// seemed to be gone.
    #[error(
        "the move was called off: too much was changed meanwhile, or another replica has settled it. The tenant is where it was: try again at a quieter time"
    )]
    CalledOff,
    /// The copy is not what it was copied from.
    #[error("the copy of {table} is not what it was copied from")]
    Different {
        /// The table.
        table: &'static str,
    },
    /// Either side.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DatabaseError> for MoveError {
    fn from(error: DatabaseError) -> Self {
        match error {
            // A move is let in as long as it is this one.
            DatabaseError::Elsewhere => Self::CalledOff,
            error => Self::Store(error.into()),
        }
    }
}

/// What a move is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovePhase {
    /// The new store is being made.
    Preparing,
    /// Rows are copied.
    Copying,
    /// The copy is compared with what it was copied from.
    Verifying,
    /// What was changed meanwhile is done again.
    CatchingUp,
    /// The tenant waits for a moment.
    CuttingOver,
}

/// How far a move is: for whoever waits for it.
#[derive(Debug, Default)]
pub struct MoveProgress {
    phase: AtomicU8,
    rows: AtomicU64,
    rows_total: AtomicU64,
    bytes: AtomicU64,
}

/// What a move did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// How many rows were copied.
    pub rows: u64,
    /// How many bytes are in them.
    pub bytes: u64,
    /// How many changes were done again.
    pub changes: u64,
    /// For how long the tenant's store was held.
    pub held: Duration,
}

/// A move that is under way. Dropped, it is undone, if it is from a file; from a server
/// [`Stores::settle_move`] undoes it.
pub struct Moving {
    stores: Stores,
    slot: Arc<Slot>,
    pub(super) keys: Arc<TenantKeys>,
    from: Option<Place>,
    to: Option<Place>,
    pub(super) token: MoveToken,
    progress: Arc<MoveProgress>,
    changes: u64,
    /// Up to where the changes that are logged beside a store on a server are done again.
    pub(super) position: i64,
    is_done: bool,
}

const PHASES: [MovePhase; 5] = [
    MovePhase::Preparing,
    MovePhase::Copying,
    MovePhase::Verifying,
    MovePhase::CatchingUp,
    MovePhase::CuttingOver,
];

impl MoveProgress {
    /// What is being done.
    pub fn phase(&self) -> MovePhase {
        PHASES[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    /// How many rows are copied, of how many.
    pub fn rows(&self) -> (u64, u64) {
        let total = self.rows_total.load(Ordering::Relaxed);
        (self.rows.load(Ordering::Relaxed), total)
    }

    /// How many bytes are copied.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn enter(&self, phase: MovePhase) {
        let place = PHASES.iter().position(|one| *one == phase);
        let place = place.expect("all phases are listed") as u8;
        self.phase.store(place, Ordering::Relaxed);
    }
}

impl Stores {
    /// Begins to move the scope's tenant. Nothing happens before [`Moving::prepare`]. Nobody has moved
    /// with this token before.
    ///
    /// # Errors
    ///
    /// [`MoveError::AlreadyThere`], [`MoveError::UnderWay`], and [`StoreError::Server`] for an unknown
    /// server.
    pub fn begin_move(
        &self,
        scope: &TenantScope,
        to: &Placement,
        token: MoveToken,
        progress: &Arc<MoveProgress>,
    ) -> Result<Moving, MoveError> {
        let keys = Arc::clone(scope.keys());
        let (from, to) = (self.place_of(keys.tenant()), self.place_at(to)?);
        if from == to {
            return Err(MoveError::AlreadyThere);
        }
        let slot = self.slot(keys.tenant());
        if slot.is_moving.swap(true, Ordering::AcqRel) {
            return Err(MoveError::UnderWay);
        }
        Ok(Moving {
            slot,
            stores: self.clone(),
            keys,
            from,
            to,
            token,
            progress: Arc::clone(progress),
            changes: 0,
            position: 0,
            is_done: false,
        })
    }

    /// Removes what a move has left of the tenant's store at `placement`.
    ///
    /// # Errors
    ///
    /// [`MoveError::AlreadyThere`] if the store is there and nowhere else.
    pub fn remove_copy(&self, scope: &TenantScope, placement: &Placement) -> Result<(), MoveError> {
        let slot = self.slot(scope.tenant());
        let _held = slot.open.lock();
        let place = self.place_at(placement)?;
        if self.place_of(scope.tenant()) == place {
            return Err(MoveError::AlreadyThere);
        }
        self.remove_at(place.as_ref(), scope.tenant())?;
        Ok(())
    }

    pub(super) fn remove_at(
        &self,
        place: Option<&Place>,
        tenant: TenantId,
    ) -> Result<(), StoreError> {
        let mut open = Open::default();
        match place {
            Some(place) => place.remove(&mut open, tenant),
            None => self.remove_file(&mut open, tenant),
        }
    }

    /// Removes what is left at `placement` of a tenant whose key is gone, or that went elsewhere.
    /// Nothing is read there: without the key it is noise.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn remove_erased(&self, tenant: TenantId, placement: &Placement) -> Result<(), StoreError> {
        self.remove_at(self.place_at(placement)?.as_ref(), tenant)
    }
}

impl Moving {
    /// Makes a store for the copy, with nothing in it. Of several replicas one does, for any
    /// tenant. Blocks.
    ///
    /// # Errors
    ///
    /// [`MoveError`]; then drop this.
    pub fn prepare(&mut self) -> Result<(), MoveError> {
        self.progress.enter(MovePhase::Preparing);
        Ok(self.make_target()?)
    }

    /// Copies the store and all that is changed meanwhile, until little is left. Blocks, for as
    /// long as the store is large; the tenant is served.
    ///
    /// # Errors
    ///
    /// [`MoveError`]; then drop this.
    pub fn copy(&mut self) -> Result<(), MoveError> {
        self.progress.enter(MovePhase::Copying);
        let copied = self.copy_snapshot()?;
        self.progress.enter(MovePhase::Verifying);
        self.on_target(|target| compare(target, &copied))?;
        self.progress.enter(MovePhase::CatchingUp);
        for _ in 0..ROUNDS_MAX {
            if self.catch_up()? <= CHANGES_LEFT_MAX {
                return Ok(());
            }
        }
        Err(MoveError::TooBusy)
    }

    /// Holds the store, does the rest, compares, lets `publish` put the new placement on record,
    /// and goes on there. Blocks.
    ///
    /// # Errors
    ///
    /// [`MoveError`], and whatever `publish` reports: then the tenant is served where it was, after
    /// [`Stores::settle_move`], since of what `publish` has tried to say nobody may be sure.
    pub fn cut_over<E: From<MoveError>>(
        mut self,
        publish: impl FnOnce() -> Result<(), E>,
    ) -> Result<Moved, E> {
        self.progress.enter(MovePhase::CuttingOver);
        let slot = Arc::clone(&self.slot);
        let mut open = slot.open.lock();
        let began = self.stores.inner.clock.elapsed();
        match self.from.clone() {
            Some(place) => self.leave_server(&place)?,
            None => self.leave_file(&mut open)?,
        }
        publish()?;
        self.stores.go_on_at(self.keys.tenant(), self.to.clone());
        *open = Open::default();
        self.is_done = true;
        self.stores
            .open_copy(&self.keys, self.to.as_ref(), self.token)
            .map_err(MoveError::from)?;
        let (rows, _) = self.progress.rows();
        Ok(Moved {
            rows,
            bytes: self.progress.bytes(),
            changes: self.changes,
            held: self.stores.inner.clock.elapsed().saturating_sub(began),
        })
    }

    /// Does the rest, while nobody changes the file: this process's operations wait for `open`.
    fn leave_file(&mut self, open: &mut Open) -> Result<(), MoveError> {
        let changes = take_changes(open)?;
        self.repeat(&changes)?;
        let now = self.stores.with_file(open, &self.keys, sums)?;
        self.on_target(|target| compare(target, &now))
    }

    /// Does again what was changed since the last time. How many changes that was.
    fn catch_up(&mut self) -> Result<usize, MoveError> {
        let Some(place) = self.from.clone() else {
            let changes = take_changes(&mut self.slot.open.lock())?;
            self.repeat(&changes)?;
            return Ok(changes.changes.len());
        };
        self.catch_up_beside(&place)
    }

    fn make_target(&self) -> Result<(), StoreError> {
        self.stores
            .remove_at(self.to.as_ref(), self.keys.tenant())?;
        let mut open = Open::default();
        match &self.to {
            Some(place) => place.provision_copy(&self.keys, self.token)?,
            None => self.stores.provision_file(&mut open, &self.keys)?,
        }
        Ok(())
    }

    /// Copies one state of the store. What was read of each table.
    fn copy_snapshot(&self) -> Result<Vec<(&'static Table, Content)>, MoveError> {
        match &self.from {
            Some(place) => {
                let lease = place.lease(&self.keys).map_err(StoreError::from)?;
                let reader = Database::postgres(place.session(&lease, &self.keys, Visitor::Setup));
                self.begin_logging_beside(place, || Ok(reader.begin_snapshot()?))?;
                self.copy_rows(&reader)
            }
            None => {
                let path = self.stores.path_of(self.keys.tenant());
                let file =
                    open_file(&path, &self.keys, IfMissing::Fail).map_err(StoreError::from)?;
                let database = Database::sqlite(&file);
                self.begin_logging(|| database.begin_snapshot().map_err(MoveError::from))?;
                self.copy_rows(&database)
            }
        }
    }

    /// From the state that `snapshot` holds on to, every change is logged.
    fn begin_logging(
        &self,
        snapshot: impl FnOnce() -> Result<(), MoveError>,
    ) -> Result<(), MoveError> {
        let mut open = self.slot.open.lock();
        snapshot()?;
        open.changes = Some(ChangeLog::default());
        Ok(())
    }

    fn copy_rows(
        &self,
        source: &Database<'_>,
    ) -> Result<Vec<(&'static Table, Content)>, MoveError> {
        let mut total = 0;
        for table in &TABLES {
            total += table.count(source)?;
        }
        self.progress.rows_total.store(total, Ordering::Relaxed);
        let mut copied = Vec::with_capacity(TABLES.len());
        self.on_target(|target| {
            for table in &TABLES {
                let mut adding = Adding::new();
                table.each_page(source, |rows| {
                    let transaction = target.begin()?;
                    table.put(&transaction, rows)?;
                    transaction.commit()?;
                    adding.add(rows);
                    self.count(rows);
                    Ok(())
                })?;
                copied.push((table, adding.content()));
            }
            Ok(())
        })?;
        Ok(copied)
    }

    fn count(&self, rows: &[Vec<OwnedValue>]) {
        let bytes: usize = rows.iter().flatten().map(OwnedValue::bytes).sum();
        self.progress
            .rows
            .fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.progress
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Does changes again, in their order.
    pub(super) fn repeat(&mut self, changes: &ChangeLog) -> Result<(), MoveError> {
        self.changes += changes.changes.len() as u64;
        self.on_target(|target| {
            for part in changes.changes.chunks(CHANGES_PER_TRANSACTION) {
                let transaction = target.begin()?;
                for change in part {
                    transaction.repeat(change)?;
                }
                transaction.commit()?;
            }
            Ok(())
        })
    }

    pub(super) fn on_target<T>(
        &self,
        act: impl FnOnce(&Database<'_>) -> Result<T, MoveError>,
    ) -> Result<T, MoveError> {
        match &self.to {
            Some(place) => place.visit(&self.keys, Visitor::Move(self.token), act),
            None => self.stores.with_file(&mut Open::default(), &self.keys, act),
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if !self.is_done && self.from.is_none() {
            self.slot.open.lock().changes = None;
            if let Err(error) = self.stores.remove_at(self.to.as_ref(), self.keys.tenant()) {
                let tenant = self.keys.tenant();
                tracing::warn!(%tenant, %error, "what was copied of a tenant's store is left behind");
            }
        }
        self.slot.is_moving.store(false, Ordering::Release);
    }
}

/// What is in the small tables, which tell of the large ones.
pub(super) fn sums(source: &Database<'_>) -> Result<Vec<(&'static Table, Content)>, MoveError> {
    let sums = TABLES.iter().filter(|table| table.sums_up());
    sums.map(|table| Ok((table, table.content(source)?)))
        .collect()
}

fn take_changes(open: &mut Open) -> Result<ChangeLog, MoveError> {
    match &mut open.changes {
        Some(changes) if changes.bytes as i64 <= CHANGES_BYTES_MAX => Ok(std::mem::take(changes)),
        _ => Err(MoveError::TooBusy),
    }
}

pub(super) fn compare(
    target: &Database<'_>,
    expected: &[(&'static Table, Content)],
) -> Result<(), MoveError> {
    for (table, content) in expected {
        if table.content(target)? != *content {
            return Err(MoveError::Different { table: table.name });
        }
    }
    Ok(())
}
