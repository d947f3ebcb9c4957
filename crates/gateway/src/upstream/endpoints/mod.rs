//! The places of one upstream: one, or an engine's replicas, which come and go.

mod affinity;
mod choice;
mod discover;
mod group;
mod kubernetes;
mod load;
mod slices;
mod tend;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base::{Clock, TenantId};
use http::StatusCode;
use parking_lot::Mutex;
use tenancy::catalogue::UpstreamSpec;

pub(crate) use affinity::Beginnings;
pub(super) use group::Group;
pub use view::{EndpointState, EndpointView};

use super::pool::Pool;
use super::{Origin, UpstreamParts};
use crate::resilience::{CallEnd, Credential, classify};
use load::EngineLoad;

/// Who calls, as far as the choice of a place goes.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    /// With whose credential.
    pub(crate) credential: Credential,
    /// What its prompt begins with.
    pub(crate) beginnings: Beginnings,
}

/// Where an upstream's calls go.
#[derive(Debug, Clone)]
pub(super) enum Endpoints {
    /// To the one place that `base_url` names.
    One(Arc<Endpoint>),
    /// To one of the replicas.
    Many(Arc<Group>),
}

/// One place: its kept connections, and how it is.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// No other replica of the group has had it.
    number: u32,
    /// `host:port`.
    address: String,
    origin: Origin,
    pub(super) pool: Pool,
    /// Calls of ours that are under way.
    own: AtomicU32,
    trouble: Mutex<Trouble>,
    reading: Mutex<Option<Reading>>,
    agenda: Mutex<Agenda>,
    /// Whether somebody is asking it something.
    is_asked: AtomicBool,
}

/// Connections that it refused.
#[derive(Debug, Default, Clone, Copy)]
struct Trouble {
    in_a_row: u32,
    /// Until when others are preferred.
    until: Duration,
}

/// What it said of its load.
#[derive(Debug, Clone, Copy)]
struct Reading {
    load: EngineLoad,
    /// Calls of ours that it had then.
    own: u32,
    at: Duration,
}

/// When it is to be asked what.
#[derive(Debug, Default, Clone, Copy)]
struct Agenda {
    reading: Duration,
    probe: Duration,
}

/// A second, twice as long each time that it refuses again, half a minute at most: what a
/// restart takes.
const TROUBLE: Duration = Duration::from_secs(1);
const TROUBLE_DOUBLINGS_MAX: u32 = 5;

/// What an engine said of its load is good for five times as long as it is from one time to the
/// next.
const READINGS_MISSED_MAX: u32 = 5;

fn reading_good_for(spec: &UpstreamSpec) -> Duration {
    let every = spec.engine_metrics.as_ref().map_or(0, |it| it.every_ms);
    Duration::from_millis(every).saturating_mul(READINGS_MISSED_MAX)
}

impl Endpoint {
    fn new(number: u32, address: String, origin: Origin, parts: &UpstreamParts, idle: u32) -> Self {
        Self {
            number,
            address,
            origin,
            pool: Pool::new(parts.clone(), idle as usize),
            own: AtomicU32::new(0),
            trouble: Mutex::default(),
            reading: Mutex::default(),
            agenda: Mutex::default(),
            is_asked: AtomicBool::new(false),
        }
    }

    /// Where connections go.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    fn own(&self) -> u32 {
        self.own.load(Ordering::Relaxed)
    }

    fn is_in_trouble(&self, now: Duration) -> bool {
        now < self.trouble.lock().until
    }

    fn was_unreachable(&self, now: Duration) {
        let mut trouble = self.trouble.lock();
        let doublings = trouble.in_a_row.min(TROUBLE_DOUBLINGS_MAX);
        trouble.in_a_row = trouble.in_a_row.saturating_add(1);
        trouble.until = now + TROUBLE * 2_u32.pow(doublings);
    }

    fn was_reached(&self) {
        let mut trouble = self.trouble.lock();
        if trouble.in_a_row > 0 {
            *trouble = Trouble::default();
        }
    }

    /// What it said last, if that still says something.
    fn reading(&self, now: Duration, good_for: Duration) -> Option<Reading> {
        let reading = *self.reading.lock();
        reading.filter(|reading| now.saturating_sub(reading.at) <= good_for)
    }
}

impl Endpoints {
    /// The places that `spec` names; those of `previous` that are the same are kept, with their
    /// connections and what is known of them.
    pub(super) fn new(
        spec: &UpstreamSpec,
        origin: &Origin,
        parts: &UpstreamParts,
        previous: Option<&Self>,
    ) -> Self {
        let Some(source) = &spec.endpoints else {
            let address = format!("{}:{}", origin.host, origin.port);
            let idle = spec.concurrency_max;
            let one = Endpoint::new(0, address, origin.clone(), parts, idle);
            return Self::One(Arc::new(one));
        };
        let previous = match previous {
            Some(Self::Many(group)) => Some(&**group),
            _ => None,
        };
        Self::Many(Group::new(spec, source, origin, parts, previous))
    }

    /// The place for a call: not one of those that it tried in vain. None is left if there is
    /// none, or none is known.
    pub(super) fn choose(&self, caller: Option<&Caller>, tried: &[u32]) -> Option<Chosen> {
        match self {
            Self::One(one) if tried.is_empty() => Some(Chosen::new(Arc::clone(one), None)),
            Self::One(_) => None,
            Self::Many(group) => group.choose(caller, tried),
        }
    }

    /// Every place that is known.
    pub(super) fn all(&self) -> Vec<Arc<Endpoint>> {
        match self {
            Self::One(one) => vec![Arc::clone(one)],
            Self::Many(group) => group.members().to_vec(),
        }
    }

    /// Calls that all places together may have, if each may have so many.
    pub(super) fn places(&self, each: u32) -> u32 {
        match self {
            Self::One(_) => each,
            Self::Many(group) => each.saturating_mul(group.fit_count()),
        }
    }
}

/// A place that a call goes to; it counts there until this is dropped.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) endpoint: Arc<Endpoint>,
    witness: Option<Witness>,
}

/// To whom it matters what comes of the call.
#[derive(Debug)]
struct Witness {
    group: Arc<Group>,
    caller: Option<(TenantId, Credential)>,
}

impl Chosen {
    fn new(endpoint: Arc<Endpoint>, witness: Option<Witness>) -> Self {
        endpoint.own.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, witness }
    }

    /// What tells it from the other replicas.
    pub(super) fn number(&self) -> u32 {
        self.endpoint.number
    }

    /// No connection could be made.
    pub(super) fn was_unreachable(&self, clock: &dyn Clock) {
        if self.witness.is_some() {
            let endpoint = &self.endpoint;
            endpoint.was_unreachable(clock.elapsed());
            tracing::warn!(endpoint = %endpoint.address, "a replica was not reached");
        }
    }

    /// It answered.
    pub(super) fn answered(&self, status: StatusCode) {
        if self.witness.is_some() {
            self.endpoint.was_reached();
        }
        self.ended(CallEnd::Answered(status));
    }

    /// The call ended like this.
    pub(super) fn ended(&self, end: CallEnd) {
        if let Some(Witness {
            group,
            caller: Some((tenant, credential)),
        }) = &self.witness
        {
            group.called(&self.endpoint, *tenant, classify(end, *credential));
        }
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.endpoint.own.fetch_sub(1, Ordering::Relaxed);
    }
}
