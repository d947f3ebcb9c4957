//! `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, as vLLM has them, with as many
//! adapters as the engine has slots.
//!
//! vLLM itself swaps adapters in and out of its slots in silence. Here a load without a free slot
//! is refused, so that who manages the slots from outside learns of a mistake.

use std::collections::BTreeMap;
use std::path::Path;

use base::Supervisor;
use http::StatusCode;
use serde_json::Value;

use crate::body::EngineBody;
use crate::directives::Directives;
use crate::engine::EngineState;
use crate::generation::{befall, read_json};
use crate::http::{Answer, Call, ContentType, Unanswered};
use crate::refusal::Refusal;

/// The adapters that are loaded, by name.
#[derive(Debug)]
pub(crate) struct Adapters {
    slots: usize,
    loaded: BTreeMap<String, Adapter>,
    /// Counted up each time that one is loaded.
    loads: u64,
}

/// A loaded adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// Where it came from.
    pub(crate) path: String,
    /// Which load it was.
    load: u64,
}

impl Adapters {
    /// None, and room for `slots`.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            loaded: BTreeMap::new(),
            loads: 0,
        }
    }

    /// Whether an adapter of this name is loaded.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.loaded.contains_key(name)
    }

    /// Loads what a call names, as LoRAX does; whether there is such an adapter.
    pub(crate) fn load_named(&mut self, name: &str) -> bool {
        // A path that says so has nothing in it.
        if self.slots == 0 || name.contains("missing") {
            return false;
        }
        if self.loaded.len() >= self.slots {
            let oldest = self.loaded.iter().min_by_key(|(_, adapter)| adapter.load);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.loaded.remove(&oldest);
            }
        }
        self.insert(name.to_owned(), name.to_owned());
        true
    }

    fn insert(&mut self, name: String, path: String) {
        self.loads += 1;
        let load = self.loads;
        self.loaded.insert(name, Adapter { path, load });
    }

    /// Those that are loaded, by name.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, &Adapter)> {
        self.loaded.iter().map(|(name, adapter)| (&**name, adapter))
    }
}

/// Loads an adapter.
///
/// # Errors
///
/// A field that is missing, a name that is taken, a path without an adapter, no free slot, and the
/// faults that the header asks for.
pub(crate) async fn load(
    state: &EngineState,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    befall(
        supervisor,
        &Directives::read(&call.parts.headers, [])?.faults,
    )
    .await?;
    let body = read_json(call)?;
    let (name, path) = (text(&body, "lora_name"), text(&body, "lora_path"));
    if name.is_empty() || path.is_empty() {
        return Err(invalid("Both 'lora_name' and 'lora_path' must be provided.").into());
    }
    let in_place = body["load_inplace"].as_bool().unwrap_or(false);
    let mut adapters = state.adapters.lock();
    let is_loaded = adapters.has(name);
    if (is_loaded && !in_place) || state.config.models.iter().any(|model| model == name) {
        return Err(invalid(format!(
            "The lora adapter '{name}' has already been loaded. If you want to load the adapter in \
             place, set 'load_inplace' to True."
        ))
        .into());
    }
    // A path that says so has nothing in it.
    if path.contains("missing") || (state.config.lora_files && !has_files(Path::new(path))) {
        let message = format!("Loading lora {name} failed: No adapter found for {path}");
        return Err(not_found(message).into());
    }
    if !is_loaded && adapters.loaded.len() >= adapters.slots {
        let slots = adapters.slots;
        return Err(Refusal {
            kind: "BadRequestError",
            ..Refusal::bad_request(format!(
                "Loading lora {name} failed: all {slots} slots are taken"
            ))
        }
        .into());
    }
    adapters.insert(name.to_owned(), path.to_owned());
    Ok(said(format!(
        "Success: LoRA adapter '{name}' added successfully."
    )))
}

/// Unloads an adapter. Calls that use it come to their end.
///
/// # Errors
///
/// A field that is missing, and an adapter that is not loaded.
pub(crate) async fn unload(
    state: &EngineState,
    supervisor: &Supervisor,
    call: &Call,
) -> Result<Answer, Unanswered> {
    befall(
        supervisor,
        &Directives::read(&call.parts.headers, [])?.faults,
    )
    .await?;
    let body = read_json(call)?;
    let name = text(&body, "lora_name");
    if name.is_empty() {
        return Err(invalid("'lora_name' needs to be provided to unload a LoRA adapter.").into());
    }
    if state.adapters.lock().loaded.remove(name).is_none() {
        return Err(not_found(format!("The lora adapter '{name}' cannot be found.")).into());
    }
    Ok(said(format!(
        "Success: LoRA adapter '{name}' removed successfully."
    )))
}

/// Whether a folder has what vLLM reads of an adapter.
fn has_files(folder: &Path) -> bool {
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    names.iter().all(|name| folder.join(name).is_file())
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}

fn said(text: String) -> Answer {
    Answer::new(ContentType::Text, EngineBody::whole(text))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal {
        kind: "InvalidUserInput",
        ..Refusal::bad_request(message)
    }
}

fn not_found(message: String) -> Refusal {
    Refusal {
        kind: "NotFoundError",
        ..Refusal::new(StatusCode::NOT_FOUND, message)
    }
}
