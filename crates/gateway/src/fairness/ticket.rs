//! What a call says of itself, and what it is told.

use std::num::NonZeroU16;
use std::time::Duration;

use base::TenantId;

/// How urgent a call is. Higher bands go first, lower ones have a guaranteed share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Band {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// A program waits for the answer.
    Standard,
    /// Nobody waits: batches, evaluations, ingest.
    Background,
}

impl Band {
    /// All bands, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Background];

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A tenant's share relative to others': by tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// One: the share of a tenant without a better one.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// A weight; `None` for zero, since nobody may be starved.
    pub const fn new(weight: u16) -> Option<Self> {
        match NonZeroU16::new(weight) {
            Some(weight) => Some(Self(weight)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// What a tenant's tier gives it at one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantTerms {
    /// Its share among those who wait.
    pub weight: Weight,
    /// Places that only it may use. All reservations together get three quarters of the places
    /// at most: beyond that they shrink in proportion, so that nobody else is starved.
    pub reserved: u32,
    /// The most places that it may hold.
    pub concurrency_max: u32,
}

impl Default for TenantTerms {
    fn default() -> Self {
        Self {
            weight: Weight::ONE,
            reserved: 0,
            concurrency_max: u32::MAX,
        }
    }
}

/// A digest of the salted prefix of a call, to tell whether an upstream has it warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix(pub u64);

/// Tokens of one call, in and out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Of the request.
    pub input: u32,
    /// Of the answer, up to now.
    pub output: u32,
}

/// A call that asks for a place.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Whose call it is.
    pub tenant: TenantId,
    /// What the tenant's tier gives it, of the configuration that the request was read with.
    pub terms: TenantTerms,
    /// How urgent it is.
    pub band: Band,
    /// Tokens of the request.
    pub input: u32,
    /// Tokens that the answer is expected to have: [`super::OutputPredictor`].
    pub predicted_output: u32,
    /// What the upstream may have warm.
    pub prefix: Option<Prefix>,
    /// How long it can wait. Refused at once if it would be longer.
    pub patience: Duration,
}

/// One call, from its offer to its end. Names nothing afterwards, even if its slot is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// What becomes of a call that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It has a place: send it.
    Go(CallId),
    /// It waits until [`super::Scheduler::dispatch`] names it.
    Wait(CallId),
}

/// Why a call may not even wait. `retry_after` is when it would probably be let in to wait and
/// served within its patience: from the measured rate and the queue ahead, one second at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many calls of this tenant wait.
    #[error("too many calls of this tenant wait for the upstream")]
    TenantQueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// Too many calls of all tenants wait.
    #[error("too many calls wait for the upstream")]
    QueueFull {
        /// When to come back.
        retry_after: Duration,
    },
    /// It would wait longer than it can.
    #[error("the upstream is busy for longer than the call can wait")]
    TooLong {
        /// How long it would wait.
        expected: Duration,
        /// When to come back.
        retry_after: Duration,
    },
}

impl Refused {
    /// When to come back.
    pub const fn retry_after(&self) -> Duration {
        match self {
            Self::TenantQueueFull { retry_after }
            | Self::QueueFull { retry_after }
            | Self::TooLong { retry_after, .. } => *retry_after,
        }
    }
}
