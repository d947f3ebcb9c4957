//! What only an engine of one's own has: salts, priorities, adapters, metrics.

pub(crate) mod lora;
pub(crate) mod lorax;
pub(crate) mod metrics;

pub(crate) use lora::Adapters;

use crate::caching::{Caching, Rounding};
use crate::config::{Provider, Scheduling};
use crate::engine::EngineState;
use crate::prefix_cache::Namespace;
use crate::refusal::Refusal;

/// Characters of a `cache_salt` at most, as in vLLM.
const SALT_CHARS_MAX: usize = 128;

/// Checks that the engine serves `model`, or has an adapter of that name.
///
/// # Errors
///
/// A 404 if it does not.
pub(crate) fn check_model(state: &EngineState, model: &str) -> Result<(), Refusal> {
    let served = crate::generation::check_model(state, model);
    if served.is_err() {
        let mut adapters = state.adapters.lock();
        let by_call = state.config.lora_by_call;
        if adapters.has(model) || (by_call && adapters.load_named(model)) {
            return Ok(());
        }
    }
    served
}

/// The engine's own prefix cache, in the namespace of this salt.
///
/// # Errors
///
/// A salt that vLLM refuses; none, where the engine requires one.
pub(crate) fn caching(
    state: &EngineState,
    model: &str,
    salt: Option<&str>,
) -> Result<Caching, Refusal> {
    check_salt(state, salt)?;
    Ok(Caching::Blocks {
        namespace: Namespace::new(model, salt),
        rounding: Rounding::NONE,
    })
}

/// Checks a salt by vLLM's rule.
///
/// # Errors
///
/// A salt that vLLM refuses; none, where the engine requires one.
pub(crate) fn check_salt(state: &EngineState, salt: Option<&str>) -> Result<(), Refusal> {
    let refused = |message: &'static str| Err(Refusal::bad_field("cache_salt", message));
    match salt {
        None if state.config.require_salt => {
            refused("This engine is shared: `cache_salt` is required.")
        }
        None => Ok(()),
        Some("") => refused("`cache_salt` must not be empty."),
        Some(salt) if salt.chars().count() > SALT_CHARS_MAX => {
            refused("`cache_salt` has at most 128 characters.")
        }
        Some(salt) if salt.contains(['@', '/', '\\', '\0']) => {
            refused("`cache_salt` must not contain '@', '/', '\\' or NUL.")
        }
        Some(_) => Ok(()),
    }
}

/// When it is a call's turn, lower first.
///
/// # Errors
///
/// A priority other than 0 where the engine does not schedule by it.
pub(crate) fn priority(
    state: &EngineState,
    provider: Provider,
    asked: Option<i64>,
) -> Result<i64, Refusal> {
    let priority = asked.unwrap_or(0);
    if provider == Provider::Vllm && priority != 0 && state.config.scheduling == Scheduling::Arrival
    {
        return Err(Refusal::bad_field(
            "priority",
            "Got priority but priority scheduling is not enabled.",
        ));
    }
    Ok(priority)
}
