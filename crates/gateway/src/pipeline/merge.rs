//! What a tenant's own configuration adds to a call: its parameters and its system prompt, in the
//! dialect that the client speaks.

use bytes::Bytes;
use models::{Call, Envelope, InvalidRequest, Json, Kind, Operation, Rebuild};
use serde_json::{Value, json};
use tenancy::catalogue::TenantConfig;

use super::resolve::Inside;
use super::session::Purpose;
use crate::prompt::{PromptTemplate, PromptValues};
use crate::refusal::Refusal;

/// The names of the bound on the output, in all dialects.
const OUTPUT_LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

impl Inside {
    /// The body with the tenant's parameters and system prompt in it; none if it has neither.
    pub(super) fn merge(
        &self,
        envelope: &Envelope,
        call: &Call,
        purpose: &Purpose,
    ) -> Result<Option<Bytes>, Refusal> {
        let config = &self.tenant.config;
        let takes_prompt = matches!(
            call.operation,
            Operation::Chat | Operation::Messages | Operation::Responses
        );
        let prompt = match takes_prompt {
            true => self.prompt(call, purpose)?,
            false => None,
        };
        let has_parameters =
            !config.default_parameters.is_empty() || !config.forced_parameters.is_empty();
        if prompt.is_none() && !has_parameters {
            return Ok(None);
        }
        let mut rebuild = Rebuild::from(envelope);
        if takes_prompt || call.operation == Operation::Completion {
            merge_parameters(&mut rebuild, config, call);
        }
        if let Some(prompt) = prompt {
            put_prompt(&mut rebuild, envelope, call.operation, &prompt)?;
        }
        Ok(Some(rebuild.finish().to_bytes()))
    }

    /// The tenant's system prompt for this call.
    fn prompt(&self, call: &Call, purpose: &Purpose) -> Result<Option<String>, Refusal> {
        let Some(source) = &self.tenant.config.system_prompt else {
            return Ok(None);
        };
        let template = {
            let mut kept = self.runtime.prompt.lock();
            match &*kept {
                Some((of, template)) if of == source => template.clone(),
                _ => {
                    let template = PromptTemplate::compile(source).map_err(broken_prompt)?;
                    *kept = Some((source.clone(), template.clone()));
                    template
                }
            }
        };
        let key = self.scope.grant().key();
        let values = PromptValues {
            tenant: &self.tenant.name,
            feature: Some(&purpose.feature),
            model: &call.model,
            user: key.and_then(|key| key.spec.user.as_ref()),
            team: key.and_then(|key| key.spec.team.as_ref()),
            flags: &self.tenant.config.flags,
            date: crate::calendar::date(self.at, &self.tenant.spec.zone),
        };
        template.render(&values).map(Some).map_err(broken_prompt)
    }
}

fn merge_parameters(rebuild: &mut Rebuild<'_>, config: &TenantConfig, call: &Call) {
    for (name, value) in &config.default_parameters {
        if call.output_tokens_asked.is_none() || !OUTPUT_LIMITS.contains(&name.as_str()) {
            let (name, value) = in_dialect(call.operation, name, value);
            rebuild.default(name, value);
        }
    }
    for (name, value) in &config.forced_parameters {
        if OUTPUT_LIMITS.contains(&name.as_str()) {
            // Whichever of its names the client called the bound by.
            for other in OUTPUT_LIMITS {
                rebuild.remove(other);
            }
        }
        let (name, value) = in_dialect(call.operation, name, value);
        rebuild.set(name, value);
    }
}

/// A parameter as the call's dialect names it. Tenants write them as OpenAI's chat does.
fn in_dialect<'a>(operation: Operation, name: &'a str, value: &Value) -> (&'a str, Json) {
    let is_limit = OUTPUT_LIMITS.contains(&name);
    match operation {
        Operation::Messages if is_limit => ("max_tokens", as_json(value)),
        Operation::Messages if name == "stop" => match value {
            Value::String(one) => ("stop_sequences", as_json(&json!([one]))),
            _ => ("stop_sequences", as_json(value)),
        },
        Operation::Responses if is_limit => ("max_output_tokens", as_json(value)),
        _ => (name, as_json(value)),
    }
}

/// Puts the tenant's prompt before whatever the client says to the model first.
fn put_prompt(
    rebuild: &mut Rebuild<'_>,
    envelope: &Envelope,
    operation: Operation,
    prompt: &str,
) -> Result<(), Refusal> {
    let before = |field: &str| {
        let own = envelope.str(field)?.ok()?;
        Some(format!("{prompt}\n\n{own}"))
    };
    match operation {
        Operation::Messages => match envelope.kind("system") {
            Some(Kind::Array) => {
                let block = as_json(&json!({"type": "text", "text": prompt}));
                rebuild
                    .prepend_to_array("system", block)
                    .map_err(|_| InvalidRequest::missing("system"))?;
            }
            _ => {
                let text = before("system").unwrap_or_else(|| prompt.to_owned());
                rebuild.set("system", text.as_str());
            }
        },
        Operation::Responses => {
            let text = before("instructions").unwrap_or_else(|| prompt.to_owned());
            rebuild.set("instructions", text.as_str());
        }
        _ => {
            let message = as_json(&json!({"role": "system", "content": prompt}));
            rebuild
                .prepend_to_array("messages", message)
                .map_err(|_| InvalidRequest::missing("messages"))?;
        }
    }
    Ok(())
}

/// The tenant's own configuration is at fault; its administrator finds the reason in the log.
fn broken_prompt(error: crate::prompt::PromptError) -> Refusal {
    let reason = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::warn!(%error, reason, "a tenant's system prompt cannot be used");
    Refusal::Invalid(InvalidRequest::new(
        "the tenant's system prompt cannot be rendered; its administrator has to mend it",
        "system_prompt",
        "invalid_configuration",
    ))
}

/// As above: a parameter that no request may have, or one field too many.
pub(super) fn broken_parameters(error: models::BodyError) -> Refusal {
    tracing::warn!(%error, "a tenant's parameters cannot be used");
    Refusal::Invalid(InvalidRequest::new(
        "the tenant's default or forced parameters cannot be used; its administrator has to mend them",
        "forced_parameters",
        "invalid_configuration",
    ))
}

fn as_json(value: &Value) -> Json {
    Json::of(value).expect("a JSON value is JSON")
}
