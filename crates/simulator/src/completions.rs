//! `POST /v1/completions`, the endpoint before chats.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Supervisor;
use serde::{Deserialize, Serialize};

use crate::chat::Stop;
use crate::dialect::{Dialect, LikelyWords, Names, write_json};
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::generation::{
    Asked, CHOICES_MAX, Delivery, StreamOptions, check_model, check_salt, generate,
};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::{Input, InputItem, Prompt};
use crate::refusal::Refusal;
use crate::text::{Bounds, Output, Script};
use crate::tokens::digest;

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
}

fn read(state: &EngineState, call: &Call) -> Result<Asked, Refusal> {
    let request: CompletionRequest =
        serde_json::from_slice(&call.body).map_err(|error| Refusal::unreadable(&error))?;
    check_model(state, &request.model)?;
    check_salt(state, request.cache_salt.as_deref())?;
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
    let outputs = (0..choices).map(|choice| {
        let seed = prompts[choice / per_prompt].digest(seed);
        let seed = digest(seed, &(choice % per_prompt).to_le_bytes());
        let script = match &directives.say {
            Some(text) => Script::Text(text.clone()),
            None => Script::Words(words),
        };
        Output::write(script, &bounds, seed)
    });
    let outputs = outputs.collect();
    let echoes = match request.echo {
        Some(true) => items.iter().map(InputItem::to_text).collect(),
        _ => Vec::new(),
    };
    Ok(Asked {
        call: call.number,
        model: request.model,
        salt: request.cache_salt,
        prompts,
        outputs,
        faults: directives.faults,
        delivery: Delivery::read(request.stream, request.stream_options.as_ref()),
        dialect: Box::new(CompletionDialect {
            likely_words: request.logprobs.map(LikelyWords),
            echoes,
            per_prompt,
        }),
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

impl Dialect for CompletionDialect {
    fn names(&self) -> Names {
        Names {
            id_prefix: "cmpl-",
            whole: "text_completion",
            chunk: "text_completion",
        }
    }

    fn write_choice(&self, json: &mut Vec<u8>, index: usize, output: &Output) {
        let echoed = match self.echo(index) {
            "" => None,
            echo => Some([echo, &output.text].concat()),
        };
        let choice = Choice {
            index,
            text: echoed.as_deref().unwrap_or(&output.text),
            logprobs: self.logprobs(index, output, 0..output.visible_tokens()),
            finish_reason: Some(output.finish.as_str()),
        };
        write_json(json, &choice);
    }

    fn has_opening(&self) -> bool {
        !self.echoes.is_empty()
    }

    fn write_opening(&self, json: &mut Vec<u8>, index: usize, _: &Output) {
        write_json(json, &unfinished(index, self.echo(index)));
    }

    fn write_token(&self, json: &mut Vec<u8>, index: usize, output: &Output, token: usize) {
        let choice = Choice {
            logprobs: self.logprobs(index, output, token..token + 1),
            ..unfinished(index, output.token(token))
        };
        write_json(json, &choice);
    }

    fn write_closing(&self, json: &mut Vec<u8>, index: usize, output: &Output) {
        let choice = Choice {
            finish_reason: Some(output.finish.as_str()),
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
