//! What `/metrics` shows of each upstream: its line, its places, its breakers.

use std::collections::BTreeSet;
use std::time::Duration;

use base::Name;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::seconds;
use crate::resilience::ProviderState;
use crate::upstream::{EndpointState, GateView};

/// 200 upstreams of a dozen series each; more are not shown.
const UPSTREAMS_MAX: usize = 200;
const BANDS: [&str; 3] = ["interactive", "standard", "background"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LineLabels {
    upstream: String,
    band: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    upstream: String,
    state: &'static str,
}

/// The series of all upstreams.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    waiting: Family<LineLabels, Gauge>,
    in_flight: Family<UpstreamLabel, Gauge>,
    places: Family<UpstreamLabel, Gauge>,
    down: Family<UpstreamLabel, Gauge>,
    open_tenants: Family<UpstreamLabel, Gauge>,
    endpoints: Family<EndpointLabels, Gauge>,
    wait: Family<UpstreamLabel, Histogram, fn() -> Histogram>,
    shown: Mutex<BTreeSet<Name>>,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        Self {
            waiting: Family::default(),
            in_flight: Family::default(),
            places: Family::default(),
            down: Family::default(),
            open_tenants: Family::default(),
            endpoints: Family::default(),
            wait: Family::new_with_constructor(seconds as fn() -> Histogram),
            shown: Mutex::default(),
        }
    }
}

impl UpstreamMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "partywall_upstream_waiting_calls",
            "Calls that wait for a place, by band",
            self.waiting.clone(),
        );
        registry.register(
            "partywall_upstream_calls_under_way",
            "Calls under way",
            self.in_flight.clone(),
        );
        registry.register(
            "partywall_upstream_places",
            "Calls that may be under way at one time",
            self.places.clone(),
        );
        registry.register(
            "partywall_upstream_down",
            "2 while nobody calls it because it fails for many tenants, 1 while each tenant tries one call at a time, else 0",
            self.down.clone(),
        );
        registry.register(
            "partywall_upstream_open_breakers",
            "Tenants whose own calls fail there, so that they are held back",
            self.open_tenants.clone(),
        );
        registry.register(
            "partywall_upstream_endpoints",
            "Replicas of an upstream that has several, by whether they are called",
            self.endpoints.clone(),
        );
        registry.register_with_unit(
            "partywall_upstream_wait",
            "How long calls waited for a place, of those that had to",
            Unit::Seconds,
            self.wait.clone(),
        );
    }

    /// Notes how long a call waited for a place.
    pub(crate) fn queued(&self, upstream: &Name, waited: Duration) {
        // A call may have begun before its upstream was taken away, or be of one too many.
        if self.shown.lock().contains(upstream) {
            self.wait
                .get_or_create(&label(upstream))
                .observe(waited.as_secs_f64());
        }
    }

    /// Shows these as they are now, and no others.
    pub(crate) fn show<'a>(&self, views: impl Iterator<Item = (&'a Name, GateView)>) {
        let mut shown = self.shown.lock();
        let mut gone = std::mem::take(&mut *shown);
        for (name, view) in views.take(UPSTREAMS_MAX) {
            gone.remove(name);
            shown.insert(name.clone());
            self.set(name, &view);
        }
        for name in gone {
            self.remove(&name);
        }
    }

    fn set(&self, name: &Name, view: &GateView) {
        let label = label(name);
        for (band, waiting) in BANDS.into_iter().zip(view.line.waiting) {
            let upstream = label.upstream.clone();
            let gauge = self
                .waiting
                .get_or_create_owned(&LineLabels { upstream, band });
            gauge.set(i64::from(waiting));
        }
        let set = |family: &Family<UpstreamLabel, Gauge>, value: i64| {
            family.get_or_create(&label).set(value);
        };
        set(&self.in_flight, i64::from(view.line.in_flight));
        set(&self.places, i64::from(view.line.limit));
        let down = match view.provider {
            ProviderState::Working => 0,
            ProviderState::Probation => 1,
            ProviderState::Down { .. } => 2,
        };
        set(&self.down, down);
        let open = i64::try_from(view.open_tenants).unwrap_or(i64::MAX);
        set(&self.open_tenants, open);
        // Counted by state, so that replicas that come and go make no new series.
        if let Some(counts) = view.endpoints {
            for (state, count) in EndpointState::ALL.into_iter().zip(counts) {
                let labels = EndpointLabels {
                    upstream: label.upstream.clone(),
                    state: state.as_str(),
                };
                let gauge = self.endpoints.get_or_create_owned(&labels);
                gauge.set(i64::from(count));
            }
        }
    }

    fn remove(&self, name: &Name) {
        let label = label(name);
        for band in BANDS {
            let upstream = label.upstream.clone();
            self.waiting.remove(&LineLabels { upstream, band });
        }
        for family in [
            &self.in_flight,
            &self.places,
            &self.down,
            &self.open_tenants,
        ] {
            family.remove(&label);
        }
        for state in EndpointState::ALL {
            let upstream = label.upstream.clone();
            self.endpoints.remove(&EndpointLabels {
                upstream,
                state: state.as_str(),
            });
        }
        self.wait.remove(&label);
    }
}

fn label(upstream: &Name) -> UpstreamLabel {
    UpstreamLabel {
        upstream: upstream.to_string(),
    }
}
