//! What a call asks and is answered, where its tenant has that kept for people to look at.
//!
//! Without the tenant's word this is one look at a field that is empty. With it a call hands over
//! what it has in memory anyway when it has ended; redacting and writing are a task of the tenant's
//! own, behind the call. What finds no room is dropped and counted: no call waits for this.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{ModelName, Name, RequestId, Timestamp};
use bytes::{Bytes, BytesMut};
use models::{AnswerNames, Operation};
use parking_lot::Mutex;
use store::{BodyBounds, BodyMarks, CallBodies};
use tenancy::{Guardrails, TenantEntry};

use super::compile::Compiled;
use super::resolve::Inside;
use crate::bodies::{Hidden, Redacted, Redaction, Redactor, STREAM_BYTES_MAX, whole_of_stream};
use crate::in_flight::{ByteCap, FairRoom};
use crate::inspect::Inspector;
use crate::tenants::TenantRuntime;

/// 64 MiB of all tenants wait: what a disk takes some seconds for.
pub(crate) const BODIES_WAITING_MAX: u64 = 64 << 20;
/// 16 MiB of one tenant; and never more than is free for all others, so that however many are slow
/// leave room.
const TENANT_WAITING_MAX: u64 = 16 << 20;
/// 1,000 calls of one tenant: what it makes while its store is elsewhere for a second.
const TENANT_CALLS_MAX: usize = 1_000;
/// 16 calls of a transaction: 2 MiB at most.
const BATCH_MAX: usize = 16;

/// A tenant's bodies that wait until they are kept.
#[derive(Debug)]
pub(crate) struct PendingBodies {
    queue: Mutex<Queue<BodyTaking>>,
    bytes: Arc<ByteCap>,
    /// What takes out what nobody is to find, and the guardrails that it was made from.
    redactor: Mutex<Option<CompiledRedactor>>,
}

type CompiledRedactor = (Option<Arc<Guardrails>>, Arc<Redactor>);

impl Default for PendingBodies {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            bytes: ByteCap::new(TENANT_WAITING_MAX),
            redactor: Mutex::default(),
        }
    }
}

/// What waits for the tenant's writer.
#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<T>,
    /// Somebody writes.
    is_written: bool,
}

/// What became of something that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandedOver {
    /// Nobody writes: somebody has to begin.
    ToNobody,
    ToWriter,
    /// There was no room.
    Dropped,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            is_written: false,
        }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, one: T) -> HandedOver {
        if self.waiting.len() >= TENANT_CALLS_MAX {
            return HandedOver::Dropped;
        }
        self.waiting.push_back(one);
        match std::mem::replace(&mut self.is_written, true) {
            true => HandedOver::ToWriter,
            false => HandedOver::ToNobody,
        }
    }

    /// The next ones, for a transaction.
    fn next(&mut self) -> Vec<T> {
        let count = self.waiting.len().min(BATCH_MAX);
        self.waiting.drain(..count).collect()
    }

    /// Whether that was all. Then nobody writes any more.
    fn is_over(&mut self) -> bool {
        self.is_written = !self.waiting.is_empty();
        !self.is_written
    }
}

/// One call's bodies, while it lasts and until they are kept.
pub(super) struct BodyTaking {
    inside: Arc<Inside>,
    request: RequestId,
    operation: Operation,
    feature: Name,
    model: ModelName,
    asked: Bytes,
    answered: Answered,
    hidden: Hidden,
    at: Timestamp,
    room: FairRoom,
}

/// What was answered, so far.
enum Answered {
    Whole(Bytes),
    Stream {
        bytes: BytesMut,
        is_complete: bool,
        is_cut: bool,
    },
}

impl std::fmt::Debug for BodyTaking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyTaking")
            .field("request", &self.request)
            .field("held", &self.room.bytes())
            .finish_non_exhaustive()
    }
}

impl Compiled {
    /// Begins to take what the call asks and is answered, if its tenant has that kept. What is asked
    /// is the body that goes on: with the tenant's prompt in it, and as its guardrails left it.
    pub(super) fn take_bodies(
        &self,
        inspector: Option<&Inspector>,
        request: RequestId,
    ) -> Option<Box<BodyTaking>> {
        let spec = self.inside.tenant.config.bodies.as_ref()?;
        let is_taken = spec.is_for(&self.purpose.feature)
            && self.operation != Operation::CountTokens
            && self.origin.is_none();
        if !is_taken {
            return None;
        }
        let asked = self.envelope.body().clone();
        let Some(room) = room_for(&self.inside, asked.len()) else {
            self.inside.shared.metrics.count_bodies("dropped", 1);
            return None;
        };
        let mut hidden = Hidden::default();
        for (placeholder, original) in inspector.into_iter().flat_map(Inspector::originals) {
            hidden.add(original, placeholder);
        }
        Some(Box::new(BodyTaking {
            inside: Arc::clone(&self.inside),
            request,
            operation: self.operation,
            feature: self.purpose.feature.clone(),
            model: self.call.model.clone(),
            asked,
            answered: Answered::Stream {
                bytes: BytesMut::new(),
                is_complete: false,
                is_cut: false,
            },
            hidden,
            at: self.inside.at,
            room,
        }))
    }
}

fn room_for(inside: &Inside, bytes: usize) -> Option<FairRoom> {
    let own = &inside.runtime.bodies.bytes;
    FairRoom::take(own, &inside.shared.bodies, bytes as u64)
}

impl BodyTaking {
    /// Sees a piece of a streamed answer, as the client has it.
    pub(super) fn see(&mut self, piece: &[u8]) {
        if let Answered::Stream { bytes, is_cut, .. } = &mut self.answered {
            let fits = !*is_cut
                && bytes.len() + piece.len() <= STREAM_BYTES_MAX
                && self.room.grow(piece.len() as u64);
            match fits {
                true => bytes.extend_from_slice(piece),
                false => *is_cut = true,
            }
        }
    }

    /// The streamed answer came to its end.
    pub(super) fn complete(&mut self) {
        if let Answered::Stream { is_complete, .. } = &mut self.answered {
            *is_complete = true;
        }
    }

    /// The call has been answered so, whole.
    pub(super) fn finish(mut self, answer: Bytes) {
        // Vectors say nothing to anybody.
        let answer = match self.operation {
            Operation::Embedding => Bytes::new(),
            _ => answer,
        };
        let bytes = answer.len() as u64;
        if !self.room.grow(bytes) {
            return self.inside.shared.metrics.count_bodies("dropped", 1);
        }
        self.answered = Answered::Whole(answer);
        self.hand_over();
    }

    /// The stream has ended, at its end or before.
    pub(super) fn finish_streamed(self) {
        self.hand_over();
    }

    fn hand_over(self) {
        let inside = Arc::clone(&self.inside);
        let handed_over = inside.runtime.bodies.queue.lock().push(self);
        match handed_over {
            HandedOver::Dropped => inside.shared.metrics.count_bodies("dropped", 1),
            HandedOver::ToWriter => {}
            HandedOver::ToNobody => {
                let supervisor = inside.shared.supervisor.clone();
                supervisor.spawn(write_all(inside));
            }
        }
    }

    fn names(&self) -> AnswerNames {
        AnswerNames {
            id: self.request.to_string(),
            model: self.model.to_string(),
            created: u64::try_from(self.at.as_seconds()).unwrap_or(0),
        }
    }

    /// Whether the tenant has it kept now: it may have changed its mind meanwhile.
    fn is_wanted(&self, tenant: &TenantEntry) -> bool {
        let spec = tenant.config.bodies.as_ref();
        spec.is_some_and(|spec| spec.is_for(&self.feature))
    }

    async fn redacted(self, redactor: &Redactor) -> Option<CallBodies> {
        let mut redaction = redactor.of_call(&self.feature, &self.model, &self.hidden)?;
        let asked = redaction.redact(&self.asked).await?;
        let (answered, marks) = self.answer(&mut redaction).await?;
        Some(CallBodies {
            request: self.request,
            at: self.at,
            asked: asked.json,
            answered: answered.json,
            marks: BodyMarks {
                asked_cut: asked.is_cut,
                answered_cut: marks.answered_cut || answered.is_cut,
                ..marks
            },
        })
    }

    async fn answer(&self, redaction: &mut Redaction<'_>) -> Option<(Redacted, BodyMarks)> {
        let nothing = Redacted {
            json: Vec::new(),
            is_cut: false,
        };
        let (body, marks) = match &self.answered {
            Answered::Whole(body) => (body.clone(), BodyMarks::default()),
            Answered::Stream {
                bytes,
                is_complete,
                is_cut,
            } => {
                let marks = BodyMarks {
                    asked_cut: false,
                    answered_cut: *is_cut,
                    incomplete: !is_complete,
                };
                let stream = Bytes::copy_from_slice(bytes);
                let whole = *is_complete && !is_cut;
                let body = match stream.is_empty() {
                    true => stream,
                    false => whole_of_stream(self.operation, stream, &self.names(), whole),
                };
                (body, marks)
            }
        };
        match body.is_empty() {
            true => Some((nothing, marks)),
            false => Some((redaction.redact(&body).await?, marks)),
        }
    }
}

/// While this is there, somebody writes the tenant's bodies.
struct Writing(Arc<TenantRuntime>);

/// A panic is a bug of ours; the bodies that come after it are still written.
impl Drop for Writing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.bodies.queue.lock().is_written = false;
        }
    }
}

/// Writes a tenant's bodies until there are no more.
async fn write_all(inside: Arc<Inside>) {
    let writing = Writing(Arc::clone(&inside.runtime));
    drop(inside);
    loop {
        let batch = writing.0.bodies.queue.lock().next();
        if let Some(first) = batch.first() {
            let inside = Arc::clone(&first.inside);
            inside.write_bodies(batch).await;
        }
        if writing.0.bodies.queue.lock().is_over() {
            return;
        }
    }
}

impl Inside {
    async fn write_bodies(&self, batch: Vec<BodyTaking>) {
        let metrics = &self.shared.metrics;
        let snapshot = Arc::clone(&self.shared.configuration.load().snapshot);
        let Some(tenant) = snapshot.tenant(self.tenant.id()) else {
            return;
        };
        let count = batch.len() as u64;
        let Some(redactor) = self.redactor(tenant) else {
            return metrics.count_bodies("failed", count);
        };
        let mut redacted = Vec::with_capacity(batch.len());
        for taking in batch {
            if !taking.is_wanted(tenant) {
                continue;
            }
            let Ok(_turn) = self.shared.redacting.acquire().await else {
                return;
            };
            match taking.redacted(&redactor).await {
                Some(bodies) => redacted.push(bodies),
                None => metrics.count_bodies("failed", 1),
            }
        }
        let count = redacted.len() as u64;
        if count == 0 {
            return;
        }
        let keeping = self.shared.stores.with(&self.scope, move |store| {
            store.keep_bodies(&redacted, &BodyBounds::default())
        });
        match keeping.await {
            Ok(()) => metrics.count_bodies("kept", count),
            Err(error) => {
                tracing::warn!(%error, tenant = %tenant.name, "bodies could not be kept");
                metrics.count_bodies("failed", count);
            }
        }
    }

    /// What takes out of the tenant's bodies what nobody is to find there, by its guardrails of now.
    fn redactor(&self, tenant: &TenantEntry) -> Option<Arc<Redactor>> {
        let mut kept = self.runtime.bodies.redactor.lock();
        let is_same = |of: &Option<Arc<Guardrails>>| match (of, &tenant.guardrails) {
            (None, None) => true,
            // What is held here is nobody else's address.
            (Some(of), Some(now)) => Arc::ptr_eq(of, now),
            _ => false,
        };
        if let Some((of, redactor)) = &*kept
            && is_same(of)
        {
            return Some(Arc::clone(redactor));
        }
        match Redactor::compile(tenant.guardrails.as_deref()) {
            Ok(redactor) => {
                let redactor = Arc::new(redactor);
                *kept = Some((tenant.guardrails.clone(), Arc::clone(&redactor)));
                Some(redactor)
            }
            Err(error) => {
                tracing::error!(%error, tenant = %tenant.name, "bodies are not kept: a guardrail cannot be used to redact them");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_the_rest_is_written_once_in_its_order() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(0), HandedOver::ToNobody);
        for number in 1..TENANT_CALLS_MAX {
            assert_eq!(queue.push(number), HandedOver::ToWriter);
        }
        assert_eq!(queue.push(usize::MAX), HandedOver::Dropped);
        let first = queue.next();
        assert_eq!(first, (0..BATCH_MAX).collect::<Vec<_>>());
        assert!(!queue.is_over(), "there is more");
        assert_eq!(queue.push(TENANT_CALLS_MAX), HandedOver::ToWriter);
        let mut written = first;
        while !queue.is_over() {
            written.extend(queue.next());
        }
        assert_eq!(written, (0..=TENANT_CALLS_MAX).collect::<Vec<_>>());
        assert_eq!(queue.push(7), HandedOver::ToNobody, "somebody begins again");
    }
}
