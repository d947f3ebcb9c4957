//! Stage 7, meter: what the answer consumed is counted and settled once, whichever way it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::{Deadline, ModelName, PicoUsd};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ledger::{Consumption, ConsumptionBound, Metering, Outcome};
use models::Usage;

use super::again::broken_end;
use super::answer::AnswerBody;
use super::compile::Compiled;
use super::dispatch::Dispatched;
use super::trail::{JSON, Trail};
use super::whole_answer::{Read, read_answer};
use crate::inspect::Inspector;
use crate::refusal::Refusal;
use crate::resilience::CallEnd;
use crate::upstream::AnswerHeaders;

pub(super) const COST: HeaderName = HeaderName::from_static("partywall-cost");
const DOWNGRADED_FROM: HeaderName = HeaderName::from_static("partywall-downgraded-from");
pub(super) const EVENT_STREAM: HeaderValue =
    HeaderValue::from_static("text/event-stream; charset=utf-8");

/// What of an upstream's head goes on to a client.
fn passed_on(name: &[u8]) -> Option<&'static HeaderName> {
    static PASSED_ON: [HeaderName; 3] = [
        HeaderName::from_static("openai-processing-ms"),
        HeaderName::from_static("openai-version"),
        HeaderName::from_static("openai-model"),
    ];
    let is_named = |known: &&HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
    PASSED_ON.iter().find(is_named)
}

impl Dispatched {
    /// Answers the client, and settles.
    pub(super) async fn meter(self, trail: &mut Trail) -> Result<Response<AnswerBody>, Refusal> {
        let mut headers = self.headers(trail);
        if self.compiled.call.stream && is_stream(&self.answer.headers) {
            return Box::pin(self.begin_stream(trail, headers)).await;
        }
        let Self {
            mut compiled,
            mut attempt,
            mut visit,
            answer,
            deadline,
            ..
        } = self;
        let shared = Arc::clone(&compiled.inside.shared);
        let clock = &*shared.clock;
        let idle = Duration::from_millis(compiled.target().upstream.spec.timeouts.idle_ms);
        let limit = compiled.answer_bytes_max();
        let in_flight = &shared.in_flight;
        let read = pin!(read_answer(
            answer.body,
            deadline,
            idle,
            limit,
            in_flight,
            clock
        ));
        let (body, _held) = match read.await {
            Ok(read) => read,
            Err(refusal) => {
                visit.broke(broken_end(&refusal));
                drop(attempt);
                return Err(refusal);
            }
        };
        let images = compiled.call.image_count;
        let bound = attempt.bound;
        attempt.read_name(&body);
        let read = compiled.read(body, trail.request, bound.input_tokens);
        let Ok(Read {
            body,
            usage,
            requests,
        }) = read
        else {
            visit.broke(CallEnd::Broken);
            drop(attempt);
            return Err(Refusal::UpstreamFailed);
        };
        let (mut consumption, metering) = match usage {
            Some(usage) => {
                if let Some(span) = trail.span() {
                    span.consume(&usage);
                    span.name_model(attempt.served());
                    span.read_answer(&body);
                }
                (reported(&usage, images), Metering::Reported)
            }
            None => (uncounted(&bound), Metering::Counted),
        };
        consumption.requests = requests.unwrap_or(consumption.requests);
        visit.took(consumption.input_tokens, consumption.output_tokens);
        if metering == Metering::Reported {
            visit.teach(consumption.output_tokens);
        }
        // The next call need not wait for our disk.
        drop(visit);
        // The intent first: then bytes may go out, whatever happens to us after (invariant 7).
        attempt.durable().await?;
        let cost = attempt.settle(consumption, Outcome::Completed, metering);
        let paid = (consumption, cost);
        let body = match compiled.inspector.take() {
            Some(inspector) => {
                let inspected = compiled.inspect_answer(inspector, body, deadline, trail, paid);
                Box::pin(inspected).await?
            }
            None => body,
        };
        let body = compiled.keep_answer(body, consumption).await;
        trail.first_chunk();
        trail.end(StatusCode::OK, "completed", Some(paid));
        if let Ok(cost) = HeaderValue::from_str(cost.to_text().as_str()) {
            headers.insert(COST, cost);
        }
        headers.insert(CONTENT_TYPE, JSON);
        let mut response = Response::new(AnswerBody::full(body));
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The head of the answer: ours, and what is listed of the upstream's.
    fn headers(&self, trail: &mut Trail) -> HeaderMap {
        let mut headers = std::mem::take(&mut trail.rate_headers);
        trail.name_request(&mut headers);
        for (name, value) in self.answer.headers.iter() {
            if let Some(name) = passed_on(name)
                && let Ok(value) = HeaderValue::from_bytes(value)
                && !headers.contains_key(name)
            {
                headers.insert(name, value);
            }
        }
        if let Some(model) = &self.compiled.downgraded_from {
            tell_downgrade(&mut headers, model);
        }
        self.compiled.caching.head(&mut headers);
        headers
    }
}

impl Compiled {
    /// The answer as the tenant's guardrails let it through.
    async fn inspect_answer(
        &mut self,
        mut inspector: Box<Inspector>,
        body: Bytes,
        deadline: Deadline,
        trail: &mut Trail,
        paid: (Consumption, PicoUsd),
    ) -> Result<Bytes, Refusal> {
        let hops = self.hops.take().map(|hops| hops.until(deadline));
        // It is paid for: it may wait for as long as the call may take.
        let left = deadline.remaining(&*self.inside.shared.clock);
        let queue = self.inside.inspection_queue(left);
        let inspected = inspector
            .answer(self.operation, &body, hops.as_ref(), &queue)
            .await;
        trail.guarded = inspector.noted;
        match inspected {
            Ok(rewritten) => Ok(rewritten.unwrap_or(body)),
            Err(refusal) => {
                trail.end(refusal.status(), refusal.code(), Some(paid));
                Err(refusal)
            }
        }
    }

    /// The answer as the client has it, kept wherever its tenant wants it kept.
    async fn keep_answer(&mut self, mut body: Bytes, consumption: Consumption) -> Bytes {
        if let Some(renaming) = self.renaming() {
            body = renaming.apply(body);
        }
        if let Some(response) = self.response.take() {
            body = Box::pin(response.keep(&self.inside, body)).await;
        }
        // What came whole though a stream was asked for is not what the next call wants.
        let keeping = self.caching.take_keeping();
        if let Some(keeping) = keeping.filter(|_| !self.call.stream) {
            keeping.keep(&body, consumption);
        }
        if let Some(bodies) = self.bodies.take() {
            bodies.finish(body.clone());
        }
        if let Some(recording) = self.recording.take() {
            Box::pin(recording.finish(&JSON, &body)).await;
        }
        body
    }
}

/// Says in an answer's head which model was asked for.
pub(super) fn tell_downgrade(headers: &mut HeaderMap, from: &ModelName) {
    if let Ok(model) = HeaderValue::from_str(from.as_str()) {
        headers.insert(DOWNGRADED_FROM, model);
    }
}

/// As most stream, or as AWS does.
fn is_stream(headers: &AnswerHeaders) -> bool {
    headers.get(CONTENT_TYPE.as_str()).is_some_and(|value| {
        value.starts_with(b"text/event-stream")
            || value.starts_with(b"application/vnd.amazon.eventstream")
    })
}

/// What the upstream says that it consumed.
pub(super) fn reported(usage: &Usage, images: u32) -> Consumption {
    Consumption {
        input_tokens: usage.input_tokens,
        cached_read_tokens: usage.cached_read_tokens,
        cached_write_tokens: usage.cached_write_tokens,
        cached_write_1h_tokens: usage.cached_write_1h_tokens,
        output_tokens: usage.output_tokens,
        images,
        requests: 1,
    }
}

/// An upstream that says nothing is taken to have done all that it might.
fn uncounted(bound: &ConsumptionBound) -> Consumption {
    Consumption {
        input_tokens: bound.input_tokens,
        output_tokens: bound.output_tokens,
        images: bound.images,
        requests: bound.requests,
        ..Consumption::default()
    }
}
