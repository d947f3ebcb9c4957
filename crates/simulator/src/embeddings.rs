//! `POST /v1/embeddings`.
//!
//! A vector is the sum of its words' directions, so that texts that share words are close to each
//! other and retrieval finds what it should.

use std::sync::Arc;

use base::Supervisor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::dialect::write_json;
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::faults::UsageReport;
use crate::generation::{check_model, check_salt, spoiled, take_slot};
use crate::http::{Answer, Call, ContentType, Unanswered};
use crate::prompt::{Input, InputItem, Prompt};
use crate::refusal::Refusal;
use crate::tokens::{Draw, digest};

/// Inputs of one call at most, as OpenAI has it.
const INPUTS_MAX: usize = 2_048;

/// Numbers in a vector at most: as many as the largest public models give.
const DIMENSIONS_MAX: usize = 4_096;

/// Numbers of a vector that a word moves. 16: enough that two words seldom move the same ones.
const NUMBERS_PER_WORD: usize = 16;

/// What the engine reads of a request; what else is in it is accepted.
#[derive(Debug, Deserialize)]
struct EmbeddingRequest {
    model: String,
    input: Input,
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
    let slot = take_slot(state, supervisor, &asked.directives.faults).await?;
    let tokens: usize = asked
        .items
        .iter()
        .map(|item| item.to_prompt().tokens())
        .sum();
    state.pass_prefill(tokens).await;
    let json = asked.render(state, tokens);
    slot.finish();
    Ok(Answer {
        content_type: ContentType::Json,
        body: spoiled(json, asked.directives.faults.spoil)?,
    })
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
    let request: EmbeddingRequest =
        serde_json::from_slice(&call.body).map_err(|error| Refusal::unreadable(&error))?;
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
        let seed = digest(state.config.seed, self.model.as_bytes());
        let data = self.items.iter().enumerate().map(|(index, item)| {
            let vector = vector(&item.to_text(), self.dimensions, seed);
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

/// A text's vector, of length 1.
fn vector(text: &str, dimensions: usize, seed: u64) -> Vec<f32> {
    let mut sum = vec![0_f32; dimensions];
    let mut add = |word: &str| {
        let mut draw = Draw::new(digest(seed, word.as_bytes()));
        for _ in 0..NUMBERS_PER_WORD {
            let step = if draw.below(2) == 0 { 1.0 } else { -1.0 };
            sum[draw.below(dimensions)] += step;
        }
    };
    let words = text.split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        add(&word.to_lowercase());
    }
    let mut length = sum.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length == 0.0 {
        // No word, or words that cancel each other out: the whole text as one direction.
        sum[digest(seed, text.as_bytes()) as usize % dimensions] = 1.0;
        length = 1.0;
    }
    sum.iter().map(|number| number / length).collect()
}

fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closeness(left: &str, right: &str) -> f32 {
        let (left, right) = (vector(left, 384, 1), vector(right, 384, 1));
        left.iter()
            .zip(&right)
            .map(|(left, right)| left * right)
            .sum()
    }

    #[test]
    fn texts_that_share_words_are_closer() {
        assert!(closeness("the red house", "The red house!") > 0.999);
        let near = closeness("the red house by the river", "a house by a river");
        let far = closeness("the red house by the river", "invoices need approval");
        assert!(near > far + 0.2, "{near} {far}");
        assert!(closeness("—", "—") > 0.999);
    }
}
