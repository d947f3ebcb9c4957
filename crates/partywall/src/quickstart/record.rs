//! What a quickstart remembers for the next: the demo tenants' keys, since keys are shown once,
//! and the simulator's port. Mode 0600.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use base::Name;
use serde::{Deserialize, Serialize};

use crate::installation::write_private;

/// The file's name in the data folder.
pub(super) const RECORD_FILE: &str = "quickstart.json";

/// What a quickstart remembers.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// A key of each demo tenant.
    #[serde(default)]
    pub(super) tenants: BTreeMap<Name, String>,
    /// The port that the simulator had, so that the catalogue stays as it is.
    #[serde(default)]
    pub(super) simulator_port: Option<u16>,
}

impl Record {
    /// What the last quickstart in `data` remembered; nothing if there was none.
    pub(super) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(RECORD_FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged: remove it", path.display())),
            // What is wrong with the folder itself is said by whoever opens it.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Remembers it.
    pub(super) fn write(&self, data: &Path) -> anyhow::Result<()> {
        let path = data.join(RECORD_FILE);
        let text = serde_json::to_string_pretty(self)?;
        write_private(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }
}
