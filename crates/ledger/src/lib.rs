//! Prices, budgets, holds, limits, leases and the journal's records: pure state machines.
//!
//! No I/O, no async, no clock of its own: time comes in with every call.

mod journal;
mod price;
mod record;
mod spend;
mod subject;
mod window;

pub use journal::{
    DecodeError, Decoder, FRAME_HEADER_BYTES, Frame, Lsn, RECORD_BYTES_MAX, RecordTooLong, encode,
};
pub use price::{
    Consumption, ConsumptionBound, PRICE_MAX, Price, PriceList, PriceListError, PriceVersion,
    affordable_output, cost, upper_bound,
};
pub use record::{AccountOpened, Hop, Intent, Metering, Outcome, Record, ReleaseReason, Settled};
pub use spend::{PostedMark, Spend};
pub use subject::{AccountId, LimitId, ParseSessionNameError, SessionName, Subject};
pub use window::{RollingHours, RollingHoursError, UnknownZone, Window, Zone};

/// After a day without a call the account of a session or turn is forgotten.
pub const EPHEMERAL_IDLE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
