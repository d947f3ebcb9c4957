//! A hop: a call of a model that the gateway makes on the way of a client's request, because the
//! tenant's configuration wants one: a guardrail asks a moderation, a cache embeds a question.
//!
//! It is a call of the same tenant, by the same scope (shared with its parent, never made anew),
//! and passes through the same stages: compiled, admitted under every limit and budget of the
//! parent's caller, dispatched with the salt through the fair queue and the breakers, metered and
//! settled. The ledger has a line of its own for it, which names its parent. A hop makes no hops.
//! Whoever drops the parent drops its hops.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Deadline, ModelName, RequestId};
use bytes::Bytes;
use http::StatusCode;
use ledger::Hop;
use models::Operation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::compile::Compiled;
use super::dispatch::Undispatched;
use super::resolve::Inside;
use super::session::Purpose;
use super::trail::Trail;
use crate::guard::Moderated;
use crate::refusal::Refusal;
use crate::telemetry::TraceContext;

/// 256 of one request: a long streamed answer that four checks look through, piece by piece.
const HOPS_MAX: u32 = 256;
/// 30 s for one: somebody waits for the answer behind it.
const HOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Two minutes for all that come before the request's own dispatch, which then sets the time.
const HOPS_TIME_MAX: Duration = Duration::from_secs(120);
/// 8 MiB: sixty-four embeddings of 4,096 dimensions are some 4 MiB of digits.
const HOP_ANSWER_BYTES_MAX: u64 = 8 << 20;
/// 64 texts in one call: more are several calls.
const BATCH_TEXTS_MAX: usize = 64;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What makes the hops of one request. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Hops {
    inside: Arc<Inside>,
    purpose: Purpose,
    parent: RequestId,
    /// The parent's place in its trace, for theirs.
    span: Option<TraceContext>,
    until: Deadline,
    place: ParentPlace,
    left: Arc<AtomicU32>,
}

/// Whether the parent has its own place among the tenant's calls in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentPlace {
    /// It is not admitted yet, or has settled: its hops take places of their own.
    None,
    /// It streams: its hops are made one after the other in its place.
    Held,
}

/// Whose hop a call is.
#[derive(Debug)]
pub(super) struct HopOrigin {
    pub(super) parent: RequestId,
    pub(super) hop: Hop,
    pub(super) until: Deadline,
    pub(super) place: ParentPlace,
}

/// Why there is no answer to a hop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HopError {
    /// The request has made as many as one may.
    #[error("the request has made {HOPS_MAX} hops, and no more are made")]
    TooMany,
    /// Its time is over, or its parent's.
    #[error("the hop took too long")]
    Late,
    /// A stage refused it; the refusal is the client's to know if the hop was all that mattered.
    #[error("the hop was refused: {}", .0.code())]
    Refused(Refusal),
    /// The model's answer is not what this operation answers.
    #[error("the hop's answer cannot be read")]
    Unreadable,
}

impl Hops {
    /// For a request that is not admitted yet.
    pub(super) fn of(inside: &Arc<Inside>, purpose: &Purpose, trail: &mut Trail) -> Self {
        Self {
            inside: Arc::clone(inside),
            purpose: purpose.clone(),
            parent: trail.request,
            span: trail.span().map(|span| span.context()),
            until: Deadline::after(&*inside.shared.clock, HOPS_TIME_MAX),
            place: ParentPlace::None,
            left: Arc::new(AtomicU32::new(HOPS_MAX)),
        }
    }

    /// The same, once the request's own deadline is known.
    pub(super) fn until(mut self, deadline: Deadline) -> Self {
        self.until = deadline;
        self
    }

    /// The same, while the request has its place among the calls in flight.
    pub(super) fn in_its_place(mut self) -> Self {
        self.place = ParentPlace::Held;
        self
    }

    /// The tenant that they act in.
    pub(super) fn inside(&self) -> &Arc<Inside> {
        &self.inside
    }

    /// Embeds texts: as many vectors as texts, in their order.
    ///
    /// # Errors
    ///
    /// [`HopError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it abandons the call under way, which settles as any cancelled call does.
    pub(crate) async fn embed(
        &self,
        hop: Hop,
        model: &ModelName,
        texts: &[&str],
    ) -> Result<Vec<Vec<f32>>, HopError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH_TEXTS_MAX) {
            let body = json!({"model": model, "input": batch});
            let answer = self.call(hop, Operation::Embedding, &body).await?;
            vectors.extend(read_vectors(&answer, batch.len())?);
        }
        Ok(vectors)
    }

    /// Moderates texts: as many results as texts, in their order.
    ///
    /// # Errors
    ///
    /// [`HopError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Hops::embed`].
    pub(crate) async fn moderate(
        &self,
        model: &ModelName,
        texts: &[&str],
    ) -> Result<Vec<Moderated>, HopError> {
        let mut results = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH_TEXTS_MAX) {
            let body = json!({"model": model, "input": batch});
            let answer = self.call(Hop::Guard, Operation::Moderation, &body).await?;
            let moderated: Moderations =
                serde_json::from_slice(&answer).map_err(|_| HopError::Unreadable)?;
            if moderated.results.len() != batch.len() {
                return Err(HopError::Unreadable);
            }
            results.extend(moderated.results);
        }
        Ok(results)
    }

    /// Completes a chat of a system and a user message at temperature zero: what the answer says.
    ///
    /// # Errors
    ///
    /// [`HopError`].
    ///
    /// # Cancel safety
    ///
    /// As [`Hops::embed`].
    pub(crate) async fn complete(
        &self,
        hop: Hop,
        model: &ModelName,
        [system, user]: [&str; 2],
        output_tokens_max: u32,
    ) -> Result<String, HopError> {
        let body = json!({
            "model": model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user},
            ],
            "temperature": 0,
            "max_tokens": output_tokens_max,
        });
        let answer = self.call(hop, Operation::Chat, &body).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| HopError::Unreadable)?;
        let said = answer.pointer("/choices/0/message/content");
        let said = said.and_then(Value::as_str);
        said.map(str::to_owned).ok_or(HopError::Unreadable)
    }

    /// Makes one call. On the heap, since the stages that make it are its own, too.
    fn call<'a>(
        &'a self,
        hop: Hop,
        operation: Operation,
        body: &Value,
    ) -> Boxed<'a, Result<Bytes, HopError>> {
        let body = Bytes::from(body.to_string());
        Box::pin(async move {
            let take = |left: u32| left.checked_sub(1);
            let taken = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            taken.map_err(|_| HopError::TooMany)?;
            let clock = &*self.inside.shared.clock;
            let until = self.until.at_most(clock, HOP_TIME_MAX);
            let mut trail = self.trail(hop, operation);
            let origin = HopOrigin {
                parent: self.parent,
                hop,
                until,
                place: self.place,
            };
            let stages = self.stages(origin, operation, body, &mut trail);
            match tokio::time::timeout(until.remaining(clock), stages).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(refusal)) => {
                    trail.end(refusal.status(), refusal.code(), None);
                    Err(HopError::Refused(refusal))
                }
                Err(_) => {
                    trail.end(StatusCode::GATEWAY_TIMEOUT, "hop_timeout", None);
                    Err(HopError::Late)
                }
            }
        })
    }

    /// The stages that the parent's call has before it too, but for its caller, who is known.
    async fn stages(
        &self,
        origin: HopOrigin,
        operation: Operation,
        body: Bytes,
        trail: &mut Trail,
    ) -> Result<Bytes, Refusal> {
        let mut compiled = origin.compile(&self.inside, &self.purpose, operation, body, trail)?;
        loop {
            let admitted = compiled.admit(trail).await?;
            match admitted.dispatch(trail).await {
                Ok(dispatched) => {
                    let answer = dispatched.meter(trail).await?;
                    let whole = answer.into_body().into_whole();
                    return whole.ok_or(Refusal::UpstreamFailed);
                }
                Err(Undispatched::TryNext(next)) => compiled = next,
                Err(Undispatched::Refused(refusal)) => return Err(refusal),
            }
        }
    }

    /// A line, a span and figures of its own.
    fn trail(&self, hop: Hop, operation: Operation) -> Trail {
        let inside = &self.inside;
        let mut trail = Trail::begin(&inside.shared);
        trail.parent = Some(self.parent);
        trail.hop = hop;
        trail.tenant = Some(Arc::clone(&inside.tenant));
        trail.metrics = Some(Arc::clone(&inside.runtime.metrics));
        trail.key = inside.scope.grant().key().map(|key| key.name.clone());
        trail.feature = Some(self.purpose.feature.clone());
        trail.begin_hop_span(operation, self.span);
        if let Some(span) = trail.span() {
            span.identify(inside.scope.grant().key_id());
        }
        trail
    }
}

impl Compiled {
    /// What the call is for.
    pub(super) fn hop(&self) -> Hop {
        match (&self.origin, self.operation) {
            (Some(origin), _) => origin.hop,
            (None, Operation::Embedding) => Hop::Embed,
            (None, Operation::Rerank) => Hop::Rerank,
            // A client that asks a moderation guards something, whatever that is.
            (None, Operation::Moderation) => Hop::Guard,
            (
                None,
                Operation::Chat
                | Operation::Completion
                | Operation::Messages
                | Operation::CountTokens
                | Operation::Responses,
            ) => Hop::Generate,
        }
    }

    /// The longest answer in one piece.
    pub(super) fn answer_bytes_max(&self) -> u64 {
        let most = self.inside.shared.bounds.answer_bytes_max;
        match self.origin {
            Some(_) => most.min(HOP_ANSWER_BYTES_MAX),
            None => most,
        }
    }
}

#[derive(Deserialize)]
struct Moderations {
    results: Vec<Moderated>,
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

fn read_vectors(answer: &[u8], count: usize) -> Result<Vec<Vec<f32>>, HopError> {
    let mut answer: Embeddings =
        serde_json::from_slice(answer).map_err(|_| HopError::Unreadable)?;
    answer.data.sort_by_key(|one| one.index);
    let is_each = answer
        .data
        .iter()
        .enumerate()
        .all(|(place, one)| one.index == place);
    if answer.data.len() != count || !is_each {
        return Err(HopError::Unreadable);
    }
    Ok(answer.data.into_iter().map(|one| one.embedding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_their_texts() {
        let read = |text: &str, count| read_vectors(text.as_bytes(), count);
        let two = r#"{"data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1.5]}]}"#;
        assert_eq!(read(two, 2), Ok(vec![vec![1.5], vec![2.0]]));
        assert_eq!(read(two, 3), Err(HopError::Unreadable));
        let twice = two.replace("\"index\":1", "\"index\":0");
        assert_eq!(read(&twice, 2), Err(HopError::Unreadable));
        assert_eq!(read("{}", 0), Err(HopError::Unreadable));
    }
}
