//! `POST /generate` and `/generate_stream`, as LoRAX has them: an adapter is named with each call
//! and is there at once.

use std::sync::Arc;

use base::Supervisor;
use http::StatusCode;
use serde_json::{Value, json};

use crate::beats::Beat;
use crate::dialect::{Dialect, Told, to_json};
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Spelling};
use crate::generation::{Asked, Delivery, generate, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::refusal::Refusal;
use crate::stream::Events;
use crate::text::Finish;
use crate::turn::{Thinking, Turn};

/// The most tokens of an answer whose request names none. 20: LoRAX's default.
const MAX_NEW_TOKENS_DEFAULT: u32 = 20;

/// Answers a generation.
///
/// # Errors
///
/// A request that makes no sense, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
    delivery: Delivery,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let (turn, adapter) = read(&body).map_err(|invalid| {
        let message = format!(
            "Input validation error: {:?} at {}",
            invalid.problem, invalid.path
        );
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    let base = state.config.models.first().cloned().unwrap_or_default();
    let model = adapter.map_or(base, str::to_owned);
    let directives = turn.directives(&call.parts.headers)?;
    let asked = Asked {
        call: call.number,
        caching: super::caching(state, &model, None)?,
        salted: false,
        priority: 0,
        replies: turn.replies(state, &model, &directives),
        delivery,
        faults: directives.faults,
        dialect: Box::new(LoraxDialect),
        prompts: vec![turn.prompt],
        model,
    };
    generate(state, supervisor, asked).await
}

fn read(body: &Value) -> Result<(Turn<'_>, Option<&str>), Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let mut turn = Turn {
        thinking: Thinking::Off,
        limit: Some(MAX_NEW_TOKENS_DEFAULT),
        ..Turn::default()
    };
    turn.user_speaks();
    turn.user_text(fields.need_text("inputs")?);
    let mut adapter = None;
    if let Some(mut parameters) = fields.object("parameters")? {
        adapter = parameters.text("adapter_id")?;
        let source = parameters.text("adapter_source")?.unwrap_or("hub");
        if !["hub", "local", "s3", "pbase"].contains(&source) {
            return Err(parameters.wrong("adapter_source", "it is hub, local, s3 or pbase"));
        }
        if let Some(limit) = parameters.count("max_new_tokens", 1..=u32::MAX)? {
            turn.limit = Some(limit);
        }
        let stops = parameters.texts("stop")?;
        turn.stops = stops.into_iter().map(str::to_owned).collect();
        parameters.accept(&[
            "api_token",
            "best_of",
            "decoder_input_details",
            "details",
            "do_sample",
            "merged_adapters",
            "repetition_penalty",
            "response_format",
            "return_full_text",
            "return_k_alternatives",
            "seed",
            "temperature",
            "top_k",
            "top_p",
            "truncate",
            "typical_p",
            "watermark",
        ]);
        parameters.finish()?;
    }
    fields.accept(&["stream"]);
    fields.finish()?;
    Ok((turn, adapter))
}

/// The body of an error.
pub(crate) fn error(refusal: &Refusal) -> String {
    let kind = match refusal.status {
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => "validation",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "overloaded",
        _ => "generation",
    };
    json!({"error": refusal.message, "error_type": kind}).to_string()
}

#[derive(Debug)]
struct LoraxDialect;

impl LoraxDialect {
    fn details(told: &Told) -> Value {
        let reply = told.reply();
        let finish = match &reply.finish {
            Finish::Length => "length",
            Finish::Sequence(_) => "stop_sequence",
            _ => "eos_token",
        };
        json!({
            "finish_reason": finish,
            "prompt_tokens": told.counts.prompt,
            "generated_tokens": told.counts.output,
            "seed": null,
        })
    }
}

impl Dialect for LoraxDialect {
    fn write_whole(&self, told: &Told) -> Vec<u8> {
        let text = told.reply().said().map_or("", |said| &said.text);
        to_json(&json!({"generated_text": text, "details": Self::details(told)}))
    }

    fn write_beat(&mut self, beat: Beat, told: &Told, events: &mut Events) {
        let reply = told.reply();
        match beat {
            Beat::Token { part, token, .. } => {
                let text = reply.parts[part].token(token);
                events.data(&json!({
                    "token": {"id": token, "text": text, "logprob": null, "special": false},
                    "generated_text": null,
                    "details": null,
                }));
            }
            Beat::End { .. } => {
                let text = reply.said().map_or("", |said| &said.text);
                events.data(&json!({
                    "token": {"id": 2, "text": "</s>", "logprob": null, "special": true},
                    "generated_text": text,
                    "details": Self::details(told),
                }));
            }
            _ => {}
        }
    }

    fn write_failure(&self, refusal: &Refusal, events: &mut Events) {
        events.push(format!("data: {}\n\n", error(refusal)));
    }
}
