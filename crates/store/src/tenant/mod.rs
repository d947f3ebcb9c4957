//! What one tenant's store does. No method takes a tenant's id: the store is the tenant's.

mod billing;
mod block;
mod bodies;
mod calendar;
mod conversations;
mod counted;
mod dims;
mod idempotency;
mod line_usage;
mod lines;
mod past_hours;
mod posting;
mod rebuild;
mod responses;
mod retention;
mod sums;
mod usage;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use base::Timestamp;
use tenancy::{TenantKeys, TenantScope};

/// The columns whose values are sealed where the database is not encrypted as a whole.
pub(crate) mod columns {
    pub(crate) use super::billing::DOCUMENT;
    pub(crate) use super::bodies::{ANSWERED, ASKED};
    pub(crate) use super::conversations::{ITEM, METADATA};
    pub(crate) use super::idempotency::RESPONSE;
    pub(crate) use super::lines::LINES;
    pub(crate) use super::responses::{BODY, INPUT};
}

pub use billing::BillingDocument;
pub use bodies::{BodyBounds, BodyMarks, CallBodies};
pub use conversations::{
    Added, ConversationBounds, ConversationItem, ConversationItems, ItemOrder, ItemPage, ItemQuery,
    StoredConversation,
};
pub use idempotency::{Begun, IdempotencyBounds, IdempotencyError, IdempotencyKey};
pub use lines::LineCursor;
pub use past_hours::PastHour;
pub use rebuild::Rebuilt;
pub use responses::{ResponseBounds, ResponseChain, StoredResponse};
pub use retention::{Forgotten, TooOld};
pub use sums::KeptSince;
pub use usage::{Dimension, UsageFilter, UsageQuery, UsageRow};

use crate::audit::{AuditError, AuditLog, AuditSigner};
use crate::database::{Database, DatabaseError};
use crate::postgres::ServerError;
use crate::sqlite::OpenError;
use crate::stores::{Slot, Stores};

/// Why a tenant's store was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its file does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The server that it is on cannot be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Its placement names no server yet.
    #[error("the tenant's placement names no server")]
    NoServer,
    /// The database reported an error; nothing of the operation happened.
    #[error("the tenant's store cannot be read or written")]
    Database(#[from] DatabaseError),
    /// A row cannot be read: a bug, or a changed file.
    #[error("the tenant's store holds a row of {table} that cannot be read")]
    BadRow {
        /// The table.
        table: &'static str,
    },
    /// What was asked for is finer than what is kept of that time.
    #[error("of the time before {since}, whole UTC days alone are kept")]
    Forgotten {
        /// From then on there is more.
        since: Timestamp,
    },
    /// An answer has more rows than it may have.
    #[error("the answer has more than {max} groups")]
    TooManyGroups {
        /// So many are allowed.
        max: usize,
    },
    /// A ledger line of another tenant was to be posted.
    #[error("a ledger line belongs to another tenant")]
    ForeignLine,
    /// The copy under the new key is not what it was copied from. The old file is in place.
    #[error("the copy under the new key does not verify; the file is as it was")]
    RotationFailed,
    /// The store is being moved: its keys are rotated afterwards.
    #[error("the tenant's store is being moved: rotate its key when it has arrived")]
    BeingMoved,
    /// The store is about to be elsewhere, and was not let go of in time.
    #[error("the tenant's store is being moved: try again in a moment")]
    Held,
    /// The process is ending.
    #[error("the process is shutting down")]
    ShuttingDown,
}

impl StoreError {
    /// Whether its server cannot be used now, or it is about to be elsewhere: whatever was wanted can
    /// be tried again in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Server(error) => error.is_passing(),
            Self::Database(error) => error.is_disconnection(),
            Self::Held => true,
            _ => false,
        }
    }
}

/// The store of the tenant whose scope this was opened with, for no longer than that scope. All
/// methods block.
///
/// ```
/// fn count(stores: &store::Stores, scope: &tenancy::TenantScope) -> Option<usize> {
///     let lines = stores.open(scope).unsettled_lines(store::Page::first());
///     Some(lines.ok()?.len())
/// }
/// ```
///
/// Without a scope there is none, an id is not enough, and none outlives its scope:
///
/// ```compile_fail,E0061
/// fn open(stores: &store::Stores) {
///     stores.open();
/// }
/// ```
/// ```compile_fail,E0308
/// fn open(stores: &store::Stores, tenant: base::TenantId) {
///     stores.open(&tenant);
/// }
/// ```
/// ```compile_fail,E0505
/// fn keep(stores: &store::Stores, scope: tenancy::TenantScope) {
///     let store = stores.open(&scope);
///     drop(scope);
///     drop(store);
/// }
/// ```
/// ```compile_fail,E0451
/// fn forge(store: store::TenantStore<'_>) -> store::TenantStore<'static> {
///     store::TenantStore { scope: std::marker::PhantomData, ..store }
/// }
/// ```
pub struct TenantStore<'a> {
    pub(crate) stores: Stores,
    pub(crate) slot: Arc<Slot>,
    pub(crate) keys: Arc<TenantKeys>,
    pub(crate) scope: PhantomData<&'a TenantScope>,
}

impl TenantStore<'_> {
    /// The tenant's audit log, for the time of one action.
    ///
    /// # Errors
    ///
    /// Whatever `act` reports, and [`AuditError::Store`].
    pub fn with_audit<T>(
        &self,
        signer: &AuditSigner<'_>,
        mut act: impl FnMut(&mut AuditLog<'_>) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        self.with_database(|database| act(&mut AuditLog::new(database, signer)))
    }

    fn with_database<T, E: From<StoreError>>(
        &self,
        act: impl FnMut(&Database<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.stores.with_database(&self.slot, &self.keys, act)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.into())
    }
}

impl fmt::Debug for TenantStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantStore({})", self.keys.tenant())
    }
}
