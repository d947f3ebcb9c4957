//! Google's embeddings: one, a batch, and Vertex's `predict`.

use std::sync::Arc;

use base::Supervisor;
use serde_json::{Value, json};

use super::error;
use crate::dialect::to_json;
use crate::directives::Directives;
use crate::embedding::vector;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Spelling};
use crate::generation::{compute, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::openai::embeddings::DIMENSIONS_MAX;
use crate::tokens::tokens_in;

/// Texts of one batch at most.
const BATCH_MAX: usize = 100;

/// A text to embed.
struct Wanted<'a> {
    text: String,
    /// For the markers in it.
    texts: Vec<&'a str>,
    dimensions: Option<u32>,
}

/// `embedContent`.
pub(super) async fn one(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let wanted = Fields::root(&body, Spelling::CamelOrSnake)
        .and_then(read)
        .map_err(|invalid| error::refuse(&invalid))?;
    respond(
        state,
        supervisor,
        call,
        &[wanted],
        |vectors| json!({"embedding": vectors.into_iter().next()}),
    )
    .await
}

/// `batchEmbedContents`.
pub(super) async fn batch(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let wanted = read_batch(call, &body).map_err(|invalid| error::refuse(&invalid))?;
    respond(
        state,
        supervisor,
        call,
        &wanted,
        |vectors| json!({"embeddings": vectors}),
    )
    .await
}

/// `predict`.
pub(super) async fn predict(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let wanted = read_instances(&body).map_err(|invalid| error::refuse(&invalid))?;
    let counts: Vec<usize> = wanted.iter().map(|one| tokens_in(one.text.len())).collect();
    respond(state, supervisor, call, &wanted, |vectors| {
        let predictions = vectors.into_iter().zip(counts).map(|(mut vector, tokens)| {
            vector["statistics"] = json!({"token_count": tokens, "truncated": false});
            json!({"embeddings": vector})
        });
        json!({"predictions": predictions.collect::<Vec<_>>()})
    })
    .await
}

fn read_batch<'a>(call: &Call, body: &'a Value) -> Result<Vec<Wanted<'a>>, Invalid> {
    let mut fields = Fields::root(body, Spelling::CamelOrSnake)?;
    let requests = fields.need_list("requests")?;
    fields.finish()?;
    if requests.len() > BATCH_MAX {
        return Err(Invalid::other(
            "requests",
            "at most 100 requests can be in one batch",
        ));
    }
    let expected = format!("models/{}", call.path_model);
    let read = requests.iter().map(|item| {
        let mut request = item.fields()?;
        if request.need_text("model")? != expected {
            return Err(request.wrong("model", format!("it has to be {expected}")));
        }
        read(request)
    });
    read.collect()
}

fn read(mut fields: Fields<'_>) -> Result<Wanted<'_>, Invalid> {
    let mut content = fields.need_object("content")?;
    let mut texts = Vec::new();
    for item in content.need_list("parts")? {
        let mut part = item.fields()?;
        texts.push(part.need_text("text")?);
        part.finish()?;
    }
    content.accept(&["role"]);
    content.finish()?;
    let dimensions = fields.count("outputDimensionality", 1..=DIMENSIONS_MAX as u32)?;
    fields.accept(&["model", "taskType", "title"]);
    fields.finish()?;
    Ok(Wanted {
        text: texts.concat(),
        texts,
        dimensions,
    })
}

fn read_instances(body: &Value) -> Result<Vec<Wanted<'_>>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let mut dimensions = None;
    if let Some(mut parameters) = fields.object("parameters")? {
        dimensions = parameters.count("outputDimensionality", 1..=DIMENSIONS_MAX as u32)?;
        parameters.accept(&["autoTruncate"]);
        parameters.finish()?;
    }
    let instances = fields.need_list("instances")?;
    fields.finish()?;
    let read = instances.iter().map(|item| {
        let mut instance = item.fields()?;
        let text = instance.need_text("content")?;
        instance.accept(&["task_type", "title"]);
        instance.finish()?;
        Ok(Wanted {
            text: text.to_owned(),
            texts: vec![text],
            dimensions,
        })
    });
    read.collect()
}

async fn respond(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
    wanted: &[Wanted<'_>],
    render: impl FnOnce(Vec<Value>) -> Value,
) -> Result<Answer, Unanswered> {
    let texts = wanted.last().map_or(&[][..], |last| &last.texts);
    let faults = Directives::read(&call.parts.headers, texts.iter().copied())?.faults;
    let tokens = wanted.iter().map(|one| tokens_in(one.text.len())).sum();
    compute(state, supervisor, &faults, tokens, || {
        let vectors = wanted.iter().map(|one| {
            let usual = state.config.embedding_dimensions;
            let dimensions = one
                .dimensions
                .map_or(usual, |dimensions| dimensions as usize);
            json!({"values": vector(state, &call.path_model, &one.text, dimensions)})
        });
        to_json(&render(vectors.collect()))
    })
    .await
}
