//! What the gateway has to know of a call before it may be dispatched.

use base::ModelName;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::content::{self, Media};
use crate::envelope::{Envelope, Field, Kind};
use crate::error::InvalidRequest;
use crate::json::Json;
use crate::raw::Raw;

/// Which endpoint was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
    /// `/v1/embeddings`
    Embedding,
    /// `/v1/messages`
    Messages,
    /// `/v1/messages/count_tokens`
    CountTokens,
    /// `/v1/responses`
    Responses,
    /// `/v1/rerank`
    Rerank,
    /// `/v1/moderations`
    Moderation,
}

impl Operation {
    /// Whether the request is of Anthropic's Messages.
    pub fn is_messages(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }
}

/// The field in which a client bounds the output, so that the gateway writes its own bound there.
/// In a chat the other may be there too, with the same value: remove it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLimitField {
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
    /// `max_output_tokens`
    MaxOutputTokens,
}

/// The essentials of one call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which endpoint was called.
    pub operation: Operation,
    /// The model's name, as the client says it.
    pub model: ModelName,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the client asked for the stream's usage chunk.
    pub include_usage: bool,
    /// Answers asked for (`n`), for each prompt.
    pub n: u32,
    /// Answers generated for each prompt: the larger of `n` and `best_of`.
    pub candidates: u32,
    /// Prompts in this call: more than 1 only if completions or embeddings are given several.
    pub prompt_count: u32,
    /// The most tokens that each candidate may have, if the client said so, and where.
    pub output_tokens_asked: Option<(u64, OutputLimitField)>,
    /// Whether the model may call tools.
    pub has_tools: bool,
    /// The tools, as JSON, without a copy.
    pub tools: Option<Bytes>,
    /// Images in the messages.
    pub image_count: u32,
    /// Names of what costs tokens that cannot be bounded from the request: audio, video, files,
    /// a chat template of the client's … At most 8, each once.
    pub unbounded: SmallVec<[String; 1]>,
    /// Bytes of whatever could become prompt text, as written; image data and token ids are not
    /// among them.
    pub prompt_bytes: u64,
    /// Prompt tokens given as ids.
    pub prompt_token_ids: u64,
    /// The most tokens that rendering can add to structured fields such as tools.
    pub structure_tokens: u64,
    /// Messages of a chat; 0 for other operations.
    pub message_count: u32,
    /// The client's own word for its user.
    pub user: Option<String>,
    /// The tier that the client asks its provider for.
    pub service_tier: Option<String>,
}

/// 16: role, separators and names that chat templates put around one message (the largest seen,
/// Llama 3's with its header and end, has 6).
const TOKENS_PER_MESSAGE: u64 = 16;

/// 64: what templates put before and after a conversation (Llama 3's date lines have 35).
const TOKENS_PER_PROMPT: u64 = 64;

/// 3: a template that indents JSON puts at most a line break and two tokens of white space where
/// the client wrote a brace, bracket, comma or colon.
pub(crate) const TOKENS_PER_STRUCTURE: u64 = 3;

/// 128: OpenAI's own bound of `n`.
const CANDIDATES_MAX: u64 = 128;

/// Fields that never become part of a prompt. All others count, the unknown too, since an engine
/// may render them.
fn is_no_prompt(name: &str) -> bool {
    matches!(
        name,
        "best_of"
            | "dimensions"
            | "echo"
            | "encoding_format"
            | "frequency_penalty"
            | "logit_bias"
            | "logprobs"
            | "max_completion_tokens"
            | "max_tokens"
            | "metadata"
            | "model"
            | "n"
            | "parallel_tool_calls"
            | "presence_penalty"
            | "safety_identifier"
            | "seed"
            | "service_tier"
            | "stop"
            | "store"
            | "stream"
            | "stream_options"
            | "temperature"
            | "top_logprobs"
            | "top_p"
            | "user"
    )
}

/// Fields that make an engine read or write more tokens than the request bounds, or a service
/// answer with another model or at another price (`models`, `preset`, `provider`).
const UNBOUNDED_FIELDS: &[&str] = &[
    "audio",
    "chat_template",
    "models",
    "plugins",
    "prediction",
    "preset",
    "prompt_embeds",
    "provider",
    "search_parameters",
    "web_search_options",
];

impl Call {
    /// Reads the essentials. What it does not know is left to the upstream.
    ///
    /// # Errors
    /// A field that is read here is missing, of the wrong type or out of range; the text is
    /// OpenAI's where it has one.
    pub fn parse(operation: Operation, envelope: &Envelope) -> Result<Self, InvalidRequest> {
        let mut call = Self::empty(operation, model(operation, envelope)?);
        let mut limits = Limits::default();
        for field in &envelope.fields {
            let name = envelope.name(field);
            if field.kind != Kind::Null {
                call.read(envelope, field, &name, &mut limits)?;
                call.count(envelope, field, &name)?;
            }
        }
        call.candidates = call.n.max(limits.best_of);
        call.output_tokens_asked = limits.agreed()?;
        if call.include_usage && !call.stream {
            return Err(InvalidRequest::new(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled."
                    .to_owned(),
                "stream_options",
                "invalid_value",
            ));
        }
        if operation == Operation::Messages && call.output_tokens_asked.is_none() {
            return Err(InvalidRequest::missing("max_tokens"));
        }
        if matches!(operation, Operation::Messages | Operation::Responses) {
            // Streams of these dialects always say it.
            call.include_usage = call.stream;
        }
        if operation == Operation::Rerank {
            call.check_rerank(envelope)?;
        }
        match operation {
            Operation::Chat | Operation::Messages | Operation::CountTokens
                if call.message_count == 0 =>
            {
                Err(missing_items(envelope, "messages"))
            }
            Operation::Embedding | Operation::Moderation | Operation::Responses
                if call.prompt_count == 0 =>
            {
                Err(missing_items(envelope, "input"))
            }
            Operation::Rerank if call.prompt_count == 0 => {
                Err(missing_items(envelope, "documents"))
            }
            _ => {
                call.prompt_count = call.prompt_count.max(1);
                Ok(call)
            }
        }
    }

    /// No tokenizer reads more input tokens than this. For byte-level BPE (and SentencePiece with
    /// byte fallback) a token stands for at least one byte of UTF-8, so tokens ≤ bytes + what the
    /// template adds. JSON as written is never shorter than the text it means: each escape is
    /// longer than the UTF-8 of its character. Images, and what `unbounded` names, are not in it.
    pub fn input_tokens_bound(&self) -> u64 {
        self.prompt_bytes
            .saturating_add(self.prompt_token_ids)
            .saturating_add(self.structure_tokens)
            .saturating_add(TOKENS_PER_MESSAGE * u64::from(self.message_count))
            .saturating_add(TOKENS_PER_PROMPT * u64::from(self.prompt_count))
    }

    /// Answers that the upstream generates: candidates × prompts; 0 where it generates none.
    pub fn generations(&self) -> u64 {
        match self.operation {
            Operation::Embedding
            | Operation::Moderation
            | Operation::CountTokens
            | Operation::Rerank => 0,
            _ => u64::from(self.candidates) * u64::from(self.prompt_count),
        }
    }

    fn empty(operation: Operation, model: ModelName) -> Self {
        Self {
            operation,
            model,
            stream: false,
            include_usage: false,
            n: 1,
            candidates: 1,
            prompt_count: 0,
            output_tokens_asked: None,
            has_tools: false,
            tools: None,
            image_count: 0,
            unbounded: SmallVec::new(),
            prompt_bytes: 0,
            prompt_token_ids: 0,
            structure_tokens: 0,
            message_count: 0,
            user: None,
            service_tier: None,
        }
    }

    /// Takes from one field what is read from it.
    fn read(
        &mut self,
        envelope: &Envelope,
        field: &Field,
        name: &str,
        limits: &mut Limits,
    ) -> Result<(), InvalidRequest> {
        let value = envelope.value(field);
        let wrong = |expected| InvalidRequest::wrong_type(name, expected, field.kind);
        let text = || value.as_str().ok_or_else(|| wrong("a string"));
        match (name, self.operation) {
            (
                "stream",
                Operation::Embedding
                | Operation::Moderation
                | Operation::CountTokens
                | Operation::Rerank,
            ) => {
                return Err(InvalidRequest::new(
                    "Unrecognized request argument supplied: stream".to_owned(),
                    name,
                    "unknown_parameter",
                ));
            }
            ("stream", _) => self.stream = value.as_bool().ok_or_else(|| wrong("a boolean"))?,
            // Padding against timing is all that it asks for there.
            ("stream_options", Operation::Responses) => {}
            ("stream_options", _) => self.include_usage = include_usage(value, field.kind)?,
            ("max_output_tokens", Operation::Responses) => {
                limits.max_output_tokens = Some(envelope.field_u64(field, name)?);
            }
            ("input", Operation::Responses) => self.read_items(field)?,
            ("instructions", Operation::Responses) => {
                text()?;
            }
            ("documents", Operation::Rerank) => {
                if field.kind != Kind::Array {
                    return Err(wrong("an array of strings or objects"));
                }
                self.prompt_count = field.tally.items;
            }
            // No field of these operations, so that they bound nothing.
            ("n" | "max_tokens", Operation::Responses | Operation::Rerank) => {
                return Err(InvalidRequest::new(
                    format!("Unknown parameter: '{name}'."),
                    name,
                    "unknown_parameter",
                ));
            }
            ("n", _) => self.n = candidates(envelope, field, name)?,
            ("best_of", Operation::Completion) => {
                limits.best_of = candidates(envelope, field, name)?;
            }
            ("max_tokens", _) => limits.max_tokens = Some(envelope.field_u64(field, name)?),
            // Completions know `max_tokens` alone: a bound elsewhere would bind nobody.
            ("max_completion_tokens", Operation::Chat) => {
                limits.max_completion_tokens = Some(envelope.field_u64(field, name)?);
            }
            ("tools" | "functions", _) => {
                if field.kind != Kind::Array {
                    return Err(wrong("an array of objects"));
                }
                self.has_tools |= field.tally.items > 0;
                if name == "tools" {
                    self.tools = Some(envelope.value_bytes(field));
                }
            }
            ("user", _) => self.user = Some(text()?.into_owned()),
            ("service_tier", _) => self.service_tier = Some(text()?.into_owned()),
            ("metadata", Operation::Messages | Operation::CountTokens) => {
                self.read_messages_user(envelope, field)?;
            }
            ("messages", Operation::Chat | Operation::Messages | Operation::CountTokens) => {
                if field.kind != Kind::Array {
                    return Err(wrong("an array of objects"));
                }
                self.message_count = field.tally.items;
                self.prompt_count = 1;
            }
            ("prompt", Operation::Completion)
            | ("input", Operation::Embedding | Operation::Moderation) => {
                // One text and its images, as OpenAI's moderation takes them.
                let first = || value.elements().next().and_then(Raw::kind);
                let is_parts = self.operation == Operation::Moderation
                    && field.kind == Kind::Array
                    && first() == Some(Kind::Object);
                self.prompt_count = is_parts
                    .then_some(1)
                    .or_else(|| prompts(field, value))
                    .ok_or_else(|| wrong("a string or an array of strings or token ids"))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds what one field can cost.
    fn count(
        &mut self,
        envelope: &Envelope,
        field: &Field,
        name: &str,
    ) -> Result<(), InvalidRequest> {
        if self.operation.is_messages() {
            return self.count_messages_field(envelope, field, name);
        }
        match self.operation {
            Operation::Responses => return self.count_responses_field(envelope, field, name),
            Operation::Rerank => {
                self.count_rerank_field(envelope, field, name);
                return Ok(());
            }
            _ => {}
        }
        if is_no_prompt(name) {
            return Ok(());
        }
        let length = field.value_length();
        if UNBOUNDED_FIELDS.contains(&name) || modalities_beside_text(name, envelope.value(field)) {
            content::note(&mut self.unbounded, name);
        }
        match (name, field.kind) {
            ("messages", _) => {
                let mut media = Media::default();
                if field.tally.marked {
                    media = Media::in_messages(envelope.value(field))?;
                }
                self.prompt_bytes += length - media.image_bytes.min(length);
                self.add(media);
            }
            ("prompt" | "input", Kind::Array) if only_numbers(field) => {
                self.prompt_token_ids += u64::from(field.tally.numbers);
            }
            ("prompt" | "input", _) => {
                self.prompt_bytes += length;
                if field.tally.marked {
                    self.add(Media::in_value(envelope.value(field)));
                }
            }
            _ => {
                self.prompt_bytes += length;
                self.structure_tokens += TOKENS_PER_STRUCTURE * u64::from(field.tally.structure);
                // Unmarked, all types in it are those of functions.
                if name == "tools" && field.tally.marked {
                    content::note_tools(&mut self.unbounded, envelope.value(field));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, media: Media) {
        self.image_count = self.image_count.saturating_add(media.images);
        for name in &media.unbounded {
            content::note(&mut self.unbounded, name);
        }
    }
}

/// `stream_options` for the upstream: the client's, with `include_usage` on.
pub fn stream_options_with_usage(envelope: &Envelope) -> Json {
    let others = envelope.get("stream_options").into_iter();
    let others = others.flat_map(Raw::fields);
    let mut text = b"{\"include_usage\":true".to_vec();
    for (key, value) in others.filter(|(key, _)| !key.is("include_usage")) {
        text.extend_from_slice(b",\"");
        text.extend_from_slice(key.written());
        text.extend_from_slice(b"\":");
        text.extend_from_slice(value.bytes());
    }
    text.push(b'}');
    Json::valid(text)
}

/// The bounds that clients set, before they are known to agree.
#[derive(Default)]
struct Limits {
    best_of: u32,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
}

impl Limits {
    fn agreed(&self) -> Result<Option<(u64, OutputLimitField)>, InvalidRequest> {
        if let Some(limit) = self.max_output_tokens {
            return Ok(Some((limit, OutputLimitField::MaxOutputTokens)));
        }
        match (self.max_completion_tokens, self.max_tokens) {
            (Some(new), Some(old)) if new != old => Err(InvalidRequest::new(
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not \
                 supported: send one."
                    .to_owned(),
                "max_tokens",
                "invalid_parameter_combination",
            )),
            (Some(new), _) => Ok(Some((new, OutputLimitField::MaxCompletionTokens))),
            (None, old) => Ok(old.map(|old| (old, OutputLimitField::MaxTokens))),
        }
    }
}

/// What OpenAI's moderation endpoint answers with if nobody names a model, as its SDKs do not.
const MODERATION_MODEL: &str = "omni-moderation-latest";

fn model(operation: Operation, envelope: &Envelope) -> Result<ModelName, InvalidRequest> {
    let named = envelope.str("model");
    let unnamed = || (operation == Operation::Moderation).then_some(Ok(MODERATION_MODEL.into()));
    let name = named.or_else(unnamed).ok_or_else(|| {
        InvalidRequest::new(
            "you must provide a model parameter".to_owned(),
            "model",
            "missing_required_parameter",
        )
    })??;
    name.parse().map_err(|error| {
        InvalidRequest::new(
            format!("Invalid value for 'model': {error}."),
            "model",
            "invalid_value",
        )
    })
}

fn candidates(envelope: &Envelope, field: &Field, name: &str) -> Result<u32, InvalidRequest> {
    let count = envelope.field_u64(field, name)?;
    let wrong = |bound| {
        let message = format!("Invalid '{name}': integer {bound}, but got {count} instead.");
        InvalidRequest::new(message, name, "integer_out_of_range")
    };
    match u32::try_from(count) {
        Ok(0) => Err(wrong("below minimum value. Expected a value >= 1")),
        Ok(count) if u64::from(count) <= CANDIDATES_MAX => Ok(count),
        _ => Err(wrong("above maximum value. Expected a value <= 128")),
    }
}

fn include_usage(options: Raw<'_>, kind: Kind) -> Result<bool, InvalidRequest> {
    if kind != Kind::Object {
        let expected = "an object";
        return Err(InvalidRequest::wrong_type("stream_options", expected, kind));
    }
    let asked = options.get("include_usage");
    let Some(asked) = asked.filter(|asked| asked.kind() != Some(Kind::Null)) else {
        return Ok(false);
    };
    asked.as_bool().ok_or_else(|| {
        let kind = asked.kind().unwrap_or(Kind::Null);
        InvalidRequest::wrong_type("stream_options.include_usage", "a boolean", kind)
    })
}

/// How many prompts a value gives; `None` if it gives none in any known form.
fn prompts(field: &Field, value: Raw<'_>) -> Option<u32> {
    match field.kind {
        Kind::String => Some(1),
        Kind::Array => match value.elements().next().and_then(Raw::kind) {
            Some(Kind::Number) => (field.tally.numbers == field.tally.items).then_some(1),
            Some(Kind::String | Kind::Array) => Some(field.tally.items),
            None => Some(0),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a prompt is token ids alone, in one array or one for each prompt.
fn only_numbers(field: &Field) -> bool {
    field.tally.strings == 0 && field.tally.numbers > 0
}

fn modalities_beside_text(name: &str, value: Raw<'_>) -> bool {
    let text = |modality: Raw<'_>| modality.as_str().as_deref() == Some("text");
    name == "modalities" && !value.elements().all(text)
}

fn missing_items(envelope: &Envelope, name: &str) -> InvalidRequest {
    match envelope.kind(name) {
        None | Some(Kind::Null) => InvalidRequest::missing(name),
        Some(_) => InvalidRequest::new(
            format!(
                "Invalid '{name}': empty array. Expected an array with minimum length 1, but got \
                 an empty array instead."
            ),
            name,
            "empty_array",
        ),
    }
}
