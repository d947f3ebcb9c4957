//! Money reserved for a call that has not finished.

use base::{AttemptId, PicoUsd, TenantId, Timestamp};
use smallvec::SmallVec;

use crate::{AccountId, LimitId, PostedMark};

/// Money reserved for one call. It can be neither copied nor made elsewhere: what becomes of it
/// is one of [`crate::TenantLedger::settle`], [`crate::TenantLedger::release`],
/// [`crate::TenantLedger::cancel`] and [`crate::TenantLedger::abandon`]. One that is dropped
/// expires. A call that has not left by the time its hold expires is cancelled, and does not
/// leave any more.
#[derive(Debug)]
#[must_use = "a hold that is neither settled, released nor cancelled blocks its budget until it \
              expires"]
pub struct Hold {
    pub(crate) attempt: AttemptId,
    pub(crate) tenant: TenantId,
    pub(crate) amount: PicoUsd,
}

impl Hold {
    /// The call.
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Who pays.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The most that the call may cost.
    pub const fn amount(&self) -> PicoUsd {
        self.amount
    }
}

/// What a call turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actual {
    /// What it cost.
    pub cost: PicoUsd,
    /// Its tokens, input and output.
    pub tokens: u64,
}

/// When a call ended, as its hold saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// While the hold was live.
    InTime,
    /// After the hold had expired: what was counted was corrected.
    Late,
    /// After it was reconciled: nothing changed.
    Already,
}

/// What the end of a call changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Whether the hold was still live.
    pub ended: Ended,
    /// What was counted as spent.
    pub charged: PicoUsd,
    /// How much of it is beyond what was held: the bound was wrong. Nothing in normal operation.
    pub overshoot: PicoUsd,
    /// How much of what was held is free again: others may fit now.
    pub freed: PicoUsd,
    /// Accounts whose soft threshold this crossed.
    pub soft_crossed: Vec<AccountId>,
    /// Accounts whose limit this used up.
    pub exhausted: Vec<AccountId>,
}

/// A hold that passed its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsettled {
    /// The call.
    pub attempt: AttemptId,
    /// What counts as spent for it.
    pub amount: PicoUsd,
    /// Since when.
    pub since: Timestamp,
}

/// What [`crate::TenantLedger::expire`] or [`crate::TenantLedger::abandon`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expiry {
    /// Holds that count as spent from now on. Each needs a [`crate::Record::Expired`].
    pub expired: Vec<Unsettled>,
    /// Accounts whose soft threshold this crossed.
    pub soft_crossed: Vec<AccountId>,
    /// Accounts whose limit this used up.
    pub exhausted: Vec<AccountId>,
}

/// What the ledger knows of a hold.
#[derive(Debug)]
pub(crate) struct HoldEntry {
    pub(crate) amount: PicoUsd,
    pub(crate) tokens: u64,
    pub(crate) accounts: SmallVec<[AccountId; 4]>,
    pub(crate) limits: SmallVec<[LimitId; 4]>,
    pub(crate) expires_at: Timestamp,
    pub(crate) state: HoldState,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HoldState {
    /// The call is under way: the amount is held.
    Live,
    /// The amount counts as spent, posted to each account at its mark.
    Unsettled {
        since: Timestamp,
        marks: Vec<PostedMark>,
    },
}
