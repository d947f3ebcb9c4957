//! A call that no upstream worked on: elsewhere, once more, or not.
//!
//! Elsewhere comes first: it adds nothing to what any upstream sees. Once more is for all places
//! of the route anew, after a pause, within the tenant's patience and its budget of retries. Each
//! attempt is admitted and held for by itself; the one before has been released.

use std::time::Duration;

use base::Deadline;
use base::Entropy;
use http::StatusCode;
use models::Operation;

use super::admit::Waiting;
use super::compile::Compiled;
use super::dispatch::Undispatched;
use super::terms::patience;
use super::trail::Trail;
use crate::fairness::{EnterError, Refused};
use crate::refusal::Refusal;
use crate::resilience::{CallEnd, Credential, Fault};
use crate::upstream::{
    AtGate, CallError, ConnectError, EgressError, NoVisit, Visit, Visitor, band_of, terms_of,
};

/// 2: three tries in all, as SDKs make.
const PASSES_MAX: u32 = 2;
/// 250 ms, twice as long each time: what a full queue takes to move on. A client that waits for
/// its first token hardly notices.
const BACKOFF: Duration = Duration::from_millis(250);
/// Four bytes of text are a token in most languages, and the bound counts each byte.
const BYTES_PER_TOKEN: u64 = 4;

/// What a call has tried already.
#[derive(Debug)]
pub(super) struct Tries {
    /// How long it may wait, over all of them.
    pub(super) patience: Deadline,
    /// Times that it began its way anew.
    passes: u32,
    /// Whether any upstream was sent it.
    was_sent: bool,
    /// Whether an engine had lost its adapter once.
    pub(super) was_reloaded: bool,
}

impl Tries {
    pub(super) fn new(patience: Deadline) -> Self {
        Self {
            patience,
            passes: 0,
            was_sent: false,
            was_reloaded: false,
        }
    }
}

/// What may be done about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another target may take the call.
    Elsewhere,
    /// And so may this one, after so long if it said so.
    Again(Option<Duration>),
    /// It may have been worked on, or would fail anywhere.
    Nothing,
}

/// An attempt that came to nothing: what the client is told unless there is a remedy.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) refusal: Refusal,
    pub(super) remedy: Remedy,
}

impl Setback {
    /// The gate did not let it in.
    fn at_gate(error: NoVisit) -> Self {
        let refusal = match error {
            NoVisit::Open(open) => Refusal::UpstreamDown {
                retry_after: open.retry_after(),
            },
            NoVisit::Busy(EnterError::Refused(Refused::TenantQueueFull { retry_after })) => {
                Refusal::QueueFull { retry_after }
            }
            NoVisit::Busy(EnterError::Refused(refused)) => Refusal::UpstreamBusy {
                retry_after: Some(refused.retry_after()),
            },
            NoVisit::Busy(EnterError::OutOfPatience { retry_after }) => Refusal::UpstreamBusy {
                retry_after: Some(retry_after),
            },
        };
        Self {
            refusal,
            remedy: Remedy::Elsewhere,
        }
    }

    /// Nothing was sent.
    pub(super) fn unsent(error: &CallError) -> Self {
        let is_lasting = matches!(
            error,
            CallError::NoToken(_)
                | CallError::Connect(
                    ConnectError::Egress(EgressError::NotPublic) | ConnectError::Handshake(_)
                )
        );
        Self {
            refusal: Refusal::UpstreamFailed,
            remedy: match is_lasting {
                true => Remedy::Elsewhere,
                false => Remedy::Again(None),
            },
        }
    }
}

impl Remedy {
    /// What may be done about a refusal with this status, which is this fault.
    pub(super) fn of(status: StatusCode, fault: Fault, retry_after: Option<Duration>) -> Self {
        // 529: "overloaded", as Anthropic answers it. None of these has begun to work.
        match status.as_u16() {
            429 | 503 | 529 if fault.is_worth_a_retry() => Self::Again(retry_after),
            429 | 503 | 529 => Self::Elsewhere,
            _ => Self::Nothing,
        }
    }
}

impl Compiled {
    /// Waits for a place at the target.
    pub(super) async fn visit(&mut self, trail: &mut Trail) -> Result<Visit, Setback> {
        let upstream = std::sync::Arc::clone(&self.target().upstream);
        let entropy = &self.inside.shared.entropy;
        let visitor = self.visitor();
        let visit = match upstream.gate.come(visitor, entropy) {
            Ok(AtGate::In(visit)) => Ok(visit),
            Ok(AtGate::InLine(queued)) => {
                let clock = &*self.inside.shared.clock;
                let _counted = Waiting::count(trail);
                let ahead = queued.place_in_line().map_or(0, |place| place.ahead);
                let since = clock.elapsed();
                let visit = Box::pin(queued.placed()).await;
                let waited = clock.elapsed().saturating_sub(since);
                let metrics = &self.inside.shared.metrics;
                metrics.queued(&upstream.name, waited);
                if let Some(metrics) = &trail.metrics {
                    metrics.queued(ahead, waited);
                }
                visit
            }
            Err(error) => Err(error),
        };
        let visit = visit.map_err(|error| {
            tracing::debug!(%error, upstream = %upstream.name, "a call was not let in");
            Setback::at_gate(error)
        })?;
        if !std::mem::replace(&mut self.tries.was_sent, true) {
            self.inside.runtime.retries.lock().call();
        }
        Ok(visit)
    }

    fn visitor(&self) -> Visitor {
        let tier = &self.inside.tier;
        let bound = self.bound();
        let clock = &*self.inside.shared.clock;
        let has_own = self.target().credential_of(&self.inside.tenant).is_some();
        let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        Visitor {
            tenant: self.inside.tenant.id(),
            terms: terms_of(tier),
            band: self.band(),
            credential: if has_own {
                Credential::Tenant
            } else {
                Credential::Shared
            },
            model: self.route.model.clone(),
            input: small(bound.input_tokens.div_ceil(BYTES_PER_TOKEN)),
            output_max: match self.operation {
                Operation::Embedding
                | Operation::Rerank
                | Operation::Moderation
                | Operation::CountTokens => 1,
                _ => small(bound.output_tokens),
            },
            patience: self.tries.patience.remaining(clock),
        }
    }

    /// How urgent it is: as its tier says, or less so if it says that itself.
    pub(super) fn band(&self) -> crate::fairness::Band {
        let of_tier = band_of(self.inside.tier.priority);
        let asked = self.purpose.priority.map(band_of);
        asked.map_or(of_tier, |asked| asked.max(of_tier))
    }

    /// When the tenant's patience with a call that arrives now ends.
    pub(super) fn patience_of(inside: &super::resolve::Inside) -> Deadline {
        let tier = &inside.tier;
        Deadline::after(&*inside.shared.clock, patience(tier))
    }

    /// What comes after an attempt that was released.
    pub(super) async fn again(mut self: Box<Self>, setback: Setback) -> Undispatched {
        let Setback { refusal, remedy } = setback;
        if remedy == Remedy::Nothing {
            return refusal.into();
        }
        if self.next_target() {
            // Whoever comes next has not seen the call, unless it goes around once more.
            return match self.tries.passes == 0 || self.take_retry() {
                true => Undispatched::TryNext(self),
                false => refusal.into(),
            };
        }
        let Remedy::Again(asked) = remedy else {
            return refusal.into();
        };
        let shared = std::sync::Arc::clone(&self.inside.shared);
        let pause = asked.unwrap_or_else(|| backoff(self.tries.passes, &*shared.entropy));
        let left = self.tries.patience.remaining(&*shared.clock);
        if self.tries.passes >= PASSES_MAX || pause > left || !self.take_retry() {
            return refusal.into();
        }
        tokio::time::sleep(pause).await;
        self.tries.passes += 1;
        match self.first_target() {
            Ok(()) => Undispatched::TryNext(self),
            Err(refusal) => refusal.into(),
        }
    }

    fn take_retry(&self) -> bool {
        let retry = self.inside.runtime.retries.lock().take();
        retry.is_some()
    }
}

/// From half of the pause to all of it, so that those who were refused together do not come back
/// together.
fn backoff(passes: u32, entropy: &dyn Entropy) -> Duration {
    let most = BACKOFF * 2_u32.saturating_pow(passes);
    let half = most / 2;
    half + half.mul_f64((entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// How an answer that broke off ended, as the breakers count it.
pub(super) fn broken_end(refusal: &Refusal) -> CallEnd {
    match refusal {
        Refusal::UpstreamTimedOut => CallEnd::TimedOut,
        Refusal::UpstreamFailed => CallEnd::Broken,
        // The process is full, or the call ran for as long as it may.
        _ => CallEnd::Abandoned,
    }
}

#[cfg(test)]
mod tests {
    use base::SeededEntropy;

    use super::*;
    use crate::resilience::classify;

    const SECOND: Duration = Duration::from_secs(1);

    fn remedy(status: u16, credential: Credential) -> Remedy {
        let status = StatusCode::from_u16(status).expect("a status");
        let fault = classify(CallEnd::Answered(status), credential);
        Remedy::of(status, fault, Some(SECOND))
    }

    #[test]
    fn only_what_was_refused_before_any_work_is_made_again() {
        for status in [429, 503, 529] {
            let again = Remedy::Again(Some(SECOND));
            assert_eq!(remedy(status, Credential::Shared), again, "{status}");
        }
        for status in [400, 401, 404, 408, 500, 502, 504] {
            assert_eq!(remedy(status, Credential::Shared), Remedy::Nothing);
        }
        // Its own quota will not be back in a moment.
        assert_eq!(remedy(429, Credential::Tenant), Remedy::Elsewhere);
    }

    #[test]
    fn who_is_not_let_in_is_told_why_and_when() {
        let own = NoVisit::from(Refused::TenantQueueFull {
            retry_after: 7 * SECOND,
        });
        let own = Setback::at_gate(own);
        let retry_after = 7 * SECOND;
        assert_eq!(own.refusal, Refusal::QueueFull { retry_after });
        assert_eq!(own.remedy, Remedy::Elsewhere);
        let long = NoVisit::from(Refused::TooLong {
            expected: 9 * SECOND,
            retry_after,
        });
        let busy = Refusal::UpstreamBusy {
            retry_after: Some(retry_after),
        };
        assert_eq!(Setback::at_gate(long).refusal, busy);
    }

    #[test]
    fn pauses_double_and_differ() {
        let entropy = SeededEntropy::new(1);
        let pauses: Vec<Duration> = (0..100).map(|_| backoff(1, &entropy)).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| (BACKOFF..=2 * BACKOFF).contains(pause))
        );
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
