//! Stage 6, dispatch: the upstream's request is rebuilt from checked values, with the tenant's
//! salt and a forced bound on the output, and sent.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::Deadline;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use ledger::ReleaseReason;
use models::{Json, Operation, OutputLimitField, Raw, Rebuild, stream_options_with_usage};
use tenancy::catalogue::{Engine, TraceContextTo};

use super::admit::Admitted;
use super::again::{Remedy, Setback};
use super::attempt::Attempt;
use super::compile::Compiled;
use super::trail::Trail;
use crate::refusal::Refusal;
use crate::resilience::CallEnd;
use crate::speech::{Speech, spoken_by};
use crate::upstream::{
    AnswerHeaders, Authorization, CallError, UpstreamAnswer, UpstreamBody, UpstreamCall, Visit,
};

/// 64 KiB: an error is a sentence or two.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A longer message is cut: it goes to a client.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// A call that an upstream has accepted.
pub(super) struct Dispatched {
    _made_here: (),
    pub(super) compiled: Box<Compiled>,
    pub(super) attempt: Attempt,
    pub(super) visit: Visit,
    pub(super) answer: UpstreamAnswer,
    pub(super) deadline: Deadline,
}

/// Why a call was not accepted.
pub(super) enum Undispatched {
    /// No upstream works on it: here or elsewhere it may be taken.
    TryNext(Box<Compiled>),
    /// That is the end of it.
    Refused(Refusal),
}

impl From<Refusal> for Undispatched {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Admitted {
    /// Waits for a place, sends the call, and waits for the head of the answer.
    pub(super) async fn dispatch(self, trail: &mut Trail) -> Result<Dispatched, Undispatched> {
        let Self {
            mut compiled,
            mut attempt,
            ..
        } = self;
        let shared = Arc::clone(&compiled.inside.shared);
        let clock = &*shared.clock;
        let deadline = Deadline::after(clock, compiled.time_limit());
        let upstream = Arc::clone(&compiled.target().upstream);
        let first_byte = Duration::from_millis(upstream.spec.timeouts.first_byte_ms);
        let authorization = compiled.own_authorization()?;
        // Before the place: nobody holds one while an adapter is loaded.
        let adapter = match compiled.take_adapter().await {
            Ok(adapter) => adapter,
            Err(setback) => {
                attempt.release(ReleaseReason::NotDispatched);
                return Err(Box::pin(compiled.again(setback)).await);
            }
        };
        let visited = pin!(compiled.visit(trail)).await;
        let mut visit = match visited {
            Ok(visit) => visit,
            Err(setback) => {
                attempt.release(ReleaseReason::NotDispatched);
                return Err(Box::pin(compiled.again(setback)).await);
            }
        };
        visit.keeps(adapter);
        let mut call = UpstreamCall {
            authorization,
            traceparent: trail.span().and_then(|span| {
                span.dispatch(&upstream.provider);
                (upstream.spec.trace_context == TraceContextTo::Told).then(|| span.header())
            }),
            path: compiled.path(),
            headers: compiled.dialect_headers(),
            body: compiled.upstream_body(),
            at: clock.now(),
            first_byte: first_byte.min(deadline.remaining(clock)),
            caller: compiled.caller(),
        };
        let on_send = || {
            attempt.mark_sent();
            visit.sent();
        };
        let called = pin!(upstream.call(&mut call, on_send)).await;
        match called {
            Ok(answer) if answer.status.is_success() => {
                compiled.mark_effect();
                visit.accepted();
                Ok(Dispatched {
                    _made_here: (),
                    compiled,
                    attempt,
                    visit,
                    answer,
                    deadline,
                })
            }
            Ok(answer) if compiled.has_lost_adapter(answer.status) => {
                attempt.release(ReleaseReason::Refused);
                visit.lost_adapter();
                Err(Undispatched::TryNext(compiled))
            }
            Ok(answer) => {
                attempt.release(ReleaseReason::Refused);
                let (status, retry_after) = (answer.status, retry_after(&answer.headers));
                let fault = visit.refused(status, retry_after);
                let setback = Setback {
                    refusal: Box::pin(upstream_refusal(&compiled, answer, retry_after)).await,
                    remedy: Remedy::of(status, fault, retry_after),
                };
                Err(Box::pin(compiled.again(setback)).await)
            }
            Err(error) if error.was_never_sent() => {
                attempt.release(ReleaseReason::Unreachable);
                match error {
                    // As if the upstream itself had refused the credential: nobody else's fault.
                    CallError::NoToken(_) => {
                        let _fault = visit.refused(StatusCode::UNAUTHORIZED, None);
                    }
                    _ => visit.failed(CallEnd::NoConnection),
                }
                tracing::warn!(%error, upstream = %upstream.name, "an upstream was not reached");
                Err(Box::pin(compiled.again(Setback::unsent(&error))).await)
            }
            Err(error) => {
                // It was sent: what it cost is not known, and the attempt says so itself.
                compiled.mark_effect();
                tracing::warn!(%error, upstream = %upstream.name, "a call was not answered");
                drop(attempt);
                let (end, refusal) = match error {
                    CallError::TimedOut => (CallEnd::TimedOut, Refusal::UpstreamTimedOut),
                    _ => (CallEnd::Broken, Refusal::UpstreamFailed),
                };
                visit.failed(end);
                Err(refusal.into())
            }
        }
    }
}

impl Compiled {
    /// Whatever comes next, an upstream may have done the work.
    fn mark_effect(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.mark_effect();
        }
    }

    /// The tenant's own credential, where the target is called with that.
    fn own_authorization(&self) -> Result<Option<Authorization>, Refusal> {
        let target = self.target();
        let Some(secret) = target.credential_of(&self.inside.tenant) else {
            return Ok(None);
        };
        let authorization = Authorization::of(&target.upstream.spec, secret.expose());
        let checked = |own: &Authorization| target.upstream.check_own(own);
        let authorization = authorization.and_then(|own| checked(&own).map(|()| own));
        authorization.map(Some).map_err(|error| {
            tracing::warn!(
                %error,
                tenant = %self.inside.tenant.name,
                upstream = %target.upstream.name,
                "a tenant's credential cannot be sent"
            );
            Refusal::Forbidden(
                "your credential for this model's provider cannot be sent: set it anew",
            )
        })
    }

    /// Where below the target's address the call goes.
    fn path(&self) -> Cow<'static, str> {
        let target = self.target();
        let (spec, model) = (&target.upstream.spec, target.model.as_str());
        let speech = self.said.speech;
        speech.path(self.operation, spec, model, self.call.stream)
    }

    pub(super) fn dialect_headers(&self) -> HeaderMap {
        let spec = &self.target().upstream.spec;
        crate::speech::headers(spec, self.said.speech, &self.headers)
    }

    /// The body for the target: the client's fields, but for those that are ours to say.
    pub(super) fn upstream_body(&self) -> UpstreamBody {
        if let Some(translated) = &self.said.translated {
            return match self.said.speech {
                // Nothing is generated: there is nothing of ours to say.
                Speech::Count(_) => UpstreamBody::of([translated.clone()]),
                _ => self.with_ours(translated),
            };
        }
        let target = self.target();
        let mut rebuild = Rebuild::from(&self.envelope);
        rebuild.set(
            "model",
            Json::of(target.said_model()).expect("a string is JSON"),
        );
        if let Some(source) = target.lorax_source() {
            rebuild.set("adapter_source", source);
        }
        if self.call.generations() > 0 {
            self.force_output_limit(&mut rebuild);
        }
        if self.call.stream && matches!(self.operation, Operation::Chat | Operation::Completion) {
            let (_, flavour) = spoken_by(target.upstream.spec.engine);
            match flavour.takes_stream_options() {
                // Always asked for, so that the stream says what it cost.
                true => rebuild.set("stream_options", stream_options_with_usage(&self.envelope)),
                // It always says so, and may refuse the question.
                false => rebuild.remove("stream_options"),
            };
        }
        if target.upstream.spec.priority_scheduling {
            // vLLM: the lower the earlier, 0 where nobody says anything.
            rebuild.set("priority", Json::from(u64::from(self.band() as u8)));
        }
        if let (Some(field), Some(salt)) = (target.upstream.salt_field(), self.salt()) {
            rebuild.set(field, salt.as_str());
        }
        UpstreamBody::of(rebuild.finish().chunks)
    }

    /// A translated body, an object that is not empty, with its band where the engine schedules by
    /// that, and with where LoRAX finds the adapter.
    fn with_ours(&self, translated: &Bytes) -> UpstreamBody {
        let target = self.target();
        let mut ours = String::new();
        if target.upstream.spec.priority_scheduling {
            ours.push_str(&format!(",\"priority\":{}", self.band() as u8));
        }
        if let Some(source) = target.lorax_source() {
            ours.push_str(&format!(",\"adapter_source\":\"{source}\""));
        }
        match translated.last() {
            Some(b'}') if !ours.is_empty() => {
                ours.push('}');
                let fields = translated.slice(..translated.len() - 1);
                UpstreamBody::of([fields, Bytes::from(ours)])
            }
            _ => UpstreamBody::of([translated.clone()]),
        }
    }

    /// Without a bound on the output there is none on the cost: ours stands where the client's
    /// would.
    fn force_output_limit(&self, rebuild: &mut Rebuild<'_>) {
        let each = self.output_tokens_each();
        let engine = self.target().upstream.spec.engine;
        let asked = self
            .call
            .output_tokens_asked
            .filter(|_| self.origin.is_none());
        let field = match (asked, self.operation, engine) {
            (Some((_, field)), ..) => field,
            // OpenAI's newer models refuse the older name.
            (None, Operation::Chat, Engine::OpenAi) => OutputLimitField::MaxCompletionTokens,
            (None, Operation::Responses, _) => OutputLimitField::MaxOutputTokens,
            _ => OutputLimitField::MaxTokens,
        };
        let (used, other) = match field {
            // Responses know no other name: one that is there was refused.
            OutputLimitField::MaxOutputTokens => ("max_output_tokens", "max_tokens"),
            OutputLimitField::MaxTokens => ("max_tokens", "max_completion_tokens"),
            OutputLimitField::MaxCompletionTokens => ("max_completion_tokens", "max_tokens"),
        };
        rebuild.set(used, each).remove(other);
    }
}

/// How long the upstream asks to be left alone, in seconds or as OpenAI writes it.
fn retry_after(headers: &AnswerHeaders) -> Option<Duration> {
    let number = |name: &str| -> Option<u64> { headers.get_str(name)?.parse().ok() };
    let seconds = || number(RETRY_AFTER.as_str()).map(Duration::from_secs);
    number("retry-after-ms")
        .map(Duration::from_millis)
        .or_else(seconds)
}

/// What a client is told of an upstream's refusal: its own words where the request is at fault,
/// and nothing of them where the installation is.
async fn upstream_refusal(
    compiled: &Compiled,
    answer: UpstreamAnswer,
    retry_after: Option<Duration>,
) -> Refusal {
    let status = answer.status;
    let upstream = &compiled.target().upstream.name;
    let body = Limited::new(answer.body, ERROR_BYTES_MAX).collect();
    let clock = &*compiled.inside.shared.clock;
    let patience = Duration::from_millis(compiled.target().upstream.spec.timeouts.idle_ms);
    let read_by = Deadline::after(clock, patience);
    let body = match tokio::time::timeout(read_by.remaining(clock), body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    match status {
        status if matches!(status.as_u16(), 429 | 503 | 529) => {
            Refusal::UpstreamBusy { retry_after }
        }
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            let message = error_message(&body)
                .unwrap_or_else(|| "the model's server refused the request".into());
            Refusal::UpstreamRefused {
                status: status.as_u16(),
                message,
            }
        }
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Refusal::UpstreamTimedOut,
        _ => {
            tracing::warn!(%upstream, status = status.as_u16(), "an upstream refused a call");
            Refusal::UpstreamFailed
        }
    }
}

/// `error.message` or `message`, in the forms that engines use.
fn error_message(body: &[u8]) -> Option<String> {
    let raw = Raw::new(body);
    let message = raw
        .get("error")
        .and_then(|error| error.get("message").or(Some(error)))
        .or_else(|| raw.get("message"))?;
    let text = message.as_str()?;
    Some(text.chars().take(MESSAGE_CHARS_MAX).collect())
}
