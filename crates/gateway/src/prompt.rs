//! A tenant's system prompt: a sandboxed template with fuel. Values never become templates.

use std::sync::Arc;

use base::{ModelName, Name};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

/// 64 KiB: a long system prompt has some 20 KB.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// 256 KiB: what a template with loops may print at most.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Instructions of the template engine; a page of prose with a few conditions takes hundreds.
const FUEL: u64 = 20_000;
/// The one template of an environment.
const NAME: &str = "system_prompt";

/// A compiled template.
#[derive(Debug, Clone)]
pub struct PromptTemplate {
    environment: Arc<Environment<'static>>,
}

/// What a template sees.
#[derive(Debug, Serialize)]
pub struct PromptValues<'a> {
    /// The tenant's name.
    pub tenant: &'a Name,
    /// The feature that the call is for.
    pub feature: Option<&'a Name>,
    /// The model, as the client names it.
    pub model: &'a ModelName,
    /// The user of the key.
    pub user: Option<&'a Name>,
    /// The team of the key.
    pub team: Option<&'a Name>,
    /// The tenant's switches.
    pub flags: &'a std::collections::BTreeMap<Name, bool>,
    /// Today, as `2026-01-31`, by the tenant's calendar.
    pub date: String,
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// It is too long.
    #[error("the system prompt is longer than {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no template.
    #[error("the system prompt does not compile: {0}")]
    Syntax(String),
    /// It does not end, or prints too much, or asks for what is not there.
    #[error("the system prompt cannot be rendered")]
    Render(#[source] minijinja::Error),
}

impl PromptTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// [`PromptError::TooLong`] and [`PromptError::Syntax`], with the line.
    pub fn compile(source: &str) -> Result<Self, PromptError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(PromptError::TooLong);
        }
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| PromptError::Syntax(error.to_string()))?;
        Ok(Self {
            environment: Arc::new(environment),
        })
    }

    /// The prompt's text.
    ///
    /// # Errors
    ///
    /// [`PromptError::Render`].
    pub fn render(&self, values: &PromptValues<'_>) -> Result<String, PromptError> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(PromptError::Render)?;
        let mut output = Bounded { text: Vec::new() };
        let values = minijinja::Value::from(minijinja::value::Serde(values));
        template
            .render_captured_to(values, &mut output)
            .map_err(PromptError::Render)?;
        Ok(String::from_utf8(output.text).expect("templates print text"))
    }
}

/// Stops a template that prints without end.
struct Bounded {
    text: Vec<u8>,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn render(source: &str) -> Result<String, PromptError> {
        let flags = BTreeMap::from([("beta".parse().expect("a name"), true)]);
        let values = PromptValues {
            tenant: &"acme".parse().expect("a name"),
            feature: Some(
                &"{{7*7}}x"
                    .parse()
                    .unwrap_or("chat".parse().expect("a name")),
            ),
            model: &"gpt".parse().expect("a model"),
            user: None,
            team: None,
            flags: &flags,
            date: "2026-01-31".to_owned(),
        };
        PromptTemplate::compile(source)?.render(&values)
    }

    #[test]
    fn values_are_printed_and_flags_asked() {
        let text = render("You serve {{ tenant }}.{% if flags.beta %} Beta.{% endif %}");
        assert_eq!(text.expect("renders"), "You serve acme. Beta.");
    }

    #[test]
    fn templates_that_run_away_are_stopped() {
        for source in [
            "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
            "{% for i in range(5000) %}{{ 'x' * 1000 }}{% endfor %}",
            "{{ missing }}",
            "{% include 'other' %}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
        assert!(matches!(render("{% if %}"), Err(PromptError::Syntax(_))));
    }
}
