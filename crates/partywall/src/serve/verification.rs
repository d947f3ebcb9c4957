//! Checking that the ledger adds up: the journal is read back and replayed rule by rule.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use base::SystemDisk;
use control::LedgerVerifier;
use ledger::{Verifier, VerifyReport};
use store::{InstallationId, read_journal};

use super::compaction::Compaction;

/// Reads the journal from its checkpoint on, as a start after a crash would.
pub(super) struct JournalVerifier {
    pub(super) folder: PathBuf,
    pub(super) installation: InstallationId,
    pub(super) compaction: Arc<Compaction>,
}

impl LedgerVerifier for JournalVerifier {
    fn verify(&self) -> Result<VerifyReport, Box<dyn Error + Send + Sync>> {
        // Without compaction neither the checkpoint moves nor a segment goes.
        self.compaction.held(|| {
            let checkpoint = read_journal(
                &SystemDisk,
                &self.folder,
                &self.installation,
                &mut |_, _| {},
            )?;
            let mut verifier = Verifier::new(checkpoint);
            read_journal(
                &SystemDisk,
                &self.folder,
                &self.installation,
                &mut |lsn, record| verifier.record(lsn, record),
            )?;
            Ok(verifier.finish())
        })
    }
}
