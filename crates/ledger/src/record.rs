//! What the journal says: one record per fact, in the order in which the ledgers made it true.

use base::{
    AttemptId, KeyId, ModelName, Name, PicoUsd, RequestId, TeamId, TenantId, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{AccountId, Consumption, PriceVersion, SessionName, Subject, Window};

/// A fact about money.
///
/// The order of the variants, and of the fields in each, is the format on disk: new variants go
/// to the end, and no variant changes. A new fact is a new variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A process took over the journal. Attempts that are open here belonged to one that died:
    /// they stand at their upper bounds, and what its leases left unreported counts as spent.
    Started {
        /// When.
        at: Timestamp,
    },
    /// An account exists from here on, or counts over another window.
    AccountOpened(Box<AccountOpened>),
    /// An idle account of a session or turn is gone; its id may be opened anew.
    AccountForgotten {
        /// Which.
        account: AccountId,
    },
    /// Holds may be dispatched on an account until their upper bounds sum to `limit`, counted
    /// since the account was opened, with what was [returned](Record::LeaseReturned).
    LeaseRaised {
        /// Which account.
        account: AccountId,
        /// The sum of upper bounds that may not be passed.
        limit: PicoUsd,
        /// The budget's own limit at that time; `None`: only counted.
        budget: Option<PicoUsd>,
        /// When.
        at: Timestamp,
    },
    /// Of what a crash left unreported, this much was found not to be spent.
    LeaseReconciled {
        /// Which account.
        account: AccountId,
        /// What no upstream billed.
        unspent: PicoUsd,
        /// When.
        at: Timestamp,
    },
    /// A call is under way, and may cost up to its amount.
    Intent(Box<Intent>),
    /// A call ended, and what it cost is known.
    Settled(Settled),
    /// A call ended, and cost nothing.
    Released {
        /// Which.
        attempt: AttemptId,
        /// Why it cost nothing.
        reason: ReleaseReason,
        /// When.
        at: Timestamp,
    },
    /// A hold passed its deadline: it counts as spent in full until it is reconciled.
    Expired {
        /// Which.
        attempt: AttemptId,
        /// When.
        at: Timestamp,
    },
    /// What an expired or crashed call cost was found out.
    Reconciled {
        /// Which.
        attempt: AttemptId,
        /// What it cost.
        cost: PicoUsd,
        /// When.
        at: Timestamp,
    },
    /// The process ended as it should: the intent of every call that ever left stands before
    /// this record, and nothing of any lease is unreported.
    Closed {
        /// When.
        at: Timestamp,
    },
    /// An idle account gave up what it had left of its lease: nothing of that will be dispatched.
    LeaseReturned {
        /// Which account.
        account: AccountId,
        /// How much. It counts towards the lease's sum from here on, and towards nothing else.
        unused: PicoUsd,
        /// When.
        at: Timestamp,
    },
}

/// How many kinds of record this version knows.
pub(crate) const RECORD_KINDS: u8 = 12;

/// See [`Record::AccountOpened`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountOpened {
    /// The account.
    pub account: AccountId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The budget that it counts for.
    pub budget: Name,
    /// Whom it is about.
    pub subject: Subject,
    /// Over which time it counts.
    pub window: Window,
    /// When.
    pub at: Timestamp,
}

/// See [`Record::Intent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The call; unique over all replicas.
    pub attempt: AttemptId,
    /// The client's request that it serves.
    pub request: RequestId,
    /// The request on whose way this call was made, if it is a hop of another.
    pub parent: Option<RequestId>,
    /// Who pays.
    pub tenant: TenantId,
    /// For which team.
    pub team: Option<TeamId>,
    /// For which user.
    pub user: Option<UserId>,
    /// With which key.
    pub key: KeyId,
    /// For which feature of the tenant's product.
    pub feature: Name,
    /// In which conversation.
    pub session: Option<SessionName>,
    /// In which turn of it.
    pub turn: Option<SessionName>,
    /// What the call is for.
    pub hop: Hop,
    /// Which of the tenant's prompts it has, and which version: `support@3`.
    pub prompt: Option<Box<str>>,
    /// Which model, as it is priced.
    pub model: ModelName,
    /// Which upstream serves it.
    pub upstream: Name,
    /// By which version of the model's price the amount was found, and the cost will be.
    pub price_version: PriceVersion,
    /// The most that it can cost.
    pub amount: PicoUsd,
    /// The most input tokens that it can have.
    pub input_bound: u64,
    /// The most output tokens that it can have.
    pub output_bound: u64,
    /// The accounts that hold the amount.
    pub accounts: SmallVec<[AccountId; 4]>,
    /// When it was dispatched.
    pub at: Timestamp,
    /// When its hold expires.
    pub expires_at: Timestamp,
}

/// See [`Record::Settled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The call.
    pub attempt: AttemptId,
    /// What it consumed.
    pub consumption: Consumption,
    /// What that costs.
    pub cost: PicoUsd,
    /// How it ended.
    pub outcome: Outcome,
    /// Who counted.
    pub metering: Metering,
    /// What the upstream called the model, if it did.
    pub served: Option<ModelName>,
    /// When.
    pub at: Timestamp,
}

/// What a call is for, inside a request.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Hop {
    /// To embed text.
    Embed,
    /// To rank what was retrieved.
    Rerank,
    /// To answer.
    #[default]
    Generate,
    /// To check input or output.
    Guard,
    /// To judge an answer.
    Judge,
}

impl Hop {
    /// As logs, lines and dimensions call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Rerank => "rerank",
            Self::Generate => "generate",
            Self::Guard => "guard",
            Self::Judge => "judge",
        }
    }
}

/// How a call that costs something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// In full.
    Completed,
    /// The gateway cut it: a deadline, a limit or a shutdown.
    Cut,
    /// The client went away.
    ClientGone,
    /// The upstream failed after it had begun.
    UpstreamFailed,
}

/// Who counted what a call consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Metering {
    /// The upstream reported it.
    Reported,
    /// The gateway counted it while it streamed, for want of a report.
    Counted,
    /// Nobody: no upstream was asked, and the gateway gave an answer again that it had kept.
    Cached {
        /// What the same answer costs where an upstream is asked.
        anew: PicoUsd,
    },
}

/// Why a call cost nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReleaseReason {
    /// It never left: its client went away, or its deadline passed, while it waited.
    NotDispatched,
    /// No connection to the upstream came about.
    Unreachable,
    /// The upstream refused it before it did any work.
    Refused,
}
