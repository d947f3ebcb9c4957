//! What every other crate stands on: ids, names, money, time, secrets, tasks, and the traits for
//! clock, entropy, disk and network that the simulation replaces.
//!
//! `base` knows no tenant, no HTTP and no SQL.

mod clock;
mod deadline;
mod disk;
mod entropy;
mod ids;
mod money;
mod names;
mod network;
mod redacted;
mod supervisor;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp, at_one_time};
pub use deadline::Deadline;
pub use disk::{Disk, DiskFile, MemoryDisk, SystemDisk};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use ids::{
    AttemptId, Id, IdKind, KeyId, ParseIdError, RequestId, TeamId, TenantId, UserId, kinds,
};
pub use money::{AmountText, ParseMoneyError, PicoUsd};
pub use names::{ModelName, Name, ParseNameError};
pub use network::{Network, NetworkFuture, Stream, SystemNetwork};
pub use redacted::Redacted;
pub use supervisor::Supervisor;
