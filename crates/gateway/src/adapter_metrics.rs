//! What `/metrics` shows of upstreams' slots for tenants' adapters.

use base::Name;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::adapters::ShelfView;

/// 200 upstreams of six series each; more are not shown.
const UPSTREAMS_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    upstream: String,
    outcome: &'static str,
}

/// The series of all upstreams that load adapters. No tenant and no adapter is named in them.
#[derive(Debug, Default)]
pub(crate) struct AdapterMetrics {
    slots: Family<UpstreamLabel, Gauge>,
    in_use: Family<UpstreamLabel, Gauge>,
    waiting: Family<UpstreamLabel, Gauge>,
    loads: Family<LoadLabels, Counter>,
    evictions: Family<UpstreamLabel, Counter>,
    shown: Mutex<Vec<Name>>,
}

impl AdapterMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "partywall_adapter_slots",
            "Slots for tenants' adapters",
            self.slots.clone(),
        );
        registry.register(
            "partywall_adapter_slots_in_use",
            "Slots that an adapter is in, or is being loaded into",
            self.in_use.clone(),
        );
        registry.register(
            "partywall_adapter_waiting_calls",
            "Calls that wait for their adapter to be loaded",
            self.waiting.clone(),
        );
        registry.register(
            "partywall_adapter_loads",
            "Adapters that engines were told to load, by how that ended",
            self.loads.clone(),
        );
        registry.register(
            "partywall_adapter_evictions",
            "Adapters that were unloaded to make room for another",
            self.evictions.clone(),
        );
    }

    /// Shows these as they are now, and no others.
    pub(crate) fn show<'a>(&self, views: impl Iterator<Item = (&'a Name, ShelfView)>) {
        let mut shown = self.shown.lock();
        let gone = std::mem::take(&mut *shown);
        for (name, view) in views.take(UPSTREAMS_MAX) {
            shown.push(name.clone());
            self.set(name, &view);
        }
        for name in gone.iter().filter(|name| !shown.contains(name)) {
            self.remove(name);
        }
    }

    fn set(&self, name: &Name, view: &ShelfView) {
        let label = label(name);
        let small = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.slots.get_or_create(&label).set(small(view.slots));
        self.in_use.get_or_create(&label).set(small(view.in_use));
        self.waiting.get_or_create(&label).set(small(view.waiting));
        self.evictions.get_or_create(&label).inc_by(view.evictions);
        for (outcome, count) in [("loaded", view.loads), ("failed", view.failures)] {
            let upstream = name.to_string();
            let labels = LoadLabels { upstream, outcome };
            self.loads.get_or_create(&labels).inc_by(count);
        }
    }

    fn remove(&self, name: &Name) {
        let label = label(name);
        for family in [&self.slots, &self.in_use, &self.waiting] {
            family.remove(&label);
        }
        self.evictions.remove(&label);
        for outcome in ["loaded", "failed"] {
            let upstream = name.to_string();
            self.loads.remove(&LoadLabels { upstream, outcome });
        }
    }
}

fn label(name: &Name) -> UpstreamLabel {
    UpstreamLabel {
        upstream: name.to_string(),
    }
}
