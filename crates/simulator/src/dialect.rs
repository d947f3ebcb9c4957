//! What protocols say differently about the same answer.

use std::fmt;

use http::HeaderMap;
use serde::Serialize;

use crate::beats::Beat;
use crate::faults::UsageReport;
use crate::http::ContentType;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::stream::{Events, GARBAGE};

/// One protocol's way to write an answer.
pub(crate) trait Dialect: Send + Sync + fmt::Debug {
    /// A whole answer: one JSON object.
    fn write_whole(&self, told: &Told) -> Vec<u8>;

    /// The events of one beat of a stream, if it has any.
    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events);

    /// The last events of a stream that fails.
    fn write_failure(&self, refusal: &Refusal, events: &mut Events);

    /// An event that makes no sense.
    fn write_garbage(&self, events: &mut Events) {
        events.push([b"data: ".as_slice(), GARBAGE, b"\n\n"].concat());
    }

    /// What a stream is.
    fn stream_type(&self) -> ContentType {
        ContentType::EventStream
    }

    /// Appends the headers of an answer.
    fn write_headers(&self, _told: &Told, _headers: &mut HeaderMap) {}
}

/// All that an answer tells.
#[derive(Debug)]
pub(crate) struct Told {
    /// The call's number in this engine.
    pub(crate) call: u64,
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Whether the call had a salt of its own.
    pub(crate) salted: bool,
    /// The choices, in order.
    pub(crate) replies: Vec<Reply>,
    pub(crate) counts: Counts,
    /// Whether it says what it used.
    pub(crate) report: UsageReport,
    /// How long it takes in all.
    pub(crate) latency_ms: u64,
}

/// What an answer used, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// All of the prompt, cached or not.
    pub(crate) prompt: usize,
    /// Those of the prompt that a cache had.
    pub(crate) cached: usize,
    /// Those of the prompt that a cache keeps from now on for five minutes.
    pub(crate) written_5m: usize,
    /// Those of the prompt that a cache keeps from now on for an hour.
    pub(crate) written_1h: usize,
    /// All of the output, thoughts included.
    pub(crate) output: u64,
    /// Those of the output that were thought.
    pub(crate) thought: u64,
}

impl Counts {
    /// Those of the prompt that no cache had or keeps.
    pub(crate) fn uncached(&self) -> usize {
        self.prompt - self.cached - self.written_5m - self.written_1h
    }

    /// All that a cache keeps from now on.
    pub(crate) fn written(&self) -> usize {
        self.written_5m + self.written_1h
    }

    /// Prompt and output.
    pub(crate) fn total(&self) -> u64 {
        self.prompt as u64 + self.output
    }
}

impl Told {
    /// The one choice of protocols that know no others.
    pub(crate) fn reply(&self) -> &Reply {
        &self.replies[0]
    }

    /// Whether it says what it used.
    pub(crate) fn reports_usage(&self) -> bool {
        self.report == UsageReport::Given
    }
}

/// Appends a value. For types whose keys are strings, which always have a JSON form.
pub(crate) fn write_json(json: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(json, value).expect("string keys have a JSON form, and a Vec takes it");
}

/// A value's JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(512);
    write_json(&mut json, value);
    json
}
