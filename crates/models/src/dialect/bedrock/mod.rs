//! AWS Bedrock's Converse, streamed over [event-stream framing](crate::EventStreamDecoder).
//!
//! Fields beyond Converse go to the model as `additionalModelRequestFields`, in its maker's words:
//! see [`Maker`]. Anthropic's signatures are the same here as at Anthropic.

mod answer;
mod content;
mod request;
mod stream;

pub(super) use answer::read_answer;
pub(super) use request::write_request;
pub(super) use stream::BedrockStreamReader;

/// Who made a model: Converse leaves some things to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Anthropic,
    /// Amazon's Nova.
    Nova,
    /// The open weights of OpenAI.
    OpenAi,
    Other,
}

impl Maker {
    /// From a model's id or inference profile: `eu.anthropic.claude-…`, or an ARN with it.
    fn of(model: &str) -> Self {
        let known = [
            ("anthropic.", Self::Anthropic),
            ("amazon.nova", Self::Nova),
            ("openai.", Self::OpenAi),
        ];
        let maker = known.iter().find(|(name, _)| model.contains(name));
        maker.map_or(Self::Other, |(_, maker)| *maker)
    }
}

#[cfg(test)]
mod tests;
