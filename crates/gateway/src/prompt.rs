//! A tenant's prompts: each a sandboxed template with fuel. Values never become templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{ModelName, Name, Timestamp};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;
use tenancy::TenantEntry;
use tenancy::catalogue::{PROMPT_BUILT_INS, PromptText};

/// 64 KiB: a long system prompt has some 20 KB.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// 256 KiB: what a template with loops may print at most.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Instructions of the template engine; a page of prose with a few conditions takes hundreds.
const FUEL: u64 = 20_000;
/// The template engine's functions that a prompt has a use for.
const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];
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
    pub flags: &'a BTreeMap<Name, bool>,
    /// Today, as `2026-01-31`, by the tenant's calendar.
    pub date: String,
}

/// What a template with variables of its own sees.
#[derive(Debug, Serialize)]
pub struct Values<'a> {
    /// What every template sees.
    #[serde(flatten)]
    pub builtin: &'a PromptValues<'a>,
    /// Its variables: texts, which are printed and never read as templates.
    #[serde(flatten)]
    pub variables: &'a BTreeMap<String, String>,
}

/// Why values do not fit a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// One is missing.
    #[error("the prompt needs a value for `{0}`")]
    Missing(String),
    /// One is too long.
    #[error("the value of `{name}` has {bytes} bytes, and {bytes_max} at most")]
    TooLong {
        /// The variable.
        name: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: u32,
    },
    /// One is for nothing.
    #[error("the prompt has no variable `{0}`")]
    Unknown(String),
}

/// A value for each variable of the prompt, and for nothing else.
///
/// # Errors
///
/// [`ValueError`] names the first that does not fit.
pub fn values(
    text: &PromptText,
    mut given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let mut values = BTreeMap::new();
    for (name, variable) in &text.variables {
        let value = match (given.remove(name), &variable.default) {
            (Some(given), _) => given,
            (None, _) if variable.required => return Err(ValueError::Missing(name.clone())),
            (None, default) => default.clone().unwrap_or_default(),
        };
        if !variable.has_room_for(&value) {
            return Err(ValueError::TooLong {
                name: name.clone(),
                bytes: value.len(),
                bytes_max: variable.bytes_max(),
            });
        }
        values.insert(name.clone(), value);
    }
    match given.into_keys().next() {
        None => Ok(values),
        // A client's own text, in a sentence for that client: not all of it.
        Some(unknown) => Err(ValueError::Unknown(unknown.chars().take(64).collect())),
    }
}

/// A call that is not made: what of it a template sees.
#[derive(Debug, Clone, Default)]
pub struct PromptTrial {
    /// Values of variables.
    pub variables: BTreeMap<String, String>,
    /// Its feature; `default` if none.
    pub feature: Option<Name>,
    /// Its model; `model` if none.
    pub model: Option<ModelName>,
    /// Its key's user.
    pub user: Option<Name>,
    /// Its key's team.
    pub team: Option<Name>,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The values do not fit.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The template cannot be rendered with them.
    #[error(transparent)]
    Template(#[from] PromptError),
}

impl PromptTrial {
    /// What a model would be told by `text` at this time.
    pub(crate) fn render(
        self,
        tenant: &TenantEntry,
        text: &PromptText,
        at: Timestamp,
    ) -> Result<String, TrialError> {
        let named = |text: &str| text.parse().expect("the constant is a name");
        let feature = self.feature.unwrap_or_else(|| named("default"));
        let model = self.model;
        let model = model.unwrap_or_else(|| "model".parse().expect("the constant is a model's"));
        let builtin = PromptValues {
            tenant: &tenant.name,
            feature: Some(&feature),
            model: &model,
            user: self.user.as_ref(),
            team: self.team.as_ref(),
            flags: &tenant.config.flags,
            date: crate::calendar::date(at, &tenant.spec.zone),
        };
        let values = Values {
            builtin: &builtin,
            variables: &values(text, self.variables)?,
        };
        Ok(PromptTemplate::compile(&text.template)?.render(&values)?)
    }
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// It is too long.
    #[error("the prompt is longer than {SOURCE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no template.
    #[error("the prompt does not compile: {0}")]
    Syntax(String),
    /// It does not end, or prints too much, or asks for what is not there.
    #[error("the prompt cannot be rendered")]
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

    /// The names that it asks for and that are neither `declared` nor there for every template.
    pub fn unknown_names<'a>(&self, declared: impl Fn(&str) -> bool + 'a) -> Vec<String> {
        let Ok(template) = self.environment.get_template(NAME) else {
            return Vec::new();
        };
        let mut unknown: Vec<String> = template
            .undeclared_variables(false)
            .into_iter()
            .filter(|name| !declared(name))
            .filter(|name| !FUNCTIONS.contains(&name.as_str()))
            .filter(|name| !PROMPT_BUILT_INS.contains(&name.as_str()))
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// The prompt's text.
    ///
    /// # Errors
    ///
    /// [`PromptError::Render`].
    pub fn render(&self, values: &impl Serialize) -> Result<String, PromptError> {
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

    /// Texts that have opened template engines elsewhere.
    const ATTACKS: [&str; 14] = [
        "{{ 7*7 }}",
        "{{ tenant }}",
        "{% for i in range(9) %}x{% endfor %}",
        "{# comment #}",
        "{{ config.__class__.__init__.__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "${7*7}",
        "#{7*7}",
        "<%= 7*7 %>",
        "{%- raw -%}",
        "{% endraw %}{{ flags }}",
        "{{ debug() }}",
        "}}{{ date }}{{",
        "{{{{ user }}}}",
    ];

    #[test]
    fn values_never_become_templates() {
        let flags = BTreeMap::from([("beta".parse().expect("a name"), true)]);
        let (tenant, model) = (
            "acme".parse().expect("a name"),
            "gpt".parse().expect("a model"),
        );
        let builtin = PromptValues {
            tenant: &tenant,
            feature: None,
            model: &model,
            user: None,
            team: None,
            flags: &flags,
            date: "2026-01-31".to_owned(),
        };
        let shapes = [
            "<{{ it }}>",
            "<{{ it|trim }}>",
            "<{% if it %}{{ it }}{% endif %}>",
        ];
        for (attack, shape) in ATTACKS
            .iter()
            .flat_map(|one| shapes.map(|shape| (one, shape)))
        {
            let variables = BTreeMap::from([("it".to_owned(), (*attack).to_owned())]);
            let values = Values {
                builtin: &builtin,
                variables: &variables,
            };
            let template = PromptTemplate::compile(shape).expect("compiles");
            let text = template.render(&values).expect("renders");
            assert_eq!(text, format!("<{attack}>"), "{shape}");
        }
    }

    #[test]
    fn names_that_nobody_gives_are_known_beforehand() {
        let template =
            "{{ a }}{% for i in range(2) %}{{ i }}{{ b.c }}{% endfor %}{{ date }}{{ debug() }}";
        let template = PromptTemplate::compile(template).expect("compiles");
        assert_eq!(template.unknown_names(|name| name == "a"), ["b", "debug"]);
    }

    #[test]
    fn values_are_for_variables_and_bounded() {
        let text: PromptText = serde_json::from_str(
            r#"{"template":"x","variables":{"a":{"required":true,"bytes_max":2},"b":{"default":"z"},"c":{}}}"#,
        )
        .expect("a version");
        let of = |given: &[(&str, &str)]| {
            let pairs = given
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            values(&text, pairs.collect())
        };
        let all = of(&[("a", "é")]).expect("they fit");
        let all: Vec<_> = all.values().map(String::as_str).collect();
        assert_eq!(all, ["é", "z", ""]);
        assert_eq!(of(&[]), Err(ValueError::Missing("a".to_owned())));
        assert!(matches!(
            of(&[("a", "éé")]),
            Err(ValueError::TooLong { bytes: 4, .. })
        ));
        let unknown = of(&[("a", "x"), ("d", "x")]);
        assert_eq!(unknown, Err(ValueError::Unknown("d".to_owned())));
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
