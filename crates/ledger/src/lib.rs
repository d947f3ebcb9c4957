//! Prices, budgets, holds, limits, leases and the journal's records: pure state machines.
//!
//! No I/O, no async, no clock of its own: time comes in with every call.
//!
//! The life of a call's money:
//!
//! 1. [`upper_bound`] says the most that it can cost.
//! 2. [`TenantLedger::admit`] takes that from all limits and budgets, or from none. Where a
//!    [`LeaseRequest`] comes back instead, its records are journaled, waited for and
//!    [granted](TenantLedger::grant), and the call tries again.
//! 3. The call leaves, and its [`Record::Intent`] is journaled while it is under way.
//! 4. [`cost`] says what it came to; [`TenantLedger::settle`] (or `release`, `cancel`) ends the
//!    [`Hold`], and the record of that end is journaled under the same lock.
//! 5. [`Projection`] adds the journal up: for usage and invoices, and after a crash.
//!
//! Where several replicas have a part in the same budgets, each keeps to its share of them
//! ([`TenantLedger::share_with`]), and asks for more where [`AdmitError::NeedsShare`] comes back.
//! [`allot`] is the rule by which shares are given. Of rates each has a fixed part, or leases from a
//! pool ([`TenantLedger::lease_rates`]); [`RatePool`] is the rule of that.

mod abandon;
mod account;
mod admit;
mod checkpoint;
mod ending;
mod hold;
mod journal;
mod lease;
mod limits;
mod line;
mod price;
mod projection;
mod rate;
mod rate_pool;
mod record;
mod shares;
mod sharing;
mod spend;
mod stranded;
mod subject;
mod tenant_ledger;
mod verify;
mod window;

pub use account::{AccountTerms, AccountUse, AccountView};
pub use admit::{Admission, AdmitError, Reservation};
pub use checkpoint::CheckpointError;
pub use ending::ReconcileError;
pub use hold::{Actual, Ended, Expiry, Hold, Settlement, Unsettled};
pub use journal::{
    DecodeError, Decoder, FRAME_HEADER_BYTES, Frame, Lsn, RECORD_BYTES_MAX, RecordTooLong, encode,
};
pub use lease::{LEASE_IDLE, LeaseRequest};
pub use limits::{LimitTerms, LimitUse, RateKind, RateSnapshot};
pub use line::{LedgerLine, LineState};
pub use price::{
    Consumption, ConsumptionBound, LongPrompts, PRICE_MAX, Price, PriceList, PriceListError,
    PriceVersion, affordable_output, cost, upper_bound,
};
pub use projection::{AccountSummary, NotStarted, Projection};
pub use rate::{RATE_MAX, RateTerms, RateTermsError, RateView};
pub use rate_pool::{RateAsk, RateGiven, RatePool};
pub use record::{AccountOpened, Hop, Intent, Metering, Outcome, Record, ReleaseReason, Settled};
pub use shares::{SHARE_KEPT, ShareAsk, ShareGiven, ShareRow, allot};
pub use sharing::{ShareAsks, ShareNews};
pub use spend::{PostedMark, Spend};
pub use subject::{AccountId, LimitId, ParseSessionNameError, SessionName, Subject};
pub use tenant_ledger::{
    ACCOUNTS_MAX, ACCOUNTS_PER_CALL_MAX, EPHEMERAL_IDLE, HOLDS_MAX, RECONCILE_WITHIN, TenantLedger,
};
pub use verify::{FAULTS_MAX, Fault, Verifier, VerifyReport, verify};
pub use window::{RollingHours, RollingHoursError, UnknownZone, Window, Zone};
