//! What Gemini streams (`alt=sse`): chunks in the shape of whole answers, each with what is new.

use super::answer::{Frame, each_part, read_frame, read_logprobs, read_part, read_stop};
use crate::conversation::{
    AnswerEvent, Content, Part, PartDelta, PartStart, StopReason, StreamFailure, ToolCall,
};
use crate::dialect::read::{At, Misread};
use crate::dialect::stream::{PartTracker, SseReader};
use crate::dialect::{UnreadableAnswer, checked};

/// 8: the largest `candidateCount`.
const CANDIDATES_MAX: usize = 8;

/// Reads the stream of one answer.
#[derive(Debug, Default)]
pub(in crate::dialect) struct GeminiStreamReader {
    begun: bool,
    ended: bool,
    id: Option<String>,
    candidates: Vec<Progress>,
}

/// How far one candidate is.
#[derive(Debug, Default)]
struct Progress {
    parts: PartTracker,
    calls: usize,
    stopped: bool,
}

impl SseReader for GeminiStreamReader {
    fn event(
        &mut self,
        data: &[u8],
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), UnreadableAnswer> {
        if self.ended {
            return Ok(());
        }
        let root = checked(data)?;
        if let Some(error) = root.get("error") {
            events.push(AnswerEvent::Error(read_failure(&error)?));
            self.ended = true;
            return Ok(());
        }
        let frame = read_frame(&root)?;
        self.begin(&frame, events);
        if let Some(candidates) = root.get("candidates") {
            let mut position = 0;
            candidates.array(|candidate| {
                self.candidate(&candidate, position, events)?;
                position += 1;
                Ok::<_, Misread>(())
            })?;
        }
        if frame.blocked {
            self.stop(0, StopReason::Refused, events);
        }
        events.extend(frame.usage.map(AnswerEvent::Usage));
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<AnswerEvent>) -> Result<(), UnreadableAnswer> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let all_stopped = self.candidates.iter().all(|progress| progress.stopped);
        if self.candidates.is_empty() || !all_stopped {
            return Err(UnreadableAnswer::new(
                "its stream ended before the answer did",
            ));
        }
        events.push(AnswerEvent::End);
        Ok(())
    }
}

impl GeminiStreamReader {
    fn begin(&mut self, frame: &Frame, events: &mut Vec<AnswerEvent>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.id.clone_from(&frame.id);
        events.push(AnswerEvent::Begin {
            id: frame.id.clone(),
            model: frame.model.clone(),
            created: None,
            service_tier: None,
        });
    }

    fn candidate(
        &mut self,
        candidate: &At<'_>,
        position: usize,
        events: &mut Vec<AnswerEvent>,
    ) -> Result<(), Misread> {
        let index = match candidate.get("index") {
            Some(index) => usize::try_from(index.u64()?).unwrap_or(usize::MAX),
            None => position,
        };
        if index >= CANDIDATES_MAX {
            return Err(candidate.refuse("has a number above 7"));
        }
        if self.candidates.len() <= index {
            self.candidates.resize_with(index + 1, Progress::default);
        }
        if self.candidates[index].stopped {
            return Ok(());
        }
        each_part(candidate, |part| {
            let number = self.candidates[index].calls;
            if let Some(part) = read_part(&part, self.id.as_deref(), index, number)? {
                self.candidates[index].part(index as u32, part, events);
            }
            Ok(())
        })?;
        if let Some(result) = candidate.get("logprobsResult") {
            events.push(AnswerEvent::Logprobs {
                candidate: index as u32,
                content: read_logprobs(&result)?,
            });
        }
        if let Some(reason) = read_stop(candidate, self.candidates[index].calls > 0)? {
            self.stop(index, reason, events);
        }
        Ok(())
    }

    fn stop(&mut self, index: usize, reason: StopReason, events: &mut Vec<AnswerEvent>) {
        if self.candidates.len() <= index {
            self.candidates.resize_with(index + 1, Progress::default);
        }
        let progress = &mut self.candidates[index];
        if !std::mem::replace(&mut progress.stopped, true) {
            progress.parts.end(index as u32, events);
            events.push(AnswerEvent::Stop {
                candidate: index as u32,
                reason,
            });
        }
    }
}

impl Progress {
    /// Texts go on over chunks; calls come whole.
    fn part(&mut self, candidate: u32, part: Part, events: &mut Vec<AnswerEvent>) {
        let signature = part.signature.map(PartDelta::Signature);
        let (start, text) = match part.content {
            Content::ToolCall(call) => {
                self.calls += 1;
                let ToolCall { id, name, .. } = call;
                let start = PartStart::ToolCall { id, name };
                self.parts.begin(candidate, start, events);
                // The signature first: writers may have to say it where the call begins.
                if let Some(signature) = signature {
                    self.parts.delta(candidate, signature, events);
                }
                let arguments = PartDelta::Arguments(call.arguments);
                self.parts.delta(candidate, arguments, events);
                self.parts.end(candidate, events);
                return;
            }
            Content::Reasoning(text) => (PartStart::Reasoning, text),
            Content::Text(text) => (PartStart::Text, text),
            _ => return,
        };
        self.parts.ensure(candidate, start, events);
        if !text.is_empty() {
            self.parts.delta(candidate, PartDelta::Text(text), events);
        }
        if let Some(signature) = signature {
            self.parts.delta(candidate, signature, events);
            // As in a whole answer, what follows a signature is another part.
            self.parts.end(candidate, events);
        }
    }
}

/// `{"code": 503, "message": "…", "status": "UNAVAILABLE"}`
fn read_failure(error: &At<'_>) -> Result<StreamFailure, Misread> {
    let text = |name| {
        error
            .get(name)
            .map_or(Ok(String::new()), |text| text.text())
    };
    Ok(StreamFailure {
        kind: text("status")?,
        message: text("message")?,
    })
}
