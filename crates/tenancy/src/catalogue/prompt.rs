//! Prompts: a tenant's texts for models, with variables, in numbered versions that never change.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 64 KiB: a long prompt has some 20 KB.
pub const PROMPT_TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// 100 versions of one prompt: a year of a change every few days. The oldest may be dropped.
pub const PROMPT_VERSIONS_MAX: usize = 100;
/// 512 KiB of all versions of one prompt together: half of what the admin API reads at once.
pub const PROMPT_BYTES_MAX: usize = 512 << 10;
/// 32 variables of one version.
pub const PROMPT_VARIABLES_MAX: usize = 32;
/// 64 KiB: what one value may have at most, whatever its variable says.
pub const VARIABLE_BYTES_MAX: u32 = 64 << 10;

/// What every template sees besides its own variables, which cannot have these names.
pub const PROMPT_BUILT_INS: [&str; 7] = [
    "tenant", "feature", "model", "user", "team", "flags", "date",
];

/// A prompt: its versions, and which of them calls get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The version that calls get which name none. To roll back is to name an earlier one.
    pub active: u32,
    /// The versions by their numbers, counted up from 1. One that was published never changes; a
    /// new one has a number above all others.
    pub versions: BTreeMap<PromptVersion, PromptText>,
}

/// The number of a version. In JSON and TOML a key of an object, so a text there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptVersion(pub u32);

/// One version of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptText {
    /// A minijinja template, at most 64 KiB. It sees its variables, and `tenant`, `feature`,
    /// `model`, `user`, `team`, `flags` and `date`; values never become templates.
    pub template: String,
    /// What clients give values for, by name: letters, digits and `_`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableSpec>,
    /// Why this version is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A variable of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VariableSpec {
    /// Whether a call without a value is refused. One that is not required and has no default is
    /// empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value where a call gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The longest value, in bytes: 1,024 unless it says otherwise, 65,536 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u32>,
}

/// 1 KiB: a name, a product, a paragraph about somebody.
const VARIABLE_BYTES_USUAL: u32 = 1 << 10;

/// A prompt, and which version of it: `support` is its active one, `support@3` its third.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptRef {
    /// The prompt.
    pub name: Name,
    /// The version, if it is not whichever is active.
    pub version: Option<PromptVersion>,
}

/// The text names no prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prompt is named `NAME` or `NAME@VERSION`, as in `support@3`")]
pub struct ParsePromptRefError;

impl PromptSpec {
    /// The version that a call gets.
    pub fn version(&self, asked: Option<PromptVersion>) -> Option<(PromptVersion, &PromptText)> {
        let number = asked.unwrap_or(PromptVersion(self.active));
        self.versions.get(&number).map(|text| (number, text))
    }

    /// What is wrong with it as plain data.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.versions.is_empty() || self.versions.len() > PROMPT_VERSIONS_MAX {
            found.push(format!(
                "a prompt has 1 to {PROMPT_VERSIONS_MAX} versions: drop the oldest"
            ));
        }
        if self.version(None).is_none() {
            found.push(format!("`active`: there is no version {}", self.active));
        }
        let bytes: usize = self.versions.values().map(|text| text.template.len()).sum();
        if bytes > PROMPT_BYTES_MAX {
            found.push(format!(
                "its versions have {bytes} bytes, and {PROMPT_BYTES_MAX} at most: drop the oldest"
            ));
        }
        for (number, text) in &self.versions {
            let of_version = text.problems();
            let number = number.0;
            found.extend(
                of_version
                    .into_iter()
                    .map(|problem| format!("version {number}: {problem}")),
            );
        }
        found
    }

    /// Why it cannot take the place of `former`, if it cannot: a version never changes, a new one
    /// is the last, and the last one stays, so that no number is ever given twice.
    pub fn breaks_with(&self, former: &Self) -> Option<String> {
        let last = former.versions.keys().next_back()?;
        let changed = self.versions.iter().find_map(|(number, text)| {
            let said = match former.versions.get(number) {
                Some(published) if published == text => return None,
                Some(_) => "has been published and never changes: add a new one",
                None if number > last => return None,
                None => "comes after later ones: a new version has the next number",
            };
            Some(format!("version {} {said}", number.0))
        });
        changed.or_else(|| {
            (!self.versions.contains_key(last)).then(|| {
                format!(
                    "version {} is the newest and stays, so that its number is not given again: make another `active`",
                    last.0
                )
            })
        })
    }
}

impl PromptText {
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.template.trim().is_empty() || self.template.len() > PROMPT_TEMPLATE_BYTES_MAX {
            found.push(format!(
                "`template` has 1 to {PROMPT_TEMPLATE_BYTES_MAX} bytes"
            ));
        }
        if self.variables.len() > PROMPT_VARIABLES_MAX {
            found.push(format!("it has at most {PROMPT_VARIABLES_MAX} variables"));
        }
        for (name, variable) in &self.variables {
            if !is_variable(name) {
                found.push(format!(
                    "`{name}` is no variable: 1 to 64 letters, digits and `_`, no digit first, and none of {}",
                    PROMPT_BUILT_INS.join(", ")
                ));
            }
            if !(1..=VARIABLE_BYTES_MAX).contains(&variable.bytes_max()) {
                found.push(format!(
                    "`{name}`: `bytes_max` is from 1 to {VARIABLE_BYTES_MAX}"
                ));
            }
            match &variable.default {
                Some(_) if variable.required => found.push(format!(
                    "`{name}`: what is required has no use for a default"
                )),
                Some(default) if !variable.has_room_for(default) => {
                    found.push(format!("`{name}`: its default is longer than `bytes_max`"));
                }
                _ => {}
            }
        }
        found
    }
}

impl VariableSpec {
    /// The longest value, in bytes.
    pub fn bytes_max(&self) -> u32 {
        self.bytes_max.unwrap_or(VARIABLE_BYTES_USUAL)
    }

    /// Whether a value is short enough.
    pub fn has_room_for(&self, value: &str) -> bool {
        value.len() as u64 <= u64::from(self.bytes_max())
    }
}

fn is_variable(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=64).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !PROMPT_BUILT_INS.contains(&name)
}

impl FromStr for PromptVersion {
    type Err = ParsePromptRefError;

    fn from_str(text: &str) -> Result<Self, ParsePromptRefError> {
        // One spelling of each: `01` or `+1` would be another key of the same version.
        let number: u32 = text.parse().map_err(|_| ParsePromptRefError)?;
        match number > 0 && number.to_string() == text {
            true => Ok(Self(number)),
            false => Err(ParsePromptRefError),
        }
    }
}

impl fmt::Display for PromptVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PromptRef {
    type Err = ParsePromptRefError;

    fn from_str(text: &str) -> Result<Self, ParsePromptRefError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse()?)),
            None => (text, None),
        };
        let name = name.parse().map_err(|_| ParsePromptRefError)?;
        Ok(Self { name, version })
    }
}

impl fmt::Display for PromptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.as_str().fmt(f)?;
        match self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

/// Each is a text in JSON.
macro_rules! as_text {
    ($($kind:ident: $pattern:literal),*) => {
        $(
            impl Serialize for $kind {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $kind {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }

            impl JsonSchema for $kind {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($kind).into()
                }

                fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    schemars::json_schema!({"type": "string", "pattern": $pattern})
                }
            }
        )*
    };
}

as_text! {
    PromptVersion: "^[1-9][0-9]*$",
    PromptRef: "^[a-z0-9][a-z0-9._-]*(@[1-9][0-9]*)?$"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PromptSpec {
        serde_json::from_value(value).expect("a prompt")
    }

    fn two() -> PromptSpec {
        spec(json!({"active": 1, "versions": {
            "1": {"template": "Be kind."}, "2": {"template": "Be brief, {{ name }}.",
                "variables": {"name": {"required": true}}}}}))
    }

    #[test]
    fn a_published_version_never_changes_and_new_ones_are_the_last() {
        let former = two();
        let mut next = former.clone();
        next.active = 2;
        assert_eq!(
            next.breaks_with(&former),
            None,
            "to activate changes nothing"
        );
        let third = next.versions[&PromptVersion(1)].clone();
        next.versions.insert(PromptVersion(3), third);
        assert_eq!(next.breaks_with(&former), None);
        next.versions.remove(&PromptVersion(1));
        assert_eq!(next.breaks_with(&former), None, "the oldest may go");
        let old = next.versions[&PromptVersion(3)].clone();
        let mut back = next.clone();
        back.versions.insert(PromptVersion(1), old);
        assert!(back.breaks_with(&next).unwrap().contains("next number"));
        let mut shorter = next.clone();
        shorter.versions.remove(&PromptVersion(3));
        let why = shorter.breaks_with(&next).unwrap();
        assert!(why.contains("not given again"), "{why}");
        let changed = next.versions.get_mut(&PromptVersion(2)).unwrap();
        changed.template.push('!');
        assert!(next.breaks_with(&former).unwrap().contains("never changes"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(two().problems().is_empty(), "{:?}", two().problems());
        let version = |text: serde_json::Value| {
            spec(json!({"active": 1, "versions": {"1": text}}))
                .problems()
                .concat()
        };
        for (text, wanted) in [
            (json!({"template": " "}), "`template`"),
            (
                json!({"template": "x", "variables": {"date": {}}}),
                "no variable",
            ),
            (
                json!({"template": "x", "variables": {"1st": {}}}),
                "no variable",
            ),
            (
                json!({"template": "x", "variables": {"a-b": {}}}),
                "no variable",
            ),
            (
                json!({"template": "x", "variables": {"a": {"bytes_max": 0}}}),
                "`bytes_max`",
            ),
            (
                json!({"template": "x", "variables": {"a": {"bytes_max": 1, "default": "xx"}}}),
                "longer",
            ),
            (
                json!({"template": "x", "variables": {"a": {"required": true, "default": "x"}}}),
                "required",
            ),
        ] {
            assert!(version(text.clone()).contains(wanted), "{text}");
        }
        let absent = spec(json!({"active": 7, "versions": {"1": {"template": "x"}}}));
        assert!(absent.problems().concat().contains("no version 7"));
    }

    #[test]
    fn a_prompt_and_its_version_have_one_spelling() {
        for text in ["support", "support@3"] {
            let named: PromptRef = text.parse().unwrap();
            assert_eq!(named.to_string(), text);
        }
        for wrong in [
            "",
            "@1",
            "support@",
            "support@0",
            "support@01",
            "support@+1",
            "Support",
            "a@1@2",
        ] {
            assert!(wrong.parse::<PromptRef>().is_err(), "{wrong}");
        }
        let twice = json!({"active": 1, "versions": {"01": {"template": "x"}}});
        assert!(serde_json::from_value::<PromptSpec>(twice).is_err());
    }
}
