//! Traces and metrics for the operator's collector: OTLP over HTTP, with the GenAI names.
//!
//! The call path notes numbers, ids and names in a [`CallSpan`] and pushes it into a bounded
//! queue; everything else is the work of two tasks. Nothing that a prompt or an answer says is
//! ever noted. A caller who is not known leaves no span: a flood of strangers would fill the
//! queue, and a stranger's `traceparent` is nothing to believe.

mod context;
mod encode;
mod exporter;
mod gathering;
mod histogram;
mod instruments;
mod names;
mod span;

use std::sync::Arc;
use std::time::Duration;

use base::{Entropy, RequestId, Timestamp};
use http::HeaderMap;
use models::Operation;
use prometheus_client::metrics::counter::Counter;

use crate::upstream::{Collector, CollectorEndpoint, CollectorHeader, UpstreamParts};

pub use context::SampleRatio;
pub use names::NamesVersion;

pub(crate) use context::TRACEPARENT;
pub(crate) use span::{CallSpan, Ending};

use context::TraceContext;
use encode::Resource;
use exporter::Exporter;
use gathering::Gathering;

/// Four times a second the queue is emptied: it is sized for that.
const GATHER_EVERY: Duration = Duration::from_millis(250);

/// Where telemetry goes, and how much of it.
#[derive(Debug, Clone)]
pub struct TelemetryOptions {
    /// The collector. The operator chose it, so it may be at a private address.
    pub endpoint: CollectorEndpoint,
    /// What each request carries besides: a collector's credential, say.
    pub headers: Vec<CollectorHeader>,
    /// Which part of the calls that begin a trace is recorded. Metrics count every call.
    pub sample_ratio: SampleRatio,
    /// Whose names.
    pub names: NamesVersion,
    /// What the installation calls itself: `service.name`.
    pub service_name: String,
    /// How often metrics are sent.
    pub interval: Duration,
}

impl TelemetryOptions {
    /// Everything to this collector, every ten seconds, by the current names.
    pub fn to(endpoint: CollectorEndpoint) -> Self {
        Self {
            endpoint,
            headers: Vec::new(),
            sample_ratio: SampleRatio::ALL,
            names: NamesVersion::Current,
            service_name: "partywall".to_owned(),
            interval: Duration::from_secs(10),
        }
    }
}

/// Where calls hand in their spans.
#[derive(Debug)]
pub(crate) struct Telemetry {
    gathering: Arc<Gathering>,
    sample_ratio: SampleRatio,
    entropy: Arc<dyn Entropy>,
}

impl Telemetry {
    /// Starts the tasks. `dropped` counts the spans that no collector will have.
    pub(crate) fn start(
        options: TelemetryOptions,
        parts: &UpstreamParts,
        entropy: Arc<dyn Entropy>,
        dropped: Counter,
    ) -> Self {
        let gathering = Arc::new(Gathering::new(dropped));
        let exporter = Exporter {
            gathering: Arc::clone(&gathering),
            collector: Collector::new(options.endpoint, options.headers, parts),
            resource: Resource {
                service_name: options.service_name,
                instance: format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64()),
            },
            names: options.names.names(),
            interval: options.interval,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&entropy),
            tasks: parts.supervisor.clone(),
            began: parts.clock.now(),
        };
        parts.supervisor.spawn(exporter.run());
        let (gathers, tasks) = (Arc::clone(&gathering), parts.supervisor.clone());
        parts.supervisor.spawn(async move {
            while !tasks.is_stopping() {
                tokio::select! {
                    () = tokio::time::sleep(GATHER_EVERY) => gathers.gather(),
                    () = tasks.stopping() => {}
                }
            }
        });
        Self {
            gathering,
            sample_ratio: options.sample_ratio,
            entropy,
        }
    }

    /// A call whose caller is known.
    pub(crate) fn begin(
        &self,
        operation: Operation,
        headers: &HeaderMap,
        request: RequestId,
        arrived: Timestamp,
    ) -> Box<CallSpan> {
        let context = TraceContext::begin(headers, request, self.sample_ratio, &*self.entropy);
        Box::new(CallSpan::new(context, request, operation, arrived))
    }

    /// Hands in a span that has ended.
    pub(crate) fn record(&self, span: Box<CallSpan>) {
        self.gathering.push(span);
    }
}
