//! An upstream as operators see it: its line, its breakers, its places.

use crate::gateway::Gateway;
use crate::resilience::ProviderState;
use crate::upstream::EndpointView;

/// How an upstream is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Whether it is called at all.
    pub state: UpstreamState,
    /// Calls that may be under way at one time, over all its places.
    pub places: u32,
    /// Calls that are.
    pub calls_under_way: u32,
    /// Calls that wait for a place: interactive, standard, background.
    pub waiting: [u32; 3],
    /// Tenants whose own calls fail there, so that they are held back.
    pub open_tenants: usize,
    /// Where its calls go.
    pub endpoints: Vec<EndpointView>,
}

/// Whether an upstream is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// It is.
    Working,
    /// It failed for many tenants: each tries one call at a time.
    Probation,
    /// It fails for many tenants: nobody calls it for now.
    Down,
}

impl Gateway {
    /// How an upstream of the catalogue in force is; none if there is none of that name.
    pub fn upstream_status(&self, name: &str) -> Option<UpstreamStatus> {
        let configuration = self.configuration();
        let mut all = configuration.upstreams();
        let upstream = all.find(|upstream| upstream.name.as_str() == name)?;
        let view = upstream.gate.view();
        Some(UpstreamStatus {
            state: match view.provider {
                ProviderState::Working => UpstreamState::Working,
                ProviderState::Probation => UpstreamState::Probation,
                ProviderState::Down { .. } => UpstreamState::Down,
            },
            places: view.line.limit,
            calls_under_way: view.line.in_flight,
            waiting: view.line.waiting,
            open_tenants: view.open_tenants,
            endpoints: upstream.endpoint_views(),
        })
    }
}
