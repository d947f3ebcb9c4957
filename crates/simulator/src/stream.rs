//! Answers that come token by token, in the events of their protocol.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Sleep;

use crate::beats::{Beats, TimedBeat};
use crate::dialect::{Dialect, Told, write_json};
use crate::engine::Work;
use crate::faults::Spoil;
use crate::generation::error_fault;
use crate::http::Cut;

/// A stream of events, each when it is due. Dropped before its end, it counts as cancelled and
/// frees its slot. The slot is held until the last event is taken.
#[derive(Debug)]
pub(crate) struct TokenStream {
    dialect: Box<dyn Dialect>,
    told: Told,
    beats: Beats,
    /// A beat that waits for its time.
    next: Option<TimedBeat>,
    /// Events whose time has come.
    events: Events,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Output steps whose time has come.
    steps_passed: u64,
    events_sent: usize,
    spoil: Option<Spoil>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Events flow.
    Flowing(Work),
    /// All was sent that should be before the connection breaks, and perhaps not flushed.
    Breaking,
    /// The remaining events end a stream that went wrong.
    LastWords,
    Ended,
}

/// Events of a protocol that wait to be sent, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events(VecDeque<Bytes>);

/// After how many events garbage comes: late enough that a client has begun to read.
const EVENTS_BEFORE_GARBAGE: usize = 2;

/// No JSON, and no UTF-8 either.
pub(crate) const GARBAGE: &[u8] = b"{\"id\": \"garbage\", \"choices\": [{\xff\xfe<<< not json";

impl Events {
    /// Appends an event as it is.
    pub(crate) fn push(&mut self, event: impl Into<Bytes>) {
        self.0.push_back(event.into());
    }

    /// Appends a server-sent event without a name.
    pub(crate) fn data(&mut self, value: &impl Serialize) {
        self.write(b"data: ", value);
    }

    /// Appends a server-sent event with a name.
    pub(crate) fn named(&mut self, name: &str, value: &impl Serialize) {
        self.write(format!("event: {name}\ndata: ").as_bytes(), value);
    }

    fn write(&mut self, start: &[u8], value: &impl Serialize) {
        let mut event = Vec::with_capacity(256);
        event.extend_from_slice(start);
        write_json(&mut event, value);
        event.extend_from_slice(b"\n\n");
        self.push(event);
    }
}

impl TokenStream {
    /// The stream of what is `told`, that `work` makes and `spoil` ends.
    pub(crate) fn new(
        work: Work,
        dialect: Box<dyn Dialect>,
        told: Told,
        spoil: Option<Spoil>,
    ) -> Self {
        Self {
            beats: Beats::new(told.replies.len()),
            dialect,
            told,
            next: None,
            events: Events::default(),
            sleep: None,
            steps_passed: 0,
            events_sent: 0,
            spoil,
            stage: Stage::Flowing(work),
        }
    }

    /// The next event, once it is due; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match self.stage {
            Stage::Flowing(_) => self.poll_flowing(cx),
            Stage::Breaking => {
                self.stage = Stage::Ended;
                Poll::Ready(Some(Err(Cut)))
            }
            Stage::LastWords => {
                let event = self.events.0.pop_front();
                if self.events.0.is_empty() {
                    self.stage = Stage::Ended;
                }
                Poll::Ready(event.map(Ok))
            }
            Stage::Ended => Poll::Ready(None),
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn poll_flowing(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if let Some(ending) = self.poll_spoil(cx) {
                return ending;
            }
            if let Some(event) = self.events.0.pop_front() {
                self.events_sent += 1;
                if self.events.0.is_empty() && self.beats.is_over() {
                    self.end(Stage::Ended);
                }
                return Poll::Ready(Some(Ok(event)));
            }
            let next = self.next.take();
            let Some(timed) = next.or_else(|| self.beats.next(&self.told.replies)) else {
                self.end(Stage::Ended);
                return Poll::Ready(None);
            };
            if timed.steps > self.steps_passed && self.poll_due(cx, timed.steps).is_pending() {
                self.next = Some(timed);
                return Poll::Pending;
            }
            self.steps_passed = self.steps_passed.max(timed.steps);
            if let Stage::Flowing(work) = &self.stage {
                work.count_tokens(timed.tokens);
            }
            self.dialect
                .write_beat(timed.beat, &self.told, &mut self.events);
        }
    }

    /// What comes instead of the next event, if it is time for the fault.
    fn poll_spoil(&mut self, cx: &mut Context<'_>) -> Option<Poll<Option<Result<Bytes, Cut>>>> {
        match self.spoil? {
            Spoil::Cut(events) if self.events_sent >= events => {
                self.end(Stage::Breaking);
                // hyper flushes what it has while this waits, and drops it on an error.
                cx.waker().wake_by_ref();
                Some(Poll::Pending)
            }
            Spoil::Error(events) if self.events_sent >= events => {
                self.events.0.clear();
                self.dialect.write_failure(&error_fault(), &mut self.events);
                self.end(Stage::LastWords);
                Some(self.poll_next(cx))
            }
            Spoil::Garbage if self.events_sent >= EVENTS_BEFORE_GARBAGE => {
                self.events.0.clear();
                self.dialect.write_garbage(&mut self.events);
                self.end(Stage::LastWords);
                Some(self.poll_next(cx))
            }
            _ => None,
        }
    }

    fn poll_due(&mut self, cx: &mut Context<'_>, steps: u64) -> Poll<()> {
        let Stage::Flowing(work) = &self.stage else {
            return Poll::Ready(());
        };
        let Some(due) = work.due(steps) else {
            return Poll::Ready(());
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != due {
                    sleep.as_mut().reset(due);
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(due))),
        };
        sleep.as_mut().poll(cx)
    }

    /// Ends the work, and goes on to `stage`.
    fn end(&mut self, stage: Stage) {
        if let Stage::Flowing(work) = std::mem::replace(&mut self.stage, stage) {
            work.finish();
        }
    }
}
