//! `idempotency-key`: the same key has one effect; with another body it is an error
//! (invariant 9). Keys mean something inside one tenant, for one API key.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use models::InvalidRequest;
use ring::digest::{Context, SHA256};
use store::{Begun, IdempotencyBounds, IdempotencyError, IdempotencyKey};

use super::answer::AnswerBody;
use super::compile::Compiled;
use super::resolve::Inside;
use super::trail::Trail;
use crate::refusal::Refusal;
use crate::speech::operation_path;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// 255: what Stripe allows, whose header this is.
const KEY_BYTES_MAX: usize = 255;
/// A longer answer is not kept: the store's bound, and some room for the head.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A call that carries a key which nobody used before. What comes of it is kept.
#[derive(Debug)]
pub(super) struct Recording {
    inside: Arc<Inside>,
    key: IdempotencyKey,
    body: BytesMut,
    has_overflowed: bool,
    /// Whether an upstream may have done the work: then the key is not given up.
    may_have_effect: bool,
    is_finished: bool,
}

impl Compiled {
    /// Takes up the idempotency key, if the call has one; gives the first answer if there is one.
    pub(super) async fn begin_idempotent(
        &mut self,
        trail: &mut Trail,
    ) -> Result<Option<Response<AnswerBody>>, Refusal> {
        match self.headers.get(&IDEMPOTENCY_KEY).cloned() {
            Some(value) => Box::pin(self.begin_with_key(&value, trail)).await,
            None => Ok(None),
        }
    }

    async fn begin_with_key(
        &mut self,
        value: &HeaderValue,
        trail: &mut Trail,
    ) -> Result<Option<Response<AnswerBody>>, Refusal> {
        if value.is_empty() || value.len() > KEY_BYTES_MAX {
            return Err(Refusal::Invalid(InvalidRequest::new(
                "an idempotency key has 1 to 255 characters",
                IDEMPOTENCY_KEY.as_str(),
                "invalid_header",
            )));
        }
        let inside = &self.inside;
        let caller = inside
            .scope
            .grant()
            .key_id()
            .map(|key| key.to_bytes())
            .unwrap_or_default();
        let key = IdempotencyKey {
            key_hash: digest(&[&caller, value.as_bytes()]),
            request_hash: digest(&[operation_path(self.operation).as_bytes(), &self.client_body]),
        };
        let now = inside.shared.clock.now();
        let bounds = IdempotencyBounds::default();
        let begun = inside
            .shared
            .stores
            .with(&inside.scope, move |store| {
                store.begin_idempotent(&key, now, &bounds)
            })
            .await;
        match begun {
            Ok(Begun::Fresh) => {
                self.recording = Some(Recording {
                    inside: Arc::clone(inside),
                    key,
                    body: BytesMut::new(),
                    has_overflowed: false,
                    may_have_effect: false,
                    is_finished: false,
                });
                Ok(None)
            }
            Ok(Begun::Replay(Some(kept))) => replay(&kept, trail).map(Some),
            Ok(Begun::Replay(None)) => Err(Refusal::IdempotencyUnknown),
            Ok(Begun::Conflict) => Err(Refusal::IdempotencyMismatch),
            Ok(Begun::InProgress) => Err(Refusal::IdempotencyInProgress),
            Err(IdempotencyError::TooMany) => Err(Refusal::Overloaded),
            Err(IdempotencyError::Store(error)) => {
                tracing::error!(%error, "an idempotency key could not be taken up");
                Err(Refusal::NotDurable)
            }
        }
    }
}

impl Recording {
    /// From here on an upstream may have done the work.
    pub(super) fn mark_effect(&mut self) {
        self.may_have_effect = true;
    }

    /// Adds a piece of a streamed answer.
    pub(super) fn add(&mut self, piece: &[u8]) {
        if self.body.len() + piece.len() > KEPT_BYTES_MAX {
            self.has_overflowed = true;
            self.body = BytesMut::new();
        } else if !self.has_overflowed {
            self.body.extend_from_slice(piece);
        }
    }

    /// Keeps an answer, durably, before it is sent.
    pub(super) async fn finish(mut self, content_type: &HeaderValue, body: &Bytes) {
        self.add(body);
        self.keep(content_type).await;
    }

    /// Keeps a streamed answer, which is on its way already.
    pub(super) fn finish_later(self, content_type: HeaderValue) {
        let supervisor = self.inside.shared.supervisor.clone();
        supervisor.spawn(async move { self.keep(&content_type).await });
    }

    async fn keep(mut self, content_type: &HeaderValue) {
        self.is_finished = true;
        let mut kept = Vec::new();
        if self.has_overflowed {
            // Longer than the store keeps: that it was given is kept, and the answer is not.
            kept.resize(KEPT_BYTES_MAX + 1, 0);
        } else {
            kept.extend_from_slice(content_type.as_bytes());
            kept.push(b'\n');
            kept.extend_from_slice(&self.body);
        }
        let (key, now) = (self.key, self.inside.shared.clock.now());
        let bounds = IdempotencyBounds::default();
        let stores = &self.inside.shared.stores;
        let finished = stores
            .with(&self.inside.scope, move |store| {
                store.finish_idempotent(&key, &kept, now, &bounds)
            })
            .await;
        if let Err(error) = finished {
            tracing::error!(%error, "an answer could not be kept for its idempotency key");
        }
    }
}

/// A call that failed without an effect gives its key up, so that it can be tried again.
impl Drop for Recording {
    fn drop(&mut self) {
        if self.is_finished || self.may_have_effect {
            return;
        }
        let (inside, key) = (Arc::clone(&self.inside), self.key);
        let supervisor = inside.shared.supervisor.clone();
        supervisor.spawn(async move {
            let stores = &inside.shared.stores;
            let given_up = stores
                .with(&inside.scope, move |store| store.abandon_idempotent(&key))
                .await;
            if let Err(error) = given_up {
                tracing::warn!(%error, "an idempotency key could not be given up");
            }
        });
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// The first answer, once more.
fn replay(kept: &[u8], trail: &mut Trail) -> Result<Response<AnswerBody>, Refusal> {
    let end = kept
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Refusal::Internal)?;
    let content_type = HeaderValue::from_bytes(&kept[..end]).map_err(|_| Refusal::Internal)?;
    let mut answer = Response::new(AnswerBody::full(Bytes::copy_from_slice(&kept[end + 1..])));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    trail.name_request(headers);
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    trail.end(StatusCode::OK, "replayed", None);
    Ok(answer)
}
