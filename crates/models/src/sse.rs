//! Server-sent events, split wherever the network cut them.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// 1 MiB: a chunk of an answer is below 1 KiB, one with an inline image or all log probabilities
/// below 1 MiB.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Splits a stream into events. All bytes of a stream are in exactly one event, in their order,
/// so that passing on every [`Event::raw`] passes on the stream.
#[derive(Debug)]
pub struct SseSplitter {
    event_bytes_max: usize,
    /// The beginning of an event that earlier chunks did not end.
    held: BytesMut,
    /// What no event was made of yet.
    input: Bytes,
    line: LineState,
    /// Whether nothing was read yet, so that a byte order mark may come.
    at_start: bool,
    failed: bool,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// All its bytes, the blank line included. A slice of the chunk if it came in one.
    pub raw: Bytes,
    /// Its data: lines joined by a line feed. `None` if it has none, like a comment.
    pub data: Option<Bytes>,
}

/// The events that a chunk completes.
#[derive(Debug)]
pub struct Events<'a>(&'a mut SseSplitter);

/// The stream cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event exceeds the bound. The splitter gives nothing more.
    #[error("an event of the stream is longer than {event_bytes_max} bytes")]
    EventTooLong {
        /// The bound.
        event_bytes_max: usize,
    },
}

/// Where in a line the bytes that were searched end.
#[derive(Debug, Clone, Copy, Default)]
struct LineState {
    has_bytes: bool,
    /// A carriage return ended the line; a line feed that follows belongs to it.
    after_return: bool,
    /// As `after_return`, and the line was blank: the event is complete but for that line feed.
    ending: bool,
}

impl SseSplitter {
    /// A splitter for one stream. [`EVENT_BYTES_MAX`] is a good bound.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            held: BytesMut::new(),
            input: Bytes::new(),
            line: LineState::default(),
            at_start: true,
            failed: false,
        }
    }

    /// Takes the next chunk, of any size, and gives the events that it completes. Those that are
    /// not taken from the iterator come with the next chunk.
    pub fn feed(&mut self, chunk: Bytes) -> Events<'_> {
        if self.input.is_empty() {
            self.input = chunk;
        } else {
            let rest = [&*self.input, &*chunk].concat();
            self.input = rest.into();
        }
        Events(self)
    }

    /// Whether the next byte begins an event, so that nothing is held back.
    pub fn is_between_events(&self) -> bool {
        self.held.is_empty() && self.input.is_empty()
    }

    /// What the stream ended with, if no blank line ended it. Clients of the standard drop such
    /// an event; some SDKs do not, so it is still to be metered.
    pub fn finish(mut self) -> Option<Event> {
        if self.failed {
            return None;
        }
        let mut rest = std::mem::take(&mut self.held);
        rest.extend_from_slice(&self.input);
        (!rest.is_empty()).then(|| self.event(rest.freeze()))
    }

    fn next_event(&mut self) -> Option<Result<Event, SseError>> {
        if self.failed {
            return None;
        }
        if let Some(event) = self.usual_event() {
            return Some(Ok(event));
        }
        let end = self.line.event_end(&self.input);
        let taken = end.unwrap_or(self.input.len());
        if self.held.len() + taken > self.event_bytes_max {
            self.failed = true;
            self.held = BytesMut::new();
            self.input = Bytes::new();
            let event_bytes_max = self.event_bytes_max;
            return Some(Err(SseError::EventTooLong { event_bytes_max }));
        }
        let part = self.input.split_to(taken);
        if self.held.is_empty() && end.is_some() {
            return Some(Ok(self.event(part)));
        }
        self.held.extend_from_slice(&part);
        end?;
        let raw = self.held.split().freeze();
        Some(Ok(self.event(raw)))
    }

    /// The event that nearly every one is: one line of data and an empty one, all in this chunk.
    fn usual_event(&mut self) -> Option<Event> {
        if !self.held.is_empty() || !self.line.is_at_start() {
            return None;
        }
        let searched = &self.input[..self.input.len().min(self.event_bytes_max)];
        let line = searched.strip_prefix(b"data: ")?;
        let end = 6 + memchr2(b'\n', b'\r', line)?;
        if searched.get(end..end + 2) != Some(b"\n\n") {
            return None;
        }
        self.at_start = false;
        let raw = self.input.split_to(end + 2);
        let data = Some(raw.slice(6..end));
        Some(Event { raw, data })
    }

    fn event(&mut self, raw: Bytes) -> Event {
        let mark = if self.at_start && raw.starts_with(b"\xEF\xBB\xBF") {
            3
        } else {
            0
        };
        self.at_start = false;
        let data = data(&raw, mark);
        Event { raw, data }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, SseError>;

    fn next(&mut self) -> Option<Result<Event, SseError>> {
        self.0.next_event()
    }
}

impl LineState {
    /// Whether the next byte begins a line, and no line end may still come before it.
    fn is_at_start(self) -> bool {
        !(self.has_bytes || self.after_return || self.ending)
    }

    /// Where in `bytes`, which follow those searched before, an event ends: after its blank line.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.ending {
            let next = bytes.first()?;
            *self = Self::default();
            return Some(usize::from(*next == b'\n'));
        }
        loop {
            if self.after_return {
                at += usize::from(*bytes.get(at)? == b'\n');
                self.after_return = false;
            }
            let Some(length) = memchr2(b'\n', b'\r', &bytes[at..]) else {
                self.has_bytes |= at < bytes.len();
                return None;
            };
            let blank = length == 0 && !self.has_bytes;
            let is_return = bytes[at + length] == b'\r';
            at += length + 1;
            self.has_bytes = false;
            match (blank, is_return) {
                (false, _) => self.after_return = is_return,
                (true, false) => return Some(at),
                (true, true) => {
                    let Some(next) = bytes.get(at) else {
                        self.ending = true;
                        return None;
                    };
                    return Some(at + usize::from(*next == b'\n'));
                }
            }
        }
    }
}

/// The data of an event that begins at `start`: of one line a slice, of several a copy.
fn data(raw: &Bytes, start: usize) -> Option<Bytes> {
    let mut first = None;
    let mut joined: Option<BytesMut> = None;
    let mut at = start;
    while at < raw.len() {
        let length = memchr2(b'\n', b'\r', &raw[at..]).unwrap_or(raw.len() - at);
        let line = &raw[at..at + length];
        if let Some(value) = data_value(line) {
            let value = at + value..at + length;
            match (&first, &mut joined) {
                (None, _) => first = Some(value),
                (Some(first), None) => {
                    let mut both = BytesMut::from(&raw[first.clone()]);
                    both.extend_from_slice(b"\n");
                    both.extend_from_slice(&raw[value]);
                    joined = Some(both);
                }
                (Some(_), Some(joined)) => {
                    joined.extend_from_slice(b"\n");
                    joined.extend_from_slice(&raw[value]);
                }
            }
        }
        at += length + 1;
    }
    match joined {
        Some(joined) => Some(joined.freeze()),
        None => first.map(|range| raw.slice(range)),
    }
}

/// Where in a line the value begins, if it is a line of data.
fn data_value(line: &[u8]) -> Option<usize> {
    match line.strip_prefix(b"data")? {
        [] => Some(4),
        [b':', b' ', ..] => Some(6),
        [b':', ..] => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&'static str]) -> Vec<(String, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut splitter = SseSplitter::new(EVENT_BYTES_MAX);
        let mut events = Vec::new();
        for chunk in chunks {
            let chunk = Bytes::from_static(chunk.as_bytes());
            events.extend(splitter.feed(chunk).map(Result::unwrap));
        }
        events.extend(splitter.finish());
        let show = |event: Event| (text(&event.raw), event.data.as_ref().map(text));
        events.into_iter().map(show).collect()
    }

    fn check(text: &'static str, expected: &[(&str, Option<&str>)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(raw, data)| ((*raw).to_owned(), data.map(str::to_owned)))
            .collect();
        for cut in 0..=text.len() {
            assert_eq!(
                split(&[&text[..cut], &text[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn every_line_ending_is_known() {
        check(
            "data: a\n\ndata:b\r\n\r\ndata: c\r\rdata: d\n\r\n",
            &[
                ("data: a\n\n", Some("a")),
                ("data:b\r\n\r\n", Some("b")),
                ("data: c\r\r", Some("c")),
                ("data: d\n\r\n", Some("d")),
            ],
        );
    }

    #[test]
    fn comments_blank_lines_and_several_data_lines() {
        check(
            ": hi\n\nevent: x\ndata: a\ndata\ndata:  b\nid: 1\n\n\ndatum: x\n\ndata: rest",
            &[
                (": hi\n\n", None),
                (
                    "event: x\ndata: a\ndata\ndata:  b\nid: 1\n\n",
                    Some("a\n\n b"),
                ),
                ("\n", None),
                ("datum: x\n\n", None),
                ("data: rest", Some("rest")),
            ],
        );
    }

    #[test]
    fn a_byte_order_mark_hides_no_data() {
        let events = split(&["\u{feff}data: a\n\n\u{feff}data: b\n\n"]);
        assert_eq!(events[0].1.as_deref(), Some("a"));
        assert_eq!(events[1].1, None);
    }

    #[test]
    fn an_event_in_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut splitter = SseSplitter::new(EVENT_BYTES_MAX);
        let events: Vec<_> = splitter.feed(chunk.clone()).map(Result::unwrap).collect();
        assert_eq!(events[1].raw.as_ptr(), chunk[9..].as_ptr());
        assert_eq!(
            events[1].data.as_ref().unwrap().as_ptr(),
            chunk[15..].as_ptr()
        );
        assert!(splitter.is_between_events());
    }

    #[test]
    fn an_event_has_a_bound() {
        let mut splitter = SseSplitter::new(10);
        assert_eq!(splitter.feed(Bytes::from_static(b"data: a\n\n")).count(), 1);
        assert_eq!(splitter.feed(Bytes::from_static(b"data: ")).count(), 0);
        let events: Vec<_> = splitter
            .feed(Bytes::from_static(b"12345\n\ndata: x\n\n"))
            .collect();
        assert_eq!(
            events,
            [Err(SseError::EventTooLong {
                event_bytes_max: 10
            })]
        );
        assert_eq!(splitter.feed(Bytes::from_static(b"data: x\n\n")).count(), 0);
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn events_not_taken_come_later() {
        let mut splitter = SseSplitter::new(100);
        splitter
            .feed(Bytes::from_static(b"data: a\n\ndata: b\n\nda"))
            .next();
        let rest = splitter.feed(Bytes::from_static(b"ta: c\n\n"));
        assert_eq!(rest.count(), 2);
    }
}
