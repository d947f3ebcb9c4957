//! What `/metrics` shows. Every label is from a closed or capped set: exact figures come from
//! the ledger.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::{Name, PicoUsd};
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::adapter_metrics::AdapterMetrics;
use crate::adapters::ShelfView;
use crate::exemplars::{self, TenantExemplars};
use crate::health::TenantHealth;
use crate::inspect::Noted;
use crate::telemetry::Dropped;
use crate::upstream::GateView;
use crate::upstream_metrics::UpstreamMetrics;

/// 500 tenants × 40 series: what one Prometheus scrapes without noticing.
pub(crate) const TENANTS_MAX: usize = 500;
/// The label of all tenants beyond the cap.
pub(crate) const OVERFLOW: &str = "_other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabel {
    tenant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    tenant: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabels {
    tenant: String,
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    tenant: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BodyLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    tenant: String,
    gen_ai_token_type: &'static str,
}

/// All metrics of the gateway.
pub struct Metrics {
    registry: Registry,
    calls: Family<OutcomeLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<TenantLabel, Counter>,
    duration: Family<TenantLabel, Histogram, fn() -> Histogram>,
    first_chunk: Family<TenantLabel, Histogram, fn() -> Histogram>,
    waiting: Family<TenantLabel, Gauge>,
    queue_wait: Family<TenantLabel, Histogram, fn() -> Histogram>,
    queue_position: Family<TenantLabel, Histogram, fn() -> Histogram>,
    upstreams: UpstreamMetrics,
    adapters: AdapterMetrics,
    guarded: Family<GuardLabels, Counter>,
    cache: Family<CacheLabels, Counter>,
    named: Mutex<std::collections::HashSet<Name>>,
    /// Connections of clients that are open.
    pub connections: Gauge,
    /// What the collector of telemetry does not have.
    pub(crate) dropped: Dropped,
    /// Traces that latencies lead to, by the tenant's label: as many as there are labels.
    exemplars: Mutex<std::collections::HashMap<String, Arc<TenantExemplars>>>,
    /// Requests that ended before their tenant was known, by code.
    refused: Family<RefusalLabels, Counter>,
    /// Exchanges with the budgets' coordinator.
    share_exchanges: Counter,
    share_failures: Counter,
    /// Calls of tenants that have bodies kept, by what came of that.
    bodies: Family<BodyLabels, Counter>,
    /// Calls' waits for one.
    share_waits: Counter,
    /// The same of rates that replicas share.
    rate_exchanges: Counter,
    rate_failures: Counter,
    rate_waits: Counter,
    rates_shared: Gauge,
}

/// One tenant's series, looked up once.
#[derive(Debug)]
pub struct TenantMetrics {
    tenant: String,
    calls: Family<OutcomeLabels, Counter>,
    completed: Counter,
    input_tokens: Counter,
    output_tokens: Counter,
    cached_tokens: Counter,
    cost: Counter<u64, AtomicU64>,
    duration: Histogram,
    first_chunk: Histogram,
    guarded: Family<GuardLabels, Counter>,
    cache: Family<CacheLabels, Counter>,
    /// Calls that wait for a limit, a budget or a place at an upstream.
    pub waiting: Gauge,
    queue_wait: Histogram,
    queue_position: Histogram,
    /// Traces that its latencies lead to.
    pub(crate) exemplars: Arc<TenantExemplars>,
    /// The last hour, by the minute.
    pub(crate) health: TenantHealth,
}

pub(crate) const SECONDS_BOUNDS: [f64; 13] = [
    0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0,
];

/// From 5 ms, which only a cache answers in, to 10 minutes, when SDKs give up.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(SECONDS_BOUNDS)
}

/// From the next one on to as many as may wait for one tenant.
fn positions() -> Histogram {
    const BOUNDS: [f64; 9] = [0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0];
    Histogram::new(BOUNDS)
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            calls: Family::default(),
            tokens: Family::default(),
            cost: Family::default(),
            duration: Family::new_with_constructor(seconds as fn() -> Histogram),
            first_chunk: Family::new_with_constructor(seconds as fn() -> Histogram),
            waiting: Family::default(),
            queue_wait: Family::new_with_constructor(seconds as fn() -> Histogram),
            queue_position: Family::new_with_constructor(positions as fn() -> Histogram),
            upstreams: UpstreamMetrics::default(),
            adapters: AdapterMetrics::default(),
            guarded: Family::default(),
            cache: Family::default(),
            named: Mutex::default(),
            connections: Gauge::default(),
            dropped: Dropped::default(),
            exemplars: Mutex::default(),
            refused: Family::default(),
            share_exchanges: Counter::default(),
            share_waits: Counter::default(),
            rate_exchanges: Counter::default(),
            rate_failures: Counter::default(),
            rate_waits: Counter::default(),
            rates_shared: Gauge::default(),
            share_failures: Counter::default(),
            bodies: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "partywall_calls",
            "Calls, by how they ended",
            metrics.calls.clone(),
        );
        registry.register(
            "gen_ai_client_inference_tokens",
            "Tokens, by type; cache_read is a part of input",
            metrics.tokens.clone(),
        );
        registry.register(
            "partywall_cost_microdollars",
            "Cost in millionths of a dollar, rounded down call by call",
            metrics.cost.clone(),
        );
        registry.register_with_unit(
            "gen_ai_client_inference_duration",
            "From a call's arrival to its end",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_with_unit(
            "gen_ai_client_inference_time_to_first_chunk",
            "From a call's arrival to the first byte of its answer",
            Unit::Seconds,
            metrics.first_chunk.clone(),
        );
        registry.register(
            "partywall_waiting_calls",
            "Calls that wait for a limit, a budget or a place at an upstream",
            metrics.waiting.clone(),
        );
        registry.register_with_unit(
            "partywall_queue_wait",
            "How long calls waited for a place at an upstream, of those that had to",
            Unit::Seconds,
            metrics.queue_wait.clone(),
        );
        registry.register(
            "partywall_queue_position",
            "How many calls went first when a call began to wait for a place at an upstream",
            metrics.queue_position.clone(),
        );
        metrics.upstreams.register(registry);
        metrics.adapters.register(registry);
        registry.register(
            "partywall_guardrail_findings",
            "What guardrails found, by what came of it",
            metrics.guarded.clone(),
        );
        registry.register(
            "partywall_cache",
            "Calls of tenants that keep answers, by what came of that: hit, miss, bypass",
            metrics.cache.clone(),
        );
        registry.register(
            "partywall_connections",
            "Open connections of clients",
            metrics.connections.clone(),
        );
        registry.register(
            "partywall_telemetry_dropped_spans",
            "Spans that found no room or were not taken by the collector",
            metrics.dropped.spans.clone(),
        );
        registry.register(
            "partywall_telemetry_dropped_records",
            "Log records that found no room or were not taken by the collector",
            metrics.dropped.records.clone(),
        );
        registry.register(
            "partywall_refused_before_tenant",
            "Requests that ended before their tenant was known",
            metrics.refused.clone(),
        );
        registry.register(
            "partywall_share_exchanges",
            "Exchanges with the coordinator of budgets that replicas share",
            metrics.share_exchanges.clone(),
        );
        registry.register(
            "partywall_share_failures",
            "Exchanges that the coordinator of shared budgets did not answer",
            metrics.share_failures.clone(),
        );
        registry.register(
            "partywall_bodies",
            "Calls of tenants that have bodies kept, by what came of that: kept, dropped, failed",
            metrics.bodies.clone(),
        );
        registry.register(
            "partywall_share_waits",
            "How often a call waited for an exchange with the coordinator of shared budgets",
            metrics.share_waits.clone(),
        );
        registry.register(
            "partywall_rate_exchanges",
            "Exchanges with the server that keeps rates that replicas share",
            metrics.rate_exchanges.clone(),
        );
        registry.register(
            "partywall_rate_failures",
            "Exchanges that the server of shared rates did not answer",
            metrics.rate_failures.clone(),
        );
        registry.register(
            "partywall_rate_waits",
            "How often a call waited for an exchange with the server of shared rates",
            metrics.rate_waits.clone(),
        );
        registry.register(
            "partywall_rates_shared",
            "1 while rates are shared with the other replicas, 0 while each has a fixed part",
            metrics.rates_shared.clone(),
        );
        Arc::new(metrics)
    }

    /// The series of one tenant, or of the overflow.
    pub fn tenant(&self, name: &Name) -> TenantMetrics {
        let tenant = {
            let mut named = self.named.lock();
            if named.len() < TENANTS_MAX || named.contains(name) {
                named.insert(name.clone());
                name.to_string()
            } else {
                OVERFLOW.to_owned()
            }
        };
        let label = TenantLabel {
            tenant: tenant.clone(),
        };
        let tokens = |gen_ai_token_type| {
            let labels = TokenLabels {
                tenant: tenant.clone(),
                gen_ai_token_type,
            };
            self.tokens.get_or_create_owned(&labels)
        };
        let completed = OutcomeLabels {
            tenant: tenant.clone(),
            outcome: "completed",
        };
        TenantMetrics {
            calls: self.calls.clone(),
            completed: self.calls.get_or_create_owned(&completed),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            cached_tokens: tokens("cache_read"),
            cost: self.cost.get_or_create_owned(&label),
            duration: self.duration.get_or_create_owned(&label),
            first_chunk: self.first_chunk.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            queue_wait: self.queue_wait.get_or_create_owned(&label),
            queue_position: self.queue_position.get_or_create_owned(&label),
            guarded: self.guarded.clone(),
            cache: self.cache.clone(),
            exemplars: Arc::clone(self.exemplars.lock().entry(tenant.clone()).or_default()),
            health: TenantHealth::default(),
            tenant,
        }
    }

    /// Notes an exchange with the budgets' coordinator, or one that was not answered.
    pub(crate) fn share_exchanged(&self, is_answered: bool) {
        match is_answered {
            true => drop(self.share_exchanges.inc()),
            false => drop(self.share_failures.inc()),
        }
    }

    /// Counts calls whose bodies were to be kept, by what came of it.
    pub(crate) fn count_bodies(&self, result: &'static str, count: u64) {
        let labels = BodyLabels { result };
        self.bodies.get_or_create(&labels).inc_by(count);
    }

    /// Notes an exchange with the server of shared rates.
    pub(crate) fn rate_exchanged(&self) {
        self.rate_exchanges.inc();
    }

    /// Notes one that was not answered.
    pub(crate) fn rate_exchange_failed(&self) {
        self.rate_failures.inc();
    }

    /// Notes that a call waits for one.
    pub(crate) fn rate_awaited(&self) {
        self.rate_waits.inc();
    }

    /// Notes whether rates are shared.
    pub(crate) fn rates_are_shared(&self, are_shared: bool) {
        self.rates_shared.set(i64::from(are_shared));
    }

    /// Notes that a call waits for an exchange with the budgets' coordinator.
    pub(crate) fn share_awaited(&self) {
        self.share_waits.inc();
    }

    /// Notes how long a call waited for a place at an upstream.
    pub(crate) fn queued(&self, upstream: &Name, waited: Duration) {
        self.upstreams.queued(upstream, waited);
    }

    /// Shows the adapters of upstreams as they are now.
    pub(crate) fn show_adapters<'a>(&self, views: impl Iterator<Item = (&'a Name, ShelfView)>) {
        self.adapters.show(views);
    }

    /// Shows the upstreams as they are now, and no others.
    pub(crate) fn show_upstreams<'a>(&self, views: impl Iterator<Item = (&'a Name, GateView)>) {
        self.upstreams.show(views);
    }

    /// Counts a call that was refused before its tenant was known.
    pub fn refuse(&self, code: &'static str) {
        self.refused.get_or_create(&RefusalLabels { code }).inc();
    }

    /// The same with exemplars, for who reads OpenMetrics.
    pub fn open_metrics(&self) -> String {
        let exemplars = self.exemplars.lock().clone();
        exemplars::join(&self.text(), &exemplars)
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to memory does not fail");
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl TenantMetrics {
    /// Counts a call's end.
    pub fn count(&self, outcome: &'static str, duration: Duration) {
        if outcome == "completed" {
            self.completed.inc();
        } else {
            let labels = OutcomeLabels {
                tenant: self.tenant.clone(),
                outcome,
            };
            self.calls.get_or_create(&labels).inc();
        }
        self.duration.observe(duration.as_secs_f64());
    }

    /// Notes a wait for a place at an upstream: how many went first, and how long it was.
    pub(crate) fn queued(&self, ahead: u32, waited: Duration) {
        self.queue_position.observe(f64::from(ahead));
        self.queue_wait.observe(waited.as_secs_f64());
        self.health.waited(waited);
    }

    /// Counts what guardrails found.
    pub(crate) fn guard(&self, noted: &Noted) {
        for (what, count) in noted.counts() {
            if count > 0 {
                let tenant = self.tenant.clone();
                let labels = GuardLabels { tenant, what };
                self.guarded.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// Counts what a call's cache did for it.
    pub(crate) fn cache(&self, result: &'static str) {
        let tenant = self.tenant.clone();
        let labels = CacheLabels { tenant, result };
        self.cache.get_or_create(&labels).inc();
    }

    /// Notes when the first byte of an answer came.
    pub fn first_chunk(&self, after: Duration) {
        self.first_chunk.observe(after.as_secs_f64());
        self.health.first_chunk(after);
    }

    /// Counts what a call consumed.
    pub fn consume(&self, consumption: &ledger::Consumption, cost: PicoUsd) {
        self.input_tokens.inc_by(consumption.input_tokens);
        self.output_tokens.inc_by(consumption.output_tokens);
        if consumption.cached_read_tokens > 0 {
            self.cached_tokens.inc_by(consumption.cached_read_tokens);
        }
        self.cost
            .inc_by(u64::try_from(cost.pico() / 1_000_000).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_beyond_the_cap_share_one_series() {
        let metrics = Metrics::new();
        for number in 0..2 * TENANTS_MAX {
            let name = format!("tenant-{number}").parse().expect("a name");
            metrics
                .tenant(&name)
                .count("completed", Duration::from_millis(1));
        }
        let text = metrics.text();
        let series = text
            .lines()
            .filter(|line| line.starts_with("partywall_calls_total"))
            .count();
        assert_eq!(series, TENANTS_MAX + 1);
        assert!(text.contains(r#"partywall_calls_total{tenant="_other",outcome="completed"} 500"#));
    }

    /// Everything that one tenant can have series of: 100 outcomes are more than there are codes.
    fn use_everything(tenant: &TenantMetrics, outcomes: &[&'static str]) {
        for outcome in outcomes {
            tenant.count(outcome, Duration::from_millis(70));
        }
        tenant.first_chunk(Duration::from_millis(20));
        tenant.queued(3, Duration::from_millis(5));
        for result in ["hit", "miss", "bypass"] {
            tenant.cache(result);
        }
        let trace = std::num::NonZeroU128::MAX;
        let at = base::Timestamp::from_micros(1);
        for took in SECONDS_BOUNDS {
            let took = Duration::from_secs_f64(took);
            tenant.exemplars.duration.note(trace, took, at);
            tenant.exemplars.first_chunk.note(trace, took, at);
        }
    }

    fn series_of(text: &str) -> usize {
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn ten_thousand_tenants_have_no_more_series_than_the_cap() {
        let metrics = Metrics::new();
        let outcomes = [
            "completed",
            "client_gone",
            "upstream_failed",
            "model_not_found",
        ];
        let name = |number: usize| format!("tenant-{number}").parse().expect("a name");
        for number in 0..=TENANTS_MAX {
            use_everything(&metrics.tenant(&name(number)), &outcomes);
        }
        let full = series_of(&metrics.text());
        for number in 0..10_000 {
            use_everything(&metrics.tenant(&name(number)), &outcomes);
        }
        assert_eq!(series_of(&metrics.text()), full);
        assert_eq!(series_of(&metrics.open_metrics()), full);
        // Some 90 of a tenant: four histograms, four outcomes, tokens, cost, cache, waiting.
        assert!(full < (TENANTS_MAX + 1) * 100, "{full}");
        assert_eq!(metrics.exemplars.lock().len(), TENANTS_MAX + 1);
    }

    /// `cargo test -p gateway --release --lib -- --ignored --nocapture scrape`.
    #[test]
    #[ignore = "a measurement: it judges nothing"]
    fn scrape_of_ten_thousand_tenants() {
        use base::Clock as _;
        let metrics = Metrics::new();
        let outcomes = [
            "completed",
            "client_gone",
            "upstream_failed",
            "model_not_found",
        ];
        for number in 0..10_000 {
            let name = format!("tenant-{number}").parse().expect("a name");
            use_everything(&metrics.tenant(&name), &outcomes);
        }
        let clock = base::SystemClock::new();
        for _ in 0..5 {
            let started = clock.elapsed();
            let plain = metrics.text();
            let between = clock.elapsed();
            let open = metrics.open_metrics();
            println!(
                "{} series: {} bytes in {:?}; with exemplars {} bytes in {:?}",
                series_of(&plain),
                plain.len(),
                between - started,
                open.len(),
                clock.elapsed() - between,
            );
        }
    }
}
