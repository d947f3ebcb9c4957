//! What a call asks of its tenant's ledger, and what it is told.

use std::time::Duration;

use base::{AttemptId, PicoUsd, Timestamp};

use crate::limits::LimitRefusal;
use crate::{AccountId, AccountUse, Hold, LeaseRequest, LimitId, LimitUse, RateKind, RateSnapshot};

/// A call that asks to be let through: everything is taken together, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct Reservation<'a> {
    /// The call.
    pub attempt: AttemptId,
    /// The limits that it counts against; none for a retry, which its first attempt paid for.
    pub limits: &'a [LimitUse<'a>],
    /// The accounts that pay for it.
    pub accounts: &'a [AccountUse<'a>],
    /// The most that it can cost.
    pub amount: PicoUsd,
    /// The most tokens that it can have, input and output.
    pub tokens: u64,
    /// The wall clock.
    pub now: Timestamp,
    /// The monotonic clock ([`base::Clock::elapsed`]): rates go by it.
    pub elapsed: Duration,
    /// When its hold expires.
    pub expires_at: Timestamp,
}

/// A call that was let through.
#[derive(Debug)]
#[must_use = "an admission holds money"]
pub struct Admission {
    /// The money that is held for it.
    pub hold: Hold,
    /// What is left of the tightest limits.
    pub rates: RateSnapshot,
    /// Leases that will run out soon: journal them now and nobody has to wait. Need not be
    /// waited for.
    pub refill: Option<LeaseRequest>,
    /// A share that other replicas have a part in will run out soon: ask for more now
    /// ([`crate::TenantLedger::share_asks`]) and nobody has to wait.
    pub shares_run_low: bool,
}

/// Why a call is not let through. Nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// It would not fit even if all live calls cost nothing.
    #[error("a budget of {limit} dollars has {spent} spent and {held} held")]
    OverBudget {
        /// The account.
        account: AccountId,
        /// What may be spent.
        limit: PicoUsd,
        /// What was spent.
        spent: PicoUsd,
        /// What live calls hold.
        held: PicoUsd,
        /// When the window has moved on far enough for it to fit; none if it never will.
        fits_at: Option<Timestamp>,
    },
    /// It would fit but for what live calls hold: it may once they have settled.
    #[error("what is left of a budget is held by calls under way")]
    HeldByOthers {
        /// The account.
        account: AccountId,
    },
    /// The account has had all its calls.
    #[error("a budget of {max} calls is used up")]
    TooManyCalls {
        /// The account.
        account: AccountId,
        /// How many there may be.
        max: u32,
    },
    /// A lease must be durable first; then the call is to try again.
    #[error("a lease must be made durable first")]
    NeedsLease(LeaseRequest),
    /// A larger share of what replicas have together must be asked for first
    /// ([`crate::TenantLedger::share_asks`]); then the call is to try again.
    #[error("a larger share of a budget must be asked for first")]
    NeedsShare,
    /// More of a rate that replicas have together must be leased first
    /// ([`crate::TenantLedger::rate_asks`]); then the call is to try again.
    #[error("more of a rate must be leased first")]
    NeedsRate,
    /// A rate is used up.
    #[error("too many {} a minute: try again in {} ms", kind.noun(), retry_after.as_millis())]
    RateLimited {
        /// The limit that takes longest to come back.
        limit: LimitId,
        /// What it counts.
        kind: RateKind,
        /// When the call fits, if nobody else takes anything.
        retry_after: Duration,
    },
    /// The call alone is more than a rate ever allows.
    #[error("the call has more {} than may be used at once", kind.noun())]
    NeverFits {
        /// The limit.
        limit: LimitId,
        /// What it counts.
        kind: RateKind,
    },
    /// Too many calls run at the same time.
    #[error("more than {max} calls at the same time")]
    TooManyInFlight {
        /// The limit.
        limit: LimitId,
        /// How many may run.
        max: u32,
    },
    /// The tenant has [`crate::ACCOUNTS_MAX`] accounts or limits, or the call names more than
    /// [`crate::ACCOUNTS_PER_CALL_MAX`] of them.
    #[error("too many accounts or limits")]
    TooManySubjects,
    /// The tenant has [`crate::HOLDS_MAX`] calls that have not ended.
    #[error("too many calls that have not ended")]
    TooManyHolds,
    /// The attempt is known already, or an account or limit is named twice: a bug of the caller.
    #[error("an attempt, an account or a limit is named twice")]
    Duplicate,
}

impl RateKind {
    const fn noun(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

impl From<LimitRefusal> for AdmitError {
    fn from(refusal: LimitRefusal) -> Self {
        match refusal {
            LimitRefusal::RateLimited {
                limit,
                kind,
                retry_after,
            } => Self::RateLimited {
                limit,
                kind,
                retry_after,
            },
            LimitRefusal::NeedsRate => Self::NeedsRate,
            LimitRefusal::NeverFits { limit, kind } => Self::NeverFits { limit, kind },
            LimitRefusal::TooManyInFlight { limit, max } => Self::TooManyInFlight { limit, max },
        }
    }
}
