//! A whole answer of an upstream's: read within its bounds, and put into the client's dialect.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Deadline, RequestId};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use models::{AnswerNames, Dialect, Json, Operation, UnreadableAnswer, Usage};

use super::compile::Compiled;
use super::retrieval::{read_count, read_embeddings, read_ranking};
use crate::in_flight::{ByteCap, HeldBytes};
use crate::refusal::Refusal;
use crate::speech::{Speech, dialect_of};
use crate::upstream::AnswerStream;
use crate::wait::in_time;

/// Reads a whole answer within its size, its time and the process's bytes in flight.
pub(super) async fn read_answer(
    mut body: AnswerStream,
    deadline: Deadline,
    idle: Duration,
    limit: u64,
    in_flight: &Arc<ByteCap>,
    clock: &dyn Clock,
) -> Result<(Bytes, HeldBytes), Refusal> {
    let mut held = in_flight.hold(0).ok_or(Refusal::Overloaded)?;
    let mut whole: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let mut length = 0_u64;
    loop {
        let patience = || idle.min(deadline.remaining(clock));
        let frame = in_time(patience, body.frame())
            .await
            .map_err(|_| Refusal::UpstreamTimedOut)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            tracing::warn!(%error, "an answer was cut by its upstream");
            Refusal::UpstreamFailed
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len() as u64;
        if length > limit {
            tracing::warn!(limit, "an answer was larger than `answer_bytes_max`");
            return Err(Refusal::UpstreamFailed);
        }
        if !held.grow(data.len() as u64) {
            return Err(Refusal::Overloaded);
        }
        match whole.take() {
            None if joined.is_empty() => whole = Some(data),
            None => joined.extend_from_slice(&data),
            Some(first) => {
                joined.reserve(body.size_hint().lower() as usize + first.len() + data.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok((whole.unwrap_or_else(|| joined.freeze()), held))
}

/// A whole answer, in the client's dialect.
pub(super) struct Read {
    pub(super) body: Bytes,
    /// What it consumed, if the upstream said so.
    pub(super) usage: Option<Usage>,
    /// How many requests the upstream bills, if it said so.
    pub(super) requests: Option<u32>,
}

impl Compiled {
    /// Reads a whole answer of the upstream's.
    pub(super) fn read(
        &self,
        body: Bytes,
        request: RequestId,
        input_bound: u64,
    ) -> Result<Read, ()> {
        let unreadable = |error: UnreadableAnswer| {
            tracing::warn!(%error, upstream = %self.target().upstream.name, "an answer cannot be read");
        };
        if self.operation == Operation::CountTokens {
            return read_count(self.said.speech, &body).ok_or_else(|| {
                tracing::warn!(upstream = %self.target().upstream.name, "an answer has no count of tokens");
            });
        }
        match self.said.speech {
            Speech::Embedding(dialect) => {
                let model = self.target().model.as_str();
                read_embeddings(&self.envelope, dialect, &body, model, input_bound)
                    .map_err(unreadable)
            }
            Speech::Rerank(dialect) => {
                read_ranking(&self.envelope, dialect, &body, &self.answer_names(request))
                    .map_err(unreadable)
            }
            Speech::Translated(translation) => {
                let names = self.answer_names(request);
                let read = match &self.response {
                    Some(response) => translation.response(&body, &names, &response.echo),
                    None => translation.answer(&body, &names),
                };
                let read = read.map_err(unreadable)?;
                Ok(Read {
                    body: read.body,
                    usage: read.usage,
                    requests: None,
                })
            }
            Speech::Same | Speech::Count(_) => {
                let usage = match dialect_of(self.operation) {
                    Dialect::Anthropic => anthropic_usage(&body),
                    _ => Usage::from_response(&body),
                };
                if usage.is_none() && Json::parse(body.clone()).is_err() {
                    tracing::warn!(upstream = %self.target().upstream.name, "an upstream's answer is not JSON");
                    return Err(());
                }
                Ok(Read {
                    body,
                    usage,
                    requests: None,
                })
            }
        }
    }

    /// What an answer is called where its upstream does not say.
    pub(super) fn answer_names(&self, request: RequestId) -> AnswerNames {
        AnswerNames {
            id: match &self.response {
                Some(response) => response.id.clone(),
                None => request.to_string(),
            },
            model: self.target().said_model().to_owned(),
            created: u64::try_from(self.inside.at.as_seconds()).unwrap_or(0),
        }
    }
}

/// The usage of a whole message of Anthropic's.
fn anthropic_usage(body: &[u8]) -> Option<Usage> {
    let answer = Dialect::Anthropic.read_answer(body).ok()?;
    answer.usage
}
