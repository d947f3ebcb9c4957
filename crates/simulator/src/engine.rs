//! The engine: what it holds, how it is served, and what a test may see of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, Supervisor};
use bytes::Bytes;
use http::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::caching::{CacheUse, Caching, MarkCache, Rounding};
use crate::config::EngineConfig;
use crate::prefix_cache::{Namespace, PrefixCache};
use crate::prompt::Prompt;
use crate::slots::{Slot, Slots};
use crate::vllm::Adapters;

/// An inference engine that behaves like a real one and computes nothing. Clones are one engine.
#[derive(Debug, Clone)]
pub struct Engine {
    state: Arc<EngineState>,
}

/// What an engine has done so far, and what it does now.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Calls to the endpoints that work for tenants (models generate, embed, rank, moderate or
    /// count), refused ones included once their bodies were read.
    pub requests: u64,
    /// Calls that hold a slot now.
    pub running: usize,
    /// Calls that wait for a slot now.
    pub waiting: usize,
    /// The most calls that ever held a slot at once.
    pub running_max: usize,
    /// Calls whose client went away before the end.
    pub cancelled: u64,
    /// Prompt tokens of all calls that got past their prefill.
    pub prompt_tokens: u64,
    /// Prompt tokens of those that the prefix cache had.
    pub cached_tokens: u64,
    /// Output tokens that were made.
    pub generated_tokens: u64,
    /// Blocks in the prefix cache now.
    pub cached_blocks: usize,
    /// LoRA adapters that are loaded now, by name.
    pub adapters: Vec<String>,
    /// The last requests, oldest first; as many as [`EngineConfig::record_requests`].
    pub recorded: Vec<RecordedRequest>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Its path, such as `/v1/chat/completions`.
    pub path: String,
    /// Its query, such as `api-version=2024-10-21`.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
}

/// What all calls of one engine share.
#[derive(Debug)]
pub(crate) struct EngineState {
    pub(crate) config: EngineConfig,
    pub(crate) slots: Arc<Slots>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) adapters: Mutex<Adapters>,
    cache: Mutex<PrefixCache>,
    mark_cache: Mutex<MarkCache>,
    recorded: Mutex<VecDeque<RecordedRequest>>,
    calls: AtomicU64,
    answers: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
}

/// A call that is past its prefill and makes tokens, in its slot.
#[derive(Debug)]
pub(crate) struct Work {
    state: Arc<EngineState>,
    slot: Slot,
    prefilled_at: Instant,
    /// What the cache did.
    pub(crate) cache: CacheUse,
}

/// How long accepting rests after an error, such as too many open files: they may be fewer then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Engine {
    /// An engine that nobody can reach yet. `clock` says when answers were `created`; waiting is
    /// in tokio's time.
    pub fn new(config: EngineConfig, clock: Arc<dyn Clock>) -> Self {
        let state = EngineState {
            slots: Slots::new(config.batch_slots, config.queue_slots),
            cache: Mutex::new(PrefixCache::new(config.prefix_cache_blocks)),
            mark_cache: Mutex::new(MarkCache::new(config.prefix_cache_blocks)),
            adapters: Mutex::new(Adapters::new(config.lora_slots)),
            recorded: Mutex::default(),
            calls: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            clock,
            config,
        };
        Self {
            state: Arc::new(state),
        }
    }

    /// Serves connections until `supervisor` stops; those that are open then finish their calls
    /// under it.
    pub async fn serve(&self, listener: TcpListener, supervisor: Supervisor) {
        let most = self.state.config.connections_max;
        let room = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        loop {
            let accept = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                accepted = accept => accepted,
                () = supervisor.stopping() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the simulator could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "the connection closed before it was served");
                continue;
            }
            let (engine, tasks) = (self.clone(), supervisor.clone());
            supervisor.spawn(async move {
                engine.serve_stream(stream, tasks).await;
                drop(place);
            });
        }
    }

    /// Serves one connection, such as a pair of pipes in memory, until it closes or `supervisor`
    /// stops and its call is done. A connection has no deadline of its own.
    pub async fn serve_stream<S: base::Stream + 'static>(&self, stream: S, supervisor: Supervisor) {
        let service = service_fn(|request| {
            crate::http::answer(Arc::clone(&self.state), supervisor.clone(), request)
        });
        let mut connection =
            pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = &mut connection => result,
            () = supervisor.stopping() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            // Clients go away, and faults cut connections: nothing to do about either.
            tracing::debug!(%error, "a connection to the simulator ended early");
        }
    }

    /// What the engine has done so far, and what it does now.
    pub fn observed(&self) -> Observed {
        self.state.observed()
    }
}

impl EngineState {
    /// What the engine has done so far, and what it does now.
    pub(crate) fn observed(&self) -> Observed {
        let occupancy = self.slots.occupancy();
        Observed {
            requests: self.calls.load(Ordering::SeqCst),
            running: occupancy.running,
            waiting: occupancy.waiting,
            running_max: occupancy.running_max,
            cancelled: occupancy.cancelled,
            prompt_tokens: self.prompt_tokens.load(Ordering::SeqCst),
            cached_tokens: self.cached_tokens.load(Ordering::SeqCst),
            generated_tokens: self.generated_tokens.load(Ordering::SeqCst),
            cached_blocks: self.cache.lock().fill().0,
            adapters: self.adapter_names(),
            recorded: self.recorded.lock().iter().cloned().collect(),
        }
    }

    fn adapter_names(&self) -> Vec<String> {
        let adapters = self.adapters.lock();
        adapters.list().map(|(name, _)| name.to_owned()).collect()
    }

    /// Counts a call, and remembers it if that is wanted. Returns its number.
    pub(crate) fn note_call(&self, parts: &http::request::Parts, body: &Bytes) -> u64 {
        let most = self.config.record_requests;
        if most > 0 {
            let mut recorded = self.recorded.lock();
            if recorded.len() == most {
                recorded.pop_front();
            }
            recorded.push_back(RecordedRequest {
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().map(str::to_owned),
                headers: parts.headers.clone(),
                body: body.clone(),
            });
        }
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// An id for an answer, which no other has.
    pub(crate) fn request_id(&self) -> String {
        let number = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        format!("req_sim{number:020}")
    }

    /// The time that answers carry, in seconds since 1970.
    pub(crate) fn created(&self) -> i64 {
        self.clock.now().as_seconds()
    }

    /// Milliseconds that a call takes in all, as the timing has it.
    pub(crate) fn latency_ms(&self, tokens: usize, steps: u64) -> u64 {
        let timing = self.config.timing;
        let prefill = timing
            .prefill_micros_per_token
            .saturating_mul(tokens as u64);
        let output = timing.token_micros.saturating_mul(steps);
        timing
            .base_micros
            .saturating_add(prefill)
            .saturating_add(output)
            / 1_000
    }

    /// Lets the prefill of `prompts` pass: what the cache has of them takes no time, and
    /// afterwards it has them.
    pub(crate) async fn prefill(
        self: &Arc<Self>,
        slot: Slot,
        caching: &Caching,
        prompts: &[Prompt],
    ) -> Work {
        let tokens: usize = prompts.iter().map(Prompt::tokens).sum();
        let cache = match caching {
            &Caching::Blocks {
                namespace,
                rounding,
            } => {
                self.prefill_blocks(namespace, rounding, prompts, tokens)
                    .await
            }
            Caching::Marks(marks) => {
                let now = self.clock.now();
                let mut used = CacheUse::default();
                for prompt in prompts {
                    used = self.mark_cache.lock().apply(marks, prompt, now);
                }
                self.pass_prefill(tokens - used.read).await;
                used
            }
        };
        self.prompt_tokens
            .fetch_add(tokens as u64, Ordering::Relaxed);
        self.cached_tokens
            .fetch_add(cache.read as u64, Ordering::Relaxed);
        Work {
            state: Arc::clone(self),
            slot,
            prefilled_at: Instant::now(),
            cache,
        }
    }

    async fn prefill_blocks(
        &self,
        namespace: Namespace,
        rounding: Rounding,
        prompts: &[Prompt],
        tokens: usize,
    ) -> CacheUse {
        let chains = self.chains(namespace, prompts);
        let read = rounding.round(self.look_up(&chains, prompts));
        self.pass_prefill(tokens - read).await;
        if !chains.is_empty() {
            let mut cache = self.cache.lock();
            chains.iter().for_each(|chain| cache.keep(chain));
        }
        CacheUse {
            read,
            ..CacheUse::default()
        }
    }

    /// Lets the time pass that a call and so many prompt tokens take.
    pub(crate) async fn pass_prefill(&self, tokens: usize) {
        let timing = self.config.timing;
        let prefill = timing
            .prefill_micros_per_token
            .saturating_mul(tokens as u64);
        let micros = timing.base_micros.saturating_add(prefill);
        if micros > 0 {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
    }

    fn chains(&self, namespace: Namespace, prompts: &[Prompt]) -> Vec<Vec<u64>> {
        if self.config.prefix_cache_blocks == 0 {
            return Vec::new();
        }
        let block_tokens = self.config.block_tokens.max(1);
        prompts
            .iter()
            .map(|prompt| namespace.chain(prompt.as_bytes(), block_tokens))
            .collect()
    }

    /// How many tokens of `prompts` the cache has. The last token of each is worked on always,
    /// since the first of the output follows from it.
    fn look_up(&self, chains: &[Vec<u64>], prompts: &[Prompt]) -> usize {
        if chains.iter().all(Vec::is_empty) {
            return 0;
        }
        let block_tokens = self.config.block_tokens.max(1);
        let mut cache = self.cache.lock();
        let cached = chains.iter().zip(prompts).map(|(chain, prompt)| {
            let blocks_max = prompt.tokens().saturating_sub(1) / block_tokens;
            cache.look_up(chain).min(blocks_max) * block_tokens
        });
        cached.sum()
    }

    /// The blocks in the prefix cache, and the most that fit.
    pub(crate) fn cache_fill(&self) -> (usize, usize) {
        self.cache.lock().fill()
    }
}

impl Work {
    /// When the output has so many steps; `None` if it had them at once.
    pub(crate) fn due(&self, steps: u64) -> Option<Instant> {
        match self.state.config.timing.token_micros {
            0 => None,
            micros => {
                let after = Duration::from_micros(micros.saturating_mul(steps));
                self.prefilled_at.checked_add(after)
            }
        }
    }

    /// Counts tokens that were made.
    pub(crate) fn count_tokens(&self, tokens: u64) {
        self.state
            .generated_tokens
            .fetch_add(tokens, Ordering::Relaxed);
    }

    /// Ends the call and frees its slot.
    pub(crate) fn finish(self) {
        self.slot.finish();
    }
}
