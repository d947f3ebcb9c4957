//! `POST /v1/chat/completions`: what is asked. How it is answered is in `chat_dialect.rs`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base::Supervisor;
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chat_dialect::ChatDialect;
use crate::dialect::LikelyWords;
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::generation::{
    Asked, CHOICES_MAX, Delivery, StreamOptions, check_model, check_salt, generate,
};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::schema::{sample, sample_object};
use crate::text::{Bounds, Output, Script};
use crate::tokens::{Draw, digest};

/// `top_logprobs` at most, as OpenAI has it.
const TOP_LOGPROBS_MAX: usize = 20;

/// Answers a chat.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let asked = read(state, call)?;
    generate(state, supervisor, asked).await
}

fn read(state: &EngineState, call: &Call) -> Result<Asked, Refusal> {
    let request: ChatRequest<'_> =
        serde_json::from_slice(&call.body).map_err(|error| Refusal::unreadable(&error))?;
    check_model(state, &request.model)?;
    check_salt(state, request.cache_salt.as_deref())?;
    let likely_words = request.likely_words()?;
    let directives = Directives::read(&call.parts.headers, request.last_user_texts())?;
    let prompt = request.prompt();
    let seed = prompt.digest(digest(
        state.config.seed ^ request.seed.unwrap_or_default() as u64,
        request.model.as_bytes(),
    ));
    let bounds = request.bounds(&directives)?;
    let outputs = (0..request.choices()?)
        .map(|choice| {
            let seed = digest(seed, &choice.to_le_bytes());
            let script = request.script(state, &directives, seed)?;
            Ok(Output::write(script, &bounds, seed))
        })
        .collect::<Result<_, Refusal>>()?;
    Ok(Asked {
        call: call.number,
        salt: request.cache_salt.map(Cow::into_owned),
        delivery: Delivery::read(request.stream, request.stream_options.as_ref()),
        model: request.model.into_owned(),
        prompts: vec![prompt],
        outputs,
        faults: directives.faults,
        dialect: Box::new(ChatDialect { likely_words }),
    })
}

/// What the engine reads of a request; what else is in it is accepted.
#[derive(Debug, Deserialize)]
struct ChatRequest<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(borrow, default)]
    response_format: Option<&'a RawValue>,
    n: Option<usize>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    stop: Option<Stop>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    cache_salt: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Content<'a>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

/// A message's content: a text, parts, or none.
#[derive(Debug, Default)]
enum Content<'a> {
    #[default]
    Empty,
    Text(Cow<'a, str>),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    /// Whatever describes what is no text: it counts as an image.
    #[serde(
        borrow,
        default,
        alias = "input_audio",
        alias = "file",
        alias = "video_url"
    )]
    image_url: Option<&'a RawValue>,
}

/// A request's `stop`: one sequence or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stop {
    One(String),
    Several(Vec<String>),
}

impl Stop {
    /// The sequences.
    ///
    /// # Errors
    ///
    /// More than 16, which no provider takes, or an empty one.
    pub(crate) fn sequences(stop: Option<&Self>) -> Result<Vec<String>, Refusal> {
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
struct Tool {
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    parameters: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    json_schema: Option<NamedSchema>,
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    #[serde(default)]
    schema: Option<Value>,
}

impl ChatRequest<'_> {
    /// All that a model would read, in the order in which it stays the same the longest.
    fn prompt(&self) -> Prompt {
        let mut prompt = Prompt::with_capacity(1_024);
        if let Some(tools) = self.tools {
            prompt.push(tools.get());
        }
        for message in &self.messages {
            prompt.push("<|");
            prompt.push(&message.role);
            prompt.push("|>");
            match &message.content {
                Content::Empty => {}
                Content::Text(text) => prompt.push(text),
                Content::Parts(parts) => parts.iter().for_each(|part| part.push_to(&mut prompt)),
            }
            if let Some(calls) = message.tool_calls {
                prompt.push(calls.get());
            }
        }
        prompt.push("<|assistant|>");
        prompt
    }

    /// The texts of the last message of a user.
    fn last_user_texts(&self) -> Vec<&str> {
        let message = self.messages.iter().rfind(|message| message.role == "user");
        message.map(Message::texts).unwrap_or_default()
    }

    fn choices(&self) -> Result<usize, Refusal> {
        match self.n.unwrap_or(1) {
            n @ 1..=CHOICES_MAX => Ok(n),
            _ => Err(Refusal::bad_field("n", "`n` is from 1 to 128.")),
        }
    }

    fn likely_words(&self) -> Result<Option<LikelyWords>, Refusal> {
        let top = self.top_logprobs.unwrap_or(0);
        if top > TOP_LOGPROBS_MAX {
            let message = "`top_logprobs` is from 0 to 20.";
            return Err(Refusal::bad_field("top_logprobs", message));
        }
        Ok(matches!(self.logprobs, Some(true)).then_some(LikelyWords(top)))
    }

    fn bounds(&self, directives: &Directives) -> Result<Bounds, Refusal> {
        let limit = self.max_completion_tokens.or(self.max_tokens);
        if limit == Some(0) {
            let message = "`max_tokens` must be at least 1.";
            return Err(Refusal::bad_field("max_tokens", message));
        }
        Ok(Bounds {
            limit,
            overrun_tokens: directives.faults.overrun_tokens,
            stops: Stop::sequences(self.stop.as_ref())?,
        })
    }

    /// What to say: what a marker says, a tool call, JSON, or words.
    fn script(
        &self,
        state: &EngineState,
        directives: &Directives,
        seed: u64,
    ) -> Result<Script, Refusal> {
        if let Some(text) = &directives.say {
            return Ok(Script::Text(text.clone()));
        }
        let mut draw = Draw::new(seed);
        if let Some(function) = self.called_function()? {
            let arguments = match &function.parameters {
                Some(schema) => sample(schema, &mut draw),
                None => Value::Object(serde_json::Map::new()),
            };
            return Ok(Script::Call {
                tool: function.name,
                arguments: arguments.to_string(),
            });
        }
        if let Some(json) = self.formatted(&mut draw)? {
            return Ok(Script::Text(json.to_string()));
        }
        let words = directives.tokens.unwrap_or(state.config.output_tokens);
        Ok(Script::Words(words))
    }

    /// The function that this request is answered with, if with any.
    fn called_function(&self) -> Result<Option<Function>, Refusal> {
        let Some(raw) = self.tools else {
            return Ok(None);
        };
        let choice = self.tool_choice.as_ref();
        let named = choice.and_then(|choice| choice["function"]["name"].as_str());
        let word = choice.and_then(Value::as_str);
        let is_asked_for = match word {
            Some("none") => false,
            Some("required") => true,
            _ => named.is_some() || self.user_wants_tool(),
        };
        if !is_asked_for {
            return Ok(None);
        }
        let tools: Vec<Tool> =
            serde_json::from_str(raw.get()).map_err(|error| Refusal::unreadable(&error))?;
        let texts = self.last_user_texts();
        let is_mentioned = |name: &str| texts.iter().any(|text| text.contains(name));
        let place = match named {
            Some(name) => tools.iter().position(|tool| tool.function.name == name),
            None => tools
                .iter()
                .position(|tool| is_mentioned(&tool.function.name))
                .or((!tools.is_empty()).then_some(0)),
        };
        let Some(place) = place else {
            let message = "`tool_choice` wants a tool that `tools` does not have.";
            return Err(Refusal::bad_field("tool_choice", message));
        };
        Ok(tools.into_iter().nth(place).map(|tool| tool.function))
    }

    /// Whether the user just said "use the tool". Not once the tool has answered, or an agent
    /// would never come to an end.
    fn user_wants_tool(&self) -> bool {
        let last = self.messages.last();
        last.filter(|last| last.role == "user").is_some_and(|last| {
            last.texts()
                .iter()
                .any(|text| text.contains("use the tool"))
        })
    }

    /// The JSON that `response_format` asks for, if it asks for any.
    fn formatted(&self, draw: &mut Draw) -> Result<Option<Value>, Refusal> {
        let Some(raw) = self.response_format else {
            return Ok(None);
        };
        let format: ResponseFormat =
            serde_json::from_str(raw.get()).map_err(|error| Refusal::unreadable(&error))?;
        match (format.kind.as_str(), format.json_schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(sample_object(draw))),
            (
                "json_schema",
                Some(NamedSchema {
                    schema: Some(schema),
                }),
            ) => Ok(Some(sample(&schema, draw))),
            _ => Err(Refusal::bad_field(
                "response_format",
                "`response_format` is of type text, json_object, or json_schema with a schema.",
            )),
        }
    }
}

impl Message<'_> {
    fn texts(&self) -> Vec<&str> {
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
    fn push_to(&self, prompt: &mut Prompt) {
        if let Some(text) = &self.text {
            prompt.push(text);
        }
        if let Some(image) = self.image_url {
            prompt.push_image(image.get());
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
