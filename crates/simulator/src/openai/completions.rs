//! `POST /v1/completions`, the endpoint before chats.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Supervisor;
use serde::{Deserialize, Serialize};

use super::chat::CHOICES_MAX;
use super::chat_dialect::finish_reason;
use super::chunks::{ChoiceDialect, Chunked, LikelyWords, Names, StreamOptions, StreamUsage};
use super::request::Stop;
use super::strict;
use crate::config::Provider;
use crate::dialect::write_json;
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::generation::{Asked, Delivery, account_caching, check_model, generate};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::{Input, InputItem, Prompt};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::text::{Bounds, Output, Script};
use crate::tokens::digest;
use crate::vllm;

/// `logprobs` at most, as OpenAI has it.
const LOGPROBS_MAX: usize = 5;

/// The maximum of tokens of a request that names none, as OpenAI has it.
const MAX_TOKENS_DEFAULT: u32 = 16;

/// Answers a completion.
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

/// What the engine reads of a request; what else is in it is accepted.
#[derive(Debug, Deserialize)]
struct CompletionRequest {
    /// Azure's deployments are models that the path names.
    #[serde(default)]
    model: String,
    prompt: Input,
    n: Option<usize>,
    max_tokens: Option<u32>,
    stop: Option<Stop>,
    seed: Option<i64>,
    echo: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<usize>,
    cache_salt: Option<String>,
    extra_key: Option<String>,
    priority: Option<i64>,
}

fn read(state: &EngineState, call: &Call) -> Result<Asked, Refusal> {
    let provider = call.api.manners();
    strict::check_names(call, &strict::COMPLETION)?;
    let mut request: CompletionRequest =
        serde_json::from_slice(&call.body).map_err(|error| strict::unreadable(provider, &error))?;
    if !call.path_model.is_empty() {
        request.model.clone_from(&call.path_model);
    }
    let priority = vllm::priority(state, provider, request.priority)?;
    let salt = request
        .cache_salt
        .as_deref()
        .or(request.extra_key.as_deref());
    let caching = match provider {
        Provider::Vllm => {
            vllm::check_model(state, &request.model)?;
            vllm::caching(state, &request.model, salt)?
        }
        Provider::OpenAi | Provider::Mistral => {
            check_model(state, &request.model)?;
            account_caching(state, "openai", call.account, &request.model, "")
        }
    };
    let salted = salt.is_some();
    if request.logprobs.is_some_and(|count| count > LOGPROBS_MAX) {
        return Err(Refusal::bad_field("logprobs", "`logprobs` is from 0 to 5."));
    }
    let items = request.prompt.into_items();
    let per_prompt = request.n.unwrap_or(1);
    let choices = items.len().saturating_mul(per_prompt);
    if !(1..=CHOICES_MAX).contains(&choices) {
        let message = "Prompts times `n` are from 1 to 128 choices.";
        return Err(Refusal::bad_field("prompt", message));
    }
    let marked = items.last().map(InputItem::marked_text);
    let directives = Directives::read(&call.parts.headers, marked)?;
    let prompts: Vec<Prompt> = items.iter().map(InputItem::to_prompt).collect();
    let bounds = Bounds {
        limit: Some(request.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT)),
        overrun_tokens: directives.faults.overrun_tokens,
        stops: Stop::sequences(request.stop.as_ref())?,
    };
    let words = directives.tokens.unwrap_or(state.config.output_tokens);
    let seed = state.config.seed ^ request.seed.unwrap_or_default() as u64;
    let seed = digest(seed, request.model.as_bytes());
    let replies = (0..choices).map(|choice| {
        let seed = prompts[choice / per_prompt].digest(seed);
        let seed = digest(seed, &(choice % per_prompt).to_le_bytes());
        let script = match &directives.say {
            Some(text) => Script::Text(text.clone()),
            None => Script::Words(words),
        };
        Reply::write(vec![script], &bounds, seed)
    });
    let replies = replies.collect();
    let echoes = match request.echo {
        Some(true) => items.iter().map(InputItem::to_text).collect(),
        _ => Vec::new(),
    };
    let choices = CompletionDialect {
        likely_words: request.logprobs.map(LikelyWords),
        echoes,
        per_prompt,
    };
    let usage = StreamUsage::read(provider, request.stream_options.as_ref());
    Ok(Asked {
        call: call.number,
        model: request.model,
        caching,
        salted,
        priority,
        prompts,
        replies,
        faults: directives.faults,
        delivery: Delivery::read(request.stream),
        dialect: Box::new(Chunked::new(choices, provider, usage)),
    })
}

/// How a completion's choices are written.
#[derive(Debug)]
struct CompletionDialect {
    /// Set if log probabilities were asked for.
    likely_words: Option<LikelyWords>,
    /// The prompts' texts if they are to be repeated, else empty.
    echoes: Vec<String>,
    /// Choices for each prompt.
    per_prompt: usize,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Logprobs<'a> {
    tokens: Vec<&'a str>,
    token_logprobs: Vec<f64>,
    top_logprobs: Vec<BTreeMap<&'a str, f64>>,
    text_offset: Vec<usize>,
}

impl CompletionDialect {
    /// The prompt's text, if it is to be repeated.
    fn echo(&self, index: usize) -> &str {
        self.echoes
            .get(index / self.per_prompt)
            .map_or("", String::as_str)
    }

    fn logprobs<'a>(
        &self,
        index: usize,
        output: &'a Output,
        tokens: std::ops::Range<usize>,
    ) -> Option<Logprobs<'a>> {
        let LikelyWords(count) = self.likely_words?;
        let before = self.echo(index).len();
        let mut logprobs = Logprobs::default();
        for token in tokens {
            let (logprob, likely) = output.log_probabilities(token, count);
            logprobs.tokens.push(output.token(token));
            logprobs.token_logprobs.push(logprob);
            logprobs.top_logprobs.push(likely.into_iter().collect());
            logprobs.text_offset.push(before + output.offset(token));
        }
        Some(logprobs)
    }
}

/// What a completion says: its only part.
fn said(reply: &Reply) -> &Output {
    &reply.parts[0]
}

impl ChoiceDialect for CompletionDialect {
    fn names(&self) -> Names {
        Names {
            id_prefix: "cmpl-",
            whole: "text_completion",
            chunk: "text_completion",
        }
    }

    fn write_choice(&self, json: &mut Vec<u8>, index: usize, reply: &Reply) {
        let output = said(reply);
        let echoed = match self.echo(index) {
            "" => None,
            echo => Some([echo, &output.text].concat()),
        };
        let choice = Choice {
            index,
            text: echoed.as_deref().unwrap_or(&output.text),
            logprobs: self.logprobs(index, output, 0..output.visible_tokens()),
            finish_reason: Some(finish_reason(&reply.finish)),
        };
        write_json(json, &choice);
    }

    fn has_opening(&self, _: &Reply, _: usize) -> bool {
        !self.echoes.is_empty()
    }

    fn write_opening(&self, json: &mut Vec<u8>, index: usize, _: &Reply, _: usize) {
        write_json(json, &unfinished(index, self.echo(index)));
    }

    fn shows(&self, _: &Reply, _: usize) -> bool {
        true
    }

    fn write_token(
        &self,
        json: &mut Vec<u8>,
        index: usize,
        reply: &Reply,
        (_, token): (usize, usize),
    ) {
        let output = said(reply);
        let choice = Choice {
            logprobs: self.logprobs(index, output, token..token + 1),
            ..unfinished(index, output.token(token))
        };
        write_json(json, &choice);
    }

    fn write_closing(&self, json: &mut Vec<u8>, index: usize, reply: &Reply) {
        let choice = Choice {
            finish_reason: Some(finish_reason(&reply.finish)),
            ..unfinished(index, "")
        };
        write_json(json, &choice);
    }
}

/// A chunk's choice that has this text and is not the last.
fn unfinished(index: usize, text: &str) -> Choice<'_> {
    Choice {
        index,
        text,
        logprobs: None,
        finish_reason: None,
    }
}
