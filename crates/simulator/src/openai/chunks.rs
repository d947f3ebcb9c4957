//! What chats and completions have in common: an object with a list of choices, whole or in
//! chunks, and OpenAI's `usage`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::beats::Beat;
use crate::config::Provider;
use crate::dialect::{Counts, Dialect, Told, write_json};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::stream::Events;

/// One endpoint's way to write choices. Each method appends one JSON object, an element of
/// `choices`.
pub(super) trait ChoiceDialect: Send + Sync + fmt::Debug {
    /// The names of its objects.
    fn names(&self) -> Names;

    /// A whole choice.
    fn write_choice(&self, json: &mut Vec<u8>, index: usize, reply: &Reply);

    /// Whether a part begins with something before its first token.
    fn has_opening(&self, reply: &Reply, part: usize) -> bool;

    /// What comes before a part's first token.
    fn write_opening(&self, json: &mut Vec<u8>, index: usize, reply: &Reply, part: usize);

    /// Whether a client gets to see a part.
    fn shows(&self, reply: &Reply, part: usize) -> bool;

    /// One token of a part.
    fn write_token(&self, json: &mut Vec<u8>, index: usize, reply: &Reply, at: (usize, usize));

    /// The end, with its reason.
    fn write_closing(&self, json: &mut Vec<u8>, index: usize, reply: &Reply);
}

/// What an endpoint calls its objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// What ids begin with.
    pub(super) id_prefix: &'static str,
    /// A whole answer's `object`.
    pub(super) whole: &'static str,
    /// A chunk's `object`.
    pub(super) chunk: &'static str,
}

/// How many likely words an answer shows beside each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LikelyWords(pub(super) usize);

/// A request's `stream_options`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamOptions {
    include_usage: Option<bool>,
}

/// Where a stream says what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamUsage {
    /// Nowhere: `include_usage` was not asked for.
    NotAsked,
    /// In a chunk of its own at the end; the others have a `null`.
    OwnChunk,
    /// In the chunk that ends the last choice, as Mistral has it.
    LastChoice,
}

impl StreamUsage {
    /// From a request's `stream_options`.
    pub(super) fn read(provider: Provider, options: Option<&StreamOptions>) -> Self {
        match options.and_then(|options| options.include_usage) {
            _ if provider == Provider::Mistral => Self::LastChoice,
            Some(true) => Self::OwnChunk,
            _ => Self::NotAsked,
        }
    }
}

/// OpenAI's `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    prompt_tokens: usize,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionTokensDetails>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct PromptTokensDetails {
    cached_tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct CompletionTokensDetails {
    reasoning_tokens: u64,
}

/// An answer of choices.
#[derive(Debug)]
pub(super) struct Chunked<D> {
    pub(super) choices: D,
    pub(super) provider: Provider,
    pub(super) usage: StreamUsage,
    /// `{…,"choices":[` of a chunk, once the stream has begun.
    head: Vec<u8>,
}

/// The fields before `choices`, from the opening brace on.
#[derive(Serialize)]
struct Head<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    x_sim: Extra,
}

/// A field that no API knows, so that passing on what is unknown can be tested.
#[derive(Serialize)]
struct Extra {
    call: u64,
    salted: bool,
    cached_tokens: usize,
}

impl<D: ChoiceDialect> Chunked<D> {
    /// An answer that `choices` writes.
    pub(super) fn new(choices: D, provider: Provider, usage: StreamUsage) -> Self {
        Self {
            choices,
            provider,
            usage,
            head: Vec::new(),
        }
    }

    fn usage_of(&self, counts: &Counts) -> Usage {
        // An engine says nothing of thoughts where there are none.
        let says_thoughts = self.provider != Provider::Vllm || counts.thought > 0;
        Usage {
            prompt_tokens: counts.prompt,
            completion_tokens: counts.output,
            total_tokens: counts.total(),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: counts.cached,
            },
            completion_tokens_details: says_thoughts.then_some(CompletionTokensDetails {
                reasoning_tokens: counts.thought,
            }),
        }
    }

    /// Appends all up to where the choices stand: `{…,"choices":[`.
    fn write_head(&self, json: &mut Vec<u8>, object: &'static str, told: &Told) {
        let head = Head {
            id: format!("{}sim-{}", self.choices.names().id_prefix, told.call),
            object,
            created: told.created,
            model: &told.model,
            system_fingerprint: "fp_simulator",
            x_sim: Extra {
                call: told.call,
                salted: told.salted,
                cached_tokens: told.counts.cached,
            },
        };
        write_json(json, &head);
        json.pop();
        json.extend_from_slice(b",\"choices\":[");
    }

    /// A chunk that has what `write` writes as its choices.
    fn chunk(
        &self,
        told: &Told,
        usage: Option<Usage>,
        write: impl FnOnce(&D, &mut Vec<u8>),
    ) -> Vec<u8> {
        // 160: a token's choice is about 80, and doubling the head's vector costs a copy.
        let mut json = Vec::with_capacity(self.head.len() + 160);
        json.extend_from_slice(&self.head);
        write(&self.choices, &mut json);
        json.push(b']');
        let usage = usage.filter(|_| told.reports_usage());
        if usage.is_some() || self.usage == StreamUsage::OwnChunk {
            json.extend_from_slice(b",\"usage\":");
            write_json(&mut json, &usage);
        }
        json.extend_from_slice(b"}\n\n");
        json
    }
}

impl<D: ChoiceDialect> Dialect for Chunked<D> {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let mut json = Vec::with_capacity(512);
        self.write_head(&mut json, self.choices.names().whole, told);
        for (index, reply) in told.replies.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            self.choices.write_choice(&mut json, index, reply);
        }
        json.push(b']');
        if told.reports_usage() {
            json.extend_from_slice(b",\"usage\":");
            write_json(&mut json, &self.usage_of(&told.counts));
        }
        json.push(b'}');
        json
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let replies = &told.replies;
        let chunk = match beat {
            Beat::Start => {
                let mut head = b"data: ".to_vec();
                self.write_head(&mut head, self.choices.names().chunk, told);
                self.head = head;
                return;
            }
            Beat::Open { choice, part } if self.choices.has_opening(&replies[choice], part) => self
                .chunk(told, None, |choices, json| {
                    choices.write_opening(json, choice, &replies[choice], part);
                }),
            Beat::Token {
                choice,
                part,
                token,
            } if self.choices.shows(&replies[choice], part) => {
                self.chunk(told, None, |choices, json| {
                    choices.write_token(json, choice, &replies[choice], (part, token));
                })
            }
            Beat::Open { .. } | Beat::Token { .. } | Beat::Close { .. } => return,
            Beat::End { choice } => {
                let is_last = choice + 1 == replies.len();
                let has_usage = is_last && self.usage == StreamUsage::LastChoice;
                let usage = has_usage.then(|| self.usage_of(&told.counts));
                self.chunk(told, usage, |choices, json| {
                    choices.write_closing(json, choice, &replies[choice]);
                })
            }
            Beat::Done => {
                if self.usage == StreamUsage::OwnChunk && told.reports_usage() {
                    let usage = self.usage_of(&told.counts);
                    events.push(self.chunk(told, Some(usage), |_, _| {}));
                }
                events.push(DONE);
                return;
            }
        };
        events.push(chunk);
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        events.push(format!("data: {}\n\n", refusal.body()));
        events.push(DONE);
    }
}

const DONE: &[u8] = b"data: [DONE]\n\n";
