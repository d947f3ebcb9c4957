//! Placements, SQL, the journal, the audit log: all that touches storage. Nobody else can obtain
//! a database connection.
//!
//! What it promises:
//!
//! - Whatever a method calls durable survives a power cut once the method has returned.
//! - A [`TenantStore`] is had by a [`TenantScope`](tenancy::TenantScope) alone, and none of its
//!   methods takes a tenant's id: there is no way to name another tenant's thing. Behind that
//!   stands a second wall: each tenant's file is encrypted under the tenant's own key, so that a
//!   file in another one's place does not open.
//! - SQL text is constant. The only statement that is not is the one that sets a file's key.
//! - A file of a newer version, of another program or of another installation is refused by name,
//!   and nothing in it is changed.
//!
//! Where things are, in the data folder:
//!
//! | path | what | module |
//! |---|---|---|
//! | `lock` | held by the process that works here | [`FolderLock`] |
//! | `journal/{first lsn}.log`, `journal/checkpoint-{lsn}` | facts about money, before they are anywhere else | [`Journal`], [`Compactor`] |
//! | `catalogue.db` | versioned resources, wrapped keys, settings, the platform's audit log | [`Catalogue`] |
//! | `tenants/{tenant}.db` | one tenant's ledger lines, usage, idempotency records, responses, conversations and audit log | [`Stores`], [`TenantStore`] |

mod audit;
mod catalogue;
mod compaction;
mod database;
mod folder_lock;
mod journal;
pub mod merkle;
mod page;
mod postgres;
mod rates;
mod schema;
mod sqlite;
mod steps;
mod stores;
mod tenant;

pub use audit::{
    ActForLog, AuditEntry, AuditError, AuditKey, AuditLog, AuditOutcome, AuditSigner, Checkpoint,
    CheckpointError, ENTRY_BYTES_MAX, ExportError, ParseAuditKeyError, VerifiedExport, VerifyError,
    verify_export,
};
pub use catalogue::{
    Beat, BudgetShares, CATALOGUE_FILE, Catalogue, CatalogueError, CatalogueNews, CatalogueServer,
    CatalogueServerOptions, CatalogueTurn, CommitError, CopyCatalogueError, Founding, HeardMinute,
    HistoryEntry, MinuteId, NumberedDocument, OtherReplica, Reconciliation, Registered, Replica,
    ReplicaError, ReplicaId, ReplicaMinutes, ReplicaView, Resource, ResourceChange, ShareError,
    SharesGiven, StoredAlert, StoredKey, StoredMessage, TellMinute, Version,
};
pub use compaction::{Compacted, CompactionError, Compactor, PostLines, Posted};
pub use database::DatabaseError;
pub use folder_lock::{FolderLock, FolderLockError};
pub use journal::{
    InstallationId, Journal, JournalError, JournalOptions, Recovered, RecoveryError, Worked,
    Workers, WriterMode, read_journal,
};
pub use page::Page;
pub use postgres::{
    AddressError, AuthorityError, Capacity, MoveToken, SESSIONS_MAX, ServerError, ServerOptions,
    Servers, postgres_address,
};
pub use rates::{ValkeyAddress, ValkeyAddressError, ValkeyError, ValkeyOptions, ValkeyRates};
pub use sqlite::OpenError;
pub use steps::Upgraded;
pub use stores::{
    BackedUp, BackupError, BackupHeader, IfDamaged, MoveError, MovePhase, MoveProgress, Moved,
    Moving, NEWEST_STEP, RestoreWhat, Rotated, Settled, Stores, StoresOptions, UpgradeError,
};
pub use tenant::{
    Added, Begun, BillingDocument, BodyBounds, BodyMarks, CallBodies, ConversationBounds,
    ConversationItem, ConversationItems, Dimension, Forgotten, IdempotencyBounds, IdempotencyError,
    IdempotencyKey, ItemOrder, ItemPage, ItemQuery, KeptSince, LineCursor, PastHour, Rebuilt,
    ResponseBounds, ResponseChain, StoreError, StoredConversation, StoredResponse, TenantStore,
    TooOld, UsageFilter, UsageQuery, UsageRow,
};
