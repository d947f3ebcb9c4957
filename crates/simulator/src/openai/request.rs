//! A chat's request, as OpenAI and its imitations write it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::chunks::StreamOptions;
use crate::refusal::Refusal;
use crate::turn::Turn;

/// What the engine reads of a request; what else is in it is accepted.
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest<'a> {
    /// Azure's deployments are models that the path names.
    #[serde(borrow, default)]
    pub(super) model: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    pub(super) tools: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) tool_choice: Option<Value>,
    #[serde(borrow, default)]
    pub(super) response_format: Option<&'a RawValue>,
    pub(super) n: Option<usize>,
    pub(super) max_tokens: Option<u32>,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) stop: Option<Stop>,
    pub(super) seed: Option<i64>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<usize>,
    pub(super) cache_salt: Option<Cow<'a, str>>,
    /// SGLang's name for the same.
    pub(super) extra_key: Option<Cow<'a, str>>,
    /// OpenAI's: which prompts belong together in its cache.
    pub(super) prompt_cache_key: Option<Cow<'a, str>>,
    /// vLLM's.
    pub(super) priority: Option<i64>,
    pub(super) reasoning_effort: Option<Cow<'a, str>>,
    /// Mistral's name for `seed`.
    pub(super) random_seed: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) content: Content<'a>,
    #[serde(borrow, default)]
    pub(super) tool_calls: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tool_call_id: Option<Cow<'a, str>>,
    /// What an engine thought before, sent back.
    #[serde(borrow, default, alias = "reasoning")]
    pub(super) reasoning_content: Option<Cow<'a, str>>,
}

/// A message's content: a text, parts, or none.
#[derive(Debug, Default)]
pub(super) enum Content<'a> {
    #[default]
    Empty,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Part<'a> {
    #[serde(borrow, default)]
    pub(super) text: Option<Cow<'a, str>>,
    /// Whatever describes what is no text: it counts as an image.
    #[serde(
        borrow,
        default,
        alias = "input_audio",
        alias = "file",
        alias = "video_url"
    )]
    pub(super) image_url: Option<&'a RawValue>,
}

/// A request's `stop`: one sequence or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Stop {
    /// The sequences.
    ///
    /// # Errors
    ///
    /// More than 16, which no provider takes, or an empty one.
    pub(super) fn sequences(stop: Option<&Self>) -> Result<Vec<String>, Refusal> {
        let sequences = match stop {
            None => Vec::new(),
            Some(Self::One(sequence)) => vec![sequence.clone()],
            Some(Self::Several(sequences)) => sequences.clone(),
        };
        if sequences.len() > 16 || sequences.iter().any(String::is_empty) {
            return Err(Refusal::bad_field(
                "stop",
                "`stop` is up to 16 sequences, none of them empty.",
            ));
        }
        Ok(sequences)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    pub(super) function: Function,
}

#[derive(Debug, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    #[serde(default)]
    pub(super) parameters: Option<Value>,
    #[serde(default)]
    pub(super) strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ResponseFormat {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) json_schema: Option<NamedSchema>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedSchema {
    #[serde(default)]
    pub(super) schema: Option<Value>,
    #[serde(default)]
    pub(super) strict: Option<bool>,
}

impl Message<'_> {
    pub(super) fn texts(&self) -> Vec<&str> {
        match &self.content {
            Content::Empty => Vec::new(),
            Content::Text(text) => vec![text],
            Content::Parts(parts) => parts
                .iter()
                .filter_map(|part| part.text.as_deref())
                .collect(),
        }
    }
}

impl Part<'_> {
    pub(super) fn push_to(&self, turn: &mut Turn<'_>) {
        if let Some(text) = &self.text {
            turn.prompt.push(text);
        }
        if let Some(image) = self.image_url {
            turn.prompt.push_image(image.get());
        }
    }
}

/// By hand, since a derived untagged enum copies every text twice.
impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of parts, or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::Empty)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
    }
}
