//! `POST /v2/rerank` as Cohere has it, and `/v1/rerank` and `/rerank` as Jina and vLLM have it.
//! What shares more words with the query is more relevant.

use std::cmp::Reverse;
use std::sync::Arc;

use base::Supervisor;
use serde_json::{Value, json};

use super::error;
use crate::dialect::to_json;
use crate::directives::Directives;
use crate::embedding::closeness;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Spelling};
use crate::generation::{check_model, compute, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::tokens::tokens_in;

/// Whose shape a ranking has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RerankShape {
    Cohere,
    Jina,
}

/// Documents of one call at most, as Cohere recommends.
const DOCUMENTS_MAX: usize = 1_000;

/// Documents that one of Cohere's search units covers.
const DOCUMENTS_PER_UNIT: usize = 100;

/// Ranks documents.
///
/// # Errors
///
/// A request that makes no sense, a model that is not served, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
    shape: RerankShape,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let wanted = read(&body, shape);
    let wanted = wanted.map_err(|invalid| match shape {
        RerankShape::Cohere => error::refuse(&invalid),
        RerankShape::Jina => crate::openai::refuse(&invalid),
    })?;
    match shape {
        RerankShape::Cohere => error::check_served(state, wanted.model)?,
        RerankShape::Jina => check_model(state, wanted.model)?,
    }
    let faults = Directives::read(&call.parts.headers, [wanted.query])?.faults;
    let query_tokens = tokens_in(wanted.query.len());
    let pairs = wanted.documents.iter();
    let tokens = pairs.map(|text| query_tokens + tokens_in(text.len())).sum();
    compute(state, supervisor, &faults, tokens, || {
        to_json(&wanted.render(state, call, shape, tokens))
    })
    .await
}

struct Wanted<'a> {
    model: &'a str,
    query: &'a str,
    documents: Vec<&'a str>,
    top: usize,
    documents_back: bool,
}

fn read(body: &Value, shape: RerankShape) -> Result<Wanted<'_>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let model = fields.need_text("model")?;
    let query = fields.need_text("query")?;
    if query.is_empty() {
        return Err(fields.wrong("query", "it must not be empty"));
    }
    let mut documents = Vec::new();
    for item in fields.need_list("documents")? {
        documents.push(match (item.value, shape) {
            (Value::String(text), _) => text,
            (_, RerankShape::Jina) => item.fields()?.need_text("text")?,
            _ => item.text()?,
        });
    }
    if documents.len() > DOCUMENTS_MAX {
        return Err(fields.wrong("documents", "there are more than 1000"));
    }
    let top = fields.count("top_n", 1..=u32::MAX)?;
    let documents_back = match shape {
        RerankShape::Cohere => {
            fields.accept(&["max_tokens_per_doc", "priority"]);
            false
        }
        RerankShape::Jina => {
            fields.accept(&["truncate_prompt_tokens", "user", "priority"]);
            // Engines that cache prefixes cache those of rankings too.
            fields.accept(&["cache_salt", "extra_key"]);
            fields.flag("return_documents")?.unwrap_or(true)
        }
    };
    fields.finish()?;
    Ok(Wanted {
        model,
        query,
        top: top.map_or(documents.len(), |top| top as usize),
        documents,
        documents_back,
    })
}

impl Wanted<'_> {
    fn render(&self, state: &EngineState, call: &Call, shape: RerankShape, tokens: usize) -> Value {
        let scores = self.documents.iter();
        let scores = scores.map(|text| closeness(state, self.model, self.query, text));
        let mut ranked: Vec<(usize, f64)> = scores.enumerate().collect();
        // A score from 0 to 1, so its bits are in its order.
        ranked.sort_by_key(|(place, score)| (Reverse(score.to_bits()), *place));
        ranked.truncate(self.top);
        let results: Vec<Value> = ranked
            .into_iter()
            .map(|(place, score)| {
                let mut result = json!({"index": place, "relevance_score": score});
                if self.documents_back {
                    result["document"] = json!({"text": self.documents[place]});
                }
                result
            })
            .collect();
        match shape {
            RerankShape::Cohere => json!({
                "id": format!("00000000-0000-4000-8000-{:012x}", call.number),
                "results": results,
                "meta": {
                    "api_version": {"version": "2"},
                    "billed_units": {
                        "search_units": self.documents.len().div_ceil(DOCUMENTS_PER_UNIT),
                    },
                },
            }),
            RerankShape::Jina => json!({
                "id": format!("rerank-sim-{}", call.number),
                "model": self.model,
                "usage": {"total_tokens": tokens},
                "results": results,
            }),
        }
    }
}
