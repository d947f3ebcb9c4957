//! Looking through an answer while it streams, event by event, in the client's dialect.
//!
//! Each text of the answer (a choice's content, a block, a tool's arguments) has a guard of its
//! own. An event goes on with what its guard has released; what is held back comes with a later
//! event, and the rest before the event that ends the text.

mod asked;
mod chat;
mod messages;
mod responses;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use models::{Dialect, EVENT_BYTES_MAX, Event, SseSplitter};
use serde_json::{Value, json};

use super::texts::Part;
use super::{Blocked, Inspector, Noted, restorer_for};
use crate::guard::{Flow, Remote, Restorer, Side, StreamGuard};
use crate::refusal::Refusal;
use asked::Asked;
use chat::add_rest;
use messages::messages_delta;

/// 1,024 texts of one answer: 128 choices, the most that providers give, with seven tools each.
const TEXTS_MAX: usize = 1_024;

/// Why a stream ends before its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// A guardrail ends it, or what its checks need has no room.
    Refused(Refusal),
    /// It is not what a stream of this dialect is, so that nobody can tell what it says.
    Unreadable,
}

impl From<Blocked> for StreamEnd {
    fn from(blocked: Blocked) -> Self {
        Self::Refused(blocked.into())
    }
}

impl From<Refusal> for StreamEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How far a stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reached {
    #[default]
    Middle,
    End,
}

/// A stream that was looked through a little further.
pub(crate) struct Looked<R> {
    pub(crate) stream: Box<InspectedStream<R>>,
    /// What goes on.
    pub(crate) out: BytesMut,
    /// Whether that is the last of it.
    pub(crate) end: Result<(), StreamEnd>,
}

/// A streamed answer that is looked through. Where no check asks anybody, nothing here ever waits.
pub(crate) struct InspectedStream<R> {
    dialect: Dialect,
    inspector: Inspector,
    /// Who is asked, if anybody is.
    remote: Option<R>,
    splitter: SseSplitter,
    texts: BTreeMap<Key, Channel>,
    /// The last event of a text, which the rest of the text can be said in.
    template: Option<Value>,
    /// How many events there are more than the upstream sent.
    added: u64,
}

/// Which text of an answer: its choice or item, its part, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64, u64, Field);

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Content,
    Refusal,
    Reasoning,
    /// Another spelling of it, which some engines send beside it.
    ReasoningContent,
    Arguments,
}

impl Field {
    const fn part(self) -> Part {
        match self {
            Self::Content => Part::Said,
            Self::Refusal | Self::Reasoning | Self::ReasoningContent => Part::Aside,
            Self::Arguments => Part::Arguments,
        }
    }
}

/// The guards of one text, in their order, and the way back.
struct Channel {
    guards: Vec<StreamGuard>,
    /// What is held back until others have said what they make of it.
    asked: Option<Asked>,
    restorer: Restorer,
    is_over: bool,
}

impl<R> std::fmt::Debug for InspectedStream<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InspectedStream")
            .field("inspector", &self.inspector)
            .field("texts", &self.texts.len())
            .finish_non_exhaustive()
    }
}

impl<R: Remote> InspectedStream<R> {
    /// A stream in this dialect; none if nothing would come of looking. Without `remote` checks
    /// that ask are not made: it is there wherever there are any.
    pub(crate) fn new(dialect: Dialect, inspector: Inspector, remote: Option<R>) -> Option<Self> {
        let asks = inspector.asks_of(Side::Output);
        inspector.changes_answers().then(|| Self {
            dialect,
            inspector,
            remote: remote.filter(|_| asks),
            splitter: SseSplitter::new(EVENT_BYTES_MAX),
            texts: BTreeMap::new(),
            template: None,
            added: 0,
        })
    }

    /// Whether looking may wait for somebody who is asked.
    pub(crate) fn asks(&self) -> bool {
        self.remote.is_some()
    }

    /// Takes the next bytes, or those and the end.
    pub(crate) async fn look(mut self: Box<Self>, piece: Bytes, reached: Reached) -> Looked<R> {
        let mut out = BytesMut::with_capacity(piece.len());
        let mut end = self.feed(piece, &mut out).await;
        if end.is_ok() && reached == Reached::End {
            end = self.finish(&mut out).await;
        }
        Looked {
            stream: self,
            out,
            end,
        }
    }

    /// What was found so far.
    pub(crate) fn noted(&self) -> Noted {
        let mut noted = self.inspector.noted;
        for guard in self.texts.values().flat_map(|text| &text.guards) {
            for finding in guard.findings().list() {
                noted.add(finding);
            }
        }
        noted
    }

    /// Takes the next bytes and adds to `out` what goes on.
    ///
    /// # Errors
    ///
    /// [`StreamEnd`]; then what is in `out` is the last that goes on.
    async fn feed(&mut self, piece: Bytes, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let events: Vec<_> = self.splitter.feed(piece).collect();
        for event in events {
            let event = event.map_err(|_| StreamEnd::Unreadable)?;
            self.event(&event, out).await?;
        }
        Ok(())
    }

    /// The stream came to its end: adds to `out` what is left of it.
    ///
    /// # Errors
    ///
    /// As above.
    async fn finish(&mut self, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let splitter = std::mem::replace(&mut self.splitter, SseSplitter::new(EVENT_BYTES_MAX));
        if let Some(event) = splitter.finish() {
            self.event(&event, out).await?;
        }
        self.flush_all(out).await
    }

    async fn event(&mut self, event: &Event, out: &mut BytesMut) -> Result<(), StreamEnd> {
        let Some(data) = &event.data else {
            out.extend_from_slice(&event.raw);
            return Ok(());
        };
        if &**data == b"[DONE]" {
            self.flush_all(out).await?;
            out.extend_from_slice(&event.raw);
            return Ok(());
        }
        let mut value: Value = serde_json::from_slice(data).map_err(|_| StreamEnd::Unreadable)?;
        if !value.is_object() {
            return Err(StreamEnd::Unreadable);
        }
        match self.dialect {
            Dialect::Anthropic => self.of_messages(&mut value, out).await?,
            Dialect::OpenAiResponses => self.of_responses(&mut value, data, out).await?,
            _ => self.of_chat(&mut value).await?,
        }
        self.put(&value, out);
        Ok(())
    }

    /// Writes an event.
    fn put(&self, value: &Value, out: &mut BytesMut) {
        if self.dialect != Dialect::OpenAiChat
            && let Some(kind) = value["type"].as_str()
        {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(value.to_string().as_bytes());
        out.extend_from_slice(b"\n\n");
    }

    /// What goes on of a text that has come this far.
    async fn push(&mut self, key: Key, piece: &str) -> Result<String, StreamEnd> {
        if self.texts.len() >= TEXTS_MAX && !self.texts.contains_key(&key) {
            return Err(StreamEnd::Unreadable);
        }
        let inspector = &mut self.inspector;
        let remote = self.remote.as_ref();
        let text = self.texts.entry(key).or_insert_with(|| {
            let asked = remote.map(|_| Asked::by(&inspector.output));
            Channel::new(inspector, key.2.part(), asked)
        });
        text.take(inspector, remote, Some(piece)).await
    }

    /// What is left of a text that has ended.
    async fn flush(&mut self, key: Key) -> Result<String, StreamEnd> {
        match self.texts.get_mut(&key) {
            Some(text) if !text.is_over => {
                text.take(&mut self.inspector, self.remote.as_ref(), None)
                    .await
            }
            _ => Ok(String::new()),
        }
    }

    /// The stream ends: texts that nothing has ended are said to their end in events of their own.
    async fn flush_all(&mut self, out: &mut BytesMut) -> Result<(), StreamEnd> {
        for key in self.texts.keys().copied().collect::<Vec<_>>() {
            let rest = self.flush(key).await?;
            if rest.is_empty() {
                continue;
            }
            let event = match self.dialect {
                Dialect::Anthropic => messages_delta(key, &rest),
                Dialect::OpenAiResponses => {
                    let mut delta = self.template.clone().unwrap_or_default();
                    delta["delta"] = json!(rest);
                    delta
                }
                _ => {
                    let is_completion = self
                        .template
                        .as_ref()
                        .is_some_and(|template| template.pointer("/choices/0/text").is_some());
                    let mut choice = json!({"index": key.0, "finish_reason": null});
                    match is_completion {
                        true => choice["text"] = json!(""),
                        false => choice["delta"] = json!({}),
                    }
                    add_rest(&mut choice, key, &rest);
                    let mut chunk = self.template.clone().unwrap_or_default();
                    chunk["choices"] = json!([choice]);
                    chunk
                }
            };
            self.put(&event, out);
        }
        Ok(())
    }
}

impl Channel {
    fn new(inspector: &Inspector, part: Part, asked: Option<Asked>) -> Self {
        let guards = inspector.output.iter().map(|named| {
            let guard = std::sync::Arc::clone(&named.guard);
            match part {
                Part::Said => StreamGuard::new(guard),
                Part::Aside | Part::Arguments => StreamGuard::aside(guard),
            }
        });
        Self {
            guards: guards.collect(),
            asked,
            restorer: restorer_for(part),
            is_over: false,
        }
    }

    /// Sends a piece, or the end, through the guards one after the other.
    async fn take<R: Remote>(
        &mut self,
        inspector: &mut Inspector,
        remote: Option<&R>,
        piece: Option<&str>,
    ) -> Result<String, StreamEnd> {
        self.is_over = piece.is_none();
        let mut passing = piece.unwrap_or_default().to_owned();
        for (guard, named) in self.guards.iter_mut().zip(&inspector.output) {
            let mut released = String::with_capacity(passing.len());
            let mut flow = guard.push(&passing, &mut inspector.vault, &mut released);
            if flow == Flow::Continue && self.is_over {
                flow = guard.finish(&mut inspector.vault, &mut released);
            }
            if flow == Flow::Blocked {
                let by = guard.findings().blocking();
                let blocked = Blocked {
                    guardrail: named.name.clone(),
                    check: by.map_or_else(|| named.name.clone(), |by| by.check.clone()),
                    side: Side::Output,
                };
                return Err(blocked.into());
            }
            passing = released;
        }
        if let (Some(asked), Some(remote)) = (&mut self.asked, remote) {
            let end = match self.is_over {
                true => Reached::End,
                false => Reached::Middle,
            };
            passing = asked.take(inspector, remote, &passing, end).await?;
        }
        let mut restored = String::with_capacity(passing.len());
        self.restorer
            .push(&inspector.vault, &passing, &mut restored);
        if self.is_over {
            self.restorer.finish(&mut restored);
        }
        Ok(restored)
    }
}

#[cfg(test)]
mod tests;
