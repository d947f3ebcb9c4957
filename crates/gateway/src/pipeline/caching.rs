//! Answers that are given again: whether a call takes part in its tenant's cache, under which
//! key, and what becomes of its answer.
//!
//! The key says the request as it would be sent, and where to: it is found once the target is,
//! and anew for each target. A call that finds its answer is admitted like any other, for what
//! such an answer costs, and goes nowhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use ledger::{Consumption, ConsumptionBound, Price};
use models::{AnswerNames, Dialect, Envelope, Operation, StreamUsage, Usage, canonical_json};
use tenancy::catalogue::{CacheSpec, CachedRequests};
use tenancy::{CacheKey, CachePurpose};

use super::admit::Admitted;
use super::answer::AnswerBody;
use super::compile::Compiled;
use super::meter::{COST, EVENT_STREAM};
use super::resolve::Inside;
use super::single_flight::Flight;
use super::trail::{JSON, Trail};
use crate::refusal::Refusal;
use crate::response_cache::{Form, KeptAnswer, Meaning, Reader, Room};
use crate::speech::{Speech, dialect_of, operation_path};

const CACHE: HeaderName = HeaderName::from_static("x-partywall-cache");
/// 1 MiB: longer requests hardly repeat, and each is spelled anew to find its key.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// What does not make another answer: how it is delivered, and how soon.
pub(super) const NO_PART_OF_KEYS: [&str; 3] = ["stream", "stream_options", "priority"];

/// What the tenant's cache has to do with a call.
#[derive(Debug, Default)]
pub(super) enum Caching {
    /// Nothing: none of its answers is kept.
    #[default]
    Off,
    /// Answers are kept, and the call takes no part in that.
    Bypass,
    /// There is none for it: the one that comes is kept.
    Miss(Box<Keeping>),
    /// There is one for it, or for one that means the same.
    Hit(Box<Hit>),
}

/// An answer that is to be kept once it is complete.
#[derive(Debug)]
pub(super) struct Keeping {
    inside: Arc<Inside>,
    pub(super) key: CacheKey,
    form: Form,
    ttl: Duration,
    generation: u64,
    bytes_max: u64,
    /// What its question means, where that is looked for.
    meaning: Option<Meaning>,
    /// What lets others go who wait for the same answer.
    pub(super) flight: Option<Flight>,
    /// What was streamed of it so far; none once that is too much.
    streamed: Option<BytesMut>,
}

/// An answer that is given again.
#[derive(Debug)]
pub(super) struct Hit {
    body: Bytes,
    form: Form,
    consumption: Consumption,
    age: Duration,
    ttl: Duration,
    price_percent: u8,
    found: Found,
}

/// How an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    ByKey,
    ByMeaning,
}

impl Found {
    const fn word(self) -> &'static str {
        match self {
            Self::ByKey => "hit",
            Self::ByMeaning => "semantic-hit",
        }
    }
}

/// What came of an admitted call.
pub(super) enum FromCache {
    /// Its answer was there.
    Answered(Response<AnswerBody>),
    /// It has to be asked for.
    Missed(Admitted),
}

/// What a client says of caches, as RFC 9111 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// `no-store`
    Nothing,
    /// An answer of this age at most; `no-cache` is none.
    UpTo(Duration),
}

impl Caching {
    /// What the headers, the metrics and the log call it; none where nothing is kept.
    pub(super) fn word(&self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Bypass => Some("bypass"),
            Self::Miss(_) => Some("miss"),
            Self::Hit(hit) => Some(hit.found.word()),
        }
    }

    /// The answer is not kept after all: what the client had may not be what it asked for.
    pub(super) fn take_keeping(&mut self) -> Option<Box<Keeping>> {
        match std::mem::replace(self, Self::Bypass) {
            Self::Miss(keeping) => Some(keeping),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Says in the head of an answer that was asked for whether it is kept.
    pub(super) fn head(&self, headers: &mut HeaderMap) {
        let Some(word) = self.word() else { return };
        headers.insert(CACHE, HeaderValue::from_static(word));
        let control = match self {
            Self::Miss(keeping) => fresh_for(keeping.ttl),
            _ => HeaderValue::from_static("no-store"),
        };
        headers.insert(CACHE_CONTROL, control);
    }
}

impl Compiled {
    /// Looks for an answer to the call as it would go to its target.
    pub(super) async fn look_up(&mut self, trail: &mut Trail) {
        self.caching = self.find_kept(trail).await;
        if self.has_followed().await {
            self.caching = self.find_kept(trail).await;
        }
        trail.cache = self.caching.word();
    }

    async fn find_kept(&mut self, trail: &mut Trail) -> Caching {
        let meaning = match self.find_by_key(trail) {
            Caching::Miss(keeping) => match self.meaning(trail).await {
                Some(meaning) => (keeping, meaning),
                None => return Caching::Miss(keeping),
            },
            other => return other,
        };
        let (mut keeping, meaning) = meaning;
        let found = self.find_alike(&meaning, trail);
        keeping.meaning = Some(meaning);
        found.unwrap_or(Caching::Miss(keeping))
    }

    fn find_by_key(&self, trail: &Trail) -> Caching {
        let inside = &self.inside;
        let tier = &inside.tier;
        let Some(spec) = &inside.tenant.config.cache else {
            return Caching::Off;
        };
        // What the gateway asks for itself it reads once.
        let is_hop = self.origin.is_some();
        if is_hop || !spec.is_for(&self.purpose.feature) || tier.cache_bytes_max == 0 {
            return Caching::Off;
        }
        let wish = Wish::of(&self.headers);
        let Wish::UpTo(age_max) = wish else {
            return Caching::Bypass;
        };
        let Some(key) = self.takes_part(spec).then(|| self.cache_key()).flatten() else {
            return Caching::Bypass;
        };
        let ttl = Duration::from_secs(u64::from(spec.ttl_seconds));
        let cache = &inside.runtime.cache;
        let generation = cache.generation();
        let form = self.form();
        let kept = match age_max {
            Duration::ZERO => None,
            age_max => cache.get(&key, inside.reader(), age_max),
        };
        let hit = kept.and_then(|kept| self.hit(&kept, Found::ByKey, trail));
        match hit {
            Some(hit) => hit,
            None => Caching::Miss(Box::new(Keeping {
                inside: Arc::clone(inside),
                key,
                form,
                ttl,
                generation,
                bytes_max: tier.cache_bytes_max,
                meaning: None,
                flight: None,
                streamed: Some(BytesMut::new()),
            })),
        }
    }

    /// A kept answer, as this call wants it.
    fn hit(&self, kept: &KeptAnswer, found: Found, trail: &Trail) -> Option<Caching> {
        let inside = &self.inside;
        let spec = inside.tenant.config.cache.as_ref()?;
        let form = self.form();
        let names = self.answer_names(trail.request);
        Some(Caching::Hit(Box::new(Hit {
            body: said_as(kept, form, self.operation, names)?,
            form,
            consumption: kept.consumption,
            age: inside.reader().now.saturating_sub(kept.at),
            ttl: Duration::from_secs(u64::from(spec.ttl_seconds)),
            price_percent: inside.tier.cache_price_percent,
            found,
        })))
    }

    /// The answer to a question that means the same.
    fn find_alike(&self, meaning: &Meaning, trail: &Trail) -> Option<Caching> {
        let Wish::UpTo(age_max) = Wish::of(&self.headers) else {
            return None;
        };
        let inside = &self.inside;
        let spec = inside.tenant.config.cache.as_ref()?;
        let least = f32::from(spec.similarity_percent) / 100.0;
        let cache = &inside.runtime.cache;
        let kept = cache.get_alike(meaning, least, inside.reader(), age_max)?;
        self.hit(&kept, Found::ByMeaning, trail)
    }

    /// Whether answers to such a request are kept. Stored responses are not: each has an id that
    /// its client goes on from.
    fn takes_part(&self, spec: &CacheSpec) -> bool {
        match self.operation {
            Operation::Responses | Operation::CountTokens | Operation::Moderation => false,
            Operation::Embedding | Operation::Rerank => true,
            Operation::Chat | Operation::Completion | Operation::Messages => {
                spec.requests == CachedRequests::All || is_greedy(&self.envelope)
            }
        }
    }

    /// The key of the answer, if the request is not too long for one.
    fn cache_key(&self) -> Option<CacheKey> {
        let body = self.upstream_body();
        let length = body.length() + self.envelope.body().len() as u64;
        if length > 2 * REQUEST_BYTES_MAX {
            return None;
        }
        let spelled = |body: &[u8]| canonical_json(body, &NO_PART_OF_KEYS);
        let sent = spelled(&body.pieces().concat());
        // A translation may leave out what makes the client's answer another.
        let asked = match self.said.speech {
            Speech::Same => Vec::new(),
            _ => spelled(self.envelope.body()),
        };
        // Guardrails put placeholders into what is sent, and their originals into the answer; and
        // which of them there are depends on the feature and on the model's name.
        let said = match &self.inspector {
            Some(_) => spelled(&self.client_body),
            None => Vec::new(),
        };
        Some(self.key_of(CachePurpose::Answer, &[&sent, &asked, &said]))
    }

    /// The key of what is said to the target, and of all that is not said and counts.
    pub(super) fn key_of(&self, purpose: CachePurpose, said: &[&[u8]]) -> CacheKey {
        let guarded_as = match &self.inside.tenant.guardrails {
            Some(_) => (self.purpose.feature.as_str(), self.call.model.as_str()),
            None => ("", ""),
        };
        let target = self.target();
        let spec = &target.upstream.spec;
        let headers = self.dialect_headers();
        // LoRAX is told an adapter's place, which does not tell which weights are there.
        let revision = target.revision();
        let mut parts: Vec<&[u8]> = vec![
            operation_path(self.operation).as_bytes(),
            target.upstream.name.as_str().as_bytes(),
            spec.address().unwrap_or_default().as_bytes(),
            spec.engine.as_str().as_bytes(),
            spec.api_version.as_deref().unwrap_or_default().as_bytes(),
            revision.as_bytes(),
            guarded_as.0.as_bytes(),
            guarded_as.1.as_bytes(),
        ];
        parts.extend(said);
        for (name, value) in &headers {
            parts.extend([name.as_str().as_bytes(), value.as_bytes()]);
        }
        self.inside.scope.cache_key(purpose, &parts)
    }

    /// As what the client wants its answer.
    fn form(&self) -> Form {
        match self.call.stream {
            false => Form::Whole,
            true => Form::Stream {
                with_usage: self.call.include_usage,
            },
        }
    }

    /// What is held for the call: what an upstream may bill, or what an answer costs that is kept.
    pub(super) fn held_for(&self) -> Result<(Arc<Price>, ConsumptionBound), Refusal> {
        let price = self.price()?;
        Ok(match &self.caching {
            Caching::Hit(hit) => hit.held_for(&price),
            _ => {
                let bound = self.bound();
                (price, bound)
            }
        })
    }
}

impl Inside {
    fn reader(&self) -> Reader<'_> {
        Reader {
            tenant: &self.tenant,
            version: self.configuration.snapshot.version(),
            now: self.shared.clock.elapsed(),
        }
    }
}

impl Hit {
    /// Its cost as one request's, rounded down: the bound is exact.
    fn held_for(&self, price: &Price) -> (Arc<Price>, ConsumptionBound) {
        let anew = ledger::cost(price, &self.consumption);
        let flat = Price {
            version: price.version,
            effective_from: price.effective_from,
            input: base::PicoUsd::ZERO,
            output: base::PicoUsd::ZERO,
            cached_read: None,
            cached_write: None,
            cached_write_1h: None,
            image: None,
            request: anew.percent_floor(u32::from(self.price_percent)),
            long_prompts: None,
        };
        let bound = ConsumptionBound {
            requests: 1,
            ..ConsumptionBound::default()
        };
        (Arc::new(flat), bound)
    }
}

impl Admitted {
    /// Answers from the cache, if the answer was there when the call was admitted.
    pub(super) async fn answer_kept(mut self, trail: &mut Trail) -> Result<FromCache, Refusal> {
        let hit = match std::mem::take(&mut self.compiled.caching) {
            Caching::Hit(hit) => hit,
            other => {
                self.compiled.caching = other;
                return Ok(FromCache::Missed(self));
            }
        };
        Box::pin(self.give(hit, trail)).await
    }

    async fn give(self, hit: Box<Hit>, trail: &mut Trail) -> Result<FromCache, Refusal> {
        let Self {
            compiled, attempt, ..
        } = self;
        // Nobody upstream was asked.
        trail.upstream = None;
        attempt.durable().await?;
        let anew = ledger::cost(&*compiled.price()?, &hit.consumption);
        let cost = attempt.settle_cached(anew);
        let content_type = match hit.form {
            Form::Whole => JSON,
            Form::Stream { .. } => EVENT_STREAM,
        };
        let compiled = *compiled;
        if let Some(mut bodies) = compiled.bodies {
            match hit.form {
                Form::Whole => bodies.finish(hit.body.clone()),
                Form::Stream { .. } => {
                    bodies.see(&hit.body);
                    bodies.complete();
                    bodies.finish_streamed();
                }
            }
        }
        if let Some(recording) = compiled.recording {
            recording.finish(&content_type, &hit.body).await;
        }
        trail.first_chunk();
        let consumed = Some((Consumption::default(), cost));
        let mut headers = std::mem::take(&mut trail.rate_headers);
        trail.end(StatusCode::OK, "cached", consumed);
        trail.name_request(&mut headers);
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CACHE, HeaderValue::from_static(hit.found.word()));
        headers.insert(CACHE_CONTROL, fresh_for(hit.ttl));
        headers.insert(AGE, HeaderValue::from(hit.age.as_secs()));
        if let Ok(cost) = HeaderValue::from_str(&cost.to_string()) {
            headers.insert(COST, cost);
        }
        if let Some(from) = &compiled.downgraded_from {
            super::meter::tell_downgrade(&mut headers, from);
        }
        let mut response = Response::new(AnswerBody::full(hit.body));
        *response.headers_mut() = headers;
        Ok(FromCache::Answered(response))
    }
}

impl Keeping {
    /// Sees a piece of a streamed answer, as the client has it.
    pub(super) fn see(&mut self, piece: &[u8]) {
        let bytes_max = self.bytes_max;
        self.streamed.take_if(|streamed| {
            streamed.extend_from_slice(piece);
            streamed.len() as u64 > bytes_max
        });
    }

    /// The stream is complete: it is kept.
    pub(super) fn keep_streamed(mut self, consumption: Consumption) {
        if let Some(body) = self.streamed.take() {
            self.keep(&body, consumption);
        }
    }

    /// Keeps a complete answer, as the client has it.
    pub(super) fn keep(mut self, body: &[u8], consumption: Consumption) {
        let meaning = self.meaning.take();
        let inside = &self.inside;
        let reader = inside.reader();
        let answer = KeptAnswer {
            // A copy: a slice would keep the whole buffer alive that it came in.
            body: Bytes::copy_from_slice(body),
            form: self.form,
            consumption,
            at: reader.now,
        };
        let room = Room {
            bytes_max: self.bytes_max,
            all: &inside.shared.cached,
            generation: self.generation,
            ttl: self.ttl,
        };
        let cache = &inside.runtime.cache;
        cache.put(self.key, answer, meaning, reader, &room);
    }
}

impl Wish {
    /// What of `cache-control` means something to a cache of answers. Of several ages the least
    /// counts; one that is no number is none, as the RFC advises.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut age_max = Duration::MAX;
        for value in headers.get_all(CACHE_CONTROL) {
            let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
            for directive in text.split(',').map(str::trim) {
                let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
                match name.trim() {
                    "no-store" => return Self::Nothing,
                    "no-cache" => age_max = Duration::ZERO,
                    "max-age" => {
                        let seconds = argument.trim().trim_matches('"').parse().unwrap_or(0);
                        age_max = age_max.min(Duration::from_secs(seconds));
                    }
                    _ => {}
                }
            }
        }
        Self::UpTo(age_max)
    }
}

/// Whether the request asks for the likeliest answer, which is the same each time.
fn is_greedy(envelope: &Envelope) -> bool {
    let written = envelope.get("temperature").map(models::Raw::bytes);
    let number = written.and_then(|bytes| std::str::from_utf8(bytes).ok()?.trim().parse().ok());
    number.is_some_and(|temperature: f64| temperature == 0.0)
}

fn fresh_for(ttl: Duration) -> HeaderValue {
    let text = format!("private, max-age={}", ttl.as_secs());
    HeaderValue::from_str(&text).expect("words and digits are a header's value")
}

/// A kept answer as the client wants it: whole or streamed. None where it cannot be said so.
fn said_as(
    kept: &KeptAnswer,
    wanted: Form,
    operation: Operation,
    names: AnswerNames,
) -> Option<Bytes> {
    if kept.form == wanted {
        return Some(kept.body.clone());
    }
    let dialect = match operation {
        Operation::Chat | Operation::Messages => dialect_of(operation),
        _ => return None,
    };
    let read = match kept.form {
        Form::Whole => dialect.read_answer(&kept.body),
        Form::Stream { .. } => dialect.read_stream(kept.body.clone()),
    };
    let mut answer = read.ok()?;
    // A stream whose client did not ask for it does not say it.
    answer
        .usage
        .get_or_insert_with(|| usage_of(&kept.consumption));
    let said = match wanted {
        Form::Whole => dialect.write_answer(&answer, &names),
        Form::Stream { with_usage } => {
            let usage = match with_usage || dialect == Dialect::Anthropic {
                true => StreamUsage::Wanted,
                false => StreamUsage::Unwanted,
            };
            dialect.write_stream(&answer, names, usage)
        }
    };
    said.ok()
}

fn usage_of(consumption: &Consumption) -> Usage {
    Usage {
        input_tokens: consumption.input_tokens,
        cached_read_tokens: consumption.cached_read_tokens,
        cached_write_tokens: consumption.cached_write_tokens,
        cached_write_1h_tokens: consumption.cached_write_1h_tokens,
        output_tokens: consumption.output_tokens,
        reasoning_tokens: 0,
    }
}
