//! The dialects: one folder each, with its reading, writing, streams and their tests.
//!
//! A dialect reads requests if clients may speak it ([`Dialect::read_request`]) and writes them
//! if upstreams do ([`Dialect::write_request`]); answers and streams go the other way.

mod anthropic;
mod bedrock;
mod cache_mark;
mod cohere;
mod count;
mod embedding;
mod error_body;
mod flavour;
mod gemini;
mod ids;
mod media;
mod metering;
mod openai_chat;
mod openai_responses;
mod read;
mod refusal;
mod rerank;
mod stream;
#[cfg(test)]
mod testing;
mod usage;
mod write;

use bytes::Bytes;

pub use anthropic::AnthropicMeter;
pub use count::{CountDialect, count_tokens_json, read_count_tokens};
pub use embedding::{
    EmbeddingAnswer, EmbeddingDialect, EmbeddingInput, EmbeddingRequest, Encoding, Purpose, Vector,
};
pub use flavour::Flavour;
pub use metering::classify_responses;
pub(crate) use openai_chat::refuse_what_it_does;
pub use openai_responses::{
    ResponseEcho, added_items, conversation_of, input_items, item_id_prefix, join_items,
    output_items, shown_item, without_state,
};
use read::At;
pub use rerank::{Ranked, RerankAnswer, RerankDialect, RerankDocument, RerankRequest, RerankUsage};
use stream::Sse;
pub(crate) use stream::{StreamReader, StreamWriter};

use crate::conversation::{Answer, AnswerEvent, Assembler, Conversation};
use crate::envelope::Envelope;
use crate::error::InvalidRequest;
use crate::raw::Raw;
use crate::scan;

/// A way to ask a model and to hear its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's chat completions, and whoever speaks alike: see [`Flavour`].
    OpenAiChat,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini, by API key or through Vertex.
    Gemini,
    /// AWS Bedrock's Converse.
    Bedrock,
    /// Cohere's chat, version 2.
    Cohere,
}

/// What the gateway says of a request, and no client.
#[derive(Debug, Clone, Copy)]
pub struct Forced<'a> {
    /// The model's name at the upstream.
    pub model: &'a str,
    /// The most tokens of each candidate, reasoning included.
    pub output_tokens: u64,
    /// Whether the upstream streams its answer.
    pub stream: bool,
    /// The tenant's salt, for engines that take one.
    pub salt: Option<&'a str>,
}

/// What an answer is called where its upstream does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerNames {
    /// The answer's id: the gateway's id of the request.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// When it was answered, in seconds since 1970.
    pub created: u64,
}

/// Whether a client's stream says what the answer cost. Only OpenAI's chat leaves the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamUsage {
    /// The client asked for it.
    Wanted,
    /// The client did not.
    Unwanted,
}

/// A request cannot be said in the upstream's dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{field}' {why}")]
pub struct Untranslatable {
    /// The client's field: `messages.0.content.1`.
    pub field: String,
    /// Why not, and what to do instead, as half a sentence after the field's name.
    pub why: String,
}

/// An upstream's answer is not what its dialect says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upstream's answer cannot be read: {what}")]
pub struct UnreadableAnswer {
    /// What is wrong with it. Has none of the answer's text.
    pub what: String,
}

impl Dialect {
    const ALL: [Self; 6] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::Anthropic,
        Self::Gemini,
        Self::Bedrock,
        Self::Cohere,
    ];

    /// Its name in configuration, logs and carried signatures.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// The most tokens that a provider puts into a prompt by itself, beyond what
    /// [`Call::input_tokens_bound`](crate::Call::input_tokens_bound) counts. 1,024 for Anthropic's
    /// models: the longest of its own instructions for tools has 530 tokens as documented, and
    /// those for JSON schemas come on top.
    pub fn input_tokens_added(self) -> u64 {
        match self {
            Self::Anthropic | Self::Bedrock => 1_024,
            Self::OpenAiChat | Self::OpenAiResponses | Self::Gemini | Self::Cohere => 0,
        }
    }

    /// Reads a client's request.
    ///
    /// # Errors
    /// What is not a request of this dialect, or says what no other dialect could.
    pub fn read_request(self, envelope: &Envelope) -> Result<Conversation, Untranslatable> {
        match self {
            Self::Anthropic => anthropic::read_request(envelope),
            Self::OpenAiChat => openai_chat::read_request(envelope),
            Self::OpenAiResponses => openai_responses::read_request(envelope),
            Self::Gemini | Self::Bedrock | Self::Cohere => Err(self.not_spoken()),
        }
    }

    /// Writes an upstream's request. `flavour` matters to OpenAI's dialects alone: to its chat in
    /// all, to Responses for the salt.
    ///
    /// # Errors
    /// The conversation has what this dialect, or this flavour of it, cannot say.
    pub fn write_request(
        self,
        flavour: Flavour,
        conversation: &Conversation,
        forced: &Forced<'_>,
    ) -> Result<Bytes, Untranslatable> {
        match self {
            Self::Anthropic => anthropic::write_request(conversation, forced),
            Self::OpenAiChat => openai_chat::write_request(flavour, conversation, forced),
            Self::Gemini => gemini::write_request(conversation, forced),
            Self::Bedrock => bedrock::write_request(conversation, forced),
            Self::Cohere => cohere::write_request(conversation, forced),
            Self::OpenAiResponses => openai_responses::write_request(flavour, conversation, forced),
        }
    }

    /// Reads an upstream's whole answer.
    ///
    /// # Errors
    /// It is not an answer of this dialect.
    pub fn read_answer(self, body: &[u8]) -> Result<Answer, UnreadableAnswer> {
        match self {
            Self::Anthropic => anthropic::read_answer(body),
            Self::OpenAiChat => openai_chat::read_answer(body),
            Self::Gemini => gemini::read_answer(body),
            Self::Bedrock => bedrock::read_answer(body),
            Self::Cohere => cohere::read_answer(body),
            Self::OpenAiResponses => openai_responses::read_answer(body),
        }
    }

    /// Writes a client's whole answer. `names` stand in for what its upstream did not say.
    ///
    /// # Errors
    /// Clients do not speak this dialect.
    pub fn write_answer(
        self,
        answer: &Answer,
        names: &AnswerNames,
    ) -> Result<Bytes, UnreadableAnswer> {
        match self {
            Self::Anthropic => Ok(anthropic::write_answer(answer, names)),
            Self::OpenAiChat => Ok(openai_chat::write_answer(answer, names)),
            Self::OpenAiResponses => {
                let echo = ResponseEcho::default();
                Ok(openai_responses::write_answer(answer, names, &echo))
            }
            Self::Gemini | Self::Bedrock | Self::Cohere => Err(self.not_read()),
        }
    }

    /// Reads an upstream's stream.
    pub(crate) fn stream_reader(self) -> Result<Box<dyn StreamReader>, UnreadableAnswer> {
        match self {
            Self::Anthropic => Ok(Box::new(Sse::new(
                anthropic::MessagesStreamReader::default(),
            ))),
            Self::OpenAiChat => Ok(Box::new(Sse::new(openai_chat::ChatStreamReader::default()))),
            Self::Gemini => Ok(Box::new(Sse::new(gemini::GeminiStreamReader::default()))),
            Self::Bedrock => Ok(Box::new(bedrock::BedrockStreamReader::default())),
            Self::Cohere => Ok(Box::new(Sse::new(cohere::CohereStreamReader::default()))),
            Self::OpenAiResponses => Ok(Box::new(Sse::new(
                openai_responses::ResponsesStreamReader::default(),
            ))),
        }
    }

    /// Reads an upstream's stream that was recorded whole, as the answer that it says.
    ///
    /// # Errors
    /// It is not a stream of this dialect, is incomplete, or ends with the upstream's failure.
    pub fn read_stream(self, stream: Bytes) -> Result<Answer, UnreadableAnswer> {
        let mut reader = self.stream_reader()?;
        let mut events = Vec::new();
        reader.feed(stream, &mut events)?;
        reader.finish(&mut events)?;
        let mut assembler = Assembler::default();
        for event in &events {
            if let AnswerEvent::Error(failure) = event {
                return Err(UnreadableAnswer::new(format!(
                    "it failed: {}",
                    failure.kind
                )));
            }
            let added = assembler.add(event);
            added.map_err(|error| UnreadableAnswer::new(error.to_string()))?;
        }
        Ok(assembler.finish())
    }

    /// Writes a whole answer as the stream that a client who asked for one would have had.
    ///
    /// # Errors
    /// Clients do not speak this dialect.
    pub fn write_stream(
        self,
        answer: &Answer,
        names: AnswerNames,
        usage: StreamUsage,
    ) -> Result<Bytes, UnreadableAnswer> {
        let mut writer = self.stream_writer(names, usage)?;
        let mut out = Vec::new();
        for event in answer.to_events() {
            writer.write(&event, &mut out);
        }
        Ok(out.into())
    }

    /// Writes a client's stream.
    pub(crate) fn stream_writer(
        self,
        names: AnswerNames,
        usage: StreamUsage,
    ) -> Result<Box<dyn StreamWriter>, UnreadableAnswer> {
        match self {
            Self::Anthropic => Ok(Box::new(anthropic::MessagesStreamWriter::new(names))),
            Self::OpenAiChat => Ok(Box::new(openai_chat::ChatStreamWriter::new(names, usage))),
            Self::OpenAiResponses => {
                let echo = ResponseEcho::default();
                Ok(Box::new(openai_responses::ResponsesStreamWriter::new(
                    names, echo,
                )))
            }
            Self::Gemini | Self::Bedrock | Self::Cohere => Err(self.not_read()),
        }
    }

    fn not_spoken(self) -> Untranslatable {
        let name = self.name();
        Untranslatable::new(
            "model",
            format!("needs a translation of the dialect '{name}', and there is none"),
        )
    }

    fn not_read(self) -> UnreadableAnswer {
        let name = self.name();
        UnreadableAnswer::new(format!("the dialect '{name}' is not spoken this way"))
    }
}

/// A response in the client's dialect, which says its request again.
pub(crate) fn write_response(answer: &Answer, names: &AnswerNames, echo: &ResponseEcho) -> Bytes {
    openai_responses::write_answer(answer, names, echo)
}

/// As [`Dialect::stream_writer`], for responses that say their request again.
pub(crate) fn response_stream_writer(
    names: AnswerNames,
    echo: ResponseEcho,
) -> Box<dyn StreamWriter> {
    Box::new(openai_responses::ResponsesStreamWriter::new(names, echo))
}

/// An upstream's body, checked to be JSON, so that reading it is exact.
fn checked(body: &[u8]) -> Result<At<'_>, UnreadableAnswer> {
    scan::check_value(body).map_err(|error| UnreadableAnswer::new(error.to_string()))?;
    Ok(At::root(Raw::new(body)))
}

impl Untranslatable {
    /// A field and why it cannot be said.
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            why: why.into(),
        }
    }
}

impl UnreadableAnswer {
    /// From half a sentence that has none of the answer's text.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl From<Untranslatable> for InvalidRequest {
    fn from(error: Untranslatable) -> Self {
        Self::new(error.to_string(), &error.field, "unsupported_parameter")
    }
}
