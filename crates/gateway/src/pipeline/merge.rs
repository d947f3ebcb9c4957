//! What a tenant's own configuration adds to a call: its parameters and its system prompt, in the
//! dialect that the client speaks.

use bytes::Bytes;
use models::{Call, Envelope, InvalidRequest, Json, Kind, Operation, Rebuild};
use serde_json::{Value, json};
use tenancy::catalogue::TenantConfig;

use super::prompting::{FIELD, Said, invalid};
use super::resolve::Inside;
use super::session::Purpose;
use crate::prompt::{PromptTemplate, PromptValues};
use crate::refusal::Refusal;

/// The names of the bound on the output, in all dialects.
const OUTPUT_LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// What merging comes to.
#[derive(Default)]
pub(super) struct Merged {
    /// The body that goes on, if it is another.
    pub(super) body: Option<Bytes>,
    /// Which of the tenant's prompts is in it.
    pub(super) prompt: Option<Box<str>>,
}

impl Inside {
    /// The body with the tenant's parameters and prompts in it, and without what is said to us.
    pub(super) fn merge(
        &self,
        envelope: &Envelope,
        call: &Call,
        purpose: &Purpose,
    ) -> Result<Merged, Refusal> {
        let config = &self.tenant.config;
        let takes_prompt = matches!(
            call.operation,
            Operation::Chat | Operation::Messages | Operation::Responses
        );
        let said = Said::read(envelope)?;
        let is_said = said.is_some();
        let prompts = match said {
            said if takes_prompt => self.prompts(call, purpose, said)?,
            // What is counted is the body of a call that may well have one.
            Some(said) if call.operation != Operation::CountTokens && !said.is_empty() => {
                return Err(invalid("this endpoint takes no prompt".to_owned()));
            }
            _ => Prompts::default(),
        };
        let has_parameters =
            !config.default_parameters.is_empty() || !config.forced_parameters.is_empty();
        if prompts.text.is_none() && !has_parameters && !is_said {
            return Ok(Merged::default());
        }
        let mut rebuild = Rebuild::from(envelope);
        rebuild.remove(FIELD);
        if takes_prompt || call.operation == Operation::Completion {
            merge_parameters(&mut rebuild, config, call);
        }
        if let Some(prompt) = prompts.text {
            put_prompt(&mut rebuild, envelope, call.operation, &prompt)?;
        }
        Ok(Merged {
            body: Some(rebuild.finish().to_bytes()),
            prompt: prompts.used,
        })
    }

    /// The tenant's prompts for this call: that of its configuration, then its feature's.
    fn prompts(
        &self,
        call: &Call,
        purpose: &Purpose,
        said: Option<Said>,
    ) -> Result<Prompts, Refusal> {
        let config = &self.tenant.config;
        let feature = self.tenant.features.get(&purpose.feature);
        let names_one = said.is_some()
            || config.system_prompt.is_some()
            || config.prompt.is_some()
            || feature.is_some_and(|feature| feature.prompt.is_some());
        if !names_one {
            return Ok(Prompts::default());
        }
        let key = self.scope.grant().key();
        let builtin = PromptValues {
            tenant: &self.tenant.name,
            feature: Some(&purpose.feature),
            model: &call.model,
            user: key.and_then(|key| key.user()),
            team: key.and_then(|key| key.team()),
            flags: &config.flags,
            date: crate::calendar::date(self.at, &self.tenant.spec.zone),
        };
        let of_tenant = match self.system_template()? {
            Some(template) => Some(template.render(&builtin).map_err(broken_prompt)?),
            None => None,
        };
        let own = self.prompt_of(said, purpose, &builtin)?;
        let (own, used) = own.map_or((None, None), |own| (Some(own.text), Some(own.used)));
        let text = match (of_tenant, own) {
            (Some(one), Some(other)) => Some(format!("{one}\n\n{other}")),
            (one, other) => one.or(other),
        };
        Ok(Prompts { text, used })
    }

    /// The template in the tenant's configuration, compiled once.
    fn system_template(&self) -> Result<Option<PromptTemplate>, Refusal> {
        let Some(source) = &self.tenant.config.system_prompt else {
            return Ok(None);
        };
        let mut kept = self.runtime.prompt.lock();
        match &*kept {
            Some((of, template)) if of == source => Ok(Some(template.clone())),
            _ => {
                let template = PromptTemplate::compile(source).map_err(broken_prompt)?;
                *kept = Some((source.clone(), template.clone()));
                Ok(Some(template))
            }
        }
    }
}

/// What a tenant says to a model before its caller does.
#[derive(Default)]
struct Prompts {
    text: Option<String>,
    used: Option<Box<str>>,
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
pub(super) fn broken_prompt(error: crate::prompt::PromptError) -> Refusal {
    let reason = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::warn!(%error, reason, "a tenant's prompt cannot be used");
    Refusal::Invalid(InvalidRequest::new(
        "the tenant's prompt cannot be rendered; its administrator has to mend it",
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
