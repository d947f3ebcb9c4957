//! `POST /v2/embed`.

use std::sync::Arc;

use base::Supervisor;
use serde_json::{Map, Value, json};

use super::error;
use crate::dialect::to_json;
use crate::directives::Directives;
use crate::embedding::{in_base64, vector};
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Problem, Spelling};
use crate::generation::{compute, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::tokens::tokens_in;

/// Texts of one call at most, as Cohere has it.
const TEXTS_MAX: usize = 96;

const INPUT_TYPES: [&str; 5] = [
    "search_document",
    "search_query",
    "classification",
    "clustering",
    "image",
];

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
    let body = read_json(call)?;
    let wanted = read(&body).map_err(|invalid| error::refuse(&invalid))?;
    error::check_served(state, wanted.model)?;
    let marked = wanted.texts.last().copied();
    let faults = Directives::read(&call.parts.headers, marked)?.faults;
    let tokens = wanted.texts.iter().map(|text| tokens_in(text.len())).sum();
    compute(state, supervisor, &faults, tokens, || {
        to_json(&json!({
            "id": format!("00000000-0000-4000-8000-{:012x}", call.number),
            "embeddings": wanted.embeddings(state),
            "texts": wanted.texts,
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": tokens},
            },
            "response_type": "embeddings_by_type",
        }))
    })
    .await
}

struct Wanted<'a> {
    model: &'a str,
    texts: Vec<&'a str>,
    dimensions: Option<u32>,
    types: Vec<&'a str>,
}

fn read(body: &Value) -> Result<Wanted<'_>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let model = fields.need_text("model")?;
    let input_type = fields.need_text("input_type")?;
    if !INPUT_TYPES.contains(&input_type) {
        return Err(fields.wrong("input_type", format!("it must be one of {INPUT_TYPES:?}")));
    }
    let mut texts = fields.texts("texts")?;
    for item in fields.list("inputs")? {
        let mut input = item.fields()?;
        for item in input.need_list("content")? {
            let mut part = item.fields()?;
            match part.need_text("type")? {
                "text" => texts.push(part.need_text("text")?),
                "image_url" => {
                    let mut image = part.need_object("image_url")?;
                    texts.push(image.need_text("url")?);
                    image.accept(&["detail"]);
                    image.finish()?;
                }
                _ => return Err(part.wrong("type", "it must be text or image_url")),
            }
            part.finish()?;
        }
        input.finish()?;
    }
    texts.extend(fields.texts("images")?);
    if texts.is_empty() {
        return Err(Invalid::new("texts", Problem::Missing));
    }
    if texts.len() > TEXTS_MAX {
        let words = "the total number of texts must be at most 96";
        return Err(fields.wrong("texts", words));
    }
    let dimensions = fields.count("output_dimension", 1..=1_536)?;
    if dimensions.is_some_and(|dimensions| ![256, 512, 1_024, 1_536].contains(&dimensions)) {
        let words = "it must be 256, 512, 1024 or 1536";
        return Err(fields.wrong("output_dimension", words));
    }
    let mut types = fields.texts("embedding_types")?;
    if types.is_empty() {
        types.push("float");
    }
    if let Some(unknown) = types
        .iter()
        .find(|kind| !["float", "int8", "base64"].contains(kind))
    {
        let words = format!("the simulator has no {unknown}");
        return Err(fields.wrong("embedding_types", words));
    }
    fields.accept(&["max_tokens", "priority", "truncate"]);
    fields.finish()?;
    Ok(Wanted {
        model,
        texts,
        dimensions,
        types,
    })
}

impl Wanted<'_> {
    fn embeddings(&self, state: &EngineState) -> Value {
        let usual = state.config.embedding_dimensions;
        let dimensions = self
            .dimensions
            .map_or(usual, |dimensions| dimensions as usize);
        let vectors = self
            .texts
            .iter()
            .map(|text| vector(state, self.model, text, dimensions));
        let vectors: Vec<Vec<f32>> = vectors.collect();
        let mut embeddings = Map::new();
        for kind in &self.types {
            let written = match *kind {
                "int8" => vectors
                    .iter()
                    .map(|vector| json!(in_bytes(vector)))
                    .collect(),
                "base64" => vectors
                    .iter()
                    .map(|vector| json!(in_base64(vector)))
                    .collect(),
                _ => vectors
                    .iter()
                    .map(|vector| json!(vector))
                    .collect::<Value>(),
            };
            embeddings.insert((*kind).to_owned(), written);
        }
        embeddings.into()
    }
}

fn in_bytes(vector: &[f32]) -> Vec<i8> {
    vector.iter().map(|number| (number * 127.0) as i8).collect()
}
