//! What is kept of a tenant's answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a tenant's answers the process that answers has kept, and how often that helped since
/// it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheReply {
    /// Answers that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Calls that were given one of them.
    pub hits: u64,
    /// Calls for which there was none.
    pub misses: u64,
}
