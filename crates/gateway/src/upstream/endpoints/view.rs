//! An upstream's places, as operators see them.

use super::{Endpoint, Endpoints, reading_good_for};
use crate::resilience::Standing;
use crate::upstream::{GateView, Upstream};

/// One place of an upstream, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView {
    /// `host:port`.
    pub address: String,
    /// Whether it is called.
    pub state: EndpointState,
    /// Calls of this process that are under way there.
    pub calls_under_way: u32,
    /// Calls that it works on, by its own figures; none if it was not asked or does not say.
    pub running: Option<u32>,
    /// Calls that wait there, by its own figures.
    pub waiting: Option<u32>,
    /// How full its cache of keys and values is, in thousandths.
    pub kv_use_permille: Option<u32>,
}

/// Whether a place is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// It is.
    Healthy,
    /// It did not answer when it was asked how it is.
    Unhealthy,
    /// It failed for more tenants than the other replicas did; it is tried again later.
    Ejected,
    /// No connection could be made; it is tried again in some seconds.
    Unreachable,
}

impl EndpointState {
    /// Every state.
    pub const ALL: [Self; 4] = [
        Self::Healthy,
        Self::Unhealthy,
        Self::Ejected,
        Self::Unreachable,
    ];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Upstream {
    /// Its gate as it is now, and its replicas if it has several.
    pub(crate) fn view(&self) -> GateView {
        let endpoints = self.has_replicas().then(|| {
            let views = self.endpoint_views();
            EndpointState::ALL.map(|state| {
                let count = views.iter().filter(|view| view.state == state).count();
                u32::try_from(count).unwrap_or(u32::MAX)
            })
        });
        GateView {
            endpoints,
            ..self.gate.view()
        }
    }

    /// Its places, as they are now.
    pub(crate) fn endpoint_views(&self) -> Vec<EndpointView> {
        let now = self.parts.clock.elapsed();
        let good_for = reading_good_for(&self.spec);
        let view = |endpoint: &Endpoint, state| {
            let load = endpoint.reading(now, good_for).map(|reading| reading.load);
            EndpointView {
                address: endpoint.address.clone(),
                state,
                calls_under_way: endpoint.own(),
                running: load.map(|load| load.running),
                waiting: load.map(|load| load.waiting),
                kv_use_permille: load.and_then(|load| load.kv_permille),
            }
        };
        match &self.endpoints {
            Endpoints::One(one) => vec![view(one, EndpointState::Healthy)],
            Endpoints::Many(group) => {
                let members = group.members();
                let views = members.iter().map(|member| {
                    let state = match group.standing(member) {
                        Standing::Unhealthy => EndpointState::Unhealthy,
                        Standing::Ejected { .. } => EndpointState::Ejected,
                        Standing::Healthy if member.is_in_trouble(now) => {
                            EndpointState::Unreachable
                        }
                        Standing::Healthy => EndpointState::Healthy,
                    };
                    view(member, state)
                });
                views.collect()
            }
        }
    }
}
