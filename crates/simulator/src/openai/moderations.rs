//! `POST /v1/moderations`: flags what a marker names, `[[flag:violence]]`, so that a guard that
//! asks a moderation can be tested.

use std::sync::Arc;

use base::Supervisor;
use serde_json::{Map, Value, json};

use crate::dialect::to_json;
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::fields::{Fields, Invalid, Item, Problem, Spelling};
use crate::generation::{compute, read_json};
use crate::http::{Answer, Call, Unanswered};
use crate::prompt::Prompt;
use crate::refusal::Refusal;
use crate::vllm::check_salt;

/// OpenAI's categories, as `omni-moderation` has them.
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Answers a moderation.
///
/// # Errors
///
/// A request that makes no sense, a flag that is no category, and faults that were asked for.
pub(crate) async fn answer(
    state: &Arc<EngineState>,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    let body = read_json(call)?;
    let Asked {
        model,
        inputs,
        salt,
    } = read(&body).map_err(|invalid| super::refuse(&invalid))?;
    // As with embeddings: no prefix is cached, so a salt is welcome and never required.
    if salt.is_some() {
        check_salt(state, salt)?;
    }
    let mut prompt = Prompt::default();
    let mut results = Vec::with_capacity(inputs.len());
    let mut faults = Directives::read(&call.parts.headers, [])?.faults;
    for input in &inputs {
        let directives = Directives::read(&call.parts.headers, input.texts.iter().copied())?;
        input.texts.iter().for_each(|text| prompt.push(text));
        input
            .images
            .iter()
            .for_each(|image| prompt.push_image(image));
        results.push(result(input, &directives.flags)?);
        faults = directives.faults;
    }
    let tokens = prompt.tokens();
    let answer = json!({
        "id": format!("modr-sim-{}", call.number),
        "model": model,
        "results": results,
    });
    compute(state, supervisor, &faults, tokens, || to_json(&answer)).await
}

#[derive(Default)]
struct ModerationInput<'a> {
    texts: Vec<&'a str>,
    images: Vec<&'a str>,
}

struct Asked<'a> {
    model: &'a str,
    inputs: Vec<ModerationInput<'a>>,
    salt: Option<&'a str>,
}

fn read(body: &Value) -> Result<Asked<'_>, Invalid> {
    let mut fields = Fields::root(body, Spelling::Exact)?;
    let model = fields.text("model")?.unwrap_or("omni-moderation-latest");
    let salt = fields.text("cache_salt")?;
    let input = fields.need("input")?;
    let inputs = match input {
        Value::String(text) => vec![ModerationInput {
            texts: vec![text],
            images: Vec::new(),
        }],
        Value::Array(values) if values.iter().all(Value::is_string) => values
            .iter()
            .filter_map(Value::as_str)
            .map(|text| ModerationInput {
                texts: vec![text],
                images: Vec::new(),
            })
            .collect(),
        Value::Array(values) => {
            let items = crate::fields::items("input", values, Spelling::Exact);
            vec![read_parts(&items)?]
        }
        _ => return Err(Invalid::new("input", Problem::NotA("string or list"))),
    };
    if inputs.is_empty() {
        return Err(Invalid::other("input", "at least one is required"));
    }
    fields.finish()?;
    Ok(Asked {
        model,
        inputs,
        salt,
    })
}

fn read_parts<'a>(items: &[Item<'a>]) -> Result<ModerationInput<'a>, Invalid> {
    let mut input = ModerationInput::default();
    for item in items {
        let mut part = item.fields()?;
        match part.need_text("type")? {
            "text" => input.texts.push(part.need_text("text")?),
            "image_url" => {
                let mut image = part.need_object("image_url")?;
                input.images.push(image.need_text("url")?);
                image.finish()?;
            }
            _ => return Err(part.wrong("type", "it is text or image_url")),
        }
        part.finish()?;
    }
    Ok(input)
}

fn result(input: &ModerationInput<'_>, flags: &[String]) -> Result<Value, Refusal> {
    if let Some(unknown) = flags
        .iter()
        .find(|flag| !CATEGORIES.contains(&flag.as_str()))
    {
        return Err(Refusal::bad_request(format!(
            "[[flag:{unknown}]] is no category: they are {}",
            CATEGORIES.join(", ")
        )));
    }
    let is_flagged = |category: &str| flags.iter().any(|flag| flag == category);
    let of_each = |value: &dyn Fn(&str) -> Value| -> Map<String, Value> {
        let pairs = CATEGORIES
            .iter()
            .map(|&name| (name.to_owned(), value(name)));
        pairs.collect()
    };
    let mut kinds = Vec::new();
    if !input.texts.is_empty() {
        kinds.push("text");
    }
    if !input.images.is_empty() {
        kinds.push("image");
    }
    Ok(json!({
        "flagged": !flags.is_empty(),
        "categories": of_each(&|name| is_flagged(name).into()),
        "category_scores": of_each(&|name| if is_flagged(name) { 0.98 } else { 0.0001 }.into()),
        "category_applied_input_types": of_each(&|_| json!(kinds)),
    }))
}
