//! `POST /v1/embeddings`.

use std::sync::Arc;

use base::Supervisor;
use serde::{Deserialize, Serialize};

use super::strict;
use crate::dialect::write_json;
use crate::directives::Directives;
use crate::embedding::{in_base64, vector};
use crate::engine::EngineState;
use crate::faults::UsageReport;
use crate::generation::{check_model, compute};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::{Input, InputItem, Prompt};
use crate::refusal::Refusal;
use crate::vllm::check_salt;

/// Inputs of one call at most, as OpenAI has it.
const INPUTS_MAX: usize = 2_048;

/// Numbers in a vector at most: as many as the largest public models give.
pub(crate) const DIMENSIONS_MAX: usize = 4_096;

/// What the engine reads of a request; what else is in it is accepted.
#[derive(Debug, Deserialize)]
struct EmbeddingRequest {
    /// Azure's deployments are models that the path names.
    #[serde(default)]
    model: String,
    input: Input,
    /// `output_dimension` is Mistral's name.
    #[serde(alias = "output_dimension")]
    dimensions: Option<usize>,
    encoding_format: Option<EncodingFormat>,
    cache_salt: Option<String>,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// 32-bit little-endian floats, in base64. The SDKs ask for it.
    Base64,
}

/// Answers with vectors.
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
    let tokens: usize = asked
        .items
        .iter()
        .map(|item| item.to_prompt().tokens())
        .sum();
    let faults = &asked.directives.faults;
    compute(state, supervisor, faults, tokens, || {
        asked.render(state, tokens)
    })
    .await
}

struct AskedVectors {
    model: String,
    items: Vec<InputItem>,
    dimensions: usize,
    format: EncodingFormat,
    directives: Directives,
    call: u64,
}

fn read(state: &EngineState, call: &Call) -> Result<AskedVectors, Refusal> {
    let provider = call.api.manners();
    strict::check_names(call, &strict::EMBEDDING)?;
    let mut request: EmbeddingRequest =
        serde_json::from_slice(&call.body).map_err(|error| strict::unreadable(provider, &error))?;
    if !call.path_model.is_empty() {
        request.model.clone_from(&call.path_model);
    }
    check_model(state, &request.model)?;
    // No prefix of an embedding's input is cached, so a salt is welcome and never required.
    if request.cache_salt.is_some() {
        check_salt(state, request.cache_salt.as_deref())?;
    }
    let items = request.input.into_items();
    let is_empty = |item: &InputItem| item.to_prompt() == Prompt::default();
    if !(1..=INPUTS_MAX).contains(&items.len()) || items.iter().any(is_empty) {
        let message = "`input` is from 1 to 2048 texts, none of them empty.";
        return Err(Refusal::bad_field("input", message));
    }
    let dimensions = request
        .dimensions
        .unwrap_or(state.config.embedding_dimensions);
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        let message = "`dimensions` is from 1 to 4096.";
        return Err(Refusal::bad_field("dimensions", message));
    }
    let marked = items.last().map(InputItem::marked_text);
    Ok(AskedVectors {
        directives: Directives::read(&call.parts.headers, marked)?,
        format: request.encoding_format.unwrap_or(EncodingFormat::Float),
        model: request.model,
        items,
        dimensions,
        call: call.number,
    })
}

#[derive(Serialize)]
struct EmbeddingAnswer<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<EmbeddingUsage>,
    x_sim: Extra,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// A field that no API knows, so that passing on what is unknown can be tested.
#[derive(Serialize)]
struct Extra {
    call: u64,
}

impl AskedVectors {
    fn render(&self, state: &EngineState, tokens: usize) -> Vec<u8> {
        let data = self.items.iter().enumerate().map(|(index, item)| {
            let vector = vector(state, &self.model, &item.to_text(), self.dimensions);
            Embedding {
                object: "embedding",
                index,
                embedding: match self.format {
                    EncodingFormat::Float => Vector::Numbers(vector),
                    EncodingFormat::Base64 => Vector::Base64(in_base64(&vector)),
                },
            }
        });
        let answer = EmbeddingAnswer {
            object: "list",
            data: data.collect(),
            model: &self.model,
            usage: (self.directives.faults.usage == UsageReport::Given).then_some(EmbeddingUsage {
                prompt_tokens: tokens,
                total_tokens: tokens,
            }),
            x_sim: Extra { call: self.call },
        };
        let mut json = Vec::with_capacity(self.items.len() * self.dimensions * 8);
        write_json(&mut json, &answer);
        json
    }
}
