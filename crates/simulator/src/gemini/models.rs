//! `GET /v1beta/models`.

use serde_json::{Value, json};

use crate::engine::EngineState;

/// All models, on one page.
pub(crate) fn list(state: &EngineState) -> String {
    let models = state.config.models.iter().map(|model| object(model));
    json!({"models": models.collect::<Vec<_>>()}).to_string()
}

/// One model.
pub(crate) fn one(model: &str) -> String {
    object(model).to_string()
}

fn object(model: &str) -> Value {
    json!({
        "name": format!("models/{model}"),
        "version": "001",
        "displayName": model,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": [
            "generateContent", "countTokens", "embedContent", "batchEmbedContents",
        ],
        "thinking": true,
    })
}
