//! Backups of tenants' stores.

use base::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A backup of a tenant's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupView {
    /// Its name: the file's, without its extension.
    pub name: String,
    /// When the store was as it is in there.
    pub taken_at: Timestamp,
    /// How large the file is.
    pub bytes: u64,
    /// Under which generation of the tenant's key it is sealed. It opens under the current
    /// generation and the one before.
    pub key_generation: u32,
}

/// What is to come back of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreWhat {
    /// All of it: for a store that is lost. One that has ledger lines or audit entries that the
    /// backup lacks is left alone.
    Everything,
    /// Stored responses and conversations: they are then what they were. Ledger lines, usage,
    /// idempotency keys and the audit log stay.
    Content,
}

/// Which backup comes back, and what of it. The newest, unless one is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The newest that was taken then or earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// How much of it.
    pub what: RestoreWhat,
    /// A store that is there and cannot be read is removed, and the backup takes its place.
    #[serde(default)]
    pub replace_damaged: bool,
}

/// A backup that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReply {
    /// Its name.
    pub backup: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// How much of it came back.
    pub what: RestoreWhat,
    /// How many rows the whole of it has.
    pub rows: u64,
}

impl From<RestoreWhat> for store::RestoreWhat {
    fn from(what: RestoreWhat) -> Self {
        match what {
            RestoreWhat::Everything => Self::Everything,
            RestoreWhat::Content => Self::Content,
        }
    }
}
