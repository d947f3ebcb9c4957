//! An answer that streams: it is counted on its way to the client, and settled once, whichever way
//! it ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use ledger::{Consumption, ConsumptionBound, Metering, Outcome};
use models::OutputCount;
use tokio::time::{Instant, Sleep};

use super::again::broken_end;
use super::answer::{AnswerBody, AnswerCut};
use super::attempt::Attempt;
use super::bodies::BodyTaking;
use super::caching::Keeping;
use super::dispatch::Dispatched;
use super::flow::{Broken, Flow, Passed};
use super::hop::Hops;
use super::idempotency::Recording;
use super::meter::{EVENT_STREAM, reported};
use super::resolve::Inside;
use super::responses::ResponseState;
use super::served::PIECES_MAX;
use super::trail::Trail;
use crate::inspect::{InspectedStream, Looked, Reached, StreamEnd};
use crate::refusal::Refusal;
use crate::speech::dialect_of;
use crate::upstream::{AnswerStream, Visit};

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

impl Dispatched {
    /// Answers with a stream, once the intent is durable.
    pub(super) async fn begin_stream(
        self,
        trail: &mut Trail,
        mut headers: HeaderMap,
    ) -> Result<Response<AnswerBody>, Refusal> {
        self.attempt.durable().await?;
        let Self {
            mut compiled,
            attempt,
            visit,
            answer,
            deadline,
            ..
        } = self;
        let caching = compiled.caching.take_keeping();
        let idle = Duration::from_millis(compiled.target().upstream.spec.timeouts.idle_ms);
        let images = compiled.call.image_count;
        let shared = Arc::clone(&compiled.inside.shared);
        let flow = compiled.flow(trail.request, attempt.bound.output_tokens)?;
        let keeping = compiled
            .response
            .map(|response| (response, Arc::clone(&compiled.inside)));
        let inspector = compiled.inspector;
        let dialect = dialect_of(compiled.operation);
        let hops = compiled
            .hops
            .map(|hops| hops.until(deadline).in_its_place());
        let inspected =
            inspector.and_then(|inspector| InspectedStream::new(dialect, *inspector, hops));
        let recording = compiled.recording;
        let bodies = compiled.bodies;
        let remaining = deadline.remaining(&*shared.clock);
        let stream = MeteredStream {
            upstream: Some(answer.body),
            flow,
            inspected: inspected.map(|stream| Looking::Through(Box::new(stream))),
            attempt: Some(attempt),
            visit: Some(visit),
            trail: trail.hand_over(),
            recording,
            caching,
            keeping,
            bodies,
            images,
            is_first: true,
            nameless_pieces: 0,
            ended: None,
            idle,
            last_piece: Instant::now(),
            cut_at: Instant::now() + remaining,
            timer: Box::pin(tokio::time::sleep(idle.min(remaining))),
        };
        headers.insert(CONTENT_TYPE, EVENT_STREAM);
        headers.insert(CACHE_CONTROL, NO_CACHE);
        let mut response = Response::new(AnswerBody::metered(stream));
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A stream on its way to a client. It owns the call's hold: it settles at the end, at a cut or
/// at a disconnect, whichever comes first.
#[derive(Debug)]
pub(super) struct MeteredStream {
    upstream: Option<AnswerStream>,
    flow: Flow,
    /// The guardrails that look through it, if any does.
    inspected: Option<Looking>,
    attempt: Option<Attempt>,
    /// Its place at the upstream, until it has settled.
    visit: Option<Visit>,
    trail: Trail,
    recording: Option<Recording>,
    /// Where it goes to be given again, once it is complete.
    caching: Option<Box<Keeping>>,
    /// The response that it is, and whose.
    keeping: Option<(Box<ResponseState>, Arc<Inside>)>,
    /// What of it is kept for people to look at, if its tenant has that.
    bodies: Option<Box<BodyTaking>>,
    images: u32,
    is_first: bool,
    /// So many have not said what the upstream calls the model.
    nameless_pieces: u8,
    ended: Option<Ended>,
    idle: Duration,
    last_piece: Instant,
    cut_at: Instant,
    /// Fires when the stream might be idle too long; armed anew only then, not at each piece.
    timer: Pin<Box<Sleep>>,
}

/// Guardrails over a stream.
enum Looking {
    Through(Box<InspectedStream<Hops>>),
    /// Somebody is asked about a piece; then it goes on like this.
    Asking(Pin<Box<dyn Future<Output = Looked<Hops>> + Send>>, Then),
}

impl std::fmt::Debug for Looking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Through(stream) => stream.fmt(f),
            Self::Asking(_, then) => f.debug_tuple("Asking").field(then).finish(),
        }
    }
}

/// What comes after a piece that was looked through.
#[derive(Debug, Default)]
struct Then {
    broken: Option<Broken>,
    reached: Reached,
}

/// What nobody has to be asked for is there at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("only who asks somebody waits: see `InspectedStream::asks`"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Nothing more comes.
    Whole,
    /// The error frame was handed over. hyper writes out what it has once nothing is ready, and
    /// drops it on an error: so first nothing is.
    Cutting,
    /// The connection closes.
    Cut,
}

impl MeteredStream {
    pub(super) fn has_ended(&self) -> bool {
        self.ended == Some(Ended::Whole)
    }

    /// The next bytes for the client.
    pub(super) fn poll_piece(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerCut>>> {
        loop {
            match self.ended {
                Some(Ended::Whole) => return Poll::Ready(None),
                Some(Ended::Cutting) => {
                    self.ended = Some(Ended::Cut);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Ended::Cut) => {
                    self.ended = Some(Ended::Whole);
                    return Poll::Ready(Some(Err(AnswerCut)));
                }
                None => {}
            }
            if let Some(Looking::Asking(..)) = &self.inspected {
                match self.poll_asking(context) {
                    Poll::Ready(Some(piece)) => return Poll::Ready(Some(Ok(self.given(piece)))),
                    Poll::Ready(None) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let Some(upstream) = &mut self.upstream else {
                self.ended = Some(Ended::Whole);
                return Poll::Ready(None);
            };
            let piece = match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.pass_on(data),
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(%error, "a stream was cut by its upstream");
                    Some(self.cut(&Refusal::UpstreamFailed))
                }
                Poll::Ready(None) => self.finish(),
                Poll::Pending => match self.poll_timer(context) {
                    Poll::Ready(()) => Some(self.cut(&Refusal::UpstreamTimedOut)),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(piece) = piece {
                return Poll::Ready(Some(Ok(self.given(piece))));
            }
        }
    }

    /// Notes what the client is given.
    fn given(&mut self, piece: Bytes) -> Bytes {
        if let Some((response, inside)) = &mut self.keeping {
            response.see(&piece, inside);
        }
        if let Some(recording) = &mut self.recording {
            recording.add(&piece);
        }
        if let Some(caching) = &mut self.caching {
            caching.see(&piece);
        }
        if let Some(bodies) = &mut self.bodies {
            bodies.see(&piece);
        }
        piece
    }

    /// Ready once the stream has been idle, or has run, for too long.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let due = (self.last_piece + self.idle).min(self.cut_at);
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Counts what arrived together and gives what of it goes to the client. Where the stream has
    /// to end, so much as came before goes on, and the error behind it.
    fn pass_on(&mut self, chunk: Bytes) -> Option<Bytes> {
        let now = Instant::now();
        let gap = now - std::mem::replace(&mut self.last_piece, now);
        if std::mem::take(&mut self.is_first) {
            self.trail.first_chunk();
        } else if let Some(span) = self.trail.span() {
            span.next_chunk(gap);
        }
        if self.nameless_pieces < PIECES_MAX
            && let Some(attempt) = &mut self.attempt
        {
            self.nameless_pieces = attempt.read_name_of_stream(&chunk, self.nameless_pieces);
            if let Some(span) = self.trail.span() {
                span.name_model(attempt.served());
            }
        }
        let Passed { piece, broken } = self.flow.feed(chunk, self.trail.span());
        if let Some(visit) = &mut self.visit {
            visit.streamed(self.flow.counted().output_tokens_estimate());
        }
        self.look(piece, broken, Reached::Middle)
    }

    /// The upstream's stream ended by itself.
    fn finish(&mut self) -> Option<Bytes> {
        self.upstream = None;
        let Passed { piece, broken } = self.flow.finish(self.trail.span());
        self.look(piece, broken, Reached::End)
    }

    /// What of a piece goes to the client, at once if nobody has to be asked about it.
    fn look(&mut self, piece: Bytes, broken: Option<Broken>, reached: Reached) -> Option<Bytes> {
        let Some(Looking::Through(stream)) = self.inspected.take() else {
            return self.go_on(piece, broken, reached);
        };
        // A stream that breaks off has no end to look through.
        let to = match broken {
            Some(_) => Reached::Middle,
            None => reached,
        };
        if stream.asks() {
            self.trail.guarded = stream.noted();
            let then = Then { broken, reached };
            self.inspected = Some(Looking::Asking(Box::pin(stream.look(piece, to)), then));
            return None;
        }
        let looked = at_once(stream.look(piece, to));
        self.looked(looked, Then { broken, reached })
    }

    /// Waits until somebody who was asked about a piece has answered, for as long as the stream has.
    fn poll_asking(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(Looking::Asking(asking, then)) = &mut self.inspected else {
            return Poll::Ready(None);
        };
        match asking.as_mut().poll(context) {
            Poll::Ready(looked) => {
                let then = std::mem::take(then);
                self.last_piece = Instant::now();
                Poll::Ready(self.looked(looked, then))
            }
            Poll::Pending => {
                // It is we who are slow, not the upstream.
                self.last_piece = Instant::now();
                match self.poll_timer(context) {
                    Poll::Ready(()) => {
                        self.inspected = None;
                        Poll::Ready(Some(self.cut(&Refusal::UpstreamTimedOut)))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    /// Goes on with what was looked through. What ends the stream is the error, with what goes
    /// before it.
    fn looked(&mut self, looked: Looked<Hops>, then: Then) -> Option<Bytes> {
        let Looked {
            stream,
            mut out,
            end,
        } = looked;
        self.inspected = Some(Looking::Through(stream));
        let frame = match end {
            Ok(()) => return self.go_on(out.freeze(), then.broken, then.reached),
            Err(StreamEnd::Refused(refusal)) => self.cut_as(&refusal, Outcome::Cut),
            Err(StreamEnd::Unreadable) => {
                tracing::warn!("a stream is cut: what it says cannot be looked through");
                self.cut(&Refusal::UpstreamFailed)
            }
        };
        out.extend_from_slice(&frame);
        Some(out.freeze())
    }

    /// Gives a piece to the client, and ends the stream if that was all.
    fn go_on(&mut self, piece: Bytes, broken: Option<Broken>, reached: Reached) -> Option<Bytes> {
        if let Some(broken) = broken {
            return Some(self.end_broken(&piece, &broken));
        }
        if reached == Reached::End {
            let consumption = self.settle(Outcome::Completed, "completed");
            if let Some(bodies) = &mut self.bodies {
                bodies.complete();
            }
            if let (Some(mut caching), Some(consumption)) = (self.caching.take(), consumption) {
                caching.see(&piece);
                caching.keep_streamed(consumption);
            }
            if let Some(mut recording) = self.recording.take() {
                recording.add(&piece);
                recording.finish_later(EVENT_STREAM);
            }
            self.ended = Some(Ended::Whole);
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// Ends a stream that cannot go on, after what the client is to have of it.
    fn end_broken(&mut self, piece: &[u8], broken: &Broken) -> Bytes {
        tracing::warn!(error = %broken, "a stream is cut");
        let mut last = BytesMut::from(piece);
        let frame = self.cut(&Refusal::UpstreamFailed);
        if *broken != Broken::Told {
            last.extend_from_slice(&frame);
        }
        last.freeze()
    }

    /// Ends the stream with an error frame, which SDKs raise, and closes the connection.
    fn cut(&mut self, refusal: &Refusal) -> Bytes {
        self.cut_as(refusal, Outcome::UpstreamFailed)
    }

    fn cut_as(&mut self, refusal: &Refusal, outcome: Outcome) -> Bytes {
        self.upstream = None;
        self.ended = Some(Ended::Cutting);
        // A guardrail's word is nobody's fault, and neither is that it ran for as long as any call
        // may.
        let is_over = outcome != Outcome::UpstreamFailed || Instant::now() >= self.cut_at;
        if let Some(visit) = self.visit.as_mut().filter(|_| !is_over) {
            visit.broke(broken_end(refusal));
        }
        self.settle(outcome, refusal.code());
        let request = self.trail.request.to_string();
        self.trail
            .dialect
            .error_frame(&refusal.to_wire(), Some(&request))
    }

    /// Returns what it consumed, the first time.
    fn settle(&mut self, outcome: Outcome, said: &'static str) -> Option<Consumption> {
        let attempt = self.attempt.take()?;
        if let Some(Looking::Through(stream)) = &self.inspected {
            self.trail.guarded = stream.noted();
        }
        let counted = self.flow.counted();
        let (consumption, metering) = match self.flow.usage() {
            Some(mut usage) => {
                // Anthropic says the input first and the output last: of an answer that was cut,
                // what was counted may be the larger.
                let mut metering = Metering::Reported;
                let seen = counted.output_tokens_estimate();
                let seen = seen.min(attempt.bound.output_tokens);
                if !self.flow.is_complete() && seen > usage.output_tokens {
                    usage.output_tokens = seen;
                    metering = Metering::Counted;
                }
                if let Some(span) = self.trail.span() {
                    span.consume(&usage);
                }
                (reported(&usage, self.images), metering)
            }
            None => (count(&attempt.bound, &counted), Metering::Counted),
        };
        if let Some(mut visit) = self.visit.take() {
            visit.took(consumption.input_tokens, consumption.output_tokens);
            if outcome == Outcome::Completed && metering == Metering::Reported {
                visit.teach(consumption.output_tokens);
            }
        }
        let cost = attempt.settle(consumption, outcome, metering);
        self.trail
            .end(StatusCode::OK, said, Some((consumption, cost)));
        Some(consumption)
    }
}

/// What was counted while it streamed: the output by its chunks, the input by its bound.
fn count(bound: &ConsumptionBound, count: &OutputCount) -> Consumption {
    Consumption {
        input_tokens: bound.input_tokens,
        output_tokens: count.output_tokens_estimate().min(bound.output_tokens),
        images: bound.images,
        requests: bound.requests,
        ..Consumption::default()
    }
}

/// The client went away: what it was sent is settled, and dropping the upstream's body cancels
/// the rest.
impl Drop for MeteredStream {
    fn drop(&mut self) {
        self.upstream = None;
        self.settle(Outcome::ClientGone, "client_gone");
        if let Some(bodies) = self.bodies.take() {
            bodies.finish_streamed();
        }
    }
}
