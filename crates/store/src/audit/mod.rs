//! The audit log: who did what to whom, in a form that shows every later change.
//!
//! Each log is a Merkle tree (RFC 6962) over canonical JSON. Every append signs the new root, as
//! a C2SP checkpoint (`tlog-checkpoint`, `signed-note`); whoever keeps an old checkpoint can prove
//! that the log has only grown since. The tenant's log stands in the tenant's own file, the
//! platform's in the catalogue.

mod act_for;
mod checkpoint;
mod export;
mod log;

use std::collections::BTreeMap;

use base::Timestamp;
use serde::{Deserialize, Serialize};

pub use act_for::ActForLog;
pub use checkpoint::{AuditKey, Checkpoint, CheckpointError, ParseAuditKeyError};
pub use export::{ExportError, VerifiedExport, VerifyError, verify_export};
pub(crate) use log::ENTRY;
pub use log::{AuditError, AuditLog, AuditSigner};

/// 16 KiB: an action's names and reasons; whole configurations are in the catalogue's history.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// The actor may not do this.
    Refused,
    /// It was tried, and went wrong.
    Failed,
}

/// One action. Its JSON is canonical: the fields in the order of their names, texts only, no
/// space; so that equal entries are equal bytes (a subset of RFC 8785).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// What was done: `key.create`, `tenant.suspend`, …
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// More about it. Never a secret: what is `Redacted` prints as such.
    pub details: BTreeMap<String, String>,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// Why, in the actor's words.
    pub reason: String,
    /// To whom or what.
    pub target: String,
}

impl AuditEntry {
    /// An action that was done, without a reason or details.
    pub fn done(
        at: Timestamp,
        actor: impl Into<String>,
        action: impl Into<String>,
        target: impl Into<String>,
    ) -> Self {
        Self {
            action: action.into(),
            actor: actor.into(),
            at,
            details: BTreeMap::new(),
            outcome: AuditOutcome::Done,
            reason: String::new(),
            target: target.into(),
        }
    }

    /// With this outcome.
    #[must_use]
    pub fn with_outcome(mut self, outcome: AuditOutcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// With this reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// With one more detail.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.details.insert(name.into(), value.to_string());
        self
    }

    /// The bytes that are hashed.
    pub fn canonical_json(&self) -> String {
        serde_json::to_string(self).expect("texts and times are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_canonical() {
        let entry = AuditEntry::done(Timestamp::from_micros(1), "ops", "key.create", "key_1")
            .with_outcome(AuditOutcome::Refused)
            .with_reason("a \"test\"\n")
            .with_detail("zone", 2)
            .with_detail("area", base::Redacted::new("secret"));
        assert_eq!(
            entry.canonical_json(),
            r#"{"action":"key.create","actor":"ops","at":"1970-01-01T00:00:00.000001Z","details":{"area":"[redacted]","zone":"2"},"outcome":"refused","reason":"a \"test\"\n","target":"key_1"}"#
        );
        let read: AuditEntry = serde_json::from_str(&entry.canonical_json()).unwrap();
        assert_eq!(read, entry);
    }
}
