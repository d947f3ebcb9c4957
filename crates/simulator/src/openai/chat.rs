//! `POST /v1/chat/completions`: what is asked. How it is answered is in `chat_dialect.rs`.

use std::borrow::Cow;
use std::sync::Arc;

use base::Supervisor;
use serde_json::{Value, json};

use super::chat_dialect::ChatDialect;
use super::chunks::{Chunked, LikelyWords, StreamUsage};
use super::request::{ChatRequest, Content, ResponseFormat, Stop, Tool};
use super::strict;
use crate::config::Provider;
use crate::dialect::to_json;
use crate::engine::EngineState;
use crate::generation::{Asked, Delivery, account_caching, check_model, compute, generate};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::turn::{Format, Speaker, Thinking, ToolChoice, Turn};
use crate::vllm;

/// Choices of one call at most. 128: OpenAI's bound of `n`.
pub(super) const CHOICES_MAX: usize = 128;

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

/// Tokenizes a chat, as vLLM does: `POST /tokenize`.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn tokenize(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let provider = call.api.manners();
    let request: ChatRequest<'_> =
        serde_json::from_slice(&call.body).map_err(|error| strict::unreadable(provider, &error))?;
    vllm::check_model(state, &request.model)?;
    let turn = request.turn(provider)?;
    let faults = turn.directives(&call.parts.headers)?.faults;
    let count = turn.prompt.tokens();
    let ids: Vec<usize> = (0..count).collect();
    let answer = json!({"count": count, "max_model_len": 131_072, "tokens": ids});
    compute(state, supervisor, &faults, 0, || to_json(&answer)).await
}

fn read(state: &EngineState, call: &Call) -> Result<Asked, Refusal> {
    let provider = call.api.manners();
    strict::check_names(call, &strict::CHAT)?;
    let mut request: ChatRequest<'_> =
        serde_json::from_slice(&call.body).map_err(|error| strict::unreadable(provider, &error))?;
    if !call.path_model.is_empty() {
        request.model = Cow::Borrowed(&call.path_model);
    }
    let request = request;
    let priority = vllm::priority(state, provider, request.priority)?;
    let likely_words = request.likely_words()?;
    let turn = request.turn(provider)?;
    let (caching, salted) = match provider {
        Provider::Vllm => {
            vllm::check_model(state, &request.model)?;
            let salt = request
                .cache_salt
                .as_deref()
                .or(request.extra_key.as_deref());
            (vllm::caching(state, &request.model, salt)?, salt.is_some())
        }
        Provider::OpenAi | Provider::Mistral => {
            check_model(state, &request.model)?;
            strict::check_tool_messages(provider, &request.messages)?;
            let key = request.prompt_cache_key.as_deref().unwrap_or_default();
            (
                account_caching(state, "openai", call.account, &request.model, key),
                false,
            )
        }
    };
    let directives = turn.directives(&call.parts.headers)?;
    let choices = ChatDialect {
        likely_words,
        provider,
    };
    let usage = StreamUsage::read(provider, request.stream_options.as_ref());
    Ok(Asked {
        call: call.number,
        caching,
        salted,
        priority,
        replies: turn.replies(state, &request.model, &directives),
        delivery: Delivery::read(request.stream),
        faults: directives.faults,
        dialect: Box::new(Chunked::new(choices, provider, usage)),
        prompts: vec![turn.prompt],
        model: request.model.into_owned(),
    })
}

impl ChatRequest<'_> {
    fn turn(&self, provider: Provider) -> Result<Turn<'_>, Refusal> {
        let mut turn = Turn {
            prompt: Prompt::with_capacity(1_024),
            tools: self.tools(provider)?,
            tool_choice: self.tool_choice(),
            format: self.format(provider)?,
            thinking: self.thinking(provider),
            limit: self.limit()?,
            stops: Stop::sequences(self.stop.as_ref())?,
            more_choices: self.choices()? - 1,
            seed: self.seed.or(self.random_seed).unwrap_or_default(),
            ..Turn::default()
        };
        if turn.tool_choice_problem().is_some() {
            let message = "`tool_choice` wants a tool that `tools` does not have.";
            return Err(Refusal::bad_field("tool_choice", message));
        }
        self.write_prompt(&mut turn);
        Ok(turn)
    }

    /// All that a model would read, in the order in which it stays the same the longest.
    fn write_prompt<'a>(&'a self, turn: &mut Turn<'a>) {
        if let Some(tools) = self.tools {
            turn.prompt.push(tools.get());
        }
        for message in &self.messages {
            turn.begin_message(&message.role);
            turn.speaker = Speaker::Other;
            if message.role == "user" {
                turn.user_speaks();
                turn.user_texts = message.texts();
            }
            if let Some(thought) = &message.reasoning_content {
                turn.prompt.push(thought);
            }
            match &message.content {
                Content::Empty => {}
                Content::Text(text) => turn.prompt.push(text),
                Content::Parts(parts) => parts.iter().for_each(|part| part.push_to(turn)),
            }
            if let Some(calls) = message.tool_calls {
                turn.prompt.push(calls.get());
            }
        }
        turn.begin_message("assistant");
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

    fn limit(&self) -> Result<Option<u32>, Refusal> {
        let limit = self.max_completion_tokens.or(self.max_tokens);
        if limit == Some(0) {
            let message = "`max_tokens` must be at least 1.";
            return Err(Refusal::bad_field("max_tokens", message));
        }
        Ok(limit)
    }

    /// An engine thinks where a marker says so; OpenAI's models where an effort is named.
    fn thinking(&self, provider: Provider) -> Thinking {
        match (provider, self.reasoning_effort.as_deref()) {
            (Provider::Mistral, _) | (_, Some("none")) => Thinking::Off,
            (_, None) => Thinking::Possible,
            (_, Some(_)) => Thinking::UpTo(u32::MAX),
        }
    }

    fn tools(&self, provider: Provider) -> Result<Vec<crate::turn::Tool<'_>>, Refusal> {
        let Some(raw) = self.tools else {
            return Ok(Vec::new());
        };
        let tools: Vec<Tool> =
            serde_json::from_str(raw.get()).map_err(|error| Refusal::unreadable(&error))?;
        for function in tools.iter().map(|tool| &tool.function) {
            if let (Provider::OpenAi, Some(true), Some(schema)) =
                (provider, function.strict, &function.parameters)
            {
                let what = format!("function '{}'", function.name);
                strict::check_strict_schema(&what, schema)?;
            }
        }
        let offered = tools.into_iter().map(|tool| crate::turn::Tool {
            name: Cow::Owned(tool.function.name),
            schema: tool.function.parameters.map(Cow::Owned),
        });
        Ok(offered.collect())
    }

    fn tool_choice(&self) -> ToolChoice<'_> {
        let choice = self.tool_choice.as_ref();
        let named = choice.and_then(|choice| choice["function"]["name"].as_str());
        match (choice.and_then(Value::as_str), named) {
            (Some("none"), _) => ToolChoice::Never,
            // `any` is Mistral's word.
            (Some("required" | "any"), _) => ToolChoice::Required,
            (_, Some(name)) => ToolChoice::Named(Cow::Borrowed(name)),
            _ => ToolChoice::Auto,
        }
    }

    /// The form that `response_format` asks for.
    fn format(&self, provider: Provider) -> Result<Format<'_>, Refusal> {
        let Some(raw) = self.response_format else {
            return Ok(Format::Text);
        };
        let format: ResponseFormat =
            serde_json::from_str(raw.get()).map_err(|error| Refusal::unreadable(&error))?;
        let is_strict = format.json_schema.as_ref().and_then(|named| named.strict);
        let schema = format.json_schema.and_then(|named| named.schema);
        if let (Provider::OpenAi, Some(true), Some(schema)) = (provider, is_strict, &schema) {
            strict::check_strict_schema("response_format", schema)?;
        }
        match (format.kind.as_str(), schema) {
            ("text", _) => Ok(Format::Text),
            ("json_object", _) => Ok(Format::Object),
            ("json_schema", Some(schema)) => Ok(Format::Schema(Cow::Owned(schema))),
            _ => Err(Refusal::bad_field(
                "response_format",
                "`response_format` is of type text, json_object, or json_schema with a schema.",
            )),
        }
    }
}
