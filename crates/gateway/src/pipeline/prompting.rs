//! Which of the tenant's prompts a call gets, and the values that it gives for its variables.
//!
//! A feature, or the tenant's configuration, points at a prompt and decides. Where neither does a
//! call may name one of its own tenant's, in the field `partywall` of its body, which goes to no
//! upstream:
//!
//! ```json
//! {"model": "…", "messages": […], "partywall": {"prompt": "support@3", "variables": {"name": "Ada"}}}
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Name;
use hashbrown::HashMap;
use models::{Envelope, InvalidRequest};
use serde::Deserialize;
use tenancy::catalogue::{PromptRef, PromptSpec, PromptText, PromptVersion};

use super::merge::broken_prompt;
use super::resolve::Inside;
use super::session::Purpose;
use crate::prompt::{PromptTemplate, PromptValues, Values, values};
use crate::refusal::Refusal;

/// The field of a body that is ours.
pub(super) const FIELD: &str = "partywall";
/// 64 compiled templates of one tenant: as many as it has prompts, each with its active version.
const COMPILED_MAX: usize = 64;

/// What a call says of prompts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Said {
    prompt: Option<PromptRef>,
    variables: BTreeMap<String, Scalar>,
}

/// A variable's value: never more than a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Flag(bool),
    Number(serde_json::Number),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A prompt as a call gets it.
pub(super) struct Rendered {
    pub(super) text: String,
    /// `support@3`.
    pub(super) used: Box<str>,
}

/// A tenant's compiled templates, and what each was compiled from.
pub(crate) type Compiled = HashMap<(Name, PromptVersion), (Arc<PromptSpec>, PromptTemplate)>;

impl Said {
    /// Reads the field; nothing if there is none.
    pub(super) fn read(envelope: &Envelope) -> Result<Option<Self>, Refusal> {
        let Some(value) = envelope.get(FIELD) else {
            return Ok(None);
        };
        let said = serde_json::from_slice(value.bytes()).map_err(|error| {
            invalid(format!(
                "`partywall` is an object with `prompt` (`NAME` or `NAME@VERSION`) and `variables` (texts, numbers, true or false by name): {error}"
            ))
        })?;
        Ok(Some(said))
    }

    /// Whether it asks for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.prompt.is_none() && self.variables.is_empty()
    }
}

impl Inside {
    /// The prompt of a call, if it has one.
    pub(super) fn prompt_of(
        &self,
        said: Option<Said>,
        purpose: &Purpose,
        builtin: &PromptValues<'_>,
    ) -> Result<Option<Rendered>, Refusal> {
        let Said { prompt, variables } = said.unwrap_or_default();
        let feature = self.tenant.features.get(&purpose.feature);
        let decided = feature.and_then(|feature| feature.prompt.as_ref());
        let decided = decided.or(self.tenant.config.prompt.as_ref());
        let named = match (decided, prompt) {
            (Some(decided), Some(named)) if named != *decided => {
                return Err(invalid(
                    "this feature has its prompt, and a call cannot name another: leave `partywall.prompt` out".to_owned(),
                ));
            }
            (Some(decided), _) => decided.clone(),
            (None, Some(named)) => named,
            (None, None) if variables.is_empty() => return Ok(None),
            (None, None) => {
                return Err(invalid(
                    "`partywall.variables` are for a prompt, and the call has none: name one in `partywall.prompt`".to_owned(),
                ));
            }
        };
        // Absent and another tenant's look alike: names mean something in this tenant alone.
        let missing = || Refusal::NoSuchPrompt(named.to_string());
        let spec = self.tenant.prompt(&named.name).ok_or_else(missing)?;
        let (version, text) = spec.version(named.version).ok_or_else(missing)?;
        let given = variables.into_iter();
        let given = given.map(|(name, value)| (name, value.into_text()));
        let variables = values(text, given.collect())
            .map_err(|error| invalid(format!("`partywall.variables`: {error}")))?;
        let template = self.compiled(&named.name, version, spec, text)?;
        let values = Values {
            builtin,
            variables: &variables,
        };
        Ok(Some(Rendered {
            text: template.render(&values).map_err(broken_prompt)?,
            used: format!("{}@{version}", named.name).into(),
        }))
    }

    fn compiled(
        &self,
        name: &Name,
        version: PromptVersion,
        spec: &Arc<PromptSpec>,
        text: &PromptText,
    ) -> Result<PromptTemplate, Refusal> {
        let mut kept = self.runtime.prompts.lock();
        let index = (name.clone(), version);
        if let Some((of, template)) = kept.get(&index)
            && Arc::ptr_eq(of, spec)
        {
            return Ok(template.clone());
        }
        let template = PromptTemplate::compile(&text.template).map_err(broken_prompt)?;
        if kept.len() >= COMPILED_MAX {
            kept.clear();
        }
        kept.insert(index, (Arc::clone(spec), template.clone()));
        Ok(template)
    }
}

pub(super) fn invalid(message: String) -> Refusal {
    InvalidRequest::new(message, FIELD, "invalid_prompt").into()
}
