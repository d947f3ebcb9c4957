//! What is known of a request so far: for its log line, its metrics and its error, whatever
//! stage it ends in.

use std::sync::Arc;
use std::time::Duration;

use base::{ModelName, Name, PicoUsd, RequestId, TenantId};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ledger::{Consumption, Hop};
use models::{Dialect, Operation};
use tenancy::TenantEntry;

use super::answer::AnswerBody;
use super::arrive::Arrived;
use crate::access_log::CallLine;
use crate::health::Ending as HealthEnding;
use crate::inspect::Noted;
use crate::metrics::TenantMetrics;
use crate::refusal::{Refusal, Retry};
use crate::shared::Shared;
use crate::telemetry::{CallSpan, Ending, TraceContext};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The trail of one request.
#[derive(Debug)]
pub(super) struct Trail {
    shared: Arc<Shared>,
    pub(super) request: RequestId,
    /// When it arrived, on the monotonic clock.
    pub(super) arrived: Duration,
    pub(super) tenant: Option<Arc<TenantEntry>>,
    pub(super) metrics: Option<Arc<TenantMetrics>>,
    pub(super) key: Option<Name>,
    pub(super) feature: Option<Name>,
    pub(super) model: Option<ModelName>,
    pub(super) upstream: Option<Name>,
    /// What telemetry notes, if any is exported.
    span: Option<Box<CallSpan>>,
    /// What the call is for, once it is admitted.
    pub(super) hop: Hop,
    /// The request on whose way it is made, if it is a hop.
    pub(super) parent: Option<RequestId>,
    /// Which of the tenant's prompts it has: `support@3`.
    pub(super) prompt: Option<Box<str>>,
    /// What the tenant's guardrails found.
    pub(super) guarded: Noted,
    /// What the tenant's kept answers had to do with it: `hit`, `miss`, `bypass`.
    pub(super) cache: Option<&'static str>,
    /// `x-ratelimit-…`, once they are known: they go onto refusals too.
    pub(super) rate_headers: HeaderMap,
    /// What its client speaks: refusals are in it too.
    pub(super) dialect: Dialect,
    /// Whether it is a call of a model: only those count in the metrics of calls.
    is_call: bool,
    is_ended: bool,
}

impl Trail {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        Self {
            request: RequestId::generate(&*shared.clock, &*shared.entropy),
            arrived: shared.clock.elapsed(),
            shared: Arc::clone(shared),
            tenant: None,
            metrics: None,
            key: None,
            feature: None,
            model: None,
            upstream: None,
            span: None,
            hop: Hop::Generate,
            parent: None,
            prompt: None,
            guarded: Noted::default(),
            cache: None,
            rate_headers: HeaderMap::new(),
            dialect: Dialect::OpenAiChat,
            is_call: false,
            is_ended: false,
        }
    }

    /// A trail that goes on with the body of the answer; this one has ended.
    pub(super) fn hand_over(&mut self) -> Self {
        let continued = Self {
            shared: Arc::clone(&self.shared),
            request: self.request,
            arrived: self.arrived,
            tenant: self.tenant.take(),
            metrics: self.metrics.take(),
            key: self.key.take(),
            feature: self.feature.take(),
            model: self.model.take(),
            upstream: self.upstream.take(),
            span: self.span.take(),
            hop: self.hop,
            parent: self.parent,
            prompt: self.prompt.take(),
            guarded: self.guarded,
            cache: self.cache,
            rate_headers: HeaderMap::new(),
            dialect: self.dialect,
            is_call: self.is_call,
            is_ended: false,
        };
        self.is_ended = true;
        continued
    }

    /// The call ended: its line, its metrics.
    pub(super) fn end(
        &mut self,
        status: StatusCode,
        outcome: &'static str,
        consumed: Option<(Consumption, PicoUsd)>,
    ) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let duration = self.shared.clock.elapsed().saturating_sub(self.arrived);
        match &self.metrics {
            Some(metrics) if self.is_call => {
                metrics.count(outcome, duration);
                if let Some(trace) = self.span.as_ref().and_then(|span| span.recorded_trace()) {
                    let now = self.shared.clock.now();
                    metrics.exemplars.duration.note(trace, duration, now);
                }
                metrics
                    .health
                    .ended(HealthEnding::of(status, outcome), duration);
                if !self.guarded.is_nothing() {
                    metrics.guard(&self.guarded);
                }
                if let Some(result) = self.cache {
                    metrics.cache(result);
                }
                if let Some((consumption, cost)) = &consumed {
                    metrics.consume(consumption, *cost);
                }
            }
            // What a client sees is the call that it made; what a hop costs, its tenant pays.
            Some(metrics) if self.parent.is_some() => {
                if let Some((consumption, cost)) = &consumed {
                    metrics.consume(consumption, *cost);
                }
            }
            // The list of models, or a token.
            _ if self.tenant.is_some() => {}
            _ => self.shared.metrics.refuse(outcome),
        }
        let tenant: Option<(TenantId, &Name)> = self
            .tenant
            .as_ref()
            .map(|tenant| (tenant.id(), &tenant.name));
        self.shared.access_log.write(&CallLine {
            at: self.shared.clock.now(),
            request: self.request,
            trace: self.span.as_ref().map(|span| span.trace()),
            tenant,
            key: self.key.as_ref(),
            feature: self.feature.as_ref(),
            model: self.model.as_ref(),
            upstream: self.upstream.as_ref(),
            hop: self.hop,
            parent: self.parent,
            prompt: self.prompt.as_deref(),
            status: status.as_u16(),
            outcome,
            tokens: consumed
                .map(|(consumption, _)| (consumption.input_tokens, consumption.output_tokens)),
            cost: consumed.map(|(_, cost)| cost),
            guarded: self.guarded,
            cache: self.cache,
            duration,
        });
        if let Some(span) = self.span.take() {
            let cost = consumed.map(|(_, cost)| cost);
            self.end_span(span, (status, outcome), cost, duration);
        }
    }

    /// It is a call of a model, whoever makes it.
    pub(super) fn begin_call(&mut self) {
        self.is_call = true;
    }

    /// A caller that is known calls a model: from here on telemetry notes the call.
    pub(super) fn begin_span(&mut self, operation: Operation, arrived: &Arrived, tenant: TenantId) {
        if let Some(telemetry) = &self.shared.telemetry {
            let headers = &arrived.head.headers;
            let span = telemetry.begin(operation, headers, tenant, self.request, arrived.at);
            self.span = Some(span);
        }
    }

    /// A hop of a request: a span below its own.
    pub(super) fn begin_hop_span(&mut self, operation: Operation, parent: Option<TraceContext>) {
        if let Some(telemetry) = &self.shared.telemetry {
            let now = self.shared.clock.now();
            self.span = Some(telemetry.begin_below(parent, operation, self.request, now));
        }
    }

    /// The call's span, if any is noted.
    pub(super) fn span(&mut self) -> Option<&mut CallSpan> {
        self.span.as_deref_mut()
    }

    fn end_span(
        &mut self,
        mut span: Box<CallSpan>,
        (status, outcome): (StatusCode, &'static str),
        cost: Option<PicoUsd>,
        duration: Duration,
    ) {
        let is_answered = matches!(outcome, "completed" | "replayed" | "cached");
        span.end(Ending {
            tenant: self.tenant.as_ref().map(|tenant| tenant.id()),
            feature: self.feature.take(),
            model: self.model.take(),
            upstream: self.upstream.take(),
            cache: self.cache,
            hop: self.hop,
            prompt: self.prompt.take(),
            error: (!is_answered).then_some(outcome),
            status: status.as_u16(),
            cost,
            duration,
        });
        if let Some(telemetry) = &self.shared.telemetry {
            telemetry.record(span);
        }
    }

    /// Probes and public documents leave no line.
    pub(super) fn forget(&mut self) {
        self.is_ended = true;
    }

    /// The first byte of the answer is on its way.
    pub(super) fn first_chunk(&mut self) {
        let after = self.shared.clock.elapsed().saturating_sub(self.arrived);
        if let Some(metrics) = self.metrics.as_ref().filter(|_| self.is_call) {
            metrics.first_chunk(after);
            if let Some(trace) = self.span.as_ref().and_then(|span| span.recorded_trace()) {
                let now = self.shared.clock.now();
                metrics.exemplars.first_chunk.note(trace, after, now);
            }
        }
        if let Some(span) = &mut self.span {
            span.first_chunk(after);
        }
    }

    /// Says the id that the client can name in a ticket, by the name that its SDKs read.
    pub(super) fn name_request(&self, headers: &mut HeaderMap) {
        let id = HeaderValue::from_bytes(&self.request.to_ascii()).expect("an id is ASCII");
        if self.dialect == Dialect::Anthropic {
            headers.insert(ANTHROPIC_REQUEST_ID, id.clone());
        }
        headers.insert(REQUEST_ID, id);
    }

    /// The answer to a request that was refused.
    pub(super) fn refuse(mut self, refusal: &Refusal) -> Response<AnswerBody> {
        let (status, body) = refusal.to_answer(self.dialect, &self.request.to_string());
        let status = StatusCode::from_u16(status).expect("refusals have real statuses");
        self.end(status, refusal.code(), None);
        let mut answer = json_answer(status, body);
        let headers = answer.headers_mut();
        headers.extend(std::mem::take(&mut self.rate_headers));
        self.name_request(headers);
        match refusal.retry() {
            Retry::ByStatus => {}
            Retry::Never => drop(headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"))),
            Retry::After(after) => {
                let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
                let seconds = millis.div_ceil(1_000);
                headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
            }
        }
        answer
    }
}

/// A client that goes away before its answer begins leaves a line too.
impl Drop for Trail {
    fn drop(&mut self) {
        // 499: nginx's status for it, which log readers know.
        self.end(
            StatusCode::from_u16(499).expect("a status"),
            "client_gone",
            None,
        );
    }
}

/// An answer of JSON.
pub(super) fn json_answer(status: StatusCode, body: Bytes) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}
