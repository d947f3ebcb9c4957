//! The whole answer out of its pieces.

use super::{Answer, AnswerEvent, Candidate, Content, Part, PartDelta, PartStart, ToolCall};
use crate::json::Json;

/// Builds an [`Answer`] out of a stream's events.
#[derive(Debug)]
pub struct Assembler {
    answer: Answer,
    /// Elements of each candidate's log probabilities, joined by commas.
    logprobs: Vec<Vec<u8>>,
}

/// An event that cannot follow those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event of the answer is out of order: {what}")]
pub struct EventOutOfOrder {
    /// Which.
    pub what: &'static str,
}

/// 128: OpenAI's own bound of `n`.
const CANDIDATES_MAX: u32 = 128;

impl Default for Assembler {
    fn default() -> Self {
        Self {
            answer: Answer {
                id: None,
                model: None,
                created: None,
                candidates: Vec::new(),
                usage: None,
                service_tier: None,
            },
            logprobs: Vec::new(),
        }
    }
}

impl Assembler {
    /// Adds one event. An error of the upstream adds nothing.
    ///
    /// # Errors
    /// The event is out of the order that [`AnswerEvent`] promises.
    pub fn add(&mut self, event: &AnswerEvent) -> Result<(), EventOutOfOrder> {
        match event {
            AnswerEvent::Begin {
                id,
                model,
                created,
                service_tier,
            } => {
                self.answer.id.clone_from(id);
                self.answer.model.clone_from(model);
                self.answer.created = *created;
                self.answer.service_tier.clone_from(service_tier);
            }
            AnswerEvent::PartBegin {
                candidate,
                part,
                start,
            } => {
                let parts = &mut self.candidate(*candidate)?.parts;
                if parts.len() as u64 != u64::from(*part) {
                    let what = "a part begins that is not the next";
                    return Err(EventOutOfOrder { what });
                }
                parts.push(empty_part(start));
            }
            AnswerEvent::Delta {
                candidate,
                part,
                delta,
            } => {
                let parts = &mut self.candidate(*candidate)?.parts;
                let known = parts.get_mut(*part as usize);
                let what = "a part goes on that has not begun";
                add_delta(known.ok_or(EventOutOfOrder { what })?, delta)?;
            }
            AnswerEvent::Logprobs { candidate, content } => {
                self.candidate(*candidate)?;
                self.add_logprobs(*candidate as usize, content);
            }
            AnswerEvent::Stop { candidate, reason } => {
                self.candidate(*candidate)?.stop = Some(reason.clone());
            }
            AnswerEvent::Usage(usage) => self.answer.usage = Some(*usage),
            AnswerEvent::PartEnd { .. } | AnswerEvent::Error(_) | AnswerEvent::End => {}
        }
        Ok(())
    }

    /// The answer, as far as it came.
    pub fn finish(mut self) -> Answer {
        let joined = self.logprobs.into_iter();
        for (candidate, elements) in self.answer.candidates.iter_mut().zip(joined) {
            if !elements.is_empty() {
                let mut text = vec![b'['];
                text.extend_from_slice(&elements);
                text.push(b']');
                candidate.logprobs = Some(Json::valid(text));
            }
        }
        if self.answer.candidates.is_empty() {
            self.answer.candidates.push(Candidate::default());
        }
        self.answer
    }

    fn candidate(&mut self, index: u32) -> Result<&mut Candidate, EventOutOfOrder> {
        if index >= CANDIDATES_MAX {
            let what = "a candidate has a number above 127";
            return Err(EventOutOfOrder { what });
        }
        let index = index as usize;
        if self.answer.candidates.len() <= index {
            let candidates = &mut self.answer.candidates;
            candidates.resize_with(index + 1, Candidate::default);
            self.logprobs.resize_with(index + 1, Vec::new);
        }
        Ok(&mut self.answer.candidates[index])
    }

    fn add_logprobs(&mut self, candidate: usize, content: &Json) {
        let known = &mut self.logprobs[candidate];
        for element in content.raw().elements() {
            if !known.is_empty() {
                known.push(b',');
            }
            known.extend_from_slice(element.bytes());
        }
    }
}

fn empty_part(start: &PartStart) -> Part {
    match start {
        PartStart::Text => Content::Text(String::new()),
        PartStart::Reasoning => Content::Reasoning(String::new()),
        PartStart::RedactedReasoning => Content::RedactedReasoning,
        PartStart::Refusal => Content::Refusal(String::new()),
        PartStart::ToolCall { id, name } => Content::ToolCall(ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments: String::new(),
        }),
    }
    .into()
}

fn add_delta(part: &mut Part, delta: &PartDelta) -> Result<(), EventOutOfOrder> {
    match (delta, &mut part.content) {
        (PartDelta::Signature(signature), _) => part.signature = Some(signature.clone()),
        (
            PartDelta::Text(more),
            Content::Text(text) | Content::Reasoning(text) | Content::Refusal(text),
        ) => text.push_str(more),
        (PartDelta::Arguments(more), Content::ToolCall(call)) => call.arguments.push_str(more),
        _ => {
            let what = "a part goes on as what it is not";
            return Err(EventOutOfOrder { what });
        }
    }
    Ok(())
}
