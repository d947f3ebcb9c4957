//! The task that sends: spans in batches, metrics at intervals, and what is left on draining.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, Supervisor, Timestamp};
use bytes::Bytes;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;

use super::encode::{
    Resource, Window, metrics_request, process_request, records_request, spans_request,
};
use super::gathering::Gathering;
use super::names::Names;
use super::process_log::ProcessLog;
use crate::upstream::{Collector, CollectorError, Posted};

const TRACES: &str = "/v1/traces";
const METRICS: &str = "/v1/metrics";
const LOGS: &str = "/v1/logs";

/// How long a span waits for its batch.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// 512 spans, which the SDKs send at a time, are about 400 KiB.
const BATCH_SPANS_MAX: usize = 512;
/// 500 series, some 3 KiB each, are about 1.5 MiB; collectors take 20 MiB by default.
const BATCH_SERIES_MAX: usize = 500;
/// With the pauses between them, five tries take half a minute. What arrives meanwhile waits.
const TRIES: u32 = 5;
/// The first pause; each one after it is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer, whatever the collector asks for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a request under way may take once the process is to stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long what is left may take then. With the grace, less than draining waits for its tasks.
const FLUSH: Duration = Duration::from_secs(3);

/// Sends what was gathered.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) gathering: Arc<Gathering>,
    pub(super) process_log: Option<Arc<ProcessLog>>,
    pub(super) collector: Collector,
    pub(super) resource: Resource,
    pub(super) names: &'static Names,
    pub(super) interval: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) tasks: Supervisor,
    /// Since when the sums are.
    pub(super) began: Timestamp,
}

/// A request that was given up; the reason has been logged.
struct GivenUp;

impl Exporter {
    /// Sends until the process stops, and then what is left.
    pub(super) async fn run(self) {
        let mut due = self.clock.elapsed() + self.interval;
        while !self.tasks.is_stopping() {
            tokio::select! {
                () = tokio::time::sleep(SEND_EVERY.min(self.interval)) => {}
                () = self.tasks.stopping() => break,
            }
            self.send_spans().await;
            self.send_records().await;
            self.send_process_log().await;
            let now = self.clock.elapsed();
            if now >= due {
                due = now + self.interval;
                self.send_metrics().await;
            }
        }
        let flush = async {
            self.gathering.gather();
            self.send_spans().await;
            self.send_records().await;
            self.send_process_log().await;
            self.send_metrics().await;
        };
        if tokio::time::timeout(FLUSH, flush).await.is_err() {
            tracing::warn!("the last telemetry was not delivered in time");
        }
    }

    /// Sends every span that waits.
    async fn send_spans(&self) {
        loop {
            let batch = self.gathering.take(BATCH_SPANS_MAX);
            if batch.is_empty() {
                return;
            }
            let body = spans_request(&self.resource, self.names, &batch);
            self.deliver_items(TRACES, body, batch.len(), &self.gathering.dropped.spans)
                .await;
        }
    }

    /// Sends every record that waits.
    async fn send_records(&self) {
        loop {
            let batch = self.gathering.take_records(BATCH_SPANS_MAX);
            if batch.is_empty() {
                return;
            }
            let body = records_request(&self.resource, self.names, &batch);
            self.deliver_items(LOGS, body, batch.len(), &self.gathering.dropped.records)
                .await;
        }
    }

    /// Sends what the process has logged.
    async fn send_process_log(&self) {
        let Some(log) = &self.process_log else {
            return;
        };
        let dropped = &self.gathering.dropped.records;
        dropped.inc_by(log.take_lost());
        loop {
            let batch = log.take(BATCH_SPANS_MAX);
            if batch.is_empty() {
                return;
            }
            let body = process_request(&self.resource, &batch);
            self.deliver_items(LOGS, body, batch.len(), dropped).await;
        }
    }

    /// Delivers a batch of so many; what the collector does not take is counted.
    async fn deliver_items(&self, path: &str, body: Vec<u8>, count: usize, dropped: &Counter) {
        let lost = match self.deliver(path, body.into()).await {
            Ok(rejected) => rejected.min(count as u64),
            Err(GivenUp) => count as u64,
        };
        if lost > 0 {
            tracing::warn!(path, lost, "items were not taken by the collector");
            dropped.inc_by(lost);
        }
    }

    /// Sends every series. One that is not delivered is in the next sums.
    async fn send_metrics(&self) {
        let series = self.gathering.gathered.lock().instruments.series();
        let dropped = self.gathering.dropped.spans.get();
        let window = Window {
            from: self.began,
            to: self.clock.now(),
        };
        for batch in series.chunks(BATCH_SERIES_MAX) {
            let body = metrics_request(&self.resource, self.names, window, batch, dropped);
            if self.deliver(METRICS, body.into()).await.is_err() {
                return;
            }
        }
    }

    /// Delivers one request, with patience while the process runs; then there is one try. Returns
    /// how many of its items the collector rejected.
    async fn deliver(&self, path: &str, body: Bytes) -> Result<u64, GivenUp> {
        for attempt in 0..TRIES {
            let posted = tokio::select! {
                posted = self.collector.post(path, body.clone()) => posted,
                () = self.is_overdue() => Err(CollectorError::TimedOut),
            };
            let asked_for = match posted {
                Ok(Posted {
                    status, rejected, ..
                }) if status.is_success() => return Ok(rejected),
                Ok(Posted { status, .. }) if !may_retry(status) => {
                    tracing::warn!(path, status = status.as_u16(), "the collector refused");
                    return Err(GivenUp);
                }
                Ok(posted) => {
                    tracing::debug!(
                        path,
                        status = posted.status.as_u16(),
                        "the collector is busy"
                    );
                    posted.retry_after
                }
                Err(error) => {
                    tracing::debug!(path, %error, "the collector was not reached");
                    None
                }
            };
            let pause = asked_for
                .unwrap_or_else(|| self.pause(attempt))
                .min(PAUSE_MAX);
            if attempt + 1 == TRIES {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tasks.stopping() => break,
            }
        }
        tracing::warn!(path, "the collector did not take what was sent");
        Err(GivenUp)
    }

    /// Twice the one before, and up to half more, so that replicas do not return together.
    fn pause(&self, attempt: u32) -> Duration {
        let pause = PAUSE * 2_u32.pow(attempt);
        let jitter = u32::from(self.entropy.next_u64() as u8);
        pause + pause * jitter / 512
    }

    /// Resolves once the process has been waiting for us long enough.
    async fn is_overdue(&self) {
        self.tasks.stopping().await;
        tokio::time::sleep(GRACE).await;
    }
}

/// OTLP's specification lists them; all others are final.
fn may_retry(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
