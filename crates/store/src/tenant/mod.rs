//! What one tenant's store does. No method takes a tenant's id: the store is the tenant's.

mod block;
mod conversations;
mod counted;
mod dims;
mod idempotency;
mod line_usage;
mod lines;
mod posting;
mod responses;
mod usage;

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tenancy::{TenantKeys, TenantScope};

pub use conversations::{
    Added, ConversationBounds, ConversationItem, ConversationItems, ItemOrder, ItemPage, ItemQuery,
    StoredConversation,
};
pub use idempotency::{Begun, IdempotencyBounds, IdempotencyError, IdempotencyKey};
pub use lines::LineCursor;
pub use responses::{ResponseBounds, ResponseChain, StoredResponse};
pub use usage::{Dimension, UsageFilter, UsageQuery, UsageRow};

use crate::audit::{AuditError, AuditLog, AuditSigner};
use crate::sqlite::OpenError;
use crate::stores::Slot;

/// Why a tenant's store was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its file does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database reported an error; nothing of the operation happened.
    #[error("the tenant's store cannot be read or written")]
    Database(#[from] rusqlite::Error),
    /// A row cannot be read: a bug, or a changed file.
    #[error("the tenant's store holds a row of {table} that cannot be read")]
    BadRow {
        /// The table.
        table: &'static str,
    },
    /// A ledger line of another tenant was to be posted.
    #[error("a ledger line belongs to another tenant")]
    ForeignLine,
    /// The copy under the new key is not what it was copied from. The old file is in place.
    #[error("the copy under the new key does not verify; the file is as it was")]
    RotationFailed,
    /// The process is ending.
    #[error("the process is shutting down")]
    ShuttingDown,
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
    pub(crate) slot: Arc<Slot>,
    pub(crate) path: PathBuf,
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
        act: impl FnOnce(&mut AuditLog<'_>) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        self.with_connection(|connection| act(&mut AuditLog::new(connection, signer)))
    }

    fn with_connection<T, E: From<StoreError>>(
        &self,
        act: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.slot.with_connection(&self.path, &self.keys, act)
    }
}

impl fmt::Debug for TenantStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantStore({})", self.keys.tenant())
    }
}
