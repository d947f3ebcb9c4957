//! How Google writes an answer: whole, as server-sent events, or as one array that grows.

use serde_json::{Map, Value, json};

use super::error;
use crate::beats::Beat;
use crate::dialect::{Counts, Dialect, Told, to_json};
use crate::http::ContentType;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::signature::sign;
use crate::stream::Events;
use crate::text::{Finish, Output};

/// How an answer is written.
#[derive(Debug)]
pub(super) struct GeminiDialect {
    /// The engine's seed, which thoughts are signed with.
    seed: u64,
    thoughts: Thoughts,
    framing: Framing,
    /// Tokens that a stream has made so far, thoughts included.
    made: u64,
    /// Those of them that were thought.
    made_thinking: u64,
}

/// Whether a client gets to see thoughts. They are counted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughts {
    Hidden,
    Shown,
}

/// How a stream's chunks are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `alt=sse`.
    Events,
    /// One JSON array that has not begun.
    NewArray,
    /// One that has.
    Array,
}

impl Framing {
    /// As the query asks for it.
    pub(super) fn of(query: Option<&str>) -> Self {
        let is_sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        if is_sse { Self::Events } else { Self::NewArray }
    }
}

impl GeminiDialect {
    /// As the request wants it.
    pub(super) fn new(seed: u64, thoughts: Thoughts, framing: Framing) -> Self {
        Self {
            seed,
            thoughts,
            framing,
            made: 0,
            made_thinking: 0,
        }
    }

    /// A part, whole; `None` if a client does not see it.
    fn part(&self, reply: &Reply, place: usize, text: &str) -> Option<Value> {
        let output = &reply.parts[place];
        if let Some(name) = output.tool() {
            // Arguments that the limit cut are no call.
            let args: Value = serde_json::from_str(&output.text).ok()?;
            let mut part = json!({"functionCall": {"name": name, "args": args}});
            // The first call after a thought carries what the model needs to go on from it.
            if reply.thought().is_some() && reply.call_place(place) == 0 {
                part["thoughtSignature"] = sign(self.seed, name).into();
            }
            return Some(part);
        }
        match (output.is_thought(), self.thoughts) {
            (true, Thoughts::Hidden) => None,
            (true, Thoughts::Shown) => Some(json!({"text": text, "thought": true})),
            (false, _) => Some(json!({"text": text})),
        }
    }

    fn chunk(&mut self, chunk: &Value, events: &mut Events) {
        match self.framing {
            Framing::Events => events.data(chunk),
            Framing::NewArray => {
                self.framing = Framing::Array;
                events.push(format!("[{chunk}"));
            }
            Framing::Array => events.push(format!(",\r\n{chunk}")),
        }
    }
}

impl Dialect for GeminiDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let candidates = told.replies.iter().enumerate().map(|(index, reply)| {
            let mut parts: Vec<Value> = (0..reply.parts.len())
                .filter_map(|place| self.part(reply, place, &reply.parts[place].text))
                .collect();
            if let (Some(last), true) = (parts.last_mut(), ends_signed(reply)) {
                last["thoughtSignature"] = sign(self.seed, "text").into();
            }
            candidate(index, parts, Some(&reply.finish))
        });
        let candidates = candidates.collect();
        to_json(&chunk(told, candidates, &told.counts))
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let (choice, parts, finish) = match beat {
            Beat::Token {
                choice,
                part,
                token,
            } => {
                let reply = &told.replies[choice];
                self.made += 1;
                self.made_thinking += u64::from(reply.parts[part].is_thought());
                if reply.parts[part].tool().is_some() {
                    return;
                }
                let text = reply.parts[part].token(token);
                match self.part(reply, part, text) {
                    Some(part) => (choice, vec![part], None),
                    None => return,
                }
            }
            // A call comes in one piece.
            Beat::Close { choice, part } => {
                let reply = &told.replies[choice];
                if reply.parts[part].tool().is_none() {
                    return;
                }
                match self.part(reply, part, "") {
                    Some(part) => (choice, vec![part], None),
                    None => return,
                }
            }
            Beat::End { choice } => {
                let reply = &told.replies[choice];
                let mut last = json!({"text": ""});
                if ends_signed(reply) {
                    last["thoughtSignature"] = sign(self.seed, "text").into();
                }
                (choice, vec![last], Some(&reply.finish))
            }
            Beat::Done if self.framing == Framing::Array => {
                events.push("]");
                return;
            }
            Beat::Start | Beat::Open { .. } | Beat::Done => return,
        };
        let candidates = vec![candidate(choice, parts, finish)];
        // Each chunk counts what was made so far, and the last one all.
        let counts = match finish {
            Some(_) => told.counts,
            None => Counts {
                output: self.made,
                thought: self.made_thinking,
                ..told.counts
            },
        };
        let chunk = chunk(told, candidates, &counts);
        self.chunk(&chunk, events);
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        let error = error::event(refusal);
        match self.framing {
            Framing::Events => events.data(&error),
            Framing::NewArray => events.push(format!("[{error}]")),
            Framing::Array => events.push(format!(",\r\n{error}]")),
        }
    }

    fn stream_type(&self) -> ContentType {
        match self.framing {
            Framing::Events => ContentType::EventStream,
            Framing::NewArray | Framing::Array => ContentType::Json,
        }
    }
}

/// Whether an answer in text carries a signature at its end: where something was thought.
fn ends_signed(reply: &Reply) -> bool {
    reply.thought().is_some() && reply.parts.last().is_some_and(Output::is_said)
}

fn candidate(index: usize, parts: Vec<Value>, finish: Option<&Finish>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if let Some(finish) = finish {
        candidate["finishReason"] = match finish {
            // Google says the same of a call as of a text.
            Finish::Stop | Finish::Sequence(_) | Finish::ToolCalls => "STOP",
            Finish::Length => "MAX_TOKENS",
            Finish::Filtered => "SAFETY",
        }
        .into();
    }
    candidate
}

fn chunk(told: &Told, candidates: Vec<Value>, counts: &Counts) -> Value {
    let mut chunk = json!({
        "candidates": candidates,
        "modelVersion": told.model,
        "responseId": format!("sim-{}", told.call),
    });
    if told.reports_usage() {
        chunk["usageMetadata"] = usage(counts);
    }
    chunk
}

/// Google's counts: the candidates' are without the thoughts, and a zero is left out.
fn usage(counts: &Counts) -> Value {
    let pairs = [
        ("promptTokenCount", counts.prompt as u64),
        ("candidatesTokenCount", counts.output - counts.thought),
        ("totalTokenCount", counts.total()),
        ("cachedContentTokenCount", counts.cached as u64),
        ("thoughtsTokenCount", counts.thought),
    ];
    let pairs = pairs.into_iter().filter(|(_, count)| *count > 0);
    let mut usage: Map<String, Value> = pairs
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    let details = json!([{"modality": "TEXT", "tokenCount": counts.prompt}]);
    usage.insert("promptTokensDetails".into(), details);
    usage.into()
}
