//! What a call's question means, for a cache that finds answers by that: a hop of the same tenant,
//! and the requests that the question is compared with.

use std::sync::Arc;

use base::ModelName;
use ledger::Hop;
use models::{Envelope, Operation, canonical_json};
use serde_json::Value;
use tenancy::catalogue::CacheMode;
use tenancy::{CacheKey, CachePurpose};

use super::caching::{NO_PART_OF_KEYS, Wish};
use super::compile::Compiled;
use super::hop::Hops;
use super::trail::Trail;
use crate::response_cache::Meaning;

/// 8 KiB: some 2,000 tokens, which every embedding model takes; longer texts are more than one
/// question.
const QUESTION_BYTES_MAX: usize = 8 << 10;

impl Compiled {
    /// What the call's question means, if that is looked for: a hop of its own, once a call. What
    /// goes wrong there leaves it an exact call.
    pub(super) async fn meaning(&mut self, trail: &mut Trail) -> Option<Meaning> {
        let spec = self.inside.tenant.config.cache.as_ref()?;
        if spec.mode != CacheMode::Semantic || !self.may_mean_another() {
            return None;
        }
        let model = spec.embedding_model.clone()?;
        let question = Question::of(&self.envelope)?;
        let partition = self.partition(&model, &question);
        let vector = match &self.question_vector {
            Some(vector) => Arc::clone(vector),
            None => {
                let hops = match &self.hops {
                    Some(hops) => hops.clone(),
                    None => Hops::of(&self.inside, &self.purpose, trail),
                };
                let vectors = Box::pin(hops.embed(Hop::Embed, &model, &[&question.text])).await;
                let vector = vectors
                    .inspect_err(|error| {
                        let tenant = &self.inside.tenant.name;
                        tracing::warn!(%error, %tenant, %model, "a question could not be embedded: its answer is looked for by its key alone");
                    })
                    .ok()?
                    .pop()?;
                let vector: Arc<[f32]> = vector.into();
                self.question_vector = Some(Arc::clone(&vector));
                vector
            }
        };
        Meaning::of(partition, &vector)
    }

    /// Whether an answer to a question of like meaning would do: one text, with nothing in it that
    /// acts or is seen, and nothing that was put back for one user alone. A client that wants none
    /// that is kept is not served by looking for one.
    fn may_mean_another(&self) -> bool {
        let has_tools = ["tools", "functions"].into_iter().any(|field| {
            self.envelope
                .get(field)
                .is_some_and(|it| it.elements().next().is_some())
        });
        let restores = self.inspector.as_ref().is_some_and(|it| it.restores());
        let is_wanted = matches!(Wish::of(&self.headers), Wish::UpTo(age) if !age.is_zero());
        matches!(self.operation, Operation::Chat | Operation::Messages)
            && is_wanted
            && !has_tools
            && !restores
            && self.call.image_count == 0
            && self.call.unbounded.is_empty()
            && self.call.generations() == 1
    }

    /// The requests that are the same in all but the last user message.
    fn partition(&self, model: &ModelName, question: &Question) -> CacheKey {
        let rest = canonical_json(&question.rest, &NO_PART_OF_KEYS);
        let salt = self.salt();
        let bound = self.output_tokens_each().to_be_bytes();
        let said: [&[u8]; 4] = [
            &rest,
            model.as_str().as_bytes(),
            &bound,
            salt.as_ref().map_or("", |salt| salt.as_str()).as_bytes(),
        ];
        self.key_of(CachePurpose::Semantic, &said)
    }
}

/// The last message of a request, if a user says text in it and nothing else.
struct Question {
    text: String,
    /// The request without that text.
    rest: Vec<u8>,
}

impl Question {
    fn of(envelope: &Envelope) -> Option<Self> {
        let mut request: Value = serde_json::from_slice(envelope.body()).ok()?;
        let last = request.get_mut("messages")?.as_array_mut()?.last_mut()?;
        if last.get("role")?.as_str()? != "user" {
            return None;
        }
        let text = match last.get_mut("content")?.take() {
            Value::String(text) => text,
            Value::Array(parts) => {
                let texts = parts.iter().map(|part| match part.get("type")?.as_str()? {
                    "text" => part.get("text")?.as_str(),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>()?.join("\n\n")
            }
            _ => return None,
        };
        let is_said = !text.trim().is_empty() && text.len() <= QUESTION_BYTES_MAX;
        is_said.then(|| Self {
            text,
            rest: request.to_string().into_bytes(),
        })
    }
}
