//! Traces, metrics, call records and the process's own log for the operator's collector: OTLP over HTTP, with the GenAI names.
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
mod owners;
mod process_log;
mod span;

use std::sync::Arc;
use std::time::Duration;

use base::{Entropy, RequestId, TenantId, Timestamp};
use http::HeaderMap;
use models::Operation;

use crate::upstream::{Collector, CollectorEndpoint, CollectorHeader, UpstreamParts};

pub use context::{CallersTraces, SampleRatio};
pub use names::NamesVersion;
pub use process_log::{ProcessField, ProcessLog, ProcessRecord, Severity};

pub(crate) use context::{TRACEPARENT, TraceContext, trace_digits};
pub(crate) use gathering::Dropped;
pub(crate) use span::{CallSpan, Ending};

use context::Tracing;
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
    /// Which part of the calls is recorded. Metrics and records count every call.
    pub sample_ratio: SampleRatio,
    /// What becomes of the traces that callers name.
    pub callers_traces: CallersTraces,
    /// Whether each call is sent as a log record, too.
    pub call_records: CallRecords,
    /// What the process itself logs, where that is sent, too.
    pub process_log: Option<Arc<ProcessLog>>,
    /// Whose names.
    pub names: NamesVersion,
    /// What the installation calls itself: `service.name`.
    pub service_name: String,
    /// How often metrics are sent.
    pub interval: Duration,
}

/// Whether calls are sent as OTLP's log records: what the line in the process's own log says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CallRecords {
    /// They are in the process's log alone.
    #[default]
    Kept,
    /// They go to the collector, too.
    Sent,
}

impl TelemetryOptions {
    /// Everything to this collector, every ten seconds, by the current names.
    pub fn to(endpoint: CollectorEndpoint) -> Self {
        Self {
            endpoint,
            headers: Vec::new(),
            sample_ratio: SampleRatio::ALL,
            callers_traces: CallersTraces::Linked,
            call_records: CallRecords::Kept,
            process_log: None,
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
    tracing: Tracing,
    entropy: Arc<dyn Entropy>,
}

impl Telemetry {
    /// Starts the tasks. `dropped` counts what no collector will have.
    pub(crate) fn start(
        options: TelemetryOptions,
        parts: &UpstreamParts,
        entropy: Arc<dyn Entropy>,
        dropped: Dropped,
    ) -> Self {
        let gathering = Arc::new(Gathering::new(dropped, options.call_records));
        let exporter = Exporter {
            gathering: Arc::clone(&gathering),
            process_log: options.process_log,
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
            tracing: Tracing::new(options.sample_ratio, options.callers_traces),
            entropy,
        }
    }

    /// A call whose caller is known.
    pub(crate) fn begin(
        &self,
        operation: Operation,
        headers: &HeaderMap,
        tenant: TenantId,
        request: RequestId,
        arrived: Timestamp,
    ) -> Box<CallSpan> {
        let (context, caller) = self.tracing.begin(headers, tenant, request, &*self.entropy);
        let mut span = CallSpan::new(context, request, operation, arrived);
        span.caller = caller;
        Box::new(span)
    }

    /// A hop of a call: below its span, if that has one.
    pub(crate) fn begin_below(
        &self,
        parent: Option<TraceContext>,
        operation: Operation,
        request: RequestId,
        now: Timestamp,
    ) -> Box<CallSpan> {
        let context = match parent {
            Some(parent) => parent.below(&*self.entropy),
            None => self.tracing.root(request, &*self.entropy),
        };
        Box::new(CallSpan::new(context, request, operation, now))
    }

    /// Hands in a span that has ended.
    pub(crate) fn record(&self, span: Box<CallSpan>) {
        self.gathering.push(span);
    }
}
