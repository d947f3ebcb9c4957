//! What every dialect's stream has in common.

use std::fmt::Debug;

use bytes::Bytes;

use super::UnreadableAnswer;
use crate::conversation::{AnswerEvent, PartDelta, PartStart};
use crate::sse::{EVENT_BYTES_MAX, SseSplitter};

/// Reads an upstream's stream, cut anywhere.
pub(crate) trait StreamReader: Debug + Send {
    /// Takes the next bytes and adds the events that they complete.
    fn feed(&mut self, chunk: Bytes, events: &mut Vec<AnswerEvent>)
    -> Result<(), UnreadableAnswer>;

    /// The upstream closed the stream: adds what is still owed, `End` included if the answer is
    /// complete.
    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer>;
}

/// Writes a client's stream.
pub(crate) trait StreamWriter: Debug + Send {
    /// Adds what one event is in the client's dialect.
    fn write(&mut self, event: &AnswerEvent, out: &mut Vec<u8>);
}

/// Reads the data of server-sent events, one by one.
pub(crate) trait SseReader: Debug + Send {
    /// One event's data.
    fn event(&mut self, data: &[u8], events: &mut Vec<AnswerEvent>)
    -> Result<(), UnreadableAnswer>;

    /// As [`StreamReader::finish`].
    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer>;
}

/// A reader of server-sent events.
#[derive(Debug)]
pub(crate) struct Sse<R> {
    splitter: SseSplitter,
    reader: R,
}

impl<R: SseReader> Sse<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            splitter: SseSplitter::new(EVENT_BYTES_MAX),
            reader,
        }
    }
}

impl<R: SseReader> StreamReader for Sse<R> {
    fn feed(
        &mut self,
        chunk: Bytes,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        for event in self.splitter.feed(chunk) {
            let event = event.map_err(|error| UnreadableAnswer::new(error.to_string()))?;
            if let Some(data) = event.data {
                self.reader.event(&data, events)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        let splitter = std::mem::replace(&mut self.splitter, SseSplitter::new(0));
        if let Some(data) = splitter.finish().and_then(|event| event.data) {
            self.reader.event(&data, events)?;
        }
        self.reader.finish(events)
    }
}

/// Keeps the parts of one candidate in order for readers whose streams do not number them.
#[derive(Debug, Default)]
pub(crate) struct PartTracker {
    /// The part being written.
    open: Option<PartStart>,
    /// The number of the next part.
    next: u32,
}

impl PartTracker {
    /// Ends the open part, if any, and begins another.
    pub(crate) fn begin(
        &mut self,
        candidate: u32,
        start: PartStart,
        events: &mut Vec<AnswerEvent>,
    ) {
        self.end(candidate, events);
        events.push(AnswerEvent::PartBegin {
            candidate,
            part: self.next,
            start: start.clone(),
        });
        self.next += 1;
        self.open = Some(start);
    }

    /// Begins a part unless one that began alike is open.
    pub(crate) fn ensure(
        &mut self,
        candidate: u32,
        start: PartStart,
        events: &mut Vec<AnswerEvent>,
    ) {
        if self.open.as_ref() != Some(&start) {
            self.begin(candidate, start, events);
        }
    }

    /// Adds text to a part of this kind.
    pub(crate) fn text(
        &mut self,
        candidate: u32,
        start: PartStart,
        text: String,
        events: &mut Vec<AnswerEvent>,
    ) {
        self.ensure(candidate, start, events);
        self.delta(candidate, PartDelta::Text(text), events);
    }

    /// Adds to the part that began last; nothing if none did.
    pub(crate) fn delta(
        &mut self,
        candidate: u32,
        delta: PartDelta,
        events: &mut Vec<AnswerEvent>,
    ) {
        if self.open.is_some() {
            events.push(AnswerEvent::Delta {
                candidate,
                part: self.next - 1,
                delta,
            });
        }
    }

    /// Ends the open part, if any.
    pub(crate) fn end(&mut self, candidate: u32, events: &mut Vec<AnswerEvent>) {
        if self.open.take().is_some() {
            events.push(AnswerEvent::PartEnd {
                candidate,
                part: self.next - 1,
            });
        }
    }

    /// The part being written.
    pub(crate) fn open(&self) -> Option<&PartStart> {
        self.open.as_ref()
    }

    /// Whether a call is being written.
    pub(crate) fn is_call(&self) -> bool {
        matches!(self.open, Some(PartStart::ToolCall { .. }))
    }
}

/// Adds one event of a stream: `data: …`.
pub(crate) fn data_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    write(out);
    out.extend_from_slice(b"\n\n");
}

/// Adds one named event of a stream: `event: …`, `data: …`.
pub(crate) fn named_frame(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    data_frame(out, write);
}
