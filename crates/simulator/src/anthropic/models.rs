//! `GET /v1/models`, as Anthropic has it.

use serde_json::{Value, json};

use crate::engine::EngineState;

/// All models, on one page.
pub(crate) fn list(state: &EngineState) -> String {
    let models = &state.config.models;
    let data: Vec<_> = models.iter().map(|model| object(model)).collect();
    json!({
        "data": data,
        "has_more": false,
        "first_id": models.first(),
        "last_id": models.last(),
    })
    .to_string()
}

/// One model.
pub(crate) fn one(model: &str) -> String {
    object(model).to_string()
}

fn object(model: &str) -> Value {
    json!({
        "type": "model",
        "id": model,
        "display_name": model,
        "created_at": "2025-01-01T00:00:00Z",
        "capabilities": null,
        "max_input_tokens": null,
        "max_tokens": null,
    })
}
