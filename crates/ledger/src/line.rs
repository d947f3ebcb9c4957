//! A ledger line: a call with all that attribution needs, and what became of it.

use base::{ModelName, PicoUsd, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Consumption, Intent, Lsn, Metering, Outcome, ReleaseReason};

/// What is known of one call. A later line of the same attempt (one with a greater
/// [`LedgerLine::lsn`]) replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The record that made this line.
    pub lsn: Lsn,
    /// Who called what, for whom, and at which price.
    pub intent: Intent,
    /// What the upstream called the model, if it did.
    pub served: Option<ModelName>,
    /// What it consumed; nothing where that is not known.
    pub consumption: Consumption,
    /// What counts as spent for it.
    pub cost: PicoUsd,
    /// What became of it.
    pub state: LineState,
    /// When that was.
    pub at: Timestamp,
}

impl LedgerLine {
    /// Has each name in common with `other` where both are the same: lines that stay in memory
    /// together then take a quarter less of it. A name that was read from a journal is its own.
    pub fn share_names(&mut self, other: &Self) {
        share(&mut self.intent.feature, &other.intent.feature);
        share(&mut self.intent.model, &other.intent.model);
        share(&mut self.intent.upstream, &other.intent.upstream);
        if let (Some(name), Some(other)) = (&mut self.served, &other.served) {
            share(name, other);
        }
    }
}

fn share<T: PartialEq + Clone>(name: &mut T, other: &T) {
    if name == other {
        name.clone_from(other);
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LineState {
    /// It ended, and what it cost is known.
    Settled {
        /// How it ended.
        outcome: Outcome,
        /// Who counted.
        metering: Metering,
    },
    /// It cost nothing.
    Released {
        /// Why.
        reason: ReleaseReason,
    },
    /// Its end is not known: it stands at its upper bound until it is reconciled.
    Unsettled,
    /// What it cost was found out afterwards.
    Reconciled,
}
