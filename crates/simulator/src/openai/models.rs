//! `GET /v1/models`, as OpenAI has it.

use serde_json::{Value, json};

use crate::engine::EngineState;
use crate::refusal::Refusal;

/// All models, adapters included.
pub(crate) fn list(state: &EngineState) -> String {
    let models = state.config.models.iter();
    let mut data: Vec<_> = models.map(|model| object(state, model)).collect();
    let adapters = state.adapters.lock();
    data.extend(adapters.list().map(|(name, adapter)| {
        let mut model = object(state, name);
        model["parent"] = json!(state.config.models.first());
        model["root"] = json!(adapter.path);
        model
    }));
    json!({"object": "list", "data": data}).to_string()
}

/// One model.
///
/// # Errors
///
/// There is none of that name.
pub(crate) fn one(state: &EngineState, model: &str) -> Result<String, Refusal> {
    crate::vllm::check_model(state, model)?;
    Ok(object(state, model).to_string())
}

fn object(state: &EngineState, model: &str) -> Value {
    json!({"id": model, "object": "model", "created": state.created(), "owned_by": "simulator"})
}
