//! The pieces of an answer that is whole already: the way back of [`super::Assembler`].

use super::{Answer, AnswerEvent, Candidate, Content, Part, PartDelta, PartStart};

impl Answer {
    /// The events of a stream that says this answer, each part in one piece.
    pub fn to_events(&self) -> Vec<AnswerEvent> {
        let mut events = vec![AnswerEvent::Begin {
            id: self.id.clone(),
            model: self.model.clone(),
            created: self.created,
            service_tier: self.service_tier.clone(),
        }];
        for (number, candidate) in (0..).zip(&self.candidates) {
            add_candidate(number, candidate, &mut events);
        }
        events.extend(self.usage.map(AnswerEvent::Usage));
        events.push(AnswerEvent::End);
        events
    }
}

fn add_candidate(number: u32, candidate: &Candidate, events: &mut Vec<AnswerEvent>) {
    if let Some(content) = &candidate.logprobs {
        events.push(AnswerEvent::Logprobs {
            candidate: number,
            content: content.clone(),
        });
    }
    let mut place = 0;
    for part in &candidate.parts {
        let Some((start, text)) = begun(part) else {
            continue;
        };
        events.push(AnswerEvent::PartBegin {
            candidate: number,
            part: place,
            start,
        });
        let signature = part.signature.clone().map(PartDelta::Signature);
        let deltas = text.into_iter().chain(signature);
        events.extend(deltas.map(|delta| AnswerEvent::Delta {
            candidate: number,
            part: place,
            delta,
        }));
        events.push(AnswerEvent::PartEnd {
            candidate: number,
            part: place,
        });
        place += 1;
    }
    if let Some(reason) = &candidate.stop {
        events.push(AnswerEvent::Stop {
            candidate: number,
            reason: reason.clone(),
        });
    }
}

/// How a part begins, and all that it says; none of what no model answers with.
fn begun(part: &Part) -> Option<(PartStart, Option<PartDelta>)> {
    let text = |text: &String| (!text.is_empty()).then(|| PartDelta::Text(text.clone()));
    Some(match &part.content {
        Content::Text(said) => (PartStart::Text, text(said)),
        Content::Reasoning(thought) => (PartStart::Reasoning, text(thought)),
        Content::Refusal(said) => (PartStart::Refusal, text(said)),
        Content::RedactedReasoning => (PartStart::RedactedReasoning, None),
        Content::ToolCall(call) => {
            let start = PartStart::ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
            };
            let arguments = PartDelta::Arguments(call.arguments.clone());
            (start, (!call.arguments.is_empty()).then_some(arguments))
        }
        Content::Image { .. }
        | Content::Document { .. }
        | Content::Audio { .. }
        | Content::ToolResult(_) => return None,
    })
}
