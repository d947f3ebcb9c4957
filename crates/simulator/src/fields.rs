//! A request's JSON, read as strictly as a provider reads it: every field is asked for by name,
//! and one that nobody asked for is refused. What is wrong carries the path to it; how that is
//! said is each provider's own business.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// What is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// Names and places, joined by dots: `messages.0.content`.
    pub(crate) path: String,
    pub(crate) problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It has to be there.
    Missing,
    /// The provider does not know it.
    Unknown,
    /// It is not such a thing: `string`, `integer`, …
    NotA(&'static str),
    /// Anything else, in words.
    Other(Cow<'static, str>),
}

impl Invalid {
    /// Something wrong at `path`.
    pub(crate) fn new(path: impl Into<String>, problem: Problem) -> Self {
        Self {
            path: path.into(),
            problem,
        }
    }

    /// Something wrong at `path`, in words.
    pub(crate) fn other(path: impl Into<String>, words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(path, Problem::Other(words.into()))
    }
}

/// How the names of a provider's fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As they are asked for.
    Exact,
    /// As they are asked for (`maxTokens`), or with underscores (`max_tokens`), as proto3 has it.
    CamelOrSnake,
}

/// An object whose fields are taken one by one. A `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    members: &'a Map<String, Value>,
    left: Vec<&'a str>,
    spelling: Spelling,
}

/// A list's element, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    pub(crate) path: String,
    pub(crate) value: &'a Value,
    spelling: Spelling,
}

impl<'a> Fields<'a> {
    /// The whole request.
    ///
    /// # Errors
    ///
    /// It is no object.
    pub(crate) fn root(value: &'a Value, spelling: Spelling) -> Result<Self, Invalid> {
        Self::at(String::new(), value, spelling)
    }

    fn at(path: String, value: &'a Value, spelling: Spelling) -> Result<Self, Invalid> {
        let Some(members) = value.as_object() else {
            return Err(Invalid::new(path, Problem::NotA("object")));
        };
        Ok(Self {
            path,
            left: members.keys().map(String::as_str).collect(),
            members,
            spelling,
        })
    }

    /// Where this object stands.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The path of one of its fields.
    pub(crate) fn path_of(&self, name: &str) -> String {
        joined(&self.path, name)
    }

    /// Something wrong with one of its fields, in words.
    pub(crate) fn wrong(&self, name: &str, words: impl Into<Cow<'static, str>>) -> Invalid {
        Invalid::other(self.path_of(name), words)
    }

    /// A field of any kind.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'a Value> {
        let members = self.members;
        let found = match members.get_key_value(name) {
            None if self.spelling == Spelling::CamelOrSnake => {
                members.get_key_value(&in_snake_case(name))
            }
            found => found,
        };
        let (name, value) = found?;
        self.left.retain(|&left| left != name);
        (!value.is_null()).then_some(value)
    }

    /// A field of any kind that has to be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<&'a Value, Invalid> {
        self.take(name)
            .ok_or_else(|| Invalid::new(self.path_of(name), Problem::Missing))
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<&'a str>, Invalid> {
        self.take_as(name, "string", Value::as_str)
    }

    /// A text that has to be there.
    pub(crate) fn need_text(&mut self, name: &str) -> Result<&'a str, Invalid> {
        self.needed(name, Self::text)
    }

    /// A truth value.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        self.take_as(name, "boolean", Value::as_bool)
    }

    /// A whole number from `range`.
    pub(crate) fn count(
        &mut self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, Invalid> {
        // A whole number beyond 32 bits is out of every range that is asked for.
        let found = self.take_as(name, "integer", Value::as_i64)?;
        let Some(number) = found else { return Ok(None) };
        let fitting = u32::try_from(number).ok();
        match fitting.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(
                name,
                format!("{number} is not from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// A number from `range`.
    pub(crate) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Invalid> {
        let found = self.take_as(name, "number", Value::as_f64)?;
        match found {
            Some(number) if !range.contains(&number) => Err(self.wrong(
                name,
                format!("{number} is not from {} to {}", range.start(), range.end()),
            )),
            found => Ok(found),
        }
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields<'a>>, Invalid> {
        let path = self.path_of(name);
        let spelling = self.spelling;
        let value = self.take(name);
        value
            .map(|value| Fields::at(path, value, spelling))
            .transpose()
    }

    /// An object that has to be there.
    pub(crate) fn need_object(&mut self, name: &str) -> Result<Fields<'a>, Invalid> {
        self.needed(name, Self::object)
    }

    /// A list; an absent one is empty.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<Item<'a>>, Invalid> {
        let path = self.path_of(name);
        let spelling = self.spelling;
        match self.take_as(name, "list", Value::as_array)? {
            Some(values) => Ok(items(&path, values, spelling)),
            None => Ok(Vec::new()),
        }
    }

    /// A list that has to be there and has something in it.
    pub(crate) fn need_list(&mut self, name: &str) -> Result<Vec<Item<'a>>, Invalid> {
        self.need(name)?;
        let items = self.list(name)?;
        if items.is_empty() {
            return Err(self.wrong(name, "at least one is required"));
        }
        Ok(items)
    }

    /// A list of texts; an absent one is empty.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<&'a str>, Invalid> {
        self.list(name)?.iter().map(Item::text).collect()
    }

    /// Fields that the provider knows and the simulator has no use for.
    pub(crate) fn accept(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// A field that was not asked for.
    pub(crate) fn finish(&self) -> Result<(), Invalid> {
        match self.left.first() {
            None => Ok(()),
            Some(name) => Err(Invalid::new(self.path_of(name), Problem::Unknown)),
        }
    }

    fn take_as<T>(
        &mut self,
        name: &str,
        kind: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Invalid> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Invalid::new(self.path_of(name), Problem::NotA(kind))),
        }
    }

    fn needed<T>(
        &mut self,
        name: &str,
        take: impl FnOnce(&mut Self, &str) -> Result<Option<T>, Invalid>,
    ) -> Result<T, Invalid> {
        take(self, name)?.ok_or_else(|| Invalid::new(self.path_of(name), Problem::Missing))
    }
}

impl<'a> Item<'a> {
    /// As an object.
    pub(crate) fn fields(&self) -> Result<Fields<'a>, Invalid> {
        Fields::at(self.path.clone(), self.value, self.spelling)
    }

    /// As a text.
    pub(crate) fn text(&self) -> Result<&'a str, Invalid> {
        let wrong = || Invalid::new(self.path.clone(), Problem::NotA("string"));
        self.value.as_str().ok_or_else(wrong)
    }
}

/// The elements of a list that stands at `path`.
pub(crate) fn items<'a>(path: &str, values: &'a [Value], spelling: Spelling) -> Vec<Item<'a>> {
    let item = |(at, value)| Item {
        path: joined(path, &usize::to_string(&at)),
        value,
        spelling,
    };
    values.iter().enumerate().map(item).collect()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn in_snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_says_where() {
        let value = json!({"a": [{"b": 7, "c": null}], "max_size": 3, "d": 2.5});
        let mut fields = Fields::root(&value, Spelling::CamelOrSnake).unwrap();
        assert_eq!(fields.count("maxSize", 0..=3).unwrap(), Some(3));
        assert_eq!(
            fields.number("d", 0.0..=1.0).unwrap_err(),
            Invalid::other("d", "2.5 is not from 0 to 1")
        );
        let mut inner = fields.list("a").unwrap()[0].fields().unwrap();
        assert_eq!(inner.flag("c").unwrap(), None, "a null is absent");
        assert_eq!(
            inner.need_text("c").unwrap_err(),
            Invalid::new("a.0.c", Problem::Missing)
        );
        assert_eq!(
            inner.text("b").unwrap_err(),
            Invalid::new("a.0.b", Problem::NotA("string"))
        );
        inner.finish().unwrap();
        fields.finish().unwrap();
    }

    #[test]
    fn a_field_that_nobody_asked_for_is_refused() {
        let value = json!({"known": 1, "other": 2});
        let mut fields = Fields::root(&value, Spelling::Exact).unwrap();
        fields.accept(&["known", "absent"]);
        assert_eq!(
            fields.finish().unwrap_err(),
            Invalid::new("other", Problem::Unknown)
        );
        let value = json!({"max_size": 3});
        let mut exact = Fields::root(&value, Spelling::Exact).unwrap();
        assert_eq!(exact.count("maxSize", 0..=3).unwrap(), None);
        assert!(Fields::root(&json!([]), Spelling::Exact).is_err());
    }
}
